"""What `gpudoctor shm` is told of the job, and what of it contradicts itself."""

from collections.abc import Callable, Sequence, Set
from math import prod
from typing import Any, TypeVar

import click
from msgspec import Struct

T = TypeVar("T")

DTYPES = {
    **dict.fromkeys(("bool", "int8", "uint8"), 1),
    **dict.fromkeys(("bfloat16", "float16", "int16"), 2),
    **dict.fromkeys(("float32", "int32"), 4),
    **dict.fromkeys(("float64", "int64"), 8),
}


def read_by(parse: Callable[[str], T]) -> Callable[[Any, Any, str | None], T | None]:
    """A callback of an option whose text is read by a function that raises ValueError."""

    def read(context: Any, parameter: Any, given: str | None) -> T | None:
        try:
            return None if given is None else parse(given)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


def elements(text: str) -> int:
    """How many numbers are in a "3x224x224".

    Raises:
        ValueError: the text is no shape.
    """
    parts = text.lower().split("x")
    if not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"{text!r} is not a shape such as 3x224x224")
    return prod(map(int, parts))


def version(text: str) -> tuple[int, int]:
    """The first two numbers of a "2.27.3".

    Raises:
        ValueError: the text is no version.
    """
    parts = text.split(".")
    if len(parts) < 2 or not all(part.isdigit() for part in parts[:2]):
        raise ValueError(f"{text!r} is not a version such as 2.27")
    return int(parts[0]), int(parts[1])


class Asked(Struct, frozen=True, kw_only=True):
    """The values of the options that say what will run."""

    gpus: int | None
    per_gpu: int | None
    processes: int | None
    per_process: int | None
    ranks: int | None
    nnodes: int | None
    nccl: tuple[int, int] | None
    p2p: bool | None
    workers: int | None
    prefetch: int | None
    loaders: int | None
    held: int | None
    batch_bytes: int | None
    batch: int | None
    sample_shape: int | None
    dtype: str
    python: str | None


_OF_MODEL = ("ranks", "nnodes", "nccl", "p2p", "workers", "prefetch", "loaders", "held")
_OF_BATCH = ("batch_bytes", "batch", "sample_shape")


def refuse(typed: Set[str], words: Sequence[str]) -> None:
    """Refuse what contradicts itself, or would be left unheard.

    Args:
        typed: the options on the command line; those of the environment may be for others.
        words: processes.

    Raises:
        click.UsageError: what, and what would do.
    """
    measured = "measure" in typed
    wrong = {
        "--measure needs a process: a number, or a pattern": measured and not words,
        f"{' '.join(words)}: to measure processes say --measure": bool(words) and not measured,
        "--watch is for --measure": "watch" in typed and not measured,
        "--duration is for --watch": "duration" in typed and "watch" not in typed,
        "--per-process or --measure, not both": measured and "per_process" in typed,
        "--processes, or --gpus and --per-gpu": "processes" in typed
        and not typed.isdisjoint(("gpus", "per_gpu")),
        "--batch-bytes, or --batch and --sample-shape": "batch_bytes" in typed
        and not typed.isdisjoint(("batch", "sample_shape")),
        "--batch and --sample-shape belong together": ("batch" in typed)
        != ("sample_shape" in typed),
        "the options of DataLoader and NCCL are for the model: leave out --per-process and"
        " --measure": not typed.isdisjoint((*_OF_MODEL, *_OF_BATCH))
        and not typed.isdisjoint(("measure", "per_process")),
    }
    for why, is_so in wrong.items():
        if is_so:
            raise click.UsageError(why)
