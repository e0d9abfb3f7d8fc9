"""Profiles against a real environment: the fault is found, and its command puts it right."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROFILE = """
about = "a job of ours"
inherit = "train"
python = "=={python}.*"

[[packages]]
name = "Some.Kernels"
versions = "==1.2.*"
why = "3 of it has another layout"

[[packages]]
name = "some-data"
versions = ">=2.0,<3"
"""


def wheel(folder: Path, name: str, version: str) -> None:
    """The smallest that pip installs."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)


@pytest.fixture
def wheels(tmp_path) -> dict[str, str]:
    """What pip needs to know to find ours, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.2", "1.2.1", "3.0"):
        wheel(folder, "some_kernels", version)
    for version in ("2.0", "3.0"):
        wheel(folder, "some_data", version)
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}
    return {**os.environ, **settings, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def test_a_wrong_pin_is_found_and_its_command_mends_it(gpudoctor, wheels, tmp_path):
    environment = tmp_path / "an environment"
    made = subprocess.run([sys.executable, "-m", "venv", environment], capture_output=True)
    if made.returncode:
        pytest.skip("this Python makes no environment with pip")
    python = environment / "bin" / "python"
    installing = [python, "-m", "pip", "install", "-q", "some-kernels==3.0"]
    subprocess.run(installing, env=wheels, check=True, timeout=120)
    (tmp_path / "ours.toml").write_text(
        PROFILE.format(python=f"{sys.version_info[0]}.{sys.version_info[1]}")
    )

    def check() -> dict:
        words = ["--profile", "ours.toml", "--python", str(python), "-f", "json"]
        command = [gpudoctor, "check", "profile-packages", *words, "--redact", "none"]
        done = subprocess.run(command, cwd=tmp_path, env=wheels, capture_output=True, timeout=60)
        return json.loads(done.stdout)["nodes"][0]["results"][0]

    broken = check()
    (fix,) = broken["fixes"]
    for command in fix["commands"]:
        subprocess.run(command, shell=True, env=wheels, check=True, timeout=120)
    mended = check()

    assert broken["status"] == "fail"
    assert broken["summary"].startswith("2 of 2 packages not as profile ours.toml demands: Some")
    assert broken["evidence"][0] == (
        "Some.Kernels is 3.0, ==1.2.* is demanded: 3 of it has another layout"
    )
    assert mended["status"] == "pass"
    assert mended["evidence"] == ["some-kernels 1.2.1", "some-data 2.0"]


def test_variables_are_judged_without_telling_what_is_secret(gpudoctor, tmp_path):
    (tmp_path / "ours.toml").write_text(
        """
about = "a job of ours"
[[variables]]
name = "SITE_TOKEN"
verdict = "required"
[[variables]]
name = "SITE_RACK"
verdict = "required"
value = "a7"
[[variables]]
name = "SITE_OLD_SWITCH"
verdict = "harmful"
"""
    )
    env = {
        **os.environ,
        "SITE_TOKEN": "s3cret-word",
        "SITE_RACK": "elsewhere",
        "SITE_OLD_SWITCH": "1",
    }

    command = [gpudoctor, "check", "profile", "--profile", "ours.toml", "-f", "json"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=60)
    results = {r["id"]: r for r in json.loads(done.stdout)["nodes"][0]["results"]}
    found = results["profile-environment"]

    assert (done.returncode, found["status"]) == (1, "fail")
    assert "SITE_RACK has another value, a7 is needed" in found["evidence"]
    assert [setting["name"] for setting in found["settings"]] == ["SITE_RACK", "SITE_OLD_SWITCH"]
    assert b"s3cret-word" not in done.stdout
    assert b"elsewhere" not in done.stdout
