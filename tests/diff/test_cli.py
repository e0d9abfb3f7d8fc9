"""`gpudoctor diff`: exit codes, where its two sides come from, formats, what leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text())
HEALTHY = RECORDED["podman"]["healthy"]
SMALL = {**HEALTHY, **RECORDED["podman"]["faults"]["small /dev/shm"]}


def diff(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpudoctor", "diff", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **settings)


def facts(path: Path, *nodes: tuple[str, dict[str, Any]]) -> str:
    document = [{"name": name, "facts": facts} for name, facts in nodes]
    path.write_text(json.dumps({"schema": "gpudoctor.facts/1", "nodes": document}))
    return str(path)


@pytest.fixture
def healthy(tmp_path) -> str:
    return facts(tmp_path / "healthy.json", ("node0", HEALTHY))


@pytest.fixture
def small(tmp_path) -> str:
    return facts(tmp_path / "small.json", ("node0", SMALL))


@pytest.fixture
def fleet(tmp_path) -> str:
    return facts(tmp_path / "fleet.json", ("node0", HEALTHY), ("node1", SMALL), ("a:b", HEALTHY))


def test_the_same(healthy):
    ended = diff(healthy, healthy)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Nothing has changed" in ended.stdout


def test_a_change(healthy, small):
    ended = diff(healthy, small)

    assert (ended.returncode, ended.stderr) == (1, "")
    assert "shm: size 1 GiB -> 32 MiB" in ended.stdout


def test_a_report_and_facts(healthy, small, tmp_path):
    report = tmp_path / "report.json"
    check = [sys.executable, "-m", "gpudoctor", "check", "--facts", small, "-f", "json"]
    report.write_bytes(subprocess.run(check, capture_output=True, timeout=60).stdout)

    ended = diff(healthy, str(report))
    assert ended.returncode == 1
    assert "shm: size 1 GiB -> 32 MiB" in ended.stdout


def test_from_stdin(healthy, small):
    ended = diff("-", small, input=Path(healthy).read_text())

    assert ended.returncode == 1
    assert ended.stdout.startswith("gpudoctor diff   - -> ")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(["{fleet}:node0", "{fleet}:node1"], 1, id="two nodes of one file"),
        pytest.param(["{fleet}:node0", "{fleet}:a:b"], 0, id="a colon in the name"),
        pytest.param(["{healthy}", "{fleet}", "--node", "node0"], 0, id="--node"),
        pytest.param(["{fleet}:node1", "{fleet}", "--node", "node0"], 1, id="both"),
    ],
)
def test_one_of_several_nodes(words, code, fleet, healthy):
    ended = diff(*(word.format(fleet=fleet, healthy=healthy) for word in words))

    assert ended.returncode == code, ended.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["{healthy}", "/nowhere"], "No such file", id="no file"),
        pytest.param(["{healthy}", "{folder}"], "Is a directory", id="directory"),
        pytest.param(["{healthy}", "{broken}"], "not JSON", id="not JSON"),
        pytest.param(["{healthy}", "{other}"], "schema", id="something else"),
        pytest.param(["{healthy}"], "Missing argument", id="one side"),
        pytest.param(["-", "-"], "only one", id="stdin twice"),
        pytest.param(["{healthy}", "{fleet}"], "it has: node0, node1, a:b", id="which node"),
        pytest.param(["{healthy}", "{fleet}:x"], "no node 'x'", id="no such node"),
        pytest.param(["{healthy}", "{healthy}", "-f", "sarif"], "no format", id="format"),
        pytest.param(["{healthy}", "{healthy}", "-o", "html"], "FORMAT=PATH", id="output"),
    ],
)
def test_trouble(words, says, healthy, fleet, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"schema": "other/1"}')
    places = {"healthy": healthy, "fleet": fleet, "folder": tmp_path}
    places |= {name: tmp_path / f"{name}.json" for name in ("broken", "other")}
    ended = diff(*(word.format(**places) for word in words))

    assert (ended.returncode, ended.stdout) == (2, "")
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_formats(healthy, small, tmp_path):
    page = tmp_path / "diff.html"
    ended = diff(healthy, small, "-f", "json", "-o", f"html={page}")
    document = json.loads(ended.stdout)

    assert (ended.returncode, document["schema"], document["same"]) == (
        1,
        "gpudoctor.diff/1",
        False,
    )
    worse = document["findings"][0]
    assert (worse["id"], worse["kind"]) == ("shm-size", "worse")
    first = document["facts"][worse["because"][0]]
    assert (first["fact"], first["path"]) == ("shm", "total_bytes")
    assert (first["before"], first["after"]) == (1 << 30, 32 << 20)
    assert "1 GiB -&gt; 32 MiB" in page.read_text()
    assert len(page.read_bytes()) < 300_000


def test_json_is_as_its_schema_says(healthy, small):
    command = [sys.executable, "-m", "gpudoctor", "list", "--diff-schema"]
    schema = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    jsonschema.validate(json.loads(diff(healthy, small, "-f", "json").stdout), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": "gpudoctor.diff/1", "same": "no"}, schema)


def test_formats_that_check_is_told_by_variables_are_not_meant(healthy):
    ended = diff(healthy, healthy, env={**os.environ, "GPUDOCTOR_FORMAT": "github"})

    assert (ended.returncode, ended.stderr) == (0, "")


def test_only_the_exit_code(healthy, small):
    ended = diff(healthy, small, "-qq")

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")


def test_names_that_may_not_leave(tmp_path):
    tmp_path = tmp_path / "home/annaberg"
    tmp_path.mkdir(parents=True)
    named = {**HEALTHY, "system": {**HEALTHY["system"], "hostname": "gpu-a-018"}}
    one = facts(tmp_path / "gpu-a-018.json", ("gpu-a-018", named))
    other = facts(tmp_path / "other.json", ("gpu-a-018", {**named, "shm": SMALL["shm"]}))

    assert "gpu-a-018" in diff(one, other).stdout
    for name in ("text", "json", "html"):
        ended = diff(one, other, "--redact", "public", "-f", name)
        assert ended.returncode == 1
        assert "gpu-a-018" not in ended.stdout
        assert "annaberg" not in ended.stdout


def test_a_plugin_s_facts_are_plain_data(tmp_path):
    one = facts(tmp_path / "one.json", ("node0", {"site_disk": {"rows": [{"id": 1, "ok": True}]}}))
    other = facts(tmp_path / "other.json", ("node0", {"site_disk": {"rows": [{"id": 1, "ok": 0}]}}))

    assert "site disk: rows[1] ok yes -> 0" in diff(one, other).stdout
