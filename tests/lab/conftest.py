"""The lab: real containers, mount namespaces and cgroups. Nothing of it outlives the tests."""

import contextlib
import io
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from gpudoctor.report import Report

from .net import Zoo

Run = Callable[..., subprocess.CompletedProcess[str]]
Examine = Callable[..., Report]

HERE = Path(__file__).parent
DRIVER = "580.95.05"  # whose libraries ours are
BASE = "gpudoctor-lab/base"  # the image of docker in the lab
INSIDE = "/opt/gpudoctor"  # where containers find the installed wheel


@pytest.fixture(scope="session")
def podman(public, installed, require) -> Iterator[Run]:
    """`podman(flags, command)` runs a command in a new container and waits for it.

    The image is this machine's own tree under an overlay; the wheel is at /opt/gpudoctor. There
    is no network, unless a flag says --network. `podman.tell("stop", NAME)` gives podman another
    command.
    """
    require(os.geteuid() == 0, "containers in the lab need root")
    require(shutil.which("podman") and shutil.which("runc"), "podman and runc are not installed")
    folder = public / "podman"
    folder.mkdir()
    env = podman_of(folder)
    base = ["podman", "--log-level=error", "run", "--rm", f"--cgroup-parent=/{public.name}"]
    base += [f"--volume={installed}:{INSIDE}:ro"]
    # Podman asks for more by itself, which a root without CAP_SYS_RESOURCE may not have.
    base += [f"--ulimit=nofile={_at_most(resource.RLIMIT_NOFILE, 1 << 20)}"]
    base += [f"--ulimit=nproc={_at_most(resource.RLIMIT_NPROC, 1 << 15)}"]

    def run(
        flags: Sequence[str], command: Sequence[str], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        alone = not any(flag.startswith("--network") for flag in flags)
        network = ["--network=none"] if alone else []
        words = [*base, *network, *flags, "--rootfs", "/:O", *command]
        options = {"capture_output": True, "text": True, "timeout": 60, "env": env, **options}
        return subprocess.run(words, **options)

    def tell(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", *words], capture_output=True, text=True, timeout=60, env=env
        )

    run.tell = tell  # type: ignore[attr-defined]
    tried = run([], ["true"])
    require(tried.returncode == 0, f"podman cannot run containers here: {tried.stderr.strip()}")
    yield run
    for left in Path("/sys/fs/cgroup").rglob(public.name):
        for group in (*left.glob("*/"), left):
            with contextlib.suppress(OSError):
                group.rmdir()


def podman_of(folder: Path, settings: str = "") -> dict[str, str]:
    """The environment of a podman that keeps everything in a directory.

    Args:
        settings: more lines of its containers.conf.
    """
    (folder / "containers.conf").write_text(
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "runc"\n'
        + settings
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n'
    )
    return {
        **os.environ,
        "CONTAINERS_CONF": f"{folder}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
    }


def _at_most(number: int, wanted: int) -> int:
    hard = resource.getrlimit(number)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)


def python_of(environment: Path) -> Path:
    """Where the Python is that a virtual environment was made with."""
    text = (environment / "pyvenv.cfg").read_text()
    return Path(re.findall(r"^home = (.*)$", text, re.MULTILINE)[0]).resolve().parent


def read_only(*paths: Path) -> list[str]:
    """Flags that mount directories of this machine where they are here."""
    return [f"--volume={path}:{path}:ro" for path in dict.fromkeys(paths)]


