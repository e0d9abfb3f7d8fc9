"""Nothing is lost on the fast way: what a rule matches is found, wherever a log is cut."""

import io
import json
import random
import re

import pytest

from gpudoctor.triage import reading
from gpudoctor.triage.look import UNKNOWN, Read, Story
from gpudoctor.triage.needles import KEPT, Needles, fold, may
from gpudoctor.triage.origin import origin
from gpudoctor.triage.reading import Source
from gpudoctor.triage.rule import builtin
from gpudoctor.triage.sieve import HEAD, TAIL
from gpudoctor.triage.words import words

RULES = builtin()
NEEDED = {rule.id: Needles(rule.pattern) for rule in RULES}
SEARCH = {rule.id: re.compile(rule.pattern).search for rule in RULES}

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def counts(text: bytes) -> dict[str, int]:
    """How many lines each rule is found in."""
    story = Story(RULES)
    story.read([Source("log", lambda: io.BufferedReader(io.BytesIO(text)))])
    return {name: seen.count for name, seen in story.seen.items() if name != UNKNOWN.id}


def slow_counts(text: str) -> dict[str, int]:
    """The same, trying every rule on every line."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        bare = origin(line).text
        for name, search in SEARCH.items():
            if search(bare if NEEDED[name].anchored else line):
                found[name] = found.get(name, 0) + 1
                break
    return found


@every_rule
def test_words_that_a_pattern_needs_are_in_what_it_matches(rule):
    needed = NEEDED[rule.id]
    matching = [line for line in lines_of(rule.example) if SEARCH[rule.id](line)]

    assert min(map(len, needed.best)) >= 3, "every line would have to be tried"
    for line in matching:
        folded = fold(line.encode())
        assert may(needed.cased, folded)
        assert may(needed.lower, folded.lower())


def test_the_words_that_are_kept_are_those_of_the_patterns():
    with open(KEPT, "rb") as file:
        assert json.load(file) == words(), "make words"


@pytest.fixture(scope="module")
def examples() -> str:
    text = "\n".join(line for rule in RULES for line in lines_of(rule.example))
    filler = "step 10 loss 0.25\nNCCL INFO error: 0, failed: 0\n"
    return filler + text + "\n" + filler


@pytest.fixture(scope="module")
def expected(examples) -> dict[str, int]:
    return slow_counts(examples)


def test_finds_what_trying_everything_finds(examples, expected):
    assert counts(examples.encode()) == expected
    assert {rule.id for rule in RULES} <= set(expected)


@pytest.mark.parametrize("piece", [1, 7, 64, 1000, 4093])
def test_wherever_it_is_cut(examples, expected, piece, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", piece)

    assert counts(examples.encode()) == expected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda line: f"[rank7]: {line}", id="torchrun"),
        pytest.param(lambda line: f"\x1b[31m{line}\x1b[0m", id="coloured"),
        pytest.param(lambda line: f"{line}\r", id="from Windows"),
        pytest.param(lambda line: f"  3%|3 | 1/9 [00:01<00:03]\r{line}", id="behind a bar"),
        pytest.param(lambda line: f"2026-11-21T10:22:33.123456789Z {line}", id="docker logs -t"),
        pytest.param(lambda line: f"[1,3]<stderr>: {line}", id="mpirun"),
        pytest.param(lambda line: f"trainer-1  | {line}", id="compose"),
        pytest.param(lambda line: line + " " + "x" * 70000, id="long"),
    ],
)
def test_whatever_stands_around_a_line(change):
    lines = [line for rule in RULES for line in lines_of(rule.example)]
    lines = [line for line in lines if not line.startswith(("[", "{"))]
    expected = slow_counts("\n".join(lines))

    found = counts("\n".join(change(line) for line in lines).encode())

    assert set(expected) - {rule.id for rule in RULES if "$" in rule.pattern} <= set(found)


def test_bytes_that_are_no_text_do_no_harm(examples, expected):
    noise = random.Random(8)
    lines = examples.encode().splitlines()
    for place in range(0, len(lines), 3):
        junk = bytes(noise.choice(b"\x00\x80\xff\xfe") for _ in range(20))
        lines[place] += b"\n" + junk + b"\n"

    assert counts(b"\n".join(lines)) == expected
    assert counts(b"\x00" * 300_000) == {}
    assert counts(b"\xff" * 300_000 + b"\n") == {}


def test_repeated_lines_are_counted(examples):
    line = b"RuntimeError: DataLoader worker (pid %d) is killed by signal: Bus error. \n"

    assert counts(b"".join(line % pid for pid in range(5000))) == {"dataloader-bus-error": 5000}


BUS = b"RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. "


@pytest.mark.parametrize("size", [HEAD + TAIL, 100_000, 3_000_000])
@pytest.mark.parametrize("piece", [100, 1 << 20])
def test_of_a_line_that_goes_on_and_on_both_ends_are_read(size, piece, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", piece if size < 1_000_000 else max(piece, 60_000))
    filler = b"Bus error " * (size // 10)
    source = Source("log", lambda: io.BufferedReader(io.BytesIO(BUS + filler + b"\n")))

    assert counts(BUS + filler) == {"dataloader-bus-error": 1}
    assert counts(filler + BUS) == {"dataloader-bus-error": 1}
    assert counts(b"1\n" + filler + BUS + b"\n" + BUS) == {"dataloader-bus-error": 2}
    assert max(map(len, reading.pieces(source))) <= 2 * max(reading.PIECE, 2 * reading.LINE)
    assert len(Read(BUS + filler).whole) <= HEAD + TAIL + 5


def test_the_part_that_matched_is_quoted_and_no_secret():
    read = Story(RULES)
    log = b"step " * 500 + b"password=hunter2hunter2 " * 5 + BUS + b"and so on " * 200
    read.read([Source("log", lambda: io.BufferedReader(io.BytesIO(log)))])
    text = read.seen["dataloader-bus-error"].first.spot.text

    assert BUS.decode().strip() in text[:200]
    assert "hunter2" not in text
