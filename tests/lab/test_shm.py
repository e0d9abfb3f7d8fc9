"""`gpudoctor shm` against real DataLoaders: predicted, measured, and in containers of that size."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gpudoctor import Workload, shm_need
from gpudoctor.registry import get
from gpudoctor.rules.sizing import BASE

from .conftest import INSIDE, python_of, read_only

HERE = Path(__file__).parent
MIB = 1 << 20
TMPFS = "mount -t tmpfs -o size=2g none /dev/shm"

JOBS: dict[str, dict[str, Any]] = {
    "2 workers": {"workers": 2, "prefetch": 2, "batch_bytes": 8 * MIB},
    "4 workers": {"workers": 4, "prefetch": 2, "batch_bytes": 8 * MIB},
    "4 ahead each": {"workers": 4, "prefetch": 4, "batch_bytes": 4 * MIB},
    "1 worker, large batches": {"workers": 1, "prefetch": 2, "batch_bytes": 24 * MIB},
    "by file names": {
        "workers": 3,
        "prefetch": 2,
        "batch_bytes": 8 * MIB,
        "strategies": ["file_system"],
    },
    "batches of samples": {"workers": 2, "prefetch": 3, "batch_bytes": 6 * MIB, "batch": 16},
    "two loaders": {"workers": 2, "prefetch": 2, "batch_bytes": 8 * MIB, "loaders": 2},
    "two ranks": {"workers": 2, "prefetch": 2, "batch_bytes": 8 * MIB, "ranks": 2},
    "a batch fetched ahead": {"workers": 2, "prefetch": 2, "batch_bytes": 8 * MIB, "ahead": 1},
}


def predicted(job: dict[str, Any], more: int = 0) -> int:
    """Without the reserve for others, for a loop that holds no more than one batch."""
    told = {name: job[name] for name in ("workers", "prefetch", "batch_bytes")}
    told["loaders"] = job.get("loaders", 1)
    workload = Workload().told({**told, "nodes": 1}, "test")
    held = 1 + job.get("ahead", 0) + more
    return shm_need(workload, held=held, jobs=job.get("ranks", 1)).bytes - BASE


@pytest.fixture(scope="module")
def peaks(in_mounts, real_torch) -> dict[str, tuple[int, int]]:
    """The most that each job had in a /dev/shm of its own: at its first step, and later."""
    jobs = [{**job, "expected": predicted(job)} for job in JOBS.values()]
    words = [str(real_torch), "-W", "ignore", str(HERE / "loaders.py"), json.dumps(jobs)]
    ended = in_mounts(TMPFS, words, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return dict(zip(JOBS, json.loads(ended.stdout), strict=True))


@pytest.mark.parametrize("name", JOBS)
def test_the_predicted_peak_is_the_measured_one(name, peaks):
    steady, peak = peaks[name]

    assert steady == pytest.approx(predicted(JOBS[name]), rel=0.1)
    # Who is interrupted between two steps holds the batch before as well, for that long.
    assert steady <= peak <= predicted(JOBS[name], more=1) * 1.02


FULL: dict[str, Any] = {
    "workers": 3,
    "prefetch": 2,
    "batch_bytes": 8 * MIB,
    "ranks": 2,
    "wait": True,
}
FULL["strategies"] = ["file_descriptor", "file_system"]


class Stopped:
    """A job that has stopped while its loaders were full: all who look see the same."""

    def __init__(self, job: subprocess.Popen[str]) -> None:
        words = job.stdout.readline().split()
        assert words[:1] == ["full"], job.stderr.read()
        self.job, self.ranks = job, [int(word) for word in words[1:]]
        for rank in self.ranks:
            os.killpg(rank, signal.SIGSTOP)

    @property
    def members(self) -> dict[int, list[int]]:
        """Each rank and its children."""
        found = {}
        for rank in self.ranks:
            children = Path(f"/proc/{rank}/task/{rank}/children").read_text().split()
            found[rank] = [rank, *map(int, children)]
        return found


@pytest.fixture
def stopped(require, real_torch) -> Iterator[Stopped]:
    require(os.geteuid() == 0, "only root may ask for the pages of what is mapped and deleted")
    job = {**FULL, "expected": predicted(FULL)}
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    words += [f'{TMPFS}\nexec "$@"', "sh", str(real_torch), "-W", "ignore"]
    words += [str(HERE / "loaders.py"), json.dumps([job])]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        found = Stopped(process)
        yield found
        for rank in found.ranks:
            os.killpg(rank, signal.SIGCONT)
    finally:
        process.communicate(timeout=60)


def test_measured_as_by_hand(stopped, gpudoctor):
    words = [gpudoctor, "shm", "--measure", *map(str, stopped.ranks), "-f", "json"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    by_descriptor, _ = stopped.ranks
    by_hand, device = {}, os.stat(f"/proc/{stopped.job.pid}/root/dev/shm")
    for rank, members in stopped.members.items():
        by_hand[rank] = {
            (stat.st_dev, stat.st_ino): stat.st_blocks * 512
            for pid in members
            for folder in ("map_files", "fd")
            for link in Path(f"/proc/{pid}/{folder}").iterdir()
            if (stat := _stat(link)) and stat.st_dev == device.st_dev
        }
    place = os.statvfs(f"/proc/{stopped.job.pid}/root/dev/shm")
    used = (place.f_blocks - place.f_bfree) * place.f_frsize

    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    found = {each["pid"]: each for each in answer["measured"]["processes"]}
    assert answer["processes"] == len(stopped.ranks)
    assert answer["measured"]["places"][0]["used_bytes"] == used
    for rank, members in stopped.members.items():
        for pid in members:
            status = Path(f"/proc/{pid}/status").read_text()
            assert found[pid]["rss_shmem_bytes"] == _kib(status, "RssShmem") * 1024
            assert found[pid]["rank"] == rank
    assert found[by_descriptor]["family_bytes"] == sum(by_hand[by_descriptor].values())
    # Nobody holds what waits in a queue of torch's other strategy, and yet it is the job's.
    assert answer["measured"]["held_bytes"] == used
    assert used == pytest.approx(predicted(FULL), rel=0.1)


def _stat(link: Path) -> os.stat_result | None:
    try:
        return os.stat(link)
    except OSError:  # a socket, or closed
        return None


def _kib(status: str, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert match
    return int(match[1])


def test_watched_until_it_ends(gpudoctor, real_torch, in_mounts):
    job = {"workers": 2, "prefetch": 2, "batch_bytes": 24 * MIB, "hold": 1}
    job["expected"] = predicted(job)
    train = [str(real_torch), "-W", "ignore", str(HERE / "loaders.py"), json.dumps([job])]
    script = f'"$@" >/dev/null & {gpudoctor} shm --measure $! --watch 60 --processes 2 -f json'
    ended = in_mounts(TMPFS.replace("2g", "148m"), ["sh", "-c", script, "sh", *train], timeout=120)
    answer = json.loads(ended.stdout)

    most = predicted(job, more=1) * 1.02  # one batch in five may come on top
    assert predicted(job) <= answer["per_process_bytes"] <= most
    assert "hold" in ended.stderr
    assert "more than 80 % full" in ended.stderr
    assert any("do not fit" in line for line in answer["warnings"])
    assert ended.returncode == 1


CONTAINED = {"workers": 4, "prefetch": 4, "batch_bytes": 24 * MIB}


def test_a_container_of_that_size(podman, gpudoctor, real_torch):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in CONTAINED.items()]
    words = [gpudoctor, "shm", "--gpus=1", "--nnodes=1", *options, "-f", "json"]
    need = json.loads(subprocess.run(words, capture_output=True, text=True).stdout)["need_bytes"]
    job = {**CONTAINED, "expected": predicted(CONTAINED)}
    torch = [*read_only(real_torch.parent.parent, python_of(real_torch.parent.parent), HERE)]
    train = [str(real_torch), "-W", "ignore", str(HERE / "loaders.py"), json.dumps([job])]
    check = f"{INSIDE}/bin/python -m gpudoctor check shm-size --nproc-per-node=1 --nnodes=1"
    script = f'{check} {" ".join(options)} >/dev/null 2>&1; echo $?; exec "$@"'

    def contained(count: int) -> subprocess.CompletedProcess[str]:
        return podman([f"--shm-size={count}b", *torch], ["sh", "-c", script, "sh", *train])

    with ThreadPoolExecutor() as pool:
        enough, short = pool.map(contained, (need, need * 8 // 10))

    assert enough.returncode == 0, enough.stderr
    checked, peak = enough.stdout.splitlines()
    assert checked == "0"
    assert json.loads(peak)[0][0] == pytest.approx(predicted(CONTAINED), rel=0.1)
    assert short.stdout == "1\n"
    assert short.returncode != 0
    assert any(re.search(pattern, short.stderr) for pattern in get("shm-size").symptoms)


def test_who_may_not_look_is_told_so(installed, require):
    require(os.geteuid() == 0, "only root can be somebody else")
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    words = [*other, str(installed / "bin/python"), "-m", "gpudoctor", "shm", "--measure"]
    ended = subprocess.run([*words, str(os.getpid())], capture_output=True, text=True, cwd="/")

    assert ended.returncode == 3
    assert "could not be looked into (EACCES: Permission denied)" in ended.stderr


MAKER = """
import os, sys
with open(f"/dev/shm/torch_{os.getpid()}_77_0", "wb") as file:
    file.write(bytes(3 << 20))
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_a_container_measured_from_outside(gpudoctor, require):
    require(os.geteuid() == 0, "only root may make a pid namespace and look into it")
    words = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
    words += ["sh", "-c", f'{TMPFS}\nexec "$@"', "sh", sys.executable, "-c", MAKER]
    pipe = subprocess.PIPE
    container = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
    try:
        assert container.stdout.readline() == "1\n"
        (pid,) = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
        measure = [gpudoctor, "shm", "--measure", pid, "-f", "json"]
        ended = subprocess.run(measure, capture_output=True, text=True, timeout=60)
    finally:
        container.communicate(timeout=60)

    (place,) = json.loads(ended.stdout)["measured"]["places"]
    assert place["path"] == f"/proc/{pid}/root/dev/shm"
    assert place["held_bytes"] == place["used_bytes"] == 3 * MIB
