"""`gpudoctor lint`: what is found in launches and where, how it is corrected, what is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpudoctor import Demands, Launch, VariableDemand, registry
from gpudoctor.cli.output import render
from gpudoctor.lint.examine import fields_of
from gpudoctor.report import Page
from tests.launch.examples import EVERY

from .linted import lint, trouble

ROOT = Path(__file__).parent.parent.parent
GPUDOCTOR = [sys.executable, "-m", "gpudoctor"]
SMALL = (
    "docker run --gpus 8 nvcr.io/nvidia/pytorch:25.01-py3 torchrun --nproc-per-node=8 train.py\n"
)
GOOD = SMALL.replace("--gpus 8", "--gpus 8 --shm-size=8g")
SECRET = "docker run --gpus 8 -e WANDB_API_KEY=abcdef12 -e MY_PASS=hunter22 image torchrun x.py\n"


def run(*words: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*GPUDOCTOR, "lint", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **settings,
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param(
            "docker run --rm --gpus all nvcr.io/nvidia/nemo:25.04 torchrun --nproc-per-node=8 x.py",
            {"shm-size": "fail"},
            id="docker's default",
        ),
        pytest.param(
            "docker run --gpus all --shm-size=4g --sh cpmlive-flash:0.0.4 bash",
            {"launch-flags": "fail"},
            id="--sh",
        ),
        pytest.param(
            "docker run --gpus 8 --ipc=host --ulimit stack=-1 image torchrun --nproc-per-node=8 x",
            {"limits-stack": "warn"},
            id="stack unlimited",
        ),
        pytest.param(
            "docker run --gpus 8 --ipc=host --shm-size=8G image python x.py",
            {"launch-ipc": "warn"},
            id="two sizes",
        ),
        pytest.param(
            "docker run --device=/dev/kfd --group-add render --ipc=host rocm/pytorch python x.py",
            {"launch-devices": "fail", "launch-groups": "warn"},
            id="AMD",
        ),
        pytest.param(
            "docker run --gpus 2 --ipc=host -e CUDA_VISIBLE_DEVICES=0 image"
            " torchrun --nproc-per-node=2 x.py",
            {"launch-ranks": "fail"},
            id="one GPU left",
        ),
        pytest.param(
            "docker run --gpus 1 --ipc=host -p 29500:29500 image torchrun --nnodes=2 x.py",
            {"launch-ports": "fail"},
            id="bridge",
        ),
        pytest.param(
            "docker run --gpus 2 --ipc=host -e NCCL_P2P_DISABLE=1 -e NCCL_SOCKET_IFNAM=eth0 image"
            " torchrun --nproc-per-node=2 x.py",
            {"nccl-environment": "warn"},
            id="variables",
        ),
        pytest.param(
            "docker run --gpus 8 --memory 4g --ipc=host image torchrun --nproc-per-node=8 x.py",
            {"cgroup-memory": "fail", "shm-cgroup": "pass"},
            id="memory",
        ),
        pytest.param(
            "docker run --gpus 8 --ipc=host --ulimit nofile=1024 image"
            " torchrun --nproc-per-node=8 --nnodes=1 x.py",
            {"limits-nofile": "warn"},
            id="files",
        ),
        pytest.param(
            "docker run --gpus 2 --ipc=host --ulimit nproc=10 image torchrun x.py",
            {"limits-nproc": "fail"},
            id="processes of a user",
        ),
        pytest.param(
            "docker run --runtime=nvidia nvcr.io/nvidia/pytorch:25.01-py3 python train.py",
            {"shm-size": "warn"},
            id="GPUs by the runtime",
        ),
        pytest.param(
            "docker run --gpus 8 --ipc=host --network=host --device=/dev/infiniband"
            " --ulimit memlock=65536 image torchrun --nproc-per-node=8 --nnodes=2 x.py",
            {"limits-memlock": "fail"},
            id="RDMA",
        ),
        pytest.param(
            "podman run --device nvidia.com/gpu=all --ipc=host --pids-limit 100 image"
            " torchrun --nproc-per-node=8 x.py",
            {"cgroup-pids": "fail"},
            id="processes",
        ),
    ],
)
def test_faults(line, found):
    expected = {name: status for name, status in found.items() if status != "pass"}

    assert trouble(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(GOOD, id="said and right"),
        pytest.param(
            "docker run --gpus 2 --ipc=host --ulimit nproc=100000:100000 image torchrun x.py",
            id="a limit of processes",
        ),
        pytest.param(
            "docker run --rm --gpus all --ipc=host --ulimit memlock=-1 --ulimit stack=67108864"
            " -v $(pwd):/workspace -w /workspace nvcr.io/nvidia/nemo:25.04 python train.py",
            id="NGC's own advice",
        ),
        pytest.param(
            "docker run -it --device=/dev/kfd --device=/dev/dri --group-add video --ipc=host"
            " --cap-add=SYS_PTRACE --security-opt seccomp=unconfined rocm/pytorch:latest",
            id="AMD's own advice",
        ),
        pytest.param(
            "docker run --gpus all --network host --ipc=host --device=/dev/infiniband"
            " --cap-add IPC_LOCK --ulimit memlock=-1 -e MASTER_ADDR=10.0.0.1 -e NCCL_DEBUG=WARN"
            " image torchrun --nproc-per-node=8 --nnodes=2 --rdzv-endpoint=10.0.0.1:29500 x.py",
            id="two nodes",
        ),
        pytest.param(
            "podman run --device nvidia.com/gpu=all --security-opt label=disable --shm-size=16g"
            " image torchrun --nproc-per-node=8 train.py",
            id="podman",
        ),
        pytest.param("docker run --rm --gpus all nvidia/cuda:12.4.1-base nvidia-smi", id="looks"),
        pytest.param("docker run --rm nvidia/cuda:12.4.1-devel make -j8", id="a build"),
        pytest.param("docker run --rm python:3.12 pytest -q", id="CI without a GPU"),
        pytest.param(
            "docker run -d -p 5432:5432 -e POSTGRES_PASSWORD=x postgres:16", id="database"
        ),
        pytest.param("docker run -d --name web -p 80:80 -v web:/usr/share/nginx nginx", id="web"),
        pytest.param("docker run $FLAGS --gpus all image torchrun --nproc-per-node=8 x", id="any"),
        pytest.param(
            'docker run --gpus all --shm-size="$SHM" image torchrun --nproc-per-node=8 x', id="size"
        ),
        pytest.param(
            'docker run "${ARGS[@]}" "$IMAGE" torchrun --nproc-per-node=8 x.py', id="an array"
        ),
        pytest.param(
            "docker run --gpus 1 --shm-size=1g image torchrun --nproc-per-node=1 x.py",
            id="one rank",
        ),
        pytest.param(
            "kubectl apply -f x.yaml; docker build -t a . ; docker push a", id="no launch"
        ),
    ],
)
def test_healthy_controls(line):
    assert trouble(line) == {}


def test_a_finding_has_its_line():
    text = (
        "#!/bin/bash\n\n"
        + SMALL
        + "docker run \\\n  --gpus all \\\n  --ipc=host \\\n  --shm-size=1g i\n"
    )

    report, _ = lint(text)

    places = {r.id: (r.place.file, r.place.line) for r in report.results if r.fixes}
    assert places == {"shm-size": ("run.sh", 3), "launch-ipc": ("run.sh", 7)}
    assert [node.name for node in report.nodes] == ["run.sh:3 docker run", "run.sh:4 docker run"]


def test_the_plan_is_the_line_corrected():
    report, _ = lint(f"set -e\n{SMALL}")

    (step,) = report.next_steps
    assert step.text == "run.sh, line 2, corrected:"
    assert "--shm-size=8g" in step.command
    assert trouble(step.command) == {}


def test_what_was_corrected_is_well():
    text = (
        "docker run -itp 29500:29500 \\  # rendezvous\n  --ipc=host --shm-size=1g --sh \\\n"
        "  --gpus 2 -e CUDA_VISIBLE_DEVICES=0 --ulimit stack=-1 --ulimit nofile=10 \\\n"
        "  --group-add render image torchrun --nproc-per-node=4 --nnodes=2 x.py\n"
    )
    found = trouble(text)

    _, (judged,) = lint(text)

    assert {"launch-flags", "launch-ports", "launch-ranks", "limits-stack"} <= set(found)
    assert trouble(judged.corrected) == {}


def test_nothing_can_be_said_of_what_may_say_more():
    report, _ = lint("docker run $FLAGS --rm image torchrun --nproc-per-node=8 x.py")

    shm = next(result for result in report.results if result.id == "shm-size")
    assert shm.reason == "not known before it runs: $FLAGS"
    assert not [r for r in report.results if r.id.startswith("env-") and r.status.value == "pass"]


@pytest.mark.parametrize("name", registry.formats())
def test_every_format_renders_it_and_tells_no_secret(name):
    report, _ = lint(SMALL + SECRET)

    text = render(report, name, Page(width=100, verbosity=1))

    assert "shm-size" in text or name == "npd"  # which speaks of nodes only
    assert "abcdef12" not in text
    assert "hunter22" not in text


def test_every_setting_is_said_somewhere():
    fields = [field for setting in EVERY.values() for field in fields_of(setting)]

    names = {field.partition(".")[0] for field in fields}
    assert names <= {"environment", "ulimits", *Launch.__struct_fields__}


def test_exit_codes():
    assert run("-", input=SMALL).returncode == 1
    assert run("-", input=GOOD).returncode == 0
    assert run("-", input="docker run --gpus 2 --ipc=host --shm-size=1g i\n").returncode == 0
    assert (
        run("--strict", "-", input="docker run --gpus 2 --ipc=host --shm-size=1g i\n").returncode
        == 1
    )
    nothing = run("-", input="echo hello\n")
    assert nothing.returncode == 3
    assert "stdin: no launch was found in it" in nothing.stderr


def test_a_command_alone_is_printed_corrected():
    ended = run("--diff", "-", input=SMALL)

    assert ended.returncode == 1
    assert ended.stdout == SMALL.replace("nvcr.io", "\\\n  --shm-size=8g \\\n  nvcr.io")
    assert trouble(ended.stdout) == {}


def test_diff_is_taken_by_patch(tmp_path, require):
    require(os.path.exists("/usr/bin/patch"), "patch is not installed")
    script = tmp_path / "train.sh"
    script.write_text(f"#!/bin/sh\n{SMALL}\n\n\n\n\n\n\n\n# no end of line\n{SMALL}"[:-1])
    diff = run("--diff", "train.sh", cwd=tmp_path).stdout

    subprocess.run(["patch", "-p0"], input=diff, text=True, cwd=tmp_path, check=True)

    assert trouble(script.read_text()) == {}
    assert run("--diff", "train.sh", cwd=tmp_path).stdout == ""


def test_json_of_several_files(tmp_path):
    for name, text in (("a.sh", SMALL), ("b.sh", GOOD)):
        (tmp_path / name).write_text(text)

    report = json.loads(run("a.sh", "b.sh", "-f", "json", cwd=tmp_path).stdout)

    assert [node["name"] for node in report["nodes"]] == ["a.sh:1 docker run", "b.sh:1 docker run"]
    assert [r["place"]["file"] for r in report["nodes"][0]["results"]][:1] == ["a.sh"]
    assert report["nodes"][0]["facts"]["launch"]["form"] == "docker run"


def test_checks_can_be_chosen_and_the_job_told():
    assert run("--skip", "shm-*", "-", input=SMALL).returncode == 0
    assert run("--only", "launch-*", "-", input=SMALL).returncode == 0
    assert run("--nproc-per-node", "2", "-", input="docker run --gpus all i\n").returncode == 1
    assert "no check is left" in run("--only", "gpu-count", "-", input=SMALL).stderr


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"\x7fELF\n\0\0", "line 2: not text", id="binary"),
        pytest.param(b"a\n\xff\xfe", "line 2: not UTF-8", id="not UTF-8"),
        pytest.param(b"a " * 3_000_000, "more than 1 MiB", id="6 MB"),
        pytest.param(b"docker run 'a\n", "line 1: a ' that is never closed", id="quote"),
        pytest.param(b"services: {a: {image: x\n", "line 2", id="YAML"),
        pytest.param(SMALL.encode() * 201, "line 201: more than 200 launches", id="too many"),
    ],
)
def test_broken_input(raw, says, tmp_path):
    (tmp_path / "x").write_bytes(raw)

    ended = run("x", cwd=tmp_path)

    assert ended.returncode == 2
    assert f"x: {says}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("none.sh", "No such file", id="missing"),
        pytest.param(".", "Is a directory", id="directory"),
        pytest.param("README.md", "a script, a manifest", id="Markdown"),
        pytest.param("values.yaml", "neither `services:` nor `apiVersion:`", id="another YAML"),
    ],
)
def test_what_is_no_launch_file(name, says, tmp_path):
    for file in ("README.md", "values.yaml"):
        (tmp_path / file).write_text("replicas: 3\n")

    ended = run(name, cwd=tmp_path)

    assert ended.returncode == 2
    assert says in ended.stderr


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    assert run("pipe", cwd=tmp_path).returncode == 3


def test_a_check_of_a_machine_imports_none_of_it():
    program = (
        "import sys; from gpudoctor import registry; registry.load();"
        "print([n for n in sys.modules if 'checks.launch' in n or 'gpudoctor.lint' in n])"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ended.stdout == "[]\n"


def test_a_launch_check_is_not_for_machines():
    ended = subprocess.run(
        [*GPUDOCTOR, "check", "launch-flags"], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "gpudoctor lint FILE" in ended.stderr


def test_the_manual_shows_what_it_says():
    manual = (ROOT / "docs" / "lint.md").read_text()
    command, *shown = re.findall(r"```\n\$ (.*?)```", manual, re.DOTALL)[0].splitlines()
    (line,) = re.findall(r"echo '(.*)'", command)

    said = run("-q", "-", input=line, env={**os.environ, "PYTHONUTF8": "1"}).stdout.splitlines()

    assert [text for text in shown if text != "  ..." and text not in said] == []


def test_files_of_the_configuration_are_not_written(tmp_path):
    (tmp_path / "gpudoctor.toml").write_text('output = ["json=node.json"]\n')

    run("-", input=SMALL, cwd=tmp_path)

    assert not (tmp_path / "node.json").exists()


@pytest.mark.parametrize(
    ("verdict", "said", "status"),
    [
        pytest.param("harmful", "-e NCCL_NVLS_ENABLE=0", "warn", id="harmful"),
        pytest.param("harmless", "-e NCCL_NVLS_ENABLE=0", "skip", id="harmless"),
        pytest.param("harmful", "", "skip", id="not said"),
        pytest.param("required", "", "skip", id="required: the image may have it"),
    ],
)
def test_variables_are_judged_by_the_profile(verdict, said, status):
    one = VariableDemand(name="NCCL_NVLS_ENABLE", value="0", verdict=verdict)
    line = GOOD.replace("--shm-size", f"{said} --shm-size")
    report, _ = lint(line, demands=Demands(by="profile ours", variables=(one,)))

    found = {result.id: result.status.value for result in report.results}
    assert found["profile-environment"] == status
