"""Facts to JSON and back; what is not facts is refused in words."""

import json

import pytest

from gpudoctor import Absent, Fact, Shm, ShmFile, ShmFiles
from gpudoctor.snapshot import BadFacts, Snapshot, builtin_kinds, dump, load, name_of


class Fan(Fact, frozen=True, kw_only=True):
    rpm: int


FILES = ShmFiles(
    count=1, files=(ShmFile(name="nccl-x", bytes=1, age_seconds=2, uid=0, owner="dead"),)
)


def test_there_and_back():
    before = Snapshot(
        "n1",
        {"shm": Shm(total_bytes=5), "shm_files": FILES, "limits": Absent("why", broken=True)},
    )

    assert load(dump([before])) == [before]


def test_names_that_are_not_utf8_are_spelled_out():
    [after] = load(dump([Snapshot("n\udcff", {"x": {"y": ["\udc80"]}})]))

    assert (after.name, after.facts) == ("n\\udcff", {"x": {"y": ["\\udc80"]}})


def test_facts_of_plug_ins_come_back_too():
    before = Snapshot("n1", {"fan": Fan(rpm=900)})

    assert load(dump([before]), [Fan]) == [before]


def test_unknown_facts_are_kept_as_they_are():
    [after] = load(dump([Snapshot("n1", {"fan": Fan(rpm=900)})]))

    assert after.facts["fan"] == {"rpm": 900}
    assert load(dump([after]), [Fan])[0].facts["fan"] == Fan(rpm=900)


def test_fields_of_a_newer_version_are_passed_over():
    raw = {"schema": "gpudoctor.facts/1", "nodes": [{"name": "n", "facts": {"shm": {"new": 1}}}]}

    assert load(json.dumps(raw).encode())[0].get(Shm) == Shm()


def test_a_report_is_a_facts_file_too():
    raw = {"schema": "gpudoctor.report/1", "nodes": [{"name": "n", "results": [], "facts": {}}]}

    assert load(json.dumps(raw).encode()) == [Snapshot("n")]


def test_missing_fact_is_absent_with_its_name():
    assert Snapshot("n").get(Shm) == Absent("shm was not collected")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"\x00\xff" * 999, "not JSON", id="binary"),
        pytest.param(b"x" * 10_000_000, "not JSON", id="10 MB of junk"),
        pytest.param(b"[" * 100_000, "not", id="deep"),
        pytest.param(b"[]", "not a facts file", id="a list"),
        pytest.param(b'{"schema": "other/1", "nodes": []}', 'schema is "other/1"', id="foreign"),
        pytest.param(b'{"schema": "gpudoctor.facts/2", "nodes": []}', "reads only", id="future"),
        pytest.param(b'{"schema": "gpudoctor.facts/1"}', "nodes", id="no nodes"),
        pytest.param(
            b'{"schema":"gpudoctor.facts/1","nodes":[{"name":"n","facts":{"shm":'
            b'{"total_bytes":"a"}}}]}',
            'node "n", fact "shm": Expected `int`, got `str` - at `$.total_bytes`',
            id="wrong type",
        ),
        pytest.param(
            b'{"schema":"gpudoctor.facts/1","nodes":[{"name":"n","facts":{"shm":[]}}]}',
            'fact "shm"',
            id="wrong shape",
        ),
    ],
)
def test_bad_files_are_refused_in_words(raw, says):
    with pytest.raises(BadFacts) as refused:
        load(raw)

    assert says in str(refused.value)


def test_size_is_limited(monkeypatch):
    monkeypatch.setattr("gpudoctor.snapshot.LIMIT_BYTES", 1 << 20)

    with pytest.raises(BadFacts, match="more than 1 MiB"):
        load(b" " * ((1 << 20) + 1))


def test_names_of_facts_are_their_own():
    names = [name_of(kind) for kind in builtin_kinds()]

    assert len(names) == len(set(names))
    assert {"shm", "shm_files", "cgroup", "container", "workload"} <= set(names)
