"""Configuration: gpudoctor.toml, [tool.gpudoctor], profiles, ignores.

An option on the command line wins over its GPUDOCTOR_ variable, that over the file. One
file is read: the one named, else the first found on the way described at `find`.
"""

import datetime
import os
import re
import stat
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from gpudoctor.facts.demands import Demands, PackageDemand, VariableDemand
from gpudoctor.facts.expectations import STATED
from gpudoctor.units import MOST, parse_count, parse_size

T = TypeVar("T")
D = TypeVar("D", bound=PackageDemand | VariableDemand)
DEFAULT = "train"  # a test holds its file to demanding nothing
_ONE = ("python", "image_tar", "image_tag")
_PYTHON = r"\d+(\.\d+)?(\.\*)?"  # its patch release is not told by any file
_MOST_BYTES = 1 << 20  # of a file
_SECRET = r"SECRET|PASSW|CREDENTIAL|TOKEN(?!IZER)|(ACCESS|API|PRIVATE)_?KEY"
SYSTEM_FILE = "/etc/gpudoctor/config.toml"


class BadConfig(ValueError):
    """A configuration that cannot be used; the message names the file and the key."""


class Ignore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A result that shall not count. Without a reason there is no ignoring."""

    check: str  # an id, or a pattern such as "storage-*"
    reason: str
    expires: datetime.date | None = None
    match: str = "*"  # pattern of node names

    def is_expired(self, today: datetime.date) -> bool:
        return self.expires is not None and today > self.expires


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What a configuration file may say; the keys are the long options' names."""

    profile: str | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()  # directories of a site's own checks
    strict: bool = False
    deadline: float | None = None
    python: str | None = None
    output: tuple[str, ...] = ()
    workload: Mapping[str, int | str] = {}
    expect: Mapping[str, int] = {}
    ignore: tuple[Ignore, ...] = ()
    path: str = ""  # where it was read from; not a key of the file


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What a workload needs.

    `notes` are for people: why it demands what it demands, and what it leaves to which check.
    """

    about: str
    inherit: str | None = None
    notes: tuple[str, ...] = ()
    workload: Mapping[str, int | str] = {}
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    python: str = ""  # this and what follows: the fields of gpudoctor.facts.demands
    packages: tuple[PackageDemand, ...] = ()
    variables: tuple[VariableDemand, ...] = ()
    files: tuple[str, ...] = ()
    image_tar: str = ""
    image_tag: str = ""
    name: str = ""

    def demands(self, files: tuple[str, ...] = (), tar: str = "", tag: str = "") -> Demands | None:
        """What it asks for beyond the machine, with what options add; None: nothing."""
        asked = Demands(
            by=f"profile {self.name}",
            python=self.python,
            packages=self.packages,
            variables=self.variables,
            files=tuple(map(_without_key, (*self.files, *files))),
            image_tar=tar or self.image_tar,
            image_tag=tag or self.image_tag,
        )
        return None if asked == Demands(by=asked.by) else asked


def _without_key(path: str) -> str:
    """An address as reports may tell it: signed ones have their key behind the question mark."""
    if "://" not in path:
        return path
    from gpudoctor.redact import cut_secrets

    return cut_secrets(path.partition("?")[0])


def load(path: str | None = None) -> Config:
    """The configuration.

    Args:
        path: the file; None: the one that `find` finds, or the defaults.

    Raises:
        BadConfig: it cannot be read, or says what nobody understands.
    """
    found = path or find()
    if found is None:
        return Config()
    try:
        with open(found, "rb") as file:
            data = _parse(file.read(_MOST_BYTES + 1), found)
    except OSError as error:
        raise BadConfig(f"{found}: {error.strerror}") from None
    if os.path.basename(found) == "pyproject.toml":
        data = data.get("tool", {}).get("gpudoctor", {})
    config = _convert({**data, "path": found}, Config, found)
    here = os.path.dirname(os.path.abspath(found))
    workload = _workload(config.workload, found)
    named = config.profile
    if named and _is_path(named):
        named = os.path.join(here, named)
    for key in config.expect:
        if key not in STATED:
            raise BadConfig(f"{found}: expect has no {key!r}; it has: {', '.join(STATED)}")
    return msgspec.structs.replace(
        config,
        profile=named,
        workload=workload,
        checks=tuple(os.path.join(here, folder) for folder in config.checks),
    )


def find() -> str | None:
    """The first of: gpudoctor.toml here, pyproject.toml with [tool.gpudoctor] here or above,
    the user's, the system's. One that belongs to a stranger is passed over: it could name
    directories to load code from.
    """
    here = _cwd()
    user = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    candidates = [os.path.join(here, "gpudoctor.toml")] if here else []
    while here:
        candidates.append(os.path.join(here, "pyproject.toml"))
        here = "" if here == os.path.dirname(here) else os.path.dirname(here)
    candidates += [os.path.join(user, "gpudoctor", "config.toml"), SYSTEM_FILE]
    return next((path for path in candidates if _is_ours(path)), None)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed, or not readable
        return ""


def _is_ours(path: str) -> bool:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            return False
        if os.path.basename(path) != "pyproject.toml":
            return True
        with open(path, "rb") as file:
            return b"[tool.gpudoctor" in file.read(1 << 20)
    except OSError:
        return False


def profile(name: str | None = None) -> Profile:
    """A profile by its name, or by the path of a site's own file; what it inherits filled in.

    None is the default one, `train`, which demands nothing.

    Raises:
        BadConfig: there is none of that name, or it cannot be used.
    """
    if name is None:
        return Profile(about="", name=DEFAULT)
    seen: list[str] = []
    merged: dict[str, Any] = {}
    wanted: str | None = name
    while wanted is not None:
        if wanted in seen:
            raise BadConfig(f"profile {name}: inherits itself: {' > '.join([*seen, wanted])}")
        seen.append(wanted)
        one = _profile(wanted)
        merged = {
            "about": merged.get("about") or one.about,
            "inherit": merged.get("inherit") or one.inherit,
            "notes": (*one.notes, *merged.get("notes", ())),
            "workload": {**one.workload, **merged.get("workload", {})},
            "only": merged.get("only") or one.only,
            "skip": (*one.skip, *merged.get("skip", ())),
            "packages": _by_name(one.packages, merged.get("packages", ())),
            "variables": _by_name(one.variables, merged.get("variables", ())),
            "files": (*one.files, *merged.get("files", ())),
            **{key: merged.get(key) or getattr(one, key) for key in _ONE},
        }
        wanted = one.inherit
        if wanted and _is_path(wanted):
            wanted = os.path.join(os.path.dirname(seen[-1]), wanted)
    return Profile(**merged, name=name)


def _is_path(name: str) -> bool:
    return name.endswith(".toml") or "/" in name


def _by_name(inherited: tuple[D, ...], own: tuple[D, ...]) -> tuple[D, ...]:
    """What is inherited, but for what is said anew."""
    return tuple({demand.name: demand for demand in (*inherited, *own)}.values())


def profiles() -> list[str]:
    """The names of the built-in profiles."""
    from gpudoctor import profiles as package

    folder = os.path.dirname(package.__file__ or "")
    return sorted(n.removesuffix(".toml") for n in os.listdir(folder) if n.endswith(".toml"))


def _profile(name: str) -> Profile:
    if _is_path(name):
        try:
            with open(name, "rb") as file:
                raw = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise BadConfig(f"profile {name}: {error.strerror}") from None
    else:
        if name not in profiles():
            raise BadConfig(f"there is no profile {name!r}; there are: {', '.join(profiles())}")
        import pkgutil

        raw = pkgutil.get_data("gpudoctor.profiles", f"{name}.toml") or b""
    where = f"profile {name}"
    found = _convert(_parse(raw, where), Profile, where)
    if fault := _fault(found):
        raise BadConfig(f"{where}: {fault}")
    return msgspec.structs.replace(found, workload=_workload(found.workload, where))


def _fault(found: Profile) -> str:
    """What of its demands nobody could check; empty: nothing."""
    from gpudoctor.redact import cut_secrets
    from gpudoctor.rules.versions import misspelt

    if found.name:
        return "its name is that of its file"
    for package in found.packages:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", package.name):
            return f"packages: {package.name!r} is not a package's name"
        if why := misspelt(package.versions):
            return f"packages.{package.name}.versions: {why}"
        if not re.fullmatch(r"(-[\w./:=+@ -]+)?", package.options):
            return f"packages.{package.name}.options: {package.options!r} are not options of pip"
    for variable in found.variables:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable.name):
            return f"variables: {variable.name!r} is not a variable's name"
        if variable.value and (
            re.search(_SECRET, variable.name) or cut_secrets(variable.value) != variable.value
        ):
            return f"variables.{variable.name}: leave its value out: reports would tell the secret"
    if why := misspelt(found.python):
        return f"python: {why}"
    for clause in filter(None, found.python.split(",")):
        if not re.fullmatch(_PYTHON, clause.strip(" =<>!~")):
            return f"python: {clause.strip()!r}: only major and minor version count: ==3.8.*"
    return ""


def _parse(raw: bytes, where: str) -> dict[str, Any]:
    # Imported here because a run without a file needs none of it, and it costs 3 ms.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    if len(raw) > _MOST_BYTES:
        raise BadConfig(f"{where}: more than {_MOST_BYTES} bytes")
    try:
        return tomllib.loads(raw.decode(), parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{where}: not TOML: {error}") from None


def _number(text: str) -> int | float:
    """A whole one where it is: `model-params = 10e9` is a count."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _convert(data: dict[str, Any], kind: type[T], where: str) -> T:
    from gpudoctor.facts.workload import FLAGS

    told = data.get("workload")
    if isinstance(told, dict):  # flags are numbers there, as the other fields
        told |= {flag: int(told[flag]) for flag in FLAGS if isinstance(told.get(flag), bool)}
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise BadConfig(f"{where}: {error}") from None


