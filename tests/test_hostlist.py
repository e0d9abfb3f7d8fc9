"""Host names folded as Slurm folds them, and spelled out again."""

import pytest

from gpudoctor.hostlist import MOST, BadHostlist, fold, unfold


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], ""),
        (["a"], "a"),
        (["n2", "n1", "n1"], "n[1-2]"),
        (["n9", "n10", "n12"], "n[9-10,12]"),
        (["n09", "n10"], "n[09-10]"),
        (["n1", "n01"], "n01,n1"),
        (["gpu-a-007", "gpu-a-012", "gpu-a-013", "login"], "gpu-a-[007,012-013],login"),
        (["r1-n2.lan", "r1-n3.lan"], "r1-n[2-3].lan"),
        (["a[1]", "a,b"], "a,b,a[1]"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.[1-2]"),
    ],
)
def test_fold(names, folded):
    assert fold(names) == folded


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("a", ["a"]),
        ("a, b", ["a", "b"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,12]", ["n08", "n09", "n10", "n12"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ],
)
def test_unfold(text, names):
    assert unfold(text) == names


@pytest.mark.parametrize("text", ["n[1", "n1]", "n[[1]]", "n[]", "n[a-b]", "n[1-99999999999]"])
def test_what_is_no_list_is_said(text):
    with pytest.raises(BadHostlist, match=r"range|brackets|hosts"):
        unfold(text)


def test_no_list_is_spelled_out_without_end():
    with pytest.raises(BadHostlist, match=str(MOST)):
        unfold("n[0-999][0-999]")


def test_there_and_back():
    names = [f"gpu-{rack}-{number:03d}" for rack in "abc" for number in range(1, 130, 7)]

    assert unfold(fold(names)) == sorted(names)
