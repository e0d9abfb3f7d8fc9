"""A fleet of nodes as `gpudoctor check -f json` would have written them, the same every time.

The facts are those of real machines with one thing wrong, judged by the real checks. A node is
one of a few kinds with its own name, time and figures put in, so that ten thousand are quick.
"""

import gzip
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gpudoctor import (
    Devices,
    Gpus,
    KernelDriver,
    Rdma,
    Snapshot,
    Workload,
    registry,
    snapshot,
)
from gpudoctor.judge import judge
from gpudoctor.launch.plan import next_steps
from gpudoctor.report import Node, Report, Run, Tool, counts, exit_code, verdict
from tests.gpu_machines import HGX, INSTINCT, bus, but
from tests.rdma_machines import INFINIBAND, UNPLUGGED, without

NAME, STARTED = "NODE-NAME", "2026-11-20T00:00:00Z"
RACK = 16  # nodes
# Figures that differ from node to node: what stands in a kind's JSON for each.
HOLES = {"temperature": 70707, "shm_free": 918273645546, "error": 0.0626262, "seconds": 5.43125}
COOL = {"H100": 34, "MI300X": 41}
HOST = Path(__file__).with_name("host.json")
ROCM: dict[str, Any] = {
    "version": "2.9.1+rocm6.4",
    "cuda": None,
    "hip": "6.4",
    "nccl_pin": "",
    "nccl_wheels": (),
}
Facts = dict[str, Any]


class Fault(Struct, frozen=True):
    """What is wrong with a node: its name, and what it does to facts."""

    name: str
    spoil: Callable[[Facts], Facts]


def _gpu(index: int, **fields: Any) -> Callable[[Facts], Facts]:
    return lambda facts: {**facts, "gpus": but(facts["gpus"], index, **fields)}


def _fact(name: str, **fields: Any) -> Callable[[Facts], Facts]:
    return lambda facts: {**facts, name: replace(facts[name], **fields)}


def _nic_down(number: int) -> Callable[[Facts], Facts]:
    return lambda facts: {**facts, "rdma": without(facts["rdma"], number, **UNPLUGGED)}


def _memlock(facts: Facts) -> Facts:
    limit = replace(facts["limits"].memlock, soft=65536, hard=65536)
    return {**facts, "limits": replace(facts["limits"], memlock=limit)}


def _docker(facts: Facts) -> Facts:
    docker = {"runtime": "docker", "launcher": "docker", "ipc_private": True}
    small = _fact("shm", total_bytes=64 << 20, free_bytes=64 << 20)(facts)
    return _fact("container", **docker)(small)


def _driver(version: str) -> Callable[[Facts], Facts]:
    def spoil(facts: Facts) -> Facts:
        other = replace(facts["kernel_driver"], nvidia=version)
        return {**facts, "gpus": replace(facts["gpus"], driver=version), "kernel_driver": other}

    return spoil


def _silent(facts: Facts) -> Facts:
    said = snapshot.Absent("no answer in 5 s; its process 4181 (state D) cannot be killed", True)
    return {**facts, "gpus": said}


HEALTHY = Fault("healthy", dict)
NARROW = Fault("GPU 3 on 8 lanes", _gpu(3, pcie_width=8))
ECC = [Fault(f"ECC on GPU {n}", _gpu(n, ecc_uncorrected=2)) for n in range(8)]
NIC = Fault("mlx5_4 unplugged", _nic_down(4))
MEMLOCK = Fault("memlock 64 KiB", _memlock)
SHM = Fault("docker without --shm-size", _docker)
CLOCK = Fault("clock adrift", _fact("clock", state=5, status=64, max_error_seconds=16.0))
HOT = [
    Fault(f"GPU {n} too hot", _gpu(n, temperature_c=101, throttle=("hw thermal",))) for n in (1, 5)
]
OLD_DRIVER = Fault("an older driver", _driver("550.54.15"))
OLD_KERNEL = Fault("an older kernel", _fact("system", kernel="5.15.0-105-generic"))
SILENT = Fault("a driver that hangs", _silent)
ANY = (*ECC, NIC, CLOCK, *HOT, OLD_KERNEL, SILENT)  # that may strike anywhere


def base(model: str) -> Facts:
    """The facts of a healthy node."""
    raw = {"schema": snapshot.SCHEMA, "nodes": [{"name": NAME, "facts": _host()}]}
    (host,) = snapshot.load(msgspec.json.encode(raw))
    facts = dict(host.facts)
    found: Gpus = {"H100": HGX, "MI300X": INSTINCT}[model]
    rdma: Rdma = INFINIBAND
    nvidia = model == "H100"
    facts["gpus"] = found
    facts["pci_bus"] = bus(found, driver="nvidia" if nvidia else "amdgpu")
    facts["kernel_driver"] = KernelDriver(
        nvidia=found.driver, nvidia_open=True, nvidia_uvm=True, amdgpu=not nvidia
    )
    facts["rdma"] = rdma
    if not nvidia:
        facts["torch_build"] = replace(facts["torch_build"], **ROCM)
    facts["devices"] = Devices(
        nvidia=tuple(range(8)) if nvidia else (),
        amd_render=() if nvidia else tuple(f"renderD{128 + n}" for n in range(8)),
        rdma=tuple(device.uverbs for device in rdma.devices),
        rdma_in_sysfs=tuple(device.name for device in rdma.devices),
    )
    facts["workload"] = Workload(local_ranks=8).told({"nodes": 16}, "SLURM_NNODES")
    return facts