def _workload(told: Mapping[str, int | str], where: str) -> dict[str, int | str]:
    """A workload table with the field names of `Workload`, sizes as bytes, counts as numbers."""
    from gpudoctor.facts.workload import Workload

    kinds = {f.name: f.type for f in msgspec.structs.fields(Workload) if f.name != "told_by"}
    fields: dict[str, int | str] = {}
    for key, value in told.items():
        name = key.replace("-", "_")
        if name not in kinds:
            known = ", ".join(field.replace("_", "-") for field in kinds)
            raise BadConfig(f"{where}: workload has no {key!r}; it has: {known}")
        try:
            fields[name] = _of_kind(value, kinds[name], name)
        except ValueError as error:
            raise BadConfig(f"{where}: workload.{key}: {error}") from None
    return fields


def _of_kind(value: int | str, kind: object, name: str) -> int | str:
    """A field's value: "37MiB" of what is counted in bytes, "7B" of all else.

    Raises:
        ValueError: it is not of that kind.
    """
    from gpudoctor.facts.workload import AT_LEAST_ONE, METHODS, SHARDINGS

    words = {"method": METHODS, "sharding": SHARDINGS}
    if name in words and value not in words[name]:
        raise ValueError(f"{value!r} is none of: {', '.join(words[name])}")
    if kind is str and not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    if kind is int and isinstance(value, str):
        value = (parse_size if name.endswith("_bytes") else parse_count)(value)
    least = 1 if name in AT_LEAST_ONE else 0
    if isinstance(value, int) and not least <= value <= MOST:
        below = f"{value} is below {least}"
        raise ValueError(below if value < least else "more than there is of anything")
    return value
