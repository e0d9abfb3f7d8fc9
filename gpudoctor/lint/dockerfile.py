"""Dockerfiles: what the last stage gives to every container of the image."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial

from msgspec import Struct

from gpudoctor.facts.launch import Launch
from gpudoctor.launch.settings import EnvSet, EnvUnset, Setting
from gpudoctor.lint.said import Said
from gpudoctor.lint.source import LIMIT_BYTES, BadLaunch, Edit, Found, Source

# docs.docker.com/reference/dockerfile
INSTRUCTIONS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(\S+)\s*$")
_HEREDOC = re.compile(r"<<-?\s*([\"']?)(\w+)\1")
_ASSIGNED = re.compile(r"""(\w+)=((?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])*)""", re.DOTALL)
_VARIABLE = re.compile(r"\\\$|\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^{}]*))?\})")


class Instruction(Struct, frozen=True):
    """One instruction; `text` is what stands behind its word, on one line of the same length."""

    word: str
    text: str
    start: int
    begin: int  # of `text`
    end: int


class Assigned(Struct, frozen=True):
    """A variable that an instruction sets."""

    name: str
    value: str
    start: int
    end: int
    by: Instruction


def read(source: Source) -> list[Found]:
    """The image's last stage.

    Raises:
        BadLaunch: it is no Dockerfile.
    """
    if len(source.text) > LIMIT_BYTES:
        raise BadLaunch(f"more than {LIMIT_BYTES >> 20} MiB; a Dockerfile is far smaller")
    present = list(instructions(source.text))
    froms = [number for number, i in enumerate(present) if i.word == "FROM"]
    if not froms:
        raise BadLaunch("line 1: there is no FROM, so this is no Dockerfile")
    stage = _last_stage(present, froms)
    change = partial(_edits, source, present[froms[-1]], stage)
    line = source.line_at(present[froms[-1]].start)
    return [Found(_launch(source, present[: froms[0]], stage, present), line, change)]


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a Dockerfile, in their order."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    escape, is_top, number, at = "\\", True, 0, 0
    while number < len(lines):
        start, line = at, lines[number]
        directive = _DIRECTIVE.match(line) if is_top else None
        if directive and directive[1].lower() == "escape":
            escape = directive[2]
        is_top = directive is not None
        if not line.strip() or line.lstrip().startswith("#"):
            number, at = number + 1, at + len(line)
            continue
        joined, goes_on = "", True
        while goes_on and number < len(lines):
            part = lines[number]
            if part.strip() and not part.lstrip().startswith("#"):
                bare = part.rstrip()
                goes_on = bare.endswith(escape)
                joined += (bare.removesuffix(escape) if goes_on else bare).ljust(len(part))
            else:
                joined += " " * len(part)
            number, at = number + 1, at + len(part)
        if not joined.strip():
            continue
        word = joined.split(maxsplit=1)[0]
        if word.upper() in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall(joined):
                while number < len(lines) and lines[number].strip() != end:
                    number, at = number + 1, at + len(lines[number])
                if number < len(lines):
                    number, at = number + 1, at + len(lines[number])
        begin = joined.index(word) + len(word)
        end_of_text = start + len(joined.rstrip())
        yield Instruction(word.upper(), joined[begin:], start, start + begin, end_of_text)


def _last_stage(present: Sequence[Instruction], froms: Sequence[int]) -> list[Instruction]:
    """The last stage's instructions, after those of the stages that it is built from."""
    named: dict[str, list[Instruction]] = {}
    stage: list[Instruction] = []
    for number, begin in enumerate(froms):
        end = froms[number + 1] if number + 1 < len(froms) else len(present)
        words = [word for word in present[begin].text.split() if not word.startswith("--")]
        base = named.get(words[0].lower() if words else "", [])
        stage = [*base, *present[begin:end]]
        if len(words) == 3 and words[1].upper() == "AS":
            named[words[2].lower()] = stage
    return stage


def _launch(
    source: Source,
    top: Sequence[Instruction],
    stage: Sequence[Instruction],
    present: Sequence[Instruction],
) -> Launch:
    said = Said(source)
    for instruction in present:
        if instruction.word not in INSTRUCTIONS:
            said.say("unknown", instruction.word, instruction.start)
    above = {one.name: one.value for i in top for one in _arguments(i)}
    known: dict[str, str] = {}
    words: dict[str, tuple[str, ...]] = {}
    for instruction in stage:
        first = instruction.text.strip()
        if instruction is stage[0]:  # any FROM after it names the stage before
            _say_image(said, instruction, above)
        elif instruction.word == "ARG":
            known |= {
                one.name: one.value or above.get(one.name, "") for one in _arguments(instruction)
            }
        elif instruction.word == "ENV":
            for one in assigned(instruction):
                value, opens = _filled(one.value, known)
                if opens:
                    said.leave_open(f"environment.{one.name}", one.start, opens)
                else:
                    said.say(f"environment.{one.name}", value, one.start)
                    known[one.name] = value
        elif instruction.word == "USER":
            said.say("user", first, instruction.start)
        elif instruction.word in ("ENTRYPOINT", "CMD"):
            words[instruction.word] = _command(first)
            said.say("command", (), instruction.start)
    said.fields["command"] = (*words.get("ENTRYPOINT", ()), *words.get("CMD", ()))
    return said.launch("Dockerfile", "docker")


