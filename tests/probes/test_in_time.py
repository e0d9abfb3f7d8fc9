"""probes/in_time.py."""

from threading import Event

from gpudoctor.probes.in_time import in_time


def test_answers_come_in_order():
    assert in_time([lambda: 1, lambda: 2, lambda: 3], 60) == [1, 2, 3]
    assert in_time([], 60) == []


def test_what_never_answers_is_none():
    never = Event()
    answers = in_time([never.wait], 0.01)
    never.set()

    assert answers == [None]
