"""Nothing crashes: a clear message, a documented exit code, and never a traceback."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gpudoctor import Status

DOCUMENTED = {0, 1, 2, 3}
JSON = ["check", "-f", "json"]


def assert_calm(ended: subprocess.CompletedProcess) -> None:
    said = ended.stdout + ended.stderr

    assert ended.returncode in DOCUMENTED, said
    assert "Traceback" not in said
    assert "Error in sys" not in said


def assert_judged(ended: subprocess.CompletedProcess) -> None:
    """It ran to its end, and its report is whole."""
    assert_calm(ended)
    report = json.loads(ended.stdout)

    assert ended.returncode == report["exit_code"] != 2
    assert report["run"]["complete"] is True
    assert report["nodes"][0]["results"]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("mount -t tmpfs none /proc", id="no proc"),
        pytest.param("mount -t tmpfs none /sys", id="no sys"),
        pytest.param("mount -t tmpfs none /dev", id="no dev"),
        pytest.param("for d in proc sys dev; do mount -t tmpfs none /$d; done", id="nothing"),
        pytest.param("mount -t tmpfs none /etc", id="no etc"),
        pytest.param(
            "mount -t proc -o hidepid=2 none /proc",
            id="hidepid",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="mounting /proc needs root"),
        ),
        pytest.param("mount --bind / / && mount -o remount,bind,ro /", id="read-only root"),
        pytest.param("mount -t tmpfs -o size=4k none $TMPDIR; yes >$TMPDIR/x || :", id="full tmp"),
        pytest.param("mount -t tmpfs -o ro,noexec none $TMPDIR", id="read-only tmp"),
        pytest.param("mount -t tmpfs -o size=4k none /dev/shm; echo x >/dev/shm/x", id="full shm"),
        pytest.param("mount -t tmpfs -o ro none /dev/shm", id="read-only shm"),
        pytest.param("mkdir $TMPDIR/gone; cd $TMPDIR/gone; rmdir $TMPDIR/gone", id="no cwd"),
        pytest.param("unset HOME", id="no HOME"),
        pytest.param("export HOME=/nonexistent XDG_CACHE_HOME=relative TMPDIR=", id="odd paths"),
        pytest.param("export HOME=$(printf 'a\\377\\n\\033[31mb')", id="bytes in HOME"),
        pytest.param("ulimit -n 12", id="12 files"),
        pytest.param("ulimit -v 200000", id="200 MB of addresses"),
        pytest.param("ulimit -f 0", id="no file may grow"),
        pytest.param("ulimit -c 0; trap '' CHLD", id="SIGCHLD ignored"),
        pytest.param("exec </dev/null; umask 0777", id="umask 777"),
    ],
)
def test_machine(script, in_mounts, gpudoctor, tmp_path):
    ended = in_mounts(script, [gpudoctor, *JSON], env={**os.environ, "TMPDIR": str(tmp_path)})

    assert_judged(ended)


@pytest.mark.parametrize("format_", ["text", "json", "html"])
@pytest.mark.parametrize(
    "env",
    [
        pytest.param({}, id="nothing set"),
        pytest.param({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, id="C"),
        pytest.param({"LC_ALL": "xx_YY.UTF-8", "LANG": "nonsense"}, id="no such locale"),
        pytest.param({"PYTHONIOENCODING": "ascii"}, id="ascii"),
        pytest.param({"TERM": "dumb", "COLUMNS": "0"}, id="dumb"),
        pytest.param({"COLUMNS": "x", "LINES": "-1", "FORCE_COLOR": "1"}, id="odd terminal"),
        pytest.param({"PYTHONOPTIMIZE": "2"}, id="no docstrings"),
        pytest.param({"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}, id="warnings are errors"),
    ],
)
def test_environment(env, format_, gpudoctor):
    words = [gpudoctor, "check", "-f", format_]
    ended = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)

    assert_calm(ended)
    assert ended.returncode != 2
    assert ended.stdout.strip()


@pytest.mark.parametrize(
    "streams",
    ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full"],
)
@pytest.mark.parametrize("format_", ["text", "json"])
def test_streams(streams, format_, gpudoctor, tmp_path):
    script = f'unset PYTHONUNBUFFERED; "$0" check -f {format_} -o json={tmp_path}/report {streams}'
    words = ["sh", "-c", script, gpudoctor]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    report = json.loads((tmp_path / "report").read_text())

    assert_calm(ended)
    assert ended.returncode == (3 if "/dev/full" in streams else report["exit_code"])
    if "/dev/full" in streams:
        assert "stdout could not be written: No space left on device" in ended.stderr


def test_a_reader_that_leaves_early(gpudoctor):
    """`| head -1`: what was left out was not wanted."""
    words = ["bash", "-c", '"$0" check -v -v | head -1; exit ${PIPESTATUS[0]}', gpudoctor]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert_calm(ended)
    assert "Broken pipe" not in ended.stderr


@pytest.mark.parametrize(
    "error", ["ImportError('broken')", "KeyError('libamd_smi.so')", "SystemExit(9)"]
)
@pytest.mark.parametrize("module", ["psutil", "pynvml", "amdsmi", "netifaces"])
def test_broken_library(module, error, gpudoctor, tmp_path):
    (tmp_path / f"{module}.py").write_text(f"print('noise')\nraise {error}\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}

    ended = subprocess.run([gpudoctor, *JSON], env=env, capture_output=True, text=True, timeout=60)

    assert_judged(ended)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(random.Random(1).randbytes(10 << 20), "not JSON", id="10 MB of noise"),
        pytest.param(b"0" + bytes(100), "not a facts file", id="a number and noise"),
        pytest.param(b"A" * (10 << 20), "not JSON", id="10 MB of A"),
        pytest.param(b"[" * (10 << 20), "", id="10 MB of brackets"),
        pytest.param(b'{"schema":"gpudoctor.facts/1","nodes":' + b"[" * 5000, "", id="deep"),
        pytest.param(b'{"schema":"gpudoctor.facts/1","nodes":[{"name":"a"', "", id="truncated"),
        pytest.param(b"\x7fELF\x02\x01\x01" + bytes(4096), "not JSON", id="a program"),
        pytest.param(b"\xff\xfe{\x00}\x00", "not JSON", id="UTF-16"),
        pytest.param(b"null", "not a facts file", id="null"),
        pytest.param(b'{"schema": "other/1", "nodes": []}', "schema", id="another schema"),
        pytest.param(b'{"schema": "gpudoctor.facts/9", "nodes": []}', "schema", id="a later one"),
        pytest.param(b'{"schema":"gpudoctor.facts/1","nodes":1}', "nodes", id="odd nodes"),
        pytest.param(
            b'{"schema":"gpudoctor.facts/1","nodes":[{"name":"a","facts":{"shm":{"total_bytes":"x"}}}]}',
            '"shm"',
            id="odd fact",
        ),
    ],
)
def test_facts(raw, says, gpudoctor, tmp_path):
    (tmp_path / "facts").write_bytes(raw)
    words = [gpudoctor, "check", "--facts", str(tmp_path / "facts")]

    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert_calm(ended)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert str(tmp_path / "facts") in ended.stderr
    assert len(ended.stderr) < 1000
    assert not ended.stdout


@pytest.mark.parametrize("path", ["/nonexistent", "/", "/proc/self/mem"])
def test_facts_that_cannot_be_read(path, gpudoctor):
    words = [gpudoctor, "check", "--facts", path]

    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert_calm(ended)
    assert ended.returncode == 2
    assert path in ended.stderr


def test_uid_without_a_name(installed, require):
    require(os.geteuid() == 0 and shutil.which("setpriv"), "becoming another user needs root")
    become = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"]
    python = str(installed / "bin/python")

    ended = subprocess.run(
        [*become, python, "-m", "gpudoctor", *JSON],
        env={"PATH": os.environ["PATH"]},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert_judged(ended)


PLUGIN = """
import os, time