def _say_image(said: Said, instruction: Instruction, known: dict[str, str]) -> None:
    words = [word for word in instruction.text.split() if not word.startswith("--")]
    image, opens = _filled(words[0] if words else "", known)
    if opens:
        said.leave_open("image", instruction.start, opens)
    else:
        said.say("image", image, instruction.start)


def assigned(instruction: Instruction) -> list[Assigned]:
    """The variables of an ENV: NAME=value ..., or the old form, NAME value."""
    text = instruction.text
    if re.match(r"\s*\w+=", text):
        return [
            Assigned(
                found[1],
                _unquoted(found[2]),
                instruction.begin + found.start(),
                instruction.begin + found.end(),
                instruction,
            )
            for found in _ASSIGNED.finditer(text)
        ]
    name, _, value = text.strip().partition(" ")
    start = instruction.begin + len(text) - len(text.lstrip())
    return [Assigned(name, value.strip(), start, instruction.end, instruction)] if name else []


def _arguments(instruction: Instruction) -> list[Assigned]:
    """The variables of an ARG; those without a default have no value."""
    if instruction.word != "ARG":
        return []
    if "=" in instruction.text:
        return assigned(instruction)
    begin, end = instruction.begin, instruction.end
    return [Assigned(name, "", begin, end, instruction) for name in instruction.text.split()]


def _filled(text: str, known: dict[str, str]) -> tuple[str, list[str]]:
    """A text with its variables, and those of them that only the build will know."""
    opens: list[str] = []

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        if found[3] and "+" in found[3]:
            return found[4] if known.get(name) else ""
        if not known.get(name) and not found[3]:
            opens.append(found[0])
        return known.get(name) or found[4] or ""

    return _VARIABLE.sub(value, text), opens


def _unquoted(text: str) -> str:
    inside = re.sub(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"", lambda m: m[1] or m[2] or "", text)
    return re.sub(r"\\([^$])", r"\1", inside)


def _command(text: str) -> tuple[str, ...]:
    """The words of ["exec", "form"], or the shell that runs the rest."""
    try:
        words = json.loads(text)
    except ValueError:
        return ("/bin/sh", "-c", text)
    is_words = isinstance(words, list) and all(isinstance(word, str) for word in words)
    return tuple(words) if is_words else ("/bin/sh", "-c", text)


def _edits(
    source: Source, last: Instruction, stage: Sequence[Instruction], settings: Sequence[Setting]
) -> list[Edit]:
    """What to change: an image can say nothing but variables."""
    present = [one for i in stage if i.word == "ENV" for one in assigned(i)]
    found: list[Edit] = []
    new: list[str] = []
    for setting in settings:
        if isinstance(setting, EnvSet | EnvUnset):
            same = [one for one in present if one.name == setting.name]
            if isinstance(setting, EnvUnset):
                found += [_without(source, one) for one in same]
            elif same:
                found.append(Edit(same[-1].start, same[-1].end, _pair(setting)))
            else:
                new.append(f"ENV {_pair(setting)}")
    if new:
        own = [i for i in stage if i.word in ("ENV", "FROM") and i.start >= last.start]
        at = own[-1].end
        found.append(Edit(at, at, "".join(f"\n{line}" for line in new)))
    return found


def _pair(setting: EnvSet) -> str:
    value = setting.value
    if not re.fullmatch(r"[\w.,:/@%+^=-]*", value):
        value = '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'
    return f"{setting.name}={value}"


def _without(source: Source, one: Assigned) -> Edit:
    """A variable taken out; with its instruction, if that sets no other."""
    others = [other for other in assigned(one.by) if other.start != one.start]
    if not others:
        end = source.text.find("\n", one.by.end)
        return Edit(one.by.start, len(source.text) if end < 0 else end + 1, "")
    following = [other.start for other in others if other.start > one.start]
    if following:
        return Edit(one.start, following[0], "")
    return Edit(max(other.end for other in others), one.end, "")
