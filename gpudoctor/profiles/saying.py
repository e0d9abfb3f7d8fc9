"""What each profile demands and why: as text, JSON and Markdown; docs/profiles.md has the last."""

import textwrap
from collections.abc import Iterable, Iterator

import msgspec

from gpudoctor.config import Profile

WIDTH, INDENT = 80, 18


def as_text(profiles: Iterable[Profile]) -> str:
    """For a terminal of 80 columns."""
    return "\n".join("\n".join(_lines(profile)) + "\n" for profile in profiles)


def as_json(profiles: Iterable[Profile]) -> str:
    """A list of objects; what is inherited is in each."""
    rows = [msgspec.to_builtins(profile) for profile in profiles]
    rows = [{"name": row.pop("name"), **row} for row in rows]
    return msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n"


def as_markdown(profiles: Iterable[Profile]) -> str:
    """A section for each."""
    return "\n".join("\n".join(_section(profile)) + "\n" for profile in profiles)


def _lines(profile: Profile) -> Iterator[str]:
    first = f"{profile.name:<16}  "
    if len(first) > INDENT:  # a path
        yield profile.name
        first = ""
    yield from _wrapped(profile.about, first or " " * INDENT, " " * INDENT)
    if profile.inherit:
        yield f"  inherits {profile.inherit}"
    if told := _workload(profile):
        yield from _wrapped(", ".join(told), "  workload: ", " " * 12)
    if profile.python:
        yield f"  Python {profile.python}"
    for package in profile.packages:
        yield f"  package {package.name} {package.versions}".rstrip()
        yield from _wrapped(package.why, " " * 6)
    for variable in profile.variables:
        yield f"  variable {_assigned(variable.name, variable.value)}: {variable.verdict}"
        yield from _wrapped(variable.why, " " * 6)
    yield from (f"  file {path}" for path in profile.files)
    if image := " ".join(filter(None, (profile.image_tag, profile.image_tar))):
        yield f"  image {image}"
    for note in profile.notes:
        yield from _wrapped(note, "  - ", " " * 4)


def _section(profile: Profile) -> Iterator[str]:
    yield from (f"### {profile.name}", "", f"{profile.about}.")
    inherited = [f"Inherits `{profile.inherit}`."] * bool(profile.inherit)
    told = [f"Workload: {', '.join(f'`{text}`' for text in _workload(profile))}."]
    said = [*inherited, *(told if profile.workload else [])]
    if profile.python:
        said.append(f"Python: `{profile.python}`.")
    said += [f"File: `{path}`." for path in profile.files]
    if image := " ".join(filter(None, (profile.image_tag, profile.image_tar))):
        said.append(f"Image: `{image}`.")
    if said:
        yield from ("", " ".join(said))
    if profile.packages:
        yield from ("", "| package | versions | why |", "| --- | --- | --- |")
    for package in profile.packages:
        versions = f"`{package.versions}`" if package.versions else "any"
        yield f"| `{package.name}` | {versions} | {_cell(package.why)} |"
    if profile.variables:
        yield from ("", "| variable | verdict | why |", "| --- | --- | --- |")
    for variable in profile.variables:
        name = _assigned(variable.name, variable.value)
        yield f"| `{name}` | {variable.verdict} | {_cell(variable.why)} |"
    if profile.notes:
        yield ""
    for note in profile.notes:
        yield f"- {_cell(note)}"


def _workload(profile: Profile) -> list[str]:
    return [f"{key.replace('_', '-')} = {value}" for key, value in profile.workload.items()]


def _assigned(name: str, value: str) -> str:
    return f"{name}={value}" if value else name


def _wrapped(text: str, first: str, more: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=more or first,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cell(text: str) -> str:
    """In Markdown, where some characters mean something else."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("__", "\\_\\_").replace("<", "&lt;")