@pytest.fixture(scope="module")
def dockerd(public, require) -> Iterator[list[str]]:
    """The words of docker's client for a daemon of our own, in a network of its own."""
    require(os.geteuid() == 0, "a docker daemon needs root")
    for name in ("dockerd", "docker", "nsenter", "ip"):
        require(shutil.which(name), f"{name} is not installed")
    name = f"gpudoctor-{uuid.uuid4().hex[:8]}"
    folder = public / name
    folder.mkdir()
    socket = f"unix://{folder}/socket"
    subprocess.run(["ip", "netns", "add", name], check=True)
    log = open(folder / "log", "w+")  # noqa: SIM115
    # Not `ip netns exec`: that mounts /sys anew, without cgroups.
    words = ["nsenter", f"--net=/var/run/netns/{name}", "dockerd", f"--host={socket}"]
    words += [f"--data-root={folder}/data", f"--exec-root={folder}/run"]
    words += [f"--pidfile={folder}/pid", "--iptables=false", "--bridge=none"]
    words += [f"--cgroup-parent=/{public.name}-docker"]
    daemon = subprocess.Popen(words, stdout=log, stderr=log)
    client = ["docker", f"--host={socket}"]
    try:
        until = time.monotonic() + 60
        while subprocess.run([*client, "version"], capture_output=True).returncode:
            if daemon.poll() is not None or time.monotonic() > until:
                log.seek(0)
                require(False, f"dockerd does not run here: {log.read()[-1000:]}")
            time.sleep(0.05)
        yield client
    finally:
        daemon.terminate()
        daemon.wait(60)
        log.close()
        subprocess.run(["ip", "netns", "delete", name], check=True)
        for left in Path("/sys/fs/cgroup").rglob(f"{public.name}-docker"):
            with contextlib.suppress(OSError):
                left.rmdir()


@pytest.fixture(scope="module")
def docker(dockerd, installed, require) -> Run:
    """As `podman`, but with docker; the image has nothing but the ways into /usr."""
    require(Path("/bin").is_symlink(), "/bin is not in /usr here")
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as tar:
        for link in filter(Path.is_symlink, map(Path, ("/bin", "/sbin", "/lib", "/lib64"))):
            tar.add(link)
        for path in ("/etc/ld.so.cache", "/etc/alternatives"):
            tar.add(path)
        passwd = b"root:x:0:0:root:/root:/bin/sh\n"
        file = tarfile.TarInfo("etc/passwd")
        file.size = len(passwd)
        tar.addfile(file, io.BytesIO(passwd))
        for name, mode in {"tmp": 0o1777, "usr": 0o755, "root": 0o700}.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
    words = [*dockerd, "import", "-", BASE]
    subprocess.run(words, input=image.getvalue(), capture_output=True, check=True, timeout=120)
    base = [*dockerd, "run", "--rm", "--network=none", *read_only(Path("/usr"))]
    base += [*read_only(python_of(installed)), f"--volume={installed}:{INSIDE}:ro"]

    def run(flags, command, *, image=BASE, **options):
        options = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run([*base, *flags, image, *command], **options)

    def tell(*words, **options):
        options = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run([*dockerd, *words], **options)

    run.tell = tell  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="session")
def examine_in_podman(podman) -> Examine:
    """`examine_in_podman(flags, *args)`: the report of `gpudoctor check` in a new container.

    `before` is a shell script that runs in the container first.
    """

    def examine(flags: Sequence[str], *args: str, before: str = "") -> Report:
        shell = ["sh", "-c", f'{before}\nexec "$@"', "sh"] if before else []
        check = [f"{INSIDE}/bin/python", "-m", "gpudoctor", "check", "-f", "json", *args]
        return report_of(podman(flags, [*shell, *check]))

    return examine


@pytest.fixture(scope="session")
def examine(gpudoctor) -> Examine:
    """`examine(*args, under=COMMAND)`: the report of `gpudoctor check` on this machine."""
    own = gpudoctor

    def examine(
        *args: str, under: Sequence[str] = (), gpudoctor: str = own, **options: Any
    ) -> Report:
        command = [*under, gpudoctor, "check", "-f", "json", *args]
        options = {"capture_output": True, "text": True, "timeout": 60, **options}
        return report_of(subprocess.run(command, **options))

    return examine


def report_of(ended: subprocess.CompletedProcess[str]) -> Report:
    assert ended.stdout, f"exit code {ended.returncode}: {ended.stderr}"
    report = msgspec.json.decode(ended.stdout, type=Report)

    assert ended.returncode == report.exit_code
    return report


