"""Checks x snapshots -> results: pure, and nothing that a check does can stop it."""

import fnmatch
import time
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from gpudoctor.check import Check
from gpudoctor.config import Ignore
from gpudoctor.finding import Finding, Fix, Status, skip, unknown
from gpudoctor.launch import LAUNCHERS, spell
from gpudoctor.registry import Broken
from gpudoctor.report import Ignored, Result, SpelledFix
from gpudoctor.snapshot import Absent, Snapshot, name_of


def judge(
    checks: Iterable[Check],
    snapshot: Snapshot,
    *,
    broken: Sequence[Broken] = (),
    ignores: Sequence[Ignore] = (),
) -> tuple[Result, ...]:
    """What the checks find on one node.

    Args:
        checks: in the order in which the results are wanted.
        snapshot: the node's facts.
        broken: plug-ins that did not load; each is an `error` result of its own.
        ignores: results that shall not count. Expired ones must be left out.
    """
    results = [_result(check, snapshot) for check in checks]
    results += [_broken(plugin) for plugin in broken]
    return tuple(_ignored(result, snapshot.name, ignores) for result in results)


def judge_one(check: Check, snapshot: Snapshot) -> Finding:
    """What one check finds: its own words, or why it could not say any."""
    facts: dict[str, Any] = {}
    for parameter, need in check.needs.items():
        fact = snapshot.get(need.kind)
        if need.reason or not isinstance(fact, Absent):
            facts[parameter] = fact
        elif need.optional:
            facts[parameter] = None
        elif fact.broken:
            return unknown(f"{name_of(need.kind)}: {fact.absent}")
        else:
            return skip(fact.absent)
    try:
        finding = check.judge(**facts)
    except Exception as error:  # one broken check must not hide what the others found
        return unknown(f"the check crashed: {type(error).__name__}: {error}")
    if not isinstance(finding, Finding):
        return unknown(f"the check returned {type(finding).__name__}, not a finding")
    if finding.status in (Status.WARN, Status.FAIL) and not isinstance(finding.fix, Fix):
        return unknown(f"the check found {finding.status.value} but has no fix")
    if not all(isinstance(text, str) for text in (finding.summary, *finding.evidence)):
        return unknown("the check's summary or evidence is not text")
    return finding


_TROUBLE = (Status.WARN, Status.FAIL, Status.ERROR)  # of all else nothing breaks later


def _result(check: Check, snapshot: Snapshot) -> Result:
    started = time.monotonic()
    finding = judge_one(check, snapshot)
    return Result(
        id=check.id,
        topic=check.topic,
        title=check.title,
        status=finding.status,
        owner=finding.owner or check.owner,
        summary=finding.summary,
        reason=finding.reason,
        why=check.why if finding.status in _TROUBLE else "",
        evidence=finding.evidence,
        ladder=finding.ladder,
        nodes=finding.nodes,
        basis=finding.basis,
        settings=finding.fix.settings if finding.fix else (),  # type: ignore[arg-type]
        fixes=spelled(finding.fix) if finding.fix else (),
        symptoms=check.symptoms,
        seconds=round(time.monotonic() - started, 6),
    )


def spelled(fix: Fix) -> tuple[SpelledFix, ...]:
    """A fix for every launcher, and its own commands for any."""
    fixes = []
    if fix.commands or (fix.text and not fix.settings):
        fixes.append(
            SpelledFix(
                launcher="any", text=fix.text, commands=fix.commands, needs_root=fix.needs_root
            )
        )
    if fix.settings:
        for launcher in LAUNCHERS:
            words = spell(fix.settings, launcher)
            if words.lines or words.text:
                text = words.text or fix.text
                fixes.append(SpelledFix(launcher=launcher, text=text, commands=words.lines))
            if words.node_lines or words.node_text:
                fixes.append(
                    SpelledFix(
                        launcher=launcher,
                        text=words.node_text,
                        commands=words.node_lines,
                        needs_root=True,
                    )
                )
    return tuple(fixes)


def _broken(plugin: Broken) -> Result:
    return Result(
        id=f"plugin-{plugin.name}",
        topic="plugin",
        title=f"Plug-in {plugin.name} loads",
        status=Status.ERROR,
        owner="job",
        reason=plugin.error,
        why="None of its checks could run, so nothing is known of what they look at.",
    )


def _ignored(result: Result, node: str, ignores: Sequence[Ignore]) -> Result:
    if result.status in (Status.PASS, Status.SKIP):
        return result
    for ignore in ignores:
        if fnmatch.fnmatchcase(result.id, ignore.check) and fnmatch.fnmatchcase(node, ignore.match):
            expires = ignore.expires.isoformat() if ignore.expires else ""
            return replace(result, ignored=Ignored(ignore.reason, expires))
    return result
