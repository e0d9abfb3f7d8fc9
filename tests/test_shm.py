"""`gpudoctor shm`: what it prints, and what a mistake is answered with."""

import json
import os
import re
import subprocess
import sys
import uuid

import pytest

GPUDOCTOR = [sys.executable, "-m", "gpudoctor", "shm"]
FIGURE = ["--gpus", "8", "--per-gpu", "6", "--per-process", "5.75MB"]
ROWS = {
    **{1: (8, "46 MiB", "512 MiB"), 2: (16, "92 MiB", "512 MiB"), 3: (24, "138 MiB", "512 MiB")},
    **{4: (32, "184 MiB", "512 MiB"), 5: (40, "230 MiB", "512 MiB"), 6: (48, "276 MiB", "1 GiB")},
    **{7: (56, "322 MiB", "1 GiB"), 8: (64, "368 MiB", "1 GiB"), 9: (72, "414 MiB", "1 GiB")},
    **{10: (80, "460 MiB", "1 GiB"), 11: (88, "506 MiB", "1 GiB"), 12: (96, "552 MiB", "1 GiB")},
}


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GPUDOCTOR, *args], capture_output=True, text=True, timeout=60)


def answer(*args: str):
    return json.loads(run(*args, "-f", "json").stdout)


def test_the_table_of_a_figure():
    said = run(*FIGURE)
    found = re.findall(r"^  ([ >]) +(\d+) +(\d+) +(\S+ MiB) +(\S+ [MG]iB)$", said.stdout, re.M)

    assert said.returncode == 0
    assert {int(row[1]): (int(row[2]), *row[3:]) for row in found} == ROWS
    assert [row[1] for row in found if row[0] == ">"] == ["6"]


def test_a_figure_says_its_arithmetic_the_other_sizes_and_the_trap():
    said = run(*FIGURE).stdout

    assert "need: 8 GPUs x 6 processes x 5.75 MiB = 276 MiB" in said
    assert "276 MiB and 30 % = 358.8 MiB, in whole GiB: 1 GiB" in said
    assert "at least: 512 MiB" in said
    assert "generous: 2 GiB" in said
    assert "NCCL 2.20 takes 5.5 MiB, of 2.28 32.6 MiB" in said


@pytest.mark.parametrize(
    ("launchers", "lines"),
    [
        pytest.param(
            [],
            ["docker run --shm-size=1g IMAGE", "    shm_size: 1g", "      sizeLimit: 1Gi"],
            id="docker, compose and kubernetes when none is named",
        ),
        pytest.param(
            ["--for", "host", "--for", "podman"],
            ["mount -o remount,rw,nosuid,nodev,size=1g /dev/shm", "podman run --shm-size=1g"],
            id="those that are named",
        ),
    ],
)
def test_lines_for_launchers(launchers, lines):
    said = run(*FIGURE, *launchers).stdout

    assert all(re.search(rf"^ +{re.escape(line)}", said, re.M) for line in lines)
    assert ("compose:" in said) == (not launchers)


def test_other_numbers_of_processes():
    found = answer("--processes", "10", "--per-process", "100m")

    assert (found["processes"], found["need_bytes"], found["table"]) == (10, 1000 << 20, [])
    assert found["recommended_bytes"] == 2 << 30


def test_more_on_each_gpu_than_the_table_has():
    rows = answer("--gpus", "2", "--per-gpu", "20", "--per-process", "1m")["table"]

    assert [row["per_gpu"] for row in rows] == [*range(1, 13), 20]


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        pytest.param(
            ["--gpus", "8", "--nnodes", "2", "--p2p", "--nccl", "2.27.3"],
            ["NCCL 2.27 proxy: 8 x 31.5 MiB = 252 MiB"],
            id="two nodes",
        ),
        pytest.param(
            ["--gpus", "4", "--nnodes", "1", "--no-p2p"],
            ["NCCL without P2P: 7 edges x 2 channels x 9.1 MiB = 128 MiB"],
            id="PCIe",
        ),
        pytest.param(
            [
                *("--gpus", "1", "--nnodes", "1", "--workers", "8", "--batch", "64"),
                *("--sample-shape", "3x224x224", "--dtype", "uint8", "--loaders", "2"),
            ],
            ["loaders: 1 rank x 2 x (8 workers x 2 + 2) batches x 9.1 MiB = 330 MiB"],
            id="images",
        ),
        pytest.param(
            ["--gpus", "8", "--per-gpu", "6", "--ranks", "1", "--nnodes", "1", "--workers", "0"],
            ["together: 64 MiB"],
            id="jobs of one rank side by side",
        ),
        pytest.param(
            ["--gpus", "8", "--per-gpu", "6", "--nnodes", "1", "--workers", "0", "--no-p2p"],
            ["NCCL without P2P: 84 edges x 2 channels x 9.1 MiB = 1.5 GiB"],
            id="jobs of 8 ranks side by side",
        ),
    ],
)
def test_the_need_of_a_model(args, lines):
    found = answer(*args)

    assert set(lines) <= set(found["arithmetic"])
    assert found["exit_code"] == 0


