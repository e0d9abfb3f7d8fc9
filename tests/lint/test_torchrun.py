"""torchrun and its like in a shell -> what they say, and how the script is changed."""

import pytest

from gpudoctor import Launch
from gpudoctor.launch.settings import EnvSet, EnvUnset
from gpudoctor.lint.source import Source, edited
from gpudoctor.lint.torchrun import read


def launches(text: str) -> list[Launch]:
    return [found.launch for found in read(Source("run.sh", text))]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param(
            "torchrun --nnodes=2 --nproc_per_node 8 t.py", {"ranks": 8, "nodes": 2}, id="torchrun"
        ),
        pytest.param(
            "python -m torch.distributed.run --nproc-per-node=2 t.py", {"ranks": 2}, id="module"
        ),
        pytest.param("accelerate launch --num_processes 4 t.py", {"ranks": 4}, id="accelerate"),
        pytest.param("nohup torchrun --nproc-per-node=2 t.py &", {"ranks": 2}, id="behind nohup"),
        pytest.param("gpudoctor exec -- torchrun --nproc-per-node=2 t.py", {"ranks": 2}, id="ours"),
        pytest.param("torchrun --nproc-per-node=$N t.py", {"ranks": None}, id="open"),
        pytest.param(
            "export A=1\nCUDA_VISIBLE_DEVICES=0 torchrun t.py",
            {"environment": {"A": "1", "CUDA_VISIBLE_DEVICES": "0"}},
            id="variables",
        ),
    ],
)
def test_reads(text, fields):
    (found,) = launches(text)

    assert (found.form, found.launcher) == ("torchrun", "host")
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("python train.py", id="no launcher"),
        pytest.param("docker run image torchrun t.py", id="docker's"),
        pytest.param("srun torchrun t.py", id="srun's"),
        pytest.param("apptainer exec a.sif torchrun t.py", id="apptainer's"),
        pytest.param("#SBATCH -N1\ntorchrun t.py", id="a batch script's"),
        pytest.param("echo torchrun t.py", id="only said"),
        pytest.param("pip install torchrun", id="installed"),
    ],
)
def test_belongs_to_others(text):
    assert launches(text) == []


@pytest.mark.parametrize(
    ("text", "setting", "expected"),
    [
        ("A=1 torchrun t.py\n", EnvUnset("A"), "torchrun t.py\n"),
        ("env A=1 torchrun t.py\n", EnvUnset("A"), "env torchrun t.py\n"),
        ("export A=1\ntorchrun t.py\n", EnvUnset("A"), "torchrun t.py\n"),
        ("torchrun t.py\n", EnvSet("A", "1"), "export A=1\ntorchrun t.py\n"),
        ("\ttorchrun t.py", EnvSet("A", "1"), "\texport A=1\n\ttorchrun t.py"),
    ],
)
def test_edits(text, setting, expected):
    source = Source("run.sh", text)
    (found,) = read(source)

    assert edited(source, found.edits([setting])) == expected
