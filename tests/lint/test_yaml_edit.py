"""Changes of YAML: what is asked for is said afterwards, and nothing else is touched."""

import pytest
import yaml

from gpudoctor.lint.source import Source, edited
from gpudoctor.lint.yaml_edit import merged, removed
from gpudoctor.lint.yaml_text import Listing, Scalar, Table, documents


def changed(text: str, wanted: dict, *path: str) -> str:
    source = Source("file.yaml", text)
    (root,) = documents(source)
    assert isinstance(root, Table)
    table = root.table(*path)
    assert table is not None
    return edited(source, merged(source, table, wanted))


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        pytest.param("a: 1\n", {"b": 2}, "a: 1\nb: 2\n", id="a new key"),
        pytest.param("a: 1", {"b": 2}, "a: 1\nb: 2", id="no break at the end"),
        pytest.param("a: 1\r\n", {"b": 2}, "a: 1\r\nb: 2\r\n", id="CRLF"),
        pytest.param("\ufeffa: 1\n", {"a": 2}, "\ufeffa: 2\n", id="byte order mark"),
        pytest.param("a: 1  # one\n", {"a": 2}, "a: 2  # one\n", id="another value"),
        pytest.param("a: 1 # one\n# end\n", {"b": 2}, "a: 1 # one\nb: 2\n# end\n", id="comments"),
        pytest.param("a: '8g'\n", {"a": "8g"}, "a: '8g'\n", id="said already"),
        pytest.param("a:\nb: 1\n", {"a": 2}, "a: 2\nb: 1\n", id="null becomes a word"),
        pytest.param(
            "a:\nb: 1\n", {"a": {"c": 2}}, "a:\n  c: 2\nb: 1\n", id="null becomes a mapping"
        ),
        pytest.param(
            "a:\n    b: 1\n\n\nz: 1\n",
            {"a": {"c": 2}},
            "a:\n    b: 1\n    c: 2\n\n\nz: 1\n",
            id="inside, indented as its neighbours",
        ),
        pytest.param("a: {b: 1}\n", {"a": {"c": 2}}, 'a: {b: 1, "c": 2}\n', id="flow"),
        pytest.param("{a, b: 1}", {"a": {"c": 2}}, '{a: {"c": 2}, b: 1}', id="a key alone"),
        pytest.param("? a\n: 1\n", {"a": 2}, "? a\n: 2\n", id="an explicit key"),
        pytest.param("a: {}\n", {"a": {"c": "x"}}, 'a: {"c": "x"}\n', id="empty flow"),
        pytest.param('{"a": {"b": 1}}', {"a": {"c": [1]}}, '{"a": {"b": 1, "c": [1]}}', id="JSON"),
        pytest.param("a: {b: x}\n", {"a": {"b": [2]}}, 'a: {b: ["x", 2]}\n', id="list within flow"),
        pytest.param("a: [x]\n", {"a": ["x", "y"]}, 'a: [x, "y"]\n', id="flow list grows"),
        pytest.param("a:\n- x\nb: 1\n", {"a": ["z"]}, "a:\n- x\n- z\nb: 1\n", id="list grows"),
        pytest.param("a:\n  - x\n", {"a": ["z"]}, "a:\n  - x\n  - z\n", id="indented list grows"),
        pytest.param("a: x\n", {"a": ["z"]}, "a: [x, z]\n", id="word becomes a list"),
        pytest.param(
            "e:\n  - A=1\n  - B=2\n",
            {"e": {"B": "3", "C": "4"}},
            'e:\n  - A=1\n  - "B=3"\n  - "C=4"\n',
            id="assignments in a list",
        ),
        pytest.param(
            "v:\n- name: x\n  size: 1\n- name: y\n",
            {"v": [{"name": "x", "size": 2}, {"name": "z", "size": 3}]},
            "v:\n- name: x\n  size: 2\n- name: y\n- name: z\n  size: 3\n",
            id="entries by name",
        ),
        pytest.param(
            "a: |\n  text\n\nb: 1\n", {"c": 2}, "a: |\n  text\n\nb: 1\nc: 2\n", id="after a text"
        ),
        pytest.param(
            "b: 1\na: |\n  text\n", {"c": 2}, "b: 1\na: |\n  text\nc: 2\n", id="text last"
        ),
        pytest.param(
            "u:\n  m:\n    soft: 1\n    hard: 2\nz: 1\n",
            {"u": {"m": -1}},
            "u:\n  m: -1\nz: 1\n",
            id="a mapping becomes a word",
        ),
        pytest.param(
            "a: &s 1\nb: *s\n", {"a": 2}, "a: &s 2\nb: *s\n", id="an anchor keeps its name"
        ),
        pytest.param(
            "a: &s  # why\n  - x\n",
            {"a": ["z"]},
            "a: &s  # why\n  - x\n  - z\n",
            id="a comment behind an anchor",
        ),
        pytest.param("a: &s 1\nb: *s\n", {"b": 2}, "a: &s 1\nb: 2\n", id="an alias gives way"),
        pytest.param(
            "x: &x {s: 1}\na:\n  <<: *x\n",
            {"a": {"s": 2}},
            "x: &x {s: 1}\na:\n  <<: *x\n  s: 2\n",
            id="a merged word is overridden",
        ),
        pytest.param(
            "x: &x\n  e:\n    A: 1\na:\n  <<: *x\n",
            {"a": {"e": {"B": 2}}},
            "x: &x\n  e:\n    A: 1\n    B: 2\na:\n  <<: *x\n",
            id="a merged mapping grows where it stands",
        ),
    ],
)
def test_merged(text, wanted, expected):
    found = changed(text, wanted)

    assert found == expected
    assert yaml.safe_load(found)


