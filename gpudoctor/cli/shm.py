"""`gpudoctor shm`: how large /dev/shm must be, from a figure, from a model, or measured."""

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec
from click.core import ParameterSource
from msgspec.structs import replace

from gpudoctor import config
from gpudoctor.cli import options, shm_watch
from gpudoctor.cli.interrupt import catching
from gpudoctor.cli.output import say, to_stdout
from gpudoctor.cli.shm_answer import Answer, percent, spelled, text, too_full
from gpudoctor.cli.shm_asked import DTYPES, Asked, elements, read_by, refuse, version
from gpudoctor.collect import collect
from gpudoctor.facts.job_python import JobPython
from gpudoctor.facts.shm_use import ShmUse
from gpudoctor.facts.workload import Workload
from gpudoctor.launch import LAUNCHERS
from gpudoctor.probes import Machine
from gpudoctor.probes.job_python import job_python
from gpudoctor.probes.shm_holders import PATH, used
from gpudoctor.probes.workload import workload
from gpudoctor.rules import shm_table
from gpudoctor.rules.shm_table import FULL_PERCENT, Row
from gpudoctor.rules.sizing import HELD_BATCHES, proxy_pool, shm_need
from gpudoctor.snapshot import Absent, encode
from gpudoctor.units import MIB, count_of, parse_size, size

SHOWN = ("docker", "compose", "kubernetes")
EVERY = 5.0  # seconds
NOT_CONSTANT = (
    "what a process takes is no constant: one with the network transport of NCCL 2.20 takes"
    f" {size(proxy_pool((2, 20)))}, of 2.28 {size(proxy_pool((2, 28)))}; DataLoader workers add"
    " their batches. Without --per-process those are counted."
)


_COUNT = click.IntRange(1)


@click.command("shm")
@click.argument("words", nargs=-1, metavar="[PATTERN|PID]...")
@options.option("--gpus", type=_COUNT, metavar="N", help="GPUs of this node.")
@options.option("--per-gpu", type=_COUNT, metavar="N", help="Processes on each; default 1.")
@options.option("--processes", type=_COUNT, metavar="N", help="Instead of those two.")
@options.option(
    "--per-process", callback=read_by(parse_size), metavar="SIZE", help="What one takes: 5.75MB."
)
@options.option("--workers", type=click.IntRange(0), metavar="N", help="DataLoader workers.")
@options.option("--prefetch", type=_COUNT, metavar="N", help="Batches a worker is ahead.")
@options.option("--loaders", type=_COUNT, metavar="N", help="DataLoaders of a process, at once.")
@options.option(
    "--held", type=_COUNT, metavar="N", help=f"Batches the loop holds; default {HELD_BATCHES}."
)
@options.option(
    "--batch-bytes", callback=read_by(parse_size), metavar="SIZE", help="One collated batch: 37MiB."
)
@options.option("--batch", type=_COUNT, metavar="N", help="Or: samples of one batch, and ...")
@options.option(
    "--sample-shape", callback=read_by(elements), metavar="SHAPE", help="... one of them: 3x224x224"
)
@options.option("--dtype", type=click.Choice(list(DTYPES)), default="float32", help="... of this.")
@options.option("--ranks", type=_COUNT, metavar="N", help="Of one job here; default: all GPUs.")
@options.option("--nnodes", type=_COUNT, metavar="N", help="Nodes of the job.")
@options.option(
    "--nccl", callback=read_by(version), metavar="VERSION", help="Default: of the job's Python."
)
@options.option("--p2p/--no-p2p", default=None, help="Whether GPUs reach each other's memory.")
@options.option("--python", metavar="PATH", help="The Python that will train.")
@options.option("--measure", is_flag=True, help="Measure these processes, and their workers.")
@options.option(
    "--watch",
    is_flag=False,
    flag_value=EVERY,
    type=click.FloatRange(0.1, 3600),
    metavar="[SECONDS]",
    help=f"Measure again and again, default every {EVERY:g} s, until they end or Ctrl-C.",
)
@options.option("--duration", type=click.FloatRange(0.1), metavar="S", help="Or after S seconds.")
@options.option(
    "--for",
    "launchers",
    multiple=True,
    type=click.Choice(LAUNCHERS),
    help="Whose words; default docker, compose and kubernetes. Repeatable.",
)
@click.option("-f", "--format", "shape", type=click.Choice(["text", "json"]), default="text")
def command(
    words: tuple[str, ...],
    measure: bool,
    watch: float | None,
    duration: float | None,
    launchers: tuple[str, ...],
    shape: str,
    **asked: Any,
) -> None:
    """How large /dev/shm must be, and the lines that make it so.

    With --per-process: for so many processes of a known need. Without: what DataLoader and NCCL
    take, by their versions and the job's shape. With --measure: what live processes hold,
    named by number or by a pattern of their command lines, and the size for --processes of them.

    Exit codes: 0; 1 measured, and more than 80 % of /dev/shm is or would be used; 2 wrong usage;
    3 nothing could be measured.
    """
    given = Asked(**asked)
    ctx = click.get_current_context()
    source, typed = ctx.get_parameter_source, ParameterSource.COMMANDLINE
    refuse({name for name in ctx.params if source(name) is typed}, words)
    settings = options.settings_from(None)
    if not measure:
        answer = _of_figure(given) if given.per_process else _of_model(given, settings)
    else:
        answer = _of_processes(given, words, watch, duration, quiet=shape == "json")
    answer = _with_lines(answer, launchers or SHOWN)
    done = to_stdout(text(answer) if shape == "text" else _json(answer))
    sys.exit(answer.exit_code if done else 3)


