"""Facts collected before and after a real fault: `gpudoctor diff` names it at once.

`UPDATE_RECORDED=1 pytest tests/lab/test_diff.py` writes tests/diff/recorded.json anew.
"""

import functools
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.diff_faults import FAULTS, IN_PODMAN, OF_GPUS, OF_MOUNTS, ON_A_HOST, first_lines

from .conftest import INSIDE
from .net import Host
from .nvml import FAKE
from .test_clock import ESTERROR, MAXERROR, STATUS, UNSYNC, adjtimex, kernel_clock

pytestmark = pytest.mark.lab
__all__ = ["kernel_clock"]

RECORDED = Path(__file__).parent.parent / "diff/recorded.json"
Look = Callable[..., bytes]
Tell = Callable[[str, str, bytes, bytes], None]

PODMAN = {
    "small /dev/shm": ["--shm-size=32m"],
    "read-only /dev/shm": ["--mount=type=tmpfs,dst=/dev/shm,ro,tmpfs-size=1g"],
    "full /dev/shm": [],
    "pids": ["--pids-limit=60"],
    "memory": ["--memory=256m"],
    "cpu": ["--cpus=0.5"],
    "nofile": ["--ulimit=nofile=256:256"],
    "memlock": ["--ulimit=memlock=65536:65536"],
    "noexec /tmp": ["--tmpfs=/tmp:noexec,notmpcopyup"],
    "unwritable HOME": ["--env=HOME=/sys/home"],
    "uid without a name": ["--user=4711:4711", "--passwd=false", "--env=HOME=/tmp"],
    "interface that is not there": ["--env=NCCL_SOCKET_IFNAME=eth9"],
    "misspelt variable": ["--env=NCCL_DEBUGG=INFO"],
    "no capabilities": ["--cap-drop=all"],
}
FILL = {"full /dev/shm": "fallocate -l 1G /dev/shm/data"}
SHM = "--shm-size=1g"
HOSTS = "127.0.0.1 localhost\n"
HOST: dict[str, Callable[[Host], object]] = {
    "127.0.1.1 in /etc/hosts": lambda host: host.hosts(f"{HOSTS}127.0.1.1 node0\n"),
    "no name": lambda host: host.hosts(HOSTS),
    "firewall": lambda host: host.filter("tcp dport 29500 drop", policy="accept"),
    "small MTU": lambda host: host.ip("link set eth0 mtu 1280"),
    "strict rp_filter": lambda host: host.sysctl("net.ipv4.conf.all.rp_filter", 1),
    "interface down": lambda host: host.ip("link set eth0 down"),
    "few ports": lambda host: host.sysctl("net.ipv4.ip_local_port_range", "32768 32800"),
}
GPUS = {
    "GPU lost": ["gpu1.err.*=15"],
    "GPU gone": ["count=1"],
    "ECC errors": ["gpu1.ecc_uncorr_vol=3", "gpu1.ecc_uncorr_agg=7"],
    "NVLink down": ["gpu1.nvlink3=0"],
    "thermal slowdown": ["gpu1.throttle=0x48", "gpu1.temp=89"],
    "power capped": ["gpu1.power_limit=350000"],
}
MOUNTS = {
    "small TMPDIR": "mount -t tmpfs -o size=64m none tmp",
    "read-only working directory": "mount -t tmpfs -o ro,size=40g none job",
    "full working directory": "mount -t tmpfs -o size=2m none job; yes >job/full 2>&1 || :",
}
BRIEF = {"PATH": os.environ["PATH"], "HOME": "/root", "USER": "root"}


def collected(ended: subprocess.CompletedProcess[Any]) -> bytes:
    assert ended.returncode == 0, ended.stderr
    out = ended.stdout
    return out if isinstance(out, bytes) else out.encode()


@pytest.fixture
def told(tmp_path) -> Tell:
    """Asserts that the first lines name the fault, and that a second look at health is silent."""

    def tell(place: str, name: str, healthy: bytes, faulty: bytes) -> None:
        if os.environ.get("UPDATE_RECORDED"):
            record(place, name, healthy, faulty)
        before, after = tmp_path / "before.json", tmp_path / "after.json"
        before.write_bytes(healthy)
        after.write_bytes(faulty)

        shown = first_lines(before, after)
        print(shown)

        assert re.search(FAULTS[name], shown, re.MULTILINE), shown

    return tell


@pytest.fixture(scope="module")
def in_podman(podman) -> Look:
    def look(*flags: str, before: str = "true") -> bytes:
        words = [f"{INSIDE}/bin/python", "-m", "gpudoctor", "collect", "--nproc-per-node=2"]
        shell = ["sh", "-c", f'{before}\nexec "$@"', "sh", *words]
        return collected(podman(["--hostname=node0", *flags], shell))

    return look


@pytest.fixture(scope="module")
def healthy_in_podman(in_podman) -> bytes:
    return in_podman(SHM)


@pytest.mark.parametrize("name", IN_PODMAN)
def test_in_a_container(name, in_podman, healthy_in_podman, told):
    own_shm = any("/dev/shm" in flag or "shm-size" in flag for flag in PODMAN[name])
    flags = [*PODMAN[name], *([] if own_shm else [SHM])]
    told("podman", name, healthy_in_podman, in_podman(*flags, before=FILL.get(name, "true")))


@pytest.fixture
def host(zoo) -> Host:
    host, _ = zoo.pair()
    return host


