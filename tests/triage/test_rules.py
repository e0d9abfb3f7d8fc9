"""What holds for every rule, also the next one: its example is its test."""

import re
import string
from collections.abc import Iterable
from typing import Any

import pytest

from gpudoctor import registry
from gpudoctor.launch import LAUNCHERS, spell
from gpudoctor.triage.needles import parser
from gpudoctor.triage.rule import builtin

RULES = builtin()
CHECKS = {check.id for check in registry.builtin_checks()}
# What is slow ends no job and says nothing in its log.
SILENT = {
    *("cluster-throughput", "gpu-copy", "gpu-memory-speed", "gpu-persistence", "resource-exchange"),
}

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


@every_rule
def test_matches_its_example(rule):
    assert any(re.search(rule.pattern, line) for line in lines(rule.example))


@every_rule
def test_matches_none_of_what_only_looks_like_it(rule):
    assert not any(re.search(rule.pattern, line) for text in rule.not_these for line in lines(text))
    assert not re.search(rule.pattern, "")


@every_rule
def test_is_the_first_to_know_its_example(rule):
    """Else another rule would always speak in its place."""
    matching = [line for line in lines(rule.example) if re.search(rule.pattern, line)]
    first = {next(one.id for one in RULES if re.search(one.pattern, line)) for line in matching}

    assert rule.id in first


@every_rule
def test_says_what_it_means_and_what_to_do(rule):
    fields = {name for _, name, _, _ in string.Formatter().parse(rule.means) if name}

    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.id)
    assert 10 < len(rule.means) < 100
    assert not rule.means.endswith(".")
    assert fields <= set(re.compile(rule.pattern).groupindex)
    assert rule.do or rule.settings or rule.role in ("report", "note")
    assert len(rule.source) > 5


@every_rule
def test_names_checks_that_there_are(rule):
    assert set(rule.checks) <= CHECKS


@every_rule
def test_is_spelled_for_every_launcher(rule):
    for launcher in LAUNCHERS:
        assert spell(rule.settings, launcher)


def test_ids_are_unique():
    ids = [rule.id for rule in RULES]

    assert len(ids) == len(set(ids))


def test_every_check_is_named_by_a_rule():
    """Or it sees what no log tells."""
    named = {check for rule in RULES for check in rule.checks}

    assert CHECKS - named == SILENT


@every_rule
def test_takes_no_time_on_a_long_line(rule):
    """Such a repeat is tried from each place of the line, and runs to its end each time."""
    parsed = parser.parse(rule.pattern)
    begins = [one for one in first_of(parsed) if endless(one)]
    wide = [one for one in items_of(parsed) if endless(one) and takes_blanks(one)]

    assert not begins
    assert not wide or rule.pattern.startswith("^(?!")  # tried once


def endless(item: Any) -> bool:
    return str(item[0]).endswith("_REPEAT") and item[1][1] == parser.MAXREPEAT


def takes_blanks(repeat: Any) -> bool:
    return any(word in str(repeat[1][2]) for word in ("ANY", "NEGATE", "NOT_LITERAL"))


def items_of(items: Iterable[Any]) -> Iterable[Any]:
    """All items of a pattern."""
    for item in items:
        yield item
        yield from (one for inner in inner_of(item) for one in items_of(inner))


def first_of(items: Iterable[Any]) -> Iterable[Any]:
    """Those with which a match may begin, wherever in the line it is."""
    for item in items:
        if str(item[0]) == "AT" and "BEGINNING" in str(item[1]):
            return
        if str(item[0]) in ("AT", "ASSERT", "ASSERT_NOT"):
            continue
        yield item
        yield from (one for inner in inner_of(item) for one in first_of(inner))
        if not (str(item[0]).endswith("_REPEAT") and item[1][0] == 0):
            return


def inner_of(item: Any) -> list[Any]:
    name, value = str(item[0]), item[1]
    if name == "BRANCH":
        return list(value[1])
    if name == "SUBPATTERN" or name.endswith("_REPEAT"):
        return [value[-1]]
    return []
