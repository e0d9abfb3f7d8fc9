"""`gpudoctor exec`: the command must not notice that it was checked first."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time

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


COUNTING = '''
import os, time
from gpudoctor import Fact, Finding, Fix, Machine, check, fail, ok, probe

class Look(Fact, frozen=True, kw_only=True):
    well: bool

@probe()
def look(machine: Machine) -> Look:
    folder = os.environ["FOLDER"]
    os.close(os.open(f"{folder}/looked-{os.getpid()}", os.O_CREAT))
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    return Look(well=not os.path.exists(f"{folder}/ill"))

@check(owner="launch")
def site_look(look: Look) -> Finding:
    """It is well."""
    return ok("yes") if look.well else fail("no", Fix(text="mend it"))
'''
STAYS = {"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"}
DEADLY = sorted(number for number in signal.Signals if number.name not in STAYS)


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


@pytest.mark.parametrize("number", DEADLY, ids=lambda number: number.name)
def test_death_by_a_signal_is_the_commands(number):
    script = f"ulimit -c 0; kill -{number.value} $$"

    assert run("--only", "shm-write", "--", "sh", "-c", script).returncode == -number


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


@pytest.mark.parametrize("output", ["json=/nonexistent/x", "nonsense", "json=/proc/1/x"])
@pytest.mark.parametrize(("policy", "code"), [("report", 0), ("block", 75)])
def test_a_report_that_cannot_be_written_changes_nothing(failing, output, policy, code):
    done = run("--policy", policy, "-o", output, *failing("node"), "--", "true")

    assert done.returncode == code
    assert "site-fails" in done.stderr
    assert output.partition("=")[2] in done.stderr


def test_a_report_is_written(failing, tmp_path):
    done = run("-o", f"json={tmp_path}/report.json", *failing("node"), "--", "printf", "x")
    report = json.loads((tmp_path / "report.json").read_text())

    assert (done.stdout, report["status"]) == ("x", "fail")


def test_a_warning_blocks_nothing(tmp_path):
    text = FAILING.format(owner="node").replace("fail", "warn")
    (tmp_path / "bad.py").write_text(text)
    words = ["--policy", "block", "--strict", "--checks", str(tmp_path), "--only", "site-warns"]
    done = run(*words, "--", "printf", "x")

    assert (done.returncode, done.stdout) == (0, "x")
    assert "[WARN] site-warns" in done.stderr


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
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


def test_an_alarm_goes_on():
    """`perl -e 'alarm 60; exec @ARGV'`, the old way to limit a command's time."""
    alarm = "import os, signal, sys; signal.alarm(600); os.execv(sys.argv[1], sys.argv[1:])"
    left = "import signal; print(signal.getitimer(signal.ITIMER_REAL)[0])"
    words = [*GPUDOCTOR, "exec", "--", sys.executable, "-c", left]
    done = subprocess.run(
        [sys.executable, "-c", alarm, *words], capture_output=True, text=True, check=False
    )

    assert 0 < float(done.stdout) <= 600


def test_nobody_reads_stderr(failing):
    """A log that is full or gone is no reason for the job to wait or to fail."""
    ours, theirs = os.pipe()
    os.write(theirs, bytes(fcntl.fcntl(ours, fcntl.F_GETPIPE_SZ)))
    words = [*GPUDOCTOR, "exec", "--deadline", "0.5", *failing("launch"), "--", "printf", "x"]

    full = subprocess.run(words, stdout=subprocess.PIPE, stderr=theirs, check=False, timeout=60)
    os.close(ours)
    gone = subprocess.run(words, stdout=subprocess.PIPE, stderr=theirs, check=False, timeout=60)
    os.close(theirs)

    assert [full.returncode, full.stdout, gone.returncode, gone.stdout] == [0, b"x", 0, b"x"]


def test_quiet_says_nothing_of_what_is_well(failing):
    assert run("-q", "--only", "shm-write", "--", "true").stderr == ""
    assert "site-fails" in run("-q", *failing("launch"), "--", "true").stderr


