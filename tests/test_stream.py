"""`-f jsonl` on stdout: told while the run goes on, and the same as what is rendered later."""

import json
import signal
import subprocess
import sys

from gpudoctor import report as reports
from gpudoctor.registry import report_format
from gpudoctor.report import Page

GPUDOCTOR = [sys.executable, "-m", "gpudoctor"]
HANGS = '''
import time
from gpudoctor import Fact, Finding, Machine, check, ok, probe

class Stuck(Fact, frozen=True, kw_only=True):
    pass

@probe(isolated=True, timeout=60)
def stuck(machine: Machine) -> Stuck:
    time.sleep(60)
    return Stuck()

@check(owner="job")
def site_stuck(stuck: Stuck) -> Finding:
    """It is not stuck."""
    return ok("at once")
'''


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_killed_run_has_named_the_probe_in_flight(tmp_path):
    (tmp_path / "site.py").write_text(HANGS)
    words = ["check", "--checks", str(tmp_path), "-f", "jsonl", "site-stuck", "shm-size"]
    begun = {"event": "probe", "name": "stuck", "state": "started"}
    told = []
    with subprocess.Popen([*GPUDOCTOR, *words], stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            told.append(json.loads(line))
            if begun.items() <= told[-1].items():
                break
        run.send_signal(signal.SIGKILL)
        told += events(run.stdout.read())

    started = {event["name"] for event in told if event["event"] == "probe"}
    found = {event["name"] for event in told if event["event"] == "fact"}
    assert run.returncode == -signal.SIGKILL
    assert told[0]["event"] == "run"
    assert "stuck" in started - found
    assert not [event for event in told if event["event"] == "end"]


def test_what_was_streamed_is_what_the_report_says(tmp_path):
    out = tmp_path / "report.json"
    words = ["check", "-f", "jsonl", "-o", f"json={out}", "--redact", "public"]

    run = subprocess.run([*GPUDOCTOR, *words], capture_output=True, text=True, check=False)

    report = reports.load(out.read_bytes())
    live = [event for event in events(run.stdout) if event["event"] != "probe"]
    later = events(report_format("jsonl").render(report, Page()))
    facts = {event["name"]: event["fact"] for event in live if event["event"] == "fact"}
    assert run.returncode == report.exit_code
    assert facts == dict(report.nodes[0].facts)  # the last word on each
    assert _but(live, "fact", "run") == _but(later, "fact", "run")
    assert [event["event"] for event in live][-1] == "end"


def test_every_probe_that_began_has_found_something(tmp_path):
    run = subprocess.run([*GPUDOCTOR, "check", "-f", "jsonl"], capture_output=True, text=True)

    told = events(run.stdout)
    begun = [event["name"] for event in told if event["event"] == "probe"]
    assert len(set(begun)) == len(begun)
    assert set(begun) <= {event["name"] for event in told if event["event"] == "fact"}


def test_wrong_usage_leaves_stdout_empty():
    run = subprocess.run(
        [*GPUDOCTOR, "check", "-f", "jsonl", "no-such-check"], capture_output=True, check=False
    )

    assert (run.returncode, run.stdout) == (2, b"")


def test_quiet_says_nothing():
    run = subprocess.run([*GPUDOCTOR, "check", "-f", "jsonl", "-qq"], capture_output=True)

    assert run.stdout == b""


def _but(events: list[dict], *kinds: str) -> list[dict]:
    return [event for event in events if event["event"] not in kinds]
