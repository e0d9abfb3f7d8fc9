"""Integrations: what is printed is whole, keeps any command's words, and can be proved."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kubernetes_validate import validate

from gpudoctor import hooks
from gpudoctor.cli import proofs

ROOT = Path(__file__).parent.parent
ODD = ["sh", "-c", "echo \"$HOME\" '%d' $(id) é; # a\\b", "--", "two  words"]
PROGRAM = "/opt/g d/bin/gpudoctor"


def run(gpudoctor: str, *words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [gpudoctor, "hook", *words], capture_output=True, text=True, timeout=120, **options
    )


def commands_in(kind: str, text: str) -> list[list[str]]:
    """The commands that a hook starts, as its host reads them."""
    if kind == "docker":
        said = dict(re.findall(r"^(ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE))
        return [json.loads(said["ENTRYPOINT"]) + json.loads(said["CMD"])]
    if kind == "compose":
        service = yaml.safe_load(text)["services"]["train"]
        words = [word.replace("$$", "$") for word in service["command"]]
        return [service["entrypoint"] + words]
    if kind.startswith("kubernetes"):
        spec = yaml.safe_load(text)["spec"]
        spec = spec.get("template", {}).get("spec", spec)
        both = [*spec.get("initContainers", []), *spec["containers"]]
        return [container["command"] + container.get("args", []) for container in both]
    if kind == "systemd":
        (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        for plain, special in (("$$", "$"), ("%%", "%"), ("\\\\", "\\")):
            line = line.replace(plain, special)
        return [shlex.split(line)]
    lines = [line for line in text.splitlines() if not line.startswith("#") and " exec " in line]
    return [shlex.split(line) for line in lines]


def test_every_file_is_of_a_kind():
    folder = Path(hooks.__file__).parent
    files = {path.name for path in folder.iterdir() if path.is_file()} - {"__init__.py"}

    assert files == {hook.file for hook in hooks.KINDS.values()}
    assert set(proofs.PROOFS) == set(hooks.KINDS)


@pytest.mark.parametrize("kind", hooks.KINDS)
def test_everything_is_filled_in(kind):
    text = hooks.text(kind, "gpudoctor")

    assert not re.findall(r"@[a-z]+@", text)
    assert "gpudoctor" in text
    assert all(len(line) <= 100 for line in text.splitlines())


STARTS = [
    *("docker", "compose", "kubernetes", "kubernetes-init", "kubernetes-job"),
    *("slurm-batch", "torchrun", "systemd"),
]


@pytest.mark.parametrize("kind", STARTS)
def test_a_command_keeps_its_words(kind):
    found = commands_in(kind, hooks.text(kind, PROGRAM, ODD))

    assert any(words[-len(ODD) :] == ODD for words in found)
    assert any(PROGRAM in words and "exec" in words for words in found)


@pytest.mark.parametrize("kind", hooks.KINDS)
def test_is_printed(kind, gpudoctor):
    inside = hooks.KINDS[kind].inside
    ended = run(gpudoctor, kind)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == hooks.text(kind, "gpudoctor" if inside else gpudoctor)


def test_a_command_of_the_users(gpudoctor):
    ended = run(gpudoctor, "torchrun", "--", "torchrun", "--nnodes", "2", "my train.py")

    assert ended.stdout.endswith("exec -- torchrun --nnodes 2 'my train.py'\n")


def test_all_kinds_are_told(gpudoctor):
    ended = run(gpudoctor)

    assert re.findall(r"^([a-z-]+) ", ended.stdout, re.MULTILINE) == list(hooks.KINDS)


def test_an_unknown_kind_is_wrong_usage(gpudoctor):
    ended = run(gpudoctor, "pbs")

    assert ended.returncode == 2
    assert "slurm-batch" in ended.stderr


@pytest.mark.parametrize("kind", ["docker", "ngc", "slurm-taskprolog", "nagios"])
def test_can_be_proved_from_the_command_line(kind, gpudoctor):
    ended = run(gpudoctor, kind, "--verify")

    assert ended.returncode in (0, 3), ended.stdout
    assert len(ended.stdout.splitlines()) == len(proofs.PROOFS[kind])


@pytest.mark.parametrize(
    ("kind", "proof"),
    [
        pytest.param(kind, proof, id=f"{kind}: {proof.__name__}")
        for kind, promises in proofs.PROOFS.items()
        for proof in promises
        if proof not in proofs.EXEC
    ],
)
def test_is_proved_here(kind, proof, gpudoctor, tmp_path):
    path = tmp_path / hooks.KINDS[kind].file
    text = hooks.text(kind, gpudoctor, log=f"{tmp_path}/log", metrics=str(tmp_path))
    path.write_text(text)
    try:
        why = proof(proofs.Case(text, str(path), gpudoctor))
    except proofs.Unprovable as error:
        pytest.skip(str(error))

    assert not why


@pytest.mark.parametrize("kind", ["kubernetes", "kubernetes-init", "kubernetes-job"])
def test_manifests_are_valid(kind):
    validate(yaml.safe_load(hooks.text(kind, "gpudoctor", ODD)), "1.33", strict=True)


@pytest.mark.parametrize("kind", [*STARTS[:-1]])
def test_lint_finds_nothing_in_what_is_printed(kind, gpudoctor, tmp_path):
    path = tmp_path / hooks.KINDS[kind].file
    path.write_text(hooks.text(kind, "gpudoctor"))
    words = [gpudoctor, "lint", str(path), "--strict"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stdout + ended.stderr


BROKEN = [
    pytest.param(proofs.shell, "#!/bin/sh\nif true\n", "", id="sh"),
    pytest.param(proofs.shell, "x=(1 2\n", "", id="bash"),
    pytest.param(proofs.yaml, "a: [1\n", "line 2", id="yaml"),
    pytest.param(proofs.sourced, "echo banner\n", "banner", id="stdout"),
    pytest.param(proofs.sourced, "left=1\n", "left", id="variable"),
    pytest.param(proofs.sourced, "export PATH=/bin\n", "PATH", id="environment"),
    pytest.param(proofs.sourced, "set -e\n", "ehB", id="option"),
    pytest.param(proofs.sourced, "cd /\n", "/", id="directory"),
    pytest.param(proofs.sourced, "shift\n", "", id="arguments"),
    pytest.param(proofs.sourced, "trap : TERM\n", "TERM", id="trap"),
    pytest.param(proofs.sourced, "umask 0\n", "0000", id="umask"),
    pytest.param(proofs.sourced, "f() { :; }\n", "f", id="function"),
    pytest.param(proofs.sourced, "exit 1\n", "exit code 1", id="exit"),
    pytest.param(proofs.protocol, "echo hello\n", "hello", id="no protocol"),
    pytest.param(proofs.protocol, "exit 1\n", "exit code 1", id="task cancelled"),
    pytest.param(proofs.protocol, "echo print x\n", "local rank 1", id="every rank"),
    pytest.param(proofs.drains_nothing, "exit 1\n", "exit code 1", id="drains"),
    pytest.param(proofs.drains_nothing, "echo x\n", "x", id="prints"),
    pytest.param(proofs.drains_nothing, '[ -n "$1" ]\n', "exit code 1", id="an argument"),
    pytest.param(proofs.plugin, "command[x]=echo nonsense\n", "nonsense", id="no state"),
    pytest.param(proofs.plugin, "command[x]=sh -c 'exit 9'\n", "9", id="no such code"),
    pytest.param(proofs.metrics, "true\n", "exit code 0", id="no metrics"),
]


@pytest.mark.parametrize(("proof", "text", "says"), BROKEN)
def test_what_is_broken_is_not_proved(proof, text, says, gpudoctor, tmp_path):
    path = tmp_path / "hook"
    path.write_text(text)
    why = proof(proofs.Case(text, str(path), gpudoctor))

    assert why
    assert says in why


def npd(*args: str) -> str:
    config = json.loads(hooks.text("npd", sys.executable))
    config["rules"][0]["args"] = ["-c", *args]
    return json.dumps(config)


@pytest.mark.parametrize("script", ["print('x' * 81)", "print('a\\nb')", "raise SystemExit(3)"])
def test_a_condition_keeps_to_the_protocol(script, tmp_path):
    assert proofs.condition(proofs.Case(npd(script), str(tmp_path / "hook"), sys.executable))


PLAYS_EXEC = """#!/usr/bin/env python3
import os, subprocess, sys
words = sys.argv[sys.argv.index("--") + 1 :]
fault = "{fault}"
if fault != "silent":
    print("gpudoctor: 1 ok", file=sys.stderr)
