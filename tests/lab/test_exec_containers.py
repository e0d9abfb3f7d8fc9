"""The hook as process 1 of real containers, of podman and of docker."""

import os
import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpudoctor import hooks, registry

from .conftest import INSIDE, Run, python_of, read_only

HERE = Path(__file__).parent
CHECKED = "gpudoctor-lab/checked"
EXEC = [f"{INSIDE}/bin/python", "-m", "gpudoctor", "exec"]
QUICK = [*EXEC, "--only", "shm-write", "--"]
FORKING = '''
import os, subprocess, time
from gpudoctor import Fact, Finding, Machine, check, ok, probe

class Forks(Fact, frozen=True, kw_only=True):
    x: int = 0

@probe(isolated=True, timeout=float(os.environ.get("PATIENCE", "0.5")))
def forks(machine: Machine) -> Forks:
    for seconds in ("0", "1000"):
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", seconds])
    print("noise", flush=True)
    open("/tmp/started", "w").close()
    time.sleep(1000)
    return Forks()

@check(owner="job")
def site_forks(forks: Forks) -> Finding:
    """It ends."""
    return ok("yes")
'''


@pytest.fixture(params=["docker", "podman"])
def run(request) -> Run:
    """`run(flags, command)`: what a command does in a container of either."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def forking(public) -> Iterator[str]:
    """The flag for checks of which one hangs, having started processes of its own."""
    folder = public / f"checks-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    (folder / "forks.py").write_text(FORKING)
    yield f"--volume={folder}:/checks:ro"
    shutil.rmtree(folder)


def test_streams_are_the_commands_alone(run):
    raw = bytes(range(256)) * 4096
    ended = run(["--interactive"], [*EXEC, "--", "cat"], input=raw, text=False)

    assert (ended.returncode, ended.stdout) == (0, raw)
    assert b"gpudoctor" in ended.stderr


def test_every_exit_code_is_the_commands(podman):
    script = """
        for code in $(seq 0 255); do
            "$@" sh -c "exit $code" 2>/dev/null
            [ $? = $code ] || echo $code
        done
    """
    ended = podman([], ["sh", "-c", script, "sh", *QUICK], timeout=300)

    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code_of_the_container(run, code):
    assert run([], [*QUICK, "sh", "-c", f"exit {code}"]).returncode == code


def test_process_1_is_the_command_as_it_would_be(run):
    status = [
        "grep",
        "-E",
        "^(Pid|PPid|Sig[BCI]|Shd|Cap|NoNew|Seccomp:|Threads|Cpus)",
        "/proc/self/status",
    ]
    plain, hooked = (run([], [*words, *status]).stdout for words in ([], QUICK))

    assert "Pid:\t1\n" in plain
    assert hooked == plain


def test_nothing_of_ours_is_left(run, forking):
    see = "ls /proc/1/fd; echo; cat /proc/1/task/1/children"
    words = [*EXEC, "--checks=/checks", "--only=site-forks", "--", "sh", "-c", see]
    ended = run([forking], words)
    descriptors, _, children = ended.stdout.partition("\n\n")

    assert "site-forks" in ended.stderr
    assert descriptors.split() == ["0", "1", "2"]
    assert len(children.split()) == 1  # the program that reads who they are


@pytest.fixture
def stopped(run) -> Callable[..., subprocess.CompletedProcess]:
    """`stopped(flags, command, until)`: how a container ends that is stopped once a file is there.

    It gets SIGTERM, and SIGKILL only after minutes.
    """

    def end(flags, command, until):
        name = f"gpudoctor-{uuid.uuid4().hex[:8]}"
        with ThreadPoolExecutor(1) as pool:
            container = pool.submit(run, [f"--name={name}", *flags], command)
            while run.tell("exec", name, "test", "-e", until).returncode:
                assert not container.done(), container.result()
            assert run.tell("stop", "--time=300", name).returncode == 0
            return container.result()

    return end


def test_stop_reaches_the_command(stopped):
    script = 'trap "echo saved; exit 7" TERM; touch /tmp/started; while :; do sleep 0.05; done'
    ended = stopped([], [*QUICK, "sh", "-c", script], "/tmp/started")

    assert (ended.returncode, ended.stdout) == (7, "saved\n")


def test_stop_while_checking_starts_nothing(stopped, forking):
    words = [*EXEC, "--deadline=300", "--checks=/checks", "--only=site-forks", "--", "echo", "x"]
    flags = [forking, "--env=PATIENCE=300"]
    ended = stopped(flags, words, "/tmp/started")

    assert (ended.returncode, ended.stdout) == (143, "")
    assert "SIGTERM" in ended.stderr


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--user=4711:4711"], id="a user without a name"),
        pytest.param(["--cap-drop=all", "--security-opt=no-new-privileges"], id="no rights"),
        pytest.param(["--pids-limit=16"], id="few processes"),
        pytest.param(["--ulimit=nofile=16:16"], id="few files"),
        pytest.param(["--env=PATH=/nonexistent:/bin", "--env=HOME="], id="odd environment"),
    ],
)
def test_starts_the_command_all_the_same(run, flags):
    ended = run(flags, [*EXEC, "--", "echo", "x"])

    assert (ended.returncode, ended.stdout) == (0, "x\n")
    assert "Traceback" not in ended.stderr


def test_starts_the_command_where_nothing_can_be_written(docker):
    ended = docker(["--read-only", "--user=4711"], [*EXEC, "--reuse=60", "--", "echo", "x"])

    assert (ended.returncode, ended.stdout) == (0, "x\n")


@pytest.fixture(scope="module")
def image(docker, dockerd, installed, tmp_path_factory) -> str:
    """The image of entrypoint.Dockerfile, built by the classic builder."""
    context = tmp_path_factory.mktemp("context")
    shutil.copytree(installed, context / "installed", symlinks=True)
    shutil.copy(HERE / "train.py", context)
    words = [*dockerd, "build", "--network=none", f"--tag={CHECKED}", "--force-rm"]
    words += [f"--build-arg=WHERE={installed}", f"--file={HERE}/entrypoint.Dockerfile", context]
    env = {**os.environ, "DOCKER_BUILDKIT": "0"}
    built = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300)

    assert built.returncode == 0, built.stdout + built.stderr
    return CHECKED


def test_the_image_is_what_the_hook_prints():
    ours = (HERE / "entrypoint.Dockerfile").read_text()
    line = next(s for s in hooks.text("docker", "gpudoctor").splitlines() if "ENTRYPOINT" in s)

    assert line in ours.splitlines()


def test_default_flags_end_as_foretold_and_the_fix_mends_it(docker, image, real_torch):
    """The whole story: a finding, the job's own error, the fix's flags, a job that trains."""
    torch = [*read_only(real_torch.parent.parent, python_of(real_torch.parent.parent))]
    train = [
        "timeout",
        "--signal=KILL",
        "100",
        str(real_torch),
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
    ]
    train += ["--master-addr=127.0.0.1", "/train.py"]
    # A container without a network cannot resolve any other name of its own.
    flags = [*torch, "--hostname=localhost", "--env=GLOO_SOCKET_IFNAME=lo"]
    # What this machine has or has not is not the image's fault.
    flags += ["--env=GPUDOCTOR_EXPECT=gpus=0", "--env=GPUDOCTOR_SKIP=cgroup-cpu storage-space"]

    first = docker(flags, train, image=image, timeout=300)
    fix = re.search(r"docker run (.*?) IMAGE", first.stderr.replace("\\\n", " "), re.DOTALL)
    blocked = docker([*flags, "--env=GPUDOCTOR_POLICY=block"], train, image=image)
    assert fix, first.stderr
    second = docker([*flags, *shlex.split(fix[1])], train, image=image, timeout=300)

    assert "[FAIL] shm-size" in first.stderr
    assert first.returncode not in (0, 75, 78)
    assert "trained" not in first.stdout
    assert any(re.search(symptom, first.stderr) for symptom in registry.get("shm-size").symptoms)
    assert (blocked.returncode, blocked.stdout) == (78, "")
    assert (second.returncode, second.stdout) == (0, "trained 132.0\n"), second.stderr
    ours = [line for line in second.stderr.splitlines() if line.startswith("gpudoctor")]
    assert len(ours) == 1
    assert re.match(r"gpudoctor: \d+ ok, \d+ not checked, ", second.stderr)
