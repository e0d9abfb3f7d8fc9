"""Launches judged: predicted facts, the same checks, and each result where it belongs."""

import difflib
import re
from collections.abc import Mapping, Sequence
from shlex import quote

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor import run
from gpudoctor.check import Check
from gpudoctor.facts.demands import Demands
from gpudoctor.finding import Status
from gpudoctor.launch import merge
from gpudoctor.launch.plan import next_steps
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    Drop,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Group,
    HostNetwork,
    IpcHost,
    Memlock,
    Memory,
    Mount,
    NoFile,
    NProc,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
    Stack,
)
from gpudoctor.lint.predict import NOT_KNOWN, PARTIAL, PREDICTED, predict, shareable
from gpudoctor.lint.source import Edit, Found, Source, edited
from gpudoctor.redact import CUT
from gpudoctor.report import Node, Place, Report, Result, SpelledFix, Step

# Where the file says what a setting is about.
_FIELDS: Mapping[type[Setting], str] = {
    ShmSize: "shm_bytes",
    IpcHost: "ipc",
    Memlock: "ulimits.memlock",
    Stack: "ulimits.stack",
    NoFile: "ulimits.nofile",
    NProc: "ulimits.nproc",
    Pids: "pids",
    Memory: "memory_bytes",
    Cpus: "cpus",
    GpuDevices: "gpus",
    RdmaDevices: "devices",
    HostNetwork: "network",
    Capability: "capabilities",
    Group: "groups",
    Mount: "mounts",
}
_NEEDS_GPUS = ("env-rocm",)  # says nothing without having seen them
_CONTINUED = re.compile(r"\\[ \t\r]*(#[^\n]*)?\n")


class Judged(Struct, frozen=True):
    """A launch, and what was found wrong with it."""

    source: Source
    found: Found
    node: Node

    @property
    def edits(self) -> list[Edit]:
        """How its file must change."""
        return self.edits_for(*filter(_counts, self.node.results))

    def edits_for(self, *results: Result) -> list[Edit]:
        """How its file must change for some of what was found."""
        settings = merge(setting for result in results for setting in result.settings)
        edits = self.found.edits(settings) if settings else []
        try:
            edited(self.source, edits)
        except ValueError:
            return []  # no change is better than a wrong one
        return edits

    @property
    def corrected(self) -> str:
        """The launch alone as it should be; empty if it cannot stand alone."""
        start, end = self.found.start, self.found.end
        if not end:
            return ""
        edits = [Edit(e.start - start, e.end - start, e.text) for e in self.edits]
        return edited(Source(self.source.name, self.source.text[start:end]), edits)


def can_judge(check: Check) -> bool:
    """Whether a check needs no fact that only a running launch has; demands are told."""
    if check.id in _NEEDS_GPUS:
        return False
    needs = {need.kind for need in check.needs.values() if not need.optional}
    return needs <= {*PREDICTED, Demands} and needs != {Demands}


def examine(
    request: run.Request, launches: Sequence[tuple[Source, Found]]
) -> tuple[Report, list[Judged]]:
    """The report on launches, one node for each, and what is to be changed."""
    snapshots = [predict(found.launch, _name(source, found)) for source, found in launches]
    request = replace(request, demands=_of_launches(request.demands))
    report = run.judge_again(request, snapshots)
    partial = {
        check.id
        for check in request.checks
        for need in check.needs.values()
        if need.kind in PARTIAL and not need.optional
    }
    judged = []
    for (source, found), node in zip(launches, report.nodes, strict=True):
        results = [_known(result, partial) for result in node.results]
        view = tuple(filter(None, (found.launch.form, node.facts["launch"].image)))
        judged.append(Judged(source, found, replace(node, view=view, results=tuple(results))))
    steps = [step for launch in judged for step in _steps(launch)]
    return run.concluded(report, [_placed(launch) for launch in judged], steps), judged


def shown(source: Source) -> str:
    """The source's name for people."""
    return "stdin" if source.name == "-" else source.name


def _name(source: Source, found: Found) -> str:
    launch = found.launch
    return f"{shown(source)}:{found.line} {launch.form} {launch.name}".rstrip()


def _counts(result: Result) -> bool:
    return result.status in (Status.FAIL, Status.WARN) and result.ignored is None


