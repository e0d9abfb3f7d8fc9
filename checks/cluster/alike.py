"""What the nodes of one job must have alike: versions, image, code, variables, GPUs, limits."""

from gpudoctor import Code, Finding, Members, Nodes, Status, check, skip, unknown
from gpudoctor.rules.alike import NO_GPU, Comparison, model
from gpudoctor.rules.differences import ONE_NODE, judged
from gpudoctor.rules.levelling import level
from gpudoctor.rules.traits import GPU_COUNT, GPU_MODEL

HANGS = [
    r"Watchdog caught collective operation timeout",
    r"ran for \d+ milliseconds before timing out",
]
NO_PYTHON = "no node tells its driver or its Python; --python names the job's"
NO_IMAGE = "no image, package or code is known; --code DIR compares the job's own"


@check(
    owner="image",
    symptoms=[
        r"Mismatched NCCL version detected",
        r"Message truncated ?: received \d+ bytes instead of \d+",
        r"Detected mismatch between collectives on ranks",
        *HANGS,
    ],
)
def cluster_versions(nodes: Nodes) -> Finding:
    """All nodes run the same driver, torch, NCCL and CUDA or ROCm.

    NCCL compares versions when it starts and gives up: "Mismatched NCCL version detected". Other
    versions of torch disagree on which collective comes next, and hang or end with "Message
    truncated : received 1024 bytes instead of 256". An older driver is slower or lacks a feature
    that the others agree to use.
    """
    return judged(nodes, "versions", level, blank=NO_PYTHON)


@check(
    owner="image",
    symptoms=[
        r"Detected mismatch between collectives on ranks",
        r"AttributeError: module .* has no attribute",
        r"ImportError: cannot import name",
        *HANGS,
    ],
)
def cluster_image(nodes: Nodes) -> Finding:
    """All nodes run the same image, packages and code.

    A tag that was pulled last week on one node, a stale copy of the script, a package that was
    upgraded by hand: the ranks then run different programs. One of them calls a collective that
    the others do not, and all wait until "Watchdog caught collective operation timeout".
    """
    finding = judged(nodes, "image", level, blank=NO_IMAGE)
    unread = {name: code.error for name, code in nodes.each(Code).items() if code.error}
    if unread and finding.status in (Status.PASS, Status.SKIP):
        name, why = next(iter(unread.items()))
        return unknown(f"the code cannot be compared: {why} ({name})")
    return finding


@check(
    owner="launch",
    symptoms=[
        r"Message truncated ?: received \d+ bytes instead of \d+",
        r"Timed out after \d+ seconds waiting for clients",
        r"NET/Socket : message truncated",
        *HANGS,
    ],
)
def cluster_environment(nodes: Nodes) -> Finding:
    """All nodes have the same variables of NCCL, torch and MPI.

    A variable that is exported in one shell's profile, or that ssh and mpirun did not carry over,
    makes that node choose another algorithm, buffer or network than the rest. NCCL then hangs in
    the first collective, or says "Message truncated : received 1024 bytes instead of 256".
    """
    return judged(nodes, "environment", level, blank="no node tells its environment")


@check(
    owner="node",
    symptoms=[
        r"CUDA error: invalid device ordinal",
        r"RuntimeError: .*invalid device ordinal",
        *HANGS,
    ],
)
def cluster_gpus(nodes: Nodes, members: Members | None) -> Finding:
    """Nodes of one kind have the same GPUs in the same mode.

    Every step waits for the slowest GPU: one with a lower power limit, fewer links or in another
    mode slows the whole job down. A node that lacks one GPU ends its rank with "CUDA error:
    invalid device ordinal", and all others with a timeout.
    """
    if len(nodes.snapshots) < 2:
        return skip(ONE_NODE)
    if all(model(node) in ("", NO_GPU) for node in nodes.snapshots):
        return skip("no GPU is seen on any node")
    ranks = {m.name: m.ranks for m in members.members} if members else {}

    def is_meant(difference: Comparison) -> bool:
        """Whether each node has as many GPUs as the launcher gave it ranks."""
        if difference.trait is not GPU_COUNT:
            return False
        groups = difference.split.groups.items()
        return all(ranks.get(name) == int(count) for count, names in groups for name in names)

    def is_bare(difference: Comparison) -> bool:
        """Whether nodes without a GPU have as many ranks as the others, which do have GPUs."""
        groups = difference.split.groups
        if difference.trait is not GPU_MODEL or NO_GPU not in groups:
            return False
        told = {value: {ranks.get(name) for name in names} for value, names in groups.items()}
        with_gpus = set().union(*(told[value] for value in told if value != NO_GPU))
        return None not in with_gpus and told[NO_GPU] <= with_gpus

    blank = "GPUs are seen on one node only"
    return judged(nodes, "gpus", level, blank=blank, spare=is_meant, also=is_bare)


@check(
    owner="launch",
    symptoms=[
        r"DataLoader worker .* killed by signal: Bus error",
        r"Too many open files",
        r"ibv_reg_mr.* failed",
        r"failed to extend /dev/shm/nccl-",
        *HANGS,
    ],
)
def cluster_limits(nodes: Nodes) -> Finding:
    """All nodes give the job the same limits.

    A node whose /dev/shm, locked memory, open files or memory are set lower is the one that fails
    first, and often hours later: "Bus error", "Too many open files", "ibv_reg_mr failed". The
    other ranks only see that it is gone.
    """
    return judged(nodes, "limits", level, blank="no node tells its limits")
