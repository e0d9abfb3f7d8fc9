"""probes/watched: what `gpudoctor watch` looks at, look after look."""

import os
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from subprocess import PIPE

import pytest

from gpudoctor import Absent, Machine
from gpudoctor.probes.amd_gpus import amd_gpus
from gpudoctor.probes.watched.gpus import Amd
from gpudoctor.probes.watched.job import JobSource
from gpudoctor.probes.watched.kernel import KernelSource
from gpudoctor.probes.watched.links import NetworkSource, RdmaSource
from gpudoctor.probes.watched.logs import Followed, LogsSource
from gpudoctor.probes.watched.places import PlacesSource
from gpudoctor.probes.watched.staying import Staying
from tests.lab.fake_sysfs.amd import mi300x, plant

from . import record

RDMA = Path(__file__).parent / "recorded" / "rdma" / "roce.txt"
PATIENCE = 60.0  # seconds of the tests; nothing is expected to take so long


def answered(source: Staying):
    """What a source answers, however long it takes."""
    source.ask()
    while source.asked and not source.gone:
        assert select.select([source.fileno()], [], [], PATIENCE)[0], "no answer"
        source.read()
    return source.take()


@pytest.fixture
def staying():
    """`staying(look)`: a child that looks by a function made by another."""
    begun: list[Staying] = []

    def begin(make, kind=int, first=PATIENCE) -> Staying:
        source = Staying("it", make, kind, first)
        source.begin(begun)
        begun.append(source)
        return source

    yield begin
    for source in begun:
        source.end()


def test_one_child_answers_every_time(staying):
    def make():
        numbers = iter(range(10))
        return lambda: next(numbers) + 1000 * os.getpid()

    source = staying(make)
    first, second = answered(source), answered(source)

    assert second == first + 1
    assert first // 1000 != os.getpid()


def test_an_exception_is_told_and_the_child_stays(staying):
    def fail():
        raise RuntimeError("no such thing")

    source = staying(lambda: fail)

    assert answered(source) == Absent("looking failed: RuntimeError: no such thing", broken=True)
    assert source.idle


def test_a_child_that_crashes_is_gone(staying):
    source = staying(lambda: lambda: os.kill(os.getpid(), signal.SIGKILL))

    assert answered(source) is None
    assert source.gone == "looking crashed: SIGKILL"
    assert not source.idle


def test_a_child_that_hangs_is_late(staying):
    source = staying(lambda: lambda: time.sleep(3600), first=0.01)
    source.ask()
    time.sleep(0.02)

    assert source.late >= 0.01
    assert not source.idle
    source.end()  # at once


def test_a_long_answer_comes_whole(staying):
    source = staying(lambda: lambda: ["x" * 1000] * 5000, kind=list[str])

    assert len(answered(source)) == 5000


def test_lines_of_every_kind_of_file_are_followed(tmp_path):
    """Rotation, cutting, a line in two parts, and progress bars: none is missed or told twice."""
    log = tmp_path / "train.log"
    log.write_text("before\n")
    followed = Followed(str(log))

    def new() -> list[str]:
        text = b"".join(followed.texts(time.monotonic() + PATIENCE)).decode()
        return [line for line in text.split("\n") if line]

    assert new() == []
    with log.open("a") as file:
        file.write("one\ntw")
    assert new() == ["one"]
    with log.open("a") as file:
        file.write("o\n10%\r20%\rthree\n")
    assert new() == ["two", "10%", "20%", "three"]
    log.rename(tmp_path / "train.log.1")
    assert new() == []
    with (tmp_path / "train.log.1").open("a") as file:
        file.write("last words\n")
    log.write_text("rotated\n")
    assert new() == ["last words", "rotated"]
    log.write_text("cut\n")
    assert new() == ["cut"]
    log.unlink()
    assert new() == []
    log.write_text("again\n")
    assert new() == ["again"]


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\x01\n" * (1 << 20), id="short lines"),
        pytest.param(bytes(range(256)) * (8 << 12), id="binary"),
        pytest.param(b"\0" * (3 << 20), id="no end of a line"),
    ],
)
def test_a_line_is_found_in_whatever_comes(tmp_path, noise):
    log = tmp_path / "train.log"
    log.write_text("")
    source = LogsSource([str(log)])
    log.write_bytes(noise + b"\ntorch.OutOfMemoryError: CUDA out of memory.\n")
    told = [each for _ in range(9) for each in source().told]

    assert [(each.log, each.id) for each in told] == [(str(log), "cuda-out-of-memory-other")]


