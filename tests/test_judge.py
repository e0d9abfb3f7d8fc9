"""Every way in which a check can end."""

import datetime

import pytest

from gpudoctor import Absent, Fact, Finding, Fix, ShmSize, Status, check, fail, ok, warn
from gpudoctor.config import Ignore
from gpudoctor.judge import judge, judge_one
from gpudoctor.registry import Broken
from gpudoctor.snapshot import Snapshot


class Fan(Fact, frozen=True, kw_only=True):
    rpm: int


class Heat(Fact, frozen=True, kw_only=True):
    celsius: int


@check(owner="node", symptoms=["melted"])
def fan_turns(fan: Fan, heat: Heat | None) -> Finding:
    """The fan turns.

    Or it melts.
    """
    if heat and heat.celsius > 90:
        return fail("hot", Fix(text="Cool it", commands=["cool"], needs_root=True))
    return ok(f"{fan.rpm} rpm") if fan.rpm else warn("still", Fix(ShmSize(1 << 30)), owner="job")


def snapshot(**facts) -> Snapshot:
    return Snapshot("n1", facts)


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        pytest.param({"fan": Fan(rpm=9)}, Status.PASS, "9 rpm", id="pass"),
        pytest.param({"fan": Fan(rpm=0)}, Status.WARN, "still", id="warn"),
        pytest.param({"fan": Fan(rpm=1), "heat": Heat(celsius=99)}, Status.FAIL, "hot", id="fail"),
        pytest.param({"fan": Absent("no fan")}, Status.SKIP, "no fan", id="nothing there"),
        pytest.param({}, Status.SKIP, "fan was not collected", id="not collected"),
        pytest.param(
            {"fan": Absent("stuck", broken=True)}, Status.ERROR, "fan: stuck", id="looking failed"
        ),
        pytest.param(
            {"fan": Fan(rpm=9), "heat": Absent("none")}, Status.PASS, "9 rpm", id="optional absent"
        ),
        pytest.param(
            {"fan": Fan(rpm=9), "heat": Absent("stuck", broken=True)},
            Status.PASS,
            "9 rpm",
            id="optional, looking failed",
        ),
        pytest.param({"fan": {"rpm": 9}}, Status.ERROR, "not what this version", id="odd fact"),
    ],
)
def test_statuses(facts, status, words):
    finding = judge_one(fan_turns, snapshot(**facts))

    assert finding.status is status
    assert words in (finding.summary or finding.reason)


def test_a_crash_is_an_error_of_that_check_alone():
    @check(owner="job")
    def fan_crashes(fan: Fan) -> Finding:
        """It works."""
        raise ZeroDivisionError("oops")

    results = judge([fan_crashes, fan_turns], snapshot(fan=Fan(rpm=9)))

    assert [r.status for r in results] == [Status.ERROR, Status.PASS]
    assert "ZeroDivisionError: oops" in results[0].reason


@pytest.mark.parametrize(
    "answer",
    [None, "fine", Finding(Status.FAIL, "no fix"), Finding(Status.PASS, 7)],  # type: ignore[arg-type]
)
def test_a_wrong_answer_is_an_error(answer):
    @check(owner="job")
    def fan_lies(fan: Fan) -> Finding:
        """It works."""
        return answer

    assert judge_one(fan_lies, snapshot(fan=Fan(rpm=1))).status is Status.ERROR


def test_a_result_says_everything_about_its_check():
    [result] = judge([fan_turns], snapshot(fan=Fan(rpm=1), heat=Heat(celsius=99)))

    assert (result.id, result.topic) == ("fan-turns", fan_turns.topic)
    assert (result.title, result.why) == ("The fan turns", "Or it melts.")
    assert (result.owner, result.symptoms) == ("node", ("melted",))
    [fix] = result.fixes
    assert (fix.launcher, fix.text, fix.commands, fix.needs_root) == (
        "any",
        "Cool it",
        ("cool",),
        True,
    )


def test_settings_are_spelled_for_every_launcher_and_kept():
    [result] = judge([fan_turns], snapshot(fan=Fan(rpm=0)))

    assert result.settings == (ShmSize(1 << 30),)
    assert {"docker", "podman", "kubernetes", "host"} <= {fix.launcher for fix in result.fixes}
    assert result.owner == "job"


def test_plug_in_that_does_not_load_is_one_error_that_names_it():
    results = judge([fan_turns], snapshot(fan=Fan(rpm=9)), broken=[Broken("acme", "Boom: x")])

    assert [r.status for r in results] == [Status.PASS, Status.ERROR]
    assert (results[1].id, results[1].reason) == ("plugin-acme", "Boom: x")


@pytest.mark.parametrize(
    ("ignore", "ignored"),
    [
        (Ignore(check="fan-turns", reason="by design"), True),
        (Ignore(check="fan-*", reason="by design"), True),
        (Ignore(check="fan-turns", reason="r", match="n*"), True),
        (Ignore(check="fan-turns", reason="r", match="m*"), False),
        (Ignore(check="other", reason="r"), False),
    ],
)
def test_ignores(ignore, ignored):
    [result] = judge([fan_turns], snapshot(fan=Fan(rpm=0)), ignores=[ignore])

    assert (result.ignored is not None) is ignored
    assert result.status is Status.WARN  # still said


def test_what_passes_cannot_be_ignored():
    ignore = Ignore(check="*", reason="r", expires=datetime.date(2999, 1, 1))

    [result] = judge([fan_turns], snapshot(fan=Fan(rpm=9)), ignores=[ignore])

    assert result.ignored is None
