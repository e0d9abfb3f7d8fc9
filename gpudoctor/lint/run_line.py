"""`docker run` and `podman run`: the command line taken apart into its flags."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from gpudoctor.data import table
from gpudoctor.lint.shell import Command, Word, is_assignment

MOST_WORDS = 2000
_ENGINES = {"docker": "docker", "nvidia-docker": "docker", "podman": "podman"}
# Programs that run the words after their own flags.
_BEFORE = {
    *("sudo", "env", "exec", "nohup", "time", "command", "nice", "ionice", "timeout", "setsid"),
    *("numactl", "taskset", "stdbuf", "srun", "doas", "systemd-inhibit", "flock", "retry"),
}
_ENGINES_SWITCHES = ("-D", "--debug", "--tls", "--tlsverify", "-r", "--remote")
# Flags that no program in an image has: behind the image they are meant for the engine.
_ENGINES_OWN = {"shm-size", "ipc", "ulimit", "cap-add", "security-opt", "group-add", "pids-limit"}
_IMAGE_NAMES = re.compile(r"image|img|repo|tag|container|docker|registry", re.IGNORECASE)


class Flag(Struct, frozen=True):
    """One flag of the command line.

    Attributes:
        name: the long name; "*": a word of the shell's that may stand for any flags.
        value: empty for a switch.
        written: as it stands there, without a value: "--shm-size", "-v".
        start: from here to `end` it stands in the source, its value included.
        kept: what must stay when it goes: "-it" of "-itv a:b".
        known: the engine knows it.
        opens: what the shell would replace in its value.
        borrowed: it is from a variable of the script, so that it cannot be changed here.
    """

    name: str
    value: str
    written: str
    start: int
    end: int
    kept: str = ""
    known: bool = True
    opens: tuple[str, ...] = ()
    borrowed: bool = False


class RunLine(Struct, frozen=True):
    """One `docker run`.

    Attributes:
        engine: "docker" or "podman".
        program: the word as written: "nvidia-docker".
        command: all of it.
        flags: in their order.
        after: where the word `run` ends.
        image: None: it is missing.
        late: flags that are meant for the engine, and stand behind the image.
        arguments: the words after these.
    """

    engine: str
    program: str
    command: Command
    flags: tuple[Flag, ...]
    after: int
    image: Word | None
    late: tuple[Flag, ...]
    arguments: tuple[Word, ...]


def run_line(command: Command) -> RunLine | None:
    """The command taken apart; None: it starts no container, or is longer than any that does."""
    words = command.words
    at = _program(words)
    if at is None or len(words) > MOST_WORDS:
        return None
    engine = _ENGINES[_base(words[at])]
    verb = _verb(words, at + 1)
    if verb is None:
        return None
    own, all_ = table("run_flags")[engine], table("run_flags")
    flags, end = _flags(words, verb + 1, own, all_)
    late, begin = _flags(words, end + 1, own, all_)
    if any(flag.borrowed or flag.name not in _ENGINES_OWN for flag in late):
        late, begin = [], end + 1
    return RunLine(
        engine=engine,
        program=_base(words[at]),
        command=command,
        flags=tuple(flags),
        after=words[verb].end,
        image=words[end] if end < len(words) else None,
        late=tuple(late),
        arguments=words[begin:],
    )


def _program(words: Sequence[Word]) -> int | None:
    """Where the engine stands: first, or after words that run it."""
    passes = False
    for number, word in enumerate(words):
        if _base(word) in _ENGINES:
            return number
        if not passes and not is_assignment(word):
            if _base(word) not in _BEFORE:
                return None
            passes = True
    return None


def _verb(words: Sequence[Word], at: int) -> int | None:
    """Where `run` or `create` stands, after flags of the engine itself."""
    while at < len(words):
        text = words[at].text
        if text in ("run", "create"):
            return at
        if text.startswith("-"):
            at += 1 if "=" in text or text in _ENGINES_SWITCHES else 2
        elif text == "container":
            at += 1
        else:
            return None
    return None


def _flags(
    words: Sequence[Word], at: int, own: Mapping[str, Any], all_: Mapping[str, Any]
) -> tuple[list[Flag], int]:
    """The flags, and the number of the first word behind them."""
    valued, known = set(own["valued"]), {*own["valued"], *own["switches"]}
    flags: list[Flag] = []
    while at < len(words):
        word = words[at]
        if word.text == "--":
            return flags, at + 1
        if not word.text.startswith("-") or word.text == "-":
            if not _stands_for_flags(words, at):
                break
            flags.append(Flag("*", "", word.text, word.start, word.end, opens=word.opens))
            at += 1
            continue
        if word.text.startswith("--"):
            written, equals, value = word.text.partition("=")
            name = all_["former"].get(written[2:], written[2:])
            takes = name.replace("_", "-") in valued
            takes = takes or (name not in known and _takes_next(words, at))
            found = [(name, written, value, "")]
        else:
            found, takes = _letters(word.text, all_["letters"], valued)
            equals = found[-1][2]
        end = at + 1 if takes and not equals and at + 1 < len(words) else at
        for name, written, value, kept in found:
            last = written == found[-1][1]
            flags.append(
                Flag(
                    name=name,
                    value=words[end].text if last and end > at else value,
                    written=written,
                    start=word.start,
                    end=words[end].end,
                    kept=kept,
                    known=name in known,
                    opens=words[end].opens if last else (),
                    borrowed=word.borrowed or words[end].borrowed,
                )
            )
        at = end + 1
    return flags, at


def _letters(
    text: str, letters: Mapping[str, str], valued: set[str]
) -> tuple[list[tuple[str, str, str, str]], bool]:
    """The flags of "-it" or "-v/a:/b" (name, as written, value, what else is there)."""
    found = []
    for number, letter in enumerate(text[1:], 1):
        name = letters.get(letter, letter)
        others = text[1:number]
        if name in valued:
            value = text[number + 1 :].removeprefix("=")
            found.append((name, f"-{letter}", value, f"-{others}" if others else ""))
            return found, True
        rest = text[1:number] + text[number + 1 :]
        found.append((name, f"-{letter}", "", f"-{rest}" if rest else ""))
    return found, False


def _stands_for_flags(words: Sequence[Word], at: int) -> bool:
    """Whether a word of the shell's holds flags, not the image."""
    word = words[at]
    if not word.opens or "".join(word.opens) != word.text:
        return False
    if len(words) > at + 1 and words[at + 1].text.startswith("-"):
        return True
    return "[@]" in word.text or word.text in ("$@", "$*") or not _IMAGE_NAMES.search(word.text)


def _takes_next(words: Sequence[Word], at: int) -> bool:
    """Whether an unknown flag has the next word for its value: then flags go on after it."""
    if at + 2 >= len(words) or words[at + 1].text.startswith("-"):
        return False
    return words[at + 2].text.startswith("-")


def _base(word: Word) -> str:
    return word.text.rpartition("/")[2]