def test_logs_that_cannot_be_read(tmp_path):
    source = LogsSource([str(tmp_path / "train.log"), str(tmp_path)])
    unread = source().unread

    assert unread == {str(tmp_path / "train.log"): "not there yet", str(tmp_path): "a directory"}


def test_the_kernels_log_from_now_on(require):
    require(os.access("/dev/kmsg", os.R_OK | os.W_OK), "the kernel's log is not for us")
    source = KernelSource()
    words = f"gpudoctor lab: nothing happened ({os.getpid()})"
    Path("/dev/kmsg").write_text(f"{words}\n")

    assert [line for line in source() if line.endswith(words)]
    assert not [line for line in source() if line.endswith(words)]


@pytest.mark.parametrize(
    ("match", "line", "counts"),
    [
        pytest.param("train.py", ["python", "train.py"], True, id="a rank"),
        pytest.param("train.py", ["vim", "train.py"], False, id="an editor"),
        pytest.param("-f train", ["tail", "-f", "train.log"], False, id="a pager"),
        pytest.param(
            "python",
            ["python", "-c", "from multiprocessing.spawn import ..."],
            False,
            id="a loader",
        ),
        pytest.param(
            "spawn_main",
            ["python", "-c", "from multiprocessing.spawn import spawn_main"],
            True,
            id="mp.spawn",
        ),
    ],
)
def test_which_processes_a_pattern_means(tmp_path, match, line, counts):
    folder = tmp_path / "proc/77"
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"77 (x) S 1 {' 0' * 49}")
    (folder / "cmdline").write_text("\0".join(line))
    found = JobSource(Machine(str(tmp_path)), match=match)().processes

    assert bool(found) == counts


def test_processes_come_and_go():
    mark = f"gpudoctor {uuid.uuid4()}"
    source = JobSource(Machine(), match=mark)
    assert source().processes == ()

    code = f"'{mark}'; import sys; print(flush=True); sys.stdin.readline(); sys.exit(5)"
    command = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE) as process:
        process.stdout.readline()
        (found,) = source().processes
        assert (found.pid, found.ended, found.cpu_seconds >= 0) == (process.pid, False, True)
        process.stdin.write(b"\n")
        process.stdin.flush()
        # It ends, and stays there as a zombie until somebody asks for it.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        (found,) = source().processes

        assert (found.ended, found.status) in [(True, 5 << 8), (True, None)]
    (gone,) = source().processes
    assert (gone.ended, gone.status) == (True, found.status)


def test_what_the_job_shares():
    job = JobSource(Machine(), [os.getpid()])()

    assert [process.pid for process in job.processes] == [os.getpid()]
    assert [space.path for space in job.shm] == ["/dev/shm"] or not Path("/dev/shm").exists()
    assert len(job.memory) <= 1  # both are in one cgroup


def test_space_of_a_directory_that_is_not_made_yet(tmp_path):
    here, there = PlacesSource([str(tmp_path), str(tmp_path / "not" / "yet")])()

    assert here.total_bytes == there.total_bytes > 0


def test_network():
    found = NetworkSource(Machine())()

    if not isinstance(found, Absent):  # as on a laptop with its radio off
        assert "lo" not in {link.name for link in found}


def test_rdma_ports(tmp_path):
    record.plant(RDMA.read_text(), tmp_path)
    ports = RdmaSource(Machine(str(tmp_path)))()

    assert len(ports) >= 2
    assert {port.state for port in ports} == {"ACTIVE"}
    assert all("port_xmit_packets" in port.counters for port in ports)


def test_amd(tmp_path):
    machine = Machine(str(plant(tmp_path, mi300x())))
    look = Amd(machine, list(amd_gpus(machine).devices))
    first, second = look()
    assert (first.index, first.temperature_c, first.ecc_uncorrected) == (0, 45, 0)
    assert first.memory_used_bytes == 298844160
    assert not first.lost

    folder = tmp_path / "sys/bus/pci/devices" / second.bus_id
    (folder / "current_link_width").write_text("63\n")
    assert "fell off the PCI bus" in look()[1].lost
    (folder / "current_link_width").unlink()
    (folder.resolve()).rename(tmp_path / "gone")
    assert look()[1].lost == "it is not on the bus any more"