def look_at(host: Host, gpudoctor: str) -> bytes:
    words = [gpudoctor, "collect", "--nnodes=2", "--master-addr=10.77.0.1"]
    return collected(host.run(*words, env=BRIEF))


@pytest.fixture(scope="module")
def seen() -> dict[str, bytes]:
    """What was collected in health, by place."""
    return {}


@pytest.mark.parametrize("name", ON_A_HOST)
def test_on_a_host(name, host, gpudoctor, seen, told):
    if "host" not in seen:
        seen["host"] = look_at(host, gpudoctor)
    HOST[name](host)
    told("host", name, seen["host"], look_at(host, gpudoctor))


@pytest.mark.parametrize("name", OF_GPUS)
def test_of_gpus(name, libnvidia_ml, gpudoctor, tmp_path, seen, told):
    config = tmp_path / "gpus.conf"

    def look(*lines: str, folder: Path | None = libnvidia_ml) -> bytes:
        config.write_text("\n".join([(FAKE / "h100x2.conf").read_text(), *lines, ""]))
        env = {**BRIEF, "FAKE_NVML_CONFIG": str(config)}
        env |= {"LD_LIBRARY_PATH": str(folder)} if folder else {}
        return collected(subprocess.run([gpudoctor, "collect"], capture_output=True, env=env))

    faulty = look(*GPUS[name]) if name in GPUS else look(folder=None)
    if "gpus" not in seen:
        seen["gpus"] = look()
    told("gpus", name, seen["gpus"], faulty)


@pytest.mark.parametrize("name", OF_MOUNTS)
def test_of_mounts(name, in_mounts, gpudoctor, tmp_path, told):
    for folder in ("home", "tmp", "job"):
        (tmp_path / folder).mkdir()
    env = {**BRIEF, "HOME": f"{tmp_path}/home", "TMPDIR": f"{tmp_path}/tmp"}

    def look(script: str) -> bytes:
        script = f"cd {tmp_path}\n{script}\ncd {tmp_path}/job"
        return collected(in_mounts(script, [gpudoctor, "collect"], env=env))

    told("mounts", name, look("true"), look(MOUNTS[name]))


def test_of_the_clock(kernel_clock, gpudoctor, told):
    def look(max_error: int, status: int) -> bytes:
        adjtimex(MAXERROR | ESTERROR | STATUS, max_error, status)
        words = [gpudoctor, "collect", "--nnodes=2"]
        return collected(subprocess.run(words, capture_output=True, env=BRIEF))

    told("clock", "not synchronised", look(2_000, 0), look(16_000_000, UNSYNC))


def test_two_looks_at_the_same_machine_are_alike(gpudoctor, tmp_path):
    files = []
    for name in ("one.json", "two.json"):
        words = [gpudoctor, "check", "-f", "json", "-o", f"json={tmp_path / name}", "-qq"]
        subprocess.run(words, capture_output=True, timeout=60)
        files.append(str(tmp_path / name))
    ended = subprocess.run([gpudoctor, "diff", *files], capture_output=True, text=True)

    assert (ended.returncode, ended.stdout.splitlines()[2]) == (0, "Nothing has changed")


def test_two_looks_from_a_container_are_alike(in_podman, healthy_in_podman, gpudoctor, tmp_path):
    (tmp_path / "one.json").write_bytes(healthy_in_podman)
    (tmp_path / "two.json").write_bytes(in_podman(SHM))
    files = [str(tmp_path / name) for name in ("one.json", "two.json")]
    ended = subprocess.run([gpudoctor, "diff", *files], capture_output=True, text=True)

    assert ended.returncode == 0, ended.stdout


@functools.cache
def _here() -> list[tuple[str, str]]:
    """What of this machine is not to be recorded, and what stands for it."""
    names = os.uname()
    return [
        (re.escape(names.release), "6.8.0-45-generic"),
        (rf'(?<=[" ]){re.escape(names.nodename)}(?=")', "node0"),
        (r"/tmp/(pytest-of-[\w-]+|gpudoctor-lab-\w+)(/[\w-]+)*?(?=/(home|tmp|job|nvml)\b)", "/lab"),
        (r"/[^\" ]*/bin/python[\d.]*", "/usr/bin/python3"),
        (r"/tmp/(pytest-of-[\w-]+|gpudoctor-lab-)[^\" ]*", "/lab/other"),
        (re.escape(os.getcwd()), "/home/user/job"),
    ]


def record(place: str, name: str, healthy: bytes, faulty: bytes) -> None:
    """Of the fault only the facts that are not as in health."""
    facts = []
    for raw in (healthy, faulty):
        text = raw.decode()
        for pattern, stand_in in _here():
            text = re.sub(pattern, stand_in, text)
        facts.append(json.loads(text)["nodes"][0]["facts"])
    known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    whole = known.setdefault(place, {"healthy": facts[0], "faults": {}})
    changed = {key: fact for key, fact in facts[1].items() if fact != whole["healthy"].get(key)}
    whole["faults"][name] = changed
    RECORDED.write_text(_lines(known))


def _lines(known: Any) -> str:
    """A line for each fact."""
    text = json.dumps(known, separators=(",", ":"), sort_keys=True)
    return re.sub(
        r'(?<=[}\]"])?,(?="\w+":\{)|(?<=\{)(?="[\w -/]+":\{)', lambda m: m[0] + "\n", text
    )
