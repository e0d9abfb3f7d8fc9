"""A majority accuses, a tie blames nobody."""

import pytest

from gpudoctor.rules.majority import split


@pytest.mark.parametrize(
    ("values", "usual", "outliers"),
    [
        ({}, None, ()),
        ({"a": 1}, 1, ()),
        ({"a": 1, "b": 1}, 1, ()),
        ({"a": 1, "b": 2}, None, ()),
        ({"a": 1, "b": 1, "c": 2}, 1, ("c",)),
        ({"a": 1, "b": 1, "c": 2, "d": 2}, None, ()),
        ({"a": 1, "b": 1, "c": 2, "d": 3}, None, ()),
        ({"a": 1, "b": 1, "c": 1, "d": 2, "e": 3}, 1, ("d", "e")),
    ],
)
def test_split(values, usual, outliers):
    found = split(values)

    assert found.usual == usual
    assert found.outliers == outliers
    assert sorted(name for names in found.groups.values() for name in names) == sorted(values)
