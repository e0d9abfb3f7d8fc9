"""Where the nodes of a job leave word for each other: keys and values, and nothing else.

`store` is one in a TCPStore, `share` one in a directory; `messages` is what nodes leave there, and
a `seat` is a node that says it is alive, and waits for the others.
"""

import time
from typing import Protocol

LIMIT = 4 << 20  # bytes of a value; a node's facts are about 20 kB


class Unreachable(Exception):
    """The board is not there, or not any more; the message says why."""


class Board(Protocol):
    """What is put under a key is there for all, whole or not at all."""

    where: str  # for people: "node0:29501", a directory

    def find(self, seconds: float) -> bool:
        """Whether it is there, waited for at most so long; also another run, once renewed."""

    def put(self, key: str, value: bytes) -> None: ...

    def get(self, key: str, seconds: float = 0.0) -> bytes | None:
        """The value, waited for at most so long; at most LIMIT + 1 bytes of it."""

    def add(self, key: str, amount: int = 1) -> int:
        """Add to a number that begins at 0; what it is then."""

    def renewed(self) -> bool:
        """Whether another run has begun in the place of the one that was joined."""

    def close(self) -> None:
        """Leave; the one that opened the board takes it away."""


class Alone:
    """The board of a job that has one node."""

    where = "this node"

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._numbers: dict[str, int] = {}

    def find(self, seconds: float) -> bool:
        return True

    def put(self, key: str, value: bytes) -> None:
        self._values[key] = value

    def get(self, key: str, seconds: float = 0.0) -> bytes | None:
        if key not in self._values:
            time.sleep(seconds)
        return self._values.get(key)

    def add(self, key: str, amount: int = 1) -> int:
        self._numbers[key] = self._numbers.get(key, 0) + amount
        return self._numbers[key]

    def renewed(self) -> bool:
        return False

    def close(self) -> None:
        pass
