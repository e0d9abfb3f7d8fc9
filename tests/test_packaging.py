"""What is listed is what there is, and the wheel puts nothing in anybody's way."""

import sys
import zipfile
from pathlib import Path

import pytest

import gpudoctor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]


@pytest.fixture(scope="module")
def files(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_packages_are_those_of_the_tree():
    moved = {where: name for name, where in SETUPTOOLS["package-dir"].items()}
    found = [
        folder.relative_to(ROOT).as_posix().split("/")
        for top in ("gpudoctor", *moved)
        for folder in (ROOT / top, *(ROOT / top).rglob("*"))
        if any(folder.glob("*.py"))
    ]
    names = [".".join([moved.get(first, first), *rest]) for first, *rest in found]

    assert sorted(names) == sorted(SETUPTOOLS["packages"])


def test_every_file_of_the_tree_is_in_the_wheel(files):
    moved = {name.replace(".", "/"): where for name, where in SETUPTOOLS["package-dir"].items()}
    expected = {
        path.relative_to(ROOT).as_posix().replace(where, name, 1)
        for name, where in {"gpudoctor": "gpudoctor", **moved}.items()
        for path in (ROOT / where).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert expected - files == set()


def test_wheel_has_nothing_but_the_package(files):
    info = f"gpudoctor-{gpudoctor.__version__}.dist-info"

    assert {name.partition("/")[0] for name in files} == {"gpudoctor", info}
    assert f"{info}/licenses/LICENSE" in files


def test_wheel_is_for_every_python_and_platform(wheel):
    assert wheel.name == f"gpudoctor-{gpudoctor.__version__}-py3-none-any.whl"


def test_version():
    assert PROJECT["project"]["version"] == gpudoctor.__version__


def test_sources_fit_in_their_files():
    sources = [p for top in ("gpudoctor", "checks", "reports") for p in (ROOT / top).rglob("*.py")]

    assert not [p for p in sources if len(p.read_text().splitlines()) > 400]
