"""Batch scripts and srun lines -> what they ask for, and how they are changed."""

import pytest

from gpudoctor import GIB, KIB, MIB, Launch, LaunchMount, Ulimit
from gpudoctor.launch.settings import (
    Drop,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Memlock,
    Memory,
    Setting,
    ShmSize,
    Stack,
)
from gpudoctor.lint.slurm import LATE, LITERAL, read
from gpudoctor.lint.source import BadLaunch, Source, edited

TRAIN = "srun python train.py"


def job(*options: str, body: str = TRAIN) -> Launch:
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options or ["-t 1"]), "", body]
    (found,) = read(Source("job.sbatch", "\n".join(lines) + "\n"))
    return found.launch


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        pytest.param(["--nodes=2"], {"nodes": 2, "ranks": None, "tasks": None}, id="nodes"),
        pytest.param(["-N4 -J x"], {"nodes": 4, "name": "x"}, id="letters"),
        pytest.param(["-N 4", "--job-name x"], {"nodes": 4, "name": "x"}, id="values apart"),
        pytest.param(["--ntasks-per-node=8"], {"tasks": 8, "ranks": 8}, id="tasks per node"),
        pytest.param(["--tasks-per-node 8"], {"tasks": 8}, id="tasks per node, formerly"),
        pytest.param(["--nodes=2 -n 16"], {"nodes": 2, "tasks": 8}, id="tasks of all"),
        pytest.param(["-n 16"], {"nodes": None, "tasks": None}, id="tasks on who knows what"),
        pytest.param(["-N 3 -n 16"], {"tasks": None}, id="tasks that do not divide"),
        pytest.param(["-N 2-4 -n 16"], {"nodes": None, "tasks": None}, id="a range of nodes"),
        pytest.param(["--gres=gpu:4"], {"gpus": 4, "gpu_vendor": ""}, id="gres"),
        pytest.param(["--gres=gpu"], {"gpus": 1}, id="gres without a count"),
        pytest.param(["--gres=gpu:a100:4"], {"gpus": 4, "gpu_vendor": "nvidia"}, id="gres, type"),
        pytest.param(["--gres=gpu:mi250x:8"], {"gpus": 8, "gpu_vendor": "amd"}, id="gres, AMD"),
        pytest.param(["--gres=lustre:1,gpu:2(S:0)"], {"gpus": 2}, id="gres, several"),
        pytest.param(["--gres=nvme:1"], {"gpus": None}, id="gres of other things"),
        pytest.param(["--gpus-per-node=h100:8"], {"gpus": 8}, id="GPUs per node"),
        pytest.param(["--gpus=8"], {"gpus": 8}, id="GPUs of one node"),
        pytest.param(["-N2", "-G 16"], {"gpus": None}, id="GPUs of all nodes"),
        pytest.param(["--gpus-per-task=1", "--ntasks-per-node=4"], {"gpus": 4}, id="per task"),
        pytest.param(["--mem=64G"], {"memory_bytes": 64 * GIB}, id="memory"),
        pytest.param(["--mem=512"], {"memory_bytes": 512 * MIB}, id="memory, MiB"),
        pytest.param(["--mem=0"], {"memory_bytes": None}, id="all memory"),
        pytest.param(["--cpus-per-task=8", "--ntasks-per-node=4"], {"cpus": 32.0}, id="CPUs"),
        pytest.param(['-C "a100|h100"', "--exclusive"], {"unknown": ()}, id="quoted"),
        pytest.param(["-N2  # two of them"], {"nodes": 2}, id="a comment"),
        pytest.param(["--ntasks-per-n=2"], {"tasks": 2, "unknown": ()}, id="abbreviated"),
        pytest.param(["--gpu=4"], {"unknown": ("--gpu",)}, id="cut too short"),
        pytest.param(["--ntask-per-node=4"], {"unknown": ("--ntask-per-node",)}, id="misspelt"),
        pytest.param(["--zeroscreen=1"], {"unknown": ()}, id="a site's plug-in"),
        pytest.param(["--export=NONE"], {"open_fields": ("environment",)}, id="no environment"),
        pytest.param(
            ["--export=ALL,NCCL_DEBUG=INFO"], {"environment": {"NCCL_DEBUG": "INFO"}}, id="export"
        ),
        pytest.param(
            ["--nodes=$N"],
            {"nodes": None, "refused": {"#SBATCH --nodes=$N": LITERAL}},
            id="literal",
        ),
    ],
)
def test_options(options, fields):
    found = job(*options)

    assert {name: getattr(found, name) for name in fields} == fields