def test_inner_additions_come_before_outer_ones():
    found = changed("a:\n  b:\n    c: 1\n", {"a": {"b": {"d": 2}, "e": 3}, "f": 4})

    assert found == "a:\n  b:\n    c: 1\n    d: 2\n  e: 3\nf: 4\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("z: 1\nx: 2\ny: 3\n", "z: 1\ny: 3\n"),
        ("z: 1\nx:\n  deep: 2\n  er: 3  # c\n", "z: 1\n"),
        ("x: 2\ny: 3\n", "y: 3\n"),
        ("z: 1\r\nx: 2\r\n", "z: 1\r\n"),
        ("{z: 1, x: 2}", "{z: 1}"),
        ("{x: 2, z: 1}", "{z: 1}"),
        ("{x: 2}", "{}"),
    ],
)
def test_removed(text, expected):
    source = Source("file.yaml", text)
    (root,) = documents(source)
    assert isinstance(root, Table)
    item = root.own("x")
    assert item is not None

    assert edited(source, removed(source, root, [item])) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("l: [a, x, b, y]", "l: [a, b]"),
        ("l: [x, y, a]", "l: [a]"),
        ("l: [x, y]", "l: []"),
        ("l:\n- x\n- a\n- y\n", "l:\n- a\n"),
        ("l:\n- x\n- y\n", "l:\n"),
    ],
)
def test_several_removed(text, expected):
    source = Source("file.yaml", text)
    (root,) = documents(source)
    assert isinstance(root, Table)
    present = root.listing("l")
    gone = [i for i in present.items if isinstance(i.node, Scalar) and i.node.text in "xy"]

    assert edited(source, removed(source, present, gone)) == expected


def test_removed_from_the_line_of_a_dash():
    source = Source("file.yaml", "- x: 1\n  y: 2\n  a: 3\n- x: 1\n  y: 2\n")
    (root,) = documents(source)
    assert isinstance(root, Listing)

    edits = [e for table in root.tables() for e in removed(source, table, table.items[:2])]

    assert edited(source, edits) == "- a: 3\n- {}\n"


def test_removed_and_added_at_the_same_place():
    source = Source("file.yaml", "a: 1\nx: 2\n")
    (root,) = documents(source)
    assert isinstance(root, Table)
    item = root.own("x")
    assert item is not None

    edits = [*removed(source, root, [item]), *merged(source, root, {"b": 2})]

    assert edited(source, edits) == "a: 1\nb: 2\n"
