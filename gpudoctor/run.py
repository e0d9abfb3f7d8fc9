"""One run from end to end: what is asked for -> facts -> results -> the report."""

import datetime
import fnmatch
import time
import uuid  # msgspec has it loaded already
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

import gpudoctor
from gpudoctor import registry
from gpudoctor.check import CLUSTER, LAUNCH, Check
from gpudoctor.children import Collected, Observer, unobserved
from gpudoctor.collect import Looking, collect
from gpudoctor.config import DEFAULT, Config, Profile
from gpudoctor.facts.container import Container
from gpudoctor.facts.demands import Demands
from gpudoctor.facts.expectations import Expectations
from gpudoctor.facts.gpus import Gpus
from gpudoctor.facts.job_python import JobPython
from gpudoctor.facts.launch import Launch
from gpudoctor.facts.master import Master
from gpudoctor.facts.system import System
from gpudoctor.facts.user import User
from gpudoctor.facts.workload import Workload
from gpudoctor.judge import judge
from gpudoctor.launch.plan import next_steps
from gpudoctor.probes import Machine, Probe
from gpudoctor.registry import Catalogue
from gpudoctor.report import Cluster, Node, Report, Run, Step, Tool, counts, exit_code, verdict
from gpudoctor.rules.job_variables import OPTIONS, VARIABLES, is_said
from gpudoctor.snapshot import Absent, Fact, Snapshot, name_of

DEADLINE = 30.0  # seconds
DEEP_DEADLINE = 600.0  # torch and some seconds of load for each of eight GPUs, one by one
# Always collected: they say what the report is about and whose words fixes are in.
_CONTEXT = (System, Container, User, JobPython, Workload)
NOBODY = ["nobody would be contacted"]
_SAYS_MASTER = (OPTIONS["master_addr"][1], *VARIABLES["master_addr"])


class NoSuchCheck(ValueError):
    """A name or pattern that means no check; the message proposes one."""


class Request(Struct, frozen=True, kw_only=True):
    """What a run is asked to do."""

    checks: tuple[Check, ...]
    catalogue: Catalogue
    config: Config = Config()
    profile: Profile = Profile(about="", name=DEFAULT)
    workload: Mapping[str, int | str] = {}  # as told on the command line
    expect: Mapping[str, int] = {}  # likewise
    demands: Demands | None = None
    told_by: str = "the command line"
    deadline: float = DEADLINE
    deep: bool = False
    named: bool = False  # the checks were asked for by id or topic: they may take their time
    strict: bool = False
    argv: tuple[str, ...] = ()


def select(
    catalogue: Catalogue,
    ids: Sequence[str] = (),
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> tuple[Check, ...]:
    """The checks that are meant, in the catalogue's order.

    Args:
        ids: ids, former ids, or topics.
        only: patterns of ids; a check must match one.
        skip: patterns of ids; a check must match none.

    Raises:
        NoSuchCheck: a name or a pattern of `only` means nothing.
    """
    chosen = list(catalogue.checks)
    if ids:
        topics = {check.topic for check in chosen}
        named: set[str] = set()
        for word in ids:
            found = catalogue.find(word)
            if found is not None:
                named.add(found.id)
            elif word in topics:
                named |= {check.id for check in chosen if check.topic == word}
            else:
                raise NoSuchCheck(_unknown(word, [*(c.id for c in chosen), *topics]))
        chosen = [check for check in chosen if check.id in named]
    for pattern in only:
        if not any(_matches(check, pattern) for check in catalogue.checks):
            raise NoSuchCheck(_unknown(pattern, [check.id for check in catalogue.checks]))
    if only:
        chosen = [check for check in chosen if any(_matches(check, p) for p in only)]
    return tuple(check for check in chosen if not any(_matches(check, p) for p in skip))


def observe(
    request: Request,
    machine: Machine,
    *,
    everything: bool = False,
    ahead: Looking | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[list[str]], None] = lambda names: None,
    observer: Observer = unobserved,
) -> tuple[Snapshot, Collected]:
    """The machine's facts: those that the checks need, or all that there are.

    `ahead` is what is being looked at already.
    """
    catalogue = request.catalogue
    kinds: list[type[Fact]] = [
        *_CONTEXT,
        *(need.kind for c in request.checks for need in c.needs.values()),
    ]
    probes = catalogue.all_probes() if everything else catalogue.probes_for(kinds)
    unasked = {name_of(probe.kind): why for probe in probes if (why := _unasked(request, probe))}
    asked = [probe for probe in probes if name_of(probe.kind) not in unasked]
    # What loads the machine runs after all else, one by one: each would disturb the other.
    light, heavy = ([p for p in asked if p.deep is deep] for deep in (False, True))
    light = [probe for probe in light if ahead is None or probe.kind not in ahead.kinds]
    end = time.monotonic() + request.deadline
    parts = []
    for some in filter(None, (light, *([probe] for probe in heavy))):
        left = max(0.0, end - time.monotonic())
        parts.append(
            collect(
                some,
                machine,
                deadline=left,
                stopped=stopped,
                progress=progress,
                observer=observer,
            )
        )
    if ahead is not None:
        parts.append(ahead.finish(stopped=stopped, progress=progress))
    collected = Collected(
        {name: fact for part in parts for name, fact in part.facts.items()},
        {name: seconds for part in parts for name, seconds in part.seconds.items()},
        all(part.complete for part in parts),
    )
    facts = {**collected.facts, **{name: Absent(why) for name, why in unasked.items()}}
    system = facts.get("system")
    name = system.hostname if isinstance(system, System) else "unknown"
    return Snapshot(name, facts), collected


