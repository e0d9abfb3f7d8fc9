"""For an issue or a ticket: GitHub's Markdown, folded, short enough for one post."""

import re
from collections.abc import Iterable, Iterator

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.report import Page, Report, Result
from gpudoctor.sheet import clean

LIMIT = 60_000  # characters; GitHub refuses a post of more than 65,536
MOST_BLOCK = 8_000  # characters of one finding; a longer one is told in a line
_ROOM = 400  # for saying what was cut

# What would be markup; and of what GitHub makes a link (@name, #12, GH-12, an address) or, at the
# beginning, a list or a heading.
_MARKUP = re.compile(
    r"(?P<mark>[\\`*_\[\]<>&|~$])|@|#(?=\d)|\bGH(?=-\d)|:(?=//)|\bwww(?=\.)|^[-+#=]|^\d+(?=[.)])",
    re.IGNORECASE,
)


def render(report: Report, page: Page) -> str:
    """All that fits, the most telling first; what does not is named at the end."""
    text, cut = _head(report), []
    for name, block in (*_findings(report), *_rest(report)):
        if len(text) + len(block) + _ROOM <= LIMIT:
            text += block
        else:
            cut.append(name)
    if cut:
        names = wording.several([_words(name) for name in dict.fromkeys(cut)], 8)
        text += f"\n_Cut, to fit one post: {names}._ The JSON (`-f json`) has everything.\n"
    return text


def _head(report: Report) -> str:
    nodes = report.nodes
    what = f"`{_code(nodes[0].name)}`" if len(nodes) == 1 else f"{len(nodes)} nodes"
    if wording.is_of_launches(report):
        what = f"{len(nodes)} launches"
    about = [
        f"{report.tool.name} {report.tool.version}",
        f"profile {report.run.profile}",
        report.run.started,
        *([", ".join(nodes[0].view)] if len(nodes) == 1 and nodes[0].view else []),
    ]
    redaction = wording.redaction(report.redaction)
    lines = [
        f"### gpudoctor: {wording.verdict_word(report)} on {_cut(what, 300)}",
        f"**{', '.join(wording.tally(report))}**",
        " · ".join(_words(_cut(word, 500)) for word in about),
        *([f"_{_words(redaction)}_"] if redaction else []),
        *(_words(remark) for remark in wording.verdict_remarks(report)),
    ]
    if report.cluster and report.cluster.missing:
        lines.append(f"**Missing:** {_words(wording.several(report.cluster.missing, 20))}")
    return "\n\n".join(lines) + "\n"


def _findings(report: Report) -> Iterator[tuple[str, str]]:
    """Pieces, each with the name under which it is missed."""
    if report.next_steps:
        lines = ["\n#### What to do\n"]
        for (who, detail), steps in wording.by_who(report.next_steps).items():
            lines.append(f"**{who.capitalize()}**{f' ({_words(detail)})' if detail else ''}\n")
            for step in steps:
                lines += [f"{_words(step.text)}\n"] if step.text else []
                lines += [f"{_fenced([step.command])}\n"] if step.command else []
        yield "what to do", "\n".join(lines)
    found = wording.found(report, Status.FAIL, Status.WARN)
    if found:
        yield "findings", "\n#### Findings\n"
    for entry in found:
        result = entry.result
        title = f"{wording.WORD[result.status]} {result.id}: {result.summary}"
        block = _folded(title + wording.on_nodes(entry, report), _finding(result, report))
        short = f"\n- {_words(_cut(title, 300))}\n"
        yield result.id, block if len(block) <= MOST_BLOCK else short
    for reason, entries in wording.causes(wording.found(report, Status.ERROR)).items():
        ids = ", ".join(dict.fromkeys(entry.result.id for entry in entries))
        lines = [f"Not known: {_words(_cut(ids, 2000))}", _words(_cut(reason, 2000))]
        yield ids, _folded(f"ERROR could not be checked: {_cut(reason, 200)}", lines)


def _finding(result: Result, report: Report) -> Iterator[str]:
    yield f"Who acts: {wording.WHO[result.owner]}"
    if result.place:
        yield f"`{_code(f'{result.place.file}:{result.place.line}')}`"
    if result.why:
        yield f"Later: {_words(result.why)}"
    rows = [[wording.WORD[rung.status], rung.name, rung.detail] for rung in result.ladder]
    if rows:
        yield _table(["", "layer", "seen"], rows)
    if result.evidence:
        yield _fenced(result.evidence)
    for fix in wording.fixes_for(result, report.run.launcher):
        note = wording.root_note(fix)
        yield f"**Fix**{f' ({note})' if note else ''}: {_words(fix.text)}"
        if fix.commands:
            yield _fenced(fix.commands)


def _rest(report: Report) -> Iterator[tuple[str, str]]:
    ignored = wording.found(report, Status.FAIL, Status.WARN, Status.ERROR, ignored=True)
    if ignored:
        rows = [
            [r.id, _cut(r.summary or r.reason, 300), r.ignored.reason if r.ignored else ""]
            for r in (entry.result for entry in ignored)
        ]
        table = _table(["check", "found", "ignored because"], rows)
        yield "ignored", _folded(f"Ignored ({len(rows)})", [table])
    if report.run.remarks:
        yield "remarks", _folded("Remarks", map(_words, report.run.remarks))
    groups = [(" of cluster", report.cluster.results)] if report.cluster else []
    several = len(report.nodes) > 1
    groups += [(f" of {node.name}" if several else "", node.results) for node in report.nodes]
    for where, results in groups:
        rows = [
            [wording.WORD[r.status], r.id, wording.WHO[r.owner], _cut(r.summary or r.reason, 300)]
            for r in results
        ]
        table = _table(["", "check", "who acts", "found"], rows)
        yield f"all checks{where}", _folded(f"All checks{where} ({len(rows)})", [table])


def _folded(title: str, parts: Iterable[str]) -> str:
    inside = "\n\n".join(parts)
    return f"\n<details><summary>{_words(title)}</summary>\n\n{inside}\n\n</details>\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_words(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _fenced(texts: Iterable[str]) -> str:
    """Lines as they are, between marks that none of them can be."""
    lines = [clean(line) for text in texts for line in text.split("\n")]
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])


def _words(text: str) -> str:
    """Text that shows as it is, and calls nobody."""
    return _MARKUP.sub(_tame, " ".join(clean(text).split()))


def _tame(found: re.Match[str]) -> str:
    """A mark as a number; into the rest an empty comment, so that it is no link."""
    return f"&#{ord(found[0])};" if found["mark"] else f"{found[0]}<!-- -->"


def _code(text: str) -> str:
    """What may stand between two backticks."""
    return clean(text).replace("`", "'").strip() or " "


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
