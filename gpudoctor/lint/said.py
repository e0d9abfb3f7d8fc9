"""What a file says of one launch, gathered field by field with its place."""

from collections.abc import Iterable
from typing import Any

from gpudoctor.facts.launch import Form, Launch
from gpudoctor.lint.job import job_of
from gpudoctor.lint.source import Source

_MAPPINGS = ("environment", "ulimits")
_LISTS = ("ports", "devices", "groups", "capabilities", "security", "mounts", "unknown", "late")
_OURS = (
    *("form", "launcher", "lines", "open_fields", "open_words", "refused", "torn", "unknown"),
    *("starter", "only_looks", "ranks", "nodes", "environment", "late", "unstepped"),
)
OTHERS = "environment.*"  # variables that the file does not name, but brings


class Said:
    """Grows into a Launch."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.fields: dict[str, Any] = {"environment": {}, "ulimits": {}, "refused": {}}
        self.lines: dict[str, int] = {}
        self._open_fields: list[str] = []
        self._open_words: list[str] = []

    def say(self, field: str, value: Any, at: int) -> None:
        """A field, or "environment.NAME"; one that is a list grows."""
        group, _, name = field.partition(".")
        if group in _MAPPINGS:
            self.fields[group][name] = value
        elif group in _LISTS:
            self.fields[group] = (*self.fields.get(group, ()), value)
            self._place(f"{group}.{value}" if isinstance(value, str) else group, at)
        else:
            self.fields[field] = value
        self._place(field, at)

    def leave_open(self, field: str, at: int, words: Iterable[str] = ()) -> None:
        """A field that only the moment of launch settles, and the words for what it waits for."""
        self._open_fields.append(field)
        self._open_words += words
        self._place(field, at)

    def leave_rest_open(self, word: str) -> None:
        """What is not said here may be said elsewhere; the word is for where."""
        rest = [name for name in Launch.__struct_fields__ if name not in self.lines]
        self._open_words.append(word)
        self._open_fields += [OTHERS, *(name for name in rest if name not in _OURS)]

    def refuse(self, what: str, why: str, at: int, field: str = "") -> None:
        """Something that the launcher will not take; the field it was for stays unknown."""
        self.fields["refused"][what] = why
        self._place(f"refused.{what}", at)
        if field:
            self._open_fields.append(field)

    def launch(self, form: Form, launcher: str, **more: Any) -> Launch:
        """All of it; what a command tells of ranks and nodes counts where nothing else does."""
        job = job_of(self.fields.get("command", ()))
        told = {
            name: value
            for name, value in (("ranks", job.ranks), ("nodes", job.nodes))
            if value is not None and name not in (*self.fields, *self._open_fields)
        }
        return Launch(
            **{**told, **self.fields, **more},
            form=form,
            launcher=launcher,
            starter=job.starter,
            only_looks=job.only_looks,
            open_fields=tuple(dict.fromkeys(self._open_fields)),
            open_words=tuple(dict.fromkeys(self._open_words)),
            lines=self.lines,
        )

    def _place(self, name: str, at: int) -> None:
        self.lines.setdefault(name, self._source.line_at(at))
