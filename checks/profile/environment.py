"""Environment variables, judged by what a profile says of them."""

from collections.abc import Iterable

from gpudoctor import (
    Demands,
    Environment,
    EnvSet,
    EnvUnset,
    Finding,
    Fix,
    Setting,
    VariableDemand,
    brief,
    check,
    count_of,
    fail,
    ok,
    skip,
    unknown,
    warn,
)
from gpudoctor.rules.env_faults import short
from gpudoctor.rules.variables import known

HIDDEN = "another value"  # of a name that is not on the allow-list, and has not the value told


@check(
    owner="job",
    symptoms=[
        r"environment variable \w+ expected, but not set",
        r"requires? setting the environment variable \w+",
        r"KeyError: '[A-Z][A-Z0-9]*_[A-Z0-9_]+'",
    ],
)
def profile_environment(demands: Demands, environment: Environment) -> Finding:
    """The environment variables suit the workload of the profile.

    What one workload needs slows another down, or does nothing at all: variables are handed
    from guide to guide, and nobody dares to take one out. One that is needed and not set ends
    every rank: "environment variable ... expected, but not set", "KeyError: 'HF_HOME'".
    """
    if not demands.variables:
        return skip("no variable is judged: `variables` of a profile")
    lacking: dict[VariableDemand, str] = {}
    bad: dict[VariableDemand, str] = {}
    notes, unseen = [], []
    for demand in demands.variables:
        value = _value(demand.name, environment)
        if value is None:
            unseen += [demand.name] if demand.verdict == "required" else []
        elif demand.verdict == "required":
            if not _is_so(demand, value):
                lacking[demand] = f"{_said(demand, value)}{_needs(demand)}"
        elif _is_so(demand, value):
            words = f"{_said(demand, value)}: {demand.verdict}"
            if demand.verdict == "harmful":
                bad[demand] = words
            else:
                notes.append(f"{words}{_because(demand)}")
    if not (lacking or bad):
        if unseen:
            return unknown(f"not collected with these facts: {', '.join(unseen)}")
        count = count_of(len(demands.variables), "variable")
        return ok(f"{count} judged by {demands.by}, none to mend", notes)
    wrong = {**lacking, **bad}
    summary = f"{len(wrong)} to mend for {demands.by}: {', '.join(d.name for d in wrong)}"
    summary = next(iter(wrong.values())) if len(wrong) == 1 else summary
    evidence = [f"{words}{_because(demand)}" for demand, words in wrong.items()]
    judge = fail if lacking else warn
    return judge(brief(summary), _fix(wrong), evidence=[*evidence, *notes], basis=demands.basis)


def _value(name: str, environment: Environment) -> str | None:
    """Its value, empty when it is not set; None: it was not collected."""
    if name in environment.values:
        return environment.values[name].strip()
    if name in environment.names:
        return HIDDEN
    return "" if name in environment.asked or name in known() else None


def _is_so(demand: VariableDemand, value: str) -> bool:
    return value == demand.value if demand.value else bool(value)


def _said(demand: VariableDemand, value: str) -> str:
    if not value:
        return f"{demand.name} is not set"
    if value == HIDDEN:
        return f"{demand.name} has {HIDDEN}" if demand.value else f"{demand.name} is set"
    return f"{demand.name}={short(value)}"


def _needs(demand: VariableDemand) -> str:
    return f", {short(demand.value)} is needed" if demand.value else ""


def _because(demand: VariableDemand) -> str:
    return f": {demand.why}" if demand.why else ""


def _fix(wrong: Iterable[VariableDemand]) -> Fix:
    settings: list[Setting] = []
    open_ones = []  # the profile does not say which value
    for demand in wrong:
        if demand.verdict == "harmful":
            settings.append(EnvUnset(demand.name))
        elif demand.value:
            settings.append(EnvSet(demand.name, demand.value))
        else:
            open_ones.append(demand.name)
    text = f"Set {', '.join(open_ones)} as the job needs it" if open_ones else ""
    return Fix(*settings, text=text)
