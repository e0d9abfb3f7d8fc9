"""`apptainer exec` and `run` lines, and those of singularity, alone or in a shell script."""

import re
from collections.abc import Sequence
from itertools import islice
from shlex import quote

from gpudoctor.data import table
from gpudoctor.facts.launch import LaunchMount
from gpudoctor.launch.settings import (
    Drop,
    EnvSet,
    GpuDevices,
    IpcHost,
    Mount,
    Setting,
    ShmSize,
)
from gpudoctor.lint import script
from gpudoctor.lint.assigned import resolved
from gpudoctor.lint.getopt import is_slip, options, spelled
from gpudoctor.lint.run_line import Flag
from gpudoctor.lint.said import Said
from gpudoctor.lint.shell import Command, Word, commands
from gpudoctor.lint.source import MOST, Edit, Found, Source

ALL = -1
PRIVATE = ("contain", "containall", "compat")
VARIABLES = ("APPTAINERENV_", "SINGULARITYENV_")
_PROGRAMS = {"apptainer": "apptainer", "singularity": "apptainer"}
_ASKED = re.compile(r"^#SBATCH.*\s(--gres=gpu|--gpus\S*=|-G[ =]?):?(?P<kind>\w*)", re.MULTILINE)
_OF_AMD = re.compile(r"rocm|rccl|miopen|(?:HIP|ROCR)_VISIBLE|\bLUMI\b", re.IGNORECASE)
_VENDORS = {"nv": "nvidia", "nvccli": "nvidia", "rocm": "amd"}


def read(source: Source) -> list[Found]:
    """Every container that the script starts.

    Raises:
        BadLaunch: the text is no shell script.
    """
    lines = resolved(source, commands(source))
    said = script.saying(lines)
    found = (_found(source, said, line) for line in lines)
    return list(islice(filter(None, found), MOST + 1))


def _found(source: Source, lines: Sequence[Command], command: Command) -> Found | None:
    words = command.words
    verb = _verb(words)
    if verb is None:
        return None
    known = table("apptainer_flags")["apptainer"]
    flags, end = options(words[verb + 1 :], known)
    image, runs = words[verb + 1 + end :][:1], words[verb + 2 + end :]
    said = Said(source)
    if image and image[0].opens:
        said.leave_open("image", image[0].start, image[0].opens)
    elif image:
        said.say("image", image[0].text, image[0].start)
    if runs:
        said.say("command", tuple(word.text for word in runs), runs[0].start)
    for flag in flags:
        if flag.known:
            _say(said, flag)
        elif is_slip(flag, known):
            said.say("unknown", flag.written, flag.start)
    _say_variables(said, lines, command)
    for begin, _ in command.torn[:1]:
        said.say("torn", True, begin)
    _say_job(said, source, lines, command)
    return Found(
        launch=said.launch("apptainer run", "apptainer"),
        line=source.line_at(command.start),
        edits=lambda settings: _edits(words[verb], flags, command, settings),
        start=0 if words[0].borrowed else command.start,
        end=0 if words[0].borrowed else command.end,
    )


def _verb(words: Sequence[Word]) -> int | None:
    """Where `exec` or `run` stands, behind the program, which may follow srun or mpirun."""
    for number, word in enumerate(words[:-1]):
        if word.text.rpartition("/")[2] in _PROGRAMS:
            at = number + 1
            while words[at].text.startswith("-") and at + 1 < len(words):
                at += 1  # of apptainer itself: --quiet, --debug
            return at if words[at].text in ("exec", "run") else None
    return None


def _say(said: Said, flag: Flag) -> None:
    if flag.name in _VENDORS:
        said.say("gpus", ALL, flag.start)
        said.say("gpu_vendor", _VENDORS[flag.name], flag.start)
    elif flag.name in PRIVATE:
        said.say("ipc", "private", flag.start)
    elif flag.name == "bind" and not flag.opens:
        for spec in flag.value.split(","):
            source, _, rest = spec.partition(":")
            target, _, how = rest.partition(":")
            mount = LaunchMount(target=target or source, source=source, read_only=how == "ro")
            said.say("mounts", mount, flag.start)
    elif flag.name == "bind":
        said.leave_open("mounts", flag.start, flag.opens)
    elif flag.name == "env":
        for part in flag.value.split(","):
            name, equals, value = part.partition("=")
            if equals and not any(word in value for word in flag.opens):
                said.say(f"environment.{name}", value, flag.start)
    elif flag.name in ("env-file", "net", "network"):
        said.leave_open("environment" if flag.name == "env-file" else "network", flag.start)


def _say_job(said: Said, source: Source, lines: Sequence[Command], command: Command) -> None:
    """GPUs that a variable passes in, or that the job around it asks for."""
    if "gpus" in said.fields:
        return
    given = script.variables(lines, command)
    for name, vendor in (("NV", "nvidia"), ("ROCM", "amd")):
        if given.keys() & {f"APPTAINER_{name}", f"SINGULARITY_{name}"}:
            said.say("gpus", ALL, command.start)
            said.say("gpu_vendor", vendor, command.start)
            return
    if asked := _ASKED.search(source.text):
        amd = _OF_AMD.search(source.text) or asked["kind"].startswith("mi")
        said.say("gpu_vendor", "amd" if amd else "nvidia", command.start)


def _say_variables(said: Said, lines: Sequence[Command], command: Command) -> None:
    """Those that are meant for the container; the others are the caller's, who also has them."""
    for name, variable in script.variables(lines, command).items():
        inner = next((name[len(start) :] for start in VARIABLES if name.startswith(start)), "")
        if inner and variable.is_open:
            said.leave_open(f"environment.{inner}", variable.word.start, variable.word.opens)
        elif inner:
            said.say(f"environment.{inner}", variable.value, variable.word.start)


def _edits(
    verb: Word, flags: Sequence[Flag], command: Command, settings: Sequence[Setting]
) -> list[Edit]:
    changes: list[Edit] = []
    added: list[str] = []
    if verb.borrowed or any(flag.borrowed for flag in flags):
        return []
    written = {(flag.name, flag.value) for flag in flags}
    for setting in settings:
        match setting:
            case GpuDevices(vendor=vendor):
                added.append("--rocm" if vendor == "amd" else "--nv")
            case ShmSize() | IpcHost() if ("bind", "/dev/shm") not in written:
                added.append("--bind /dev/shm")
            case EnvSet(name=name, value=value) if "," not in value:
                changes += [_out(command, flag) for flag in flags if _sets(flag, name)]
                added.append(f"--env {quote(f'{name}={value}')}")
            case Mount(target=target, source=origin) if origin:
                end = ":ro" if setting.read_only else ""
                added.append(f"--bind {quote(f'{origin}:{target}{end}')}")
            case Drop(field="unknown", value=value):
                gone = [f for f in flags if not f.known and f.written == value]
                changes += [
                    spelled(flag, table("apptainer_flags")["apptainer"]) or _out(command, flag)
                    for flag in gone
                ]
            case Drop(field="torn"):
                changes += [Edit(start, end, "") for start, end in command.torn]
    new = [text for text in dict.fromkeys(added) if text.lstrip("-") not in {f.name for f in flags}]
    if new:
        changes.append(Edit(verb.end, verb.end, "".join(f" {text}" for text in new)))
    return changes


def _sets(flag: Flag, name: str) -> bool:
    return flag.name == "env" and flag.value.partition("=")[0] == name and "," not in flag.value


def _out(command: Command, flag: Flag) -> Edit:
    after = [word.start for word in command.words if word.start >= flag.end]
    return Edit(flag.start, after[0] if after else flag.end, "")
