"""Probes that hang, raise, crash, print, or answer nonsense."""

import ctypes
import faulthandler
import os
import pathlib
import signal
import sys
import time

import pytest

from gpudoctor import Absent, Fact, Machine, probe
from gpudoctor.collect import collect


class Answer(Fact, frozen=True, kw_only=True):
    text: str = ""


class Other(Fact, frozen=True, kw_only=True):
    number: int = 0


HERE = Machine()


@probe(isolated=True)
def well(machine: Machine) -> Answer:
    return Answer(text="fine")


@probe()
def other(machine: Machine) -> Other:
    return Other(number=7)


def one(look) -> object:
    return _facts(look)["answer"]


def _facts(*probes) -> dict[str, object]:
    found = collect([*probes, other], HERE, deadline=5.0).facts
    assert found["other"] == Other(number=7)  # whatever the one does, the other is there
    return found


def test_isolated_and_plain_probes_bring_their_facts():
    assert one(well) == Answer(text="fine")


def test_seconds_are_measured_for_each():
    assert set(collect([well, other], HERE).seconds) == {"answer", "other"}


def test_hanging_probe_is_given_up_and_named():
    @probe(isolated=True, timeout=0.3)
    def hangs(machine: Machine) -> Answer:
        time.sleep(60)
        return Answer()

    assert one(hangs) == Absent("no answer in 0.3 s", broken=True)


def test_probe_that_refuses_to_be_ended_is_killed():
    @probe(isolated=True, timeout=0.3)
    def stubborn(machine: Machine) -> Answer:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(1)

    assert one(stubborn) == Absent("no answer in 0.3 s", broken=True)


def test_what_a_probe_starts_is_killed_with_it(tmp_path):
    @probe(isolated=True, timeout=0.3)
    def starts(machine: Machine) -> Answer:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        (tmp_path / "pid").write_text(str(pid))
        time.sleep(60)
        return Answer()

    one(starts)

    stat = pathlib.Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    for _ in range(500):
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            break
        time.sleep(0.01)
    else:
        pytest.fail("the grandchild is still alive")


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyError("libamd_smi.so"), "KeyError: 'libamd_smi.so'"),
        (PermissionError(13, "Permission denied", "/x"), "[Errno 13] Permission denied: '/x'"),
        (ImportError("no psutil"), "ImportError: no psutil"),
    ],
)
def test_exception_is_a_broken_absence(error, says, isolated):
    @probe(isolated=isolated)
    def raises(machine: Machine) -> Answer:
        raise error

    assert one(raises) == Absent(f"looking failed: {says}", broken=True)


def test_even_system_exit_is_contained_in_a_child():
    @probe(isolated=True)
    def exits(machine: Machine) -> Answer:
        sys.exit("enough")

    absent = one(exits)

    assert isinstance(absent, Absent)
    assert absent.broken


def test_crash_names_its_signal():
    @probe(isolated=True)
    def crashes(machine: Machine) -> Answer:
        faulthandler.disable()
        ctypes.string_at(0)
        return Answer()

    assert one(crashes) == Absent("looking crashed: SIGSEGV", broken=True)


def test_sudden_end_is_not_an_answer():
    @probe(isolated=True)
    def leaves(machine: Machine) -> Answer:
        os._exit(0)

    assert one(leaves) == Absent("looking ended without an answer", broken=True)


def test_nothing_there_stays_unbroken():
    @probe(isolated=True)
    def nothing(machine: Machine) -> Answer | Absent:
        return Absent("no such hardware")

    assert one(nothing) == Absent("no such hardware", broken=False)


def test_prints_of_a_probe_go_nowhere(capfd):
    @probe(isolated=True)
    def chatters(machine: Machine) -> Answer:
        os.write(1, b"noise")
        os.write(2, b"noise")
        return Answer(text=str(os.read(0, 10)))

    assert one(chatters) == Answer(text="b''")
    assert capfd.readouterr() == ("", "")


def test_long_answer_arrives_whole_and_too_long_is_refused(monkeypatch):
    @probe(isolated=True)
    def talks(machine: Machine) -> Answer:
        return Answer(text="x" * (1 << 20))

    assert one(talks) == Answer(text="x" * (1 << 20))

    monkeypatch.setattr("gpudoctor.children.ANSWER_LIMIT", 1 << 16)
    assert one(talks) == Absent("the probe's answer was too long", broken=True)


def test_deadline_of_the_run_bounds_every_probe():
    @probe(isolated=True, timeout=60)
    def hangs(machine: Machine) -> Answer:
        time.sleep(60)
        return Answer()

    found = collect([hangs], HERE, deadline=0.3)

    assert found.facts["answer"].broken
    assert found.complete


def test_stopping_keeps_what_was_seen():
    @probe(isolated=True, timeout=60)
    def hangs(machine: Machine) -> Answer:
        time.sleep(60)
        return Answer()

    asked = iter([False, False, True])

    found = collect([hangs, other], HERE, stopped=lambda: next(asked, True))

    assert found.facts["other"] == Other(number=7)
    assert found.facts["answer"] == Absent("interrupted", broken=True)
    assert not found.complete


def test_no_children_are_left():
    _facts(well)

    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_progress_names_what_is_waited_for():
    names: list[str] = []
    collect([well], HERE, progress=names.extend)

    assert set(names) == {"answer"}
