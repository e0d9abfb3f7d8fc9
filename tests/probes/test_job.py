"""probes/job.py: nothing told is an absence, not a job of one rank."""

import pytest

from gpudoctor import Absent, Job, Machine
from gpudoctor.probes.job import job


def test_nothing_told():
    found = job(Machine(env={"HOME": "/root"}))

    assert isinstance(found, Absent)
    assert not found.broken


@pytest.mark.parametrize(
    ("env", "told"),
    [
        pytest.param({"RANK": "0"}, {}, id="variable"),
        pytest.param({}, {"master_addr": "10.0.0.1"}, id="option"),
    ],
)
def test_told(env, told):
    assert isinstance(job(Machine(env=env, told=told)), Job)
