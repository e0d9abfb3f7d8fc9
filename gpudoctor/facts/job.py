"""The place of this process in a job of several ranks, by its launcher's variables."""

from collections.abc import Mapping

from gpudoctor.snapshot import Fact


class Job(Fact, frozen=True, kw_only=True):
    """What was told. None, 0 or empty: nobody said.

    `told_by` names for each field the variable or the option; `claims` has every variable that
    says something of a field, so that those which contradict each other can be shown.
    """

    launcher: str = ""  # "torchrun", "slurm", "openmpi", "pmi", "kubernetes", "plain"
    rank: int | None = None
    world_size: int | None = None
    local_rank: int | None = None
    local_world_size: int | None = None
    node_rank: int | None = None
    nodes: int | None = None
    master_addr: str = ""
    master_port: int | None = None
    told_by: Mapping[str, str] = {}
    claims: Mapping[str, Mapping[str, str]] = {}  # field -> variable -> value as it stands
