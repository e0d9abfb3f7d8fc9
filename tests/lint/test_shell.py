"""Commands in a shell script, their words and places."""

import random
import subprocess

import pytest

from gpudoctor.lint.shell import commands, split
from gpudoctor.lint.source import BadLaunch, Source


def words(text: str) -> list[list[str]]:
    return [[word.text for word in found.words] for found in commands(Source("x.sh", text))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("a b  c", [["a", "b", "c"]], id="words"),
        pytest.param("a 'b c' \"d e\" f\\ g", [["a", "b c", "d e", "f g"]], id="quotes"),
        pytest.param("a --x='\"device=0,1\"'", [["a", '--x="device=0,1"']], id="quotes in quotes"),
        pytest.param('a "b\\"c\\d\\\ne"', [["a", 'b"c\\de']], id="backslashes in quotes"),
        pytest.param("a $'b c'", [["a", "b c"]], id="dollar quotes"),
        pytest.param("a \\\n  b \\\n c", [["a", "b", "c"]], id="continued"),
        pytest.param("a \\\r\n  b", [["a", "b"]], id="continued, Windows"),
        pytest.param("a \\  # why\n  b", [["a", "b"]], id="continued, but for a comment"),
        pytest.param("a # b\nc#d", [["a"], ["c#d"]], id="comments"),
        pytest.param("a;b&&c||d|e&f", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]], id="lists"),
        pytest.param("if a; then b; else c; fi", [["a"], ["b"], ["c"], ["fi"]], id="if"),
        pytest.param("( a ; { b; } )", [["a"], ["b"], ["}"]], id="groups"),
        pytest.param("a >out 2>&1 <in b &>all", [["a", "b"]], id="redirections"),
        pytest.param("a 2 >out", [["a", "2"]], id="a number is no descriptor"),
        pytest.param("a <<E b\nit's\nE\nc", [["a", "b"], ["c"]], id="here document"),
        pytest.param("a <<-'E'\n\tit's\n\tE\nc", [["a"], ["c"]], id="here document with tabs"),
        pytest.param("a <<<'b c' d", [["a", "d"]], id="here string"),
        pytest.param("$ docker run x", [["docker", "run", "x"]], id="pasted with its prompt"),
        pytest.param("A=(b 'c d') e", [["A=(b 'c d')", "e"]], id="array"),
        pytest.param("a <(b c) d", [["a", "(b c)", "d"]], id="process substitution"),
        pytest.param("((a = 1 << 3)); b", [["b"]], id="arithmetic"),
        pytest.param("((a); b)", [["a"], ["b"]], id="two subshells"),
        pytest.param("sort <a>b", [["sort"]], id="two redirections"),
        pytest.param("sort <a.txt > b", [["sort"]], id="two redirections with blanks"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_words(text, found):
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        pytest.param("$A", ("$A",), id="variable"),
        pytest.param('"x${A:-b c}y"', ("${A:-b c}",), id="default"),
        pytest.param("$(id -u):$(id -g)", ("$(id -u)", "$(id -g)"), id="commands"),
        pytest.param("$(a \"b)\" ')' (c))", ("$(a \"b)\" ')' (c))",), id="brackets in quotes"),
        pytest.param("`id -u`x", ("`id -u`",), id="backticks"),
        pytest.param('"${A[@]}"', ("${A[@]}",), id="array"),
        pytest.param("'$A'", (), id="not in quotes"),
        pytest.param("\\$A", (), id="not behind a backslash"),
        pytest.param("a$", (), id="a dollar alone"),
        pytest.param("<path/to your-models>:/m", ("<path/to your-models>",), id="to be filled in"),
        pytest.param("--model=<MODEL>", ("<MODEL>",), id="to be filled in, behind a flag"),
    ],
)
def test_opens(text, opens):
    (command,) = commands(Source("x.sh", f"echo {text}"))

    assert command.words[1].opens == opens


def test_places():
    source = Source("x.sh", "\necho a \\\n  'b c' # d\n")

    (command,) = commands(source)

    assert [source.text[word.start : word.end] for word in command.words] == ["echo", "a", "'b c'"]
    assert [source.line_at(word.start) for word in command.words] == [2, 2, 3]


def test_what_ends_a_command_unseen_is_kept():
    source = Source("x.sh", "a b \\  # why\n  c \\ \n  d\n")

    (command,) = commands(source)

    assert [source.text[start:end] for start, end in command.torn] == ["  # why", " "]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a\nb 'c\nd", "line 2: a ' that is never closed", id="single"),
        pytest.param('a\n\nb "c', 'line 3: a " that is never closed', id="double"),
        pytest.param("a $(b", "line 1: a ( that is never closed", id="command"),
        pytest.param("a ${b", "line 1: a } that is never closed", id="variable"),
        pytest.param("a `b", "line 1: a ` that is never closed", id="backtick"),
    ],
)
def test_unclosed(text, says):
    with pytest.raises(BadLaunch, match=f"^{says.replace('(', '[(]')}$"):
        words(text)

    assert split(text) == []


@pytest.mark.parametrize("seed", range(200))
def test_any_text_is_read_or_refused(seed):
    """No piece of it stands outside of the text, or before the last one."""
    chance = random.Random(seed)
    pieces = ["a", " ", "'", '"', "\\", "$", "(", ")", "`", "\n", "#", "<", ">", "&", ";", "|", "{"]
    text = "".join(chance.choices(pieces, k=chance.randrange(1, 40)))

    try:
        found = commands(Source("x.sh", text))
    except BadLaunch:
        return
    for command in found:
        ends = [0, *(word.end for word in command.words)]
        assert all(a <= word.start < word.end for a, word in zip(ends, command.words, strict=False))


@pytest.mark.parametrize(
    "text",
    [
        'docker run --name "a b" -e A=\'x y\' im\\ age cmd "it\'s"',
        "docker run \\\n  --gpus '\"device=0,1\"' \\\n  image",
        'docker run --label a="\\$HOME \\"x\\"" image \'c d\'"e f"g',
    ],
)
def test_words_are_those_of_bash(text):
    said = subprocess.run(
        ["bash", "-c", f"docker() {{ printf '%s\\0' docker \"$@\"; }}; {text}"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert words(text) == [said.stdout.split("\0")[:-1]]


@pytest.mark.parametrize(
    ("text", "count"), [("a " * 400_000, 1), ("\\\n" * 400_000, 0), ("a <<E\n" * 150_000, 1)]
)
def test_a_large_text_is_read_in_one_go(text, count):
    assert len(split(text)) == count
