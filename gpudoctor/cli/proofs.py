"""What `gpudoctor hook KIND --verify` does: each promise of a hook, tried on this machine."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from msgspec import Struct

from gpudoctor import hooks

SECONDS = 60.0  # for one attempt
WAITS = 'trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done'
# All that bash has, before and after a file is read into it.
STATE = r"""
state() { set +o; shopt; trap; pwd; umask; declare -F; compgen -v; export -p; echo "$# $*"; }
set -- one 'two  words'
before=
before="$- $(state "$@")"
. "$FILE"
after="$- $(state "$@")"
[ "$before" = "$after" ] || echo "it left: $(diff <(echo "$before") <(echo "$after"))"
"""


class Unprovable(Exception):
    """What it takes to prove something is not here; the message says what."""


class Case(Struct, frozen=True):
    """A hook, written to a file of a directory that goes when all is proved."""

    text: str
    path: str
    program: str

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)


Proof = Callable[[Case], str]
"""Why a promise is not kept; empty: it is. Its docstring is the promise."""


def prove(kind: str, program: str, words: Sequence[str]) -> int:
    """Try all, say each; the exit code."""
    seen = set()
    with tempfile.TemporaryDirectory(prefix="gpudoctor-") as folder:
        text = hooks.text(kind, program, words, log=f"{folder}/log", metrics=folder)
        path = os.path.join(folder, hooks.KINDS[kind].file)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        for proof in PROOFS[kind]:
            try:
                why = proof(Case(text, path, program))
                word = "FAILED" if why else "ok"
            except Unprovable as error:
                word, why = "skip", str(error)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                word, why = "FAILED", f"{type(error).__name__}: {error}"
            seen.add(word)
            click.echo(f"{word:6} {(proof.__doc__ or '').rstrip('.')}{f': {why}' if why else ''}")
    return 1 if "FAILED" in seen else 0 if "ok" in seen else 3


def _run(
    words: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, **options}
    if "input" in options:
        del options["stdin"]
    return subprocess.run(words, env=env, timeout=SECONDS, check=False, **options)


def _needs(name: str, *probe: str) -> None:
    if not shutil.which(name) or (probe and _run([name, *probe]).returncode):
        raise Unprovable(f"{' '.join((name, *probe))} does not work here")


def _words(raw: bytes) -> str:
    return " ".join(raw.decode("utf-8", "replace").split())[:300]


# What `exec` promises, whatever starts it.


def _exec(case: Case, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "GPUDOCTOR_POLICY": "report"}
    return _run([case.program, "exec", "--", *words], env, **options)


def fires(case: Case) -> str:
    """It checks before the command."""
    said = _exec(case, "true").stderr
    return "" if said else "nothing was said; is GPUDOCTOR_DISABLE, _QUIET or LOCAL_RANK set?"


def streams(case: Case) -> str:
    """Standard input and output are the command's alone."""
    raw = bytes(range(256)) * 1024
    return "" if _exec(case, "cat", input=raw).stdout == raw else "they are not what was sent"


def codes(case: Case) -> str:
    """The exit code is the command's."""
    expected = (0, 1, 42, 255, -9)
    ends = [f"exit {code}" if code >= 0 else f"kill {code} $$" for code in expected]
    seen = tuple(_exec(case, "sh", "-c", end).returncode for end in ends)
    return "" if seen == expected else f"{seen} instead of {expected}"


def signals(case: Case) -> str:
    """A signal reaches the command, which has the process id."""
    words = [case.program, "exec", "--policy", "report", "--", "sh", "-c", WAITS]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                return "the command did not start"
            process.terminate()
            code = process.wait(SECONDS)
        finally:  # also the command of a program that starts it and does not become it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return "" if code == 7 else f"it ended with {code}"


# What the files promise.


def shell(case: Case) -> str:
    """The shell can read it."""
    name = "sh" if case.text.startswith("#!/bin/sh") else "bash"
    _needs(name, "-c", ":")
    return _words(_run([name, "-n", case.path]).stderr)


def yaml(case: Case) -> str:
    """It is YAML."""
    try:
        from yaml import YAMLError, safe_load
    except ImportError:
        raise Unprovable("PyYAML is not installed") from None
    try:
        return "" if isinstance(safe_load(case.text), dict) else "it is empty"
    except YAMLError as error:
        return " ".join(str(error).split())


def compose(case: Case) -> str:
    """Compose accepts it beside a file of its own."""
    for tool in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(tool[0]) and not _run([*tool, "version"]).returncode:
            break
    else:
        raise Unprovable("there is no docker compose here")
    base = os.path.join(case.folder, "base.yaml")
    with open(base, "w", encoding="utf-8") as file:
        file.write('version: "2.4"\nservices:\n  train:\n    image: IMAGE\n')
    done = _run([*tool, "-f", base, "-f", case.path, "config", "--quiet"])
    return _words(done.stderr) if done.returncode else ""


