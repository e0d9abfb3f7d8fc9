"""A batch script, or an `srun` line, changed so that it says what settings ask for."""

import re
from collections.abc import Sequence
from typing import Any

from gpudoctor.data import table
from gpudoctor.launch._inherits import unprivileged
from gpudoctor.launch._shell import exact
from gpudoctor.launch.settings import Drop, GpuDevices, Memory, Setting
from gpudoctor.lint import script
from gpudoctor.lint.getopt import spelled
from gpudoctor.lint.run_line import Flag
from gpudoctor.lint.shell import Command
from gpudoctor.lint.source import Edit, Source

_OPTIONS = (Drop, GpuDevices, Memory)  # not to be changed where variables hold some of them
_TASKS = ("ntasks-per-node", "tasks-per-node", "ntasks")


def known(program: str) -> dict[str, Any]:
    """The options of sbatch or srun, those of pyxis included."""
    own, pyxis = table("slurm_flags")[program], table("slurm_flags")["pyxis"]
    both = {kind: [*own[kind], *pyxis[kind]] for kind in ("valued", "switches")}
    return {**own, **both}


def edits(
    source: Source,
    commands: Sequence[Command],
    launch: Command | None,
    flags: Sequence[Flag],
    settings: Sequence[Setting],
    *,
    directives: bool,
) -> list[Edit]:
    """What to change in the text.

    Args:
        commands: of the whole script.
        launch: the one that trains.
        flags: that hold for it, of #SBATCH lines and of srun.
        directives: the script has #SBATCH lines.
    """
    changes: list[Edit] = []
    if any(flag.borrowed for flag in flags):
        settings = [setting for setting in settings if not isinstance(setting, _OPTIONS)]
    for setting in settings:
        match setting:
            case Drop(field="unknown", value=value):
                gone = [f for f in flags if not f.known and f.written == value]
                changes += [spelled(flag, known("srun")) or _without(source, flag) for flag in gone]
            case Drop(field="unstepped") if launch:
                changes.append(Edit(launch.start, launch.start, "srun "))
            case Drop(field="tasks"):
                old = [f for f in flags if f.name in _TASKS]
                changes += [Edit(f.start, f.end, "--ntasks-per-node=1") for f in old[:1]]
                changes += [_without(source, flag) for flag in old[1:]]
            case GpuDevices(count=int(count)):
                changes += _asking(source, launch, flags, *_gpus(flags, count), directives)
            case Memory(value=int(value)):
                size = exact(-(-value // 1024), ("K", "M", "G", "T"))
                old = [f for f in flags if f.name in ("mem", "mem-per-cpu", "mem-per-gpu")]
                changes += _asking(source, launch, flags, old, f"--mem={size}", directives)
    if launch:
        changes += script.edits(source, commands, launch, unprivileged(settings))
    return changes


def _gpus(flags: Sequence[Flag], count: int) -> tuple[list[Flag], str]:
    """The request for GPUs that there is, and what is to stand for it."""
    for flag in flags:
        if flag.name == "gres" and "gpu" in flag.value:
            text = re.sub(
                r"gpu((?::[A-Za-z][\w.-]*)?)(:\d+)?", rf"gpu\1:{count}", flag.value, count=1
            )
            return [flag], f"--gres={text}"
        if flag.name in ("gpus", "gpus-per-node"):
            kind = re.match(r"[A-Za-z][\w.-]*:", flag.value)
            return [flag], f"--gpus-per-node={kind[0] if kind else ''}{count}"
        if flag.name == "gpus-per-task":
            return [flag], f"--gres=gpu:{count}"
    return [], f"--gres=gpu:{count}"


def _asking(
    source: Source,
    launch: Command | None,
    flags: Sequence[Flag],
    old: Sequence[Flag],
    text: str,
    directives: bool,
) -> list[Edit]:
    """An option put in place of others, or behind the last one."""
    if old:
        return [Edit(old[0].start, old[0].end, text), *(_without(source, f) for f in old[1:])]
    if directives and flags:
        end = source.text.find("\n", flags[0].end)
        end = len(source.text) if end < 0 else end
        return [Edit(end, end, f"\n#SBATCH {text}")]
    if launch is None:
        return []
    srun = next(word for word in launch.words if word.text.rpartition("/")[2] == "srun")
    return [Edit(srun.end, srun.end, f" {text}")]


def _without(source: Source, flag: Flag) -> Edit:
    """An option taken out, with its #SBATCH line if it stands alone in it."""
    begin = source.start_of(source.line_at(flag.start))
    before = source.text[begin : flag.start]
    if before.strip() == "#SBATCH":
        return script.without_line(source, begin, flag.end)
    after = re.compile(r"[ \t]*(\\\n[ \t]*)?").match(source.text, flag.end)
    return Edit(flag.start, after.end() if after else flag.end, "")
