"""Nothing is lost on the fast way: what a rule matches is found, wherever a log is cut."""

import io
import random
import re

import pytest

from gpudoctor.triage import reading
from gpudoctor.triage.look import UNKNOWN, Story
from gpudoctor.triage.needles import Needles, best, fold, may
from gpudoctor.triage.origin import origin
from gpudoctor.triage.reading import Source
from gpudoctor.triage.rule import builtin

RULES = builtin()
NEEDED = {rule.id: Needles(rule.pattern) for rule in RULES}
SEARCH = {rule.id: re.compile(rule.pattern).search for rule in RULES}

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def encoded(needed) -> list[list[bytes]]:
    return [[word.encode() for word in words] for words in needed]


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

    assert min(map(len, best(needed.lower))) >= 3, "every line would have to be tried"
    for line in matching:
        folded = fold(line.encode())
        assert may(encoded(needed.cased), folded)
        assert may(encoded(needed.lower), folded.lower())


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
