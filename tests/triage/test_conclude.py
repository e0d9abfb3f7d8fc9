"""What went wrong first, and who only reports it."""

import functools
import io

import pytest

from gpudoctor import catalogue, registry
from gpudoctor.check import LAUNCH
from gpudoctor.triage.conclude import conclude
from gpudoctor.triage.look import Story
from gpudoctor.triage.lookup import commands, of_several
from gpudoctor.triage.reading import Source
from gpudoctor.triage.rule import Role, Rule

WORDS: tuple[tuple[str, Role, str, str], ...] = (
    ("kernel", "cause", r"Killed process (?P<pid>\d+)", "the kernel killed {pid}"),
    ("cause", "cause", r"disk full in (?P<where>\S+)", "{where} is full"),
    ("later", "cause", r"device lost", "a device was lost"),
    ("symptom", "symptom", r"worker (?P<pid>\d+) died", "worker {pid} died"),
    ("report", "report", r"peer went away", "another rank ended"),
    ("note", "note", r"by the way", "worth knowing"),
)
RULES = tuple(
    Rule(
        id=f"one-{name}",
        pattern=pattern,
        role=role,
        means=means,
        owner="job",
        do="Mend it.",
        commands=("df -h '{where}'; du {where}",) if "where" in pattern else (),
        checks=(f"check-{name}",),
        source="here",
        example=pattern,
    )
    for name, role, pattern, means in WORDS
)


def triage(*texts: str, ranks: bool = False):
    story = Story(RULES)
    for number, text in enumerate(texts):
        raw = io.BufferedReader(io.BytesIO(text.encode()))
        rank = number if ranks else None
        story.read([Source(f"log{number}", functools.partial(lambda file: file, raw), rank)])
    return conclude(story)


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        pytest.param(["peer went away\nworker 7 died\ndisk full in /a\n"], "cause", id="by role"),
        pytest.param(["disk full in /a\ndevice lost\n"], "cause", id="by line"),
        pytest.param(["device lost\ndisk full in /a\n"], "later", id="by line, reversed"),
        pytest.param(
            ["2026-01-01 10:00:09 disk full in /a", "2026-01-01 10:00:01 device lost"],
            "later",
            id="by time",
        ),
        pytest.param(
            ["2026-01-01 10:00:09 x\ndisk full in /a", "2026-01-01 10:00:01 x\n\ndevice lost"],
            "later",
            id="by the time of lines before",
        ),
        pytest.param(
            ["2026-01-01 00:00:01 disk full in /a", "2025-12-31 23:59:58 device lost"],
            "later",
            id="over New Year",
        ),
        pytest.param(
            ["2026-01-01 10:00:09 disk full in /a", "2026-01-01T05:00:01Z device lost"],
            "cause",
            id="clocks that cannot be compared: by file",
        ),
        pytest.param(
            ["[    5.123456] Killed process 12", "disk full in /a"],
            "cause",
            id="what the kernel said of another process, at a time that nobody knows",
        ),
        pytest.param(
            ["worker 12 died", "[    5.123456] Killed process 12"], "kernel", id="a kernel's cause"
        ),
        pytest.param(["by the way\nworker 7 died"], "symptom", id="a note is no cause"),
    ],
)
def test_first(texts, first):
    found = triage(*texts)

    assert found.first.rule == f"one-{first}"
    assert found.exit_code == 1


def test_nothing():
    found = triage("all is well\nby the way\n")

    assert (found.found, found.exit_code, found.first) == ("nothing", 0, None)
    assert [one.rule for one in found.notes] == ["one-note"]


def test_ranks_that_only_report():
    report = "peer went away\n"
    found = triage(report, "disk full in /a\n", report, report, ranks=True)

    assert found.first.first.rank == 1
    assert found.only_report == (0, 2, 3)
    assert found.first.means == "/a is full"
    assert found.checks == ("check-cause", "check-report")


def test_what_no_rule_knows_is_quoted():
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n'
    found = triage(f"{trace}pkg.OddError: 7 is odd\npeer went away\n")

    assert found.first.means == "pkg.OddError, which no rule here knows: 7 is odd"
    assert triage("ValueError: 7 is odd\n").found == "nothing"
    assert triage(f"Exception ignored in: <f>\n{trace}ValueError: 7\n").found == "nothing"


def test_secrets_stay():
    found = triage("disk full in /a token=hf_abcdefghijklmnopqrstuvwxyz0123 https://me:pw@host/x\n")

    assert "hf_" not in found.first.first.text
    assert "pw" not in found.first.first.text


def test_ranks_that_do_not_come_to_the_end_of_nccl():
    init = "n1:{pid}:9 [0] NCCL INFO ncclCommInitRank comm 0x5 rank {rank} nranks 4 commId 0x1"
    lines = [f"{init.format(pid=rank + 1, rank=rank)} - Init START" for rank in (0, 1, 2)]
    lines += [f"{init.format(pid=1, rank=0)} - Init COMPLETE"]
    found = triage("\n".join(lines))

    assert found.unfinished == (1, 2)
    assert found.absent == (3,)


def test_what_a_log_says_is_no_command():
    (fix,) = triage("disk full in /a;$(reboot)'&\n").first.fixes
    (plain,) = triage("disk full in /a/b\n").first.fixes
    word = """'/a;$(reboot)'"'"'&'"""

    assert fix.commands == (f"df -h {word}; du {word}",)
    assert plain.commands == ("df -h /a/b; du /a/b",)


def test_checks_are_run_by_what_runs_them():
    lines = commands(["shm-size", "cluster-mtu", "launch-ipc", "bandwidth-straggler", "net-mtu"])
    checks = registry.builtin_checks(launch=True, cluster=True)

    assert lines == [
        "gpudoctor check shm-size net-mtu",
        "gpudoctor check --cluster --deep cluster-mtu bandwidth-straggler"
        "  # on every node of the job",
        "gpudoctor lint FILE",
    ]
    assert {check.id: of_several(check.id) for check in checks} == {
        check.id: catalogue.of_several(check) for check in checks
    }
    assert {check.id for check in checks if check.topic == LAUNCH} == {
        check.id for check in checks if check.id.startswith("launch-")
    }
