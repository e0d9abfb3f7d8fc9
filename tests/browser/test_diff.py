"""The page of `gpudoctor diff` in a real browser: quiet, alone, and safe."""

import json
import subprocess
from pathlib import Path

import pytest

HOSTILE = '<script>alert(1)</script><img src="http://192.0.2.1/x" onerror=alert(2)>'
SHM = {"total_bytes": 64 << 30, "free_bytes": 64 << 30, "filesystem": "tmpfs"}


@pytest.fixture(scope="module")
def page(gpudoctor, tmp_path_factory) -> Path:
    """Two sides that differ in a finding, a fact, and text that means harm."""
    folder = tmp_path_factory.mktemp("diff")
    sides = []
    for number, size in enumerate((64 << 30, 64 << 20)):
        shm = {**SHM, "total_bytes": size, "free_bytes": size}
        plugin = {HOSTILE: HOSTILE * number, "long": "x" * (500 * number)}
        node = {"name": HOSTILE, "facts": {"shm": shm, "plugin": plugin}}
        side = folder / f"{number}.json"
        side.write_text(json.dumps({"schema": "gpudoctor.facts/1", "nodes": [node]}))
        sides.append(str(side))
    page = folder / "diff.html"
    words = [gpudoctor, "diff", *sides, "-qq", "-o", f"html={page}"]
    assert subprocess.run(words).returncode == 1
    return page


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_it_is_quiet_and_alone(tab, page, scripts):
    opened = tab(page, scripts=scripts)

    assert opened.complaints == []
    assert opened.requests == [page.as_uri()]


def test_all_is_there_without_scripts(tab, page):
    seen = tab(page, scripts=False).ask("document.body.innerText")

    for words in ("Changed", "shm-size", "64 GiB -> 64 MiB", "onerror=alert(2)", "0.json"):
        assert words in seen


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(tab, page, width):
    opened = tab(page, width=width)

    assert opened.ask("document.documentElement.scrollWidth") <= width


def test_the_json_is_in_it(tab, page):
    text = tab(page).ask("document.getElementById('report').textContent")

    assert json.loads(text)["schema"] == "gpudoctor.diff/1"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(tab, page, violations, theme):
    assert violations(tab(page, prefers_color_scheme=theme)) == []
