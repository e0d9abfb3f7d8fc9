"""What `gpudoctor shm` answers, and how it says so."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from gpudoctor.facts.shm_use import ShmProcess, ShmUse
from gpudoctor.launch import Spelling, spell
from gpudoctor.launch.settings import ShmSize
from gpudoctor.rules.shm_table import FULL_PERCENT, Row
from gpudoctor.units import MIB, count_of, size

SCHEMA = "gpudoctor.shm/1"
MOST = 20  # lines of one kind


class Answer(Struct, frozen=True, kw_only=True):
    """The size to ask for, how it comes about, and what was measured.

    Attributes:
        processes: on this node, for which the size is meant.
        per_process_bytes: as told or measured; None: the need comes from the model.
        least_bytes: just holds it; None of the model, whose need is the most there can be.
        generous_bytes: leaves plenty; None likewise.
        per_gpu: the row of the table that was asked for.
        here_bytes: the size of this machine's /dev/shm, or of that of the processes measured.
        peak_used_bytes: the most that /dev/shm had used while it was watched.
        launch: the recommended size in the words of launchers.
    """

    schema: str = SCHEMA
    processes: int
    per_process_bytes: int | None = None
    need_bytes: int
    least_bytes: int | None = None
    recommended_bytes: int
    generous_bytes: int | None = None
    arithmetic: tuple[str, ...]
    table: tuple[Row, ...] = ()
    per_gpu: int | None = None
    here_bytes: int | None = None
    measured: ShmUse | None = None
    peak_used_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    launch: Mapping[str, Spelling] = {}
    exit_code: int = 0


def spelled(count: int, launchers: Sequence[str]) -> dict[str, Spelling]:
    """The size in the words of some launchers."""
    return {launcher: spell([ShmSize(count)], launcher) for launcher in launchers}


def percent(part: int, whole: int) -> int:
    return part * 100 // whole if whole else 0


def text(answer: Answer) -> str:
    """The answer for people."""
    many = count_of(answer.processes, "process", "processes")
    blocks = [
        _measured(answer.measured) if answer.measured else [],
        [
            f"/dev/shm for {many}: {size(answer.recommended_bytes)} recommended,"
            f" {size(answer.need_bytes)} needed"
        ],
        _table(answer),
        [f"  {line}" for line in _arithmetic(answer)],
        [f"  warning: {line}" for line in answer.warnings],
        [f"  note: {line}" for line in answer.remarks],
        *(list(_said(launcher, words)) for launcher, words in answer.launch.items()),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _table(answer: Answer) -> list[str]:
    if not answer.table:
        return []
    lines = ["    per GPU  processes        need  recommended"]
    for row in answer.table:
        mark = ">" if row.per_gpu == answer.per_gpu else " "
        need, wanted = size(row.need), size(row.recommended)
        lines.append(f"  {mark} {row.per_gpu:7}  {row.processes:9}  {need:>10}  {wanted:>11}")
    return lines


def _arithmetic(answer: Answer) -> Iterator[str]:
    yield from answer.arithmetic
    if answer.least_bytes is not None:
        yield f"at least: {size(answer.least_bytes)} just holds it, with nothing to spare"
    if answer.generous_bytes is not None:
        yield f"generous: {size(answer.generous_bytes)}, for runs of many days"
    if answer.here_bytes is not None:
        fits = "enough" if answer.here_bytes >= answer.need_bytes else "too small"
        told = f"has {size(answer.here_bytes)}: {fits}" if answer.here_bytes else "has no limit"
        yield f"here: /dev/shm {told}"


def _said(launcher: str, words: Spelling) -> Iterator[str]:
    parts = [(words.text, words.lines), (words.node_text, words.node_lines)]
    for told, lines in parts:
        if lines:
            yield f"{launcher}: {told}"
            yield from (f"  {line}" for line in lines)


def _measured(use: ShmUse) -> list[str]:
    many = count_of(len(use.counted), "process", "processes")
    lines = [
        f"{many}, children included: {size(use.held_bytes)} of /dev/shm",
        "      pid    /dev/shm  with children    RssShmem  command",
    ]
    shown = use.processes if len(use.processes) <= MOST else use.ranks
    lines += [_row(each) for each in sorted(shown, key=lambda each: (each.rank, each.pid))[:MOST]]
    if len(shown) > MOST:
        lines.append(f"  ... and {len(shown) - MOST} more")
    for place in use.places:
        share = percent(place.used_bytes, place.total_bytes)
        lines.append(
            f"  {place.path}: {size(place.used_bytes)} of {size(place.total_bytes)} used"
            f" ({share} %), {size(place.unaccounted_bytes)} by none of these"
        )
        named = [each for each in place.others if each.bytes >= MIB]
        lines += [f"    {each.name}: {size(each.bytes)}" for each in named]
        rest = place.unaccounted_bytes - sum(each.bytes for each in named)
        if rest >= MIB:
            lines.append(f"    without a name, or small: {size(rest)}")
    return lines


def _row(each: ShmProcess) -> str:
    held = "?" if each.unseen else size(each.held_bytes)
    family = "" if each.role == "worker" else size(each.family_bytes)
    rss = "?" if each.rss_shmem_bytes is None else size(each.rss_shmem_bytes)
    name = f"{'  ' * (each.role == 'worker')}{each.command}"
    return f"  {each.pid:7}  {held:>10}  {family:>13}  {rss:>10}  {name}"


def too_full(used: int, total: int) -> bool:
    """Whether so little of /dev/shm is left that the next peak may not fit."""
    return total > 0 and used * 100 > total * FULL_PERCENT
