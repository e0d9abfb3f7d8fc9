"""Options that several commands share, and what they amount to."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from msgspec import Struct

from gpudoctor import config, registry, run
from gpudoctor.check import Check
from gpudoctor.facts.demands import Demands
from gpudoctor.facts.expectations import STATED
from gpudoctor.facts.workload import METHODS, SHARDINGS, Workload
from gpudoctor.probes import Machine
from gpudoctor.redact import cut_words
from gpudoctor.report import LEVELS
from gpudoctor.rules.job_variables import unsaid
from gpudoctor.units import parse_count, parse_size

F = TypeVar("F", bound=Callable[..., Any])


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option that also listens to GPUDOCTOR_<ITS LONG NAME>."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    settings.setdefault("envvar", "GPUDOCTOR_" + long[2:].upper().replace("-", "_"))
    settings.setdefault("show_default", False)
    return click.option(*names, **settings)


def _compose(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _expectations(given: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in given:
        key, _, number = text.partition("=")
        if key not in STATED or not number.isdigit():
            known = " or ".join(f"{name}=N" for name in STATED)
            raise click.BadParameter(f"{text!r} is not {known}")
        found[key] = int(number)
    return found


def _patterns(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(pattern for text in given for pattern in text.split(",") if pattern)


def _read_by(
    parse: Callable[[str], int],
) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    def read(context: click.Context, parameter: click.Parameter, given: str | None) -> int | None:
        try:
            return None if given is None else parse(given)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


own = _compose(
    option("--checks", "checks_dirs", multiple=True, metavar="DIR", help="Checks of your own."),
    option("--config", "config_file", metavar="FILE", help="Instead of the gpudoctor.toml found."),
)
"""What a site has of its own."""

looking = _compose(
    option("--root", default="/", metavar="DIR", help="The machine's tree, mounted elsewhere."),
    option("--python", metavar="PATH", help="The Python that will train."),
    option("--deep", is_flag=True, help="Also what loads the machine: needs it idle."),
    own,
)
"""Where and how to look."""

job = _compose(
    option("--nproc-per-node", type=click.IntRange(1), metavar="N", help="Ranks on this node."),
    option("--nnodes", type=click.IntRange(1), metavar="N", help="Nodes of the job."),
    option("--node-rank", type=click.IntRange(0), metavar="N", help="Which node this is."),
    option("--master-addr", metavar="HOST", help="Node 0; it is connected to."),
    option("--master-port", type=click.IntRange(1, 65535), metavar="PORT", help="Default 29500."),
    option("--checkpoint-dir", metavar="DIR", help="Where the job will keep its checkpoints."),
    option("--workers", type=click.IntRange(0), metavar="N", help="DataLoader workers of a rank."),
    option("--prefetch", type=click.IntRange(1), metavar="N", help="Batches a worker is ahead."),
    option(
        "--batch-bytes",
        callback=_read_by(parse_size),
        metavar="SIZE",
        help="One collated batch: 37MiB.",
    ),
    option(
        "--model-params",
        callback=_read_by(parse_count),
        metavar="N",
        help="Of the model: 10e9, 7B.",
    ),
    option("--method", type=click.Choice(METHODS), help="What is done with the model."),
    option("--micro-batch", type=click.IntRange(1), metavar="N", help="Samples of one pass."),
    option("--sequence-length", type=click.IntRange(1), metavar="N", help="Tokens of a sample."),
    option("--sharding", type=click.Choice(SHARDINGS), help="Over the ranks; zero3 is FSDP's."),
    option("--model-parallel", type=click.IntRange(1), metavar="N", help="Tensor x pipeline."),
    option("--recompute", is_flag=True, flag_value=1, default=None, help="Gradient checkpointing."),
    option("--offload", is_flag=True, flag_value=1, default=None, help="Optimizer on the host."),
    option("--weight-bits", type=click.IntRange(1, 32), metavar="N", help="4 if quantized so."),
    option("--accumulation", type=click.IntRange(1), metavar="N", help="Passes of one step."),
    option("--data", multiple=True, metavar="PATH", help="A file that the job will read."),
    option("--image-tar", metavar="FILE", help="An image that will be loaded from a file."),
    option("--image-tag", metavar="NAME:TAG", help="What that file must hold."),
)
"""What will run here."""

choosing = _compose(
    option(
        "--only",
        multiple=True,
        metavar="GLOB,...",
        callback=lambda context, parameter, given: _patterns(given),
        help="Only these checks.",
    ),
    option(
        "--skip",
        multiple=True,
        metavar="GLOB,...",
        callback=lambda context, parameter, given: _patterns(given),
        help="Not these checks.",
    ),
    option("--profile", metavar="NAME", help="What the job needs; `list --profiles`."),
    job,
    option(
        "--expect",
        multiple=True,
        metavar="KEY=N",
        callback=lambda context, parameter, given: _expectations(given),
        help="What must be here: gpus=8; gpus=0 on a machine without.",
    ),
)
"""What to judge, and for which job."""

redaction = option(
    "--redact",
    type=click.Choice(LEVELS),
    help="What leaves: internal (default, but none for text on stdout) hides users, public hosts.",
)
"""Who may read it."""
clustering = _compose(
    option("--cluster", is_flag=True, help="All nodes of the job together; run it on each."),
    option("--share", metavar="DIR", help="They meet in DIR, not by torch's TCPStore."),
    option("--wait", type=click.FloatRange(0.1), metavar="S", help="For all nodes; default 60."),
    option(
        "--meet-port",
        type=click.IntRange(1, 65535),
        metavar="PORT",
        help="They meet there; default MASTER_PORT + 1.",
    ),
    option("--code", metavar="DIR", help="The job's code, to be the same on all nodes."),
)
"""How several nodes are judged together."""


reporting = _compose(
    option("-f", "--format", "format_", metavar="FORMAT", help="text (default), json, html, ..."),
    option("-o", "--output", multiple=True, metavar="FORMAT=PATH", help="Also write a file."),
    redaction,
    option("--strict", is_flag=True, help="Warnings make exit code 1."),
    option("-q", "--quiet", count=True, help="Findings only; twice: nothing."),
    option("-v", "--verbose", count=True, help="Also what passed."),
)
"""What is said, and where."""


def complete_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Ids and topics of the built-in checks, for the shell."""
    checks = registry.builtin_checks()
    words = dict.fromkeys([*(check.topic for check in checks), *(check.id for check in checks)])
    return [word for word in words if word.startswith(incomplete)]