def contacts(request: Request, machine: Machine) -> list[str]:
    """Whom the probes of a run would contact beyond this machine, each named by its fact."""
    kinds = (need.kind for check in request.checks for need in check.needs.values())
    probes = request.catalogue.probes_for([*_CONTEXT, *kinds])
    asked = [p for p in probes if not _unasked(request, p) and not (p.unless and p.unless(machine))]
    lines = [
        f"{name_of(p.kind)}: {line}" for p in asked if p.contacts for line in p.contacts(machine)
    ]
    return lines or NOBODY


def _unasked(request: Request, probe: Probe[Any]) -> str:
    """Why a probe is left out of this run; empty: it is not."""
    if request.deep:
        return ""
    if probe.deep:
        return "loads the machine: runs only with --deep"
    return "" if request.named else probe.slow


def look_ahead(
    machine: Machine, deadline: float = DEADLINE, observer: Observer = unobserved
) -> Looking:
    """Begin to look before the checks are loaded, which takes as long as the looking.

    Only for a plain run, of all checks: it looks at everything that is quickly seen.
    """
    return Looking(registry.quick_probes(), machine, deadline=deadline, observer=observer)


def examine(
    request: Request,
    machine: Machine,
    *,
    ahead: Looking | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[list[str]], None] = lambda names: None,
    observer: Observer = unobserved,
) -> Report:
    """Look at the machine and judge it."""
    started, begin = now(), ahead.began if ahead else time.monotonic()
    snapshot, collected = observe(
        request, machine, ahead=ahead, stopped=stopped, progress=progress, observer=observer
    )
    node = judged(request, snapshot, collected.seconds)
    return reported(request, [node], started, time.monotonic() - begin, collected.complete)


def judge_again(request: Request, snapshots: Sequence[Snapshot]) -> Report:
    """Judge facts that were collected before, here or elsewhere."""
    started, begin = now(), time.monotonic()
    nodes = [judged(request, snapshot) for snapshot in snapshots]
    return reported(request, nodes, started, time.monotonic() - begin, complete=True)


def concluded(report: Report, nodes: Sequence[Node], steps: Sequence[Step]) -> Report:
    """The report with other nodes and another plan, and the verdict that follows from them."""
    results = tuple(result for node in nodes for result in node.results)
    results += report.cluster.results if report.cluster else ()
    status = verdict(results)
    return replace(
        report,
        status=status,
        exit_code=exit_code(status, strict=report.run.strict),
        counts=counts(results),
        nodes=tuple(nodes),
        next_steps=tuple(steps),
    )


def judged(
    request: Request, snapshot: Snapshot, seconds: Mapping[str, float] | None = None
) -> Node:
    """One node, by the demands of the request; `seconds` that its probes took."""
    snapshot = _with_demands(request, snapshot)
    today = datetime.date.today()
    return Node(
        name=snapshot.name,
        view=_view(snapshot),
        facts=snapshot.facts,
        results=judge(
            request.checks,
            snapshot,
            broken=request.catalogue.broken,
            ignores=[i for i in request.config.ignore if not i.is_expired(today)],
        ),
        probes={name: round(value, 6) for name, value in (seconds or {}).items()},
    )


