"""Find checks, probes and formats: built in, entry points, `--checks DIR`.

Three steps, each simple: find names, import them, take what they define. A plug-in that
fails to load is a `Broken`, never an exception.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from msgspec import Struct

from gpudoctor.check import CLUSTER, LAUNCH, Check
from gpudoctor.probes import Probe
from gpudoctor.snapshot import Fact, builtin_kinds, name_of

GROUP = "gpudoctor.checks"


class Broken(Struct, frozen=True):
    """A plug-in that did not load, and why."""

    name: str
    error: str


class Catalogue(Struct, frozen=True):
    """All checks and probes that there are, and the plug-ins that could not be had."""

    checks: tuple[Check, ...]
    probes: tuple[Probe[Any], ...] = ()  # of plug-ins; built-in ones are found by their fact
    broken: tuple[Broken, ...] = ()

    def find(self, word: str) -> Check | None:
        """A check by its id or a former one, with hyphens or underscores, in any case."""
        word = word.lower().replace("_", "-")
        for check in self.checks:
            if word == check.id or word in check.aliases:
                return check
        return None

    def probes_for(self, kinds: Iterable[type[Fact]]) -> list[Probe[Any]]:
        """The probes that bring these facts, each once."""
        own = {probe.kind: probe for probe in self.probes}
        found = [own.get(kind) or _builtin_probe(kind) for kind in dict.fromkeys(kinds)]
        return [probe for probe in found if probe is not None]

    def all_probes(self) -> list[Probe[Any]]:
        """Every probe, built in and brought by plug-ins."""
        return [*builtin_probes(), *self.probes]

    @property
    def kinds(self) -> list[type[Fact]]:
        """The facts that plug-ins brought."""
        return [probe.kind for probe in self.probes]


def load(
    directories: Sequence[str] = (), *, launch: bool = False, cluster: bool = False
) -> Catalogue:
    """Everything that there is.

    Args:
        directories: of a site's own checks, one or more modules each.
        launch: also the checks that judge launch files, and no machine.
        cluster: also those that judge several nodes together.
    """
    checks = builtin_checks(launch=launch, cluster=cluster)
    probes: list[Probe[Any]] = []
    broken: list[Broken] = []
    taken = {check.id for check in checks}
    for name, module in _plugins(directories):
        if isinstance(module, str):
            broken.append(Broken(name, module))
            continue
        try:
            found = _defined(module, Check)
            looks = _defined(module, Probe)
            _validate(found, looks, taken)
        except Exception as error:
            broken.append(Broken(name, _words(error)))
            continue
        taken |= {check.id for check in found}
        checks += found
        probes += looks
    return Catalogue(tuple(checks), tuple(probes), tuple(broken))


def builtin_checks(*, launch: bool = True, cluster: bool = True) -> list[Check]:
    """The checks of `gpudoctor.checks`, by topic and then as they stand in their modules."""
    wanted = {LAUNCH: launch, CLUSTER: cluster}
    modules = _modules("gpudoctor.checks", [topic for topic, is_in in wanted.items() if not is_in])
    return [check for module in modules for check in _defined(module, Check)]


def get(check_id: str) -> Check:
    """A built-in check by its id.

    Raises:
        KeyError: there is none.
    """
    topic = f"gpudoctor.checks.{check_id.partition('-')[0]}"
    checks: dict[str, Check] = {c.id: c for m in _modules(topic) for c in _defined(m, Check)}
    return checks[check_id]


def builtin_probes() -> list[Probe[Any]]:
    """Every probe of `gpudoctor.probes`."""
    return [probe for module in _modules("gpudoctor.probes") for probe in _defined(module, Probe)]


def quick_probes() -> list[Probe[Any]]:
    """The built-in isolated probes that every plain run needs, found without any check."""
    facts, looks = map(importlib.import_module, ("gpudoctor.facts", "gpudoctor.probes"))
    names = sorted({*_names(facts)} & {*_names(looks)})  # a launch is read, never looked for
    modules = [importlib.import_module(f"gpudoctor.probes.{name}") for name in names]
    probes = [probe for module in modules for probe in _defined(module, Probe)]
    return [p for p in probes if p.isolated and not p.deep and not p.slow]


def _modules(name: str, without: Sequence[str] = ()) -> Iterator[ModuleType]:
    """A module, or those inside a package, sorted; scripts for foreign Pythons left out."""
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        yield module
        return
    for inside in _names(module):
        if inside != "foreign" and inside not in without:
            yield from _modules(f"{name}.{inside}")


def _names(package: ModuleType) -> list[str]:
    """The modules and packages in a package, sorted; pkgutil's way costs a millisecond more."""
    found = os.listdir(package.__path__[0])
    modules = [name[:-3] for name in found if name.endswith(".py") and name != "__init__.py"]
    folders = [
        name
        for name in found
        if name.isidentifier() and os.path.exists(f"{package.__path__[0]}/{name}/__init__.py")
    ]
    return sorted([*modules, *folders])


