"""What holds for every check, also the next one."""

import inspect
import re
from pathlib import Path

import pytest

from gpudoctor import Launch, Links, Members, Nodes, PairReduce, Status, catalogue, registry
from gpudoctor.judge import judge_one
from gpudoctor.snapshot import Absent, Snapshot, name_of

CHECKS = registry.builtin_checks()
ROOT = Path(__file__).parent.parent
OF_CLUSTER = {Links, Members, Nodes, PairReduce}  # found by nodes together, not by a probe

every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)


@every_check
def test_stands_in_the_module_of_its_topic(check):
    assert check.judge.__module__.split(".")[2] == check.topic


@every_check
def test_title_is_one_statement_of_the_good_state(check):
    assert 10 < len(check.title) < 80
    assert not check.title.startswith(("Check", "Ensure", "Verify"))
    assert "\n" not in check.title


@every_check
def test_says_why_and_what_breaks_later(check):
    assert len(check.why) > 80
    assert check.symptoms, "triage and explain --message need the later error's words"


@every_check
def test_symptoms_are_patterns_that_say_something(check):
    for pattern in check.symptoms:
        assert re.compile(pattern, re.IGNORECASE)
        assert len(catalogue.readable(pattern)) >= 8
        assert not re.search(pattern, ""), "matches everything"


@every_check
def test_fits_on_a_screen(check):
    lines = inspect.getsource(check.judge).splitlines()
    docstring = len(check.judge.__doc__.rstrip().splitlines()) + 1  # the closing quotes

    assert len(lines) - docstring <= 40


@every_check
def test_has_a_probe_for_every_fact(check):
    kinds = {need.kind for need in check.needs.values()}
    looked_for = kinds - {Launch, *OF_CLUSTER}  # lint reads a launch
    found = registry.Catalogue(()).probes_for(looked_for)

    assert len(found) == len(looked_for)


@every_check
def test_skips_when_a_needed_fact_is_not_there(check):
    required = [need.kind for need in check.needs.values() if not need.optional]
    facts = {name_of(kind): Absent("none here") for kind in required}

    assert required
    assert judge_one(check, Snapshot("n", facts)).status is Status.SKIP


@every_check
def test_ends_in_error_when_looking_failed(check):
    required = [need.kind for need in check.needs.values() if not need.optional]
    facts = {name_of(kind): Absent("stuck", broken=True) for kind in required}

    assert judge_one(check, Snapshot("n", facts)).status is Status.ERROR


def test_ids_are_unique():
    ids = [name for check in CHECKS for name in (check.id, *check.aliases)]

    assert len(ids) == len(set(ids))


def test_checks_import_nothing_that_looks():
    pure = {"re", "shlex", "difflib", "datetime", "collections", "collections.abc", "typing"}
    pure |= {"ipaddress"}
    looking = ("gpudoctor.probes", "gpudoctor.collect", "gpudoctor.cli", "gpudoctor.checks")
    for path in (ROOT / "checks").rglob("*.py"):
        imported = set(re.findall(r"^(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE))
        ours = {name for name in imported if name.partition(".")[0] == "gpudoctor"}

        assert imported - ours <= pure, path
        assert not [name for name in ours if name.startswith(looking)], path


def test_documentation_is_current():
    written = (ROOT / "docs" / "checks.md").read_text()

    assert written == catalogue.as_markdown(CHECKS), "run `make docs`"