def test_options_behind_the_first_command_are_not_read():
    found = job("-N2", body="set -e\n#SBATCH --gres=gpu:4\n##SBATCH -N9\nsrun python train.py")

    assert found.refused == {"#SBATCH --gres=gpu:4": LATE}
    assert (found.gpus, found.nodes) == (None, 2)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        pytest.param("srun torchrun --nproc-per-node=8 t.py", {"ranks": 8}, id="torchrun"),
        pytest.param("torchrun --nproc-per-node=8 t.py", {"ranks": 8}, id="without srun"),
        pytest.param(
            'srun bash -c "torchrun --nproc-per-node=8 t.py"', {"ranks": 8}, id="in a shell"
        ),
        pytest.param(
            "srun -N1 -n1 hostname -I\nsrun --ntasks-per-node=4 python t.py\nsrun rm -r x",
            {"ranks": 4, "nodes": None},
            id="of several steps the one that trains",
        ),
        pytest.param("srun --gres=gpu:2 -l python t.py", {"gpus": 2}, id="the step's own options"),
        pytest.param(
            "srun --container-image=a.sqsh --container-mounts=/x:/data,/home python t.py",
            {
                "launcher": "pyxis",
                "image": "a.sqsh",
                "mounts": (
                    LaunchMount(target="/data", source="/x"),
                    LaunchMount(target="/home", source="/home"),
                ),
            },
            id="pyxis",
        ),
        pytest.param(
            "export A=1 B=$C\nD=2\nexport D\nE=3\nF=4 srun python t.py",
            {"environment": {"A": "1", "D": "2", "F": "4"}, "open_fields": ("environment.B",)},
            id="variables",
        ),
        pytest.param(
            "export A=1\nunset A\nset -a\nB=2\nsrun python t.py\nexport C=3",
            {"environment": {"B": "2"}},
            id="variables come and go",
        ),
        pytest.param(
            "ulimit -l unlimited\nulimit -Sn 4096\nulimit -s 8192\nsrun python t.py",
            {
                "ulimits": {
                    "memlock": Ulimit(None, None),
                    "nofile": Ulimit(4096, None),
                    "stack": Ulimit(8192 * KIB, 8192 * KIB),
                }
            },
            id="limits",
        ),
        pytest.param(
            'ulimit -n "$(ulimit -Hn)"\nsrun python t.py', {"ulimits": {}}, id="a limit, open"
        ),
        pytest.param(
            'N=8\nRUN="torchrun --nproc-per-node $N"\nsrun bash -c "$RUN t.py --at \\$X"',
            {"ranks": 8, "starter": "torchrun"},
            id="in variables",
        ),
        pytest.param(
            "O='--gres=gpu:2 -l'\nsrun $O python t.py", {"gpus": 2}, id="options in a variable"
        ),
        pytest.param("echo nothing", {"ranks": None, "only_looks": True}, id="trains nothing"),
    ],
)
def test_scripts(body, fields):
    found = job(body=body)

    assert {name: getattr(found, name) for name in fields} == fields


def test_lines():
    found = job("-N2", "--gres=gpu:4", body="export A=1\nulimit -s 8192\nsrun python t.py")

    assert {name: found.lines[name] for name in ("nodes", "gpus", "environment.A", "command")} == {
        "nodes": 2,
        "gpus": 3,
        "environment.A": 5,
        "command": 7,
    }
    assert found.lines["ulimits.stack"] == 6


def test_srun_alone():
    text = "srun -N2 --gres=gpu:2 python a.py\nls\nsrun hostname\ntime srun -n1 python b.py\n"
    found = read(Source("run.sh", text))

    assert [(each.line, each.launch.form) for each in found] == [(1, "srun step"), (4, "srun step")]
    assert text[found[0].start : found[0].end] == "srun -N2 --gres=gpu:2 python a.py"


@pytest.mark.parametrize("text", ["", "docker run image\n", "echo srun\n", "# srun python\n"])
def test_nothing_of_slurm(text):
    assert read(Source("run.sh", text)) == []


def test_broken():
    with pytest.raises(BadLaunch, match="line 3"):
        read(Source("job", '#!/bin/bash\n#SBATCH -N2\nsrun python "t.py\n'))


HEAD = "#!/bin/bash\n#SBATCH -N1\n"


