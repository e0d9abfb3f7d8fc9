"""A node's place at the board: it says what it is at, and waits for the others in bounded time."""

import time
from collections.abc import Callable

from gpudoctor.cluster.board import Board
from gpudoctor.cluster.board.messages import BadMessage, Beat, read
from gpudoctor.snapshot import encode

PATIENCE = 15.0  # seconds without a beat, after which a node counts as lost
_BEAT = 1.0  # seconds between two
_WATCH = 2.0  # between two looks at the judge's
_STEP = 0.5  # of one wait, after which the world is looked at


class Interrupted(Exception):
    """A signal came."""


class JudgeLost(Exception):
    """Nothing is heard any more from the node that gathers; the message says since when."""


class Watch:
    """Whether another's beats go on."""

    def __init__(self) -> None:
        self.step, self.ended = "joined", ""
        self._count = -1
        self._patience, self._since = PATIENCE, time.monotonic()

    def see(self, raw: bytes | None) -> None:
        """Take note of its beat, as it stands on the board now."""
        try:
            beat = read(raw, Beat) if raw is not None else None
        except BadMessage:
            return
        if beat is not None and beat.count != self._count:
            self.step, self.ended = beat.step, beat.ended
            self._count, self._patience = beat.count, min(beat.patience, 900.0)
            self._since = time.monotonic()

    @property
    def silent(self) -> float:
        """Seconds since its last beat, once that is longer than it said; else 0."""
        seconds = time.monotonic() - self._since
        return seconds if seconds > self._patience else 0.0


class Seat:
    """One node at the board; `index` is "judge" for the one that gathers."""

    def __init__(
        self,
        board: Board,
        index: str,
        stopped: Callable[[], bool],
        patience: float = PATIENCE,
    ) -> None:
        self.board, self.index = board, index
        self._stopped, self._patience = stopped, patience
        self._judge, self._looked = Watch(), time.monotonic()
        self._count, self._said = 0, 0.0
        self._step = "joined"

    def at(self, step: str, *, ended: str = "") -> None:
        """Say what it is at; from then on `alive` is to be called every second or so."""
        self._step = step
        self._beat(ended)

    def alive(self) -> None:
        """Say that it still is.

        Raises:
            Interrupted: it is to end.
        """
        if self._stopped():
            raise Interrupted
        if time.monotonic() - self._said >= _BEAT:
            self._beat("")

    def wait(self, key: str, until: float) -> bytes | None:
        """The value of a key once it is there; None: it was not by then.

        Raises:
            Interrupted: this one is to end.
            JudgeLost: the one that would put it has ended.
        """
        while True:
            left = until - time.monotonic()
            found = self.board.get(key, max(0.0, min(_STEP, left)))
            if found is not None or left <= 0:
                return found
            self.alive()
            if time.monotonic() - self._looked >= _WATCH:
                self._looked = time.monotonic()
                self._judge.see(self.board.get("beat/judge"))
            if self._judge.ended:
                raise JudgeLost(self._judge.ended)
            if self._judge.silent:
                raise JudgeLost(f"nothing came from it in {self._judge.silent:.0f} s")

    def _beat(self, ended: str) -> None:
        self._count += 1
        self._said = time.monotonic()
        beat = Beat(count=self._count, step=self._step, patience=self._patience, ended=ended)
        self.board.put(f"beat/{self.index}", encode(beat))
