"""Reports made of literal results, with the fixes that checks would have."""

from typing import Any

from gpudoctor import Fix, Status
from gpudoctor.judge import spelled
from gpudoctor.report import Node, Report, Result, Run, Tool, counts, exit_code, verdict


def result(name: str, status: Status, fix: Fix | None = None, **more: Any) -> Result:
    values: dict[str, Any] = {"topic": "a", "title": "A is well", "owner": "launch"}
    said = "reason" if status in (Status.SKIP, Status.ERROR) else "summary"
    own = {"settings": fix.settings, "fixes": spelled(fix)} if fix else {}
    return Result(id=name, status=status, **{**values, said: f"{name} is so", **own, **more})


def report(*nodes: tuple[Result, ...], launcher: str = "docker") -> Report:
    results = tuple(each for node in nodes for each in node)
    status = verdict(results)
    return Report(
        tool=Tool("gpudoctor", "0.1.0"),
        run=Run(
            id="1",
            started="2026-11-20T14:02:11Z",
            seconds=1,
            argv=(),
            profile="train",
            launcher=launcher,
        ),
        status=status,
        exit_code=exit_code(status),
        counts=counts(results),
        nodes=tuple(Node(name=f"n{number}", results=node) for number, node in enumerate(nodes)),
    )
