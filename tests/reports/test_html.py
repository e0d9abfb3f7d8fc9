"""reports/html.py: one file that loads nothing, says the same as JSON, and obeys no host name."""

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from gpudoctor.registry import report_format
from gpudoctor.report import Node, Page, Report

html, json_format, markdown, text = (
    report_format(name) for name in ("html", "json", "markdown", "text")
)
TEMPLATES = Path(html.__file__ or "").with_name("templates")
CSS = "".join(path.read_text() for path in sorted(TEMPLATES.glob("*.css")))
COLORS, PRINT = (TEMPLATES.joinpath(name).read_text() for name in ("colors.css", "print.css"))


class Document(HTMLParser):
    """Tags with their attributes, and the text, as a browser would take them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []  # contents of <style> and <script>
        self.data: dict[str, str] = {}  # of scripts that are only JSON, by their id
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag, attrs = self.tags[-1] if self.tags else ("", {})
        if self.cdata_elem == "script" and attrs.get("type") == "application/json":
            self.data[attrs["id"] or ""] = data
        elif self.cdata_elem in ("style", "script"):
            self.raw.append((tag, data))
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [
            value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name
        ]


KINDS = ("style", "script")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture
def page(report) -> str:
    return html.render(report, Page())


@pytest.fixture
def document(page) -> Document:
    return Document(page)


def test_nothing_is_loaded(page, document):
    links = [link for link in document.values("href") if not link.startswith(("#", "data:,"))]
    loaders = {
        "src",
        "srcset",
        "action",
        "formaction",
        "poster",
        "data",
        "ping",
        "style",
        "background",
    }
    handlers = [name for _, attrs in document.tags for name in attrs if name.startswith("on")]

    assert links == []
    assert [name for name in loaders if document.values(name)] == []
    assert handlers == []
    assert "@import" not in CSS
    assert "url(" not in CSS


def test_the_policy_admits_just_what_is_inlined(document):
    policy = next(v for v in document.values("content") if v.startswith("default-src 'none'"))
    hashes = {tag: policy.partition(f"{tag}-src")[2].split(";")[0].split() for tag in KINDS}
    inlined = {tag: [_hash(text) for kind, text in document.raw if kind == tag] for tag in KINDS}

    assert hashes == inlined
    assert all(inlined.values())
    assert [attrs for _, attrs in document.tags if "style" in attrs] == []


def test_text_of_the_machine_stays_text(samples):
    hostile = Document(html.render(samples["hostile"], Page()))

    assert "<script>alert(1)</script>" in hostile.text
    assert not {"img", "iframe", "object"} & {tag for tag, _ in hostile.tags}
    assert [tag for tag, _ in hostile.tags].count("script") == 5


def test_nothing_a_browser_obeys_comes_through(page):
    assert [c for c in page if c != "\n" and not c.isprintable()] == []


def test_the_json_inside_is_the_report(one_page, document):
    inside = json.loads(document.data["report"])

    assert inside == json.loads(json_format.render(one_page, Page()))


def test_the_ticket_inside_is_the_markdown(one_page, document):
    assert json.loads(document.data["ticket"]) == markdown.render(one_page, Page())


@pytest.fixture
def one_page(report) -> Report:
    """A report that is not shown as a fleet."""
    if html.is_shown_as_fleet(report):
        pytest.skip("several nodes have a page of another kind")
    return report


def test_formats_agree(one_page, document):
    published = json.loads(json_format.render(one_page, Page()))
    printed = text.render(one_page, Page(width=200))
    shown = " ".join(document.text.split())
    counts = published["counts"]

    for said in (printed, shown):
        assert f"{counts['pass']} ok" in said
        assert f"{counts['fail']} failed" in said or counts["fail"] == 0
        assert f"{counts['skip']} not checked" in said or counts["skip"] == 0
        assert f"{counts['error']} error" in said or counts["error"] == 0
        assert f"{counts['warn']} warning" in said or counts["warn"] == 0
        verdict = {"error": "NO VERDICT", "skip": "NO VERDICT"}
        assert verdict.get(published["status"], published["status"].upper()) in said


def test_json_reads_back_as_the_same_report(samples):
    for name, report in samples.items():
        again = msgspec.json.decode(json_format.render(report, Page()), type=Report)

        assert again == report, name


def test_a_name_that_is_not_utf8_breaks_no_format(samples):
    node = Node(name="gpu-\udcff", facts={"environment": {"values": {"A": "\udc80"}}})
    report = msgspec.structs.replace(samples["healthy"], nodes=(node,))

    assert "gpu-\\udcff" in text.render(report, Page())
    assert "gpu-\\udcff" in html.render(report, Page())
    assert json.loads(json_format.render(report, Page()))["nodes"][0]["name"] == "gpu-\\udcff"


def test_it_is_small(page):
    assert len(page.encode()) < 300_000


def test_references_lead_somewhere(document):
    ids = document.values("id")
    asked = [link[1:] for link in document.values("href") if link.startswith("#")]

    assert len(ids) == len(set(ids))
    assert [name for name in [*asked, *document.values("aria-labelledby")] if name not in ids] == []


def test_headings_go_down_one_level_at_a_time(document):
    levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch(r"h[1-6]", tag)]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_heading_of_a_table_says_what_it_heads(document):
    assert [attrs for tag, attrs in document.tags if tag == "th" and "scope" not in attrs] == []


def luminance(color: str) -> float:
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", range(3), ids=["light", "dark", "print"])
def test_contrast_is_aa(theme):
    blocks = re.findall(r":root \{(.*?)\}", COLORS + PRINT, re.DOTALL)
    colors = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[theme]))
    pairs = list(itertools.product(("text", "quiet", "link"), ("canvas", "paper", "panel")))
    for status in ("pass", "warn", "fail", "skip", "error"):
        pairs += [(status, ground) for ground in ("canvas", "paper", f"{status}-tint")]
    pairs += [("text", "fail-tint"), ("text", "warn-tint"), ("quiet", "pass-tint")]
    faint = []
    for name, ground in pairs:
        dark, light = sorted((luminance(colors[name]), luminance(colors[ground])))
        if (light + 0.05) / (dark + 0.05) < 4.5:
            faint.append((name, ground))

    assert len(blocks) == 3
    assert faint == []
