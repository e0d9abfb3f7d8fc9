"""Every table in gpudoctor/data says where each of its rows comes from, and when it was read."""

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpudoctor.data import table
from gpudoctor.rules import variables

DATA = Path(__file__).parent.parent / "gpudoctor" / "data"
TABLES = sorted(path.stem for path in DATA.glob("*.json"))

every_table = pytest.mark.parametrize("name", TABLES)


def rows(value: Any) -> Iterator[dict[str, Any]]:
    """The dictionaries inside lists, and those that hold a value: what a table states."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield item
    elif isinstance(value, dict):
        if "value" in value:
            yield value
        for item in value.values():
            if isinstance(item, list | dict):
                yield from rows(item)


@every_table
def test_says_what_it_is_and_when_it_was_read(name):
    found = table(name)

    assert len(found["about"]) > 40
    assert datetime.date.fromisoformat(found["as_of"]) <= datetime.date(2100, 1, 1)


@every_table
def test_every_row_has_a_source(name):
    found = table(name)
    without = [row for row in rows(found) if not (row.get("source") or found.get("source"))]

    assert not without


def test_environment_names_are_names():
    for library in table("environment")["libraries"]:
        for name in library["variables"]:
            assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)


def test_environment_has_each_name_once():
    names = [n for library in table("environment")["libraries"] for n in library["variables"]]

    assert len(names) == len(set(names)) == len(variables.known())


SECRET = re.compile(r"TOKEN(?!I)|SECRET|PASSW|API_?KEY|ACCESS_KEY|CREDENTIAL|_PSK|PRIVATE_KEY")


def test_environment_tells_no_secret():
    assert not [name for name in variables.known() if SECRET.search(name)]


def test_environment_rows_say_what_their_status_and_kind_need():
    for name, row in variables.known().items():
        assert bool(row.values) == (row.kind in ("word", "exact word")), name
        assert row.until or row.status != "removed", name
        assert row.replaced_by or row.note or row.status not in ("deprecated", "unread"), name
        assert row.replaced_by in ("", *variables.known()), name


def test_environment_leftovers_have_a_cost_and_need_a_value():
    for name, row in variables.known().items():
        if row.leftover:
            assert 10 < len(row.leftover.cost) < 90, name
            assert not re.fullmatch(row.leftover.when, ""), name
            assert re.compile(row.leftover.unless), name
