"""What only manifests of Kubernetes can say wrong."""

import ipaddress

from gpudoctor import (
    Finding,
    Fix,
    HostNetwork,
    Launch,
    ShmSize,
    Workload,
    check,
    fail,
    ok,
    shm_need,
    size,
    skip,
    warn,
)
from gpudoctor.facts.launch import OTHER_FORM

POD = "Kubernetes container"
# kubernetes.io, "DNS for Services and Pods": the policies that a pod in the host's network keeps.
IN_CLUSTER = ("ClusterFirstWithHostNet", "None")


@check(
    owner="launch",
    symptoms=[
        r"Temporary failure in name resolution",
        r"Name or service not known",
        r"client socket has failed to connect to any network address of",
        r"The IPv4 network addresses of .* cannot be retrieved",
    ],
)
def launch_network(launch: Launch, workload: Workload) -> Finding:
    """A pod in the host's network can look up the names of other pods.

    With hostNetwork the default dnsPolicy asks the node's name servers, which know nothing of
    the cluster: ranks that meet at the name of a pod or a Service end in "The IPv4 network
    addresses of (train-master-0, 29500) cannot be retrieved" or "Name or service not known".
    """
    if launch.form != POD:
        return skip(OTHER_FORM)
    if not launch.knows("network", "dns_policy"):
        return skip(f"not known before it runs: {', '.join(launch.open_words)}")
    if launch.network != "host":
        return ok("the pod has a network of its own")
    if launch.dns_policy in IN_CLUSTER:
        return ok(f"hostNetwork with dnsPolicy {launch.dns_policy}")
    if workload.knows("nodes") and workload.nodes == 1:
        return ok("one node: there is no other pod to look up")
    if _is_address(launch.environment.get("MASTER_ADDR", "")):
        return ok("the ranks meet at an address, not at a name")
    policy = f"dnsPolicy {launch.dns_policy}" if launch.dns_policy else "no dnsPolicy"
    summary = f"hostNetwork with {policy}: names of the cluster are not found"
    judged = fail if workload.nodes > 1 else warn
    return judged(summary, Fix(HostNetwork()), basis="vendor")


@check(
    owner="launch",
    symptoms=[
        r"Usage of EmptyDir volume .* exceeds the limit",
        r"The node was low on resource: (memory|ephemeral-storage)",
    ],
)
def launch_shm(launch: Launch, workload: Workload) -> Finding:
    """The volume at /dev/shm is memory, and has a size.

    Without `medium: Memory` it is a directory on the node's disk: every tensor between workers
    is written there, and the pod is evicted when the disk fills: "The node was low on resource:
    ephemeral-storage". In memory, with neither a sizeLimit nor a memory limit, it grows until
    the node runs out: "The node was low on resource: memory" takes other pods with it.
    """
    if launch.form != POD:
        return skip(OTHER_FORM)
    present = [mount for mount in launch.mounts if mount.target == "/dev/shm"]
    if not present:
        return skip("no volume is mounted at /dev/shm: see shm-size")
    (mount, *_), limit = present, launch.memory_bytes
    fix = Fix(ShmSize(shm_need(workload).recommended))
    if mount.tmpfs and mount.tmpfs_bytes:
        return ok(f"memory, {size(mount.tmpfs_bytes)}")
    if mount.tmpfs and not launch.knows("memory_bytes"):
        return skip("its size is the memory limit, which is not known before it runs")
    if mount.tmpfs and limit:
        return ok(f"memory, as much as the memory limit of {size(limit)} leaves")
    if mount.tmpfs:
        summary = "an emptyDir with neither a sizeLimit nor a memory limit"
        return warn(summary, fix, basis="vendor")
    if mount.source == "/dev/shm":
        return ok("the host's own")
    what = "an emptyDir without medium: Memory" if mount.source == "emptyDir" else "a volume"
    return warn(f"{what}: it lies on a disk, not in memory", fix, basis="vendor")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
