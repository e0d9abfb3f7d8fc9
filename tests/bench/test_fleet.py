"""What a report of 100, 1000 and 10,000 nodes costs: seconds, memory, bytes, first paint."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.bench.test_check import measure
from tests.browser.conftest import browser, tab  # noqa: F401
from tests.fleet import synthetic

SIZES = (100, 1000, 10_000)
SECONDS = 10
PEAK = 300 << 20  # bytes of memory
PAGE = 5 << 20  # bytes of HTML
PAINT = 2000  # milliseconds until something is seen
ROWS = 300  # of tables, before a click
PAINTED = "performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)"


@pytest.fixture(scope="module")
def fleets(tmp_path_factory) -> dict[int, Path]:
    """Folders of reports, by how many."""
    made = {size: tmp_path_factory.mktemp(f"fleet-{size}") for size in SIZES}
    for size, folder in made.items():
        synthetic.write(folder, size)
    return made


@pytest.fixture(scope="module")
def pages(fleets, gpudoctor) -> dict[int, tuple[Path, float, int]]:
    """The page of each, the seconds that it took, and the peak of memory."""
    made = {}
    for size, folder in fleets.items():
        page = folder.with_name(f"{size}.html")
        command = [gpudoctor, "report", str(folder), "-qq", "-o", f"html={page}"]
        (seconds,), peak = measure(1, command)
        made[size] = (page, seconds, peak)
    return made


def growth(values: dict[int, float]) -> str:
    return ", ".join(f"{value:.4g} ({size})" for size, value in values.items())


def test_time_and_memory(fleets, pages, say):
    seconds = {size: taken for size, (_, taken, _) in pages.items()}
    peaks = {size: peak / (1 << 20) for size, (_, _, peak) in pages.items()}
    read = sum(path.stat().st_size for path in fleets[SIZES[-1]].iterdir()) / (1 << 20)

    say(f"a fleet of {SIZES[-1]} nodes is {read:.0f} MiB of reports")
    say(f"seconds: {growth(seconds)}; budget {SECONDS}")
    say(f"MiB of memory: {growth(peaks)}; budget {PEAK >> 20}")
    assert max(peaks.values()) <= PEAK >> 20
    assert seconds[SIZES[-1]] <= 6 * SECONDS, "far beyond the budget: no busy machine explains that"


def test_pages_are_small(pages, say):
    sizes = {size: page.stat().st_size / (1 << 20) for size, (page, _, _) in pages.items()}
    rows = {n: len(re.findall("<tr[ >]", page.read_text())) for n, (page, _, _) in pages.items()}

    say(f"MiB of HTML: {growth(sizes)}; budget {PAGE >> 20}")
    say(f"rows before a click: {growth(dict(rows))}; budget {ROWS}")
    assert max(sizes.values()) <= PAGE >> 20
    assert max(rows.values()) <= ROWS


def test_first_paint(pages, tab, say):  # noqa: F811
    painted = {}
    for size, (page, _, _) in pages.items():
        opened = tab(page, width=1280)
        opened.until(f"({PAINTED}).length > 0")
        painted[size] = opened.ask(PAINTED)[0]

    say(f"ms to the first paint: {growth(painted)}; budget {PAINT}")
    assert opened.ask("document.querySelectorAll('tr').length") <= ROWS
    assert max(painted.values()) <= 5 * PAINT, "far beyond the budget"


def test_the_worst_fleet_is_cut_to_its_size(tmp_path, gpudoctor, say):
    """Every node has five findings with words of its own: details give way, verdicts do not."""
    kinds = synthetic.Kinds()
    report = json.loads(kinds.raw("H100", synthetic.SILENT))
    for number in range(3000):
        node = report["nodes"][0]
        node["name"] = f"n{number:05}"
        for result in node["results"][:8]:
            result["status"], result["summary"] = "warn", f"{result['id']} on {node['name']}"
            result["evidence"] = [
                f"line {line} of {node['name']} " + "x" * 90 for line in range(12)
            ]
        (tmp_path / f"{number}.json").write_text(json.dumps(report))
    page = tmp_path / "fleet.html"
    subprocess.run([gpudoctor, "report", tmp_path, "-qq", "-o", f"html={page}"], check=False)

    mib = page.stat().st_size / (1 << 20)
    say(f"3000 nodes with 24,000 findings, no two alike: {mib:.2f} MiB of HTML")
    assert mib <= PAGE >> 20
    assert "Left out for its size" in page.read_text()
