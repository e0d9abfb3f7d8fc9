"""What the page of one node tells, and that it stays small whatever a node is named."""

import importlib
import json
import re
from html.parser import HTMLParser

import msgspec
import pytest
from markupsafe import escape
from msgspec.structs import replace

from gpudoctor.registry import report_format
from gpudoctor.report import Page, Redaction, Report
from tests.reports import nodes

html = report_format("html")
parts = importlib.import_module("gpudoctor.reports.page")
BUDGET = 300_000  # bytes


@pytest.fixture(scope="module", params=nodes.ALL)
def made(request) -> tuple[Report, str]:
    report = nodes.ALL[request.param]()
    return report, html.render(report, Page())


class Text(HTMLParser):
    """What is read, by the section that it stands in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self._section = ""
        self._ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag in ("section", "script", "style", "footer"):
            self._section = dict(attrs).get("aria-labelledby") or tag

    def handle_data(self, data):
        self.sections[self._section] = self.sections.get(self._section, "") + data


def test_all_launchers_have_their_fix_and_the_one_detected_comes_first(samples):
    shown = Text(html.render(samples["container"], Page())).sections["findings"]
    order = [shown.index(words) for words in ("docker", "Kubernetes manifest", "this host")]

    assert order == sorted(order)
    assert "emptyDir" in shown


@pytest.mark.parametrize(
    ("pattern", "spoken"),
    [
        (r"DataLoader worker .* killed by signal: Bus error", "DataLoader worker … killed"),
        (r"unable to allocate shared memory\(shm\)", "unable to allocate shared memory(shm)"),
        (r"failed to extend /dev/shm/nccl-", "failed to extend /dev/shm/nccl-"),
        (r"exitcode: -\d+\b", "exitcode: -…"),
        (r"\[Errno 11\]", "[Errno 11]"),
        (r"ibv_create_(?:qp|cq).* failed", "ibv_create_(qp|cq)… failed"),
        (r"^mlx5_[0-9]+$", "mlx5_…"),
        (r"(non-fatal )?async event ?: port", "non-fatal async event: port"),
        (r"row.?remap", "row remap"),
    ],
)
def test_patterns_are_read_out(pattern, spoken):
    assert parts.spoken(pattern).startswith(spoken)


def test_large_facts_are_cut_on_the_page_and_whole_in_the_json(samples):
    files = [{"name": f"nccl-{n}", "bytes": 1 << 20, "age_seconds": None} for n in range(1000)]
    report = samples["container"]
    node = replace(report.nodes[0], facts={"shm_files": {"files": files}})

    page = html.render(replace(report, nodes=(node,)), Page())

    assert "and 992 more" in page
    assert page.count("nccl-999") == 1


def test_it_is_small(made):
    assert len(made[1].encode()) < BUDGET


def test_every_part_has_its_section(made):
    report, page = made
    sections = Text(page).sections
    wanted = {"verdict", "skipped", "machine", "checks", "seen", "about"}
    wanted |= {"tasks", "findings"} if report.exit_code else set()

    assert wanted <= set(sections)
    for result in report.results:
        assert result.id in sections["checks"]


def test_what_to_do_names_the_findings_that_it_settles():
    report = nodes.faulty()
    page = html.render(report, Page())
    told = page.partition('id="tasks"')[2].partition("</section>")[0]
    linked = re.findall('href="#([^"]+)"', told)

    for step in report.next_steps:
        assert escape(step.text) in told
    assert sorted(linked) == sorted(r.id for r in report.results if r.status in ("fail", "warn"))


def test_the_system_is_told():
    told = Text(html.render(nodes.faulty(), Page())).sections["machine"]

    for words in (
        "7 × NVIDIA H100 80GB HBM3",
        "1 lost",
        "NVML_ERROR_GPU_IS_LOST",
        "gen5 x8 of x16",
        "16 of 18",
        "2 uncorrected ECC errors",
        "slowed by hw thermal",
        "400 Gb/s",
        "DOWN, Polling",
        "10.20.1.17/16",
        "570.172.08, open kernel module",
        "2.9.1+cu128",
        "64 KiB",
        "8 MiB, at most unlimited",
        "NVSwitch",
        "Bus bandwidth, GB/s",
        "161 GB/s",
        "16 (SLURM_NNODES)",
    ):
        assert words in told, words


def test_the_environment_is_told_by_its_list():
    told = Text(html.render(nodes.healthy(), Page())).sections["seen"]

    assert "NCCL_IB_HCA" in told
    assert "=mlx5_0,mlx5_1" in told
    assert "9 told, 1 withheld" in told
    assert "NCCL_SITE_COOKIE" in told


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("none", "Names, users and addresses are told as they are"),
        ("internal", "Users, mail addresses and accounts stand as tokens"),
        ("public", "stand as tokens, the same one for the same value"),
    ],
)
def test_it_says_what_was_withheld(samples, level, said):
    redaction = Redaction(level=level, replaced={"host name": 7} if level != "none" else {})
    report = replace(samples["container"], redaction=redaction)
    told = " ".join(Text(html.render(report, Page())).sections["about"].split())

    assert f"Redaction: {level}." in told
    assert said in told
    assert ("Host name7 replaced" in told) is (level != "none")


def test_facts_of_another_version_are_shown_as_they_came(samples):
    """Of a field with another type nothing is drawn, and nothing breaks."""
    facts = {"gpus": {"devices": "eight"}, "rdma": 7, "network": {"absent": "no"}, "new": {"a": 1}}
    report = samples["container"]
    node = replace(report.nodes[0], facts=facts)
    page = html.render(replace(report, nodes=(node,)), Page())

    assert "<svg" in page
    assert "NVSwitch" not in page
    assert "new" in Text(page).sections["seen"]


def test_a_report_read_from_a_file_gives_the_same_page():
    report = nodes.faulty()
    again = msgspec.json.decode(msgspec.json.encode(report), type=Report)

    assert html.render(again, Page()) == html.render(report, Page())


@pytest.mark.parametrize("text", ["x" * 10_000, "\u05d0\u05d1 " * 3000, "<b>" * 3000])
def test_an_endless_name_is_cut_where_it_is_read_and_whole_in_the_json(samples, text):
    report = samples["container"]
    node = replace(report.nodes[0], name=text, facts={"system": {"hostname": text}})
    page = html.render(replace(report, nodes=(node,)), Page())
    told = Text(page).sections

    assert len(told["verdict"]) < 1000
    assert max(len(line) for line in told["seen"].split("\n")) < 1000
    assert json.loads(told["script"].split("\n")[0])["nodes"][0]["name"] == text


def test_what_is_pasted_is_never_cut(samples):
    report = samples["container"]
    command = f"echo {'x' * 5000} \\\n  --last"
    step = replace(report.next_steps[0], command=command)
    page = html.render(replace(report, next_steps=(step,)), Page())

    assert f"{command}\n</code></pre>" in page
