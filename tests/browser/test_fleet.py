"""The page of many nodes in a real browser: small, quiet, searchable, safe.

`PICTURES=DIR pytest -m browser` leaves pictures to look at.
"""

import json
import time
from pathlib import Path

import pytest

from gpudoctor import fleet
from gpudoctor.registry import report_format
from gpudoctor.report import Page
from tests.fleet import clusters, synthetic

html = report_format("fleet.html")
NODES = 1000
HOSTILE = '<img src="http://192.0.2.1/x" onerror=alert(1)>\u202e"\''
ROWS = "document.querySelectorAll('tr').length"
NAMES = "[...document.querySelectorAll('#node-table .open')].map((one) => one.textContent)"
CHOOSE_SHM = """
(() => {
  const pick = document.getElementById("pick-figure");
  pick.value = [...pick.options].find((one) => one.textContent.startsWith("/dev/shm")).value;
  pick.dispatchEvent(new Event("change", { bubbles: true }));
})()
"""
SHOWN = "document.getElementById('shown').textContent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("fleet")
    synthetic.write(made, NODES)
    (made / "broken.json").write_text('{"schema": "gpudoctor.report/1", "nodes": [')
    places = [name for name, _, _ in synthetic.fleet(NODES)]
    rows = [f"{name},c{name[4:7]},leaf-{int(name[4:7]) // 4}" for name in places]
    rows = ["node,rack,switch", *rows, "gpu-099-01,c99,leaf-9"]
    (made / "inventory.csv").write_text("\n".join(rows))
    return made


