"""reports/text.py: what is printed, to the letter, and what must hold for whatever is printed.

`UPDATE_GOLDEN=1 pytest tests/reports` writes the pages in golden/ anew: read their diff.
"""

import re

import pytest
from msgspec.structs import replace

from gpudoctor.registry import report_format
from gpudoctor.report import Page, Report

text = report_format("text")
VARIANTS = [
    Page(color=color, unicode=unicode) for color in (False, True) for unicode in (True, False)
]


def plain(printed: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", printed)


def words(printed: str) -> list[str]:
    return re.findall(r"\w[^\s\[\]]*", plain(printed).replace("–", "-"))


def commands(report: Report) -> list[str]:
    pasted = [step.command for step in report.next_steps]
    pasted += [c for result in report.results for fix in result.fixes for c in fix.commands]
    return [line for command in pasted for line in command.split("\n")]


@pytest.mark.parametrize(
    ("name", "page", "file"),
    [
        pytest.param("healthy", Page(), "healthy", id="healthy host"),
        pytest.param("container", Page(), "container", id="unhealthy container"),
        pytest.param("unknown", Page(), "unknown", id="errors, skips, an ignore"),
        pytest.param("interrupted", Page(), "interrupted", id="interrupted"),
        pytest.param("two-nodes", Page(), "nodes", id="several nodes"),
        pytest.param("nothing", Page(), "nothing", id="nothing seen"),
        pytest.param("strict", Page(), "strict", id="strict"),
        pytest.param("ladder", Page(), "ladder", id="ladder"),
        pytest.param("container", Page(unicode=False), "container-ascii", id="ASCII"),
        pytest.param("container", Page(color=True), "container-color", id="colour"),
        pytest.param("container", Page(width=50), "container-narrow", id="narrow"),
        pytest.param("container", Page(verbosity=-1), "container-quiet", id="quiet"),
        pytest.param("healthy", Page(verbosity=1), "healthy-verbose", id="verbose"),
    ],
)
def test_golden(samples, name, page, file, as_in_golden):
    assert as_in_golden(text.render(samples[name], page), f"{file}.txt")


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_only_lines_to_paste_are_wider_than_the_page(report, width, unicode):
    page = Page(width=width, unicode=unicode, verbosity=1)
    pasted = [command.split()[0] for command in commands(report)] + ["gpudoctor"]

    wide = [line for line in text.render(report, page).splitlines() if len(line) > width]

    assert [line for line in wide if not any(word in line for word in pasted)] == []


def test_lines_to_paste_are_whole(samples):
    printed = [
        line.strip() for line in text.render(samples["container"], Page(width=40)).splitlines()
    ]

    for step in samples["container"].next_steps:
        assert [
            line.strip() for line in step.command.split("\n") if line.strip() not in printed
        ] == []


def test_without_unicode_all_is_ascii(report):
    assert text.render(report, Page(unicode=False, verbosity=1)).isascii()


def test_nothing_a_terminal_obeys_comes_through(report):
    printed = text.render(report, Page(verbosity=1))

    assert [c for c in printed if c != "\n" and not c.isprintable()] == []


def test_colour_is_all_that_colour_adds(report):
    assert plain(text.render(report, Page(color=True))) == text.render(report, Page())


def test_the_same_words_in_every_variant(samples):
    for name in set(samples) - {"hostile"}:
        first, *others = [words(text.render(samples[name], page)) for page in VARIANTS]

        assert all(other == first for other in others), name


def test_a_healthy_page_is_short(samples):
    assert len(text.render(samples["healthy"], Page()).splitlines()) < 25


def test_silence_is_silent(report):
    assert text.render(report, Page(verbosity=-2)) == ""


def test_a_fix_is_in_the_words_of_the_launcher_that_was_detected(samples):
    printed = text.render(samples["container"], Page())

    assert "docker run --shm-size=8g" in printed
    assert "emptyDir" not in printed
    assert "mount -o remount" not in printed


def test_nodes_share_a_finding_only_when_all_of_it_is_the_same(samples):
    first, second, *_ = samples["two-nodes"].nodes
    shared = samples["container"].results[5]
    other = replace(shared, evidence=("other: 65 MiB",))

    def blocks(*results) -> int:
        nodes = tuple(
            replace(node, results=(result,))
            for node, result in zip((first, second), results, strict=True)
        )
        printed = text.render(replace(samples["two-nodes"], nodes=nodes), Page())
        return printed.count("✗ FAIL shm-size")

    assert blocks(shared, replace(shared, seconds=1.0)) == 1
    assert blocks(shared, other) == 2


def test_wide_characters_count_twice():
    from gpudoctor.sheet import columns, cut

    assert columns("中文a") == 5
    assert cut("中文中文中文", 8) == "中文..."
