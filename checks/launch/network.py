"""The network of a launch: whether the ranks of several nodes can reach each other."""

import ipaddress

from gpudoctor import (
    Capability,
    Finding,
    Fix,
    HostNetwork,
    Launch,
    Memlock,
    Workload,
    check,
    count_of,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.facts.launch import OTHER_FORM

BRIDGED = ("docker run", "podman run", "compose service")
# Docker's default, and podman's ways to be behind the host's address.
BEHIND_THE_HOST = ("", "default", "bridge", "private", "slirp4netns", "pasta")
RENDEZVOUS = "29500"  # torchrun's default (torch/distributed/run.py)


@check(
    owner="launch",
    symptoms=[
        r"Connect to .* failed",
        r"connectFullMesh failed",
        r"socketStartConnect",
        r"Timed out waiting .* for recv operation to complete",
    ],
)
def launch_ports(launch: Launch, workload: Workload) -> Finding:
    """The ranks of other nodes can reach those in this container.

    Through a published port the ranks meet, but NCCL, RCCL and gloo then connect on ephemeral
    ports, to the container's own address, which no other node has a way to. The job hangs after
    "init_process_group", or ends in "connectFullMesh failed" or "Connect to 172.17.0.2 failed".
    """
    if launch.form not in BRIDGED:
        return skip(OTHER_FORM)
    if not launch.knows("network"):
        return skip(launch.why_open)
    if launch.network.partition(":")[0] not in BEHIND_THE_HOST:
        return ok(f"network {launch.network}")
    if workload.knows("nodes") and workload.nodes == 1:
        return ok("one node")
    fix = Fix(HostNetwork())
    port = launch.environment.get("MASTER_PORT", RENDEZVOUS)
    published = [text for text in launch.ports if _inside(text) == port]
    evidence = [f"published: {', '.join(launch.ports)}"] if launch.ports else []
    # The services of one compose file can be several nodes, and reach each other.
    alone = launch.form != "compose service" or bool(published)
    if (workload.nodes > 1 and alone) or _is_elsewhere(launch):
        nodes = f"{count_of(workload.nodes, 'node')}" if workload.nodes > 1 else "several nodes"
        summary = f"{nodes} over a bridge, which only published ports get through"
        return fail(summary, fix, evidence=evidence, basis="vendor")
    if published:
        summary = f"port {port} is published: enough to meet, not to train"
        return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
    return skip("nothing says that the job has several nodes")


def _inside(published: str) -> str:
    """The container's port, or the first of several: "29500" of "127.0.0.1:80:29500-29510/tcp"."""
    return published.partition("/")[0].rpartition(":")[2].partition("-")[0]


def _is_elsewhere(launch: Launch) -> bool:
    """Whether the ranks of this job meet at an address of another machine, or of this one."""
    world = launch.environment.get("WORLD_SIZE", "")
    try:
        address = ipaddress.ip_address(launch.environment.get("MASTER_ADDR", ""))
    except ValueError:
        return False
    return world.isdigit() and int(world) > (launch.ranks or 1) and not address.is_loopback


@check(
    owner="launch",
    symptoms=[r"ibv_reg_mr\w* failed", r"ibv_create_(?:qp|cq).* failed"],
)
def launch_rdma(launch: Launch, workload: Workload) -> Finding:
    """A container with RDMA devices may lock its memory.

    InfiniBand and RoCE lock the memory that they send from. A container engine's own limit is
    8 MiB or less on most hosts: "Call to ibv_reg_mr failed with error Cannot allocate memory".
    """
    if launch.form not in BRIDGED or not any("infiniband" in path for path in launch.devices):
        return skip("it is given no RDMA devices")
    if not launch.knows("ulimits.memlock", "capabilities"):
        return skip(launch.why_open)
    if launch.privileged or "memlock" in launch.ulimits:
        return ok("the limit is said: see limits-memlock")
    if "IPC_LOCK" in launch.capabilities and launch.user in ("", "root", "0", "0:0"):
        return ok("CAP_IPC_LOCK lifts the limit")
    if workload.knows("nodes") and workload.nodes == 1:
        return ok("one node, where RDMA is not used")
    summary = "RDMA devices, and no limit for locked memory is said"
    return warn(summary, Fix(Memlock(None), Capability("IPC_LOCK")), basis="rule-of-thumb")