def _of_figure(given: Asked) -> Answer:
    """The size for processes of which one is known to take so much."""
    gpus, per_gpu = _shape(given, 1)
    return _multiplied(given.per_process or 0, gpus, per_gpu, given)


def _shape(given: Asked, gpus: int) -> tuple[int, int]:
    return given.processes or given.gpus or gpus, given.per_gpu or 1


def _multiplied(per_process: int, gpus: int, per_gpu: int, given: Asked) -> Answer:
    need = gpus * per_gpu * per_process
    wanted = shm_table.sizes(need)
    each = f"{per_process / MIB:.4g} MiB"
    many = count_of(gpus * per_gpu, "process", "processes")
    if given.gpus:
        many = f"{count_of(gpus, 'GPU')} x {count_of(per_gpu, 'process', 'processes')}"
    return Answer(
        processes=gpus * per_gpu,
        per_process_bytes=per_process,
        need_bytes=need,
        least_bytes=wanted.least,
        recommended_bytes=wanted.recommended,
        generous_bytes=wanted.generous,
        arithmetic=(f"need: {many} x {each} = {size(need)}", shm_table.arithmetic(need)),
        table=shm_table.rows(gpus, per_process, _rows(per_gpu)) if given.gpus else (),
        per_gpu=per_gpu,
        here_bytes=_here(),
        remarks=(NOT_CONSTANT,),
    )


def _rows(per_gpu: int) -> list[int]:
    return sorted({*shm_table.PER_GPU, per_gpu})


