"""Dockerfiles: what the last stage gives to its containers, and the file with corrections."""

import pytest

from gpudoctor.facts.launch import Launch
from gpudoctor.launch.settings import EnvSet, EnvUnset, ShmSize
from gpudoctor.lint.dockerfile import instructions, read
from gpudoctor.lint.source import LIMIT_BYTES, BadLaunch, Source, edited


def image(text: str) -> Launch:
    (found,) = read(Source("Dockerfile", text))
    return found.launch


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        pytest.param("FROM a\nENV A=1 B=2\n", {"A": "1", "B": "2"}, id="two"),
        pytest.param("FROM a\nENV A some words\n", {"A": "some words"}, id="the old form"),
        pytest.param(
            "FROM a\nENV A=\"x y\" B='p q' C=r\\ s\n", {"A": "x y", "B": "p q", "C": "r s"}
        ),
        pytest.param("FROM a\nenv A=1\n", {"A": "1"}, id="lower case"),
        pytest.param(
            "FROM a\nENV A=1 \\\n  # why\n\n    B=2\nENV C=3\n",
            {"A": "1", "B": "2", "C": "3"},
            id="continued, with a comment and a blank line",
        ),
        pytest.param("# escape=`\nFROM a\nENV A=1 `\n B=2\n", {"A": "1", "B": "2"}, id="escape"),
        pytest.param("FROM a\nENV A=1\nENV A=2\n", {"A": "2"}, id="the last counts"),
        pytest.param("FROM a\nENV A=x\nENV B=$A/${A}/$$\n", {"A": "x", "B": "x/x/$$"}, id="filled"),
        pytest.param("FROM a\nENV A=\\$HOME\n", {"A": "$HOME"}, id="escaped"),
        pytest.param("FROM a\nARG V=1\nENV A=${V} B=${W:-2}\n", {"A": "1", "B": "2"}, id="ARG"),
        pytest.param("ARG V=1\nFROM a\nARG V\nENV A=$V\n", {"A": "1"}, id="ARG from above"),
        pytest.param("FROM a\nARG V\nENV A=$V B=2\n", {"B": "2"}, id="an ARG without a value"),
        pytest.param("FROM a AS x\nENV A=1\nFROM b\nENV B=2\n", {"B": "2"}, id="the last stage"),
        pytest.param(
            "FROM a AS x\nENV A=1\nFROM X\nENV B=2\n", {"A": "1", "B": "2"}, id="built on a stage"
        ),
        pytest.param(
            "FROM a\nRUN <<EOF\nENV A=1\nFROM b\nEOF\nENV B=2\n", {"B": "2"}, id="a text inside"
        ),
        pytest.param("FROM a\nRUN echo \\\n  ENV A=1\n", {}, id="not an instruction"),
    ],
)
def test_environment(text, environment):
    assert image(text).environment == environment


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (
            'FROM a\nENTRYPOINT ["torchrun"]\nCMD ["--nproc-per-node=4", "t.py"]\n',
            ("torchrun", "--nproc-per-node=4", "t.py"),
        ),
        (
            "FROM a\nCMD torchrun --nproc-per-node=4 t.py\n",
            ("/bin/sh", "-c", "torchrun --nproc-per-node=4 t.py"),
        ),
    ],
    ids=["exec form", "shell form"],
)
def test_command(text, command):
    found = image(text)

    assert (found.command, found.ranks, found.starter) == (command, 4, "torchrun")


def test_image_and_user():
    found = image(
        "ARG TAG=1\nFROM --platform=linux/amd64 nvcr.io/x:${TAG} AS base\nFROM base\nUSER 9\n"
    )

    assert (found.image, found.user) == ("nvcr.io/x:1", "9")
    assert image("FROM $BASE\n").open_fields == ("image",)
    assert image("FROM scratch\nEVN A=1\n").unknown == ("EVN",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: there is no FROM"),
        ("RUN true\n", "line 1: there is no FROM"),
        ("FROM a\n" * LIMIT_BYTES, "more than 1 MiB"),
    ],
)
def test_broken_files(text, says):
    with pytest.raises(BadLaunch, match=says):
        image(text)


@pytest.mark.parametrize("text", ["FROM", "FROM a\nENV", "FROM a\nENV A", "FROM a\nRUN <<E", "\\"])
def test_half_a_file_is_no_crash(text):
    assert all(len(text) >= i.end >= i.begin > i.start for i in instructions(text))
    assert "FROM" not in text or read(Source("Dockerfile", text))


@pytest.mark.parametrize(
    ("body", "setting", "expected"),
    [
        pytest.param("ENV A=1 B=2\n", EnvSet("B", "3"), "ENV A=1 B=3\n", id="another value"),
        pytest.param("ENV A=1 B=2\n", EnvUnset("A"), "ENV B=2\n", id="the first less"),
        pytest.param("ENV A=1 \\\n    B=2\n", EnvUnset("B"), "ENV A=1\n", id="the last less"),
        pytest.param("ENV A=1\nUSER x\n", EnvUnset("A"), "USER x\n", id="the only one less"),
        pytest.param("ENV A old words\n", EnvSet("A", "1"), "ENV A=1\n", id="the old form"),
        pytest.param("USER x\n", EnvSet("A", 'b "$c"'), 'ENV A="b \\"\\$c\\""\nUSER x\n', id="new"),
        pytest.param("ENV B=1\nUSER x\n", EnvSet("A", "1"), "ENV B=1\nENV A=1\nUSER x\n"),
        pytest.param("ENV A=1\n", ShmSize(1 << 30), "ENV A=1\n", id="what no image can say"),
    ],
)
def test_edits(body, setting, expected):
    source = Source("Dockerfile", f"FROM a\n{body}")
    (found,) = read(source)

    corrected = edited(source, found.edits([setting]))

    assert corrected == f"FROM a\n{expected}"
    if isinstance(setting, EnvSet):
        assert image(corrected).environment[setting.name] == setting.value


def test_edits_stay_out_of_other_stages():
    source = Source("Dockerfile", "FROM a AS x\nENV A=1\nFROM b\nCOPY --from=x / /\n")
    (found,) = read(source)

    corrected = edited(source, found.edits([EnvUnset("A"), EnvSet("B", "2")]))

    assert corrected == "FROM a AS x\nENV A=1\nFROM b\nENV B=2\nCOPY --from=x / /\n"
