"""reports/fleet: text, JSON and HTML say the same, stay small, and obey nobody."""

import base64
import hashlib
import json
import re
import subprocess

import jsonschema
import msgspec
import pytest

from gpudoctor import fleet
from gpudoctor.fleet import model
from gpudoctor.registry import formats, report_format
from gpudoctor.report import Page
from tests.fleet import clusters
from tests.reports.test_html import Document

html, json_format, text = (report_format(f"fleet.{name}") for name in ("html", "json", "text"))


@pytest.fixture(params=["found", "hostile", "cluster", "empty"])
def any_fleet(request, tmp_path):
    if request.param == "empty":
        return fleet.gather(fleet.pieces([str(tmp_path)]))
    if request.param == "cluster":
        return fleet.of_report(clusters.report())
    return request.getfixturevalue(request.param)


@pytest.fixture
def page(any_fleet) -> str:
    return html.render(any_fleet, Page())


@pytest.fixture
def document(page) -> Document:
    return Document(page)


def test_the_formats_of_a_fleet():
    assert {"html", "json", "text"} <= set(formats("fleet."))
    assert "fleet" not in formats()


@pytest.mark.parametrize("unicode", [True, False])
def test_text_fits_a_terminal(any_fleet, unicode):
    lines = text.render(any_fleet, Page(unicode=unicode)).splitlines()
    pasted = ("      ", "  sbatch", "  gpudoctor")

    assert 1 <= len(lines) <= 60
    assert [line for line in lines if len(line) > 80 and not line.startswith(pasted)] == []
    assert all(line.isprintable() for line in lines)
    assert unicode or all(line.isascii() for line in lines)


def test_text_says_what_matters(found):
    said = text.render(found, Page())

    for words in (
        "300 nodes",
        "limits-memlock  15 nodes",
        "all named gpu-002-*",
        "always GPU 3",
        "memlock: 64 KiB",
        "What to do",
        "sbatch --exclude=",
        "Not read (2): cut off: it ends too early; ",
        f"{found.counts['fail']} failed",
    ):
        assert words in said


def test_text_is_silent_when_asked(found):
    assert text.render(found, Page(verbosity=-2)) == ""
    assert "What to do" not in text.render(found, Page(verbosity=-1))


def test_json_reads_back_as_the_same_fleet(any_fleet):
    raw = json_format.render(any_fleet, Page())

    assert msgspec.json.decode(raw, type=model.Fleet) == any_fleet


def test_json_is_as_its_schema_says(found, gpudoctor):
    told = subprocess.run([gpudoctor, "list", "--fleet-schema"], capture_output=True, check=True)
    schema = json.loads(told.stdout)

    jsonschema.validate(json.loads(json_format.render(found, Page())), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": "gpudoctor.fleet/1", "nodes": 3}, schema)


def test_formats_agree(any_fleet, document):
    published = json.loads(json_format.render(any_fleet, Page()))
    shown = " ".join(document.text.split())
    printed = " ".join(text.render(any_fleet, Page(width=200, verbosity=1)).split())

    for said in (shown, printed):
        assert f"{published['counts']['pass']} ok" in said
        assert {"error": "NO VERDICT", "skip": "NO VERDICT"}.get(
            published["status"], published["status"].upper()
        ) in said
    for problem in published["problems"][:10]:
        assert problem["id"] in shown or problem["id"].startswith("unchecked-")


def test_nothing_is_loaded(document):
    links = [link for link in document.values("href") if not link.startswith(("#", "data:,"))]
    loaders = ("src", "srcset", "action", "formaction", "poster", "data", "style", "background")

    assert links == []
    assert [name for name in loaders if document.values(name)] == []
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on")]


def test_the_policy_admits_just_what_is_inlined(document):
    policy = next(v for v in document.values("content") if v.startswith("default-src 'none'"))
    inlined = [(tag, words) for tag, words in document.raw if not words.startswith("{")]

    assert inlined
    for _, words in inlined:
        digest = base64.b64encode(hashlib.sha256(words.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_text_of_the_machine_stays_text(hostile):
    page = html.render(hostile, Page())
    shown = Document(page)

    assert "<script>alert(1)</script>" in shown.text
    assert not {"img", "iframe", "object"} & {tag for tag, _ in shown.tags}
    assert [c for c in page if c != "\n" and not c.isprintable()] == []


def test_no_script_makes_markup_of_text():
    source = str(report_format("page").asset("fleet.js"))

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source)


def test_references_lead_somewhere(document):
    ids = document.values("id")
    asked = [
        link[1:]
        for link in document.values("href")
        if link.startswith("#") and not link.startswith("#node=")
    ]

    assert len(ids) == len(set(ids))
    assert [name for name in [*asked, *document.values("aria-labelledby")] if name not in ids] == []


def test_a_page_has_few_rows(document):
    assert [tag for tag, _ in document.tags].count("tr") <= 300


def test_what_matters_is_there_without_scripts(found):
    shown = " ".join(Document(html.render(found, Page())).text.split())

    for words in ("FAIL", "sbatch --exclude=", "all named gpu-002-*", "always GPU 3", "64 KiB"):
        assert words in shown
    for node in found.problems[0].nodes.names.split(",")[:3]:
        assert node in shown


def test_details_are_left_out_before_a_page_grows_too_large(found, monkeypatch):
    whole = len(html.render(found, Page()))
    monkeypatch.setattr(html, "ISLAND_BYTES", 20_000)
    small = html.render(found, Page())

    assert len(small) < whole
    assert "Left out for its size" in small


def test_a_cluster_is_drawn():
    shown = Document(html.render_report(clusters.report(), Page()))
    said = " ".join(shown.text.split())

    for words in (
        "Between the nodes",
        "Who reaches whom",
        "ETIMEDOUT",
        "Clocks of the nodes",
        "+419 ms",
    ):
        assert words in said
    assert [tag for tag, _ in shown.tags].count("svg") > 3
    assert "Save the JSON" in said


def test_redaction_reaches_every_format(folder, gpudoctor):
    printed = {
        name: subprocess.run(
            [gpudoctor, "report", str(folder), "-f", name, "--redact", "public"],
            capture_output=True,
            text=True,
            encoding="utf-8",
        ).stdout
        for name in ("text", "json", "html")
    }

    for name, said in printed.items():
        assert not re.search(r"(gpu|amd)-0\d\d-", said), name
        assert "host-" in said
        assert "all with names alike" in said
    assert json.loads(printed["json"])["redaction"]["level"] == "public"


def test_a_link_is_shown_as_slow_only_where_a_finding_names_its_node():
    report = clusters.report()
    assert report.cluster
    cluster = msgspec.structs.replace(report.cluster, results=())
    unjudged = msgspec.structs.replace(report, cluster=cluster)

    assert html.render_report(report, Page()).count('<td class="warn"') == 2 * 7 - 2  # two are dead
    assert html.render_report(unjudged, Page()).count('<td class="warn"') == 0