def _with_demands(request: Request, snapshot: Snapshot) -> Snapshot:
    """What profile, file and command line say of the job, the last word last."""
    job = snapshot.get(Workload)
    if isinstance(job, Absent):
        if isinstance(snapshot.get(Launch), Launch) and not request.workload:
            return snapshot  # a launch of something else
        job = Workload()
    shape = {
        name: value
        for name, value in request.profile.workload.items()
        if not is_said(name, job.told_by.get(name, ""))
    }
    job = job.told(shape, f"profile {request.profile.name}")
    job = job.told(request.config.workload, request.config.path)
    job = job.told(request.workload, request.told_by)
    master = snapshot.get(Master)
    by = job.told_by.get("nodes", "")
    if isinstance(master, Master) and master.here and by in _SAYS_MASTER:
        job = job.told({"nodes": 1}, by)  # the resolver knows the master's name as this machine's
    facts: list[Fact] = [job, *([request.demands] if request.demands else [])]
    if request.expect or request.config.expect:
        by = "--expect" if request.expect else request.config.path
        stated = {**request.config.expect, **request.expect}
        facts.append(Expectations(told_by=by, **stated))
        if stated.get("gpus") == 0:
            none = Absent(f"no GPU is expected here ({by})")
            snapshot = Snapshot(snapshot.name, {**snapshot.facts, name_of(Gpus): none})
    return snapshot.replace(*facts)


def _view(snapshot: Snapshot) -> tuple[str, ...]:
    """From where the machine was seen, in a few words."""
    words = []
    container = snapshot.get(Container)
    if isinstance(container, Container):
        where = "host" if container.runtime == "none" else f"{container.runtime} container"
        if container.kubernetes:
            where = f"Kubernetes pod ({container.runtime})"
        words.append(where if container.certain else f"probably {where}")
        if container.wsl2:
            words.append("WSL2")
        if container.slurm:
            words.append("Slurm job")
    user = snapshot.get(User)
    if isinstance(user, User):
        words.append("root" if user.uid == 0 else f"uid {user.uid}, not root")
    python = snapshot.get(JobPython)
    if isinstance(python, JobPython):
        words.append(f"job's Python {python.path} ({python.version or 'version unknown'})")
    return tuple(words)


def reported(
    request: Request,
    nodes: Sequence[Node],
    started: str,
    seconds: float,
    complete: bool,
    cluster: Cluster | None = None,
) -> Report:
    """The report of nodes that were judged, and of the cluster that they make."""
    results = tuple(result for node in nodes for result in node.results)
    results += cluster.results if cluster else ()
    status = verdict(results)
    launcher = _launcher(nodes)
    return Report(
        tool=Tool("gpudoctor", gpudoctor.__version__),
        run=Run(
            id=uuid.uuid4().hex[:12],
            started=started,
            seconds=round(seconds, 4),
            argv=request.argv,
            profile=request.profile.name,
            complete=complete,
            strict=request.strict,
            launcher=launcher,
            remarks=_remarks(request),
        ),
        status=status,
        exit_code=exit_code(status, strict=request.strict),
        counts=counts(results),
        nodes=tuple(nodes),
        cluster=cluster,
        next_steps=next_steps(results, launcher),
    )


def _launcher(nodes: Sequence[Node]) -> str:
    for node in nodes:
        container = node.facts.get("container")
        if isinstance(container, Container):
            return container.launcher
    return "host"


def _remarks(request: Request) -> tuple[str, ...]:
    today = datetime.date.today()
    expired = [i for i in request.config.ignore if i.is_expired(today)]
    return tuple(
        f"the ignore of {i.check} expired on {i.expires}: it counts again ({i.reason})"
        for i in expired
    )


def now() -> str:
    """When a run starts, for people."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _matches(check: Check, pattern: str) -> bool:
    pattern = pattern.replace("_", "-")
    return any(
        fnmatch.fnmatchcase(name, pattern) for name in (check.id, *check.aliases, check.topic)
    )


def _unknown(word: str, known: Sequence[str]) -> str:
    topic = word.partition("-")[0]
    if topic == LAUNCH:
        return f"{word!r} judges launch files: gpudoctor lint FILE"
    if topic == CLUSTER and not any(name.partition("-")[0] == CLUSTER for name in known):
        return f"{word!r} judges several nodes together: it needs --cluster, on each of them"
    import difflib  # only to help with a typo

    near = difflib.get_close_matches(word, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `gpudoctor list` shows them all"
    return f"there is no check {word!r}{hint}"