from gpudoctor import Fact, Finding, Machine, check, ok, probe

class Slow(Fact, frozen=True):
    pass

class Quick(Fact, frozen=True):
    pass

@probe(isolated=True, timeout=60)
def slow(machine: Machine) -> Slow:
    open(os.environ["STARTED"] + "/slow", "w").close()
    time.sleep(60)
    return Slow()

@probe()
def quick(machine: Machine) -> Quick:
    open(os.environ["STARTED"] + "/quick", "w").close()
    return Quick()

@check(owner="node")
def plugin_slow(slow: Slow) -> Finding:
    \"\"\"It is slow.\"\"\"
    return ok("seen")

@check(owner="node")
def plugin_quick(quick: Quick) -> Finding:
    \"\"\"It is quick.\"\"\"
    return ok("seen")
"""


@pytest.fixture
def slow(gpudoctor, tmp_path):
    """Start a check that waits for a slow probe; returns once that is all it waits for."""
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "slow.py").write_text(PLUGIN)
    started = tmp_path / "started"
    started.mkdir()
    env = {**os.environ, "STARTED": str(started)}
    processes = []

    def start(*under: str) -> subprocess.Popen:
        words = [*under, gpudoctor, *JSON, "--checks", str(tmp_path / "checks")]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(words, env=env, stdout=pipe, stderr=pipe, text=True))
        while len(list(started.iterdir())) < 2:
            assert processes[-1].poll() is None, processes[-1].communicate()
            time.sleep(0.01)
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def assert_partial(process: subprocess.Popen, number: int) -> None:
    out, err = process.communicate(timeout=30)
    report = json.loads(out)
    results = {result["id"]: result for result in report["nodes"][0]["results"]}

    assert process.returncode == 128 + number
    assert report["run"]["complete"] is False
    assert results["plugin-slow"]["status"] == Status.ERROR.value
    assert "interrupted" in results["plugin-slow"]["reason"]
    assert results["plugin-quick"]["status"] == Status.PASS.value
    assert "interrupted" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number, slow):
    process = slow()
    process.send_signal(number)

    assert_partial(process, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_as_pid_1(number, slow, require):
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        unshare.append("--map-root-user")
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    require(tried.returncode == 0, f"no pid namespace to be had: {tried.stderr.strip()}")

    process = slow(*unshare)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), number)

    assert_partial(process, number)
