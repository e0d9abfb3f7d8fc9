"""The packages that a profile demands, and the Python that the job runs in."""

import re
from collections.abc import Mapping, Sequence
from shlex import join, quote

from gpudoctor import (
    Absent,
    Container,
    Demands,
    Finding,
    Fix,
    JobPython,
    PackageDemand,
    Packages,
    brief,
    check,
    count_of,
    fail,
    ok,
    skip,
    unknown,
)
from gpudoctor.facts.job_python import normal

GUESSED = ("PATH", "gpudoctor's own")  # how a Python was chosen that nobody named


@check(
    owner="image",
    symptoms=[
        r"No module named",
        r"cannot import name '\w+' from",
        r"module '[\w.]+' has no attribute",
        r"got an unexpected keyword argument",
        r"(?:DistributionNotFound|VersionConflict|PackageNotFoundError)",
    ],
)
def profile_packages(
    demands: Demands,
    job_python: JobPython,
    packages: Packages | Absent,
    container: Container | None,
) -> Finding:
    """The job's Python has the packages that the profile demands.

    A package of another version than the code was written for is found out when a rank imports
    or calls it: "ModuleNotFoundError: No module named 'bmtrain'", "cannot import name ... from",
    "got an unexpected keyword argument", or, where two libraries of one process disagree, by a
    crash without words.
    """
    if reason := _without(demands, job_python, packages, container):
        return reason
    installed = {} if isinstance(packages, Absent) else packages.versions
    version, wanted = job_python.version, demands.python
    wrong = {d.name: words for d in demands.packages if (words := _fault(d, installed))}
    told = [f"{wrong[d.name]}{_because(d)}" for d in demands.packages if d.name in wrong]
    if not _is_of(version, wanted):
        summary = f"Python is {version}, {demands.by} demands {wanted}"
        return fail(brief(summary), _anew(demands), evidence=told, basis=demands.basis)
    if wrong:
        of_all = f"{len(wrong)} of {count_of(len(demands.packages), 'package')}"
        summary = f"{of_all} not as {demands.by} demands: {', '.join(wrong)}"
        summary = next(iter(wrong.values())) if len(wrong) == 1 else summary
        missing = [demand for demand in demands.packages if demand.name in wrong]
        fix = Fix(text="Install them in the job's Python", commands=_pip(job_python.pip, missing))
        return fail(brief(summary), fix, evidence=told, basis=demands.basis)
    names = [normal(demand.name) for demand in demands.packages]
    evidence = [f"{name} {installed[name] or '(its files do not tell which)'}" for name in names]
    has = f"Python {version}, {count_of(len(names), 'package')}"
    return ok(brief(f"{has} as {demands.by} demands"), evidence)


def _without(
    demands: Demands,
    job_python: JobPython,
    packages: Packages | Absent,
    container: Container | None,
) -> Finding | None:
    """Why there is no verdict; None: there can be one."""
    if not (demands.packages or demands.python):
        return skip("no package is demanded: `packages` or `python` of a profile")
    image = demands.image_tag or demands.image_tar
    if image and job_python.chosen_by in GUESSED and container and container.runtime == "none":
        return skip(f"the job's Python is in {image}: check inside it, or name one with --python")
    if not job_python.version:
        return unknown(f"which Python {job_python.path} is, cannot be told by its files")
    if demands.packages and isinstance(packages, Absent):
        return unknown(f"the packages were not looked at: {packages.absent}")
    return None


def _fault(demand: PackageDemand, installed: Mapping[str, str]) -> str:
    """What is wrong with a package; empty: nothing, or it cannot be told."""
    found = installed.get(normal(demand.name))
    if found is None:
        return f"{demand.name} is not installed{_needs(demand)}"
    if not found or _is_of(found, demand.versions):
        return ""
    return f"{demand.name} is {found}{_needs(demand)}"


def _is_of(version: str, specifiers: str) -> bool:
    from gpudoctor.rules.versions import matches  # a run without demands needs none of it

    return matches(version, specifiers)


def _needs(demand: PackageDemand) -> str:
    return f", {demand.versions} is demanded" if demand.versions else ""


def _because(demand: PackageDemand) -> str:
    return f": {demand.why}" if demand.why else ""


def _pip(pip: str, demands: Sequence[PackageDemand]) -> list[str]:
    """A command for all that need the same options, and those without any first."""
    commands = []
    for options in sorted({demand.options for demand in demands}):
        words = [f"{d.name}{d.versions.replace(' ', '')}" for d in demands if d.options == options]
        said = f"{options} " if options else ""
        commands.append(f"{pip} install {said}{join(words)}")
    return commands


def _anew(demands: Demands) -> Fix:
    """Another Python has other packages: an environment with all of them."""
    name = re.sub(r".*/|\.toml$|^profile ", "", demands.by) or "job"
    python = re.sub(r"==([\d.]+)(\.\*)?$", r"=\1", demands.python.replace(" ", ""))
    return Fix(
        text=f"Make an environment with Python {demands.python}",
        commands=[
            f"conda create -y -n {quote(name)} {quote(f'python{python}')}",
            *_pip(f"conda run -n {quote(name)} python -m pip", demands.packages),
        ],
    )
