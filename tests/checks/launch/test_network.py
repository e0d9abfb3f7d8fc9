"""checks/launch/network.py: tables of launch -> status."""

import pytest

from gpudoctor import Capability, HostNetwork, Launch, Memlock, Status, Ulimit, Workload
from gpudoctor.registry import get

PASS, WARN, FAIL, SKIP = Status.PASS, Status.WARN, Status.FAIL, Status.SKIP
PORT = ("29500:29500",)
MASTER = {"MASTER_ADDR": "192.168.1.100", "WORLD_SIZE": "2", "RANK": "0"}


def docker(**said) -> Launch:
    return Launch(form="docker run", launcher="docker", **said)


def compose(**said) -> Launch:
    return Launch(form="compose service", launcher="compose", **said)


def nodes(count: int | None) -> Workload:
    return Workload().told({"nodes": count}, "torchrun") if count else Workload()


@pytest.mark.parametrize(
    ("launch", "count", "status"),
    [
        pytest.param(docker(ports=PORT), 2, FAIL, id="two nodes, a port"),
        pytest.param(docker(), 2, FAIL, id="two nodes, no port"),
        pytest.param(docker(network="bridge"), 2, FAIL, id="bridge by name"),
        pytest.param(docker(network="slirp4netns:mtu=9000"), 2, FAIL, id="rootless podman"),
        pytest.param(docker(environment=MASTER), None, FAIL, id="meets elsewhere"),
        pytest.param(docker(ports=PORT), None, WARN, id="a port for whom"),
        pytest.param(docker(ports=("127.0.0.1:1:29500-29510/tcp",)), None, WARN, id="a range"),
        pytest.param(
            docker(ports=("1234:1234",), environment={"MASTER_PORT": "1234"}),
            None,
            WARN,
            id="own port",
        ),
        pytest.param(compose(ports=PORT), 2, FAIL, id="compose, a port"),
        pytest.param(compose(), 2, SKIP, id="compose, nodes side by side"),
        pytest.param(docker(network="host"), 2, PASS, id="host network"),
        pytest.param(docker(network="overlay1"), 2, PASS, id="a network of its own"),
        pytest.param(docker(ports=PORT), 1, PASS, id="one node"),
        pytest.param(docker(ports=("8888:8888",)), None, SKIP, id="jupyter"),
        pytest.param(docker(), None, SKIP, id="nothing said"),
        pytest.param(
            docker(environment={**MASTER, "MASTER_ADDR": "127.0.0.1"}), None, SKIP, id="meets here"
        ),
        pytest.param(
            docker(environment={**MASTER, "MASTER_ADDR": "trainer-0"}), None, SKIP, id="a name"
        ),
        pytest.param(docker(open_fields=("network",)), 2, SKIP, id="network in a variable"),
        pytest.param(
            Launch(form="Kubernetes container", launcher="kubernetes"), 2, SKIP, id="Kubernetes"
        ),
    ],
)
def test_ports(launch, count, status):
    finding = get("launch-ports")(launch, nodes(count))

    assert finding.status is status
    assert not finding.fix or finding.fix.settings == (HostNetwork(),)


RDMA = ("/dev/infiniband",)


@pytest.mark.parametrize(
    ("launch", "count", "status"),
    [
        pytest.param(docker(devices=RDMA), None, WARN, id="RDMA, no limit said"),
        pytest.param(docker(devices=("/dev/infiniband/uverbs0",)), 2, WARN, id="one device"),
        pytest.param(
            docker(devices=RDMA, capabilities=("IPC_LOCK",), user="1000"), 2, WARN, id="not root"
        ),
        pytest.param(docker(devices=RDMA, capabilities=("IPC_LOCK",)), 2, PASS, id="IPC_LOCK"),
        pytest.param(
            docker(devices=RDMA, ulimits={"memlock": Ulimit(None, None)}), 2, PASS, id="memlock"
        ),
        pytest.param(docker(devices=RDMA, privileged=True), 2, PASS, id="privileged"),
        pytest.param(docker(devices=RDMA), 1, PASS, id="one node"),
        pytest.param(docker(devices=RDMA, open_fields=("*",)), 2, SKIP, id="any flags"),
        pytest.param(docker(), 2, SKIP, id="no RDMA"),
    ],
)
def test_rdma(launch, count, status):
    finding = get("launch-rdma")(launch, nodes(count))

    assert finding.status is status
    assert not finding.fix or finding.fix.settings == (Memlock(None), Capability("IPC_LOCK"))
