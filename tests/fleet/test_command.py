"""`gpudoctor report` of several reports: where they come from, and the exit code."""

import json
import subprocess

import pytest

from tests.fleet import synthetic


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """n0 to n3; the last one fails."""
    folder, kinds = tmp_path_factory.mktemp("reports"), synthetic.Kinds()
    for number in range(4):
        fault = synthetic.MEMLOCK if number == 3 else synthetic.HEALTHY
        raw = synthetic.named(kinds, f"n{number}", "H100", fault)
        (folder / f"n{number}.json").write_bytes(raw)
    return folder


@pytest.fixture
def report(gpudoctor, reports):
    def run(*words, given=b""):
        done = subprocess.run(
            [gpudoctor, "report", *words], input=given, capture_output=True, cwd=reports
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


@pytest.mark.parametrize(
    ("words", "nodes", "code"),
    [
        pytest.param(["."], 4, 1, id="a folder"),
        pytest.param(["n0.json", "n1.json"], 2, 0, id="files"),
        pytest.param(["n0.json", "--expect-nodes", "n0"], 1, 0, id="one, as expected"),
        pytest.param(["n0.json", "--expect-nodes", "n[0-1]"], 1, 3, id="one is missing"),
    ],
)
def test_exit_codes(report, words, nodes, code):
    ended, said, _ = report(*words, "-f", "json")

    assert ended == code
    assert len(json.loads(said)["nodes"]) == nodes


@pytest.mark.parametrize("between", [b"", b"\n"])
def test_stdin_may_hold_several(report, reports, between):
    raws = [(reports / f"n{number}.json").read_bytes() for number in range(3)]

    code, said, _ = report("-", given=between.join(raws))

    assert code == 0
    assert "3 nodes" in said


def test_stdin_with_one_is_the_report_of_a_node(report, reports):
    code, said, _ = report("-", given=(reports / "n0.json").read_bytes())

    assert code == 0
    assert "limits" in said
    assert "n0" in said


def test_a_report_that_is_cut_off_makes_no_verdict(report, reports, tmp_path):
    path = tmp_path / "cut.json"
    path.write_bytes((reports / "n0.json").read_bytes()[:5000])

    code, said, _ = report("n0.json", str(path))

    assert code == 3
    assert "cut off" in said
    assert "NO VERDICT" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-folder"], "No such file"),
        (["n0.json", "no-such-file"], "No such file"),
        ([".", "--inventory", "no-such-file"], "cannot be read"),
        ([".", "--expect-nodes", "n[1-"], "brackets"),
        ([".", "-f", "junit"], "there is no format"),
    ],
)
def test_wrong_usage(report, words, said):
    code, _, told = report(*words)

    assert code == 2
    assert said in told
