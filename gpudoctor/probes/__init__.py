"""The only code that looks at the machine; one module per source, named like its facts."""

import errno
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from gpudoctor.snapshot import Absent, Fact

if typing.TYPE_CHECKING:
    from gpudoctor.facts.demands import Demands

R = TypeVar("R", bound=Fact | Absent, covariant=True)

READ_LIMIT = 1 << 20  # bytes; nothing in /proc or /sys that we read is larger


class Machine:
    """The machine as a probe sees it: a file tree, the environment, the job's directory.

    Attributes:
        root: where the machine's tree is mounted; "/" is this very machine.
        env: the environment variables of the job; none of a tree that nobody runs in.
        cwd: the job's working directory.
        python: the interpreter that was asked for, or None: find the job's own.
        checkpoint_dir: where the job will keep its checkpoints, or None: not told.
        told: what options and configuration say of the job: nodes, local_ranks, node_rank,
            master_addr, master_port; cluster: nodes are compared; code: the directory of the
            job's own code.
        shape: nodes and local_ranks as the profile has them, where nobody tells.
        demands: what the profile asks for beyond the machine, or None: nothing.
    """

    __slots__ = ("checkpoint_dir", "cwd", "demands", "env", "python", "root", "shape", "told")

    def __init__(
        self,
        root: str = "/",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        python: str | None = None,
        checkpoint_dir: str | None = None,
        told: Mapping[str, int | str] | None = None,
        demands: "Demands | None" = None,
        shape: Mapping[str, int | str] | None = None,
    ) -> None:
        self.root = root
        self.env: Mapping[str, str] = dict(os.environ) if root == "/" else {}
        if env is not None:
            self.env = env
        self.cwd = cwd
        self.python = python
        self.checkpoint_dir = checkpoint_dir
        self.told = told or {}
        self.shape = shape or {}
        self.demands = demands

    @property
    def live(self) -> bool:
        """Whether this is the machine and the process that we run in."""
        return self.root == "/"

    def path(self, path: str) -> str:
        """Where an absolute path of the machine is found from here."""
        return path if self.live else self.root.rstrip("/") + path

    def read(self, path: str) -> str:
        """The text of a file, at most READ_LIMIT bytes of it.

        Raises:
            OSError: it cannot be read.
        """
        descriptor = os.open(self.path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            chunks, left = [], READ_LIMIT
            while left > 0 and (chunk := os.read(descriptor, left)):
                chunks.append(chunk)
                left -= len(chunk)
        finally:
            os.close(descriptor)
        return b"".join(chunks).decode("utf-8", "replace")

    def text(self, path: str) -> str | None:
        """The text of a file without the white space around it; None if it cannot be read."""
        try:
            return self.read(path).strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """The whole number in a file; None if there is none."""
        text = self.text(path)
        try:
            return int(text) if text else None
        except ValueError:
            return None

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted; none if it cannot be read."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError:
            return []

    def link(self, path: str) -> str:
        """Where a symbolic link points; empty if it cannot be read."""
        try:
            return os.readlink(self.path(path))
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        return os.path.exists(self.path(path))


class Probe(Generic[R]):
    """A function that looks, and how it may be run.

    Attributes:
        kind: the fact that it returns.
        isolated: it may hang or crash, so it runs in a forked child.
        alone: it leaves its process changed (a driver's library is loaded), so no other
            probe runs in the same one; implies isolated.
        timeout: seconds after which the child is given up.
        deep: it loads the machine, so it runs only with `--deep`.
        slow: why it does not run unless checks are named; empty: it is fast.
        unless: a cheap question, asked before a child is taken: why there is nothing to look
            at, or empty. It must neither hang nor load anything.
        contacts: whom it would contact beyond this machine, in a line each; None: nobody.
    """

    __slots__ = (
        "alone",
        "contacts",
        "deep",
        "isolated",
        "kind",
        "look",
        "slow",
        "timeout",
        "unless",
    )

    def __init__(
        self,
        look: Callable[[Machine], R],
        *,
        isolated: bool,
        alone: bool,
        timeout: float,
        deep: bool,
        slow: str,
        unless: Callable[[Machine], str] | None,
        contacts: Callable[[Machine], Sequence[str]] | None,
    ) -> None:
        self.look = look
        self.kind = _kind_of(look)
        self.isolated = isolated or alone
        self.alone = alone
        self.timeout = timeout
        self.deep = deep
        self.slow = slow
        self.unless = unless
        self.contacts = contacts

    def __call__(self, machine: Machine) -> R:
        return self.look(machine)


def probe(
    *,
    isolated: bool = False,
    alone: bool = False,
    timeout: float = 5.0,
    deep: bool = False,
    slow: str = "",
    unless: Callable[[Machine], str] | None = None,
    contacts: Callable[[Machine], Sequence[str]] | None = None,
) -> Callable[[Callable[[Machine], R]], Probe[R]]:
    """Make a probe of a function; its return annotation names the fact.

    Whatever touches a driver, a network mount, a resolver, another process or a foreign
    library must be isolated. An exception becomes `Absent(..., broken=True)`.
    """
    return lambda look: Probe(
        look,
        isolated=isolated,
        alone=alone,
        timeout=timeout,
        deep=deep,
        slow=slow,
        unless=unless,
        contacts=contacts,
    )


def error_words(error: OSError) -> str:
    """The error as facts tell it: "EROFS: Read-only file system"."""
    return f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"


def _kind_of(look: Callable[..., object]) -> type[Fact]:
    hint = look.__annotations__.get("return")
    if isinstance(hint, str):
        hint = typing.get_type_hints(look)["return"]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Fact):
            return kind
    raise TypeError(f"{look.__name__}: the return annotation names no fact")
