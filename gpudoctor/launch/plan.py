"""All findings of a run merged into what each owner must do: one command, no contradictions."""

from collections.abc import Iterable

from gpudoctor.finding import Owner, Status
from gpudoctor.launch import merge, spell
from gpudoctor.report import Result, Step

ORDER: tuple[Owner, ...] = ("launch", "job", "image", "node", "network", "cluster")


def next_steps(results: Iterable[Result], launcher: str) -> tuple[Step, ...]:
    """What to do about these results, for the launcher that was detected.

    Settings of all findings become one step of the owner `launch` (or `job`, on the bare
    host, where there is no launch line to change); what only root on the node can do
    becomes one step of the owner `node`. Other commands stay with their finding's owner.
    """
    found = [r for r in results if r.status in (Status.FAIL, Status.WARN) and r.ignored is None]
    # What fails comes first, so that the first lines of a long plan are those that matter.
    found.sort(key=lambda result: result.status is not Status.FAIL)
    steps: list[Step] = []
    settings = merge(setting for result in found for setting in result.settings)
    if settings:
        words = spell(settings, launcher)
        if words.lines or words.text:
            owner: Owner = "job" if launcher == "host" else "launch"
            command = "\n".join(words.lines)
            steps.append(Step(owner=owner, launcher=launcher, text=words.text, command=command))
        if words.node_lines or words.node_text:
            steps.append(
                Step(
                    owner="node",
                    launcher=launcher,
                    text=words.node_text,
                    command="\n".join(words.node_lines),
                    needs_root=True,
                )
            )
    for result in found:
        for fix in result.fixes:
            if fix.launcher == "any":
                step = Step(
                    owner=result.owner,
                    launcher="any",
                    text=fix.text,
                    command="\n".join(fix.commands),
                    needs_root=fix.needs_root,
                )
                if step not in steps:
                    steps.append(step)
    return tuple(sorted(steps, key=lambda step: ORDER.index(step.owner)))
