"""What a check is: a pure function from facts to a finding, with its documentation."""

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from gpudoctor.finding import Finding, Owner
from gpudoctor.snapshot import Absent, Fact

LAUNCH = "launch"  # the topic of checks that judge launch files, and no machine
CLUSTER = "cluster"  # the topic of those that judge several nodes together


class Need(Struct, frozen=True):
    """A fact that a check asks for; without an optional one it is asked all the same.

    `reason`: it takes an Absent in the fact's place, and says itself what that means.
    """

    kind: type[Fact]
    optional: bool
    reason: bool = False


class Check:
    """A judging function together with everything that is said about it.

    Attributes:
        id: `topic-what`, the function's name with hyphens; never reused.
        title: the good state as one statement, so that `pass` reads true.
        why: what happens later when it is not so.
        owner: who must act, unless a finding says otherwise.
        symptoms: patterns (re) of the errors that this fault causes later.
        aliases: former ids, still answered to.
    """

    __slots__ = ("_needs", "aliases", "id", "judge", "owner", "symptoms", "title", "why")

    def __init__(
        self,
        judge: Callable[..., Finding],
        owner: Owner,
        symptoms: Sequence[str],
        aliases: Sequence[str],
    ) -> None:
        title, _, why = (judge.__doc__ or "").strip().partition("\n")
        self.judge = judge
        self.id = judge.__name__.replace("_", "-")
        self.title = title.removesuffix(".")
        self.why = "\n".join(line.strip() for line in why.strip().splitlines())
        self.owner: Owner = owner
        self.symptoms = tuple(symptoms)
        self.aliases = tuple(aliases)
        self._needs: dict[str, Need] | None = None

    @property
    def topic(self) -> str:
        """The first word of the id, and the module or package that the check stands in."""
        return self.id.partition("-")[0]

    @property
    def needs(self) -> Mapping[str, Need]:
        """The facts asked for, by parameter; read off the annotations."""
        if self._needs is None:
            hints = self.judge.__annotations__
            if any(isinstance(hint, str) for hint in hints.values()):
                hints = typing.get_type_hints(self.judge)
            self._needs = {n: _need(self.id, n, h) for n, h in hints.items() if n != "return"}
        return self._needs

    def __call__(self, *args: Any, **facts: Any) -> Finding:
        return self.judge(*args, **facts)

    def __repr__(self) -> str:
        return f"<check {self.id}>"


def check(
    *, owner: Owner, symptoms: Sequence[str] = (), aliases: Sequence[str] = ()
) -> Callable[[Callable[..., Finding]], Check]:
    """Make a check of a function.

    Its name is the id, its docstring title and reason, its parameters the facts it needs
    (`gpus: Gpus | None` makes one optional; `gpus: Gpus | Absent` as well, and says why).
    """
    return lambda judge: Check(judge, owner, symptoms, aliases)


def _need(check_id: str, parameter: str, hint: Any) -> Need:
    parts = _parts(hint)
    kinds = [part for part in parts if part is not types.NoneType and part is not Absent]
    if len(kinds) != 1 or not (isinstance(kinds[0], type) and issubclass(kinds[0], Fact)):
        raise TypeError(f"{check_id}: parameter {parameter!r} is not a fact but {hint!r}")
    return Need(kinds[0], optional=len(parts) > 1, reason=Absent in parts)


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union; a hint of any other form is its only one."""
    if isinstance(hint, type):
        return (hint,)
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if is_union else (hint,)
