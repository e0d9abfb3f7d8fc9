"""gpudoctor/fleet/reading.py and lean.py: any number of reports, and whatever else lies about."""

import gzip
import json

import msgspec
import pytest

from gpudoctor import Clock, Gpus, Shm
from gpudoctor.fleet import reading
from gpudoctor.fleet.lean import Foreign, lean, some_facts
from gpudoctor.report import LIMIT_BYTES, SCHEMA, BadReport
from gpudoctor.snapshot import Absent, Fact
from tests.fleet import synthetic

PRETTY = b'{\n  "schema": "gpudoctor.report/1",\n  "x": [{\n    "schema": "a"\n  }]\n}\n'
COMPACT = b'{"schema":"gpudoctor.report/1","x":[{"schema":"a"},{"schema":"b"}],"y":"} {"}'
CUT = b'{\n  "schema": "gpudoctor.report/1",\n  "x": ['


def raws(pieces):
    return [piece.error or piece.raw.strip() for piece in pieces]


@pytest.mark.parametrize(
    ("parts", "between"),
    [
        pytest.param([PRETTY], b"", id="one"),
        pytest.param([PRETTY, PRETTY, PRETTY], b"", id="one after another"),
        pytest.param([COMPACT, COMPACT], b"\n", id="JSON lines"),
        pytest.param([COMPACT, COMPACT], b"", id="nothing between"),
        pytest.param([COMPACT, PRETTY], b" ", id="a blank between"),
        pytest.param([CUT, PRETTY], b"\n", id="one cut off, then a whole one"),
        pytest.param([b"srun: error", PRETTY], b"\n", id="words before"),
        pytest.param([b"[1, 2]"], b"", id="foreign"),
        pytest.param([COMPACT] * 9000, b"\n", id="longer than a chunk"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reports_are_told_apart(tmp_path, parts, between, pack):
    path = tmp_path / "all.json"
    path.write_bytes(pack(between.join(parts)))

    assert raws(reading.pieces([str(path)])) == [part.strip() for part in parts]


def test_a_stream_that_comes_in_drops():
    class Drops:
        def __init__(self, raw):
            self.raw = raw

        def read(self, size=-1):
            part, self.raw = self.raw[:7], self.raw[7:]
            return part

    whole = Drops(PRETTY + COMPACT + b"\n" + PRETTY)

    found = reading.in_stream(whole.read(), whole, "stdin")
    assert raws(found) == [PRETTY.strip(), COMPACT, PRETTY.strip()]


def test_a_folder_is_read_at_any_depth_in_order(tmp_path):
    for name in ("b/x.json", "a.json", "b/y.json.gz", "notes.txt", "b/c/z.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(PRETTY) if name.endswith("gz") else PRETTY)
    (tmp_path / "b" / "again").symlink_to(tmp_path)

    found = [piece.source.removeprefix(f"{tmp_path}/") for piece in reading.pieces([str(tmp_path)])]

    assert found == ["a.json", "b/c/z.json", "b/x.json", "b/y.json.gz"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda path: None, "No such file or directory", id="none"),
        pytest.param(
            lambda path: path.write_bytes(gzip.compress(PRETTY)[:40]),
            "not whole as gzip",
            id="gzip",
        ),
        pytest.param(
            lambda path: path.write_bytes(gzip.compress(b"x" * (LIMIT_BYTES + 9))),
            "more than 64 MiB",
            id="unpacks to too much",
        ),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, make, said):
    path = tmp_path / "a.json.gz"
    make(path)

    assert said in raws(reading.pieces([str(path)]))[0]


def test_after_what_is_too_large_the_rest_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LIMIT_BYTES", 3 << 20)
    monkeypatch.setattr(reading, "WHOLE", 1 << 20)
    path = tmp_path / "all.json"
    path.write_bytes(b'{"schema":"' + b"x" * (9 << 20) + b'"}\n' + COMPACT)

    assert raws(reading.pieces([str(path)])) == [reading.TOO_LARGE, COMPACT]


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        pytest.param(b"", BadReport, "empty", id="empty"),
        pytest.param(b"\n \n", BadReport, "empty", id="blank"),
        pytest.param(b"hello", BadReport, "not JSON", id="words"),
        pytest.param(CUT, BadReport, "cut off", id="cut off"),
        pytest.param(b'{"x": ' + b"[" * 100_000, BadReport, "nested too deeply|cut off", id="deep"),
        pytest.param(b"[1]", Foreign, "JSON, but not a report", id="a list"),
        pytest.param(b'{"a": 1}', Foreign, "it has no schema", id="an object"),
        pytest.param(b'{"schema": "gpudoctor.facts/1", "nodes": []}', Foreign, "facts", id="facts"),
        pytest.param(b'{"schema": "gpudoctor.report/2"}', Foreign, "report/2", id="newer"),
        pytest.param(
            b'{"schema": "gpudoctor.report/1", "nodes": 3}',
            BadReport,
            "as this version",
            id="shape",
        ),
        pytest.param(
            b'{"schema": "gpudoctor.report/1", "n": "\xff"}', BadReport, "not", id="not UTF-8"
        ),
    ],
)
def test_what_is_no_report_says_why(raw, kind, said):
    with pytest.raises(BadReport, match=said) as caught:
        lean(raw)

    assert type(caught.value) is kind


@pytest.fixture(scope="module")
def raw() -> bytes:
    return synthetic.Kinds().raw("H100", synthetic.NARROW)


def test_what_passed_is_passed_over(raw):
    report = lean(raw)
    whole = json.loads(raw)["nodes"][0]["results"]

    assert [result.id for result in report.nodes[0].results] == [each["id"] for each in whole]
    assert [r.status.value for r in report.nodes[0].results] == [each["status"] for each in whole]
    (found,) = [r for r in report.nodes[0].results if r.id == "gpu-pcie-width"]
    assert found.summary == "GPU 3: PCIe x8 of x16"


def test_a_fact_of_another_version_hides_no_other(raw):
    node = lean(raw).nodes[0]
    node.facts["shm"] = msgspec.Raw(b'{"exists": "perhaps"}')
    node.facts["clock"] = msgspec.Raw(b'{"absent": "no clock here", "broken": true}')
    kinds: dict[str, type[Fact]] = {"shm": Shm, "clock": Clock, "gpus": Gpus}

    facts = some_facts(node, kinds)

    assert set(facts.facts) == {"clock", "gpus"}
    assert facts.facts["clock"] == Absent("no clock here", True)


def test_reports_are_as_large_as_real_ones(raw):
    assert json.loads(raw)["schema"] == SCHEMA
    assert 60_000 < len(raw) < 250_000
