"""`gpudoctor fix`: the plan of a report, printed and never applied."""

import sys
from typing import Any

import click
from msgspec.structs import replace

from gpudoctor import report as reports
from gpudoctor import run
from gpudoctor.cli import options
from gpudoctor.cli.interrupt import catching
from gpudoctor.cli.output import Progress, say, to_stdout
from gpudoctor.cli.report import read
from gpudoctor.finding import Status
from gpudoctor.launch import LAUNCHERS, handout
from gpudoctor.report import Report

ADMIN = "admin"


@click.command("fix")
@options.option(
    "--for",
    "launcher",
    type=click.Choice([*LAUNCHERS, ADMIN]),
    help="Whose words; default: the launcher that the report saw.",
)
@click.argument("report_file", required=False, metavar="[REPORT.json|-]")
@options.option("--node", metavar="NAME", help="Of a report of several nodes, only this one.")
@options.option("--deadline", type=click.FloatRange(0.1), metavar="S", help="For a check now.")
@options.choosing
@options.looking
def command(
    launcher: str | None,
    report_file: str | None,
    node: str | None,
    deadline: float | None,
    **shared: Any,
) -> None:
    """Print what to change, all findings in one: a command, a patch, lines of a script.

    Nothing is applied. REPORT.json is what `check -f json` wrote; without it: check now.
    `--for admin` prints a shell script for whoever has root on the node.

    Exit codes: 0 the plan is printed, or there is nothing to change; 2 wrong usage; 3 there is
    nothing to change, but not everything could be looked at; 130 and 143 interrupted.
    """
    report = _one_of(_read(report_file) if report_file else _checked(deadline, shared), node)
    if report.redaction.replaced:
        say("put in what the tokens stand for; with `check --redact none -f json` there are none")
    launcher = launcher or report.run.launcher
    if launcher == ADMIN:
        if len(report.nodes) > 1:
            names = ", ".join(each.name for each in report.nodes[:10])
            raise click.UsageError(f"--for admin is for one node: --node NAME, one of {names}")
        text = handout.for_admin(report)
    else:
        text = handout.for_launcher(report, launcher)
    done = to_stdout(text)
    unclear = not handout.found(report) and report.status in (Status.ERROR, Status.SKIP)
    if unclear:
        say("not everything could be looked at: gpudoctor check says why")
    sys.exit(3 if unclear or not done else 0)


def _read(path: str) -> Report:
    report = read(path)
    if any(result.place for result in report.results):
        raise click.UsageError(f"{path}: of lint, whose corrections `lint --diff FILE` prints")
    return report


def _checked(deadline: float | None, shared: dict[str, Any]) -> Report:
    given = options.Given(**shared)
    settings = options.settings_from(given.config_file)
    request = options.request(given, settings, deadline=deadline, strict=False)
    machine = options.machine_of(given, settings)
    with catching() as interrupt, Progress() as progress:
        report = run.examine(request, machine, stopped=interrupt, progress=progress)
    if interrupt():
        say("interrupted: no plan is made from half a check")
        sys.exit(128 + interrupt.signal)
    return report


def _one_of(report: Report, name: str | None) -> Report:
    if name is None:
        return report
    nodes = tuple(node for node in report.nodes if node.name == name)
    if not nodes:
        raise click.UsageError(f"--node {name}: the report has no such node")
    return replace(
        report,
        nodes=nodes,
        status=reports.verdict(tuple(result for node in nodes for result in node.results)),
    )
