"""RCCL: NCCL's rules, of the release that it was made from."""

from gpudoctor.data import table
from gpudoctor.rules.interface_choice.nccl import Version


def nccl_level(rocm: Version) -> Version | None:
    """The release of NCCL whose rules RCCL of this ROCm has; None: not known, it is newer."""
    rows = table("interface_choice")["rccl"]
    if rocm[:2] > tuple(rows[-1]["rocm"]):
        return None
    known = [row for row in rows if tuple(row["rocm"]) <= rocm[:2]]
    return tuple((known or rows[:1])[-1]["nccl"])
