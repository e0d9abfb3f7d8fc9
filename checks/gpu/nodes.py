"""Device nodes: whether this user, in this container, may open them."""

from gpudoctor import (
    Allocation,
    Container,
    DeviceNodes,
    Expectations,
    Finding,
    Gpus,
    User,
    check,
    count_of,
    ok,
    skip,
)
from gpudoctor.rules import stops
from gpudoctor.rules.selection import promised

# A machine with the first uses that one; the processor may have a GPU of the next.
VENDORS = ("nvidia", "wsl", "amd")


@check(
    owner="launch",
    symptoms=[
        r"Failed to initialize NVML: (Unknown Error|Insufficient Permissions)",
        r"GPU access blocked by the operating system",
        r"Unable to open /dev/kfd read-write",
        r"is not member of .?render.? group",
        r"HSA_STATUS_ERROR_OUT_OF_RESOURCES",
    ],
)
def gpu_permission(
    device_nodes: DeviceNodes,
    gpus: Gpus | None,
    allocation: Allocation | None,
    user: User | None,
    container: Container | None,
    expectations: Expectations | None,
) -> Finding:
    """This user may open the GPUs' device nodes.

    Nodes that are there but cannot be opened look like no GPU at all: "Failed to initialize
    NVML: Unknown Error", "No CUDA GPUs are available", "Unable to open /dev/kfd read-write:
    Permission denied". A running container can lose them by `systemctl daemon-reload`.
    """
    if expectations and expectations.gpus == 0:
        return skip(stops.NOT_MEANT)
    for vendor in VENDORS:
        nodes = stops.nodes_of(device_nodes, vendor)
        if nodes.gpus and (nodes.control or vendor == "wsl"):
            break
    else:
        return skip("no device node of a GPU is here: see gpu-visible")
    if nodes.refused:
        return stops.closed(nodes, vendor, user, container, device_nodes.group_names).finding()
    opened = sum(not node.error for node in nodes.gpus)
    if vendor == "amd" and gpus and (absent := stops.without_node(nodes, gpus.alive)):
        wanted = promised(allocation, expectations)[0]
        if wanted is None or opened < wanted:
            stop = stops.left_out(absent, container)  # a part may be all that it was to get
            return stop.warning() if wanted is None else stop.finding()
    kept = [
        f"{node.path}: {node.error}, not given to this job" for node in nodes.gpus if node.error
    ]
    return ok(f"{opened} of {count_of(len(nodes.gpus), 'device node')} of GPUs open", kept)