@pytest.mark.parametrize(
    ("owner", "blockers", "code"),
    [
        pytest.param("node", ["node"], 75, id="the one"),
        pytest.param("launch", ["node"], 0, id="another"),
        pytest.param("launch", ["node", "launch"], 78, id="one of two"),
    ],
)
def test_only_some_may_block(failing, owner, blockers, code):
    named = [word for blocker in blockers for word in ("--block-owner", blocker)]
    done = run("--policy", "block", *named, *failing(owner), "--", "true")

    assert done.returncode == code


@pytest.fixture
def counting(tmp_path):
    """Arguments and environment of a check that can tell how often it looked."""
    (tmp_path / "look.py").write_text(COUNTING)
    (tmp_path / "go").touch()
    place = tmp_path / "place"
    place.mkdir()
    bare = {name: value for name, value in os.environ.items() if "RANK" not in name}
    env = {**bare, "FOLDER": str(tmp_path), "XDG_RUNTIME_DIR": str(place)}
    return ["--checks", str(tmp_path), "--only", "site-look", "--"], env


def looked(folder: pathlib.Path) -> int:
    return len(list(folder.glob("looked-*")))


@pytest.mark.parametrize("name", ["LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"])
def test_one_rank_of_a_node_checks(counting, tmp_path, name):
    words, env = counting
    done = [run(*words, "printf", "x", env={**env, name: rank}) for rank in "012"]

    assert [(d.returncode, d.stdout) for d in done] == [(0, "x")] * 3
    assert [bool(d.stderr) for d in done] == [True, False, False]
    assert looked(tmp_path) == 1


def test_the_innermost_launcher_says_which_rank(counting, tmp_path):
    words, env = counting
    run(*words, "true", env={**env, "LOCAL_RANK": "1", "SLURM_LOCALID": "0"})

    assert looked(tmp_path) == 0