def _of_model(given: Asked, settings: config.Config) -> Answer:
    """The size that DataLoader and NCCL ask for."""
    job, nccl = _looked(given, settings)
    gpus, per_gpu = _shape(given, job.local_ranks)
    ranks = given.ranks or gpus
    processes = gpus * per_gpu
    if processes % ranks:
        raise click.UsageError(f"{processes} processes are no jobs of {ranks} ranks each")
    job = job.told({"local_ranks": ranks}, "options")
    held = given.held or HELD_BATCHES

    def need_of(count: int) -> Row:
        found = shm_need(job, nccl, p2p=given.p2p, held=held, jobs=gpus * count // ranks)
        return Row(count, gpus * count, found.bytes, found.recommended)

    need = shm_need(job, nccl, p2p=given.p2p, held=held, jobs=processes // ranks)
    rows = [each for each in _rows(per_gpu) if gpus * each % ranks == 0]
    remarks = []
    if given.p2p is None and ranks > 1:
        remarks.append("not told whether the GPUs have P2P: counted as if not (--p2p, --no-p2p)")
    return Answer(
        processes=processes,
        need_bytes=need.bytes,
        recommended_bytes=need.recommended,
        arithmetic=(*need.arithmetic, f"together: {size(need.bytes)}"),
        table=tuple(map(need_of, rows)) if given.per_gpu else (),
        per_gpu=per_gpu,
        here_bytes=_here(),
        remarks=tuple(remarks),
    )


def _looked(given: Asked, settings: config.Config) -> tuple[Workload, tuple[int, int] | None]:
    """The job as machine, profile, configuration and options tell it, and NCCL's version."""
    machine = Machine(python=given.python or settings.python)
    probes = [workload] if given.nccl else [workload, job_python]
    facts = collect(probes, machine, deadline=5.0).facts
    job = facts["workload"]
    job = job if isinstance(job, Workload) else Workload()
    with contextlib.suppress(config.BadConfig):
        job = job.told(config.profile(settings.profile).workload, f"profile {settings.profile}")
    job = job.told(settings.workload, settings.path)
    batch_bytes = given.batch_bytes
    if given.batch and given.sample_shape:
        batch_bytes = given.batch * given.sample_shape * DTYPES[given.dtype]
    said = {
        "nodes": given.nnodes,
        "workers": given.workers,
        "prefetch": given.prefetch,
        "loaders": given.loaders,
        "batch_bytes": batch_bytes,
    }
    told = {name: value for name, value in said.items() if value is not None}
    python = facts.get("job_python")
    found = python.nccl if isinstance(python, JobPython) else None
    return job.told(told, "options"), given.nccl or found


def _of_processes(
    given: Asked,
    words: Sequence[str],
    every: float | None,
    duration: float | None,
    *,
    quiet: bool,
) -> Answer:
    """What live processes hold, and the size for as many as are asked for."""

    def tell(line: str) -> None:
        if quiet:
            say(line)
        else:
            to_stdout(f"{line}\n")

    with catching() as interrupt:
        try:
            use = shm_watch.measure(words, interrupt)
        except re.error as error:
            raise click.UsageError(f"{' '.join(words)}: no pattern: {error}") from None
        if isinstance(use, Absent):
            say(f"nothing measured: {use.absent}")
            sys.exit(128 + interrupt.signal if interrupt() else 3)
        found = shm_watch.once(use)
        if every is not None:
            found = shm_watch.watch(words, use, every, duration, interrupt, tell)
    asked = given.processes or given.gpus or given.per_gpu
    gpus, per_gpu = _shape(given, 1) if asked else (len(found.use.counted), 1)
    answer = _multiplied(found.per_rank, gpus, per_gpu, given)
    return _judged(answer, found, asked=bool(asked), watched=every is not None)


def _judged(answer: Answer, found: shm_watch.Peak, *, asked: bool, watched: bool) -> Answer:
    warnings = []
    if too_full(found.used, found.total):
        share = percent(found.used, found.total)
        warnings.append(f"{share} % of /dev/shm is used, more than {FULL_PERCENT} %")
    many = count_of(answer.processes, "process", "processes")
    if not found.total:  # a tmpfs without a limit
        pass
    elif asked and answer.need_bytes > found.total:
        warnings.append(f"{many} do not fit: {size(answer.need_bytes)} of {size(found.total)}")
    elif asked and too_full(answer.need_bytes, found.total):
        share = percent(answer.need_bytes, found.total)
        warnings.append(f"{many} would use {share} % of /dev/shm, more than {FULL_PERCENT} %")
    now = () if watched else ("this is what they hold now: --watch finds the most",)
    return replace(
        answer,
        here_bytes=found.total,
        measured=found.use,
        peak_used_bytes=found.used if watched else None,
        warnings=tuple(warnings),
        remarks=(*now, *_beside(found.use), *found.use.remarks),
        exit_code=1 if warnings else 0,
    )


def _beside(use: ShmUse) -> Iterator[str]:
    if not use.held_bytes:
        yield "they hold nothing now: measure while they train"
    elif beside := len(use.ranks) - len(use.counted):
        some = count_of(beside, "process holds", "processes hold")
        yield f"{some} nothing of /dev/shm: not counted"


def _with_lines(answer: Answer, launchers: Sequence[str]) -> Answer:
    return replace(answer, launch=spelled(answer.recommended_bytes, launchers))


def _here() -> int | None:
    """The size of this machine's /dev/shm; None: there is none."""
    try:
        return used(PATH)[1]
    except OSError:
        return None


def _json(answer: Answer) -> str:
    return msgspec.json.format(encode(answer), indent=2).decode() + "\n"
