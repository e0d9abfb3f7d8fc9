"""Where reports go: stdout, files, and remarks to stderr."""

import contextlib
import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import click

from gpudoctor import registry
from gpudoctor.children import Observer, unobserved
from gpudoctor.report import Page, Report

if TYPE_CHECKING:  # at run time only where something leaves
    from gpudoctor.cli.stream import Stream
    from gpudoctor.sharing import Redactor


def say(text: str) -> None:
    """A remark, to stderr."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"gpudoctor: {text}", err=True)


class Outputs:
    """One format for stdout and any number of files.

    Raises:
        click.UsageError: an unknown format, or a path that cannot be written to.
    """

    def __init__(
        self,
        stdout_format: str,
        files: tuple[str, ...],
        verbosity: int,
        *,
        of: str = "",
        redact: str | None = None,
    ) -> None:
        self._verbosity = verbosity
        self._redact = redact
        self._redactor: Redactor | None = None
        self._streamed: Stream | None = None
        self._of = of  # the package of formats for what is no report
        self._format = self._known(stdout_format)
        self._files: list[tuple[str, str]] = []
        for text in files:
            name, sign, path = text.partition("=")
            if not sign or not path:
                raise click.UsageError(
                    f"--output {text}: must be FORMAT=PATH, as in html=report.html"
                )
            if path == "-":
                self._format = self._known(name)
                continue
            folder = os.path.dirname(path) or "."
            if not os.path.isdir(folder):
                raise click.UsageError(f"--output {text}: there is no directory {folder}")
            self._files.append((self._known(name), path))

    def _known(self, name: str) -> str:
        known = registry.formats(self._of)
        if name not in known:
            raise click.UsageError(f"there is no format {name!r}; there are: {', '.join(known)}")
        return name

    def stream(self) -> Observer:
        """Tells events on stdout while the run goes on, if that is its format."""
        if self._format != "jsonl" or self._verbosity < -1:
            return unobserved
        from gpudoctor.cli.stream import Stream

        self._streamed = Stream(self.redactor(), to_stdout)
        return self._streamed

    def redactor(self) -> "Redactor":
        """Takes out of all outputs of this run what may not leave."""
        if self._redactor is None:
            from gpudoctor.identities import identities
            from gpudoctor.sharing import Redactor

            names = identities(os.environ, os.uname().nodename)
            self._redactor = Redactor(self._redact or "internal", names)
        return self._redactor

    def write(self, report: Any) -> bool:
        """Write everything; False if something could not be written (and it is said)."""
        done = True
        # Text on stdout is read where commands must stay usable.
        here = self._format == "text" and self._redact is None
        shared = report if here and not self._files else self._shared(report)
        for name, path in self._files:
            try:
                write_file(path, render(shared, self._of + name, Page(width=100, verbosity=1)))
            except OSError as error:
                say(f"{path} could not be written: {error.strerror}")
                done = False
            else:
                if self._verbosity > -2:
                    say(f"wrote {path}")
        if self._verbosity > -2:
            said, name, page = report if here else shared, self._format, _page(self._verbosity)
            text = (
                self._streamed.rest(said) if self._streamed else render(said, self._of + name, page)
            )
            done = to_stdout(text) and done
        return done

    def _shared(self, report: Any) -> Any:
        """The report as it may leave; what is no report was made of some that did."""
        if not isinstance(report, Report):
            return report
        return self.redactor().report(report)

    def keep_files(self) -> None:
        """Write none: another node may write to the same ones."""
        self._files = []

    def exit_code(self, report: Any) -> int:
        """That of the report, or what the host for which the format on stdout is made expects."""
        own = getattr(registry.report_format(self._of + self._format), "exit_code", None)
        code: int = own(report) if own else report.exit_code
        return code


class Reporting(click.Command):
    """A command with --format: a mistake ends it as the host of that format expects."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.show()
            name = ctx.params["format_"]
            known = name in registry.formats()
            sys.exit(getattr(registry.report_format(name), "WRONG_USAGE", 2) if known else 2)


def render(report: Any, name: str, page: Page) -> str:
    """The report, or another document, in a format of it."""
    text: str = registry.report_format(name).render(report, page)
    return text


def write_file(path: str, text: str) -> None:
    """Whole or not at all: a reader never sees half a report."""
    partial = f"{path}.partial"
    with open(partial, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    os.replace(partial, path)


def to_stdout(text: str) -> bool:
    """Print, in whatever encoding; False if that could not be done (and it is said)."""
    try:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        raw = text.encode(encoding, "backslashreplace")
        sys.stdout.flush()
        out = getattr(sys.stdout, "buffer", None)
        if out is None:
            sys.stdout.write(raw.decode(encoding))
        else:
            out.write(raw)
            out.flush()
    except BrokenPipeError:  # `| head` has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        say(f"stdout could not be written: {error.strerror}")
        return False
    return True


def _page(verbosity: int) -> Page:
    terminal = _is_terminal(sys.stdout)
    return Page(
        color=_wants_color(terminal),
        unicode=_can_say(sys.stdout, "✓✗–"),
        width=min(_columns(sys.stdout), 100) if terminal else 80,
        verbosity=verbosity,
    )


def _columns(stream: TextIO) -> int:
    try:  # not by shutil, whose import costs 3 ms
        told = int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        told = 0
    return max(told, 40) if told else 80  # a serial console may say 0


def _wants_color(terminal: bool) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return terminal and os.environ.get("TERM", "") not in ("", "dumb")


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False


def _can_say(stream: object, text: str) -> bool:
    if os.environ.get("TERM") == "dumb" or _locale() in ("C", "POSIX"):
        return False
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _locale() -> str:
    """The locale that was asked for; empty if none was, as in most containers."""
    everything, characters, default = (
        os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")
    )
    # Python itself sets LC_CTYPE to a UTF-8 one when it finds C (PEP 538).
    if default in ("C", "POSIX") and characters.upper().endswith(("UTF-8", "UTF8")):
        characters = ""
    return everything or characters or default


class Progress:
    """On a terminal, after a second, one line that says what is being waited for."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown = False
        self._terminal = _is_terminal(sys.stderr) and not os.environ.get("CI")

    def __call__(self, names: list[str]) -> None:
        waited = time.monotonic() - self._started
        if not self._terminal or waited < 1.0:
            return
        words = ", ".join(names).replace("_", " ")
        line = f"gpudoctor: looking at {words} ({waited:.0f} s)"
        with contextlib.suppress(OSError):
            sys.stderr.write(f"\r{line[: _columns(sys.stderr) - 1]}\x1b[K")
            sys.stderr.flush()
            self._shown = True

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            with contextlib.suppress(OSError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
