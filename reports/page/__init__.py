"""What every HTML page of ours has: one file, escaped text, and a policy that admits no other.

A page is a template that extends base.html.j2, and is rendered with `report` or whatever it
shows, `island` (its JSON), `styles` and `scripts`: files of templates/, inlined in that order.
"""

import base64
import functools
import hashlib
import json
import pkgutil
import re
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup, escape

from gpudoctor import __version__, wording
from gpudoctor.sheet import clean
from gpudoctor.units import size

MOST_CHARACTERS = 1200  # of a text on the page; the JSON has all of it
MOST_OF_A_NAME = 96
BASIS = {
    "vendor": "the vendor's documentation",
    "measured": "a measurement",
    "rule-of-thumb": "a rule of thumb, not a hard limit",
    "site": "this site's configuration",
}
STYLES = ("colors.css", "base.css")
SCRIPTS = ("base.js",)


def templates(**more: Any) -> jinja2.Environment:
    """An environment with our filters, in which `more` are known by name, too."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gpudoctor.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        BASIS=BASIS,
        MARK=wording.MARK,
        VERSION=__version__,
        WHERE=wording.WHERE,
        WHO=wording.WHO,
        WORD=wording.WORD,
        asset=asset,
        hash_of=hash_of,
        root_note=wording.root_note,
        several=wording.several,
        tally=wording.tally,
        verdict_word=wording.verdict_word,
        **more,
    )
    environment.filters.update(
        anchor=anchor,
        coded=coded,
        duration=wording.duration,
        name=name,
        size=size,
        spoken=spoken,
        whole=whole,
    )
    return environment


def _visible(value: Any) -> Any:
    """Whatever a template prints, without characters that a browser would obey, and not endless."""
    if type(value) is not str:
        return value
    if len(value) > MOST_CHARACTERS:
        left = len(value) - MOST_CHARACTERS
        value = f"{value[:MOST_CHARACTERS]} … and {left} characters more, in the JSON"
    return clean(value)


def without_margins(page: str) -> str:
    """The page without what its templates are indented by; what is pasted stays as it is."""
    parts = re.split(r"(<pre>.*?</pre>)", page, flags=re.DOTALL)
    return "".join(part if part.startswith("<pre>") else _without_margins(part) for part in parts)


def _without_margins(text: str) -> str:
    return re.sub(r"\n\s+", "\n", text)


def whole(text: str) -> Markup:
    """What is pasted: not one character may be missing."""
    return escape(clean(text))


def name(text: str, most: int = MOST_OF_A_NAME) -> str:
    """A name for a headline: of one that is endless, how it begins and ends."""
    text = clean(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"


def coded(text: str) -> Markup:
    """Running text in which `backticks` stand around code."""
    parts = re.split(r"`([^`]+)`", _visible(text))
    said = [
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part)
        for at, part in enumerate(parts)
    ]
    return Markup("").join(said)


def anchor(text: str) -> str:
    """A fragment of a page: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())[:MOST_OF_A_NAME]


def spoken(pattern: str) -> str:
    """A pattern of a later error, as somebody would read it out."""
    text = re.sub(r"\(\?[a-z]+\)|\\b|^\^|(?<!\\)\$$", "", pattern).replace("(?:", "(")
    text = re.sub(r"(?<!\\)\(([^()|]*)\)\?", r"\1", text)  # (non-fatal )?
    text = re.sub(r"(?<!\\)\.\?", " ", text)
    text = re.sub(r"(?<![\\.\])*+])[^\\\])*+]\?", "", text)  # an optional character
    text = re.sub(r"(\\[dDsSwW]|(?<!\\)\[[^\]]*\]|(?<!\\)\.(?=[*+]))([*+]\??)?", "…", text)
    return re.sub(r"\\(.)", r"\1", text)


@functools.cache
def asset(file: str) -> Markup:
    """A style sheet or script of ours, to stand inline."""
    text = (pkgutil.get_data("gpudoctor.reports.templates", file) or b"").decode()
    return Markup(_without_margins(text))


def hash_of(files: tuple[str, ...]) -> str:
    """What the content security policy says of inlined files."""
    digests = [hashlib.sha256(asset(file).encode()).digest() for file in files]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def island(document: Any) -> Markup:
    """JSON that may stand inside a script element, all in ASCII."""
    text = json.dumps(msgspec.to_builtins(document), separators=(",", ":"))
    return Markup(re.sub(r"[<>&\x7f]", lambda found: f"\\u{ord(found[0]):04x}", text))
