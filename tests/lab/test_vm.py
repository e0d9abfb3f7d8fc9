"""The lab on a machine of its own: another kernel, cgroup v2 only, root with all its rights.

There a fix that raises a limit can be tried, and the limits of cgroup v2 be set.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

FILES, WHICH = ("test_cgroup.py", "test_faults.py"), "test_cgroup or memlock or nofile"
HERE = Path(__file__).parent


def test_on_another_kernel(installed, require, tmp_path):
    require(os.geteuid() == 0, "the virtual machine needs root")
    for program in ("qemu-system-x86_64", "busybox", "cpio", "podman", "runc"):
        require(shutil.which(program), f"{program} is not installed")
    require(list(Path("/boot").glob("vmlinuz-*")), "no kernel to boot is installed")
    require(os.stat(installed).st_dev == os.stat("/").st_dev, f"{installed} is on another mount")
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", WHICH]
    tests += [str(HERE / file) for file in FILES]
    script = tmp_path / "script"
    script.write_text(
        "export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/mnt TERM=dumb CI=true\n"
        f"export LAB_INSTALLED={installed}\n"
        f"cd {HERE.parent.parent} && {shlex.join(tests)}\n"
    )

    ended = subprocess.run(
        [HERE / "vm/boot", script, tmp_path / "vm"], capture_output=True, text=True, timeout=600
    )
    lines = ended.stdout.splitlines()
    closing = next((line for line in reversed(lines) if line.startswith("=====")), "")

    assert " passed" in closing, ended.stdout[-8000:] + ended.stderr
    assert not {"failed", "error", "skipped"} & set(closing.split())
