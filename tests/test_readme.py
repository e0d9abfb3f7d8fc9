"""What the README shows is there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from gpudoctor import registry
from gpudoctor.cli import cli

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"gpudoctor ((?:[a-z]+|-)[^`\n|&]*)`", TEXT)))


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command):
    name, *words = shlex.split(command)
    found = cli.get_command(click.Context(cli), name)
    options = {option for parameter in found.params for option in parameter.opts}

    if "--" in words:
        words = words[: words.index("--")]
    assert {word for word in words if word.startswith("-")} <= options


def test_sample_is_of_checks_that_there_are():
    shown = re.findall(r"who acts:|^[✗!] (?:FAIL|WARN) ([a-z-]+)", TEXT, re.MULTILINE)
    topics = re.findall(r"^  [✓✗!–] \w+ +([a-z]+) +\d", TEXT, re.MULTILINE)
    checks = registry.builtin_checks()

    assert set(filter(None, shown)) <= {check.id for check in checks}
    assert topics
    assert set(topics) <= {check.topic for check in checks}


def test_make_targets():
    rules = re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {word for rule in rules for word in rule.split()}

    assert set(re.findall(r"^make (\w+)", TEXT, re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/index.md"])
def test_links(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())

    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
