"""The README's one line that installs and runs, in a fresh checkout."""

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_readmes_line(tree, tmp_path):
    (line,) = re.findall(r"^apt-get .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    _, _, after_apt = line.partition(" && ")
    checkout = shutil.copytree(tree, tmp_path / "gpudoctor")
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}

    ended = subprocess.run(
        after_apt, shell=True, cwd=checkout, env=env, capture_output=True, text=True, timeout=300
    )

    assert ended.returncode in (0, 1, 3), ended.stderr
    assert "shm" in ended.stdout
    assert "Traceback" not in ended.stderr
