"""Configuration: gpudoctor.toml, [tool.gpudoctor], profiles, ignores.

An option on the command line wins over its GPUDOCTOR_ variable, that over the file. One
file is read: the one named, else the first found on the way described at `find`.
"""

import datetime
import os
import stat
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from gpudoctor.facts.demands import Demands, PackageDemand, VariableDemand
from gpudoctor.facts.expectations import STATED
from gpudoctor.units import parse_size

T = TypeVar("T")
D = TypeVar("D", bound=PackageDemand | VariableDemand)
DEFAULT = "train"  # a test holds its file to demanding nothing
_ONE = ("python", "image_tar", "image_tag")
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
    """What a workload needs."""

    about: str
    inherit: str | None = None
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
            files=(*self.files, *files),
            image_tar=tar or self.image_tar,
            image_tag=tag or self.image_tag,
        )
        return None if asked == Demands(by=asked.by) else asked


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
            data = _parse(file.read(), found)
    except OSError as error:
        raise BadConfig(f"{found}: {error.strerror}") from None
    if os.path.basename(found) == "pyproject.toml":
        data = data.get("tool", {}).get("gpudoctor", {})
    config = _convert({**data, "path": found}, Config, found)
    here = os.path.dirname(os.path.abspath(found))
    workload = _workload(config.workload, found)
    for key in config.expect:
        if key not in STATED:
            raise BadConfig(f"{found}: expect has no {key!r}; it has: {', '.join(STATED)}")
    return msgspec.structs.replace(
        config,
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
            "workload": {**one.workload, **merged.get("workload", {})},
            "only": merged.get("only") or one.only,
            "skip": (*one.skip, *merged.get("skip", ())),
            "packages": _by_name(one.packages, merged.get("packages", ())),
            "variables": _by_name(one.variables, merged.get("variables", ())),
            "files": (*one.files, *merged.get("files", ())),
            **{key: merged.get(key) or getattr(one, key) for key in _ONE},
        }
        wanted = one.inherit
    return Profile(**merged, name=name)


def _by_name(inherited: tuple[D, ...], own: tuple[D, ...]) -> tuple[D, ...]:
    """What is inherited, but for what is said anew."""
    return tuple({demand.name: demand for demand in (*inherited, *own)}.values())


def profiles() -> list[str]:
    """The names of the built-in profiles."""
    from gpudoctor import profiles as package

    folder = os.path.dirname(package.__file__ or "")
    return sorted(n.removesuffix(".toml") for n in os.listdir(folder) if n.endswith(".toml"))


def _profile(name: str) -> Profile:
    if name.endswith(".toml") or "/" in name:
        try:
            with open(name, "rb") as file:
                raw = file.read()
        except OSError as error:
            raise BadConfig(f"profile {name}: {error.strerror}") from None
    else:
        if name not in profiles():
            raise BadConfig(f"there is no profile {name!r}; there are: {', '.join(profiles())}")
        import pkgutil

        raw = pkgutil.get_data("gpudoctor.profiles", f"{name}.toml") or b""
    found = _convert(_parse(raw, f"profile {name}"), Profile, f"profile {name}")
    return msgspec.structs.replace(found, workload=_workload(found.workload, f"profile {name}"))


def _parse(raw: bytes, where: str) -> dict[str, Any]:
    # Imported here because a run without a file needs none of it, and it costs 3 ms.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{where}: not TOML: {error}") from None


def _convert(data: object, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise BadConfig(f"{where}: {error}") from None


def _workload(told: Mapping[str, int | str], where: str) -> dict[str, int | str]:
    """A workload table with the field names of `Workload` and sizes as bytes."""
    from gpudoctor.facts.workload import Workload

    kinds = {f.name: f.type for f in msgspec.structs.fields(Workload) if f.name != "told_by"}
    fields: dict[str, int | str] = {}
    for key, value in told.items():
        name = key.replace("-", "_")
        if name not in kinds:
            known = ", ".join(field.replace("_", "-") for field in kinds)
            raise BadConfig(f"{where}: workload has no {key!r}; it has: {known}")
        if kinds[name] is int and isinstance(value, str):
            try:
                value = parse_size(value)
            except ValueError as error:
                raise BadConfig(f"{where}: workload.{key}: {error}") from None
        fields[name] = value
    return fields