def formats(of: str = "") -> list[str]:
    """The names of all report formats: one module each; what they share stands in packages.

    `of` is the package of those for another document, "diff.".
    """
    package = importlib.import_module(f"gpudoctor.reports.{of}".rstrip("."))
    files = os.listdir(package.__path__[0])
    shared = ("__init__.py", "drawings.py")
    return sorted(name[:-3] for name in files if name.endswith(".py") and name not in shared)


def report_format(name: str) -> ModuleType:
    """The module of a format; it has `render(report, page) -> str`."""
    return importlib.import_module(f"gpudoctor.reports.{name}")


def _builtin_probe(kind: type[Fact]) -> Probe[Any] | None:
    # A fact and the probe that brings it stand in modules of the same name.
    if not kind.__module__.startswith("gpudoctor.facts."):
        return None
    name = kind.__module__.replace(".facts.", ".probes.")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None  # what is read or put together, and never looked for
    return next((probe for probe in _defined(module, Probe) if probe.kind is kind), None)


def _defined(module: ModuleType, kind: Any) -> list[Any]:
    """What a module itself defines, imports left out, in its order."""
    found = [value for value in vars(module).values() if isinstance(value, kind)]
    attribute = "judge" if kind is Check else "look"
    return [v for v in found if getattr(v, attribute).__module__ == module.__name__]


def _validate(checks: Sequence[Check], probes: Sequence[Probe[Any]], taken: set[str]) -> None:
    for check in checks:
        _ = check.needs  # its parameters must be facts
        if check.id in taken:
            raise ValueError(f"the id {check.id!r} is taken")
        if not check.title:
            raise ValueError(f"the check {check.id!r} has no docstring")
    if probes:
        known = {name_of(kind) for kind in builtin_kinds()}
        for probe in probes:
            if name_of(probe.kind) in known:
                raise ValueError(f"the fact {name_of(probe.kind)!r} is built in")


def _plugins(directories: Sequence[str]) -> Iterator[tuple[str, ModuleType | str]]:
    """Name and module of every plug-in; instead of the module, why it did not load."""
    for name, where in sorted(_entry_points(sys.path)):
        yield name, _imported(name, lambda where=where: importlib.import_module(where))
    for directory in directories:
        try:
            files = sorted(name for name in os.listdir(directory) if name.endswith(".py"))
        except OSError as error:
            yield directory, _words(error)
            continue
        for file in files:
            path = os.path.join(directory, file)
            yield file[:-3], _imported(file[:-3], lambda path=path: _from_file(path))


def _imported(name: str, run: Any) -> ModuleType | str:
    try:
        return run()  # type: ignore[no-any-return]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may raise anything, even SystemExit
        return _words(error)


def _from_file(path: str) -> ModuleType:
    name = os.path.basename(path)[:-3]
    spec = importlib.util.spec_from_file_location(f"gpudoctor_site.{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _entry_points(search: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Entry points of our group as (name, module).

    Read off the dist-info directories: importlib.metadata costs 40 ms for the same.
    """
    for folder in search:
        try:
            infos = [
                n for n in os.listdir(folder or ".") if n.endswith((".dist-info", ".egg-info"))
            ]
        except OSError:
            continue
        for info in infos:
            try:
                with open(os.path.join(folder, info, "entry_points.txt"), "rb") as file:
                    text = file.read()
            except OSError:
                continue
            if f"[{GROUP}]".encode() in text:
                yield from _parse_entry_points(text.decode("utf-8", "replace"))


def _parse_entry_points(text: str) -> Iterator[tuple[str, str]]:
    inside = False
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, where = line.partition("=")
            yield name.strip(), where.partition(":")[0].partition("[")[0].strip()


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
