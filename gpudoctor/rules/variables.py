"""Environment variables that training libraries read, and names that nearly are one."""

import functools
import re
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from gpudoctor.data import table

Kind = Literal["text", "integer", "boolean", "word", "exact word"]

ALLOCATOR_CONF = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
_BOOLEAN = ("1", "0", "y", "n", "yes", "no", "t", "f", "true", "false")
_LONG, _VERY_LONG = 4, 8  # letters: shorter words differ on purpose


class Leftover(Struct, frozen=True):
    """A value that makes sense only while debugging."""

    when: str  # pattern of the whole value, in any case
    cost: str
    matters: Literal["always", "ranks", "rdma"] = "always"  # with several ranks, with RDMA
    beside: Mapping[str, str] = {}  # other variables that must have such values too
    unless: str = ""  # pattern of a variable that, when set, says it is meant


class Variable(Struct, frozen=True):
    """What is known of one name."""

    status: Literal["current", "deprecated", "removed", "unread"] = "current"
    replaced_by: str = ""
    since: str = ""
    until: str = ""
    kind: Kind = "text"
    values: tuple[str, ...] = ()
    strict: bool = False  # a value that is not understood stops the program
    leftover: Leftover | None = None
    note: str = ""
    source: str = ""  # where it differs from its library's


class _Library(Struct, frozen=True):
    variables: Mapping[str, Variable]


class _Table(Struct, frozen=True):
    """The whole table."""

    libraries: tuple[_Library, ...]
    families: tuple[str, ...]  # first words of names
    misspelt: Mapping[str, str]  # first words, with the right one
    open_prefixes: tuple[str, ...]  # of names that may end in anything
    allocator_keys: tuple[str, ...]


def _table() -> _Table:
    found: _Table = table("environment", _Table)
    return found


@functools.cache
def known() -> Mapping[str, Variable]:
    """Every variable in the table, by name."""
    rows: dict[str, Variable] = {}
    for library in _table().libraries:
        rows.update(library.variables)
    return rows


def is_of_a_library(name: str) -> bool:
    """Whether a name looks like a variable of NCCL, PyTorch, CUDA or ROCm, or a slip of one."""
    first = name.upper().partition("_")[0]
    return first in _table().families or first in _table().misspelt


def is_of_nccl(name: str) -> bool:
    """Whether it is one of NCCL, of RCCL, or of PyTorch's for them."""
    return name.startswith(("NCCL_", "RCCL_", "TORCH_NCCL_"))


def meant(name: str) -> str:
    """The known variable that an unknown name must be a slip of; empty if there is none.

    Only a slip of the keyboard counts: one word off by a letter or in another place. Variables
    that differ in a short word (NCCL_IB_TC, NCCL_IB_SL) are not slips of each other.
    """
    upper = name.upper()
    if name in known() or upper.startswith(_table().open_prefixes):
        return ""
    first, _, rest = upper.partition("_")
    right = f"{_table().misspelt.get(first, first)}_{rest}"
    if right in known():
        return right
    if first not in _table().families:
        return ""
    near = [other for other in known() if other.startswith(f"{first}_") and _slip(upper, other)]
    return near[0] if len(near) == 1 else ""


def misread(name: str, value: str) -> str:
    """Why a variable's value is not understood by its library; empty if it is."""
    variable, text = known().get(name), value.strip()
    if name in ALLOCATOR_CONF:
        return _allocator_conf(value)
    if variable is None or not text:
        return ""
    if variable.kind == "integer" and not re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|\d+)", text):
        digits = re.match(r"[+-]?\d+", text)
        return f"not a number, but read as {digits[0] if digits else 0}"
    if variable.kind == "boolean" and text.lower() not in _BOOLEAN:
        return "neither 0 nor 1"
    if variable.kind == "word" and text.upper() not in variable.values:
        return f"none of {', '.join(variable.values)}"
    if variable.kind == "exact word" and text not in variable.values:
        return f"none of {', '.join(word for word in variable.values if not word.isdigit())}"
    return ""


def stops(name: str, value: str) -> bool:
    """Whether a misread value ends the program, rather than being taken for something else."""
    row = known().get(name, Variable())
    return row.strict and not (row.kind == "integer" and re.match(r"\s*[+-]?\d", value))


def corrected(name: str, value: str) -> str:
    """A misread value as it was meant; empty if that cannot be told."""
    variable = known().get(name, Variable())
    bare = value.strip().strip("\"'")
    words = {"true": "1", "yes": "1", "on": "1", "false": "0", "no": "0", "off": "0"}
    for text in (bare, bare.upper(), words.get(bare.lower(), "")):
        if text and variable.kind != "text" and not misread(name, text):
            return text
    return ""


def _allocator_conf(value: str) -> str:
    keys = _table().allocator_keys
    for item in re.sub(r"\[[^]]*\]", "", value).split(","):
        key, _, setting = (part.strip() for part in item.partition(":"))
        if "=" in key:
            return f'"{key}": an option and its value have a colon between them'
        if key == "expandable_segments" and setting not in ("True", "False"):
            return f'"{item.strip()}": True or False is expected, written so'
        near = [other for other in keys if _slip(key, other) or other == f"{key}_mb"]
        if key not in keys and near:
            return f'"{key}": no such option, but {near[0]}'
    return ""


def _slip(one: str, other: str) -> bool:
    """Whether one name is the other with a single slip of the keyboard."""
    left, right = one.split("_"), other.split("_")
    if one.replace("_", "") == other.replace("_", ""):
        return True
    if len(left) > 2 and sorted(left) == sorted(right):
        return True
    pairs = [pair for pair in zip(left, right, strict=False) if pair[0] != pair[1]]
    return len(left) == len(right) and len(pairs) == 1 and _slip_of_word(*pairs[0])


def _slip_of_word(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    if any(c.isdigit() for c in one + other) or len(long) < _LONG:
        return False
    if long.startswith(short) and len(short) >= _LONG and len(long) - len(short) <= 2:
        return True  # CONF and CONFIG
    changes = _distance(one, other)
    if changes == 1:  # in a short word another letter means another word
        return len(long) > _LONG or len(one) != len(other) or sorted(one) == sorted(other)
    swapped = len(short) > _LONG and sorted(one) == sorted(other)
    return changes == 2 and (swapped or len(short) >= _VERY_LONG)


def _distance(one: str, other: str) -> int:
    """Letters added, taken away, replaced, or swapped with their neighbour."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]
