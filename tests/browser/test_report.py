"""The HTML report in a real browser: quiet, complete, readable by everybody, and safe.

`PICTURES=DIR pytest -m browser` leaves pictures to look at.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

HOSTILE = '<script>alert(1)</script><img src="http://192.0.2.1/x" onerror=alert(2)>'
SHM = {"total_bytes": 64 << 20, "free_bytes": 64 << 20, "filesystem": "tmpfs"}
DOCKER = {"runtime": "docker", "launcher": "docker", "ipc_private": True}
FILE = {"name": HOSTILE, "bytes": 1 << 30, "age_seconds": 9, "uid": 0, "owner": "alive"}
FACTS = {
    "container": {"shm": SHM, "container": DOCKER, "user": {"uid": 0, "gid": 0}},
    "hostile": {
        "shm": {**SHM, "total_bytes": 64 << 30, "free_bytes": 4096},
        "shm_files": {"count": 1, "files": [FILE]},
        "shm_write": {"absent": HOSTILE, "broken": True},
        "cgroup": {"absent": "x" * 500},
    },
}


@pytest.fixture(scope="module", params=FACTS)
def page(request, gpudoctor, tmp_path_factory) -> Path:
    """A page as `check` writes it, from facts of a machine in a bad way."""
    nodes = [{"name": f"gpu-{request.param}", "facts": FACTS[request.param]}]
    if request.param == "hostile":
        nodes[0]["name"] = HOSTILE
        nodes.append({"name": "gpu-b", "facts": FACTS["container"]})
    folder = tmp_path_factory.mktemp(request.param)
    done = subprocess.run(
        [gpudoctor, "check", "--facts", "-", "--nproc-per-node", "8", "-f", "html"],
        input=json.dumps({"schema": "gpudoctor.facts/1", "nodes": nodes}),
        capture_output=True,
        cwd=folder,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 1, done.stderr
    (folder / "report.html").write_text(done.stdout, encoding="utf-8")
    return folder / "report.html"


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


def test_all_is_there_without_scripts(tab, page):
    seen = tab(page, scripts=False).ask("document.body.innerText")

    for words in (
        "FAIL",
        "shm-size",
        "64 MiB",
        "Bus error",
        "docker run",
        "Not checked",
        "All checks",
    ):
        assert words in seen
    assert "Copy" not in seen
    assert "Save" not in seen


def test_text_of_the_machine_runs_nothing(tab, page):
    opened = tab(page)

    assert opened.ask("document.images.length + document.querySelectorAll('iframe').length") == 0
    assert opened.ask("document.scripts.length") == 2


@pytest.mark.parametrize("width", [320, 400, 1000])
def test_nothing_is_wider_than_the_window(tab, page, width):
    opened = tab(page, width=width)
    opened.ask("document.querySelectorAll('details').forEach(one => one.open = true)")

    assert opened.ask("document.documentElement.scrollWidth") <= width


def test_it_follows_the_theme(tab, page):
    ground = "getComputedStyle(document.body).backgroundColor"

    assert tab(page).ask(ground) == "rgb(255, 255, 255)"
    assert tab(page, prefers_color_scheme="dark").ask(ground) == "rgb(16, 20, 24)"


def test_print_is_paper_without_buttons(tab, page):
    printed = tab(page, media="print", prefers_color_scheme="dark")

    assert printed.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert printed.ask("document.body.innerText").count("Copy") == 0
    assert len(printed.call("Page.printToPDF")["data"]) > 10_000


def test_copy_takes_the_command_as_it_is(tab, page):
    opened = tab(page)
    opened.browser.call(
        "Browser.grantPermissions",
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        browserContextId=opened.context,
    )
    opened.call("Page.bringToFront")
    wanted = opened.ask("document.querySelector('pre.paste code').textContent.trim()")
    opened.ask("document.querySelector('button.copy').click()")

    _until(lambda: opened.ask("document.querySelector('button.copy').textContent") == "Copied")
    assert opened.ask("navigator.clipboard.readText()") == wanted
    assert opened.ask("document.getElementById('status').textContent") == "Copied"


def test_copy_selects_where_the_clipboard_is_refused(tab, page):
    opened = tab(page)
    opened.ask("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    opened.ask("document.execCommand = () => false")
    opened.ask("document.querySelector('button.copy').click()")

    _until(
        lambda: opened.ask("document.querySelector('button.copy').textContent") == "Press Ctrl+C"
    )
    wanted = opened.ask("document.querySelector('pre.paste code').textContent.trim()")
    assert opened.ask("String(getSelection()).trim()") == wanted


def test_the_json_can_be_saved(tab, page, tmp_path):
    opened = tab(page)
    opened.browser.call(
        "Browser.setDownloadBehavior",
        behavior="allow",
        downloadPath=str(tmp_path),
        browserContextId=opened.context,
    )
    opened.ask("document.getElementById('save').click()")

    saved = tmp_path / "gpudoctor-report.json"
    _until(saved.exists)
    assert json.loads(saved.read_text())["schema"] == "gpudoctor.report/1"


def test_the_keyboard_reaches_everything(tab, page):
    opened = tab(page)
    opened.call("Page.bringToFront")
    opened.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    count = opened.ask("document.querySelectorAll('a, button, summary').length")
    seen = []
    for _ in range(count):
        opened.press("Tab")
        seen.append(opened.ask("document.activeElement.outerHTML.slice(0, 120)"))

    assert "skip-link" in seen[0]
    assert not [one for one in seen if one.startswith("<body")]


def test_a_screen_reader_finds_names(tab, page):
    tree = tab(page).call("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored")
    ]

    assert [
        role for role, name in named if role in ("button", "link", "heading", "region") and not name
    ] == []
    assert ("main", "") in named
    assert {"columnheader", "rowheader", "contentinfo"} & {role for role, _ in named}


@pytest.mark.parametrize(
    ("name", "width", "media"),
    [
        ("light", 1000, {}),
        ("dark", 1000, {"prefers_color_scheme": "dark"}),
        ("narrow", 400, {}),
        ("print", 794, {"media": "print"}),
    ],
)
def test_pictures(tab, page, tmp_path, name, width, media):
    folder = Path(os.environ.get("PICTURES", tmp_path))
    picture = folder / f"{page.parent.name}-{name}.png"

    tab(page, width=width, **media).picture(picture)

    assert picture.stat().st_size > 30_000


def _until(true) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