@pytest.fixture(scope="session")
def in_mounts(require) -> Run:
    """`in_mounts(script, command)` runs a command where a script has changed what is mounted."""
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        unshare.append("--map-root-user")
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    require(tried.returncode == 0, f"no mount namespace to be had: {tried.stderr.strip()}")

    def run(
        script: str, command: Sequence[str], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        words = [*unshare, "sh", "-c", f'set -e\n{script}\nexec "$@"', "sh", *command]
        options = {"capture_output": True, "text": True, "timeout": 60, **options}
        return subprocess.run(words, **options)

    return run


@pytest.fixture
def zoo(require) -> Iterator[Zoo]:
    """Hosts with networks of their own, that go with the test."""
    require(os.geteuid() == 0, "hosts of the lab need root")
    require(all(map(shutil.which, ("ip", "nft", "nsenter"))), "iproute2, nftables: not installed")
    with Zoo() as zoo:
        try:
            zoo.host("tried").add("eth0", up=False)
        except (AssertionError, OSError) as error:
            require(False, f"no network namespaces here: {error}")
        yield zoo


@pytest.fixture(scope="session")
def compiled(require) -> Callable[..., Path]:
    """`compiled(source, file, *flags)`: a shared library; its directory."""
    compiler = shutil.which("cc")
    require(compiler, "there is no C compiler")

    def compile(source: Path, file: Path, *flags: str) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        command = [str(compiler), "-shared", "-fPIC", "-pthread", "-O1", "-Wall", "-Wextra"]
        subprocess.run([*command, "-o", file, source, *flags], check=True, timeout=60)
        return file.parent

    return compile


@pytest.fixture(scope="session")
def libnvidia_ml(compiled, public) -> Path:
    """The directory with a libnvidia-ml.so.1 that plays the GPUs of a file."""
    return _of_driver(compiled, HERE / "fake_nvml/fake_nvml.c", public / "nvml", "libnvidia-ml")


@pytest.fixture(scope="session")
def libcuda(compiled, public) -> Path:
    """The directory with a libcuda.so.1 that does as its variables say."""
    return _of_driver(compiled, HERE / "fake_cuda/fake_cuda.c", public / "cuda", "libcuda")


def _of_driver(compiled: Callable[..., Path], source: Path, folder: Path, name: str) -> Path:
    """Named as the driver's packages name it."""
    file = f"{name}.so.{DRIVER}"
    compiled(source, folder / file, f"-Wl,-soname,{name}.so.1", "-ldl")
    (folder / f"{name}.so.1").symlink_to(file)
    return folder


@pytest.fixture(scope="session")
def downloaded(tmp_path_factory, require) -> Callable[[str], Path]:
    """`downloaded(requirement)`: a directory with a package that no environment here is to have."""

    def install(requirement: str) -> Path:
        folder = tmp_path_factory.mktemp("downloaded")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder]
        ended = subprocess.run([*pip, requirement], capture_output=True, text=True, timeout=300)
        require(ended.returncode == 0, f"pip cannot install {requirement}: {ended.stderr[-300:]}")
        return folder

    return install


class Cgroup:
    """A cgroup of the test's own, with one limit, in the words of version 1 or 2."""

    FILES: ClassVar = {
        "memory": ("memory.limit_in_bytes", "memory.max"),
        "pids": ("pids.max", "pids.max"),
        "cpu": ("cpu.cfs_quota_us", "cpu.max"),
        "cpuset": ("cpuset.cpus", "cpuset.cpus"),
    }

    def __init__(self, controller: str, limit: str, above: "Cgroup | None" = None) -> None:
        version = 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1
        top = Path("/sys/fs/cgroup", controller if version == 1 else "")
        parent = above.path if above else top
        if version == 2:
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")
        self.path: Path = Path(tempfile.mkdtemp(prefix="gpudoctor-", dir=parent))
        self._file = self.path / self.FILES[controller][version - 1]
        if controller == "cpuset" and version == 1:
            (self.path / "cpuset.mems").write_text((top / "cpuset.mems").read_text())
        self.limit(limit)

    def limit(self, limit: str) -> None:
        self._file.write_text(limit)

    @property
    def enter(self) -> list[str]:
        """The words before a command that make it run in here."""
        return ["sh", "-c", f'echo $$ >{self.path}/cgroup.procs && exec "$@"', "sh"]


@pytest.fixture
def cgroup(require) -> Iterator[Callable[..., Cgroup]]:
    """`cgroup(controller, limit, above)` makes a cgroup that goes with the test."""
    require(os.geteuid() == 0, "making a cgroup needs root")
    made: list[Cgroup] = []

    def make(controller: str, limit: str, above: Cgroup | None = None) -> Cgroup:
        try:
            made.append(Cgroup(controller, limit, above))
        except OSError as error:
            require(False, f"no {controller} cgroup can be made here: {error}")
        return made[-1]

    yield make
    for group in reversed(made):
        group.path.rmdir()
