"""A held set of real logs, told apart by the command as people run it; see logs/expected.toml."""

import re
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from gpudoctor.cli import cli
from gpudoctor.triage.document import Triage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOGS = Path(__file__).parent / "logs"
HELD = tomllib.loads((LOGS / "expected.toml").read_text())["log"]
THREAD = re.compile(r"[\w.-]+/[\w.-]+#\d+")


def triage(log) -> Triage:
    files = [str(LOGS / file) for file in log["files"]]
    ended = CliRunner().invoke(cli, ["triage", "-f", "json", *files])

    assert ended.exit_code in (0, 1), ended.output
    found = msgspec.json.decode(ended.stdout, type=Triage)

    assert ended.exit_code == found.exit_code
    return found


@pytest.mark.parametrize("log", HELD, ids=lambda log: log["files"][0].partition(".")[0])
def test_the_first_cause_is_found(log):
    found = triage(log)

    assert (found.found == "nothing") == ("line" not in log)
    if "line" in log:
        assert log["line"] in found.first.first.text
    if "rule" in log:
        assert found.first.rule == log["rule"]
    if "rank" in log:
        assert found.first.first.rank == log["rank"]
    if "blamed" in log:
        assert found.blamed.rank == log["blamed"]
    if "launcher" in log:
        assert found.launcher == log["launcher"]
    assert list(found.only_report) == log.get("only_report", list(found.only_report))


def test_every_log_is_held_and_told():
    told = {LOGS / file for log in HELD for file in log["files"]}
    there = {path for path in LOGS.iterdir() if path.name != "expected.toml"}

    assert told == there
    assert len(HELD) >= 40
    assert sum(bool(THREAD.match(log["by"])) for log in HELD) >= 20
    assert sum(log["files"][0].startswith("healthy") for log in HELD) >= 6
    assert all("line" in log or log["files"][0].startswith("healthy") for log in HELD)
