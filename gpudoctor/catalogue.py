"""The checks themselves as text, JSON and Markdown; docs/checks.md is made from here."""

import re
from collections.abc import Iterable

import msgspec

from gpudoctor.check import CLUSTER, LAUNCH, Check
from gpudoctor.snapshot import name_of

ASKED_FOR = {  # by which options: of a check, of all others of its topic
    "profile": "--profile NAME",
    "profile-files": "--data PATH",
    "profile-image": "--image-tar FILE",
    "resource": "--model-params 7B --method full",
    "resource-exchange": "--model-params 7B --method full --nnodes 2",
}


def as_text(checks: Iterable[Check]) -> str:
    """One line for each check, under its topic."""
    lines: list[str] = []
    topic = ""
    for check in checks:
        if check.topic != topic:
            topic = check.topic
            lines += ["", topic] if lines else [topic]
        lines.append(f"  {check.id:22} {check.title}")
    return "\n".join(lines) + "\n"


def as_json(checks: Iterable[Check]) -> str:
    """A list of objects, one for each check."""
    rows = [
        {
            "id": check.id,
            "topic": check.topic,
            "title": check.title,
            "why": check.why,
            "owner": check.owner,
            "needs": {
                name_of(need.kind): "optional" if need.optional else "required"
                for need in check.needs.values()
            },
            "symptoms": check.symptoms,
            "aliases": check.aliases,
        }
        for check in checks
    ]
    return msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n"


def as_markdown(checks: Iterable[Check]) -> str:
    """docs/checks.md."""
    lines = [
        "# Checks",
        "",
        "<!-- Made by `make docs` from the checks themselves; do not edit. -->",
        "",
        "Each check states the good case, so `pass` reads true. *Who acts* is the usual owner; a",
        "finding can name another. Ids are stable: they can be used in `--only`, `--skip` and",
        "`[[ignore]]`, and a renamed check answers to its old id too.",
    ]
    topic = ""
    for check in checks:
        if check.topic != topic:
            topic = check.topic
            lines += ["", f"## {topic}"]
        lines += ["", f"### {check.id}", "", f"**{check.title}.**"]
        if check.why:
            lines += ["", check.why]
        facts = ", ".join(
            f"`{name_of(need.kind)}`" + (" (if there)" if need.optional else "")
            for need in check.needs.values()
        )
        lines += ["", f"Who acts: {check.owner}. Looks at: {facts}."]
        if check.symptoms:
            lines += ["", "Later errors that point here:", ""]
            lines += [f"- `{readable(pattern)}`" for pattern in check.symptoms]
    return "\n".join(lines) + "\n"


def explain(check: Check) -> str:
    """Everything that is said about one check, for a terminal."""
    lines = [f"{check.id}: {check.title}", ""]
    if check.why:
        lines += [check.why, ""]
    lines.append(f"Who acts:   {check.owner}")
    lines.append(f"Looks at:   {', '.join(name_of(need.kind) for need in check.needs.values())}")
    if check.aliases:
        lines.append(f"Also named: {', '.join(check.aliases)}")
    if check.symptoms:
        lines += ["", "Later errors that point here:"]
        lines += [f"  {readable(pattern)}" for pattern in check.symptoms]
    look = "lint FILE" if check.topic == LAUNCH else f"check {check.id}"
    several = of_several(check)
    where = " on every node of the job" if several else ""
    flags = several or ASKED_FOR.get(check.id) or ASKED_FOR.get(check.topic, "")
    lines += ["", f"Look now{where}, with the fix for your launcher:"]
    lines += [f"  gpudoctor {look} {flags}".rstrip()]
    return "\n".join(lines) + "\n"


def of_several(check: Check) -> str:
    """The flags without which a check has nothing to look at, for it judges several nodes."""
    needs = {name_of(need.kind) for need in check.needs.values() if not need.optional}
    if "pair_reduce" in needs:
        return "--cluster --deep"
    return "--cluster" if check.topic == CLUSTER else ""


def causes(checks: Iterable[Check], message: str) -> list[tuple[Check, str]]:
    """Checks whose fault can end in this message, with the words that match.

    The longest match comes first: it says the most.
    """
    found = []
    for check in checks:
        matches = [re.search(pattern, message, re.IGNORECASE) for pattern in check.symptoms]
        words = max((match[0] for match in matches if match), key=len, default="")
        if words:
            found.append((check, words))
    return sorted(found, key=lambda pair: -len(pair[1]))


def readable(pattern: str) -> str:
    """A symptom's pattern as the message that it stands for."""
    text = re.sub(r"\(\?i\)", "", pattern).replace("(?:", "(")
    text = re.sub(r"(?<!\\)\([^()]*\)\?", "", text)  # what may be left out
    text = re.sub(r"\\s[*+]", " ", text)
    text = re.sub(r"[\w\"' -]\?", "", text)
    text = re.sub(r"(\.|\\[Sw]|\[\^?[^]^]+\])[*+]\??", "...", text)
    text = re.sub(r"\.{4,}", "...", re.sub(r"\\d\+?", "N", text))
    return re.sub(r"\\(.)", r"\1", text)
