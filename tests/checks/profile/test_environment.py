"""checks/profile/environment.py: verdicts over variables, also of those whose value is hidden."""

import pytest

from gpudoctor import Demands, Environment, EnvSet, EnvUnset, Status, VariableDemand
from gpudoctor.registry import get

PASS, WARN, FAIL, SKIP, ERROR = Status.PASS, Status.WARN, Status.FAIL, Status.SKIP, Status.ERROR
MARGIN = VariableDemand(
    name="NVTE_FWD_LAYERNORM_SM_MARGIN", value="16", verdict="harmful", why="one GPU has no peers"
)
RECORD = VariableDemand(
    name="TORCH_NCCL_AVOID_RECORD_STREAMS", value="1", verdict="stale", why="it is the default"
)
VISIBLE = VariableDemand(name="CUDA_VISIBLE_DEVICES", value="0", verdict="harmless")
HOME = VariableDemand(name="HF_HOME", verdict="required", why="the cache is shared")
OWN = VariableDemand(name="SITE_RACK", value="a7", verdict="required")
ANY = VariableDemand(name="NCCL_ALGO", verdict="harmful")


def judge(*variables: VariableDemand, asked=("SITE_RACK",), names=(), **values: str):
    environment = Environment(values=values, names=(*values, *names), asked=asked)
    return get("profile-environment")(Demands(by="profile x", variables=variables), environment)


@pytest.mark.parametrize(
    ("variables", "values", "status", "says"),
    [
        pytest.param((), {}, SKIP, "no variable is judged", id="nothing asked"),
        pytest.param((MARGIN, RECORD, VISIBLE), {}, PASS, "3 variables judged", id="none set"),
        pytest.param(
            (MARGIN, RECORD),
            {"NVTE_FWD_LAYERNORM_SM_MARGIN": "16"},
            WARN,
            "NVTE_FWD_LAYERNORM_SM_MARGIN=16: harmful",
            id="harmful",
        ),
        pytest.param(
            (MARGIN,), {"NVTE_FWD_LAYERNORM_SM_MARGIN": "0"}, PASS, "none", id="another value"
        ),
        pytest.param(
            (RECORD,),
            {"TORCH_NCCL_AVOID_RECORD_STREAMS": "1"},
            PASS,
            "stale: it is the default",
            id="stale is said, and no fault",
        ),
        pytest.param(
            (VISIBLE,), {"CUDA_VISIBLE_DEVICES": "0"}, PASS, "=0: harmless", id="harmless"
        ),
        pytest.param((ANY,), {"NCCL_ALGO": "Ring"}, WARN, "NCCL_ALGO=Ring", id="any value"),
        pytest.param((ANY,), {"NCCL_ALGO": ""}, PASS, "none to mend", id="set to nothing"),
        pytest.param((HOME,), {}, FAIL, "HF_HOME is not set", id="required"),
        pytest.param((HOME,), {"HF_HOME": " "}, FAIL, "HF_HOME is not set", id="required, empty"),
        pytest.param((HOME,), {"HF_HOME": "/hf"}, PASS, "none to mend", id="required and set"),
        pytest.param((OWN,), {"SITE_RACK": "a7"}, PASS, "none to mend", id="required value"),
        pytest.param(
            (HOME, OWN, MARGIN),
            {"NVTE_FWD_LAYERNORM_SM_MARGIN": "16"},
            FAIL,
            "3 to mend for profile x: HF_HOME, SITE_RACK, NVTE_FWD_LAYERNORM_SM_MARGIN",
            id="several",
        ),
    ],
)
def test_verdicts(variables, values, status, says):
    finding = judge(*variables, **values)

    assert finding.status is status
    assert says in " ".join([finding.summary, finding.reason, *finding.evidence])
    assert len(finding.summary) < 80


def test_a_value_that_is_not_told_is_another_than_the_one_demanded():
    finding = judge(OWN, names=("SITE_RACK",))

    assert finding.status is FAIL
    assert finding.summary == "SITE_RACK has another value, a7 is needed"
    assert finding.fix.settings == (EnvSet("SITE_RACK", "a7"),)


def test_a_hidden_value_is_a_value():
    finding = judge(VariableDemand(name="HF_TOKEN", verdict="required"), names=("HF_TOKEN",))

    assert finding.status is PASS


def test_facts_of_a_run_that_did_not_ask_do_not_say_that_it_is_not_set():
    finding = judge(OWN, asked=())

    assert finding.status is ERROR
    assert "SITE_RACK" in finding.reason


def test_the_fix_sets_and_unsets_and_says_what_it_cannot_know():
    finding = judge(HOME, OWN, MARGIN, NVTE_FWD_LAYERNORM_SM_MARGIN="16")

    assert finding.fix.settings == (
        EnvSet("SITE_RACK", "a7"),
        EnvUnset("NVTE_FWD_LAYERNORM_SM_MARGIN"),
    )
    assert "HF_HOME" in finding.fix.text
    assert "NVTE_FWD_LAYERNORM_SM_MARGIN=16: harmful: one GPU has no peers" in finding.evidence
