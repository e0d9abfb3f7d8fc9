"""Batch scripts of Slurm, with the step that trains, and `srun` lines; also with pyxis."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from msgspec import Struct

from gpudoctor.facts.launch import Launch, LaunchMount
from gpudoctor.lint import slurm_edits
from gpudoctor.lint.assigned import resolved
from gpudoctor.lint.getopt import is_slip, options
from gpudoctor.lint.job import job_of
from gpudoctor.lint.run_line import Flag
from gpudoctor.lint.said import Said
from gpudoctor.lint.script import say_environment, saying
from gpudoctor.lint.shell import Command, Word, commands, is_assignment
from gpudoctor.lint.slurm_edits import known
from gpudoctor.lint.source import MOST, BadLaunch, Found, Source
from gpudoctor.units import MIB, parse_size

_DIRECTIVE = re.compile(r"^#SBATCH[ \t]+(?P<words>\S.*)$", re.MULTILINE)
_TRAINING = re.compile(r"(^|/)(python[\d.]*|torchrun|accelerate|deepspeed)$")
# What takes a command to the other nodes of a job.
_TO_ALL_NODES = re.compile(r"\b(srun|mpirun|mpiexec|orterun|pdsh|clush|ssh|parallel|ray)\b")
LATE = "sbatch reads none of them behind the first command"
LITERAL = "sbatch replaces no variables in these lines"
BLANKS = "no blanks around the ="


class Step(Struct, frozen=True):
    """An `srun`: its options, and the words that it runs."""

    command: Command
    flags: list[Flag]
    runs: tuple[Word, ...]


def read(source: Source) -> list[Found]:
    """The job that a batch script is; else every `srun` in a script.

    Raises:
        BadLaunch: the text is no shell script.
    """
    script = resolved(source, commands(source))
    begin = script[0].start if script else len(source.text)
    directives = list(_directives(source, begin))
    steps = [step for command in script if (step := _step(command))]
    said = saying(script)
    if directives:
        command, step = _main(script, steps)
        return [_found(source, said, command, directives, step, begin)]
    training = (step for step in steps if not job_of(_texts(step.runs)).only_looks)
    return [
        _found(source, said, step.command, [], step, begin) for step in islice(training, MOST + 1)
    ]


def _directives(source: Source, begin: int) -> Iterator[Flag]:
    for line in _DIRECTIVE.finditer(source.text):
        try:
            found = commands(source, line.start("words"), line.end("words"))
        except BadLaunch:
            continue  # brackets of a node list
        words = [word for command in found for word in command.words]
        yield from options(words, known("sbatch"), abbreviated=True)[0]


def _step(command: Command) -> Step | None:
    words = command.words
    at = next((n for n, word in enumerate(words) if not is_assignment(word)), 0)
    while words[at].text in ("exec", "time", "nohup") and at + 1 < len(words):
        at += 1
    if words[at].text.rpartition("/")[2] != "srun":
        return None
    rest = words[at + 1 :]
    flags, end = options(rest, known("srun"), abbreviated=True)
    return Step(command, flags, rest[end:])


def _main(script: Sequence[Command], steps: Sequence[Step]) -> tuple[Command | None, Step | None]:
    """The command that trains, and the step that it is."""
    for step in sorted(steps, key=lambda step: not _trains(step.runs)):
        return step.command, step
    training = [command for command in script if _trains(command.words)]
    return [*training, *script[-1:], None][0], None


def _trains(words: Sequence[Word]) -> bool:
    return bool(job_of(_texts(words)).starter) or any(_TRAINING.search(word.text) for word in words)


def _texts(words: Sequence[Word]) -> tuple[str, ...]:
    return tuple(word.text for word in words)


def _found(
    source: Source,
    script: Sequence[Command],
    command: Command | None,
    directives: list[Flag],
    step: Step | None,
    begin: int,
) -> Found:
    alone = not directives and command is not None and not command.words[0].borrowed
    flags = [flag for flag in directives if flag.start < begin]
    flags += step.flags if step else []
    start = directives[0].start if directives else step.command.start if step else 0
    return Found(
        launch=_launch(source, script, command, directives, step, begin),
        line=source.line_at(start),
        edits=lambda settings: slurm_edits.edits(
            source, script, command, flags, settings, directives=bool(directives)
        ),
        start=command.start if alone and command else 0,
        end=command.end if alone and command else 0,
    )


def _launch(
    source: Source,
    script: Sequence[Command],
    command: Command | None,
    directives: Sequence[Flag],
    step: Step | None,
    begin: int,
) -> Launch:
    said = Said(source)
    asked: dict[str, Flag] = {}
    for flag in directives:
        if flag.start > begin:
            said.refuse(f"#SBATCH {_written(flag)}", LATE, flag.start)
        elif flag.opens and flag.name in _COUNTS:
            said.refuse(f"#SBATCH {_written(flag)}", LITERAL, flag.start)
        elif flag.value == "=":
            said.refuse(f"#SBATCH {_written(flag)}", BLANKS, flag.start)
        else:
            _note(said, asked, flag, "sbatch")
    for flag in step.flags if step else []:
        _note(said, asked, flag, "srun")
    runs = step.runs if step else command.words if command else ()
    if runs:
        said.say("command", _texts(runs), runs[0].start)
    if command:
        say_environment(said, script, command)
    _say_counts(said, asked)
    _say_export(said, asked)
    job = job_of(_texts(runs))
    starter = job.starter
    meets_others = starter == "torchrun" and job.nodes != 1 and said.fields.get("nodes", 1) > 1
    first = next((word.text for word in runs if not is_assignment(word)), "")
    is_plain = _TRAINING.search(first) and not _TO_ALL_NODES.search(source.text)
    if directives and meets_others and is_plain:
        said.say("unstepped", True, runs[0].start)
    if step and not starter and _trains(runs) and "tasks" in said.fields:
        said.say("ranks", said.fields["tasks"], runs[0].start)
    launcher = "pyxis" if "container-image" in asked else "slurm"
    return said.launch("sbatch script" if directives else "srun step", launcher)


def _written(flag: Flag) -> str:
    return f"{flag.written}={flag.value}" if flag.value else flag.written


def _note(said: Said, asked: dict[str, Flag], flag: Flag, program: str) -> None:
    if flag.known:
        asked[flag.name] = flag
    elif is_slip(flag, known(program)):
        said.say("unknown", flag.written, flag.start)


_COUNTS = {
    *("nodes", "ntasks", "ntasks-per-node", "tasks-per-node", "gpus", "gpus-per-node"),
    *("gpus-per-task", "gres", "cpus-per-task", "mem", "time"),
}


def _say_counts(said: Said, asked: Mapping[str, Flag]) -> None:
    nodes, tasks = _shape(said, asked)
    _say_gpus(said, asked, nodes, tasks)
    if flag := asked.get("mem"):
        size = re.fullmatch(r"(\d+)([KMGT]?)B?", flag.value, re.IGNORECASE)
        if size and int(size[1]):
            unit = MIB if not size[2] else parse_size(f"1{size[2]}")
            said.say("memory_bytes", int(size[1]) * unit, flag.start)
    if (flag := asked.get("cpus-per-task")) and flag.value.isdigit() and tasks:
        said.say("cpus", float(int(flag.value) * tasks), flag.start)
    if flag := asked.get("job-name"):
        said.say("name", flag.value, flag.start)
    if flag := asked.get("container-image"):
        said.say("image", flag.value, flag.start)
    if (flag := asked.get("container-mounts")) and not flag.opens:
        for mount in flag.value.split(","):
            source, _, rest = mount.partition(":")
            target = rest.partition(":")[0] or source
            said.say("mounts", LaunchMount(target=target, source=source), flag.start)


def _shape(said: Said, asked: Mapping[str, Flag]) -> tuple[int | None, int | None]:
    """Nodes, and tasks on each; None: not known before it runs."""
    per_node = asked.get("ntasks-per-node") or asked.get("tasks-per-node")
    total, nodes = _count(asked.get("ntasks")), _count(asked.get("nodes"))
    if "nodes" in asked and nodes:
        said.say("nodes", nodes, asked["nodes"].start)
    elif "nodes" in asked:
        said.leave_open("nodes", asked["nodes"].start, asked["nodes"].opens)
    elif "nodelist" not in asked and ("ntasks" not in asked or total == 1):
        nodes = 1
    tasks: int | None = None
    if per_node:
        tasks = _count(per_node)
    elif "ntasks" in asked:
        tasks = total // nodes if total and nodes and total % nodes == 0 else None
    elif "ntasks-per-gpu" not in asked:
        tasks = 1
    flag = per_node or asked.get("ntasks")
    if flag and tasks:
        said.say("tasks", tasks, flag.start)
    elif flag:
        said.leave_open("tasks", flag.start, flag.opens)
    return nodes, tasks


def _say_gpus(said: Said, asked: Mapping[str, Flag], nodes: int | None, tasks: int | None) -> None:
    """GPUs of one node."""
    times: dict[str, int | None] = {"gres": 1, "gpus-per-node": 1, "gpus-per-task": tasks}
    if nodes == 1:
        times["gpus"] = 1
    for name, factor in times.items():
        flag = asked.get(name)
        found = _gpus(flag.value, name) if flag else None
        if flag and found is not None and factor and not flag.opens:
            count, kind = found
            said.say("gpus", count * factor, flag.start)
            vendor = "amd" if re.match(r"mi\d", kind) else "nvidia" if kind else ""
            said.say("gpu_vendor", vendor, flag.start)
            return
    for name in ("gpus", *times):
        if name in asked and ("gpu" in asked[name].value or name != "gres"):
            said.leave_open("gpus", asked[name].start, asked[name].opens)


def _gpus(value: str, name: str) -> tuple[int, str] | None:
    """How many, and of which type: of "gpu:a100:4,license:1" or "h100:8"."""
    total, kind = 0, ""
    for part in value.split(","):
        fields = part.partition("(")[0].split(":")
        if name == "gres":
            if fields.pop(0) != "gpu":
                continue
            fields = fields or ["1"]
        count = fields[-1] if fields and fields[-1].isdigit() else ""
        kinds = fields[:-1] if count else fields
        if len(kinds) > 1 or (name != "gres" and not count):
            return None
        kind = kinds[0].lower() if kinds else kind
        total += int(count or 1)
    return (total, kind) if total else None


def _say_export(said: Said, asked: Mapping[str, Flag]) -> None:
    """--export: without ALL nothing of the script's variables reaches the job."""
    flag = asked.get("export")
    if flag is None:
        return
    parts = flag.value.split(",")
    if "ALL" not in parts:
        said.leave_open("environment", flag.start, flag.opens)
        return
    for part in parts:
        name, equals, value = part.partition("=")
        if equals and not flag.opens:
            said.say(f"environment.{name}", value, flag.start)


def _count(flag: Flag | None) -> int | None:
    return int(flag.value) if flag and flag.value.isdigit() and int(flag.value) else None
