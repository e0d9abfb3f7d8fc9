"""What a shell script says for the commands in it: variables, limits; and how to say it anew."""

import re
from collections.abc import Iterator, Sequence
from shlex import quote

from msgspec import Struct

from gpudoctor.facts.launch import Ulimit
from gpudoctor.launch._limits import rlimit
from gpudoctor.launch._shell import prelude
from gpudoctor.launch.settings import EnvSet, EnvUnset, Setting
from gpudoctor.lint.said import Said
from gpudoctor.lint.shell import Command, Word, is_assignment
from gpudoctor.lint.source import Edit, Source

_EXPORT = {"export", "declare", "typeset", "readonly", "local"}
_ULIMITS = {"n": ("nofile", 1), "u": ("nproc", 1), "l": ("memlock", 1024), "s": ("stack", 1024)}


class Variable(Struct, frozen=True):
    """A variable that a command is given, and the words that set it."""

    name: str
    value: str
    word: Word
    command: Command

    @property
    def is_open(self) -> bool:
        return bool(self.word.opens)


def saying(commands: Sequence[Command]) -> list[Command]:
    """Those that say something for the ones behind them; the functions here need no others."""
    says = {"set", "unset", "ulimit", *_EXPORT}
    return [c for c in commands if c.words[0].text in says or all(map(is_assignment, c.words))]


def variables(commands: Sequence[Command], launch: Command) -> dict[str, Variable]:
    """The environment that a script gives a command, by name."""
    plain: dict[str, Variable] = {}
    exported: dict[str, Variable] = {}
    all_of_them = False
    for command in commands:
        if command.start >= launch.start:
            break
        program = command.words[0].text
        if program == "set" and any(word.text in ("-a", "allexport") for word in command.words):
            all_of_them = True
        elif program == "unset":
            for word in command.words[1:]:
                plain.pop(word.text, None)
                exported.pop(word.text, None)
        elif program in _EXPORT:
            passes_on = program == "export" or any("x" in w.text for w in _dashed(command))
            for word in command.words[1:]:
                if is_assignment(word):
                    (exported if passes_on else plain).update(_variable(word, command))
                elif passes_on and word.text in plain:
                    exported[word.text] = plain[word.text]
        elif all(map(is_assignment, command.words)):
            for word in command.words:
                found = _variable(word, command)
                known = all_of_them or found.keys() & exported.keys()
                (exported if known else plain).update(found)
    return exported | {k: v for w in own(launch) for k, v in _variable(w, launch).items()}


def own(command: Command) -> list[Word]:
    """The assignments before a command's program, those after `env` included."""
    words = []
    for word in command.words:
        if is_assignment(word):
            words.append(word)
        elif word.text != "env":
            break
    return words


def _dashed(command: Command) -> Iterator[Word]:
    return (word for word in command.words[1:] if word.text.startswith("-"))


def _variable(word: Word, command: Command) -> dict[str, Variable]:
    name, _, value = word.text.partition("=")
    return {name: Variable(name, value, word, command)} if name.isidentifier() else {}


def say_environment(said: Said, commands: Sequence[Command], launch: Command) -> None:
    """Variables and limits that hold for a command."""
    for name, variable in variables(commands, launch).items():
        if variable.is_open:
            said.leave_open(f"environment.{name}", variable.word.start, variable.word.opens)
        else:
            said.say(f"environment.{name}", variable.value, variable.word.start)
    for command in _before(commands, launch):
        for name, limit, start in _limits(command):
            if limit is None:
                said.leave_open(f"ulimits.{name}", start)
            else:
                said.say(f"ulimits.{name}", limit, start)


def _before(commands: Sequence[Command], launch: Command) -> Iterator[Command]:
    return (command for command in commands if command.start < launch.start)


def _limits(command: Command) -> Iterator[tuple[str, Ulimit | None, int]]:
    """What `ulimit -l unlimited` sets; None: what the shell puts there."""
    if command.words[0].text != "ulimit":
        return
    letters, value, opened = "", "", False
    for word in command.words[1:]:
        if word.text.startswith("-") and len(word.text) > 1:
            letters += word.text[1:]
        else:
            value, opened = word.text, bool(word.opens)
    name, unit = _ULIMITS.get(letters.strip("SH"), ("", 0))
    if not name or not value:
        return
    if opened or not (value == "unlimited" or value.isdigit()):
        yield name, None, command.start
        return
    count = None if value == "unlimited" else int(value) * unit
    yield (
        name,
        Ulimit(count, None if "H" not in letters and "S" in letters else count),
        command.start,
    )


def edits(
    source: Source, commands: Sequence[Command], launch: Command, settings: Sequence[Setting]
) -> list[Edit]:
    """How the script must change to give the command these variables and limits."""
    present = variables(commands, launch)
    changes: list[Edit] = []
    added: list[str] = []
    for setting in settings:
        limit = rlimit(setting)
        match setting:
            case EnvSet(name=name, value=value) if name in present:
                word = present[name].word
                changes.append(Edit(word.start, word.end, f"{name}={quote(value)}"))
            case EnvUnset(name=name) if name in present:
                changes.append(_without(source, present[name]))
            case EnvSet() | EnvUnset():
                added += prelude(setting)
            case _ if limit is not None:
                old = [
                    command
                    for command in _before(commands, launch)
                    if any(name == limit.name for name, _, _ in _limits(command))
                ]
                if old:
                    changes.append(Edit(old[-1].start, old[-1].end, prelude(setting)[0]))
                else:
                    added += prelude(setting)
    return changes + ([inserted(source, launch.start, added)] if added else [])


def inserted(source: Source, at: int, lines: Sequence[str]) -> Edit:
    """New lines above the one in which a command begins, as far in as it is."""
    begin = source.start_of(source.line_at(at))
    indent = re.match(r"[ \t]*", source.text[begin:])
    margin = indent[0] if indent else ""
    return Edit(begin, begin, "".join(f"{margin}{line}\n" for line in lines))


def without_line(source: Source, start: int, end: int) -> Edit:
    """A piece of text taken out, with its line if there is nothing else in that."""
    begin = source.start_of(source.line_at(start))
    stop = source.text.find("\n", end)
    stop = len(source.text) if stop < 0 else stop + 1
    alone = not source.text[begin:start].strip() and not source.text[end:stop].strip()
    return Edit(begin, stop, "") if alone else Edit(start, end, "")


def _without(source: Source, variable: Variable) -> Edit:
    words, word = variable.command.words, variable.word
    others = [
        w for w in words if w != word and w.text not in _EXPORT and not w.text.startswith("-")
    ]
    if not others:
        return without_line(source, variable.command.start, variable.command.end)
    after = [w.start for w in words if w.start >= word.end]
    if after:
        return Edit(word.start, after[0], "")
    before = max(w.end for w in words if w.end <= word.start)
    return Edit(before, word.end, "")
