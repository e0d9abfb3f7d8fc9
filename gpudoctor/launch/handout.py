"""The plan of a report as a file: in a launcher's own language, or as a script for the admin.

All these languages begin a comment with #. What a report says comes from elsewhere: no word of it
may leave its comment.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from gpudoctor.finding import Status
from gpudoctor.launch import spell
from gpudoctor.launch.plan import next_steps
from gpudoctor.launch.settings import Setting
from gpudoctor.report import Report, Result, Step
from gpudoctor.sheet import clean
from gpudoctor.wording import WHERE, WHO, several

WIDTH = 78
HOW = {
    "compose": "With your SERVICE's name it merges: docker compose -f compose.yaml -f THIS_FILE up",
    "kubernetes": "With the name of your CONTAINER it merges into a pod's manifest: "
    "kubectl patch --local --type strategic -f POD.yaml --patch-file THIS_FILE -o yaml",
    "systemd": "Save it as /etc/systemd/system/UNIT.service.d/gpudoctor.conf, then: "
    "systemctl daemon-reload && systemctl restart UNIT",
}
READ = "GPUDOCTOR_READ"  # set by who has read the script
_OF_ADMIN = frozenset({"node", "network", "cluster"})
# What only the reader can fill in or choose, as a remark behind it says, and what ends all.
_BY_HAND = re.compile(
    r"(?<![\w$/{-])(?:USER|UNIT|GPU|RESOURCE)(?![\w}])|\breboot\b|\bshutdown\b|\S  # \w"
)
_SUDO = re.compile(r"(^|[;&|] *)sudo (?=\w)")  # not there on every node, and needless here


def found(report: Report) -> list[Result]:
    """The results for which there is something to do, those that failed first."""
    wanted = [
        result
        for status in (Status.FAIL, Status.WARN)
        for result in report.results
        if result.status is status and result.ignored is None
    ]
    return list({(r.id, r.summary, r.fixes): r for r in wanted}.values())


def for_launcher(report: Report, launcher: str) -> str:
    """What the launch must say; what is for others stands below, as comments."""
    results = found(report)
    lines = [*_head(report, f"plan for {WHERE[launcher]}"), *_comment("It was not applied.")]
    lines += [line for result in results for line in _comment(_said(result), "  ")]
    steps = next_steps(results, launcher)
    own = [step for step in steps if step.launcher == launcher and not step.needs_root]
    for step in own:
        lines += ["", *_comment(step.text)]
        if step.command:
            lines += _comment(HOW.get(launcher, "")) + _lines([step.command])
    others = [step for step in steps if step not in own]
    if others:
        lines += ["", *_comment("This is not all:" if own else "Nothing of it is for the launch:")]
    for step in others:
        lines += ["#", *_comment(f"{_who(step)}: {step.text}".removesuffix(": "))]
        lines += [f"#   {line}" for line in _lines([step.command]) if line]
    if not results:
        lines += _comment("There is nothing to change.")
    return "\n".join(lines) + "\n"


def for_admin(report: Report) -> str:
    """A script of bash with what needs root on the node, or an admin elsewhere."""
    lines = [
        "#!/bin/bash",
        *_head(report, "what the admin of the node can do"),
        *_comment(
            "Nothing of it was applied. Read it, strike out what you do not want, and run it on "
            f"the node as root: {READ}=yes bash THIS_FILE"
        ),
        "set -eu",
        f'[ "${{{READ}:-}}" = yes ] || {{ echo "read this script first" >&2; exit 1; }}',
        '[ "$(id -u)" = 0 ] || { echo "this needs root" >&2; exit 1; }',
        "trap 'echo \"stopped in line $LINENO: nothing below it was done\" >&2' ERR",
    ]
    blocks = list(_blocks(found(report), report.run.launcher))
    for block in blocks:
        lines += ["", *(line for result in block.results for line in _comment(_said(result)))]
        lines += _comment(f"To do: {block.text}", "  ") if block.text else []
        by_hand = False
        for command in _commands(_lines(block.commands)):
            before, by_hand = by_hand, any(_BY_HAND.search(line) for line in command)
            lines += _comment("By hand:", "  ") if by_hand and not before else []
            lines += [f"#   {line}" for line in command] if by_hand else command
    if not blocks:
        lines += ["", *_comment("There is nothing to do here.")]
    return "\n".join(lines) + "\n"


class _Block(Struct):
    """What one or several findings have the admin do."""

    results: list[Result]
    text: str
    commands: Sequence[str]


def _blocks(results: Sequence[Result], launcher: str) -> Iterator[_Block]:
    on_node = [result for result in results if _on_node(result.settings, launcher)]
    if on_node:
        settings = [setting for result in on_node for setting in result.settings]
        yield _Block(on_node, "", spell(settings, launcher).node_lines)
    blocks: dict[tuple[object, ...], _Block] = {}
    for result in results:
        for fix in result.fixes:
            if fix.launcher == "any" and (fix.needs_root or result.owner in _OF_ADMIN):
                commands = [_SUDO.sub(r"\1", line) for line in fix.commands]
                block = blocks.setdefault((fix.text, fix.commands), _Block([], fix.text, commands))
                block.results.append(result)
    yield from blocks.values()


def _on_node(settings: Sequence[Setting], launcher: str) -> bool:
    return bool(settings and spell(settings, launcher).node_lines)


def _head(report: Report, what: str) -> list[str]:
    names = several([node.name for node in report.nodes])
    return _comment(
        f"{report.tool.name} {report.tool.version}: {what}, made from the report of "
        f"{report.run.started} on {names or 'no node'}."
    )


def _said(result: Result) -> str:
    return f"{result.id} ({result.status.value}): {result.summary}"


def _who(step: Step) -> str:
    return f"{WHO[step.owner]}{', as root on the node' if step.needs_root else ''}"


def _comment(text: str, indent: str = "") -> list[str]:
    start = f"# {indent}"
    return textwrap.wrap(
        clean(text),
        WIDTH,
        initial_indent=start,
        subsequent_indent=f"{start}  " if indent else start,
        break_on_hyphens=False,
    )


def _lines(commands: Iterable[str]) -> list[str]:
    return [clean(line) for command in commands for line in command.split("\n")]


def _commands(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines that belong together, since they end in a backslash."""
    command: list[str] = []
    for line in lines:
        command.append(line)
        if not line.endswith("\\"):
            yield command
            command = []
    if command:
        yield command
