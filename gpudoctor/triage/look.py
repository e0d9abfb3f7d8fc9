"""Lines -> which rules they match, where first, how often, and on which ranks."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.redact import cut_secrets
from gpudoctor.rules import nccl_log
from gpudoctor.triage.document import Log, Spot
from gpudoctor.triage.needles import needles
from gpudoctor.triage.origin import Origin, origin
from gpudoctor.triage.reading import Source, Unreadable, pieces
from gpudoctor.triage.rule import Rule
from gpudoctor.triage.sieve import Lines, Shape, Sieve, ends
from gpudoctor.triage.torchrun import Failures

ENOUGH = 1000  # lines of a shape that one rule matched; those after them are only counted
MOST_SPEAKERS = 20_000  # of one rule
NEAR = 40  # lines before one without a time, in which to look for it
FAR = 200  # lines before the end of a traceback, in which it begins
SHOWN = 2000  # characters of a line that are kept
FIRST, BEFORE = 150, 60  # where in it what matches begins later, so many of those before it

# Words of launchers and runtimes, the surest first.
BETRAYS = {
    "pyxis": r"\bpyxis: ",
    "slurm": r"\b(?:slurmstepd|srun|sbatch|slurmd)(?:\[\d+\])?: ",
    "kubernetes": r"\bkubelet\b|\bkubectl\b|\bkube-system\b|\bpod/[a-z]|ImagePullBackOff|OOMKilled"
    r"|\bdefault-scheduler\b",
    "podman": r"\bpodman (?:run|start|exec)\b|Error: OCI runtime error",
    "docker": r"^docker: |\bdockerd\b|Error response from daemon|\bdocker run\b",
    "apptainer": r"\b(?:apptainer|singularity) (?:exec|run|shell)\b|^FATAL: {3}",
}


# Of what no rule knows at least the words of the exception are told.
UNKNOWN = Rule(
    id="python-exception",
    pattern=r"^(?P<name>(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Timeout)): (?P<words>.*\S)",
    role="symptom",
    means="{name}, which no rule here knows: {words}",
    owner="job",
    do="Read the lines before it; they say where in the code it was raised.",
    source="Python's traceback module",
    example="RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x511 and 512x128)",
)
_TRACE = "Traceback (most recent call last)"

Tell = Callable[[re.Match[str], Callable[[], Spot]], Any]


class Place(Struct, frozen=True):
    """Where a line stands, and what orders it among others."""

    spot: Spot
    file: int
    clock: str
    when: float


class Seen:
    """A rule that matched, and who said it: rank, or host and process."""

    def __init__(self, rule: Rule, place: Place, groups: dict[str, str]) -> None:
        self.rule = rule
        self.first = place
        self.groups = groups
        self.count = 0
        self.who: dict[tuple[int | None, str, int | None], None] = {}


class Seeker:
    """A pattern, and the rule that it is of, or whoever wants to know of its matches.

    Attributes:
        once: of lines that differ only in numbers, one is enough.
    """

    def __init__(
        self,
        pattern: str,
        *,
        rule: Rule | None = None,
        tell: Tell | None = None,
        once: bool = False,
    ) -> None:
        self.needles = needles(pattern)
        self.pattern = pattern
        self.rule = rule
        self.tell = tell
        self.once = once

    def search(self, line: "Read") -> re.Match[str] | None:
        """The match in a line; one that must be at its beginning, in what is behind its prefix."""
        return _compiled(self.pattern).search(
            line.bare.text if self.needles.anchored else line.whole
        )


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Each once, when a line asks for it: of hundreds a log needs few."""
    return re.compile(pattern)


class Read:
    """A line that is read, and its origin once somebody asks."""

    def __init__(self, raw: bytes) -> None:
        self.whole = ends(raw).decode("utf-8", "replace").replace("\0", "")
        self._bare: Origin | None = None

    @property
    def bare(self) -> Origin:
        self._bare = self._bare or origin(self.whole)
        return self._bare