@pytest.mark.parametrize(("ill", "code"), [(False, 0), (True, 78)])
def test_ranks_that_may_be_blocked_wait_for_one_verdict(counting, tmp_path, ill, code):
    words, env = counting
    (tmp_path / "go").unlink()
    if ill:
        (tmp_path / "ill").touch()
    ranks = [
        subprocess.Popen(
            [*GPUDOCTOR, "exec", "--policy", "block", "--deadline", "60", *words, "printf", "x"],
            env={**env, "LOCAL_RANK": str(rank), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]

    def waits(process: subprocess.Popen) -> bool:
        links = pathlib.Path(f"/proc/{process.pid}/fd").iterdir()
        with contextlib.suppress(OSError):  # one was closed meanwhile
            return any(str(tmp_path / "place") in os.readlink(link) for link in links)
        return False

    while not all(waits(rank) for rank in ranks):
        assert all(rank.poll() is None for rank in ranks)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    said = [rank.communicate(timeout=60) for rank in ranks]

    assert [rank.returncode for rank in ranks] == [code] * 3
    assert [out for out, _ in said] == ["" if ill else "x"] * 3
    assert sum("site-look" in err or "1 ok" in err for _, err in said) == 1
    assert looked(tmp_path) == 1


def test_every_run_looks_unless_told(counting, tmp_path):
    words, env = counting
    for _ in range(2):
        run(*words, "true", env=env)

    assert looked(tmp_path) == 2


def test_a_restart_may_reuse_what_was_well(counting, tmp_path):
    words, env = counting
    first, second, other, changed = (
        run("--reuse", "600", *words, *command, env=environment)
        for command, environment in [
            (["printf", "x"], env),
            (["printf", "x"], {**env, "TORCHELASTIC_RESTART_COUNT": "1"}),
            (["printf", "y"], env),
            (["printf", "x"], {**env, "NCCL_DEBUG": "INFO"}),
        ]
    )

    assert "1 ok" in first.stderr
    assert "s ago, not checked again" in second.stderr
    assert "1 ok" in other.stderr
    assert "1 ok" in changed.stderr
    assert [d.stdout for d in (first, second, other, changed)] == ["x", "x", "y", "x"]
    assert looked(tmp_path) == 3


def test_what_was_not_well_is_looked_at_again(counting, tmp_path):
    words, env = counting
    (tmp_path / "ill").touch()
    for _ in range(2):
        assert run("--reuse", "600", "--policy", "block", *words, "true", env=env).returncode == 78

    assert looked(tmp_path) == 2


def spoil_open(place: pathlib.Path) -> None:
    (place / f"gpudoctor-{os.geteuid()}").mkdir()
    (place / f"gpudoctor-{os.geteuid()}").chmod(0o777)


def spoil_link(place: pathlib.Path) -> None:
    (place / "elsewhere").mkdir(mode=0o700)
    (place / f"gpudoctor-{os.geteuid()}").symlink_to(place / "elsewhere")


def spoil_file(place: pathlib.Path) -> None:
    (place / f"gpudoctor-{os.geteuid()}").touch()


@pytest.mark.parametrize("spoil", [spoil_open, spoil_link, spoil_file])
def test_a_place_that_others_could_write_to_is_not_used(counting, tmp_path, spoil):
    words, env = counting
    spoil(tmp_path / "place")
    for _ in range(2):
        assert run("--reuse", "600", *words, "true", env=env).returncode == 0

    assert looked(tmp_path) == 2


def test_what_is_kept_is_for_nobody_else(counting, tmp_path):
    words, env = counting
    run("--reuse", "600", *words, "true", env=env)
    (folder,) = (tmp_path / "place").iterdir()
    (file,) = folder.iterdir()

    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("text", ["", "nonsense", '{"code": "x"}', '{"code": 0, "clean": true}'])
def test_what_is_kept_may_be_broken(counting, tmp_path, text):
    words, env = counting
    run("--reuse", "1", *words, "true", env=env)
    (file,) = (tmp_path / "place").glob("*/*")
    file.write_text(text)

    assert "1 ok" in run("--reuse", "1", *words, "true", env=env).stderr


RANKS = '''
from gpudoctor import Finding, Fix, Workload, check, fail

@check(owner="job")
def site_ranks(workload: Workload) -> Finding:
    """It has ranks."""
    return fail(f"{workload.local_ranks} ranks on {workload.nodes} nodes", Fix(text="mend it"))
'''


@pytest.mark.parametrize(
    ("options", "words", "says"),
    [
        pytest.param([], ["torchrun", "--nproc_per_node=4", "x.py"], "4 ranks on 1", id="torchrun"),
        pytest.param([], ["torchrun", "--nnodes", "2", "x.py"], "1 ranks on 2", id="nodes"),
        pytest.param([], ["sh", "-c", "torchrun --nproc-per-node 3 x"], "3 ranks", id="in a shell"),
        pytest.param(
            ["--nproc-per-node", "8"], ["torchrun", "x.py"], "8 ranks on 1", id="the last word"
        ),
    ],
)
def test_the_command_says_how_many_ranks(tmp_path, options, words, says):
    (tmp_path / "ranks.py").write_text(RANKS)
    (tmp_path / "torchrun").write_text("#!/bin/sh\n")
    (tmp_path / "torchrun").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NTASKS_PER_NODE": "1"}
    chosen = ["--checks", str(tmp_path), "--only", "site-ranks"]
    done = run(*options, *chosen, "--", *words, env=env)

    assert done.returncode == 0
    assert says in done.stderr


@pytest.mark.parametrize("how", ["script", "module", "module in one word"])
@pytest.mark.parametrize("library", ["msgspec", "click"])
def test_a_gpudoctor_that_cannot_be_loaded_is_no_reason(tmp_path, gpudoctor, library, how):
    """PYTHONPATH is the job's, and may bring a library that is not for us."""
    (tmp_path / f"{library}.py").write_text("raise ImportError('of another Python')")
    in_one_word = [sys.executable, "-Bmgpudoctor"]
    ways = {"script": [gpudoctor], "module": GPUDOCTOR, "module in one word": in_one_word}
    done = subprocess.run(
        [*ways[how], "exec", "--policy", "block", "--", "sh", "-c", "echo x; exit 3"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (3, "x\n")
    assert done.stderr == "gpudoctor: not checked: ImportError: of another Python\n"


def test_a_program_that_imports_us_may_crash(tmp_path):
    program = tmp_path / "other"
    program.write_text("import gpudoctor\nraise ValueError('its own')\n")
    words = [sys.executable, str(program), "exec", "--", "echo", "x"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "ValueError: its own" in done.stderr
