"""The built-in profiles: what they demand, that they say why, and what they make of machines."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gpudoctor import (
    Absent,
    Container,
    Demands,
    Environment,
    Fact,
    JobPython,
    KernelDriver,
    LibraryDir,
    Machine,
    PackageDemand,
    Packages,
    Shm,
    Snapshot,
    Status,
    TorchBuild,
    VariableDemand,
    Workload,
    config,
    registry,
    run,
)
from gpudoctor.probes.demands import demands
from gpudoctor.profiles import saying
from gpudoctor.rules.job_variables import unsaid
from gpudoctor.rules.variables import known
from gpudoctor.snapshot import name_of
from tests.gpu_machines import H100, HGX, INSTINCT, machine
from tests.reports.nodes import facts_of

ROOT = Path(__file__).parent.parent
PROFILES = {name: config.profile(name) for name in config.profiles()}
CATALOGUE = registry.load(launch=True, cluster=True)
GIB = 1 << 30

every_profile = pytest.mark.parametrize("name", PROFILES)


def results(name: str, facts: dict[str, Any]) -> dict[str, tuple[Status, str]]:
    """What `check --profile NAME` says of a machine."""
    profile = PROFILES[name]
    catalogue = registry.load()
    request = run.Request(
        checks=catalogue.checks, catalogue=catalogue, profile=profile, demands=profile.demands()
    )
    found = run.judged(request, Snapshot("node", facts)).results
    return {result.id: (result.status, result.summary or result.reason) for result in found}


def whys(profile: config.Profile) -> dict[str, str]:
    of_packages = {demand.name: demand.why for demand in profile.packages}
    return of_packages | {demand.name: demand.why for demand in profile.variables}


def faults(found: dict[str, tuple[Status, str]]) -> dict[str, tuple[Status, str]]:
    bad = (Status.WARN, Status.FAIL, Status.ERROR)
    return {check: answer for check, answer in found.items() if answer[0] in bad}


def well_set(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """The machine with what the profile demands, and none of what it calls harmful."""
    asked = PROFILES[name].demands() or Demands()
    versions = {d.name.lower(): d.versions.lstrip("=>~") or "1.0" for d in asked.packages}
    values = {d.name: d.value for d in asked.variables if d.verdict == "required"}
    python = JobPython(path="/opt/job/bin/python", chosen_by="CONDA_PREFIX", version="3.8")
    environment = facts["environment"]
    assert isinstance(environment, Environment)
    return facts | {
        "environment": replace(environment, values={**environment.values, **values}),
        "packages": Packages(versions=versions),
        **({"job_python": python} if asked.packages else {}),
    }


MACHINES = {
    "8 H100": facts_of(HGX),
    "8 MI300X": facts_of(INSTINCT),
    "in docker, started as NVIDIA says": facts_of(
        HGX,
        container=Container(runtime="docker", launcher="docker", ipc_private=False),
        shm=Shm(total_bytes=64 * GIB, free_bytes=64 * GIB, filesystem="tmpfs"),
    ),
}


@every_profile
@pytest.mark.parametrize("where", MACHINES)
def test_no_alarm_on_a_machine_that_is_well_set(name, where):
    """What a profile adds to the default is silent where all is as it should be."""
    usual = faults(results("train", MACHINES[where]))
    found = faults(results(name, well_set(name, MACHINES[where])))

    assert {check: answer for check, answer in found.items() if check not in usual} == {}
    assert not [check for check in found if check.startswith("profile-")]


@pytest.mark.parametrize("name", ["train", "ddp", "single-gpu", "inference"])
def test_without_demands_there_is_nothing_to_say(name):
    nobody = demands(Machine(demands=PROFILES[name].demands()))
    found = results(name, {**MACHINES["8 H100"], "demands": nobody})
    answers = {check: answer for check, answer in found.items() if check.startswith("profile-")}

    assert len(answers) == 4
    assert {answer[0] for answer in answers.values()} == {Status.SKIP}
    assert all("--profile NAME" in answer[1] for answer in answers.values())


def test_without_demands_nothing_is_paid_for():
    """The rules of versions, models and images are not even imported."""
    look = ["check", "--only", "profile-*,resource-*", "--config", os.devnull, "-qq"]
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gpudoctor", *look],
        capture_output=True,
        text=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}

    assert "gpudoctor.rules.selection" in loaded
    assert not loaded & {
        "gpudoctor.rules.versions",
        "gpudoctor.rules.model_memory",
        "gpudoctor.rules.gradient_exchange",
        "gpudoctor.probes.image_walk",
        "gpudoctor.probes.image_manifest",
        "gpudoctor.probes.tar",
    }


def test_the_default_demands_nothing():
    default = PROFILES["train"]

    assert msgspec.structs.replace(default, about="", name="") == config.Profile(about="")
    assert default.demands() is None
    assert config.profile().demands() is None


@every_profile
def test_every_demand_says_why(name):
    profile = PROFILES[name]

    assert 20 < len(profile.about) < 90
    for name, why in whys(profile).items():
        assert len(why) > 20, name
        assert not why.endswith("."), name


@every_profile
def test_the_checks_that_it_leaves_things_to_are_there(name):
    ids = {check.id for check in CATALOGUE.checks}
    topics = {check.topic for check in CATALOGUE.checks}
    profile = PROFILES[name]
    texts = [*profile.notes, *whys(profile).values()]
    words = re.findall(rf"(?<![-\w])(?:{'|'.join(topics)})-[a-z0-9-]+", " ".join(texts))
    told = [word for word in words if word not in ("gpu-a", *PROFILES)]

    assert not [word for word in told if word not in ids and f"{word}*" not in " ".join(texts)]


@every_profile
def test_values_of_its_variables_can_be_seen(name):
    """Else the check could only say whether they are set."""
    assert not [d.name for d in PROFILES[name].variables if d.name not in known()]


@every_profile
def test_list_is_readable_at_80_columns(name):
    text = saying.as_text([PROFILES[name]])

    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"{name} ")
    for wanted in (PROFILES[name].packages, PROFILES[name].variables):
        assert all(demand.name in text for demand in wanted)
    for variable in PROFILES[name].variables:
        assert f": {variable.verdict}\n" in text


def test_what_is_inherited_is_shown():
    text = saying.as_text([PROFILES["nemo-single-gpu"]])

    assert "  inherits nemo\n" in text
    assert "workload: workers = 8, local-ranks = 1, nodes = 1\n" in text
    assert "--ulimit memlock=-1 is needed where there is InfiniBand" in text


def test_documentation_has_every_profile():
    written = (ROOT / "docs" / "profiles.md").read_text()

    assert written.endswith(saying.as_markdown(PROFILES.values())), "run `make docs`"


def test_as_json_they_can_be_read_again():
    rows = msgspec.json.decode(saying.as_json(PROFILES.values()))
    by_name = {row.pop("name"): row for row in rows}

    assert set(by_name) == set(PROFILES)
    assert by_name["cpm-9g"]["image-tag"] == "cpmlive-flash:0.0.4"
    assert by_name["cpm-9g"]["packages"][0]["versions"] == "==1.13.1"


OF_THE_GUIDE = {  # seed: the guide of NeMo on a single GPU
    "TORCH_NCCL_AVOID_RECORD_STREAMS": "1",
    "NCCL_NVLS_ENABLE": "0",
    "NVTE_DP_AMAX_REDUCE_INTERVAL": "0",
    "NVTE_ASYNC_AMAX_REDUCTION": "1",
    "CUDA_VISIBLE_DEVICES": "0",
    "CUDA_DEVICE_MAX_CONNECTIONS": "1",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "NVTE_FWD_LAYERNORM_SM_MARGIN": "16",
    "NVTE_BWD_LAYERNORM_SM_MARGIN": "16",
}


def of_environment(name: str, **values: str):
    asked = PROFILES[name].demands()
    assert asked is not None
    environment = Environment(values=values, names=tuple(values))
    return registry.get("profile-environment")(asked, environment)


@pytest.mark.parametrize(
    ("name", "status", "harmful"),
    [
        ("nemo", Status.PASS, []),
        (
            "nemo-single-gpu",
            Status.WARN,
            ["NVTE_FWD_LAYERNORM_SM_MARGIN", "NVTE_BWD_LAYERNORM_SM_MARGIN"],
        ),
    ],
)
def test_every_variable_of_the_nemo_guide_is_judged(name, status, harmful):
    finding = of_environment(name, **OF_THE_GUIDE)
    mentioned = OF_THE_GUIDE.keys() - ({"CUDA_VISIBLE_DEVICES"} if name == "nemo" else set())

    assert finding.status is status
    assert [s.name for s in (finding.fix.settings if finding.fix else ())] == harmful
    for variable in mentioned:
        assert any(line.startswith(f"{variable}=") for line in finding.evidence), variable


OF_ROCM = {  # seed: the guide of DDP on two nodes with AMD GPUs
    "HSA_OVERRIDE_GFX_VERSION": "12.0.1",
    "PYTORCH_ROCM_ARCH": "gfx1201",
    "NCCL_IB_DISABLE": "1",
    "NCCL_P2P_LEVEL": "NVL",
    "NCCL_BUFFSIZE": "2097152",
    "NCCL_SOCKET_IFNAME": "eth0",
    "NCCL_DEBUG": "INFO",
}


def test_every_variable_of_the_rocm_guide_is_spoken_of_and_left_to_its_check():
    finding = of_environment("rocm-ddp", **OF_ROCM)

    assert finding.status is Status.PASS
    assert [line.partition("=")[0] for line in finding.evidence] == [*OF_ROCM]
    for check in ("env-rocm", "nccl-environment", "nccl-interface"):
        assert check in " ".join(finding.evidence)


@pytest.mark.parametrize(
    ("env", "left"),
    [
        pytest.param({}, {"nodes": 2, "workers": 8}, id="nobody says more"),
        pytest.param({"SLURM_NNODES": "4"}, {"workers": 8}, id="Slurm"),
        pytest.param({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "1"}, {"workers": 8}, id="torchrun"),
        pytest.param({"WORLD_SIZE": "2"}, {"nodes": 2, "workers": 8}, id="docker run -e"),
        pytest.param({"SLURM_NNODES": "many"}, {"nodes": 2, "workers": 8}, id="nonsense"),
    ],
)
def test_the_launchers_own_word_on_the_shape_wins_over_a_profile(env, left):
    assert unsaid({"nodes": 2, "workers": 8}, env) == left


@pytest.mark.parametrize(
    ("by", "nodes"), [("SLURM_NNODES", 16), ("WORLD_SIZE", 16), ("GPU device nodes", 2), ("", 2)]
)
def test_facts_keep_what_the_launcher_said_of_the_shape(by, nodes):
    seen = Workload().told({"nodes": 16}, by) if by else Workload()
    request = run.Request(checks=(), catalogue=CATALOGUE, profile=PROFILES["rocm-ddp"])

    job = run.judged(request, Snapshot("node", {"workload": seen})).facts["workload"]

    assert job.nodes == nodes
    assert job.told_by["nodes"] == (by if nodes == 16 else "profile rocm-ddp")


SITE = "/opt/conda/envs/cpm-9g/lib/python3.8/site-packages"
A100 = machine(replace(H100, name="NVIDIA A100-SXM4-80GB", arch="sm_80"), 8, p2p="ok")
NCCL_WHEEL = LibraryDir(path=f"{SITE}/nvidia/nccl/lib", exists=True, libraries=("libnccl.so.2",))
OLD_NCCL = LibraryDir(
    path="/usr/local/nccl/lib", exists=True, libraries=("libnccl.so.2", "libnccl.so.2.8.4")
)


def cpm(*dirs: LibraryDir, **more: Fact | Absent) -> dict[str, Any]:
    """A node as the guide of CPM-9G asks for: conda, driver 470, CUDA 11.6, eight A100."""
    gpus = replace(A100, cuda=(11, 4), driver="470.57.02")
    versions = {
        d.name.lower(): d.versions.lstrip("=>") or "1.0" for d in PROFILES["cpm-9g"].packages
    } | {"nvidia-nccl-cu11": "2.19.3"}
    path = ":".join(found.path for found in dirs)
    facts: list[Fact] = [
        gpus,
        KernelDriver(nvidia="470.57.02", nvidia_uvm=True),
        Packages(versions=versions),
        JobPython(
            path="/opt/conda/envs/cpm-9g/bin/python",
            chosen_by="CONDA_PREFIX",
            version="3.8",
            packages={"torch": "1.13.1", "nvidia-nccl-cu11": "2.19.3"},
        ),
        TorchBuild(
            version="1.13.1",
            cuda=(11, 6),
            path=f"{SITE}/torch",
            nccl_wheels=("nvidia-nccl-cu11 2.19.3",),
        ),
        Environment(values={"LD_LIBRARY_PATH": path} if path else {}, library_dirs=dirs),
        Workload().told({"local_ranks": 8}, "8 GPU device nodes"),
    ]
    return {name_of(type(fact)): fact for fact in facts} | more


@pytest.mark.parametrize(
    ("dirs", "check", "status", "says"),
    [
        pytest.param((), "profile-packages", Status.PASS, "9 packages", id="packages"),
        pytest.param((), "torch-driver", Status.PASS, "has CUDA 11.4, torch CUDA 11.6", id="470"),
        pytest.param((), "torch-nccl", Status.PASS, "2.19.3", id="two NCCLs, none in the way"),
        pytest.param((NCCL_WHEEL,), "env-library-path", Status.PASS, "none hides", id="the guide"),
        pytest.param(
            (OLD_NCCL, NCCL_WHEEL),
            "env-library-path",
            Status.WARN,
            "libnccl 2.8.4 comes before the wheel's 2.19.3",
            id="the trap: a third, and older, comes first",
        ),
        pytest.param((), "profile-image", Status.SKIP, "--image-tar", id="no image file named"),
        pytest.param((), "profile-environment", Status.PASS, "1 variable", id="environment"),
    ],
)
def test_the_machine_of_the_cpm_guide(dirs, check, status, says):
    found = results("cpm-9g", cpm(*dirs))

    assert found[check][0] is status, found[check]
    assert says in found[check][1]


def test_a_driver_older_than_the_one_of_the_guide_is_too_old():
    gpus = replace(A100, cuda=(10, 2), driver="440.33.01")

    found = results("cpm-9g", cpm(gpus=gpus, kernel_driver=KernelDriver(nvidia="440.33.01")))

    assert found["torch-driver"][0] is Status.FAIL


def test_the_driver_of_the_guide_cannot_compile_ptx():
    facts = cpm()
    finding = registry.get("torch-driver")(
        facts["torch_build"], facts["gpus"], facts["kernel_driver"], None, None, None, None
    )

    assert "it cannot compile PTX of CUDA 11.6, which few programs ask for" in finding.evidence


def test_facts_without_the_packages_give_no_verdict():
    facts = cpm(packages=Absent("no profile demands packages"))

    assert results("cpm-9g", facts)["profile-packages"][0] is Status.ERROR


def test_demands_survive_the_way_to_another_node():
    """They travel as a fact when nodes are compared, and through a facts file."""
    for profile in PROFILES.values():
        asked = profile.demands()
        if asked:
            again = msgspec.convert(msgspec.to_builtins(asked), Demands)
            assert again == asked
            assert all(isinstance(d, PackageDemand) for d in again.packages)
            assert all(isinstance(d, VariableDemand) for d in again.variables)
