"""`gpudoctor collect`: facts only, to be judged elsewhere with `check --facts`."""

import contextlib
import os
import sys
from typing import Any

import click

from gpudoctor import config, run, snapshot
from gpudoctor.cli import options
from gpudoctor.cli.interrupt import catching
from gpudoctor.cli.output import Progress, say, write_file
from gpudoctor.identities import identities
from gpudoctor.sharing import Redactor


@click.command("collect")
@options.option("--profile", metavar="NAME", help="Also what it demands: packages, variables.")
@options.job
@options.looking
@options.option(
    "--deadline", type=click.FloatRange(0.1), metavar="S", help="For all; default 30, deep 600."
)
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to; default stdout.")
@options.redaction
def command(
    deadline: float | None, output: str, redact: str | None, profile: str | None, **shared: Any
) -> None:
    """Write all facts of this machine as JSON.

    The file can be judged later, elsewhere, by newer rules: `gpudoctor check --facts FILE`.
    What lies between nodes is looked at if the job spans some: `--nnodes 2 --master-addr HOST`.
    """
    place = options.Place(**shared)
    catalogue, settings = options.catalogue_and_config(place.config_file, place.checks_dirs)
    request = run.Request(
        checks=(),
        catalogue=catalogue,
        config=settings,
        deadline=options.deadline_of(deadline, settings, deep=place.deep),
        deep=place.deep,
    )
    try:
        wanted = config.profile(profile or settings.profile)
    except config.BadConfig as error:
        raise click.UsageError(str(error)) from None
    machine = options.machine(place, settings, wanted)
    with catching() as interrupt:
        with Progress() as progress:
            facts, _ = run.observe(
                request, machine, everything=True, stopped=interrupt, progress=progress
            )
        names = identities(os.environ, os.uname().nodename)
        facts = Redactor(redact or "internal", names).snapshot(facts)
        text = snapshot.dump([facts]).decode()
    try:
        if output == "-":
            with contextlib.suppress(BrokenPipeError):
                click.echo(text)
        else:
            write_file(output, text + "\n")
            say(f"wrote {output}")
    except OSError as error:
        raise click.UsageError(
            f"{output}: {error.strerror or os.strerror(error.errno or 0)}"
        ) from None
    if interrupt():
        say("interrupted: what was not seen by then is marked so")
        sys.exit(128 + interrupt.signal)
