"""`gpudoctor fix`: from a report or a check, for whom it is asked, and what it refuses."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import msgspec
import pytest
from msgspec.structs import replace

from gpudoctor import Fix, Status
from gpudoctor import report as reports
from gpudoctor.launch.settings import ShmSize
from gpudoctor.report import Place, Report
from tests.reported import report, result

GPUDOCTOR = [sys.executable, "-m", "gpudoctor"]
SHM = Fix(ShmSize(8 << 30))
CLOCK = Fix(text="Set the clock", commands=["chronyc makestep"], needs_root=True)

SLOW = '''
import time
from gpudoctor import Fact, Finding, Machine, check, ok, probe

class Slow(Fact, frozen=True, kw_only=True):
    pass

@probe(isolated=True, timeout=60)
def slow(machine: Machine) -> Slow:
    time.sleep(60)
    return Slow()

@check(owner="job")
def site_slow(slow: Slow) -> Finding:
    """It is quick."""
    return ok("at once")
'''


FOUND = (result("shm-size", Status.FAIL, SHM), result("clock-sync", Status.WARN, CLOCK))
WELL = (result("shm-size", Status.PASS),)
UNKNOWN = (*WELL, result("clock-sync", Status.ERROR))


def fix(*words: str, given: Report | bytes | None = None) -> subprocess.CompletedProcess[str]:
    raw = msgspec.json.encode(given) if isinstance(given, Report) else given
    ended = subprocess.run(
        [*GPUDOCTOR, "fix", *words], input=raw, capture_output=True, check=False, timeout=60
    )
    out, err = (stream.decode() for stream in (ended.stdout, ended.stderr))

    assert "Traceback" not in err
    return subprocess.CompletedProcess(ended.args, ended.returncode, out, err)


def test_the_launcher_that_the_report_saw_is_the_default(tmp_path):
    file = tmp_path / "report.json"
    file.write_bytes(msgspec.json.encode(report(FOUND, launcher="podman")))

    for ended in (
        fix(str(file)),
        fix("-", given=report(FOUND, launcher="podman")),
        fix("--for", "podman", str(file)),
    ):
        assert ended.returncode == 0
        assert "\npodman run --shm-size=8g IMAGE COMMAND\n" in ended.stdout
        assert ended.stderr == ""


@pytest.mark.parametrize(
    ("launcher", "line"),
    [
        ("docker", "docker run --shm-size=8g IMAGE COMMAND"),
        ("compose", "    shm_size: 8g"),
        ("kubernetes", "      sizeLimit: 8Gi"),
        ("admin", "chronyc makestep"),
    ],
)
def test_for_another(launcher, line):
    assert (
        line
        in fix("--for", launcher, "-", given=report(FOUND, launcher="podman")).stdout.splitlines()
    )


@pytest.mark.parametrize(
    ("results", "code", "said"),
    [
        pytest.param(FOUND, 0, "podman run", id="found"),
        pytest.param((*FOUND, *UNKNOWN), 0, "podman run", id="found, and errors"),
        pytest.param(WELL, 0, "There is nothing to change.", id="well"),
        pytest.param(UNKNOWN, 3, "There is nothing to change.", id="an error"),
        pytest.param((), 3, "There is nothing to change.", id="nothing seen"),
    ],
)
def test_exit_codes(results, code, said):
    ended = fix("-", given=report(results, launcher="podman"))

    assert ended.returncode == code
    assert said in ended.stdout
    assert bool(ended.stderr) == (code == 3)


def test_of_several_nodes_the_admin_has_one():
    both = report(FOUND, WELL, launcher="podman")
    script = ["--for", "admin", "-"]

    assert fix(*script, given=both).returncode == 2
    assert "chronyc" in fix(*script, "--node", "n0", given=both).stdout
    assert "nothing to do here" in fix(*script, "--node", "n1", given=both).stdout
    assert fix(*script, "--node", "n2", given=both).returncode == 2
    assert "podman run" in fix("-", given=both).stdout


WHOLE = json.loads(msgspec.json.encode(report(FOUND, launcher="podman")))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0", "not JSON", id="binary"),
        pytest.param(json.dumps(WHOLE)[:-200].encode(), "not JSON", id="torn off"),
        pytest.param(b"[]", "not a report", id="a list"),
        pytest.param(b"{}", 'its schema is "none"', id="no schema"),
        pytest.param(b'{"schema": 1}', "not a report", id="schema of a wrong type"),
        pytest.param(b'{"schema": "gpudoctor.report/2"}', "reads only", id="of the future"),
        pytest.param(b'{"schema": "gpudoctor.facts/1", "nodes": []}', "facts", id="facts"),
        pytest.param(b'{"schema": "gpudoctor.report/1"}', "missing", id="fields are missing"),
        pytest.param(
            json.dumps(WHOLE | {"status": "fine"}).encode(), "'fine'", id="an unknown status"
        ),
        pytest.param(
            json.dumps(WHOLE).replace('"bytes": 8589934592', '"bytes": "8g"').encode(),
            "settings",
            id="a setting of a wrong type",
        ),
    ],
)
def test_what_is_no_report_is_refused(raw, said):
    ended = fix("-", given=raw)

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert said in ended.stderr


def test_a_bomb_is_refused():
    ended = fix("-", given=b'{"schema": "gpudoctor.report/1", "tool": ' + b"[" * 100_000)

    assert ended.returncode == 2
    # Python 3.14 goes on to its end, which is missing; those before it stop on the way.
    assert "nested too deeply" in ended.stderr or "not JSON" in ended.stderr


def test_a_report_of_lint_is_refused():
    placed = replace(FOUND[0], place=Place("run.sh", 3))

    ended = fix("-", given=report((placed,)))

    assert ended.returncode == 2
    assert "lint --diff" in ended.stderr


def test_what_is_too_large_is_refused():
    with pytest.raises(reports.BadReport, match="more than 64 MiB"):
        reports.load(b" " * (reports.LIMIT_BYTES + 1))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--for", "rkt"], id="unknown launcher"),
        pytest.param(["/no/such/file"], id="no file"),
        pytest.param(["/"], id="a directory"),
        pytest.param(["--profile", "nix"], id="unknown profile"),
    ],
)
def test_wrong_usage(words):
    ended = fix(*words)

    assert ended.returncode == 2
    assert "Error:" in ended.stderr


def test_fields_of_a_later_version_are_passed_over():
    known = json.loads(msgspec.json.encode(report(FOUND, launcher="podman")))
    later = known | {"moon": "full", "run": known["run"] | {"weather": "fair"}}

    assert reports.load(json.dumps(later).encode()) == report(FOUND, launcher="podman")


def test_without_a_report_it_checks():
    ended = fix("--for", "docker", "--only", "limits-nofile", "--nproc-per-node", "8")

    assert ended.returncode in (0, 3)  # as this machine is
    assert "plan for docker" in ended.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_there_is_no_plan(number, code, tmp_path):
    (tmp_path / "site.py").write_text(SLOW)
    process = subprocess.Popen(
        [*GPUDOCTOR, "fix", "--checks", str(tmp_path), "--only", "site-slow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():
        assert process.poll() is None
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)

    assert process.returncode == code
    assert stdout == ""
    assert "interrupted" in stderr