class Story:
    """All that logs tell."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.seen: dict[str, Seen] = {}
        self.logs: list[Log] = []
        self.nccl = nccl_log.Reader()
        self.failures = Failures()
        self.betrayed: set[str] = set()
        self.ranks: dict[tuple[str, int], int] = {}  # by host and process, as NCCL has them
        self._sieve = Sieve((one, one.needles) for one in self.seekers(rules))
        self._exceptions = 0
        self._timed: Origin | None = None  # the last line of this log that had a time

    def read(
        self,
        sources: Iterable[Source],
        *,
        progress: Callable[[str, int], Any] = lambda *_: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take in logs, one after the other."""
        for source in sources:
            if stopped():
                break
            self._timed = None
            self.failures.begin()
            size = lines = 0
            reason = ""
            try:
                for piece in pieces(source, stopped):
                    self._piece(piece, source, lines)
                    size += len(piece)
                    lines += piece.count(b"\n")
                    progress(source.name, size)
                    if stopped():
                        reason = "interrupted"
                        break
            except Unreadable as error:
                reason = str(error)
            self.logs.append(
                Log(name=source.name, bytes=size, lines=lines, rank=source.rank, reason=reason)
            )

    def seekers(self, rules: Sequence[Rule]) -> Iterator[Seeker]:
        """What lines are asked for: rules first."""
        for rule in (*rules, UNKNOWN):
            yield Seeker(rule.pattern, rule=rule)
        for pattern, take in self.nccl.patterns.items():
            tell = self._init if pattern == nccl_log.INIT else _only_match(take)
            if pattern != nccl_log.WARNING:  # rules speak of those
                yield Seeker(pattern, tell=tell, once=pattern in nccl_log.ALIKE)
        for pattern, read in self.failures.patterns.items():
            yield Seeker(pattern, tell=read)
        for launcher, pattern in BETRAYS.items():
            betrays = functools.partial(self.betrayed.add, launcher)
            yield Seeker(pattern, tell=lambda *_, betrays=betrays: betrays(), once=True)

    def _piece(self, piece: bytes, source: Source, before: int) -> None:
        lines, hits = self._sieve.sift(piece)
        for place, shape in hits:
            if shape.seen < ENOUGH:
                self._line(lines, place, shape, source, before)
            else:
                self.seen[shape.known].count += 1  # by what matched its lines so far
        tail = Lines(piece[-4096:])
        self._timed = _near(tail, len(tail)) or self._timed

    def _line(
        self, lines: Lines, place: int, shape: Shape[Seeker], source: Source, before: int
    ) -> None:
        line = Read(lines[place])
        spot = functools.partial(_spot, line, source, lines, place, before)
        matched = False
        for seeker in tuple(shape.items):
            if matched and seeker.rule:
                continue
            match = seeker.search(line)
            if match is None:
                continue
            if seeker.rule:
                if seeker.rule is UNKNOWN and not self._unknown(lines, place, line.bare):
                    continue
                matched = True
                self._saw(seeker.rule, match, line.bare, spot(), lines, place)
                shape.known, shape.seen = seeker.rule.id, shape.seen + 1
            elif seeker.tell:
                seeker.tell(match, spot)
                if seeker.once:
                    shape.items.remove(seeker)

    def _unknown(self, lines: Lines, place: int, bare: Origin) -> bool:
        """Whether an exception ended something; of very many no further ones are looked at."""
        self._exceptions += 1
        return self._exceptions < MOST_SPEAKERS and _ends_a_trace(lines, place, bare)

    def _saw(
        self,
        rule: Rule,
        match: re.Match[str],
        bare: Origin,
        spot: Spot,
        lines: Lines,
        place: int,
    ) -> None:
        seen = self.seen.get(rule.id)
        if seen is None:
            timed = bare if bare.clock else _near(lines, place) or self._timed or bare
            groups = {name: value or "" for name, value in match.groupdict().items()}
            if spot.rank is None:
                spot = replace(spot, rank=self.failures.rank_at(spot.line))
            spot = replace(spot, time=timed.time, text=_shown(match, spot.text))
            first = Place(spot, len(self.logs), timed.clock, timed.when)
            seen = self.seen[rule.id] = Seen(rule, first, groups)
        seen.count += 1
        if len(seen.who) < MOST_SPEAKERS:
            rank = self.failures.rank_at(spot.line) if spot.rank is None else spot.rank
            seen.who[rank, spot.host, spot.pid if rank is None else None] = None

    def _init(self, match: re.Match[str], spot: Callable[[], Spot]) -> None:
        self.nccl.patterns[nccl_log.INIT](match)
        if len(self.ranks) < MOST_SPEAKERS and (pid := (here := spot()).pid) is not None:
            self.ranks.setdefault((here.host, pid), int(match["rank"]))


def _only_match(take: Callable[[re.Match[str]], Any]) -> Tell:
    return lambda match, spot: take(match)


def _spot(line: Read, source: Source, lines: Lines, place: int, before: int) -> Spot:
    bare = line.bare
    return Spot(
        file=source.name,
        line=before + lines.numbers[place] + 1,
        text=bare.text[:SHOWN].strip(),
        rank=source.rank if bare.rank is None else bare.rank,
        host=bare.host,
        pid=bare.pid,
        time=bare.time,
    )


def _shown(match: re.Match[str], text: str) -> str:
    """The line, or of one that is long what stands around that which matches."""
    if match.start() <= FIRST or len(text) <= 2 * FIRST:
        return text
    # Of a secret that is cut in two the rest would look like none.
    at = len(cut_secrets(match.string[: match.start()]))
    return f"...{cut_secrets(match.string)[max(at - BEFORE, 0) :][:SHOWN].strip()}"


def _ends_a_trace(lines: Lines, place: int, bare: Origin) -> bool:
    """Whether it is the last line of a traceback that Python died of, not of one it ignores."""
    for back in range(place - 1, max(place - FAR, -1), -1):
        above = origin(lines[back][:300].decode("utf-8", "replace"))
        if above.rank != bare.rank:
            continue
        if above.text.startswith(_TRACE):
            before = lines[back - 1] if back else b""
            return b"Exception ignored in" not in before and b"--- Logging error" not in before
        if not above.text.startswith((" ", "|")):
            return False
    return False


def _near(lines: Lines, place: int) -> Origin | None:
    """The last line before this one that has a time."""
    for raw in reversed(lines[max(0, place - NEAR) : place]):
        bare = origin(raw[:300].decode("utf-8", "replace"))
        if bare.clock:
            return bare
    return None
