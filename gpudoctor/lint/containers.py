"""`docker run` and `podman run` lines, alone or in a shell script."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from gpudoctor.data import table
from gpudoctor.facts.launch import Launch, LaunchMount, Ulimit
from gpudoctor.lint.assigned import resolved
from gpudoctor.lint.getopt import meant
from gpudoctor.lint.run_edits import edits
from gpudoctor.lint.run_line import Flag, RunLine, run_line
from gpudoctor.lint.said import Said
from gpudoctor.lint.shell import commands
from gpudoctor.lint.source import Found, Source
from gpudoctor.units import parse_size

ALL = -1
PERIOD = 100_000  # microseconds; the kernel's default period of a CPU quota


def read(source: Source) -> list[Found]:
    """Every container that the script starts.

    Raises:
        BadLaunch: the text is no shell script.
    """
    script = resolved(source, commands(source))
    lines = [line for command in script if (line := run_line(command))]
    return [_found(source, line) for line in lines]


def _found(source: Source, line: RunLine) -> Found:
    command = line.command
    alone = not command.words[0].borrowed
    return Found(
        launch=launch_of(line, source),
        line=source.line_at(command.start),
        edits=lambda settings: edits(source, line, settings),
        start=command.start if alone else 0,
        end=command.end if alone else 0,
    )


class Refused(ValueError):
    """A value that the engine does not take; the message says why."""


def launch_of(line: RunLine, source: Source) -> Launch:
    """What the command line says."""
    said = Said(source)
    for flag in line.flags:
        if flag.name == "*":
            said.leave_open("*", flag.start, flag.opens)
        elif not flag.known:
            said.say("unknown", flag.written, flag.start)
            name = meant(flag.name, table("run_flags")[line.engine])
            if name in _READERS and not flag.opens and flag.value:
                _say(said, replace(flag, name=name))
        elif _is_open(flag):
            for field in _fields_of(flag):
                said.leave_open(field, flag.start, flag.opens)
        elif flag.name in _READERS:
            _say(said, flag)
    for flag in line.late:
        said.say("late", flag.written, flag.start)
        if flag.name in _READERS and not flag.opens:
            _say(said, flag)
    if line.image and line.image.opens:
        said.leave_open("image", line.image.start, line.image.opens)
    elif line.image:
        said.say("image", line.image.text, line.image.start)
    entrypoint = [flag.value for flag in line.flags if flag.name == "entrypoint" and flag.value]
    command = (*entrypoint[-1:], *(word.text for word in line.arguments))
    if command:
        said.say("command", command, (line.arguments or line.command.words)[0].start)
    for begin, _ in line.command.torn[:1]:
        said.say("torn", True, begin)
    _by_runtime(said, line)
    return said.launch("docker run" if line.engine == "docker" else "podman run", line.engine)


def _say(said: Said, flag: Flag) -> None:
    try:
        found = _READERS[flag.name](flag.value)
    except ValueError as error:
        said.refuse(f"{flag.written} {flag.value}", str(error), flag.start)
        if listed := re.search(r"device=([^\"]+)", flag.value):  # what is meant is clear
            said.say("gpus", len(listed[1].split(",")), flag.start)
            said.say("gpu_vendor", "nvidia", flag.start)
        else:
            for field in _fields_of(flag):
                said.leave_open(field, flag.start)
        return
    for name, value in found.items():
        before = said.fields.get(name)
        if name == "gpus" and before is not None:  # several --device
            value = ALL if ALL in (value, before) else value + before
        said.say(name, value, flag.start)


def _by_runtime(said: Said, line: RunLine) -> None:
    """GPUs that a container runtime gives by variables, not by flags."""
    given = said.fields["environment"].get("NVIDIA_VISIBLE_DEVICES")
    runtimes = [flag for flag in line.flags if flag.name == "runtime"]
    if "gpus" in said.fields:
        return
    if line.program == "nvidia-docker":
        found = {"gpus": ALL, "gpu_vendor": "nvidia"}
    elif not runtimes or runtimes[-1].opens or given in ("", "none", "void"):
        return
    elif runtimes[-1].value == "amd":
        found = {"gpus": ALL, "gpu_vendor": "amd"}
    elif given is None:
        said.leave_open("gpus", runtimes[-1].start)  # the image may say which
        said.say("gpu_vendor", "nvidia", runtimes[-1].start)
        return
    else:
        found = {"gpus": ALL if given == "all" else len(given.split(",")), "gpu_vendor": "nvidia"}
    for name, value in found.items():
        said.say(name, value, (runtimes[-1] if runtimes else line.command.words[0]).start)


def _gpus(value: str) -> dict[str, Any]:
    """docker/cli opts/gpus.go: a list of comma-separated fields, quoted as in CSV."""
    fields = [field.strip('"') for field in re.findall(r'"[^"]*"|[^,]+', value)]
    count: int | None = None
    for field in fields:
        key, equals, text = field.partition("=")
        if not equals or key == "count":
            text = text or key
            if count is not None:
                raise Refused("a list of GPUs needs quotes of its own: '\"device=0,1\"'")
            count = ALL if text in ("all", "-1") else _whole(text)
        elif key == "device":
            count = ALL if text == "all" else len(text.split(","))
        elif key not in ("driver", "capabilities", "options"):
            raise Refused(f"{key!r} is no part of a request for GPUs")
    return {"gpus": ALL if count is None else count, "gpu_vendor": "nvidia"}


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise Refused(f"{text!r} is no whole number")
    return int(text)


def _device(value: str) -> dict[str, Any]:
    path = value.partition(":")[0] if value.startswith("/") else value
    found: dict[str, Any] = {"devices": path}
    kind, equals, which = value.partition("=")
    vendor = kind.partition(".com/gpu")[0]
    if equals and kind in ("nvidia.com/gpu", "amd.com/gpu"):
        found |= {"gpus": ALL if which == "all" else 1, "gpu_vendor": vendor}
    elif re.fullmatch(r"/dev/nvidia\d+", path):
        found |= {"gpus": 1, "gpu_vendor": "nvidia"}
    elif path == "/dev/kfd":
        found |= {"gpu_vendor": "amd"}
    return found


def _env(value: str) -> dict[str, Any]:
    name, _, text = value.partition("=")
    return {f"environment.{name}": text}


def _ulimit(value: str) -> dict[str, Any]:
    name, equals, numbers = value.partition("=")
    if value == "host":
        return {}
    soft, _, hard = numbers.partition(":")
    if not equals or not re.fullmatch(r"-?\d+(:-?\d+)?", numbers):
        raise Refused("a limit is NAME=SOFT[:HARD]")
    low, high = (None if int(text) < 0 else int(text) for text in (soft, hard or soft))
    return {f"ulimits.{name}": Ulimit(low, high)}


def _volume(value: str) -> dict[str, Any]:
    source, _, rest = value.partition(":")
    target, _, options = rest.partition(":")
    if not target:
        source, target = "", source
    mount = LaunchMount(target=target, source=source, read_only="ro" in options.split(","))
    found: dict[str, Any] = {"mounts": mount}
    return found | ({"devices": target} if target.startswith("/dev/") and source else {})


def _tmpfs(value: str) -> dict[str, Any]:
    target, _, options = value.partition(":")
    size = re.search(r"(?:^|,)size=([^,]+)", options)
    # A share of the machine's memory, "50%", is not known here.
    count = parse_size(size[1]) if size and not size[1].endswith("%") else None
    return {"mounts": LaunchMount(target=target, tmpfs=True, tmpfs_bytes=count)}


def _mount(value: str) -> dict[str, Any]:
    fields = dict(field.partition("=")[::2] for field in value.split(","))
    target = next((fields[k] for k in ("target", "destination", "dst") if k in fields), "")
    size = fields.get("tmpfs-size")
    mount = LaunchMount(
        target=target,
        source=fields.get("source") or fields.get("src") or "",
        tmpfs=fields.get("type") == "tmpfs",
        tmpfs_bytes=parse_size(size) if size else None,
        read_only=bool(fields.keys() & {"readonly", "ro"}),
    )
    return {"mounts": mount}


def _pids(value: str) -> dict[str, Any]:
    count = _whole(value)
    return {"pids": ALL if count <= 0 else count}


def _cpus(value: str) -> dict[str, Any]:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?|\.\d{1,9}", value):
        raise Refused(f"{value!r} is no number of CPUs")
    return {"cpus": float(value) or None}


def _memory(value: str) -> dict[str, Any]:
    count = 0 if value in ("0", "-1") else parse_size(value)
    return {"memory_bytes": count or None}


def _one(field: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {field: value}


_READERS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "shm-size": lambda value: {"shm_bytes": parse_size(value)},
    "ipc": _one("ipc"),
    "network": _one("network"),
    "publish": _one("ports"),
    "gpus": _gpus,
    "device": _device,
    "group-add": _one("groups"),
    "cap-add": lambda value: {"capabilities": value.upper().removeprefix("CAP_")},
    "security-opt": lambda value: {"security": value.replace(":", "=", 1)},
    "privileged": lambda value: {"privileged": value.lower() not in ("false", "0", "f")},
    "user": _one("user"),
    "name": _one("name"),
    "env": _env,
    "ulimit": _ulimit,
    "memory": _memory,
    "cpus": _cpus,
    "cpu-quota": lambda value: {"cpus": _whole(value) / PERIOD if _whole(value) > 0 else None},
    "pod": lambda value: {"ipc": f"pod:{value}", "network": f"pod:{value}"},
    "pids-limit": _pids,
    "volume": _volume,
    "tmpfs": _tmpfs,
    "mount": _mount,
}

# What stays unknown when the shell replaces a part of a flag's value, or reads it elsewhere.
_FIELDS = {
    "shm-size": "shm_bytes",
    "publish": "ports",
    "runtime": "gpus",
    "device": "devices",
    "group-add": "groups",
    "cap-add": "capabilities",
    "security-opt": "security",
    "memory": "memory_bytes",
    "cpu-quota": "cpus",
    "cpu-period": "cpus",
    "pids-limit": "pids",
    "env-file": "environment",
}


def _is_open(flag: Flag) -> bool:
    """Whether only the moment of launch knows its value."""
    if flag.name in ("volume", "env") and flag.opens:
        # $(pwd):/workspace, NAME=$VALUE: what matters most may be known all the same.
        _, _, rest = flag.value.partition(":" if flag.name == "volume" else "=")
        return not rest or any(word in rest for word in flag.opens)
    passed_on = flag.name == "env" and "=" not in flag.value  # the caller's own
    return bool(flag.opens) or passed_on or flag.name == "env-file"


def _fields_of(flag: Flag) -> set[str]:
    if flag.name in ("env", "ulimit"):
        name = flag.value.partition("=")[0]
        group = "environment" if flag.name == "env" else "ulimits"
        return {group if "$" in name else f"{group}.{name}"}
    if flag.name in ("volume", "mount", "tmpfs"):
        return {"mounts"} if "/dev" in flag.value or flag.value.startswith("$") else set()
    if flag.name == "device":
        return {"devices", "gpus"}
    name = _FIELDS.get(flag.name, flag.name)
    return {name} if name in Launch.__struct_fields__ else set()