def _of_launches(demands: Demands | None) -> Demands | None:
    """What can be asked of a launch: a variable that it lacks may be the image's."""
    if demands is None:
        return None
    variables = [demand for demand in demands.variables if demand.verdict != "required"]
    return replace(demands, variables=tuple(variables)) if variables else None


def _known(result: Result, partial: set[str]) -> Result:
    """A pass counts only where the file says all that there is to be said."""
    if result.status is not Status.PASS or result.id not in partial:
        return result
    reason = f"nothing is wrong in the file; what the image or the caller adds is {NOT_KNOWN}"
    return replace(result, status=Status.SKIP, summary="", evidence=(), reason=reason)


def _placed(judged: Judged) -> Node:
    """The node with every result at its line, and with the fixes that this file needs."""
    lines, launcher = judged.found.launch.lines, judged.found.launch.launcher
    results = []
    for result in judged.node.results:
        said = [lines[f] for s in result.settings for f in fields_of(s) if f in lines]
        said = said or [line for field, line in lines.items() if _is_named(field, result)]
        place = Place(shown(judged.source), said[0] if said else judged.found.line)
        own = [fix for fix in result.fixes if fix.launcher in (launcher, "any")]
        if edits := judged.edits_for(result):
            own = [fix for fix in own if fix.launcher == "any" or fix.needs_root]
            own.insert(0, _change(judged, edits))
        fixes = tuple(replace(fix, launcher="any") for fix in own)
        results.append(replace(result, place=place, fixes=fixes))
    return replace(judged.node, results=tuple(results))


def _is_named(field: str, result: Result) -> bool:
    """Whether a finding, which changes no setting, speaks of this variable or refused word."""
    group, _, name = field.partition(".")
    if group == "refused":
        return any(line.startswith(f"{name}: ") for line in result.evidence)
    return group == "environment" and name in re.findall(r"\w+", result.summary)


def _change(judged: Judged, edits: list[Edit]) -> SpelledFix:
    """What one finding changes: words of a command, or lines as a diff has them."""
    source = judged.source
    if judged.found.end:
        pairs = [(_line(source.text[e.start : e.end]), _line(e.text)) for e in edits]
        moved = {old for old, new in pairs if old and not new and ("", old) in pairs}
        words = [f"put {text} in front of the image" for text in sorted(moved)]
        words += [_words(old, new) for old, new in pairs if (old or new) not in moved]
        text = f"{'; '.join(dict.fromkeys(words))}."
        return SpelledFix(launcher="any", text=shareable(text[0].upper() + text[1:]))
    before, after = source.text.splitlines(), edited(source, edits).splitlines()
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    changed = tuple(shareable(line) for line in lines if not line.startswith("@@"))
    return SpelledFix(launcher="any", text="Change the file:", commands=changed)


def _line(text: str) -> str:
    return " ".join(_CONTINUED.sub(" ", text).split())


def _words(before: str, after: str) -> str:
    if (not after and before.startswith("#")) or not (before or after):
        return "take out what stands behind the backslashes"
    if not after:
        return f"take out {before}"
    return f"write {after} for {before}" if before else f"add {after}"


def fields_of(setting: Setting) -> list[str]:
    """The names in Launch.lines under which a file says what a setting is about."""
    match setting:
        case EnvSet(name=name) | EnvUnset(name=name):
            return [f"environment.{name}"]
        case Drop(field=field, value=value):
            return [f"{field}.{value}", field]
    return [_FIELDS[type(setting)]]


def _steps(judged: Judged) -> list[Step]:
    """The plan for one launch, its own text corrected in place of a general snippet."""
    launcher = judged.found.launch.launcher
    where = f"{shown(judged.source)}, line {judged.found.line}"
    steps = []
    for step in next_steps(judged.node.results, launcher):
        if step.launcher == launcher and not step.needs_root and judged.edits:
            text, command = f"{where}, corrected:", shareable(judged.corrected)
            if CUT in command:
                text = f"{where}, corrected (--diff prints what {CUT} hides):"
            if not command:
                path = quote(judged.source.name)
                text = f"{where}: change it so:"
                command = f"gpudoctor lint --diff {path} | patch {path}"
            step = replace(step, text=text, command=command)
        steps.append(step)
    return steps
