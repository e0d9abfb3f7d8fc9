"""`gpudoctor exec`: the command must not notice that it was checked first."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap

import pytest

GPUDOCTOR = [sys.executable, "-m", "gpudoctor"]
FAILING = '''
from gpudoctor import Devices, Finding, Fix, check, fail

@check(owner="{owner}", symptoms=["nothing works"])
def site_fails(devices: Devices) -> Finding:
    """It works."""
    return fail("it does not", Fix(text="mend it", commands=["mend"]))
'''
HANGING = '''
import time
from gpudoctor import Fact, Finding, Machine, check, ok, probe

class Slow(Fact, frozen=True, kw_only=True):
    x: int = 0

@probe(isolated=True, timeout=60)
def slow(machine: Machine) -> Slow:
    time.sleep(60)
    return Slow()

@check(owner="job")
def site_slow(slow: Slow) -> Finding:
    """It is quick."""
    return ok("yes")
'''


def run(*words: str, **settings) -> subprocess.CompletedProcess:
    settings.setdefault("timeout", 60)
    return subprocess.run(
        [*GPUDOCTOR, "exec", *words], capture_output=True, text=True, check=False, **settings
    )


@pytest.fixture
def failing(tmp_path):
    def with_owner(owner: str) -> list[str]:
        (tmp_path / "bad.py").write_text(FAILING.format(owner=owner))
        return ["--checks", str(tmp_path), "--only", "site-fails"]

    return with_owner


@pytest.fixture
def hanging(tmp_path):
    (tmp_path / "slow.py").write_text(textwrap.dedent(HANGING))
    return ["--checks", str(tmp_path), "--only", "site-slow"]


@pytest.mark.parametrize("policy", ["report", "block", "off"])
def test_stdout_is_the_commands_alone(policy):
    done = run("--policy", policy, "--only", "shm-write", "--", "printf", "x")

    assert (done.returncode, done.stdout) == (0, "x")


@pytest.mark.parametrize("code", [0, 1, 3, 42, 255])
def test_exit_code_is_the_commands(code):
    assert run("--", "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_a_signal_is_the_commands(number):
    assert run("--", "sh", "-c", f"kill -{number.value} $$").returncode == -number


def test_process_id_stays():
    process = subprocess.Popen(
        [*GPUDOCTOR, "exec", "--", "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True
    )
    out, _ = process.communicate(timeout=60)

    assert int(out) == process.pid


def test_stdin_reaches_the_command_whole():
    done = run("--", "cat", input="all\nof it\n")

    assert done.stdout == "all\nof it\n"


def test_signals_have_their_defaults():
    def masks(status: str) -> list[tuple[str, str]]:
        return re.findall(r"^(SigBlk|SigIgn|SigCgt):\t(\w+)$", status, re.MULTILINE)

    command = ["/bin/cat", "/proc/self/status"]
    alone = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert masks(run("--", *command).stdout) == masks(alone)


@pytest.mark.parametrize(
    "environment",
    [
        {"PATH": os.environ["PATH"], "LANG": "C", "ODD": "a=b\nc"},
        {"PATH": os.environ["PATH"]},
    ],
)
def test_environment_is_handed_on_as_it_was(environment):
    done = run("--", "env", "-0", env=environment)

    assert dict(e.split("=", 1) for e in done.stdout.split("\0") if e) == environment


def test_descriptors_are_handed_on(tmp_path):
    with open(tmp_path / "file", "w") as file:
        write = f"import os; os.write({file.fileno()}, b'kept')"
        done = run("--", sys.executable, "-c", write, pass_fds=[file.fileno()])

    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "kept"


def test_no_descriptor_of_ours_and_no_child_is_left():
    done = run("--", "sh", "-c", "ls /proc/self/fd; cat /proc/$$/task/$$/children")

    # 3 is the directory that ls reads; the last line, children, names only cat itself.
    assert done.stdout.split()[:4] == ["0", "1", "2", "3"]
    assert len(done.stdout.split()) == 5


def test_closed_streams_stay_closed():
    done = subprocess.run(
        ["sh", "-c", f"exec 0<&- ; exec {' '.join(GPUDOCTOR)} exec -- sh -c 'ls /proc/$$/fd'"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "0" not in done.stdout.split()


def test_arguments_of_the_command_are_not_ours():
    assert run("printf", "%s", "--policy").stdout == "--policy"


def test_healthy_is_one_line():
    done = run("--only", "shm-write", "--", "true")

    assert done.stderr.startswith("gpudoctor: 1 ok")
    assert done.stderr.count("\n") == 1


def test_findings_are_told_and_the_command_starts(failing):
    done = run(*failing("launch"), "--", "printf", "x")

    assert (done.returncode, done.stdout) == (0, "x")
    assert "site-fails" in done.stderr
    assert "mend" in done.stderr


@pytest.mark.parametrize(
    ("owner", "code"), [("launch", 78), ("job", 78), ("image", 78), ("node", 75), ("network", 75)]
)
def test_block_tells_whose_fault_it_is(failing, owner, code):
    done = run("--policy", "block", *failing(owner), "--", "printf", "x")

    assert (done.returncode, done.stdout) == (code, "")
    assert "was not started" in done.stderr


def test_no_verdict_blocks_only_when_strict(hanging):
    words = ["--policy", "block", "--deadline", "0.3", *hanging, "--", "printf", "x"]

    assert run(*words).stdout == "x"
    assert run("--strict", *words).stdout == ""


@pytest.mark.parametrize("switch", ["GPUDOCTOR_DISABLE", "GPUDOCTOR_POLICY"])
def test_can_be_switched_off(failing, switch):
    value = {"GPUDOCTOR_DISABLE": "1", "GPUDOCTOR_POLICY": "off"}[switch]

    done = run(*failing("launch"), "--", "printf", "x", env={**os.environ, switch: value})

    assert (done.stdout, done.stderr) == ("x", "")


def test_broken_configuration_does_not_stop_the_job(tmp_path):
    (tmp_path / "bad.toml").write_text("nonsense")

    done = run("--config", str(tmp_path / "bad.toml"), "--", "printf", "x")

    assert (done.returncode, done.stdout) == (0, "x")
    assert "not checked" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--", "no-such-command-here"], 127),
        (["--", "/etc/passwd"], 126),
        (["--"], 125),
        (["--bogus", "--", "true"], 125),
        (["--policy", "maybe", "--", "true"], 125),
    ],
)
def test_what_cannot_start_has_its_own_codes(words, code):
    done = run(*words)

    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_the_check_ends_it_and_starts_nothing(hanging, number):
    process = subprocess.Popen(
        [*GPUDOCTOR, "exec", "--deadline", "30", *hanging, "--", "printf", "x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=20)

    assert process.returncode == -number
    assert out == ""
    assert number.name in err