@pytest.fixture(scope="module")
def large(folder) -> Path:
    known = fleet.inventory(str(folder / "inventory.csv"))
    found = fleet.gather(fleet.pieces([str(folder)]), expected=known)
    (folder / "fleet.html").write_text(html.render(found, Page()), encoding="utf-8")
    return folder / "fleet.html"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "cluster.html"
    path.write_text(html.render_report(clusters.report(), Page()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    quoted = json.dumps(HOSTILE)[1:-1]
    for number in range(9):
        name = f"{quoted}-{number}{'x' * 10_000 if number == 8 else ''}"
        raw = synthetic.named(synthetic.Kinds(), name, "H100", synthetic.NARROW)
        raw = raw.replace(b"GPU 3: PCIe x8 of x16", f"GPU 3: {quoted}".encode())
        (made / f"{number}.json").write_bytes(raw)
    (made / "page.html").write_text(
        html.render(fleet.gather(fleet.pieces([str(made)])), Page()), encoding="utf-8"
    )
    return made / "page.html"


@pytest.fixture(params=["large", "cluster", "hostile"])
def page(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_it_is_quiet_and_alone(tab, page, scripts):
    opened = tab(page, scripts=scripts)

    assert opened.complaints == []
    assert opened.requests == [page.as_uri()]


def test_few_rows_before_a_click(tab, page):
    assert tab(page).ask(ROWS) <= 300


def test_everybody_can_use_it(tab, page, violations):
    opened = tab(page, width=1280)
    opened.ask("document.querySelector('#node-table .open').click()")

    assert violations(opened) == []
    opened.show(1280, prefers_color_scheme="dark")
    assert violations(opened, "color-contrast") == []
    opened.show(400)
    assert violations(opened) == []


def test_nothing_is_wider_than_the_window(tab, page):
    opened = tab(page, width=320)
    opened.ask("document.querySelector('#node-table .open').click()")
    opened.ask("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    for width in (320, 400, 1280):
        opened.show(width)
        assert opened.ask("document.documentElement.scrollWidth") <= width


def test_what_matters_is_there_without_scripts(tab, large):
    opened = tab(large, scripts=False)
    seen = opened.ask("document.body.innerText")

    for words in (
        "FAIL",
        f"{NODES} nodes",
        "did not report",
        "gpu-099-01",
        "cut off",
        "sbatch --exclude=",
        "limits-memlock",
        "all on rack c002",
        "always GPU 3",
        "64 KiB",
        "GPU temperature",
    ):
        assert words in seen
    assert "Copy" not in seen
    assert not opened.ask("document.getElementById('finder').checkVisibility()")


def test_search_finds_names_checks_and_words(tab, large):
    opened = tab(large)
    for typed, first in (
        ("gpu-001-05", "gpu-001-05"),
        ("limits-memlock", "gpu-002-01"),
        ("550.54", None),
        ("64 kib RDMA", "gpu-002-01"),
    ):
        opened.ask("document.getElementById('search').value = ''")
        opened.ask("document.getElementById('search').focus()")
        opened.type(typed)
        opened.until(f"!{SHOWN}.startsWith('All') && {NAMES}.length > 0")
        names = opened.ask(NAMES)

        assert first is None or names[0] == first
        opened.ask("document.getElementById('reset').click()")
        opened.until(f"{SHOWN}.startsWith('All')")
    opened.ask("document.getElementById('search').focus()")
    opened.type("no such node")
    opened.until(f"{SHOWN}.startsWith('0 of')")
    assert opened.ask("document.getElementById('copy-hosts').disabled")


def test_a_kind_of_problem_leads_to_its_nodes(tab, large):
    opened = tab(large)
    opened.ask("document.querySelector('#limits-memlock .find').click()")

    assert opened.ask(SHOWN) == f"15 of {NODES} nodes"
    assert set(opened.ask(NAMES)) == {f"gpu-002-{n:02}" for n in range(1, 17) if n != 6}
    chosen = "document.getElementById('pick-check').selectedOptions[0].textContent"
    assert opened.ask(chosen) == "limits-memlock (15)"


def test_a_verdict_leads_to_its_nodes(tab, large):
    opened = tab(large)
    opened.ask("document.querySelector('.tally a[data-status=warn]').click()")
    count = opened.ask("Number(document.querySelector('.tally a[data-status=warn] b').textContent)")

    assert opened.ask(SHOWN) == f"{count} of {NODES} nodes"


def test_nodes_are_sorted_by_a_heading_and_by_a_figure(tab, large):
    opened = tab(large)
    names = "document.querySelector('th[data-sort=name] button')"
    opened.ask(f"{names}.click()")
    assert opened.ask(NAMES)[0] == "amd-004-01"
    opened.ask(f"{names}.click()")
    assert opened.ask(NAMES)[0].startswith("gpu-063")
    assert opened.ask(f"{names}.parentElement.getAttribute('aria-sort')") == "descending"

    opened.ask(CHOOSE_SHM)
    cells = "[...document.querySelectorAll('#node-table td.number')].map((one) => one.textContent)"
    assert opened.ask(cells)[0] == "64 MiB"


def test_pages_turn(tab, large):
    opened = tab(large)
    first = opened.ask(NAMES)
    opened.ask("document.getElementById('after').click()")
    second = opened.ask(NAMES)

    assert len(first) == len(second) == 50
    assert not set(first) & set(second)
    assert opened.ask("document.getElementById('page').textContent") == f"51 to 100 of {NODES}"


def test_a_node_opens_and_closes_by_the_keyboard(tab, large):
    opened = tab(large)
    opened.call("Page.bringToFront")
    opened.ask("document.querySelector('#limits-memlock .find').click()")
    opened.ask("document.querySelector('#node-table .open').focus()")
    opened.press("Enter")
    detail = "document.querySelector('#node-table .detail')"
    said = opened.ask(f"{detail}.innerText")

    for words in ("limits-memlock", "64 KiB with 8 RDMA devices", "ulimit", "rack c002"):
        assert words in said
    opened.press("Enter")
    assert opened.ask(f"{detail} === null")


def test_a_fragment_opens_a_node(tab, large):
    opened = tab(large)
    opened.ask("location.hash = '#node=gpu-002-03'")
    opened.until("document.querySelector('#node-table .detail') !== null")

    assert opened.ask(NAMES) == ["gpu-002-03"]


def test_names_are_copied_as_slurm_folds_them(tab, large):
    opened = tab(large)
    opened.may_copy()
    opened.ask("document.querySelector('#limits-memlock .find').click()")
    opened.ask("document.getElementById('copy-hosts').click()")
    opened.until("document.getElementById('copy-hosts').textContent === 'Copied'")

    assert opened.ask("navigator.clipboard.readText()") == "gpu-002-[01-05,07-16]"


def test_the_nodes_that_are_shown_are_saved_as_csv(tab, large, tmp_path):
    opened = tab(large)
    opened.browser.call(
        "Browser.setDownloadBehavior",
        behavior="allow",
        downloadPath=str(tmp_path),
        browserContextId=opened.context,
    )
    opened.ask("document.querySelector('#limits-memlock .find').click()")
    opened.ask("document.getElementById('save-nodes').click()")

    saved = tmp_path / "gpudoctor-nodes.csv"
    until = time.monotonic() + 60
    while not saved.exists():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
    lines = saved.read_text().splitlines()
    assert len(lines) == 16
    assert lines[1].startswith("gpu-002-01,fail,NVIDIA H100")


def test_text_of_the_machine_runs_nothing(tab, hostile):
    opened = tab(hostile)
    opened.ask("document.querySelectorAll('#node-table .open').forEach((one) => one.click())")

    assert opened.ask("document.images.length + document.querySelectorAll('iframe').length") == 0
    assert opened.ask("document.querySelectorAll('.detail').length") == 9
    assert "<img src=" in opened.ask("document.querySelector('.detail').textContent")
    assert "\u202e" not in opened.ask("document.body.textContent")
    assert opened.complaints == []
    assert opened.requests == [hostile.as_uri()]


def test_the_theme_can_be_chosen(tab, large):
    opened = tab(large)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.ask(ground)
    opened.ask("document.getElementById('theme').click()")

    assert opened.ask(ground) != light


def test_it_prints(tab, large):
    printed = tab(large, media="print")

    assert printed.ask("document.body.innerText").count("Copy") == 0
    assert len(printed.pdf()) > 20_000


def test_a_cluster_shows_who_reaches_whom(tab, cluster):
    opened = tab(cluster)
    cells = "[...document.querySelectorAll('.matrix td.fail')].map((one) => one.textContent)"

    assert set(opened.ask(cells)) == {"ETIMEDOUT"}
    assert len(opened.ask(cells)) == 8
    assert opened.ask("document.querySelectorAll('#save').length") == 1


def test_pictures(tab, page, take_pictures):
    take_pictures(tab(page), page.stem)
