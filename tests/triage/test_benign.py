"""A log of a job that went well says nothing, whatever words it has."""

import io
import random

import pytest

from gpudoctor.triage.conclude import conclude
from gpudoctor.triage.look import Story
from gpudoctor.triage.reading import Source
from gpudoctor.triage.rule import builtin
from tests.triage import benign

MB = 1_000_000


def story(text: bytes) -> Story:
    read = Story(builtin())
    read.read([Source("log", lambda: io.BufferedReader(io.BytesIO(text)))])
    return read


@pytest.mark.parametrize("writer", benign.WRITERS, ids=lambda writer: writer.__name__)
def test_no_writer_is_suspected(writer):
    some = random.Random(1)
    lines = [line for _ in range(3) for line in writer(some)]

    found = {
        rule: seen.first.spot.text for rule, seen in story("\n".join(lines).encode()).seen.items()
    }

    assert not {rule: text for rule, text in found.items() if role(rule) != "note"}


def role(rule: str) -> str:
    return next((one.role for one in builtin() if one.id == rule), "symptom")


def test_megabytes_of_all_of_them():
    found = conclude(story(b"".join(benign.text(5 * MB))))

    assert found.found == "nothing"
    assert found.exit_code == 0
    assert not found.unfinished
    assert not found.nccl.remarks
