"""The page of one node in a real browser: quiet, complete, readable by everybody, and safe.

`PICTURES=DIR pytest -m browser` leaves pictures to look at.
"""

import json
import subprocess
from pathlib import Path

import pytest

from gpudoctor.registry import report_format
from gpudoctor.report import Page
from tests.reports import nodes

HOSTILE = '<script>alert(1)</script><img src="http://192.0.2.1/x" onerror=alert(2)>'
ENDLESS = f"{HOSTILE}{'x' * 10_000}\u05e9\u05dc\u05d5\u05dd\u202eexe.gnp"
SHM = {"total_bytes": 64 << 30, "free_bytes": 4096, "filesystem": "tmpfs"}
DOCKER = {"runtime": "docker", "launcher": "docker", "ipc_private": True}
FILE = {"name": ENDLESS, "bytes": 1 << 30, "age_seconds": 9, "uid": 0, "owner": "alive"}
GPU = {"vendor": "nvidia", "name": ENDLESS, "bus_id": HOSTILE, "memory_bytes": 1 << 30}
FACTS = {
    "shm": SHM,
    "container": DOCKER,
    "user": {"uid": 0, "gid": 0},
    "shm_files": {"count": 1, "files": [FILE]},
    "shm_write": {"absent": ENDLESS, "broken": True},
    "environment": {"values": {"NCCL_DEBUG": ENDLESS}, "names": [ENDLESS]},
    "gpus": {"devices": [{**GPU, "index": 0}, {**GPU, "index": 1, "lost": ENDLESS}]},
    "network": {"interfaces": [{"index": 1, "name": ENDLESS, "kind": "physical"}]},
    "job_python": {"path": ENDLESS, "chosen_by": HOSTILE, "packages": {ENDLESS: "1"}},
}


