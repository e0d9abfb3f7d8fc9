"""What leaves with a report: names and addresses replaced by tokens that tell nothing.

A token (host-01, user-1) is given in the order in which values come, never made from them, and
stands for the same value in every text and every report that one Redactor is given.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from gpudoctor.hostlist import BadHostlist, fold, unfold
from gpudoctor.identities import Name, names_in
from gpudoctor.redact import cut_secrets
from gpudoctor.report import Redaction, Report, hides_more
from gpudoctor.rules.identifiers import (
    ACCOUNT,
    ADDRESS,
    DOMAIN,
    GPU,
    GUID,
    HOST,
    LITTLE,
    MAC,
    MAIL,
    USER,
    Hit,
    found_in,
    is_everyday,
)
from gpudoctor.snapshot import Snapshot

INTERNAL = frozenset({USER, MAIL, ACCOUNT})  # kinds that are replaced at every level but none
# Beginnings of tokens, by kind; of the others the kind itself.
TOKENS = {HOST: "host", ADDRESS: "ip", MAC: "mac", GUID: "guid", GPU: "gpu", USER: "user"} | {
    MAIL: "mail",
    ACCOUNT: "cloud",
    DOMAIN: "domain",
}
# What checks say of themselves, words of ours, and numbers of versions.
_OURS = frozenset({"id", "topic", "status", "owner", "basis", "for", "launcher", "symptoms"}) | {
    *(
        "schema",
        "setting",
        "packages",
        "version",
        "versions",
        "started",
        "profile",
        "title",
        "why",
        "url",
    ),
}
# Where a value is a host's name, however ordinary the word.
_NAMING = frozenset({"hostname", "hosts_lines", "name", "names", "nodes", "missing", "exclude"}) | {
    *("source", "target", "master_addr", "MASTER_ADDR", "PET_MASTER_ADDR")
}
_UUID = 36  # characters of a whole one
_SHORT = 3  # characters: a shorter name stands in no longer word
_CACHED = 50_000  # texts; what nodes say is mostly alike

_START = re.compile(r"(?<![A-Za-z0-9])(?:[A-Za-z]+|\d+)")
_WORDS = re.compile(r"[A-Za-z0-9]+(?:[-._]+[A-Za-z0-9]+)*")
_PART = re.compile(r"[A-Za-z0-9]+")
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
_FOLDED = re.compile(r"([A-Za-z0-9][\w.-]*)\[(\d[\d,-]*)\]((?:[-.]?[A-Za-z0-9]+)*)")
_LETTERS = re.compile(r"[A-Za-z_]+")
_LABEL = re.compile(r"(?<![\w.-])[\w-]+")
_PROSE = re.compile(r"(?<![\w./-])[a-z]+(?![\w/-]|\.\w)")


def redacted(report: Report, level: str) -> Report:
    """The report as it may leave at this level; one that hides as much already stays as it is."""
    return Redactor(level).report(report)


class Redactor:
    """Replaces what a level hides, in report after report, always by the same tokens.

    Args:
        level: "none", "internal" or "public"; secrets are cut at each.
        names: what is known beside what the reports say of themselves, as the user's name.
    """

    def __init__(self, level: str, names: Iterable[Name] = ()) -> None:
        self.level = level
        self._names: dict[str, str] = {}  # kind by name
        self._everyday: set[str] = set()  # of these, hosts with names that many have
        self._prose: set[str] = set(LITTLE)  # words with which checks explain themselves
        self._explained: set[str] = set()
        self._shapes: set[str] = set()  # of host names: "gpu-a-#"
        self._starts: set[str] = set()  # first letters or digits of all these
        self._versions: set[str] = set()  # that look like addresses
        self._tokens: dict[tuple[str, str], str] = {}
        self._numbers: dict[str, int] = {}
        self._used: dict[str, set[str]] = {}
        self._texts: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}
        self._noting: list[tuple[str, str]] = []
        self._kept: frozenset[str] = frozenset()
        self.learn(names)

    @property
    def redaction(self) -> Redaction:
        """The level, and how many values were replaced so far."""
        replaced = {kind: len(found) for kind, found in self._used.items()}
        return Redaction(level=self.level, replaced=replaced)

    def learn(self, names: Iterable[Name]) -> None:
        """Take names that are replaced wherever they stand from now on."""
        for kind, name in names:
            if kind == DOMAIN and "." not in name:
                continue
            if kind == "version":
                self._versions.add(name)
            elif not self._hides(kind) or name in self._names:
                continue
            elif not is_everyday(name):
                self._learn(kind, name)
            elif kind == HOST and name != "localhost":
                self._everyday.add(name)

    def report(self, report: Report) -> Report:
        """The report with everything replaced, and how much of it."""
        before = report.redaction
        if before.level != "none" and not hides_more(self.level, before.level):
            return report
        kept = INTERNAL if before.level == "internal" else frozenset()
        if kept != self._kept:  # tokens of a report that hid some things already stay
            self._kept = kept
            self._texts.clear()
        before_this, self._used = self._used, {}
        plain = msgspec.to_builtins(report)
        self.learn(names_in(plain))
        self.read(text for result in report.results for text in (result.title, result.why))
        nodes = [self._node(node) for node in plain["nodes"]]
        rest = {key: value for key, value in plain.items() if key not in ("nodes", "redaction")}
        changed = msgspec.convert({**self._value(rest), "nodes": nodes}, Report)
        replaced = dict(before.replaced)
        for kind, found in self._used.items():
            replaced[kind] = replaced.get(kind, 0) + len(found)
            before_this.setdefault(kind, set()).update(found)
        self._used = before_this
        return replace(changed, redaction=Redaction(level=self.level, replaced=replaced))

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """The same of facts alone."""
        plain = {"nodes": [msgspec.to_builtins(snapshot)]}
        self.learn(names_in(plain))
        name = self._value(snapshot.name, "name")
        return Snapshot(name, self._value(plain["nodes"][0]["facts"]))

    def fact(self, name: str, fact: Any) -> Any:
        """One fact as plain data."""
        plain = msgspec.to_builtins(fact)
        self.learn(names_in({"nodes": [{"facts": {name: plain}}]}))
        return self._value(plain)

    def read(self, explanations: Iterable[str]) -> None:
        """Learn ordinary words, so that a user called "max" spoils no sentence about a maximum."""
        for text in {*explanations} - self._explained:
            self._explained.add(text)
            words = set(_PROSE.findall(text))
            if not words.isdisjoint(self._names):
                self._texts.clear()
            self._prose |= words

    def text(self, text: str) -> str:
        """Any text."""
        known = self._texts.get(text)
        if known is None:
            self._noting = []
            known = self._replaced(cut_secrets(text)), tuple(self._noting)
            if len(self._texts) >= _CACHED:
                self._texts.clear()
            self._texts[text] = known
        for kind, name in known[1]:
            self._used.setdefault(kind, set()).add(name)
        return known[0]

    def _node(self, node: dict[str, Any]) -> dict[str, Any]:
        # A CI server finds the line by the name of the file.
        places = [result.get("place") for result in node["results"]]
        changed: dict[str, Any] = self._value(node)
        if self.level == "internal":
            for result, place in zip(changed["results"], places, strict=True):
                result["place"] = place
        return changed

    def _value(self, value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            names = key in _NAMING and self.level == "public"
            return self._stated(value) if names else self.text(value)
        if isinstance(value, dict):
            return {
                self._key(name): item if name in _OURS else self._value(item, name)
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._value(item, key) for item in value]
        return value

    def _stated(self, text: str) -> str:
        """What is a host's name, or a list or a line of some."""
        if not any(
            label in self._everyday or label in self._names for label in _LABEL.findall(text)
        ):
            return self.text(text)
        if " " in text:
            return " ".join(map(self._stated, text.split()))
        try:
            return fold(map(self._stated_name, unfold(text)))
        except BadHostlist:
            return self.text(text)

    def _stated_name(self, name: str) -> str:
        label, dot, domain = name.partition(".")
        if label not in self._everyday and self._names.get(label) != HOST:
            return self.text(name)
        self._used.setdefault(HOST, set()).add(label)
        return f"{self._token(HOST, label)}{dot}{self.text(domain)}"

    def _key(self, key: Any) -> Any:
        return key if _LETTERS.fullmatch(str(key)) else self.text(str(key))

    def _hides(self, kind: str) -> bool:
        return self.level == "public" or (self.level == "internal" and kind in INTERNAL)

    def _learn(self, kind: str, name: str) -> None:
        shape = _shape(name) if kind == HOST else ""
        if shape in self._shapes:
            return
        if shape:
            self._shapes.add(shape)
        self._names[name] = kind
        if start := _START.search(name):
            self._starts.add(start[0])
        self._texts.clear()

    def _replaced(self, text: str) -> str:
        if self.level == "none":
            return text
        if text in self._names and not text.isdigit():
            return self._token(self._names[text], text)
        pieces, at = [], 0
        for hit in found_in(text, internal=self.level == "internal"):
            token = self._token_of(hit)
            if token and hit.start >= at:
                pieces += [self._named(text[at : hit.start]), token]
                at = hit.end
        return "".join([*pieces, self._named(text[at:])])

    def _token_of(self, hit: Hit) -> str:
        if hit.kind == ADDRESS and hit.text in self._versions:
            return ""
        if hit.kind == HOST:
            return self._host(hit.text)
        kind = self._names.get(hit.text, hit.kind)  # an AMD GPU's UUID is known by its place
        return "" if is_everyday(hit.text) else self._token(kind, hit.text)

    def _host(self, name: str) -> str:
        """A host's name: its first part and its domain apart, so that both forms agree."""
        if "[" in name:
            try:
                return fold(self._token(HOST, each) for each in unfold(name))
            except BadHostlist:
                return self._named(name)
        label, dot, domain = name.partition(".")
        host = label if is_everyday(label) else self._token(HOST, label)
        if dot and not is_everyday(domain):
            domain = self._token(DOMAIN, domain)
        return f"{host}{dot}{domain}"

    def _named(self, text: str) -> str:
        """The text with all names replaced that were learned."""
        if self._starts.isdisjoint(_START.findall(text)):
            return text
        pieces, at = [], 0
        for match in _FOLDED.finditer(text) if "[" in text else ():
            if names := self._unfolded(match):
                pieces += [_WORDS.sub(self._word, text[at : match.start()]), names]
                at = match.end()
        return "".join([*pieces, _WORDS.sub(self._word, text[at:])])

    def _unfolded(self, match: re.Match[str]) -> str:
        """ "gpu-a-[07,12]", if these are hosts, folded anew."""
        try:
            names = unfold(match[0])
        except BadHostlist:
            return ""
        if f"{match[1]}#{match[3]}" not in self._shapes and self._names.keys().isdisjoint(names):
            return ""
        return fold(self._token(HOST, name) for name in names)

    def _word(self, match: re.Match[str]) -> str:
        """A word that may hold names between its dots, dashes and underscores."""
        word, parts = match[0], [part.span() for part in _PART.finditer(match[0])]
        if all(_START.match(word, start)[0] not in self._starts for start, _ in parts):  # type: ignore[index]
            return word
        if token := self._alone(word, in_path=match.string[: match.start()].endswith("/")):
            return token
        pieces, at, first = [], 0, 0
        while first < len(parts):
            start, last = parts[first][0], len(parts)
            while last > first and not (token := self._within(word[start : parts[last - 1][1]])):
                last -= 1
            if last > first:
                pieces += [word[at:start], token]
                at = parts[last - 1][1]
            first = max(last, first + 1)
        return "".join([*pieces, word[at:]])

    def _alone(self, word: str, *, in_path: bool) -> str:
        """The token of a whole word that is a name; empty: it is none, or may well be none."""
        kind = self._names.get(word, "")
        if kind == USER and in_path:
            return self._token(kind, word)
        is_plain = len(word) < 2 or word.isdigit() or word in self._prose
        return self._token(kind, word) if kind and not is_plain else ""

    def _within(self, name: str) -> str:
        """The token of a part of a word; empty: it is no name."""
        kind = self._names.get(name, "")
        if not kind and self._shapes and _shape(name) in self._shapes:
            kind = HOST
        is_known = kind and _is_telling(name) and name not in self._prose
        return self._token(kind, name) if is_known else ""

    def _token(self, kind: str, value: str) -> str:
        key = (kind, value)
        if kind in self._kept and re.fullmatch(rf"{TOKENS[kind]}-\d+", value):
            return value
        if key not in self._tokens:
            is_cut = kind == GPU and len(value) < _UUID
            longer = self._begun(value) if is_cut else ""
            self._tokens[key] = longer or self._next(kind)
        self._noting.append(key)
        return self._tokens[key]

    def _begun(self, uuid: str) -> str:
        """The token of the GPU whose UUID this is the beginning of, as CUDA allows."""
        known = self._tokens.items()
        return next((t for (k, v), t in known if k == GPU and v.startswith(uuid)), "")

    def _next(self, kind: str) -> str:
        self._numbers[kind] = number = self._numbers.get(kind, 0) + 1
        wide = 2 if kind in (HOST, ADDRESS) else 1
        return f"{TOKENS.get(kind, kind.replace(' ', '-'))}-{number:0{wide}d}"


def _is_telling(name: str) -> bool:
    """Whether a word in the middle of a text is surely this name: no number, no abbreviation."""
    is_mixed = not (name.isalpha() or name.isdigit())
    return not name.isdigit() and (len(name) >= _SHORT or (len(name) > 1 and is_mixed))


def _shape(name: str) -> str:
    """What the names of a cluster's hosts share: "gpu-a-017" is "gpu-a-#". Empty: no shape."""
    shape, numbers = _LAST_NUMBER.subn("#", name, count=1)
    letters = sum(character.isalpha() for character in shape)
    return shape if numbers and letters >= _SHORT else ""
