"""`gpudoctor check --cluster`: the same on every node; the one of rank 0 prints."""

import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import click
from msgspec import Struct
from msgspec.structs import replace

from gpudoctor import config, run
from gpudoctor.cli import options
from gpudoctor.cli.interrupt import Interrupt, catching
from gpudoctor.cli.output import Outputs, Progress, say
from gpudoctor.cluster import verdict
from gpudoctor.cluster.board import Alone, Board, Unreachable
from gpudoctor.cluster.board.messages import Verdict
from gpudoctor.cluster.board.seat import Interrupted, JudgeLost
from gpudoctor.cluster.board.share import Share
from gpudoctor.cluster.board.store import IMPORT_SECONDS, Store
from gpudoctor.cluster.follow import Silent, attend
from gpudoctor.cluster.lead import Lead
from gpudoctor.cluster.part import WAIT, Part, Plan
from gpudoctor.cluster.place import NoPlace, Place, excludes, place
from gpudoctor.collect import collect
from gpudoctor.facts.job_python import JobPython
from gpudoctor.probes import Machine
from gpudoctor.probes.job_python import job_python
from gpudoctor.rules import job_variables
from gpudoctor.snapshot import Snapshot


class Meeting(Struct, frozen=True):
    """The values of the options in `clustering`."""

    share: str | None
    wait: float | None
    port: int | None
    code: str | None


def check(
    given: options.Given,
    settings: config.Config,
    ids: tuple[str, ...],
    meeting: Meeting,
    outputs: Outputs,
    deadline: float | None,
    *,
    strict: bool,
    dry_run: bool,
) -> NoReturn:
    """This node's part; only that of rank 0 prints a report."""
    several: dict[str, int | str] = {"cluster": 1}
    if meeting.code:
        several["code"] = os.path.abspath(meeting.code)
    machine = options.machine_of(given, settings, several)
    job = job_variables.read(machine.env, machine.told, machine.shape)
    try:
        here = place(job if job.claims else None, machine.env, meeting.port)
    except NoPlace as error:
        raise click.UsageError(str(error)) from None
    if not (meeting.share or here.host or here.nodes == 1):
        raise click.UsageError(
            "nothing says where the nodes meet: give --share DIR, a directory that all of them "
            "see, or --master-addr HOST, the one of rank 0"
        )
    request = options.request(given, settings, ids, deadline=deadline, strict=strict, cluster=True)
    if dry_run:
        met, others = _contacts(here, meeting), run.contacts(request, machine)
        for line in [*met, *(others if others != run.NOBODY or not met else [])]:
            click.echo(line)
        sys.exit(0)
    if here.leads is False:
        sys.exit(0)
    reduces = any(check.topic == "bandwidth" for check in request.checks)
    plan = Plan(
        wait=meeting.wait or WAIT,
        look_seconds=request.deadline,
        master_port=given.master_port or 0,
        reduces=reduces and (request.deep or request.named),
        kinds=tuple(request.catalogue.kinds),
    )
    with catching() as interrupt:
        taking = _Taking(here, plan, request, machine, meeting, outputs, interrupt)
        taking.part(excludes(here, job, machine.env))


def _contacts(here: Place, meeting: Meeting) -> list[str]:
    if here.nodes == 1:
        return []
    where = f"in {meeting.share}"
    if not meeting.share:
        where = f"at {here.host}, TCP port {here.port} (torch's TCPStore)"
    listens = " and opens it" if here.judges else ""
    return [
        f"cluster: meets the other nodes {where}{listens}",
        "cluster: connects to other nodes, pair by pair, on ports of their choice, and listens",
    ]


class _Taking:
    """A part in a run, and what this process prints and exits with."""

    def __init__(
        self,
        place: Place,
        plan: Plan,
        request: run.Request,
        machine: Machine,
        meeting: Meeting,
        outputs: Outputs,
        interrupt: Interrupt,
    ) -> None:
        self.place, self.plan, self.request = place, plan, request
        self.machine, self.meeting = machine, meeting
        self.outputs, self.interrupt = outputs, interrupt
        self.started, self.began = run.now(), time.monotonic()

    def part(self, launcher: str) -> NoReturn:
        """Take it."""
        board: Board | None = None
        part: Part | None = None
        try:
            board = self._board()
            part = Part(
                place=self.place,
                board=board,
                plan=self.plan,
                machine=self.machine,
                look=self._look,
                stopped=self.interrupt,
                say=say,
                began=self.began,
            )
            if self.place.judges:
                self._lead(part, launcher)
            sys.exit(attend(part).exit_code)
        except Silent:
            sys.exit(0)
        except Interrupted:
            sys.exit(128 + self.interrupt.signal)
        except (JudgeLost, Unreachable) as error:
            lost = isinstance(error, JudgeLost)
            why = f"the node of rank 0 is not heard: {error}" if lost else str(error)
            self._alone(why, part.snapshot if part else None)
        finally:
            if board is not None:
                board.close()

    def _lead(self, part: Part, launcher: str) -> NoReturn:
        self._open(part.board)
        lead = Lead(part)
        try:
            lead.gather()
        except Interrupted:
            lead.end()
        complete = not self.interrupt()
        gathered = lead.gathered
        report = verdict.report(
            self.request,
            gathered.snapshots,
            gathered.facts,
            missing=gathered.missing,
            launcher=launcher,
            started=self.started,
            began=self.began,
            complete=complete,
            alive=lead.seat.alive if complete else lambda: None,
        )
        code = self.outputs.exit_code(report)
        if complete:
            lead.tell(Verdict(exit_code=code, status=report.status.value))
        else:
            say("interrupted: what was gathered until then follows")
            code = 128 + self.interrupt.signal
        written = self.outputs.write(report)
        if complete:
            lead.linger()
        sys.exit(code if written else 3)

    def _look(self, progress: Callable[[list[str]], None]) -> Snapshot:
        # Who asks for checks over the cluster asks for nothing that takes long on each node.
        several = all(check.topic in verdict.SEVERAL for check in self.request.checks)
        asked = replace(self.request, named=self.request.named and not several)
        stopped = self.interrupt
        return run.observe(
            asked, self.machine, everything=True, stopped=stopped, progress=progress
        )[0]

    def _board(self) -> Board:
        here = self.place
        if here.nodes == 1:
            return Alone()
        if self.meeting.share:
            return Share(self.meeting.share, here.key, opens=here.judges)
        found = collect([job_python], self.machine, deadline=job_python.timeout)
        python = found.facts["job_python"]
        if not isinstance(python, JobPython):
            raise Unreachable(f"{python.absent}; or give --share DIR")
        return Store(
            python.path,
            here.host,
            here.port,
            opens=here.judges,
            seconds=self.plan.wait,
            env=self.machine.env,
        )

    def _open(self, board: Board) -> None:
        until = time.monotonic() + max(self.plan.wait, IMPORT_SECONDS)
        while not board.find(0.25):
            if self.interrupt():
                raise Interrupted
            if time.monotonic() >= until:
                raise Unreachable(f"{board.where} could not be opened in time")

    def _alone(self, why: str, snapshot: Snapshot | None) -> NoReturn:
        """This node's own report, where there is no verdict over all."""
        say(f"{why}; this is the report of this node alone")
        if snapshot is None:
            with Progress() as progress:
                snapshot = self._look(progress)
        if not self.place.judges:
            self.outputs.keep_files()
        report = verdict.report_alone(self.request, snapshot, why, self.started, self.began)
        code = self.outputs.exit_code(report)
        sys.exit(code if self.outputs.write(report) else 3)
