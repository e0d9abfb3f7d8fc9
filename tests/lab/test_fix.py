"""What `gpudoctor fix` prints does what it says: started again with it, the check is content."""

import shlex
import shutil
import subprocess

import msgspec
import pytest
import yaml

from gpudoctor import Fix, Status
from gpudoctor.launch import handout
from gpudoctor.launch.settings import EnvSet, Group, Memory, Mount, Pids, ShmSize
from tests.launch.examples import words
from tests.reported import report, result

MIB = 1 << 20
JOB = ["--nproc-per-node=4", "--only=shm-size", "--only=cgroup-pids"]
SETTINGS = (
    ShmSize(512 * MIB),
    Memory(1024 * MIB),
    Pids(4096),
    EnvSet("A", "b c"),
    Group(109),
    Mount("/scratch", tmpfs_bytes=64 * MIB),
)


@pytest.mark.parametrize("launcher", ["podman", "docker"])
def test_a_container_started_as_printed_is_healthy(
    examine_in_podman, gpudoctor, tmp_path, launcher
):
    bad = examine_in_podman(["--pids-limit=40"], *JOB)
    file = tmp_path / "report.json"
    file.write_bytes(msgspec.json.encode(bad))
    printed = subprocess.run(
        [gpudoctor, "fix", "--for", launcher, file], capture_output=True, text=True, check=True
    ).stdout
    [program, run, *flags, image, command] = words(printed.splitlines())

    good = examine_in_podman(flags, *JOB)

    assert {r.status for r in bad.results} == {Status.FAIL}
    assert [program, run, image, command] == [launcher, "run", "IMAGE", "COMMAND"]
    assert {r.status for r in good.results} == {Status.PASS}


def test_compose_takes_the_override(require, tmp_path):
    compose = shutil.which("docker-compose")
    require(compose, "docker-compose is not installed")
    text = handout.for_launcher(report((result("a-b", Status.FAIL, Fix(*SETTINGS)),)), "compose")
    (tmp_path / "compose.yaml").write_text(
        "services: {train: {image: torch, shm_size: 64m, command: python train.py}}"
    )
    (tmp_path / "override.yaml").write_text(text.replace("SERVICE", "train"))

    merged = subprocess.run(
        [str(compose), "-f", "compose.yaml", "-f", "override.yaml", "config"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert merged.returncode == 0, merged.stderr
    train = yaml.safe_load(merged.stdout)["services"]["train"]
    assert train["command"] == "python train.py"
    assert train["shm_size"] in ("512m", str(512 * MIB))
    assert train["environment"] == {"A": "b c"}


def test_kubectl_takes_the_patch(tmp_path):
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed")
    text = handout.for_launcher(report((result("a-b", Status.FAIL, Fix(*SETTINGS)),)), "kubernetes")
    (tmp_path / "patch.yaml").write_text(text.replace("CONTAINER", "train"))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "job"},
        "spec": {
            "containers": [
                {"name": "side", "image": "log"},
                {"name": "train", "image": "torch", "env": [{"name": "B", "value": "1"}]},
            ]
        },
    }
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))

    merged = subprocess.run(
        [
            *(kubectl, "patch", "--local", "--type", "strategic"),
            *("-f", "pod.yaml", "--patch-file", "patch.yaml", "-o", "yaml"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert merged.returncode == 0, merged.stderr
    spec = yaml.safe_load(merged.stdout)["spec"]
    [side, train] = sorted(spec["containers"], key=lambda container: container["name"])
    assert (side["image"], side.get("volumeMounts")) == ("log", None)
    assert train["image"] == "torch"
    assert {variable["name"] for variable in train["env"]} == {"A", "B"}
    assert {mount["mountPath"] for mount in train["volumeMounts"]} == {"/dev/shm", "/scratch"}
    assert spec["securityContext"] == {"supplementalGroups": [109]}


def test_the_admin_s_script_changes_the_node(podman):
    """In a container that is one, with its own root and its own /dev/shm."""
    bad = result("shm-size", Status.FAIL, Fix(ShmSize(128 * MIB)))
    script = handout.for_admin(report((bad,), launcher="host"))
    flags = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"]
    see = "df --output=size -B1 /dev/shm | tail -1"

    refused, done = (
        podman([*flags, *env], ["bash", "-c", f"touch /etc/fstab; bash -c {quoted}; {see}"])
        for quoted in [shlex.quote(script)]
        for env in ([], ["--env=GPUDOCTOR_READ=yes"])
    )

    assert "read this script first" in refused.stderr
    assert int(refused.stdout) < 128 * MIB
    assert int(done.stdout) == 128 * MIB