@pytest.mark.parametrize(
    ("text", "setting", "expected"),
    [
        pytest.param(
            HEAD + TRAIN,
            GpuDevices(count=4),
            HEAD + "#SBATCH --gres=gpu:4\n" + TRAIN,
            id="ask for GPUs",
        ),
        pytest.param(
            HEAD + "#SBATCH --gres=gpu:a100:2  # two\n" + TRAIN,
            GpuDevices(count=4),
            HEAD + "#SBATCH --gres=gpu:a100:4  # two\n" + TRAIN,
            id="more GPUs of that type",
        ),
        pytest.param(
            HEAD + "#SBATCH -G 2\n" + TRAIN,
            GpuDevices(count=4),
            HEAD + "#SBATCH --gpus-per-node=4\n" + TRAIN,
            id="more GPUs",
        ),
        pytest.param(
            "  srun -N2 python t.py", GpuDevices(count=2), "  srun --gres=gpu:2 -N2 python t.py"
        ),
        pytest.param(
            HEAD + "#SBATCH --mem-per-cpu=1G\n" + TRAIN,
            Memory(64 * GIB),
            HEAD + "#SBATCH --mem=64G\n" + TRAIN,
            id="memory",
        ),
        pytest.param(
            HEAD + "#SBATCH --ntasks-per-node=8 --exclusive\n" + TRAIN,
            Drop("tasks"),
            HEAD + "#SBATCH --ntasks-per-node=1 --exclusive\n" + TRAIN,
            id="one task",
        ),
        pytest.param(
            HEAD + "#SBATCH --gpu=4\n" + TRAIN, Drop("unknown", "--gpu"), HEAD + TRAIN, id="drop"
        ),
        pytest.param(
            "srun --label --gpu=4 \\\n  python t.py",
            Drop("unknown", "--gpu"),
            "srun --label python t.py",
            id="drop from srun",
        ),
        pytest.param(
            HEAD + "#SBATCH --ntask-per-node 4\n" + TRAIN,
            Drop("unknown", "--ntask-per-node"),
            HEAD + "#SBATCH --ntasks-per-node 4\n" + TRAIN,
            id="spelled right",
        ),
        pytest.param(
            HEAD + "if x; then\n    srun python t.py\nfi\n",
            EnvSet("A", "b c"),
            HEAD + "if x; then\n    export A='b c'\n    srun python t.py\nfi\n",
            id="a variable",
        ),
        pytest.param(
            HEAD + "export A=1  # one\n" + TRAIN,
            EnvSet("A", "2"),
            HEAD + "export A=2  # one\n" + TRAIN,
            id="another value",
        ),
        pytest.param(HEAD + "export A=1\n" + TRAIN, EnvUnset("A"), HEAD + TRAIN, id="a line less"),
        pytest.param(
            HEAD + "export A=1 B=2 && " + TRAIN,
            EnvUnset("A"),
            HEAD + "export B=2 && " + TRAIN,
            id="a word less",
        ),
        pytest.param(
            HEAD + "B=2 A=1 " + TRAIN, EnvUnset("A"), HEAD + "B=2 " + TRAIN, id="before the command"
        ),
        pytest.param(
            HEAD + TRAIN, EnvUnset("A"), HEAD + "unset A\n" + TRAIN, id="set who knows where"
        ),
        pytest.param(
            HEAD + "ulimit -s unlimited\n" + TRAIN,
            Stack(64 * MIB),
            HEAD + "ulimit -S -s 65536\n" + TRAIN,
            id="another limit",
        ),
        pytest.param(
            HEAD + TRAIN, Memlock(), HEAD + "ulimit -S -l unlimited\n" + TRAIN, id="a limit"
        ),
        pytest.param(HEAD + TRAIN, ShmSize(GIB), HEAD + TRAIN, id="the node's affair"),
        pytest.param(
            "O='--gres=gpu:2 -l'\nsrun $O python t.py",
            GpuDevices(count=4),
            "O='--gres=gpu:2 -l'\nsrun $O python t.py",
            id="options in a variable",
        ),
    ],
)
def test_edits(text, setting: Setting, expected):
    source = Source("job.sbatch", text)
    (found,) = read(source)

    assert edited(source, found.edits([setting])) == expected


MULTI = "torchrun --nnodes=2 --nproc-per-node=4 t.py"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        pytest.param(MULTI, True, id="on the first node only"),
        pytest.param(f"A=1 {MULTI}", True, id="with a variable"),
        pytest.param("python -m torch.distributed.run --nnodes $SLURM_NNODES t.py", True),
        pytest.param(f"srun {MULTI}", False, id="a step"),
        pytest.param(f"$PREFIX {MULTI}", False, id="by what is not known"),
        pytest.param(f"ssh node1 {MULTI} &\n{MULTI}", False, id="by ssh"),
        pytest.param("torchrun --standalone --nproc-per-node=4 t.py", False, id="one node is used"),
        pytest.param("python t.py", False, id="no ranks"),
    ],
)
def test_what_runs_on_the_first_node_only(body, found):
    assert job("--nodes=2", "--gres=gpu:4", body=body).unstepped is found
    assert not job("--nodes=1", "--gres=gpu:4", body=body).unstepped


def test_srun_takes_it_to_the_others():
    text = f"#!/bin/bash\n#SBATCH --nodes=2\n{MULTI}\n"
    source = Source("job.sbatch", text)
    (found,) = read(source)

    assert edited(source, found.edits([Drop("unstepped")])) == text.replace(MULTI, f"srun {MULTI}")
