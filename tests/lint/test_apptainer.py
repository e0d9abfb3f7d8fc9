"""apptainer lines -> what they say, and how they are changed."""

import pytest

from gpudoctor import Launch, LaunchMount
from gpudoctor.launch.settings import Drop, EnvSet, GpuDevices, Mount, ShmSize
from gpudoctor.lint.apptainer import read
from gpudoctor.lint.source import Source, edited


def launch(text: str) -> Launch:
    (found,) = read(Source("run.sh", text))
    return found.launch


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param(
            "apptainer exec --nv a.sif python t.py",
            {"gpus": -1, "gpu_vendor": "nvidia", "image": "a.sif", "command": ("python", "t.py")},
            id="nv",
        ),
        pytest.param(
            "singularity run --rocm a.sif", {"gpus": -1, "gpu_vendor": "amd"}, id="singularity"
        ),
        pytest.param("srun -n4 apptainer -q exec a.sif x", {"gpus": None}, id="behind srun"),
        pytest.param("APPTAINER_NV=1 apptainer exec a.sif x", {"gpus": -1}, id="by a variable"),
        pytest.param(
            "#SBATCH --gres=gpu:mi250:4\napptainer exec a.sif x",
            {"gpus": None, "gpu_vendor": "amd"},
            id="the job asks for GPUs",
        ),
        pytest.param(
            "#SBATCH --gres=gpu:8\nmodule load PyTorch/2.2-rocm-5.6\nsingularity exec $SIF x",
            {"gpus": None, "gpu_vendor": "amd"},
            id="the script speaks of ROCm",
        ),
        pytest.param(
            "apptainer exec -B /a:/b:ro,/c -e a.sif x",
            {
                "mounts": (
                    LaunchMount(target="/b", source="/a", read_only=True),
                    LaunchMount(target="/c", source="/c"),
                )
            },
            id="binds",
        ),
        pytest.param("apptainer exec -C a.sif x", {"ipc": "private"}, id="contained"),
        pytest.param(
            "export APPTAINERENV_A=1 B=2\nSINGULARITYENV_C=3 apptainer exec --env D=4,E=$E a.sif x",
            {"environment": {"A": "1", "C": "3", "D": "4"}},
            id="variables",
        ),
        pytest.param("apptainer exec --nvv a.sif x", {"unknown": ("--nvv",)}, id="misspelt"),
        pytest.param("apptainer exec $IMG x", {"image": "", "open_words": ("$IMG",)}, id="open"),
        pytest.param(
            "apptainer exec a.sif torchrun --nproc-per-node=4 t.py", {"ranks": 4}, id="torchrun"
        ),
    ],
)
def test_reads(text, fields):
    found = launch(text)

    assert (found.form, found.launcher) == ("apptainer run", "apptainer")
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize(
    "text", ["apptainer build a.sif b.def", "apptainer", "echo exec a.sif", "apptainer pull x", ""]
)
def test_starts_no_container(text):
    assert read(Source("run.sh", text)) == []


@pytest.mark.parametrize(
    ("text", "setting", "expected"),
    [
        ("apptainer exec a.sif x", GpuDevices(), "apptainer exec --nv a.sif x"),
        ("apptainer exec a.sif x", GpuDevices("amd"), "apptainer exec --rocm a.sif x"),
        ("apptainer exec --nv a.sif x", GpuDevices(), "apptainer exec --nv a.sif x"),
        ("apptainer exec -C a.sif x", ShmSize(1), "apptainer exec --bind /dev/shm -C a.sif x"),
        (
            "apptainer exec -B /dev/shm a.sif x",
            ShmSize(1),
            "apptainer exec -B /dev/shm a.sif x",
        ),
        (
            "apptainer exec --env A=1 a.sif x",
            EnvSet("A", "2 3"),
            "apptainer exec --env 'A=2 3' a.sif x",
        ),
        (
            "apptainer exec a.sif x",
            Mount("/b", "/a", read_only=True),
            "apptainer exec --bind /a:/b:ro a.sif x",
        ),
        ("apptainer exec --nvv a.sif x", Drop("unknown", "--nvv"), "apptainer exec a.sif x"),
        (
            "apptainer exec --bindd /a a.sif x",
            Drop("unknown", "--bindd"),
            "apptainer exec --bind /a a.sif x",
        ),
    ],
)
def test_edits(text, setting, expected):
    source = Source("run.sh", text)
    (found,) = read(source)

    assert edited(source, found.edits([setting])) == expected
