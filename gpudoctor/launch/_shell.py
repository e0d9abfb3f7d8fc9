"""Lines of shell: they paste as they are, and no value is rounded or left unquoted."""

from collections.abc import Iterable, Sequence
from shlex import quote

from gpudoctor.launch import Spelling
from gpudoctor.launch._limits import rlimit
from gpudoctor.launch.settings import EnvSet, EnvUnset, Mount, Setting

WIDTH = 76


def exact(count: int, suffixes: Sequence[str] = ("", "k", "m", "g")) -> str:
    """A size in the largest unit that divides it, so that nothing is rounded away."""
    if count == 0:
        return "0"
    step = 0
    while count % 1024 == 0 and step + 1 < len(suffixes):
        count //= 1024
        step += 1
    return f"{count}{suffixes[step]}"


def command(words: Iterable[str]) -> list[str]:
    """One command on as many lines as it needs; the words are quoted already."""
    return _filled(words, "", "  ", " \\")


def spelling(
    text: str,
    lines: Sequence[str],
    notes: Sequence[str],
    node_text: str = "",
    node: Sequence[str] = (),
) -> Spelling:
    """Notes stand above the lines; where there are no lines, they are all there is to say."""
    notes = list(dict.fromkeys(notes))
    comments = [line for note in notes for line in _filled(note.split(), "# ", "#   ", "")]
    return Spelling(
        text=text if lines else " ".join(notes),
        lines=(*comments, *lines) if lines else (),
        node_text=node_text if node else "",
        node_lines=tuple(node),
    )


def _filled(words: Iterable[str], start: str, indent: str, tail: str) -> list[str]:
    lines: list[str] = []
    line, blank = start, True
    for word in words:
        if not blank and len(line) + 1 + len(word) + len(tail) > WIDTH:
            lines.append(line + tail)
            line, blank = indent, True
        line += word if blank else f" {word}"
        blank = False
    return [*lines, line]


def write(path: str, lines: Iterable[str]) -> list[str]:
    """Make a file of these lines."""
    return command(["printf '%s\\n'", *(quote(line) for line in lines), f"> {path}"])


def without(settings: Iterable[Setting]) -> list[str]:
    """The words before a command that take away variables, wherever they come from."""
    names = [setting.name for setting in settings if isinstance(setting, EnvUnset)]
    return ["env", *(f"-u {name}" for name in names)] if names else []


def prelude(setting: Setting) -> list[str]:
    """What a shell says before it starts the job: a variable, a limit (bash)."""
    match setting:
        case EnvSet(name=name, value=value):
            return [f"export {name}={quote(value)}"]
        case EnvUnset(name=name):
            return [f"unset {name}"]
    limit = rlimit(setting)
    return [f"ulimit -S -{limit.letter} {limit.coarse}"] if limit else []


def tmpfs_options(mount: Mount) -> list[str]:
    """The options of a tmpfs; it belongs to everybody, as /tmp does."""
    options = ["ro"] if mount.read_only else []
    options += ["exec"] if mount.executable else []
    options += ["mode=1777"]
    return options + ([f"size={exact(mount.tmpfs_bytes)}"] if mount.tmpfs_bytes else [])
