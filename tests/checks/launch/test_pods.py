"""checks/launch/pods.py: tables of facts -> status."""

import pytest

from gpudoctor import HostNetwork, Launch, ShmSize, Status, Workload
from gpudoctor.facts.launch import LaunchMount
from gpudoctor.registry import get

GIB = 1 << 30
UNKNOWN = Workload()
ONE = Workload().told({"nodes": 1}, "torchrun")
FOUR = Workload().told({"nodes": 4}, "PyTorchJob")


def pod(**fields) -> Launch:
    return Launch(form="Kubernetes container", launcher="kubernetes", **fields)


@pytest.mark.parametrize(
    ("launch", "job", "status", "says"),
    [
        pytest.param(pod(network="host"), FOUR, Status.FAIL, "no dnsPolicy", id="four nodes"),
        pytest.param(
            pod(network="host", dns_policy="ClusterFirst"),
            FOUR,
            Status.FAIL,
            "dnsPolicy ClusterFirst",
            id="the default, said",
        ),
        pytest.param(pod(network="host"), UNKNOWN, Status.WARN, "not found", id="nodes unknown"),
        pytest.param(pod(network="host"), ONE, Status.PASS, "one node", id="one node"),
        pytest.param(
            pod(network="host", dns_policy="ClusterFirstWithHostNet"),
            FOUR,
            Status.PASS,
            "ClusterFirstWithHostNet",
            id="as it should be",
        ),
        pytest.param(
            pod(network="host", dns_policy="None"), FOUR, Status.PASS, "None", id="dnsConfig"
        ),
        pytest.param(
            pod(network="host", environment={"MASTER_ADDR": "10.0.0.1"}),
            FOUR,
            Status.PASS,
            "an address",
            id="an address, not a name",
        ),
        pytest.param(
            pod(network="host", environment={"MASTER_ADDR": "train-0.train"}),
            FOUR,
            Status.FAIL,
            "names of the cluster",
            id="a name",
        ),
        pytest.param(pod(), FOUR, Status.PASS, "of its own", id="healthy: the pod network"),
        pytest.param(
            pod(network="host", open_fields=("dns_policy",), open_words=("{{ .x }}",)),
            FOUR,
            Status.SKIP,
            "{{ .x }}",
            id="a template",
        ),
        pytest.param(
            Launch(form="docker run", launcher="docker", network="host"),
            FOUR,
            Status.SKIP,
            "other forms",
            id="healthy: docker",
        ),
    ],
)
def test_network(launch, job, status, says):
    finding = get("launch-network")(launch=launch, workload=job)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    if finding.fix:
        assert finding.fix.settings == (HostNetwork(),)


def at_shm(**fields) -> tuple[LaunchMount, ...]:
    return (LaunchMount(target="/dev/shm", **fields),)


@pytest.mark.parametrize(
    ("launch", "status", "says"),
    [
        pytest.param(
            pod(mounts=at_shm(tmpfs=True)), Status.WARN, "neither a sizeLimit", id="no size"
        ),
        pytest.param(
            pod(mounts=at_shm(source="emptyDir")), Status.WARN, "medium: Memory", id="on a disk"
        ),
        pytest.param(pod(mounts=at_shm(source="volume")), Status.WARN, "a volume", id="on a claim"),
        pytest.param(
            pod(mounts=at_shm(tmpfs=True, tmpfs_bytes=8 * GIB)),
            Status.PASS,
            "memory, 8 GiB",
            id="healthy: memory with a size",
        ),
        pytest.param(
            pod(mounts=at_shm(tmpfs=True), memory_bytes=64 * GIB),
            Status.PASS,
            "64 GiB",
            id="healthy: the memory limit is the size",
        ),
        pytest.param(
            pod(mounts=at_shm(source="/dev/shm")), Status.PASS, "host", id="healthy: the host's"
        ),
        pytest.param(
            pod(mounts=at_shm(tmpfs=True), open_fields=("memory_bytes",)),
            Status.SKIP,
            "memory limit",
            id="a limit that is not known",
        ),
        pytest.param(pod(), Status.SKIP, "shm-size", id="no volume"),
        pytest.param(
            pod(mounts=(LaunchMount(target="/cache", tmpfs=True),)),
            Status.SKIP,
            "no volume is mounted",
            id="healthy: another place",
        ),
        pytest.param(
            Launch(form="docker run", launcher="docker", mounts=at_shm(tmpfs=True)),
            Status.SKIP,
            "other forms",
            id="healthy: docker",
        ),
    ],
)
def test_shm(launch, status, says):
    finding = get("launch-shm")(launch=launch, workload=UNKNOWN)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    if finding.fix:
        assert isinstance(finding.fix.settings[0], ShmSize)
