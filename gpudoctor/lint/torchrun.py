"""`torchrun`, `accelerate launch` and the like in a shell, on the bare host."""

import re
from itertools import islice

from gpudoctor.lint import script
from gpudoctor.lint.assigned import resolved
from gpudoctor.lint.job import job_of
from gpudoctor.lint.said import Said
from gpudoctor.lint.shell import Command, commands, is_assignment
from gpudoctor.lint.source import MOST, Found, Source

_BATCH = re.compile(r"^#SBATCH\s", re.MULTILINE)  # the script is a job of slurm.py's
_BEFORE = {
    *("exec", "env", "time", "nohup", "nice", "numactl", "taskset", "timeout", "setsid"),
    *("gpudoctor", "stdbuf", "ionice"),
}
_STARTS = re.compile(r"(^|/)(torchrun|accelerate|deepspeed|python[\d.]*)$")


def read(source: Source) -> list[Found]:
    """Every one that the script starts.

    Raises:
        BadLaunch: the text is no shell script.
    """
    if _BATCH.search(source.text):
        return []
    lines = resolved(source, commands(source))
    said = script.saying(lines)
    launches = islice(filter(_starts, lines), MOST + 1)
    return [_found(source, said, command) for command in launches]


def _starts(command: Command) -> bool:
    """Whether it is one, and not an argument of docker, srun or apptainer."""
    words = [word.text for word in command.words if not is_assignment(word)]
    if not words or not job_of(words).starter:
        return False
    program = words[0].rpartition("/")[2]
    return bool(_STARTS.search(words[0])) or program in _BEFORE


def _found(source: Source, lines: list[Command], command: Command) -> Found:
    said = Said(source)
    words = [word for word in command.words if not is_assignment(word)]
    said.say("command", tuple(word.text for word in words), words[0].start)
    script.say_environment(said, lines, command)
    for begin, _ in command.torn[:1]:
        said.say("torn", True, begin)
    return Found(
        launch=said.launch("torchrun", "host"),
        line=source.line_at(command.start),
        edits=lambda settings: script.edits(source, lines, command, settings),
    )
