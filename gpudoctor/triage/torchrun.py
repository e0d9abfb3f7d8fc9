"""What torchrun tells at its end: which of its processes failed first."""

import re
from collections.abc import Callable

from msgspec.structs import replace

from gpudoctor.redact import cut_secrets
from gpudoctor.triage.document import Blamed, Spot

FIRST = r"Root Cause \(first observed failure\)"
_FIELDS = [
    rf"^ {{1,4}}(?P<name>{name}) +: (?P<value>\S+)" for name in ("time", "host", "rank", "exitcode")
]
_FAR = 12  # lines of its words on one process


class Failures:
    """Reads its report; of several, the first that was given counts."""

    def __init__(self) -> None:
        self.blamed: Blamed | None = None
        self._since = -_FAR  # the line where it began to speak of the first failure
        self._fields: dict[str, str] = {}
        self._rank: tuple[int, int] | None = None

    def begin(self) -> None:
        """Another log begins."""
        self._since, self._fields, self._rank = -_FAR, {}, None

    @property
    def patterns(self) -> dict[str, Callable[[re.Match[str], Callable[[], Spot]], None]]:
        """What is looked for, and what to do with a match."""
        return {FIRST: self._first, **dict.fromkeys(_FIELDS, self._field)}

    def rank_at(self, line: int) -> int | None:
        """The rank of which it speaks in a line."""
        return self._rank[0] if self._rank and 0 <= line - self._rank[1] <= 3 else None

    def _first(self, match: re.Match[str], where: Callable[[], Spot]) -> None:
        self._since, self._fields = where().line, {}

    def _field(self, match: re.Match[str], where: Callable[[], Spot]) -> None:
        name, value, spot = match["name"], match["value"], where()
        if name == "rank" and value.isdecimal():
            self._rank = int(value), spot.line
        if spot.line - self._since > _FAR or self.blamed:
            return
        self._fields[name] = value
        if name == "exitcode" and self._fields.get("rank", "").isdecimal():
            self.blamed = Blamed(
                rank=int(self._fields["rank"]),
                host=self._fields.get("host", ""),
                time=self._fields.get("time", "").replace("_", " "),
                exit_code=int(value) if re.fullmatch(r"-?\d{1,4}", value) else None,
                spot=replace(spot, text=cut_secrets(spot.text)),
            )