def _host() -> dict[str, Any]:
    host = msgspec.json.decode(HOST.read_bytes(), type=dict[str, Any])
    host["clock"]["max_error_seconds"] = HOLES["error"]
    host["shm"]["free_bytes"] = HOLES["shm_free"]
    return host


class Kinds:
    """Reports of kinds of nodes, judged once each."""

    def __init__(self) -> None:
        self._checks = registry.builtin_checks(launch=False, cluster=False)
        self._made: dict[tuple[str, str], bytes] = {}

    def report(self, model: str, fault: Fault) -> Report:
        facts = fault.spoil(base(model))
        results = judge(self._checks, Snapshot(NAME, facts))
        if isinstance(facts["gpus"], Gpus):  # filled in where it is not what is wrong
            usual = [gpu.temperature_c for gpu in facts["gpus"].devices].index(COOL[model])
            facts["gpus"] = but(facts["gpus"], usual, temperature_c=HOLES["temperature"])
        launcher = facts["container"].launcher
        status = verdict(results)
        view = ("host" if launcher == "host" else "docker container", "uid 1000, not root")
        return Report(
            tool=Tool("gpudoctor", "0.1.0"),
            run=Run(
                id="0123456789ab",
                started=STARTED,
                seconds=HOLES["seconds"],
                argv=("check", "-f", "json"),
                profile="train",
                launcher=launcher,
            ),
            status=status,
            exit_code=exit_code(status),
            counts=counts(results),
            nodes=(Node(name=NAME, view=view, facts=facts, results=results),),
            next_steps=next_steps(results, launcher),
        )

    def raw(self, model: str, fault: Fault) -> bytes:
        key = (model, fault.name)
        if key not in self._made:
            encoded = msgspec.json.encode(self.report(model, fault))
            self._made[key] = msgspec.json.format(encoded, indent=2)
        return self._made[key]


def named(kinds: Kinds, name: str, model: str, fault: Fault, **figures: object) -> bytes:
    """The report of one node."""
    seed = random.Random(name)
    values = {
        "temperature": seed.randint(29, 44),
        "shm_free": (1 << 40) - seed.randint(0, 1 << 34),
        "error": round(seed.uniform(0.0005, 0.012), 6),
        "seconds": round(seed.lognormvariate(-1.2, 0.4), 4),
        **figures,
    }
    raw = kinds.raw(model, fault).replace(NAME.encode(), name.encode())
    minute = int(hashlib.md5(name.encode()).hexdigest(), 16) % 60
    raw = raw.replace(STARTED.encode(), f"2026-11-20T14:{minute:02}:00Z".encode())
    for hole, value in values.items():
        raw = raw.replace(str(HOLES[hole]).encode(), str(value).encode())
    return raw


def fleet(count: int) -> Iterator[tuple[str, str, Fault]]:
    """Names, models and faults of a fleet with stories in it.

    Nodes stand in racks of 16, a quarter of them with MI300X. gpu-001-04 has a bad GPU. Rack 2
    was started with the wrong limit, but for one node; a board of one series has a bad riser at
    GPU 3; one node in 100 has something of its own; 1 in 200 was left with an older driver.
    """
    luck = random.Random(count)
    for number in range(count):
        rack, place = divmod(number, RACK)
        model = "MI300X" if rack % 4 == 3 else "H100"
        name = f"{'amd' if model == 'MI300X' else 'gpu'}-{rack + 1:03d}-{place + 1:02d}"
        fault = HEALTHY
        if number == 3:
            fault = ECC[5]
        elif rack == 1 and place != 5:
            fault = MEMLOCK
        elif model == "H100" and luck.random() < 0.03:
            fault = NARROW
        elif luck.random() < 0.01:
            fault = luck.choice(ANY)
        elif luck.random() < 0.005 and model == "H100":
            fault = OLD_DRIVER
        elif luck.random() < 0.004:
            fault = SHM
        yield name, model, fault


def write(folder: Path, count: int, *, packed: bool = False) -> Mapping[str, Fault]:
    """The fleet as files, one for each node; what is wrong with each."""
    kinds, made = Kinds(), {}
    for name, model, fault in fleet(count):
        raw = named(kinds, name, model, fault)
        path = folder / f"{name}.json{'.gz' * packed}"
        path.write_bytes(gzip.compress(raw, 1) if packed else raw)
        made[name] = fault
    return made