def settings_from(config_file: str | None) -> config.Config:
    """The configuration.

    Raises:
        click.UsageError: it cannot be used.
    """
    try:
        return config.load(config_file)
    except config.BadConfig as error:
        raise click.UsageError(str(error)) from None


def catalogue_and_config(
    config_file: str | None, checks_dirs: tuple[str, ...]
) -> tuple[registry.Catalogue, config.Config]:
    """All checks, plug-ins included, and the configuration.

    Raises:
        click.UsageError: the configuration cannot be used.
    """
    settings = settings_from(config_file)
    return registry.load((*settings.checks, *checks_dirs), launch=True, cluster=True), settings


class Place(Struct, frozen=True, kw_only=True):
    """The values of the options in `job` and `looking`."""

    nproc_per_node: int | None
    nnodes: int | None
    node_rank: int | None
    master_addr: str | None
    master_port: int | None
    checkpoint_dir: str | None
    workers: int | None
    prefetch: int | None
    batch_bytes: int | None
    model_params: int | None
    method: str | None
    micro_batch: int | None
    sequence_length: int | None
    sharding: str | None
    model_parallel: int | None
    recompute: int | None
    offload: int | None
    weight_bits: int | None
    accumulation: int | None
    data: tuple[str, ...]
    image_tar: str | None
    image_tag: str | None
    root: str
    python: str | None
    deep: bool
    checks_dirs: tuple[str, ...]
    config_file: str | None


class Given(Place, frozen=True, kw_only=True):
    """Those, and the values of the others in `choosing`."""

    only: tuple[str, ...]
    skip: tuple[str, ...]
    profile: str | None
    expect: Mapping[str, int]


