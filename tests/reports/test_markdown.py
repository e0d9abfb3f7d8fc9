"""reports/markdown.py, as a renderer of GitHub's kind shows it."""

import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from msgspec.structs import replace

from gpudoctor.registry import report_format
from gpudoctor.report import Cluster, Page, Report
from gpudoctor.sheet import clean

markdown = report_format("markdown")
ODD = [
    *("@octocat hi", "fixes #12", "GH-12", "https://github.com/o/r/issues/1", "www.x.org"),
    *("a@b.example", "</details></summary><script>alert(1)</script>", "<!-- x", "--> y", "&lt;"),
    *("```\n# out", "`````", "`x` | y", "| a | b |\n|---|---|", "[x](javascript:alert(1))"),
    *("![x](http://x/y)", "# not a heading", "- no item", "1. no item", "+ no", "=====", "---"),
    *("*no* _no_ ~~no~~ **no**", "\\*", "$$x$$", "&#64;octocat", "\u202eevil", "\x1b[31m", ""),
]


class Shown(HTMLParser):
    """What a reader gets to see, and all elements and links on the way."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.pieces: list[tuple[str, bool]] = []  # text, and whether it is code
        self.feed(MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.pieces.append((data, "code" in self.open))

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


OURS = {"h3", "h4", "p", "strong", "em", "code", "pre", "details", "summary", "ul", "li"} | {
    *("table", "thead", "tbody", "tr", "th", "td"),
}


def everywhere(report: Report, text: str) -> Report:
    """The report with this text wherever a machine could put it."""
    node = report.nodes[0]
    results = tuple(
        replace(
            each,
            summary=text,
            evidence=(text, text),
            ladder=tuple(replace(rung, detail=text) for rung in each.ladder),
            fixes=tuple(replace(fix, text=text, commands=(text,)) for fix in each.fixes),
        )
        for each in node.results
    )
    steps = tuple(replace(step, text=text, command=text) for step in report.next_steps)
    return replace(
        report,
        nodes=(replace(node, name=text, view=(text,), results=results),),
        next_steps=steps,
        run=replace(report.run, remarks=(text,)),
    )


@pytest.mark.parametrize("text", ODD)
def test_what_a_machine_says_is_shown_and_never_obeyed(samples, text):
    shown = Shown(markdown.render(everywhere(samples["container"], text), Page()))

    assert set(shown.tags) <= OURS
    assert shown.links == []
    assert shown.open == []
    assert shown.tags.count("details") == 5  # 3 findings, remarks, all checks
    said = " ".join(clean(text).split())
    assert " ".join(shown.text.split()).count(said) >= 10
    for piece, is_code in shown.pieces:  # GitHub looks for names and numbers in each piece
        assert is_code or not re.search(r"@\w|#\d|GH-\d|://|www\.", piece), piece


def test_every_sample_is_sound(report):
    text = markdown.render(report, Page())
    shown = Shown(text)

    assert len(text) <= markdown.LIMIT
    assert shown.open == []
    assert set(shown.tags) <= OURS


def test_commands_can_be_copied(samples):
    page = samples["container"]

    text = markdown.render(page, Page())

    for step in page.next_steps:
        assert f"\n{step.command}\n" in text


@pytest.mark.parametrize("size", [60, 3000])
def test_what_does_not_fit_is_named(samples, size):
    page = samples["container"]
    failed = next(result for result in page.nodes[0].results if result.fixes)
    results = tuple(
        replace(failed, id=f"shm-{number}", evidence=("x" * size,) * 30) for number in range(100)
    )

    text = markdown.render(replace(page, nodes=(replace(page.nodes[0], results=results),)), Page())

    told = {f"shm-{number}" for number in range(100) if f"shm-{number}:" in text}
    assert len(text) <= markdown.LIMIT
    assert "Cut, to fit one post" in text or len(told) == 100
    assert len(told) >= 20
    assert Shown(text).open == []


def test_a_thousand_nodes_fit(samples):
    page = samples["two-nodes"]
    nodes = tuple(replace(page.nodes[1], name=f"gpu-{number:04d}") for number in range(1000))
    cluster = Cluster(missing=tuple(f"gpu-{number:04d}" for number in range(2000, 2100)))

    text = markdown.render(replace(page, nodes=nodes, cluster=cluster), Page())

    assert len(text) <= markdown.LIMIT
    assert "gpu-[0000-0999]" in Shown(text).text
    assert "and 80 more" in text
    assert "limits-memlock" in text
