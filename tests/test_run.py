"""run.py: which probes a run starts."""

import pytest

from gpudoctor import Absent, Machine, TorchBuild, TorchRun, probe
from gpudoctor.registry import Catalogue, get
from gpudoctor.run import Request, observe


@probe(slow="takes some seconds: name it")
def slow(machine: Machine) -> TorchRun:
    """Takes its time."""
    return TorchRun(version="slow")


@probe(deep=True)
def deep(machine: Machine) -> TorchBuild:
    """Loads the machine."""
    return TorchBuild(version="deep")


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        pytest.param({}, [], id="plain"),
        pytest.param({"named": True}, ["torch_run"], id="named"),
        pytest.param({"deep": True}, ["torch_build", "torch_run"], id="deep"),
    ],
)
def test_slow_and_deep_probes_run_only_when_asked_for(asked, runs):
    check = get("torch-import")
    request = Request(checks=(check,), catalogue=Catalogue((check,), (slow, deep)), **asked)

    facts = observe(request, Machine())[0].facts

    ours = {name: facts[name] for name in ("torch_build", "torch_run")}
    assert sorted(n for n, fact in ours.items() if not isinstance(fact, Absent)) == runs
    assert all(fact.absent and not fact.broken for n, fact in ours.items() if n not in runs)
