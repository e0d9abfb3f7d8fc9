"""Predict on two hosts, then run the real thing: torch with gloo, one rank on each."""

import re
import sys
import time
from collections.abc import Mapping

import msgspec
import pytest

from gpudoctor import Status
from gpudoctor.registry import get
from gpudoctor.report import Report

from .net import Host, Zoo

CHECKS = ("gloo-interface", "net-hostname", "net-master", "net-data-ports")
LOCALHOST = "127.0.0.1 localhost\n"
NODES = "10.77.0.1 node0\n10.77.0.2 node1\n"
DEBIAN = LOCALHOST + "127.0.1.1 {name}\n"
BRIDGED = LOCALHOST + "10.244.0.1 {name}\n"
WELL, BROKEN = 120, 12  # seconds that the ranks wait for each other
IMPORT = 60  # seconds for the first import of torch, with little to spare

RANK = """
import os, sys, warnings
warnings.simplefilter("ignore")
from datetime import timedelta
import torch
import torch.distributed as dist

dist.init_process_group("gloo", timeout=timedelta(seconds=int(sys.argv[1])))
one = torch.ones(1000)
dist.all_reduce(one)
dist.barrier()
print("sum", one[0].item(), flush=True)
os._exit(0)
"""


def variables(rank: int) -> dict[str, str]:
    job = {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "2"}
    return {
        **job,
        "LOCAL_WORLD_SIZE": "1",
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "PATH": "/usr/bin",
    }


def predicted(hosts: tuple[Host, Host], env: Mapping[str, str]) -> dict[str, Status]:
    """The worst of both hosts, for each check."""
    worst: dict[str, Status] = {}
    for rank, host in enumerate(hosts):
        command = [sys.executable, "-m", "gpudoctor", "check", "-f", "json", *CHECKS]
        ended = host.run(*command, env={**variables(rank), **env})
        assert ended.stdout, ended.stderr
        for result in msgspec.json.decode(ended.stdout, type=Report).results:
            if worst.get(result.id) not in (Status.FAIL, Status.WARN):
                worst[result.id] = result.status
    return worst


def ran(hosts: tuple[Host, Host], python: object, env: Mapping[str, str], seconds: int) -> str:
    """What both ranks said; it ends with their exit codes."""
    ranks = [
        host.start(python, "-c", RANK, seconds, env={**variables(rank), **env})
        for rank, host in enumerate(hosts)
    ]
    until = time.monotonic() + seconds + IMPORT
    while any(process.poll() is None for process in ranks) and time.monotonic() < until:
        if any(process.poll() for process in ranks):
            break  # one has failed: the other may wait for it for ever
        time.sleep(0.1)
    for process in ranks:
        process.kill()
    said = "".join(process.stdout.read() for process in ranks)
    return f"{said}exit codes {[process.wait() for process in ranks]}"


def bridges(zoo: Zoo, hosts: tuple[Host, Host]) -> None:
    for host in hosts:
        host.add("cni0", "10.244.0.1/24", kind="bridge")


def only_the_master_port(zoo: Zoo, hosts: tuple[Host, Host]) -> None:
    for host in hosts:
        open_ports = ["iif lo accept", "ct state established accept", "tcp dport 29500 accept"]
        # As firewalld does it. With a drop gloo takes a minute to give up.
        host.filter(*open_ports, "meta l4proto tcp reject with icmpx admin-prohibited")


def nothing(zoo: Zoo, hosts: tuple[Host, Host]) -> None:
    pass


@pytest.mark.parametrize(
    ("hosts_file", "told", "prepare", "found"),
    [
        pytest.param(LOCALHOST + NODES, {}, nothing, "", id="healthy"),
        pytest.param(LOCALHOST + NODES, {}, bridges, "", id="healthy: with bridges of containers"),
        pytest.param(DEBIAN, {"GLOO_SOCKET_IFNAME": "eth0"}, nothing, "", id="Debian, mended"),
        pytest.param(LOCALHOST, {"GLOO_SOCKET_IFNAME": "eth0"}, nothing, "", id="nameless, mended"),
        pytest.param(DEBIAN, {}, nothing, "gloo-interface", id="Debian"),
        pytest.param(LOCALHOST, {}, nothing, "gloo-interface", id="nameless"),
        pytest.param(BRIDGED, {}, bridges, "gloo-interface", id="named by its bridge"),
        pytest.param(
            LOCALHOST + NODES, {"GLOO_SOCKET_IFNAME": "lo"}, nothing, "gloo-interface", id="lo"
        ),
        pytest.param(
            LOCALHOST + NODES,
            {"GLOO_SOCKET_IFNAME": "ens99"},
            nothing,
            "gloo-interface",
            id="ens99",
        ),
        pytest.param(
            LOCALHOST + NODES,
            {"GLOO_SOCKET_IFNAME": "=eth0"},
            nothing,
            "gloo-interface",
            id="=eth0",
        ),
        pytest.param(
            LOCALHOST + NODES,
            {},
            only_the_master_port,
            "net-data-ports",
            id="only MASTER_PORT open",
        ),
    ],
)
def test_gloo_does_as_predicted(zoo, real_torch, hosts_file, told, prepare, found):
    hosts = zoo.pair()
    for host in hosts:
        host.hosts(hosts_file.format(name=host.name))
    prepare(zoo, hosts)

    statuses = predicted(hosts, told)
    said = ran(hosts, real_torch, told, BROKEN if found else WELL)

    wrong = {name for name, status in statuses.items() if status in (Status.FAIL, Status.WARN)}
    if found:
        assert found in wrong, statuses
        assert "exit codes [0, 0]" not in said
        assert any(re.search(pattern, said) for pattern in get(found).symptoms), said
    else:
        assert {*statuses.values()} <= {Status.PASS, Status.SKIP}, statuses
        assert said.count("sum 2.0") == 2, said
