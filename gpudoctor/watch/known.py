"""What the rules of `triage` know of new lines."""

import io
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from gpudoctor.rules import nccl_choice
from gpudoctor.watch.look import Told

if TYPE_CHECKING:
    from gpudoctor.triage.document import Sighting
    from gpudoctor.triage.look import Story

# What NCCL chose and nobody can have meant; that it has no RDMA, or no P2P, may be the machine's.
UNMEANT = ("net-wireless", "nccl-interface", "nccl-hca")


class Reader:
    """Reads on and on, and tells of each rule once: that it matched, on whatever rank first."""

    def __init__(self) -> None:
        self._story: Story | None = None  # it is some MB, and most hosts log nothing
        self._told: set[str] = set()
        self._choosing = self._chooses = False

    def read(self, name: str, text: bytes) -> Iterator[Told]:
        """What the next lines of a log tell that was not told yet."""
        from gpudoctor.triage.look import Story
        from gpudoctor.triage.reading import Source
        from gpudoctor.triage.rule import builtin

        story = self._story = self._story or Story(builtin())
        before = len(story.seen)
        story.read([Source(name, partial(_opened, text))])
        story.logs.clear()
        self._chooses |= b"NCCL" in text
        if len(story.seen) > before:
            yield from self._seen(story, name)

    def chosen(self) -> Iterator[Told]:
        """What NCCL chose, once a look brought no more lines of its choosing."""
        chooses, self._chooses = self._chooses, False
        self._choosing, asked = chooses, self._choosing and not chooses
        if self._story is None or not asked:
            return
        for means, checks in nccl_choice.remarks(self._story.nccl.log):
            if means not in self._told and checks[0] in UNMEANT:
                self._told.add(means)
                yield Told(
                    log="NCCL",
                    id="nccl-choice",
                    role="remark",
                    means=f"NCCL: {means}",
                    do="Set NCCL_SOCKET_IFNAME or NCCL_IB_HCA for all ranks",
                    check=checks[0],
                )

    def _seen(self, story: "Story", name: str) -> Iterator[Told]:
        from gpudoctor.triage.conclude import conclude

        document = conclude(story)
        for one in filter(None, (document.first, *document.others, *document.notes)):
            if one.rule not in self._told:
                self._told.add(one.rule)
                yield Told(
                    log=name,
                    id=one.rule,
                    role=one.role,
                    means=one.means,
                    do=_do(one),
                    check=one.checks[0] if one.checks else "",
                    rank=one.first.rank,
                )


def _opened(text: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(text))


def _do(one: "Sighting") -> str:
    for fix in one.fixes:
        command = next(iter(fix.commands), "")
        if fix.text and not fix.text.endswith(":"):
            return fix.text.rstrip(".")
        if command:
            return f"{fix.text} `{command}`".lstrip()
    return ""