def request(
    given: Given,
    settings: config.Config,
    ids: tuple[str, ...] = (),
    *,
    deadline: float | None,
    strict: bool,
    launch: bool = False,
    cluster: bool = False,
    only_if: Callable[[Check], bool] = lambda check: True,
) -> run.Request:
    """The request that options and configuration amount to.

    Args:
        launch: launch files are judged, not a machine.
        cluster: several nodes are judged together.
        only_if: which of the checks that are meant can be run.

    Raises:
        click.UsageError: an unknown check or profile, or an unusable configuration.
    """
    own = (*settings.checks, *given.checks_dirs)
    catalogue = registry.load(own, launch=launch, cluster=cluster)
    try:
        wanted = config.profile(given.profile or settings.profile)
        checks = run.select(
            catalogue,
            ids,
            given.only or settings.only or wanted.only,
            (*wanted.skip, *settings.skip, *given.skip),
        )
    except (run.NoSuchCheck, config.BadConfig) as error:
        raise click.UsageError(str(error)) from None
    checks = tuple(filter(only_if, checks))
    if not checks and not catalogue.broken:
        raise click.UsageError("no check is left by --only and --skip")
    of_rendezvous = ("node_rank", "master_addr", "master_port")
    deep = given.deep or (not cluster and _loads(ids, catalogue))
    return run.Request(
        checks=checks,
        catalogue=catalogue,
        config=settings,
        profile=wanted,
        workload={n: value for n, value in _told(given).items() if n not in of_rendezvous},
        demands=_demands(given, wanted),
        expect=given.expect,
        deadline=deadline_of(deadline, settings, deep=deep),
        deep=deep,
        named=bool(ids),
        strict=strict or settings.strict,
        argv=tuple(cut_words(sys.argv[1:])),
    )


def is_plain(given: Given, settings: config.Config) -> bool:
    """Whether all checks are meant, so that looking can begin before they are loaded."""
    chosen = (given.only, given.skip, given.profile, given.deep)
    return not any((*chosen, settings.only, settings.skip, settings.profile))


def deadline_of(deadline: float | None, settings: config.Config, *, deep: bool) -> float:
    """Seconds for the whole run: as given, as configured, or as usual."""
    usual = run.DEEP_DEADLINE if deep else run.DEADLINE
    return deadline or settings.deadline or usual


def _loads(ids: tuple[str, ...], catalogue: registry.Catalogue) -> bool:
    """Whether a check is named by its very id that can say nothing without loading the machine."""
    named = [check for word in ids if (check := catalogue.find(word))]
    kinds = [need.kind for check in named for need in check.needs.values() if not need.optional]
    return any(probe.deep for probe in catalogue.probes_for(kinds))


def _told(place: Place) -> dict[str, int | str]:
    """What the options say of the job."""
    told = {
        "local_ranks": place.nproc_per_node,
        "nodes": place.nnodes,
        "node_rank": place.node_rank,
        "master_addr": place.master_addr,
        "master_port": place.master_port,
        **{name: getattr(place, name) for name in _OF_WORKLOAD},
    }
    return {name: value for name, value in told.items() if value is not None}


# Options that are named like the fields of Workload.
_OF_WORKLOAD = [name for name in Workload.__struct_fields__ if name in Place.__struct_fields__]


def _demands(place: Place, profile: config.Profile) -> Demands | None:
    return profile.demands(place.data, place.image_tar or "", place.image_tag or "")


def machine_of(
    given: Given, settings: config.Config, more: Mapping[str, int | str] | None = None
) -> Machine:
    """The machine to look at, and what options, configuration and profile say of the job.

    Args:
        more: is said by options that only one command has.

    Raises:
        click.UsageError: the root is not a directory, or there is no such profile.
    """
    try:
        wanted = config.profile(given.profile or settings.profile)
    except config.BadConfig as error:
        raise click.UsageError(str(error)) from None
    return machine(given, settings, wanted, more)


def machine(
    place: Place,
    settings: config.Config,
    profile: config.Profile,
    more: Mapping[str, int | str] | None = None,
) -> Machine:
    """The machine to look at.

    Args:
        profile: what it says of the job counts unless options or configuration say otherwise.

    Raises:
        click.UsageError: the root is not a directory.
    """
    if not os.path.isdir(place.root):
        raise click.UsageError(f"--root {place.root}: not a directory")
    try:
        cwd: str | None = os.getcwd()
    except OSError:
        cwd = None
    told = {**(more or {}), **settings.workload, **_told(place)}
    shape = unsaid(profile.workload, os.environ, told)
    checkpoint_dir = told.get("checkpoint_dir", shape.get("checkpoint_dir"))
    return Machine(
        os.path.abspath(place.root),
        cwd=cwd,
        python=place.python or settings.python,
        checkpoint_dir=str(checkpoint_dir) if checkpoint_dir else None,
        told=told,
        demands=_demands(place, profile),
        shape=shape,
    )