def test_the_need_is_the_one_that_check_asks_for():
    job = ["--nnodes", "2", "--workers", "8", "--batch-bytes", "64m"]
    report = subprocess.run(
        [*GPUDOCTOR[:-1], "check", "shm-size", "--nproc-per-node", "8", *job, "-f", "json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    (result,) = json.loads(report.stdout)["nodes"][0]["results"]

    assert set(result["evidence"]) <= set(answer("--gpus", "8", *job)["arithmetic"])


def test_the_version_of_nccl_is_that_of_the_jobs_python(tmp_path):
    version = "{}.{}".format(*sys.version_info)
    site = tmp_path / f"lib/python{version}/site-packages/nvidia_nccl_cu12-2.21.5.dist-info"
    site.mkdir(parents=True)
    (tmp_path / "pyvenv.cfg").write_text(f"version = {version}.7\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)

    found = answer("--gpus", "8", "--nnodes", "2", "--python", str(tmp_path / "bin/python"))

    assert any(line.startswith("NCCL 2.21 proxy: 8 x 7 MiB") for line in found["arithmetic"])


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        pytest.param(["--measure"], 2, "a number, or a pattern", id="nobody named"),
        pytest.param(["train"], 2, "say --measure", id="named, but not to be measured"),
        pytest.param(["--measure", "("], 2, "no pattern", id="no pattern"),
        pytest.param(["--watch"], 2, "for --measure", id="nobody to watch"),
        pytest.param(["--measure", "a", "--watch", "b"], 2, "'b'", id="seconds that are none"),
        pytest.param(["--measure", "a", "--duration", "1"], 2, "--watch", id="once, for a while"),
        pytest.param(["--measure", "a", "--per-process", "1m"], 2, "not both", id="two figures"),
        pytest.param(["--per-process", "1m", "--workers", "4"], 2, "the model", id="figure, model"),
        pytest.param(["--processes", "4", "--gpus", "8"], 2, "--per-gpu", id="two counts"),
        pytest.param(["--batch", "4"], 2, "belong together", id="half a batch"),
        pytest.param(
            ["--batch", "4", "--sample-shape", "3x4", "--batch-bytes", "1m"],
            2,
            "--batch-bytes, or",
            id="two batches",
        ),
        pytest.param(["--gpus", "8", "--ranks", "3"], 2, "jobs of 3 ranks", id="half a job"),
        pytest.param(["--sample-shape", "3x"], 2, "3x224x224", id="no shape"),
        pytest.param(["--nccl", "new"], 2, "2.27", id="no version"),
        pytest.param(["--per-process", "much"], 2, "512MiB", id="no size"),
        pytest.param(
            ["--measure", "no such process 0b5c"], 3, "nothing measured", id="nobody there"
        ),
    ],
)
def test_mistakes(args, code, says):
    said = run(*args)

    assert said.returncode == code
    assert says in said.stderr
    assert said.stdout == ""


GROWING = """
import sys
with open(sys.argv[1], "wb", buffering=0) as file:
    file.write(bytes(2 << 20))
    print("there", flush=True)
    for line in sys.stdin:
        file.write(bytes(int(line) << 20))
"""


def test_watch_says_a_new_high_and_ends_with_the_process(require):
    require(os.access("/dev/shm", os.W_OK), "no /dev/shm to write to")
    path = f"/dev/shm/gpudoctor-{uuid.uuid4().hex}"
    pipe = subprocess.PIPE
    holder = subprocess.Popen(
        [sys.executable, "-c", GROWING, path], stdin=pipe, stdout=pipe, text=True
    )
    try:
        holder.stdout.readline()
        watch = [*GPUDOCTOR, "--measure", str(holder.pid), "--watch=3600", "--duration=60"]
        watching = subprocess.Popen(watch, stdout=pipe, text=True)
        first = watching.stdout.readline()
        holder.stdin.write("30\n")
        holder.stdin.flush()
        higher = next(line for line in watching.stdout if " holds 32 MiB;" in line)
        holder.communicate()
        rest = watching.communicate(timeout=60)[0]
    finally:
        os.unlink(path)

    assert "new high: 1 process holds 2 MiB; /dev/shm" in first
    assert "new high: 1 process" in higher
    assert "need: 1 process x 32 MiB = 32 MiB" in rest
    assert watching.returncode in (0, 1)  # whatever else is in this /dev/shm


def test_who_holds_nothing_halves_no_figure(require):
    """The pattern of a job fits whoever looks at its script as well."""
    require(os.access("/dev/shm", os.W_OK), "no /dev/shm to write to")
    path = f"/dev/shm/gpudoctor-{uuid.uuid4().hex}"
    pipe = subprocess.PIPE
    words = [[sys.executable, "-c", code, path] for code in (GROWING, "input()")]
    holder, other = (subprocess.Popen(each, stdin=pipe, stdout=pipe, text=True) for each in words)
    try:
        holder.stdout.readline()
        found = answer("--measure", path, "--processes", "8")
    finally:
        os.unlink(path)
        holder.communicate()
        other.communicate("\n")

    assert len(found["measured"]["processes"]) == 2
    assert found["need_bytes"] == 8 * (2 << 20)
    assert "1 process holds nothing of /dev/shm: not counted" in found["remarks"]


def test_options_of_the_environment_do_not_contradict(monkeypatch):
    monkeypatch.setenv("GPUDOCTOR_WORKERS", "4")

    assert run(*FIGURE).returncode == 0
