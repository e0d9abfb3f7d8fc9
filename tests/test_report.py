"""The verdict and the exit code: properties of the results."""

import itertools

import pytest

from gpudoctor import Status
from gpudoctor.report import Ignored, Result, counts, exit_code, verdict


def result(status: Status, ignored: Ignored | None = None) -> Result:
    return Result(id="a-b", topic="a", title="t", status=status, owner="job", ignored=ignored)


@pytest.mark.parametrize(
    ("statuses", "worst", "code", "strict"),
    [
        ("pass", Status.PASS, 0, 0),
        ("pass skip", Status.PASS, 0, 0),
        ("pass warn", Status.WARN, 0, 1),
        ("warn skip", Status.WARN, 0, 1),
        ("pass error", Status.ERROR, 3, 3),
        ("warn error", Status.ERROR, 3, 3),
        ("fail error", Status.FAIL, 1, 1),
        ("fail pass warn skip", Status.FAIL, 1, 1),
        ("skip", Status.SKIP, 3, 3),
        ("", Status.SKIP, 3, 3),
    ],
)
def test_worst_status_decides(statuses, worst, code, strict):
    for order in itertools.permutations(statuses.split()):
        results = tuple(result(Status(word)) for word in order)

        assert verdict(results) is worst
        assert exit_code(worst) == code
        assert exit_code(worst, strict=True) == strict


def test_ignored_results_do_not_count():
    results = (result(Status.PASS), result(Status.FAIL, Ignored("by design")))

    assert verdict(results) is Status.PASS
    assert counts(results) == {"pass": 1, "warn": 0, "fail": 0, "skip": 0, "error": 0}


def test_all_ignored_means_that_nothing_was_seen():
    assert exit_code(verdict((result(Status.FAIL, Ignored("r")),))) == 3
