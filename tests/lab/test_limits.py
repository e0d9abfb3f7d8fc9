"""Resource limits really set before the check is started."""

import os

import pytest

from gpudoctor import Status

FAIL, WARN, PASS = Status.FAIL, Status.WARN, Status.PASS


def result(report, check):
    return next(result for result in report.results if result.id == check)


@pytest.mark.parametrize(
    ("limit", "field", "value", "check", "status"),
    [
        pytest.param("--memlock=65536", "memlock", 65536, "limits-memlock", PASS, id="no RDMA"),
        pytest.param("--stack=4194304:", "stack", 4 << 20, "limits-stack", WARN, id="4 MiB stack"),
        pytest.param("--stack=8388608:", "stack", 8 << 20, "limits-stack", PASS, id="8 MiB stack"),
        pytest.param("--stack=67108864:", "stack", 64 << 20, "limits-stack", PASS, id="64 MiB"),
        pytest.param("--nofile=256", "nofile", 256, "limits-nofile", FAIL, id="few files"),
        pytest.param("--nofile=4096", "nofile", 4096, "limits-nofile", PASS, id="enough files"),
        pytest.param("--as=4294967296", "address_space", 4 << 30, "limits-address-space", WARN),
    ],
)
def test_limit(limit, field, value, check, status, examine):
    report = examine("--nproc-per-node=2", under=["prlimit", limit])

    assert report.nodes[0].facts["limits"][field]["soft"] == value
    assert result(report, check).status is status


def test_the_shells_own_word_raises_a_soft_limit(examine):
    report = examine(under=["prlimit", "--nofile=256:4096"])
    (fix,) = result(report, "limits-nofile").fixes

    (command,) = fix.commands
    cured = examine(
        under=["prlimit", "--nofile=256:4096", "sh", "-c", f'{command}; exec "$@"', "sh"]
    )

    assert result(cured, "limits-nofile").status is PASS


def test_processes_of_a_user(require, installed, examine):
    """RLIMIT_NPROC counts for everybody but root."""
    require(os.geteuid() == 0, "becoming another user needs root")
    become = ["setpriv", "--reuid=4712", "--regid=4712", "--clear-groups"]
    options = {"gpudoctor": str(installed / "bin/gpudoctor"), "cwd": "/"}

    few = examine(under=["prlimit", "--nproc=40", *become], **options)
    many = examine(under=["prlimit", "--nproc=4096", *become], **options)

    assert result(few, "limits-nproc").status is FAIL
    assert result(many, "limits-nproc").status is PASS
