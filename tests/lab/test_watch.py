"""`gpudoctor watch` on this machine, while real things go wrong."""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from .nvml import FAKE

EVERY = "0.05s"
PATIENCE = 60.0  # seconds of the tests; nothing is expected to take so long
BUS_ERROR = "RuntimeError: DataLoader worker (pid 213) is killed by signal: Bus error."
WORK = "while True: pass"
WAIT = "import sys; sys.stdin.readline(); "  # for a line, then do what follows

Start = Callable[..., "Watching"]


class Watching:
    """A `gpudoctor watch` that has had its first look, and what it says."""

    def __init__(self, command: list[str], **options) -> None:
        self.process = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, **options)
        self.said: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.began = self.process.stderr.readline()
        assert "watching every" in self.began

    def until(self, *words: str) -> str:
        """The first line with all these words, once it is said."""
        end = time.monotonic() + PATIENCE
        with self._more:
            while not (found := [line for line in self.said if all(w in line for w in words)]):
                assert self._more.wait(end - time.monotonic()), f"{words} not in {self.said}"
        return found[0]

    def end(self, number: int = signal.SIGINT) -> int:
        """Stop it, and say with which exit code it ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        code = self.process.wait(PATIENCE)
        self._reader.join()
        self.process.stderr.close()
        self.process.stdout.close()
        return code

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._more:
                self.said.append(line)
                self._more.notify_all()


@pytest.fixture
def watch(gpudoctor: str) -> Iterator[Start]:
    """`watch(*args)`: begins to watch, and is there when the first look is over."""
    with contextlib.ExitStack() as stack:

        def start(*args: object, before: tuple[str, ...] = (), **options) -> Watching:
            words = [*before, gpudoctor, "watch", "--every", EVERY, *map(str, args)]
            watching = Watching(words, **options)
            stack.callback(watching.end, signal.SIGKILL)
            return watching

        yield start


@pytest.fixture
def running() -> Iterator[Callable[..., subprocess.Popen]]:
    """`running(code)`: a Python at work, which reads from a pipe."""
    started: list[subprocess.Popen] = []

    def start(code: str, *, under: tuple[str, ...] = ()) -> subprocess.Popen:
        words = [*under, sys.executable, "-S", "-c", code]
        started.append(subprocess.Popen(words, stdin=PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def gpus(libnvidia_ml: Path, tmp_path: Path):
    """GPUs that change while they are watched: `gpus.set("gpu1.temp=95")`."""
    return Gpus(libnvidia_ml, tmp_path / "gpus.conf")


class Gpus:
    BUSY = ("gpu.util=97", "gpu.mem_used=60000000000", "gpu.throttle=0x4", "gpu.temp=71")

    def __init__(self, library: Path, config: Path) -> None:
        self._config = config
        self.env = {**os.environ, "LD_LIBRARY_PATH": str(library)}
        self.env |= {"FAKE_NVML_CONFIG": str(config), "FAKE_NVML_CHANGES": "1"}
        self.set()

    def set(self, *lines: str) -> None:
        """Two H100 at work, but for these lines; at once, so that no look sees a half."""
        text = "\n".join([(FAKE / "h100x2.conf").read_text(), *self.BUSY, *lines, ""])
        new = self._config.with_suffix(".new")
        new.write_text(text)
        new.replace(self._config)


def test_a_healthy_run_says_nothing(watch, running, gpus, tmp_path):
    log = tmp_path / "train.log"
    log.write_text("")
    ranks = [running(WORK), running(WORK)]
    pids = ",".join(str(rank.pid) for rank in ranks)

    watching = watch(
        *("--pid", pids, "--log", log, "--checkpoint-dir", tmp_path, "--for", "1s"), env=gpus.env
    )
    with log.open("a") as file:
        for step in range(100):
            file.write(f"step {step} loss {2.3 - step / 100:.3f} lr 3.0e-4 tokens/s 18234\n")

    assert watching.ended() == 0
    assert watching.said == []
    assert "2 processes, 2 GPUs" in watching.began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_its_usual_end(watch, number):
    watching = watch()

    assert watching.end(number) == 0
    assert watching.said == []


def test_shared_memory_that_fills(watch, require):
    require(os.geteuid() == 0, "another's /dev/shm is filled as root only")
    mount = "mount -t tmpfs -o size=8m tmpfs /dev/shm"
    before = ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh")
    watching = watch(before=before)
    assert "/dev/shm (8 MiB)" in watching.began
    file = Path(f"/proc/{watching.process.pid}/root/dev/shm/file")

    file.write_bytes(bytes(7 << 20))
    watching.until("warning", "/dev/shm: 8", "% of 8 MiB used")
    file.unlink()
    watching.until("over", "/dev/shm", "88 % full at most")
    with contextlib.suppress(OSError):
        file.write_bytes(bytes(9 << 20))
    watching.until("error", "/dev/shm: 100 % of 8 MiB used", "Bus error")

    assert watching.end() == 1


def test_a_log_that_comes_late(watch, tmp_path):
    log = tmp_path / "train.log"
    watching = watch("--log", log)

    log.write_text(f"starting\n{BUS_ERROR}\n")
    line = watching.until("error", str(log))

    assert "DataLoader worker 213" in line
    assert watching.end() == 1


def test_a_rank_that_fails(watch, running):
    first, second = running(WORK), running(WAIT + "sys.exit(3)")
    watching = watch("--pid", first.pid, "--pid", second.pid)

    second.communicate("\n")
    line = watching.until(f"process {second.pid}", "ended")

    assert "exit code 3, 1 other still there" in line or "not known" in line


def test_a_rank_that_is_killed_is_told_by_who_is_no_parent(watch, running):
    """It stays a zombie until its parent asks, and a zombie tells how it died."""
    first, second = running(WORK), running(WORK)
    watching = watch("--pid", f"{first.pid},{second.pid}")

    second.kill()
    line = watching.until(f"error   process {second.pid}")
    first.kill()

    assert "killed by SIGKILL" in line
    assert watching.ended() == 1


def test_the_end_of_all_processes_is_the_end(watch, running):
    rank = running(WAIT)
    watching = watch("--pid", rank.pid)

    rank.communicate("\n")

    assert watching.ended() == 0
    assert watching.said == []


def test_a_rank_that_is_stopped(watch, running):
    rank = running(WORK)
    watching = watch("--pid", rank.pid)

    rank.send_signal(signal.SIGSTOP)
    watching.until("warning", f"process {rank.pid}", "stopped (state T)", f"kill -CONT {rank.pid}")
    rank.send_signal(signal.SIGCONT)
    watching.until("over", f"process {rank.pid}", "runs again")

    assert watching.end() == 0


def test_processes_are_found_by_their_command_line(watch, running):
    mark = f"gpudoctor lab {uuid.uuid4()}"
    rank = running(f"'{mark}'; {WAIT} import os; os.abort()")
    watching = watch("--match", mark)
    assert " 1 process," in watching.began

    rank.stdin.write("\n")
    rank.stdin.flush()

    watching.until(f"error   process {rank.pid}", "killed by SIGABRT")
    assert watching.ended() == 1


def test_a_rank_killed_at_the_limit_of_its_cgroup(watch, running, cgroup):
    group = cgroup("memory", str(32 << 20))
    with contextlib.suppress(OSError):  # of version 1, where swap is counted apart
        (group.path / "memory.memsw.limit_in_bytes").write_text(str(32 << 20))
    rank = running(WAIT + "x = bytearray(200 << 20)", under=tuple(group.enter))
    other = running(WORK)
    end = time.monotonic() + PATIENCE
    while str(rank.pid) not in (group.path / "cgroup.procs").read_text().split():
        assert time.monotonic() < end
    watching = watch("--pid", f"{rank.pid},{other.pid}")
    assert "the memory limit of 32 MiB" in watching.began

    rank.stdin.write("\n")
    rank.stdin.flush()

    watching.until("error", "memory of process", "killed 1 process at the limit of 32 MiB")
    watching.until("error", f"process {rank.pid}", "killed by SIGKILL")
    assert watching.end() == 1
    rank.wait()


def test_gpus_that_go_wrong_one_thing_after_the_other(watch, gpus):
    watching = watch(env=gpus.env)

    gpus.set("gpu1.throttle=0x48")
    watching.until("error", "GPU 1: slowed down", "hw slowdown, hw thermal", "check gpu-throttle")
    gpus.set()
    watching.until("over", "GPU 1: at full speed again")
    gpus.set("gpu0.ecc_uncorr_vol=2", "gpu1.remap_pending=1")
    watching.until("error", "GPU 0: 2 uncorrected memory errors since the start")
    watching.until("warning", "GPU 1: bad memory waits")
    gpus.set("gpu0.ecc_uncorr_vol=2", "gpu1.err.*=15")
    watching.until("error", "GPU 1: does not answer: NVML_ERROR_GPU_IS_LOST", "gpu-recovery")

    assert watching.end() == 1
    assert len(watching.said) == 5


def test_a_gpu_that_idles_and_then_all(watch, gpus):
    watching = watch("--patience", "0.3s", env=gpus.env)

    gpus.set("gpu1.util=0")
    watching.until("warning", "GPU 1: idle for", "while 1 other works")
    gpus.set()
    watching.until("over", "GPU 1: at work again")
    gpus.set("gpu.util=0")
    watching.until("warning", "all GPUs: 2 GPUs idle", "their memory still taken")

    assert watching.end() == 0


def test_a_gpu_that_hangs_holds_nobody(watch, gpus):
    watching = watch(env=gpus.env)

    gpus.set("gpu1.hang.nvmlDeviceGetTemperatureV=3600", "gpu1.hang.nvmlDeviceGetTemperature=3600")
    watching.until("error", "GPU 1: does not answer: no answer in 3 s")
    gpus.set("gpu0.ecc_uncorr_vol=1")
    watching.until("error", "GPU 0: 1 uncorrected")

    assert watching.end() == 1


def test_a_library_that_crashes_is_gone_on_without(watch, gpus):
    watching = watch(env=gpus.env)

    gpus.set("crash.nvmlDeviceGetCount_v2=1")
    watching.until("warning", "gpus: cannot be watched now: looking crashed: SIGABRT")

    assert watching.end() == 3


def test_a_link_that_goes_down_and_one_that_drops(watch, zoo, gpudoctor):
    a, b = zoo.pair()
    watching = watch(before=tuple(a.words()))
    assert "eth0" in watching.began

    b.ip("link set eth0 down")
    watching.until("error", "eth0: has no carrier", "gpudoctor check net-link")
    b.ip("link set eth0 up")
    watching.until("over", "eth0: carries again")
    flood = "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
    flood += "s.bind(('eth0', 0))\nframe = b'\\xff' * 6 + bytes(6) + b'\\x88\\xb5' + bytes(50)\n"
    flood += "while True: s.send(frame)"
    b.start(sys.executable, "-S", "-c", flood)
    watching.until("warning", "eth0:", "packets dropped beside")

    assert watching.end() == 1


def test_lines_for_programs(watch, tmp_path):
    log = tmp_path / "train.log"
    command = [sys.executable, "-m", "gpudoctor", "watch", "-f", "json", "--every", EVERY]
    with subprocess.Popen(
        [*command, "--log", str(log)], stdout=PIPE, stderr=DEVNULL, text=True
    ) as process:
        first = json.loads(process.stdout.readline())
        log.write_text(BUS_ERROR + "\n")
        event = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        last = json.loads(process.stdout.readline())

    assert (first["schema"], first["event"]) == ("gpudoctor.watch/1", "start")
    assert str(log) in first["watched"]
    assert (event["event"], event["id"], event["level"]) == (
        "once",
        "dataloader-bus-error",
        "error",
    )
    assert event["check"] == "shm-size"
    assert (last["event"], last["why"], last["exit_code"]) == ("end", "interrupted", 1)
    assert process.returncode == 1


def test_it_ends_when_nobody_listens(gpudoctor):
    """Also where there is nothing to say, and the next look is far."""
    command = [gpudoctor, "watch", "--every", "1h"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE) as process:
        process.stderr.readline()
        process.stdout.close()

        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--every", "soon"], "'soon' is not a time such as 10s, 2m or 1.5h"),
        (["--pid", "99999999"], "there is no process 99999999"),
        (["--match", "("], "is no regular expression"),
        (["--log", "/"], "--log / cannot be read: a directory"),
    ],
)
def test_usage(gpudoctor, args, says):
    ended = subprocess.run([gpudoctor, "watch", *args], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 2
    assert says in " ".join(ended.stderr.split())


def test_no_child_is_left(watch, gpus, tmp_path):
    watching = watch("--log", tmp_path / "log", "--checkpoint-dir", tmp_path, env=gpus.env)
    children = Path(f"/proc/{watching.process.pid}/task/{watching.process.pid}/children")
    pids = children.read_text().split()
    assert len(pids) == 5

    watching.process.kill()
    watching.process.wait()
    end = time.monotonic() + PATIENCE
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < end, "a child outlives what it is for"
        time.sleep(0.01)


def test_it_is_light(gpus, gpudoctor, tmp_path, capsys):
    """With 8 GPUs, processes, and a log of a hundred lines a second, in CPU time of all of it."""
    log = tmp_path / "train.log"
    log.write_text("")
    gpus.set("count=8")
    command = [gpudoctor, "watch", "--every", "0.1s", "-f", "json", "--match", "python"]
    command += ["--log", str(log), "--checkpoint-dir", str(tmp_path)]

    def cost(lines: int, looks_of_lines: int) -> tuple[float, int, int]:
        """CPU seconds, looks, and bytes of memory that are its own, children included."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with subprocess.Popen(command, env=gpus.env, stdout=PIPE, stderr=DEVNULL) as process:
            process.stdout.readline()
            for number in range(looks_of_lines):
                with log.open("a") as file:
                    file.writelines(f"step {number}{n} loss 2.{n} lr 3e-4\n" for n in range(lines))
                time.sleep(0.1)
            children = f"/proc/{process.pid}/task/{process.pid}/children"
            pids = [str(process.pid), *Path(children).read_text().split()]
            memory = sum(_own_bytes(pid) for pid in pids)
            process.send_signal(signal.SIGINT)
            end = json.loads(process.stdout.read().splitlines()[-1])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds, end["looks"], memory

    start, few, _ = cost(1000, 2)
    seconds, looks, memory = cost(1000, 42)
    share = (seconds - start) / (looks - few) / 10.0

    with capsys.disabled():
        print(f"\nlab: a look costs {share * 10_000:.1f} ms of CPU, {share:.2%} of a core at 10 s")
        print(f"lab: watching takes {memory / (1 << 20):.0f} MiB, {start:.2f} s of CPU to start")
    assert share <= 0.01
    assert memory <= 150 << 20


def _own_bytes(pid: str) -> int:
    """Memory of a process; what it shares with others is divided among them."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (found,) = re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found) << 10
