"""The nodes of healthy jobs; a test puts in the one thing that is wrong."""

from collections.abc import Mapping
from itertools import combinations

from gpudoctor import (
    GIB,
    Address,
    Cgroup,
    Clock,
    Devices,
    Environment,
    Fact,
    Interface,
    Job,
    JobPython,
    Limit,
    Limits,
    Links,
    Member,
    Members,
    NcclSettings,
    Network,
    Nodes,
    Packages,
    Route,
    Shm,
    System,
    TorchBuild,
    Way,
)
from gpudoctor.snapshot import Absent, Snapshot
from tests.gpu_machines import H100, machine

NOW = 1_795_219_959.0
WHEELS = {"torch": "2.9.1+cu128", "nvidia-nccl-cu12": "2.27.5", "numpy": "2.1.3"}


def gpus(count: int = 8, model=H100, **more):
    return machine(model, count).__class__(
        devices=machine(model, count).devices, **{"driver": "580.95.05", **more}
    )


def python(**packages: str) -> JobPython:
    return JobPython(
        path="/opt/venv/bin/python",
        chosen_by="PATH",
        version="3.12",
        packages={**WHEELS, **packages},
    )


def system(name: str = "n1", **more) -> System:
    usual = {
        "kernel": "6.8.0-50-generic",
        "architecture": "x86_64",
        "distribution": "Ubuntu 24.04.1 LTS",
        "memory_bytes": 2000 * GIB,
        "cpus": 128,
        "cpus_usable": 128,
    }
    return System(**{**usual, "hostname": name, **more})


def card(name: str = "eth0", ip: str = "10.0.0.1", **more) -> Interface:
    addresses = (Address(ip=ip, prefix=24),)
    usual = {"index": 2, "kind": "physical", "up": True, "running": True, "speed_mbps": 100_000}
    return Interface(**{"mtu": 9000, "addresses": addresses, **usual, "name": name, **more})


def network(*interfaces: Interface, leads: str = "") -> Network:
    loopback = Interface(
        index=1,
        name="lo",
        kind="loopback",
        up=True,
        running=True,
        mtu=65536,
        addresses=(Address(ip="127.0.0.1", prefix=8, scope="host"),),
    )
    leads = leads or interfaces[0].name
    default = Route(destination="0.0.0.0/0", interface=leads, gateway="10.0.0.254")
    return Network(interfaces=(loopback, *interfaces), routes=(default,))


def limits(memlock: int | None = None, nofile: int = 1 << 20) -> Limits:
    return Limits(memlock=Limit(memlock, memlock), nofile=Limit(nofile, nofile))


def clock(**more) -> Clock:
    usual = {"state": 0, "status": 0x2001, "max_error_seconds": 0.01, "now": NOW}
    return Clock(**{"estimated_error_seconds": 0.0, "daemons": ("chronyd",), **usual, **more})


def node(number: int, *facts: Fact, without: tuple[str, ...] = ()) -> Snapshot:
    """A node of the job, with these facts in place of the usual ones."""
    name = f"n{number}"
    usual = (
        gpus(),
        Devices(nvidia=tuple(range(8))),
        python(),
        Packages(versions={**WHEELS, "pillow": "11.0.0"}),
        TorchBuild(version="2.9.1+cu128", cuda=(12, 8), path="/opt/venv/torch"),
        system(name),
        Environment(values={"NCCL_IB_DISABLE": "0", "MASTER_ADDR": "n1"}),
        NcclSettings(),
        Job(launcher="slurm", world_size=16, nodes=2, master_addr="n1", master_port=29500),
        Shm(total_bytes=64 * GIB, free_bytes=64 * GIB, filesystem="tmpfs"),
        limits(),
        Cgroup(version=2),
        network(card(ip=f"10.0.0.{number}")),
        clock(),
    )
    found = Snapshot(name).replace(*usual).replace(*facts)
    return Snapshot(name, {k: v for k, v in found.facts.items() if k not in without})


def nodes(count: int, odd: Mapping[int, tuple[Fact, ...]] | None = None) -> Nodes:
    """n1 to n<count>; `odd` has the facts of those that are not as usual."""
    return Nodes(snapshots=tuple(node(n, *(odd or {}).get(n, ())) for n in range(1, count + 1)))


def blind(number: int, *lost: str, broken: bool = False) -> Snapshot:
    """A node that some facts could not be had of."""
    found = node(number)
    gone = {name: Absent("timed out" if broken else "not there", broken) for name in lost}
    return Snapshot(found.name, {**found.facts, **gone})


def members(count: int, **more) -> Members:
    joined = [Member(name=f"n{n + 1}", rank=8 * n, ranks=8, step="done") for n in range(count)]
    usual = {"expected": count, "told_by": "SLURM_NNODES", "members": tuple(joined)}
    return Members(**{**usual, "waited_seconds": 0.4, "meeting": "n1:29501", **more})


def way(source: int, target: int, **more) -> Way:
    ip = f"10.0.0.{target}"
    usual = {
        "source": f"n{source}",
        "target": f"n{target}",
        "resolved": (ip,),
        "address": ip,
        "own": (ip,),
        "interface": "eth0",
        "speed_mbps": 10_000,
        "port": 40_000 + target,
        "rtt_seconds": 0.0002,
        "clock_offset_seconds": 0.0,
        "clock_uncertainty_seconds": 0.0001,
        "mss": 8948,
        "path_mtu": 9000,
        "mtu": 9000,
        "bytes_per_second": 1.17e9,
        "retransmits": 0,
    }
    return Way(**{**usual, **more})


def failing(source: int, target: int, error: str = "ETIMEDOUT", step: str = "connect") -> Way:
    """A way that came no further than a step."""
    late = {"connect": 0, "hello": 0, "small": 0, "large": 1, "throughput": 2}[step]
    gone = {"mss": None, "path_mtu": None, "bytes_per_second": None, "retransmits": None}
    if not late:
        gone |= {
            "rtt_seconds": None,
            "clock_offset_seconds": None,
            "clock_uncertainty_seconds": None,
        }
    return way(source, target, error=error, step=step, **gone)


def links(count: int, *odd: Way, **more) -> Links:
    """All pairs, both directions; `odd` ways stand in place of the usual ones."""
    pairs = list(combinations(range(1, count + 1), 2))
    found = {
        (f"n{a}", f"n{b}"): way(a, b)
        for one, other in pairs
        for a, b in ((one, other), (other, one))
    }
    found |= {(w.source, w.target): w for w in odd}
    usual = {"rounds": max(1, count - 1), "pairs": len(pairs), "pairs_all": len(pairs)}
    return Links(**{**usual, "ways": tuple(found.values()), "master": "n1", **more})
