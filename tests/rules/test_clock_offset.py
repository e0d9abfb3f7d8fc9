"""The method of four timestamps: the answer is never further off than it says."""

import pytest

from gpudoctor.rules.clock_offset import Offset, Trip, offset


def trip(*, ahead, there, back, work=0.0, sent=1000.0):
    """A round trip to a clock that is ahead by some seconds."""
    received = sent + there + ahead
    return Trip(
        sent=sent,
        received=received,
        answered=received + work,
        returned=sent + there + work + back,
        seconds=there + work + back,
    )


@pytest.mark.parametrize("ahead", [0.0, 30.0, -30.0, 0.002])
@pytest.mark.parametrize("work", [0.0, 0.5], ids=["at once", "busy"])
def test_symmetric_ways_give_the_offset(ahead, work):
    found = offset([trip(ahead=ahead, there=0.001, back=0.001, work=work)])

    assert found.seconds == pytest.approx(ahead, abs=1e-9)
    assert found.uncertainty == pytest.approx(0.001 + work / 2)


@pytest.mark.parametrize(
    ("there", "back"),
    [(0.1, 0.0), (0.0, 0.1), (0.003, 0.001)],
    ids=["slow there", "slow back", "a little"],
)
def test_uncertainty_covers_ways_that_differ(there, back):
    found = offset([trip(ahead=5.0, there=there, back=back)])

    assert abs(found.seconds - 5.0) <= found.uncertainty + 1e-9


def test_the_shortest_trip_speaks():
    trips = [
        trip(ahead=5.0, there=0.2, back=0.0),
        trip(ahead=5.0, there=0.001, back=0.001),
        trip(ahead=5.0, there=0.0, back=0.3),
    ]

    assert offset(trips).seconds == pytest.approx(5.0)
    assert offset(trips).uncertainty == pytest.approx(0.001)


def test_no_trips():
    assert offset([]) is None


def test_a_clock_that_is_set_meanwhile_does_not_shorten_a_trip():
    good = trip(ahead=0.0, there=0.001, back=0.001)
    set_back = Trip(sent=1000.0, received=1000.2, answered=1000.2, returned=999.0, seconds=0.4)

    assert offset([set_back, good]) == Offset(good.offset, good.seconds / 2)
