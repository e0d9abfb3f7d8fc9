"""Where checks come from, and what becomes of plug-ins that do not load."""

import subprocess
import sys
import textwrap

import pytest

from gpudoctor import registry

GOOD = '''
from gpudoctor import Fact, Finding, Machine, check, ok, probe

class Moon(Fact, frozen=True, kw_only=True):
    phase: str

@probe()
def moon(machine: Machine) -> Moon:
    return Moon(phase="full")

@check(owner="cluster")
def site_moon(moon: Moon) -> Finding:
    """The moon is up."""
    return ok(moon.phase)
'''


def write(folder, **modules: str) -> str:
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return str(folder)


def test_built_in_checks_are_found_in_the_order_of_their_modules():
    checks = registry.load().checks

    assert [check.topic for check in checks] == sorted(check.topic for check in checks)
    assert "shm-size" in {check.id for check in checks}


def test_directory_brings_checks_probes_and_facts(tmp_path):
    catalogue = registry.load([write(tmp_path, site=GOOD)])

    assert catalogue.broken == ()
    assert catalogue.find("site-moon").title == "The moon is up"
    assert [kind.__name__ for kind in catalogue.kinds] == ["Moon"]
    needs = catalogue.find("site-moon").needs.values()
    assert len(catalogue.probes_for(need.kind for need in needs)) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("import nowhere_to_be_found", "ModuleNotFoundError", id="import"),
        pytest.param("1 +", "SyntaxError", id="syntax"),
        pytest.param("raise SystemExit(3)", "SystemExit: 3", id="exit"),
        pytest.param("raise KeyError('libamd_smi.so')", "KeyError", id="any exception"),
        pytest.param(
            """
            from gpudoctor import check, ok
            @check(owner="job")
            def shm_size():
                "Mine."
                return ok("")
            """,
            "the id 'shm-size' is taken",
            id="id taken",
        ),
        pytest.param(
            """
            from gpudoctor import check, ok
            @check(owner="job")
            def site_x(number: int):
                "Mine."
                return ok("")
            """,
            "parameter 'number' is not a fact",
            id="parameter",
        ),
        pytest.param(
            """
            from gpudoctor import check, ok
            @check(owner="job")
            def site_x():
                return ok("")
            """,
            "no docstring",
            id="undocumented",
        ),
        pytest.param(
            """
            from gpudoctor import Machine, Shm, probe
            @probe()
            def shm(machine: Machine) -> Shm:
                return Shm()
            """,
            "the fact 'shm' is built in",
            id="fact taken",
        ),
    ],
)
def test_broken_plug_in_is_named_and_disturbs_nothing(tmp_path, text, says):
    catalogue = registry.load([write(tmp_path, bad=text, good=GOOD)])

    [broken] = catalogue.broken
    assert broken.name == "bad"
    assert says in broken.error
    assert catalogue.find("site-moon")
    assert catalogue.find("shm-size")


def test_missing_directory_is_named(tmp_path):
    [broken] = registry.load([str(tmp_path / "none")]).broken

    assert broken.name == str(tmp_path / "none")


def test_entry_points_of_installed_distributions(tmp_path, monkeypatch):
    write(tmp_path, acme_checks=GOOD)
    for name, point in (("acme", "acme_checks"), ("bad", "acme_missing:thing [x]")):
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(
            f"[console_scripts]\nx = y:z\n[gpudoctor.checks]\n{name} = {point}\n[other]\nq = r\n"
        )
    monkeypatch.syspath_prepend(tmp_path)

    catalogue = registry.load()

    assert catalogue.find("site-moon")
    assert [broken.name for broken in catalogue.broken] == ["bad"]
    assert "acme_missing" in catalogue.broken[0].error


@pytest.mark.parametrize("word", ["shm-size", "SHM-SIZE", "shm_size"])
def test_find(word):
    assert registry.load().find(word).id == "shm-size"


def test_renamed_check_answers_to_both(tmp_path):
    text = GOOD.replace('owner="cluster"', 'owner="cluster", aliases=["moon-old"]')

    catalogue = registry.load([write(tmp_path, site=text)])

    assert catalogue.find("moon-old") is catalogue.find("site-moon")


def test_formats():
    assert {"text", "json", "html"} <= set(registry.formats())


def test_public_api_imports_no_third_party_but_msgspec():
    code = "import sys, gpudoctor; print({'click', 'jinja2', 'psutil'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
