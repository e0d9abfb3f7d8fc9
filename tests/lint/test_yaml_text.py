"""YAML as a tree with places: what it holds, and what is refused with the line it is on."""

import pytest

from gpudoctor.lint.source import LIMIT_BYTES, BadLaunch, Source
from gpudoctor.lint.yaml_text import MOST_DEPTH, Table, documents


def table(text: str) -> Table:
    (root,) = documents(Source("file.yaml", text))
    assert isinstance(root, Table)
    return root


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a: 1\nb: [\n", "line 3: not YAML", id="not closed"),
        pytest.param("a: 1\n\tb: 2\n", "line 2: not YAML", id="a tab"),
        pytest.param("a: b: c\n", "line 1: not YAML: mapping values", id="two colons"),
        pytest.param("a: 1\nb: 'x\n", "line 3: not YAML", id="quote not closed"),
        pytest.param("a: 1\nb: 2\na: 3\n", 'line 3: "a" is there already (line 1)', id="twice"),
        pytest.param("a: *b\n", "line 1: there is no &b", id="an alias of nothing"),
        pytest.param("a: &a\n  b: *a\n", "line 2: there is no &a", id="inside itself"),
        pytest.param("a: 1\nb: \x00\n", "line 2: the character U+0000 is not text", id="binary"),
        pytest.param("\x7fELF\x02\x01", "line 1: the character U+007F", id="a program"),
        pytest.param("a: 1\n? [x]\n: 2\n", "line 2: a key must be a word", id="a list as key"),
        pytest.param("[" * 5000, f"nested more than {MOST_DEPTH} deep", id="deep flow"),
        pytest.param("{a: " * 5000, f"nested more than {MOST_DEPTH} deep", id="deep mapping"),
        pytest.param("- " * 5000, f"nested more than {MOST_DEPTH} deep", id="deep block"),
        pytest.param("a: b\n" * LIMIT_BYTES, "more than 1 MiB", id="5 MB"),
        pytest.param("- a\n" * 250_000, "line 200001: more than 200000 values", id="many"),
        pytest.param("a: 1\n{{- if .x }}\nb: [\n", "a template? then render it first", id="helm"),
        pytest.param("%YAML 3.0\n---\na: 1\n", "line 1: not YAML", id="of another version"),
    ],
)
def test_broken_text_has_a_place(text, says):
    with pytest.raises(BadLaunch) as caught:
        documents(Source("file.yaml", text))

    assert says in str(caught.value)


@pytest.mark.parametrize("text", [BOMB, MERGE_BOMB], ids=["aliases", "merges"])
def test_a_bomb_stays_as_small_as_it_is_written(text):
    root = table(text)

    assert root.at("a59", "k") if text is MERGE_BOMB else root.listing("i").items


def test_too_long_a_chain_of_merges_is_refused():
    chain = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 1500))

    with pytest.raises(BadLaunch, match="merged"):
        table(chain).at("a1499", "k")


@pytest.mark.parametrize(
    ("text", "path", "found"),
    [
        pytest.param("a: {b: c}", ("a", "b"), "c", id="flow"),
        pytest.param("a:\n  b: 'c'\n", ("a", "b"), "c", id="quoted"),
        pytest.param('{"a": {"b": "c"}}', ("a", "b"), "c", id="JSON"),
        pytest.param("a: ~\n", ("a",), "", id="null"),
        pytest.param("x: &x {b: c}\na: *x\n", ("a", "b"), "c", id="alias"),
        pytest.param("x: &x {b: c}\na: {<<: *x}\n", ("a", "b"), "c", id="merged"),
        pytest.param("x: &x {b: c}\na: {<<: *x, b: d}\n", ("a", "b"), "d", id="own before merged"),
        pytest.param(
            "x: &x {b: c}\ny: &y {b: d}\na: {<<: [*y, *x]}\n", ("a", "b"), "d", id="the first"
        ),
        pytest.param("a: {{ .Values.x }}\n", ("a",), "", id="a template's word is not known"),
        pytest.param("a: {{ x }}\nb: c\n", ("b",), "c", id="beside it all is known"),
        pytest.param("{{- if .x }}\na: b\n{{- end }}\n", ("a",), "b", id="between its lines"),
        pytest.param("a: |\n  b\n  c\n", ("a",), "b\nc\n", id="a text"),
        pytest.param("a: é\nb: 日本\n", ("b",), "日本", id="not ASCII"),
    ],
)
def test_words(text, path, found):
    assert table(text).text(*path) == found


def test_places_are_those_of_the_file():
    source = Source("file.yaml", "\ufeffé: 1\r\nb:\r\n  - 'x'  # c\r\n  - y: [z]\r\n")
    (root,) = documents(source)

    assert isinstance(root, Table)
    first, second = root.listing("b").items
    assert source.text[first.start : first.end] == "'x'"
    assert source.text[second.start : second.end] == "y: [z]"
    assert source.line_at(second.start) == 4


def test_documents_are_apart():
    roots = documents(Source("file.yaml", "---\na: &x 1\n---\n---\n# nothing\n---\nb: 2\n"))

    tables = [root for root in roots if isinstance(root, Table)]
    assert [root.text("a") or root.text("b") for root in tables] == ["1", "2"]
