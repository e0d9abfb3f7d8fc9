"""`gpudoctor lint`: judge a launch before it runs."""

import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from gpudoctor.cli import options
from gpudoctor.cli.output import Outputs, Reporting, say
from gpudoctor.lint import kinds
from gpudoctor.lint.examine import Judged, can_judge, examine, shown
from gpudoctor.lint.source import LIMIT_BYTES, BadLaunch, Edit, Source, edited


@click.command("lint", cls=Reporting)
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE... | -", type=click.Path(allow_dash=True)
)
@click.option("--diff", is_flag=True, help="Print the corrections instead of the findings.")
@options.choosing
@options.own
@options.reporting
def command(
    files: tuple[str, ...],
    diff: bool,
    format_: str | None,
    output: tuple[str, ...],
    redact: str | None,
    strict: bool,
    quiet: int,
    verbose: int,
    **shared: Any,
) -> None:
    """Judge launches before they run: what will break in them, line by line.

    FILE is a compose file, a manifest of Kubernetes, a Dockerfile, a batch script of Slurm, or a
    shell script with docker, podman, apptainer, srun or torchrun in it; - is stdin. Nothing is run.
    Exit codes are those of check; 2 also for a file that cannot be read as a launch.
    """
    given = options.Given(**shared, root="/", python=None, deep=False)
    settings = options.settings_from(given.config_file)
    # The configured files are those of a machine's report.
    outputs = Outputs(format_ or "text", output, verbose - quiet, redact=redact)
    request = options.request(
        given, settings, deadline=None, strict=strict, launch=True, only_if=can_judge
    )
    sources = [_source(name) for name in files]
    launches = [(source, found) for source in sources for found in _read(source)]
    report, judged = examine(request, launches)
    if diff:
        for source in sources:
            click.echo(_diff(source, [one for one in judged if one.source is source]), nl=False)
        sys.exit(report.exit_code)
    sys.exit(outputs.exit_code(report) if outputs.write(report) else 3)


def _source(name: str) -> Source:
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(LIMIT_BYTES + 1)
        else:
            # Not to wait for somebody to write into a pipe that lies there.
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                raw = file.read(LIMIT_BYTES + 1) or b""
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}") from None
    if len(raw) > LIMIT_BYTES:
        raise click.UsageError(f"{name}: more than {LIMIT_BYTES >> 20} MiB: no launch file")
    if b"\0" in raw:
        line = raw[: raw.index(b"\0")].count(b"\n") + 1
        raise click.UsageError(f"{name}: line {line}: not text")
    try:
        return Source(name, raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise click.UsageError(f"{name}: line {line}: not UTF-8") from None


def _read(source: Source) -> list[Any]:
    try:
        found = kinds.read(source)
    except BadLaunch as error:
        raise click.UsageError(f"{shown(source)}: {error}") from None
    if not found:
        say(f"{shown(source)}: no launch was found in it")
    return found


def _diff(source: Source, judged: Sequence[Judged]) -> str:
    """The corrections as `patch` reads them; a command that came alone is printed whole."""
    if source.name == "-" and len(judged) == 1 and judged[0].corrected:
        alone = source.text[: judged[0].found.start] + source.text[judged[0].found.end :]
        if not alone.strip():
            return f"{judged[0].corrected}\n"
    edits: list[Edit] = []
    for one in judged:
        try:
            edited(source, [*edits, *one.edits])
        except ValueError as error:
            say(f"{one.node.name}: left as it is, it would need {error}")
        else:
            edits += one.edits
    before, after = (t.splitlines(keepends=True) for t in (source.text, edited(source, edits)))
    lines = difflib.unified_diff(before, after, source.name, source.name)
    return "".join(x if x.endswith("\n") else f"{x}\n\\ No newline at end of file\n" for x in lines)
