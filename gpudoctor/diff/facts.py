"""Facts of two sides, told apart field by field."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.diff.fields import (
    DERIVED,
    KEYS,
    ORDERED,
    SHOWN_BY,
    USUAL_KEYS,
    label,
    of_fact,
    tail,
    turned,
    value,
)
from gpudoctor.diff.noise import ITEMS, UNSET, noise_at, same_reason
from gpudoctor.hostlist import fold
from gpudoctor.snapshot import Fact, encode

DEEPEST = 20  # levels of a fact that nobody knows
What = Literal["changed", "new", "gone", "read", "unread"]


class Part(Struct, frozen=True):
    """A step on the way to a field: its label, and the items of a list that are meant."""

    word: str
    items: tuple[str, ...] = ()


class Change(Struct, frozen=True, kw_only=True):
    """A field that is not what it was, in one item of a list or in several alike.

    Attributes:
        fact: its name.
        path: of the field in the fact, "devices.temperature_c", without items.
        what: "changed"; "new", "gone": an item; "read", "unread": the whole fact.
        where: the field in words, "gpus[3]: temperature".
        said: what became of it, "34 °C -> 89 °C", "gone".
        before: the value, of the first item; None where there is none.
        after: likewise.
        items: of the list, if it is in one: indexes, names, paths.
        checks: that look at the fact.
    """

    fact: str
    path: str
    what: What
    where: str
    said: str
    before: Any = None
    after: Any = None
    items: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.where} {self.said}"


class _Raw(Struct, frozen=True):
    fact: str
    path: str
    what: What
    parts: tuple[Part, ...]
    said: str
    before: Any
    after: Any


def plain(facts: Mapping[str, Any], kinds: Mapping[str, type[Fact]]) -> dict[str, Any]:
    """Facts as JSON has them, with the fields that an older version did not write yet."""
    return {name: _plain(name, fact, kinds.get(name)) for name, fact in facts.items()}


def _plain(name: str, fact: Any, kind: type[Fact] | None) -> Any:
    data = msgspec.json.decode(encode(fact))
    if kind is None or _is_absent(data):
        return data
    try:
        known = msgspec.convert(data, kind)
    except msgspec.ValidationError:
        return data
    found = {word: getattr(known, word) for word in DERIVED.get(name, ())}
    found |= _filled(data, msgspec.json.decode(encode(known)))
    if name == "environment":  # names whose values are told stand there
        found["names"] = [one for one in found["names"] if one not in found["values"]]
    if name == "kernel_log":
        found["lines"] = [line.partition("] ")[2] or line for line in found["lines"]]
    return found


def _filled(data: Any, known: Any) -> Any:
    """The data, also what a newer version put into it, and the defaults of what it lacks."""
    if isinstance(data, dict) and isinstance(known, dict):
        return {**known, **{name: _filled(inner, known.get(name)) for name, inner in data.items()}}
    if isinstance(data, list) and isinstance(known, list) and len(data) == len(known):
        return [_filled(*pair) for pair in zip(data, known, strict=True)]
    return data


def changes(
    before: Mapping[str, Any], after: Mapping[str, Any], *, same_node: bool
) -> list[Change]:
    """What differs in facts that both have, noise left out, alike items folded."""
    raw: list[_Raw] = []
    for name in before:
        if name not in after:
            continue
        try:
            raw += _fact(name, before[name], after[name], same_node)
        except RecursionError:  # only a plug-in's; what was told of it until then is kept
            said = "nested too deeply to be compared"
            raw.append(_Raw(name, "", "changed", (Part(of_fact(name)),), said, None, None))
    return [_told(found) for found in _folded(raw)]


def _is_absent(fact: Any) -> bool:
    return isinstance(fact, dict) and "absent" in fact


def _fact(name: str, before: Any, after: Any, same_node: bool) -> Iterator[_Raw]:
    was, now = _is_absent(before), _is_absent(after)
    if not was and not now:
        yield from _walk(_Walk(name, same_node), name, (Part(of_fact(name)),), before, after)
        return
    reasons = [str(fact["absent"]) for fact in (before, after) if _is_absent(fact)]
    words = [_absence(before) if was else "there", _absence(after) if now else "there"]
    if was and now and words[0] == words[1] and same_reason(*reasons):
        return
    if was and now and words[0] == words[1]:
        words = reasons
    else:
        words[0] += f" ({reasons[0]})" if was else ""
        words[1] += f": {reasons[-1]}" if now else ""
    what: What = "changed" if was and now else "unread" if now else "read"
    yield _Raw(name, "", what, (Part(of_fact(name)),), " -> ".join(words), before, after)


def _absence(fact: Any) -> str:
    return "could not be read" if fact.get("broken") else "not there"


class _Walk(Struct, frozen=True):
    fact: str
    same_node: bool


def _walk(
    walk: _Walk, path: str, parts: tuple[Part, ...], before: Any, after: Any
) -> Iterator[_Raw]:
    if before == after and type(before) is type(after):
        return
    noise = noise_at(path)
    if noise and noise.covers(before, after, same_node=walk.same_node):
        return
    if isinstance(before, dict) and isinstance(after, dict) and path.count(".") < DEEPEST:
        for name in {**before, **after}:
            inner = f"{path}.{name}"
            step = (*parts, Part(label(inner)))
            yield from _walk(walk, inner, step, before.get(name, UNSET), after.get(name, UNSET))
    elif _are_records(before, after) and path.count(".") < DEEPEST:
        yield from _items(walk, path, parts, before, after)
    elif not _is_same_set(path, before, after):
        yield _raw(walk, path, "changed", parts, turned(path, before, after), before, after)


def _raw(
    walk: _Walk, path: str, what: What, parts: tuple[Part, ...], said: str, before: Any, after: Any
) -> _Raw:
    return _Raw(walk.fact, path.partition(".")[2], what, parts, said, before, after)


def _are_records(before: Any, after: Any) -> bool:
    both = isinstance(before, list) and isinstance(after, list)
    return both and all(isinstance(item, dict) for item in (*before, *after))


def _is_same_set(path: str, before: Any, after: Any) -> bool:
    if not isinstance(before, list) or not isinstance(after, list) or path in ORDERED:
        return False
    return sorted(map(_key, before)) == sorted(map(_key, after))


def _key(item: Any) -> str:
    return json.dumps(item, sort_keys=True, default=repr)


def _items(
    walk: _Walk, path: str, parts: tuple[Part, ...], before: list[Any], after: list[Any]
) -> Iterator[_Raw]:
    """Records of two lists, matched by what they are known by."""
    if path in ITEMS:
        before, after = (list(filter(ITEMS[path].counts, some)) for some in (before, after))
    keys = KEYS.get(path) or _usual(before, after)
    pairs, gone, new = _matched(keys, before, after)
    shown = SHOWN_BY.get(path) or (keys[0] if keys else ())
    for one, other in pairs:
        yield from _walk(walk, path, _of(parts, _name(other, shown)), one, other)
    for what, items in (("gone", gone), ("new", new)):
        for item in items:
            was, now = (item, None) if what == "gone" else (None, item)
            kind: What = "gone" if what == "gone" else "new"
            yield _raw(walk, path, kind, _of(parts, _name(item, shown)), kind, was, now)
    if path in ORDERED and not gone and not new:
        now_called = {id(one): _name(other, shown) for one, other in pairs}
        order = [now_called[id(one)] for one in before], [_name(other, shown) for other in after]
        if order[0] != order[1]:
            yield _raw(walk, path, "changed", parts, turned(path, *order), *order)


def _usual(before: Sequence[Any], after: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    """A field that tells all the items of either list apart; none: they are only equal or not."""
    for name in USUAL_KEYS:
        sides = [[_key(item.get(name)) for item in side] for side in (before, after)]
        told = all(name in item for item in (*before, *after))
        if told and all(len({*side}) == len(side) for side in sides):
            return ((name,),)
    return ()


def _matched(
    keys: tuple[tuple[str, ...], ...], before: Sequence[Any], after: Sequence[Any]
) -> tuple[list[tuple[Any, Any]], list[Any], list[Any]]:
    pairs: list[tuple[Any, Any]] = []
    gone, new = list(before), list(after)
    for names in keys or ((),):
        waiting: dict[str, list[Any]] = {}
        for item in new:
            waiting.setdefault(_identity(item, names), []).append(item)
        left = []
        for item in gone:
            found = waiting.get(_identity(item, names))
            if found and all(item.get(name) not in (None, "") for name in names):
                pairs.append((item, found.pop(0)))
            else:
                left.append(item)
        gone, new = left, [item for some in waiting.values() for item in some]
    return pairs, gone, new


def _identity(item: Any, names: tuple[str, ...]) -> str:
    return _key([item.get(name) for name in names] if names else item)


def _name(item: Any, shown: str | tuple[str, ...]) -> str:
    if isinstance(shown, str):
        return value("", item.get(shown))
    return "-".join(value("", item.get(name)) for name in shown) or _key(item)[:60]


def _of(parts: tuple[Part, ...], item: str) -> tuple[Part, ...]:
    return (*parts[:-1], replace(parts[-1], items=(item,)))


def _folded(raw: Sequence[_Raw]) -> list[_Raw]:
    """Changes that differ only in the item of one list are one, the innermost list first."""
    found = list(raw)
    deepest = max((len(each.parts) for each in found), default=0)
    for place in reversed(range(deepest)):
        groups: dict[str, list[_Raw]] = {}
        for each in found:
            groups.setdefault(_but(each, place), []).append(each)
        found = [_merged(group, place) for group in groups.values()]
    return found


def _but(raw: _Raw, place: int) -> str:
    """All that is told of a change but the items at a place."""
    others = [
        part if at != place or not part.items else part.word for at, part in enumerate(raw.parts)
    ]
    values = (raw.before, raw.after) if raw.what == "changed" else ()
    return repr((raw.fact, raw.path, raw.what, others, raw.said, values))


def _merged(group: list[_Raw], place: int) -> _Raw:
    first = group[0]
    if len(group) == 1 or len(first.parts) <= place:
        return first
    items = tuple(item for each in group for item in each.parts[place].items)
    parts = list(first.parts)
    parts[place] = replace(parts[place], items=tuple(dict.fromkeys(items)))
    return replace(first, parts=tuple(parts))


def _told(raw: _Raw) -> Change:
    """ "gpus[3]: links[4] active yes -> no": list items beside the first word belong to it."""
    head, rest = _spelled(raw.parts[0]), list(raw.parts[1:])
    items = [part.items for part in raw.parts if part.items]
    if rest and not rest[0].word and rest[0].items:
        head += _spelled(rest.pop(0))
    words = [word for part in rest if (word := _spelled(part))]
    return Change(
        fact=raw.fact,
        path=raw.path,
        what=raw.what,
        where=" ".join([f"{head}:", *words]),
        said=raw.said,
        before=None if raw.before is UNSET else raw.before,
        after=None if raw.after is UNSET else raw.after,
        items=items[0] if items else (),
    )


def _spelled(part: Part) -> str:
    if not part.items:
        return part.word
    if all(item.isascii() and item.isdecimal() and len(item) < 10 for item in part.items):
        inside = fold(part.items).strip("[]")
    else:
        inside = ", ".join(map(tail, part.items[:3]))
        inside += f" and {len(part.items) - 3} more" if len(part.items) > 3 else ""
    return f"{part.word}[{inside}]"
