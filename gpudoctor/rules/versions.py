"""Versions of Python distributions, and specifiers such as ">=2,<3", as PEP 440 has them.

Of what is installed pip asks the same: a pre-release counts where its number fits.
"""

import re
from typing import NamedTuple

_VERSION = (
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_number>\d*))?"
    r"(?:-(?P<post_only>\d+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_number>\d*))?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_number>\d*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?"
)
_CLAUSE = r"\s*(===|~=|==|!=|<=|>=|<|>)\s*([^\s,]+)\s*"
_RANK = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_BEFORE_ALL, _AFTER_ALL = (-1, 0), (9, 0)


class Version(NamedTuple):
    """A version, in the order of PEP 440."""

    epoch: int
    release: tuple[int, ...]  # without zeros at its end
    pre: tuple[int, int]
    post: int  # -1: none
    dev: tuple[int, int]
    local: tuple[tuple[int, int, str], ...] = ()

    @property
    def public(self) -> "Version":
        return self._replace(local=())

    @property
    def base(self) -> tuple[int, tuple[int, ...]]:
        return self.epoch, self.release

    @property
    def is_early(self) -> bool:
        """Whether it comes before a release: alpha, beta, candidate or development."""
        return _BEFORE_ALL < self.pre < _AFTER_ALL or self.dev < _AFTER_ALL


def parse(text: str) -> Version | None:
    """The version that a text is; None: it is none."""
    match = re.fullmatch(_VERSION, text.strip().lower())
    if match is None:
        return None
    found = match.groupdict()
    release = tuple(map(int, found["release"].split(".")))
    while len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    post = -1
    if found["post_only"] or found["post"]:
        post = int(found["post_only"] or found["post_number"] or 0)
    pre = _AFTER_ALL
    if found["pre"]:
        pre = _RANK[found["pre"]], int(found["pre_number"] or 0)
    elif found["dev"] and post < 0:
        pre = _BEFORE_ALL
    dev = (0, int(found["dev_number"] or 0)) if found["dev"] else _AFTER_ALL
    parts = re.split(r"[-_.]", found["local"]) if found["local"] else []
    local = tuple((1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts)
    return Version(int(found["epoch"] or 0), release, pre, post, dev, local)


def matches(version: str, specifiers: str) -> bool:
    """Whether a version is one of those that are meant; an empty text means any.

    Raises:
        ValueError: the specifiers are not such.
    """
    clauses = _clauses(specifiers)
    found = parse(version)
    return all(
        version.strip().lower() == wanted.lower()
        if operator == "==="
        else found is not None and _fits(found, operator, wanted)
        for operator, wanted in clauses
    )


def misspelt(specifiers: str) -> str:
    """Why a text is no specifiers; empty: it is."""
    try:
        _clauses(specifiers)
    except ValueError as error:
        return str(error)
    return ""


def _clauses(specifiers: str) -> list[tuple[str, str]]:
    found = []
    for text in specifiers.split(",") if specifiers.strip() else []:
        match = re.fullmatch(_CLAUSE, text)
        if match is None or not _is_understood(match[1], match[2]):
            raise ValueError(f"{text.strip()!r} is not a specifier such as ==1.13.1 or >=2.0")
        found.append((match[1], match[2]))
    return found


def _is_understood(operator: str, wanted: str) -> bool:
    if operator == "===":
        return True
    if operator in ("==", "!=") and wanted.endswith(".*"):
        return re.fullmatch(r"v?(\d+!)?\d+(\.\d+)*", wanted[:-2].lower()) is not None
    version = parse(wanted)
    if version is None or (version.local and operator not in ("==", "!=")):
        return False
    return operator != "~=" or len(_numbers(wanted)) > 1


def _fits(found: Version, operator: str, wanted: str) -> bool:
    if operator in ("==", "!="):
        return _is_same(found, wanted) is (operator == "==")
    limit = parse(wanted)
    if limit is None:
        return False
    if operator == "~=":
        return found.public >= limit and _begins(found, limit.epoch, _numbers(wanted)[:-1])
    if operator in ("<=", ">="):
        return found.public <= limit if operator == "<=" else found.public >= limit
    same = found.base == limit.base
    if operator == "<":  # <2 is not meant to let 2rc1 in
        of_limit = found.is_early and not limit.is_early and limit.post in (-1, found.post)
        return found < limit and not (same and of_limit)
    # >1 is not meant to let 1.post1 in, nor 1+local; >1rc1 is
    of_limit = found.pre == limit.pre and found.post >= 0 > limit.post and limit.dev == _AFTER_ALL
    return found > limit and found.public != limit and not (same and of_limit)


def _is_same(found: Version, wanted: str) -> bool:
    if wanted.endswith(".*"):
        epoch = re.match(r"v?(\d+)!", wanted.lower())
        return _begins(found, int(epoch[1]) if epoch else 0, _numbers(wanted[:-2]))
    limit = parse(wanted)
    return limit is not None and (found if limit.local else found.public) == limit


def _begins(found: Version, epoch: int, numbers: tuple[int, ...]) -> bool:
    """Whether the release starts so; what it does not say of itself is 0."""
    padded = found.release + (0,) * len(numbers)
    return found.epoch == epoch and padded[: len(numbers)] == numbers


def _numbers(text: str) -> tuple[int, ...]:
    """The release of a version as it is written, zeros at its end too."""
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", text.strip().lower())
    return tuple(map(int, match[1].split("."))) if match else ()
