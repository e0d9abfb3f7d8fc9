"""The whole program: what leaves it, in which format, and `gpudoctor report`."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from gpudoctor import report as reports
from gpudoctor.registry import formats

GPUDOCTOR = [sys.executable, "-m", "gpudoctor"]
PEOPLE = {"USER": "annaberg", "LOGNAME": "annaberg"}
# Variables whose values leave the machine, with a secret in each, and such that never do.
SEEDED = {
    "HTTPS_PROXY": "http://anna:tr0ub4dorPW@proxy7.corp.example:3128",
    "HF_ENDPOINT": "https://hub.example/?sig=s3kr1tsIGnature",
    "NCCL_DEBUG_FILE": "/home/annaberg/nccl.%h",
    "TORCH_EXTENSIONS_DIR": "/x/password=hunter2hunter2",
    "PYTHONPATH": "/x/hf_AAAABBBBCCCCDDDDEEEE",
    "TRITON_HOME": "/x/AKIAIOSFODNN7SEEDED0",
    "MPLCONFIGDIR": "/x/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkw.s3kr1tjwtjwt",
    "AWS_SECRET_ACCESS_KEY": "s3kr1tawsawsawsaws",
    "HF_TOKEN": "hf_s3kr1ttokentoken",
    "MY_PASSWORD": "s3kr1tpassword",
    "NCCL_MY_TOKEN": "s3kr1tnccltoken",
    "SSH_KEY": "-----BEGIN OPENSSH PRIVATE KEY-----s3kr1tkeykey",
}
SECRETS = (
    "tr0ub4dorPW",
    "s3kr1t",
    "hunter2hunter2",
    "hf_AAAA",
    "AKIAIOSF",
    "eyJzdWI",
    "0p3nSesame",
)
PLUGIN = '''
from gpudoctor import Finding, Fix, Shm, check, fail

@check(owner="node")
def site_fails(shm: Shm) -> Finding:
    """It works."""
    return fail(
        "none of /home/annaberg/x",
        Fix(text="Ask anna.berg@corp.example", commands=["rm /home/annaberg/x"]),
        evidence=["10.20.30.40 has gpu-q-017.corp.example, 02:42:ac:11:00:02"],
    )
'''


def run(*words: str, **settings) -> subprocess.CompletedProcess:
    settings.setdefault("env", {**os.environ, **PEOPLE, **SEEDED})
    return subprocess.run(
        [*GPUDOCTOR, *words], capture_output=True, text=True, check=False, timeout=60, **settings
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "site.py").write_text(PLUGIN)
    return ["--checks", str(folder), "shm-size", "site", "env", "nccl", "torch", "storage"]


@pytest.fixture(scope="module")
def said(site, tmp_path_factory) -> dict[str, dict[str, str]]:
    """What each format says at each level."""
    told = {}
    for level in reports.LEVELS:
        folder = tmp_path_factory.mktemp(level)
        words = [word for name in formats() for word in ("-o", f"{name}={folder / name}")]
        done = run("check", *site, *words, "-v", "--redact", level)
        assert done.returncode == 1, done.stderr
        told[level] = {name: (folder / name).read_text() for name in formats()}
        told[level]["terminal"] = done.stdout + done.stderr
    return told


@pytest.mark.parametrize("level", reports.LEVELS)
@pytest.mark.parametrize("name", [*formats(), "terminal"])
def test_seeded_secrets_are_in_no_format(said, level, name):
    assert said[level][name]
    assert not [secret for secret in SECRETS if secret in said[level][name]]


def test_secrets_of_a_command_are_not_in_the_report(tmp_path):
    out = tmp_path / "report.json"
    command = ["true", "--password", "0p3nSesame", "--hf-token=0p3nSesame2"]

    done = run("exec", "-o", f"json={out}", "--redact", "none", "--", *command)

    argv = json.loads(out.read_text())["run"]["argv"]
    assert done.returncode == 0
    assert argv[-4:] == ["true", "--password", "***", "--hf-token=***"]


@pytest.mark.parametrize("name", [*formats(), "terminal"])
def test_each_level_in_each_format(said, name):
    person, place = ("annaberg", "anna.berg"), ("10.20.30.40", "gpu-q-017", "02:42:ac")
    none, internal, public = (said[level][name] for level in reports.LEVELS)

    assert not [word for word in person if word in internal + public]
    assert not [word for word in place if word in public]
    if name in ("json", "jsonl", "html", "markdown", "text", "terminal"):
        assert all(word in none for word in person + place)
        assert all(word in internal for word in place)


def test_what_is_usual(site, tmp_path):
    out = tmp_path / "report.txt"

    shown = run("check", *site, "-o", f"text={out}")
    piped = run("check", *site, "-f", "json")
    asked = run("check", *site, "--redact", "public")

    assert "rm /home/annaberg/x" in shown.stdout  # can be pasted
    assert "annaberg" not in out.read_text()
    assert "annaberg" not in piped.stdout
    assert json.loads(piped.stdout)["redaction"]["level"] == "internal"
    assert "rm /home/user-1/x" in asked.stdout


def test_collected_facts_are_redacted_too():
    usual, public = run("collect"), run("collect", "--redact", "public")
    name = os.uname().nodename

    assert "annaberg" not in usual.stdout
    assert json.loads(usual.stdout)["nodes"][0]["name"] == name
    assert "annaberg" not in public.stdout
    assert "proxy7" not in public.stdout
    assert not [secret for secret in SECRETS if secret in usual.stdout + public.stdout]


# gpudoctor report


@pytest.fixture(scope="module")
def written(site, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("written") / "report.json"
    run("check", *site, "-o", f"json={out}", "--redact", "none")
    return out


@pytest.mark.parametrize("name", formats())
def test_a_report_is_shown_in_any_format(written, name):
    done = run("report", str(written), "-f", name)

    assert done.returncode == (2 if name == "nagios" else 1), done.stderr
    assert done.stdout
    assert "annaberg" not in done.stdout or name == "text"


def test_a_report_comes_from_stdin_and_goes_to_files(written, tmp_path):
    out = tmp_path / "public.json"

    done = run("report", "-", "-o", f"json={out}", "--redact", "public", input=written.read_text())

    report = reports.load(out.read_bytes())
    assert done.returncode == 1
    assert report.redaction.level == "public"
    assert report.counts == reports.load(written.read_bytes()).counts
    again = run("report", str(out), "-f", "json", "--redact", "none")
    assert reports.load(again.stdout.encode()) == report
    assert "stays public" in again.stderr


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"schema": "gpudoctor.facts/1", "nodes": []}', "\x00", "x"]
)
def test_what_is_no_report_is_wrong_usage(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)

    done = run("report", str(path))

    assert done.returncode == 2
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_such_file_is_wrong_usage():
    assert run("report", "/no/such/file").returncode == 2
    assert run("report", "/no/such/file", "-f", "nagios").returncode == 3


def test_fix_says_that_tokens_are_in_its_commands(site, written):
    hidden = run("report", str(written), "-f", "json")

    done = run("fix", "-", input=hidden.stdout)
    plain = run("fix", str(written))

    assert "user-1" in done.stdout
    assert "tokens" in done.stderr
    assert "rm /home/annaberg/x" in plain.stdout
    assert plain.stderr == ""
