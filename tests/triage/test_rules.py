"""What holds for every rule, also the next one: its example is its test."""

import re
import string

import pytest

from gpudoctor import registry
from gpudoctor.launch import LAUNCHERS, spell
from gpudoctor.triage.rule import builtin

RULES = builtin()
CHECKS = {check.id for check in registry.builtin_checks()}

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