def unit(case: Case) -> str:
    """systemd accepts it."""
    _needs("systemd-analyze", "--version")
    done = _run(["systemd-analyze", "verify", "--man=no", case.path])
    ours = [
        line for line in done.stderr.splitlines() if os.path.basename(case.path).encode() in line
    ]
    return _words(b" ".join(ours)) if done.returncode or ours else ""


def sourced(case: Case) -> str:
    """Read by bash, it prints nothing on stdout and leaves nothing behind."""
    _needs("bash", "-c", ":")
    path = f"{os.path.dirname(case.program)}:{os.environ.get('PATH', '')}"
    env = {**os.environ, "FILE": case.path, "PATH": path, "GPUDOCTOR_POLICY": "report"}
    done = _run(["bash", "-c", STATE], env)
    return _words(done.stdout) or (f"exit code {done.returncode}" if done.returncode else "")


def protocol(case: Case) -> str:
    """Slurm understands every line that it prints, and it never fails."""
    said = b""
    for rank in "01":  # Slurm closes stdin and stderr of a task prolog
        env = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "1", "SLURM_LOCALID": rank}
        done = _run(["sh", "-c", 'exec sh "$0" <&- 2>&-', case.path], env)
        if done.returncode:
            return f"exit code {done.returncode} of local rank {rank}"
        if rank != "0" and done.stdout:
            return f"local rank {rank} says: {_words(done.stdout)}"
        said += done.stdout
    odd = [line for line in said.splitlines() if not line.startswith(b"print ")]
    return _words(odd[0]) if odd else ""


def drains_nothing(case: Case) -> str:
    """With no environment and no arguments it ends with 0, and prints nothing."""
    done = _run(["sh", "-c", 'exec env -i sh "$0"', case.path], {"PATH": "/usr/bin:/bin"})
    said = _words(done.stdout + done.stderr)
    return f"exit code {done.returncode}: {said}" if done.returncode or said else ""


def condition(case: Case) -> str:
    """The plug-in keeps to the protocol: one short line, exit code 0, 1 or 2."""
    config = json.loads(case.text)
    (rule,) = config["rules"]
    done = _run([rule["path"], *rule["args"]])
    lines = done.stdout.decode().splitlines()
    if len(lines) > 1 or any(len(s) > config["pluginConfig"]["max_output_length"] for s in lines):
        return f"it printed {_words(done.stdout)!r}"
    return "" if done.returncode in (0, 1, 2) else f"exit code {done.returncode}"


def plugin(case: Case) -> str:
    """The plug-in keeps to the protocol: a line that says its state, exit code 0 to 3."""
    command = next(s for s in case.text.splitlines() if s.startswith("command["))
    done = _run(shlex.split(command.partition("=")[2]))
    states = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
    if done.returncode not in range(4):
        return f"exit code {done.returncode}"
    state = f"GPUDOCTOR {states[done.returncode]}".encode()
    return "" if done.stdout.startswith(state) else f"{_words(done.stdout)!r} is not {state!r}"


def metrics(case: Case) -> str:
    """It writes metrics."""
    done = _run(["sh", case.path])
    written = os.path.join(case.folder, "gpudoctor.prom")
    if done.returncode or done.stdout or not os.path.exists(written):
        return f"exit code {done.returncode}: {_words(done.stdout + done.stderr)}"
    if shutil.which("promtool"):
        with open(written, "rb") as file, contextlib.suppress(OSError):
            checked = _run(["promtool", "check", "metrics"], stdin=file)
            return _words(checked.stderr) if checked.returncode else ""
    return ""


EXEC: tuple[Proof, ...] = (fires, streams, codes, signals)
PROOFS: Mapping[str, tuple[Proof, ...]] = {
    "docker": EXEC,
    "compose": (yaml, compose, *EXEC),
    "ngc": (shell, sourced),
    "kubernetes": (yaml, *EXEC),
    "kubernetes-init": (yaml, *EXEC),
    "kubernetes-job": (yaml, *EXEC),
    "slurm-batch": (shell, *EXEC),
    "slurm-taskprolog": (shell, protocol),
    "slurm-prolog": (shell, drains_nothing),
    "slurm-healthcheck": (shell, drains_nothing),
    "torchrun": (shell, *EXEC),
    "systemd": (unit, *EXEC),
    "npd": (condition,),
    "nagios": (plugin,),
    "prometheus": (shell, metrics),
}