if fault == "noisy":
    print("banner", flush=True)
if fault == "parent":
    sys.exit(subprocess.run(words).returncode)
if fault == "no stdin":
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
os.execvp(words[0], words)
"""


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        pytest.param("", set(), id="none"),
        pytest.param("silent", {proofs.fires}, id="does not fire"),
        pytest.param("noisy", {proofs.streams, proofs.signals}, id="stdout"),
        pytest.param("no stdin", {proofs.streams}, id="stdin"),
        pytest.param("parent", {proofs.codes, proofs.signals}, id="stays as parent"),
    ],
)
def test_an_entrypoint_that_is_not_transparent_is_found(fault, broken, tmp_path):
    program = tmp_path / "gpudoctor"
    program.write_text(PLAYS_EXEC.replace("{fault}", fault))
    program.chmod(0o755)
    case = proofs.Case("", str(tmp_path / "hook"), str(program))

    assert {proof for proof in proofs.EXEC if proof(case)} == broken


def test_what_cannot_be_proved_is_no_success(gpudoctor, monkeypatch, capsys):
    def here(case: proofs.Case) -> str:
        """It works."""
        raise proofs.Unprovable("no way")

    monkeypatch.setitem(proofs.PROOFS, "npd", (here,))

    assert proofs.prove("npd", gpudoctor, ()) == 3
    assert capsys.readouterr().out == "skip   It works: no way\n"


DOCS = (ROOT / "docs/hooks.md").read_text()
SECTIONS = dict(re.findall(r"^## ([a-z-]+)$\n(.*?)(?=^## |\Z)", DOCS, re.MULTILINE | re.DOTALL))


def test_docs_show_all_kinds_as_the_command_does(gpudoctor):
    assert f"```\n$ gpudoctor hook\n{run(gpudoctor).stdout}```\n" in DOCS
    assert list(SECTIONS) == list(hooks.KINDS)


@pytest.mark.parametrize("kind", hooks.KINDS)
def test_docs_explain_a_kind_in_ten_lines(kind):
    prose = re.sub(r"^```.*?^```$", "", SECTIONS[kind], flags=re.MULTILINE | re.DOTALL)

    assert 1 <= len([line for line in prose.splitlines() if line]) <= 10


@pytest.mark.parametrize("script", re.findall(r"^```\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL))
def test_docs_show_commands_that_there_are(script):
    known = {*hooks.KINDS, "KIND"}

    assert set(re.findall(r"gpudoctor hook ([a-z-]+)", script)) <= known