@pytest.fixture(scope="module")
def pages(gpudoctor, tmp_path_factory) -> dict[str, Path]:
    """Pages of nodes, good and bad; and of one that says all that it should not."""
    folder = tmp_path_factory.mktemp("pages")
    document = {"schema": "gpudoctor.facts/1", "nodes": [{"name": ENDLESS, "facts": FACTS}]}
    command = [gpudoctor, "check", "--facts", "-", "--nproc-per-node", "8", "-f", "html"]
    hostile = subprocess.run(
        command, input=json.dumps(document).encode(), capture_output=True, cwd=folder
    )
    assert hostile.returncode == 1, hostile.stderr
    made = {"hostile": hostile.stdout.decode()}
    made |= {
        name: report_format("html").render(report(), Page()) for name, report in nodes.ALL.items()
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


ALL = [*nodes.ALL, "hostile"]


@pytest.fixture
def page(pages, request) -> Path:
    """A page with everything to click on, unless the test asks for others."""
    return pages[getattr(request, "param", "faulty")]


every_page = pytest.mark.parametrize("page", ALL, indirect=True)


@every_page
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_it_is_quiet_and_alone(tab, page, scripts):
    opened = tab(page, scripts=scripts)

    assert opened.complaints == []
    assert opened.requests == [page.as_uri()]


def test_a_page_that_is_not_would_be_seen(tab, page):
    text = page.read_text().replace(
        "</main>", '<img src="http://192.0.2.1/x"><b style="color:red">b</b>'
    )
    broken = page.with_name("broken.html")
    broken.write_text(text.replace('"use strict";', "throw Error();"))

    complaints = " ".join(tab(broken).complaints)

    assert complaints.count("Content Security Policy") >= 2


@pytest.mark.parametrize("page", ["faulty", "container"], indirect=True)
def test_all_is_there_without_scripts(tab, page):
    seen = tab(page, scripts=False).ask("document.body.innerText")

    for words in (
        "FAIL",
        "What to do",
        "docker run",
        "shm-size",
        "64 MiB",
        "Bus error",
        "Not checked",
        "All checks",
        "570.172.08",
    ):
        assert words in seen
    for button in ("Copy", "Save", "Print", "Dark", "Search"):
        assert button not in seen


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_fix_for_another_launcher_is_a_click_away(tab, page, scripts):
    opened = tab(page, scripts=scripts)
    shown = "document.querySelector('#shm-size .tabs').innerText"

    assert "docker run --shm-size" in opened.ask(shown)
    opened.ask("document.querySelector('#shm-size input[value=kubernetes]').click()")
    assert "emptyDir" in opened.ask(shown)
    assert "docker run" not in opened.ask(shown)
    other = "document.querySelector('#limits-memlock input[value=kubernetes]').checked"
    assert opened.ask(other) is scripts  # who uses it once uses it everywhere


@pytest.mark.parametrize("page", ["hostile"], indirect=True)
def test_text_of_the_machine_runs_nothing(tab, page):
    opened = tab(page)

    assert opened.ask("document.images.length + document.querySelectorAll('iframe').length") == 0
    scripts = "[...document.scripts].map((s) => s.type || 'script').join(' ')"
    assert opened.ask(scripts) == "application/json application/json script script script"
    assert "<script>alert(1)</script>" in opened.ask("document.querySelector('h1').innerText")


@every_page
def test_nothing_is_wider_than_the_window(tab, page):
    opened = tab(page, width=320)
    opened.ask("document.querySelectorAll('details').forEach(one => one.open = true)")

    for width in (320, 400, 1280):
        opened.show(width)
        assert opened.ask("document.documentElement.scrollWidth") <= width
        assert opened.ask("document.querySelector('h1').offsetHeight") < 400


def test_it_follows_the_theme_and_the_toggle(tab, page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(246, 247, 249)", "rgb(14, 18, 23)"
    toggle = "document.getElementById('theme').click()"

    for asked, seen, other in (("light", light, dark), ("dark", dark, light)):
        opened = tab(page, prefers_color_scheme=asked)
        assert opened.ask(ground) == seen
        opened.ask(toggle)
        assert opened.ask(ground) == other
        opened.ask(toggle)
        assert opened.ask(ground) == seen


def test_print_is_paper_without_buttons(tab, page):
    printed = tab(page, media="print", prefers_color_scheme="dark")
    printed.ask("document.getElementById('theme').click()")
    seen = printed.ask("document.body.innerText")

    assert printed.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [word for word in ("Copy", "Print", "Search", "On this page") if word in seen] == []
    assert "Environment" not in seen  # folded, and so not in the summary
    assert len(printed.pdf()) > 10_000


def test_print_all_opens_what_is_folded(tab, page):
    opened = tab(page)
    opened.ask("window.print = () => { window.printed = true; }")
    opened.ask("document.getElementById('print-all').click()")

    assert opened.ask("window.printed")
    assert opened.ask("document.querySelectorAll('details:not([open])').length") == 0


def test_copy_takes_the_command_as_it_is(tab, page):
    opened = tab(page)
    opened.may_copy()
    wanted = opened.ask("document.querySelector('.paste code').textContent.trim()")
    opened.ask("document.querySelector('button.copy').click()")

    opened.until("document.querySelector('button.copy').textContent === 'Copied'")
    assert opened.ask("navigator.clipboard.readText()") == wanted
    assert opened.ask("document.getElementById('status').textContent") == "Copied"


def test_copy_selects_where_the_clipboard_is_refused(tab, page):
    opened = tab(page)
    opened.ask("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    opened.ask("document.execCommand = () => false")
    opened.ask("document.querySelector('button.copy').click()")

    opened.until("document.querySelector('button.copy').textContent === 'Press Ctrl+C'")
    wanted = opened.ask("document.querySelector('.paste code').textContent.trim()")
    assert opened.ask("String(getSelection()).trim()") == wanted


def test_the_ticket_is_copied_as_markdown(tab, page):
    opened = tab(page)
    opened.may_copy()
    opened.ask("document.getElementById('copy-ticket').click()")

    opened.until("document.getElementById('copy-ticket').textContent === 'Copied'")
    markdown = report_format("markdown").render(nodes.faulty(), Page())
    assert opened.ask("navigator.clipboard.readText()") == markdown


def test_one_finding_is_copied_as_markdown(tab, page):
    opened = tab(page)
    opened.may_copy()
    button = "document.querySelector('#shm-size button.markdown')"
    opened.ask(f"{button}.click()")

    opened.until(f"{button}.textContent === 'Copied'")
    copied = opened.ask("navigator.clipboard.readText()")
    assert copied.startswith("#### FAIL shm-size: 64 MiB")
    assert "Bus error" in copied
    assert "shm-size=8g" in copied
    assert copied.rstrip().splitlines()[-1].startswith("on `gpu-a-018` · gpudoctor ")
    assert "details>" not in copied
    assert "gpu-ecc" not in copied
    findings = "document.querySelectorAll('article.finding[id]').length"
    assert opened.ask("document.querySelectorAll('button.markdown').length") == opened.ask(findings)


def test_the_json_can_be_saved(tab, page, tmp_path):
    opened = tab(page)
    opened.browser.call(
        "Browser.setDownloadBehavior",
        behavior="allow",
        downloadPath=str(tmp_path),
        browserContextId=opened.context,
        eventsEnabled=True,
    )
    opened.ask("document.getElementById('save').click()")

    opened.browser.wait("Browser.downloadProgress", state="completed")
    saved = json.loads((tmp_path / "gpudoctor-report.json").read_text())
    assert saved == json.loads(report_format("json").render(nodes.faulty(), Page()))


def test_all_checks_are_found_and_filtered(tab, page):
    opened = tab(page)
    opened.call("Page.bringToFront")
    opened.ask("location.hash = 'checks'")
    opened.until("document.querySelector('.checks').closest('details').open")
    shown = "[...document.querySelectorAll('.checks tbody tr')].filter((r) => !r.hidden)"
    every = opened.ask(f"{shown}.length")
    count = "document.querySelector('.filter .count').textContent"

    assert opened.ask(count) == f"{every} of {every} shown"
    opened.ask("document.querySelector('.search input').focus()")
    opened.type("SHM free")
    assert 0 < opened.ask(f"{shown}.length") < 10
    assert opened.ask(f"{shown}.every((r) => /shm/i.test(r.textContent))")
    opened.ask("document.querySelector('.search input').select()")
    opened.type("no such check")
    assert opened.ask(count) == f"0 of {every} shown"
    opened.ask("document.querySelector('.search input').select()")
    opened.type(" ")
    opened.ask(
        "for (const box of document.querySelectorAll('.chip input'))"
        " if (box.value !== 'fail') box.click()"
    )
    failed = [r.id for r in nodes.faulty().results if r.status == "fail"]
    assert opened.ask(f"{shown}.map((r) => r.querySelector('.id').textContent)") == failed


def test_all_checks_are_sorted(tab, page):
    opened = tab(page)
    column = "[...document.querySelectorAll('.checks tbody tr')].map((r) => r.cells[{}].{})"
    click = "document.querySelectorAll('.checks thead button')[{}].click()"
    headings = "[...document.querySelectorAll('.checks thead th')].map((h) => h.ariaSort)"
    asked = column.format(1, "querySelector('.id').textContent")
    came = opened.ask(asked)

    opened.ask(click.format(1))
    assert opened.ask(asked) == sorted(came)
    assert opened.ask(headings) == [None, "ascending", None, None, None]
    opened.ask(click.format(1))
    assert opened.ask(asked) == sorted(came, reverse=True)
    opened.ask(click.format(1))
    assert opened.ask(asked) == came
    opened.ask(click.format(4))
    seconds = [float(said) for said in opened.ask(column.format(4, "dataset.sort"))]
    assert seconds == sorted(seconds)


def test_the_keyboard_reaches_everything(tab, page):
    opened = tab(page)
    opened.call("Page.bringToFront")
    opened.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    stops = "a, button, summary, input:not([type=radio]), input:checked, [tabindex='0']"
    visible = f'[...document.querySelectorAll("{stops}")].filter((e) => e.checkVisibility())'
    opened.ask(f"window.wanted = new Set({visible}); window.first = null; 0")
    for _ in range(opened.ask("wanted.size")):
        opened.press("Tab")
        opened.ask("first ??= document.activeElement; wanted.delete(document.activeElement)")

    assert opened.ask("first.className") == "skip-link"
    assert opened.ask("[...wanted].map((e) => e.outerHTML.slice(0, 120))") == []


def test_the_keyboard_works_the_tabs_and_the_order(tab, page):
    opened = tab(page)
    opened.call("Page.bringToFront")
    opened.ask("document.querySelector('#shm-size .tabs input').focus()")
    opened.press("ArrowRight")
    assert opened.ask("document.activeElement.value") == "podman"
    assert "podman run" in opened.ask("document.querySelector('#shm-size .tabs').innerText")
    outline = "getComputedStyle(document.querySelector('#shm-size .tabs input:checked + label'))"
    assert opened.ask(f"{outline}.outlineStyle") == "solid"

    opened.ask("document.querySelector('#checks').nextElementSibling.open = true")
    opened.ask("document.querySelector('.checks thead button').focus()")
    opened.press("Enter")
    assert opened.ask("document.querySelector('.checks thead th').ariaSort") == "ascending"


@every_page
def test_a_screen_reader_finds_names(tab, page):
    tree = tab(page).call("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored")
    ]
    needed = ("button", "link", "heading", "region", "navigation", "image", "radio")

    assert [role for role, name in named if role in needed and not name] == []
    roles = {role for role, _ in named}
    assert {"main", "banner", "navigation", "contentinfo"} <= roles


@pytest.mark.parametrize("page", ["healthy", "container", "faulty", "hostile"], indirect=True)
def test_axe_finds_nothing_serious(tab, page, violations):
    opened = tab(page, width=1280)
    opened.ask("document.querySelectorAll('details').forEach(one => one.open = true)")

    assert violations(opened) == []
    opened.show(1280, prefers_color_scheme="dark")
    assert violations(opened, "color-contrast") == []
    opened.show(400)
    assert violations(opened) == []


def test_axe_would_find_something(tab, page, violations):
    opened = tab(page)
    opened.ask("document.querySelector('main').innerHTML += '<button></button>'")

    assert any("button-name" in line for line in violations(opened))


@pytest.mark.parametrize("page", ["healthy", "container", "faulty", "hostile"], indirect=True)
def test_pictures(tab, page, take_pictures):
    take_pictures(tab(page), page.stem)
