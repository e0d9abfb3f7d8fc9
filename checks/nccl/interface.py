"""The network interface that NCCL or RCCL picks for itself."""

from gpudoctor import (
    Container,
    Devices,
    Environment,
    EnvSet,
    EnvUnset,
    Finding,
    Fix,
    JobPython,
    Master,
    NcclAnswer,
    NcclSettings,
    Network,
    Owner,
    Rdma,
    TorchBuild,
    Workload,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.cuda_compat import nccl_of_wheel, version_of
from gpudoctor.rules.interface_choice import Choice, Pick
from gpudoctor.rules.interface_choice.nccl import bootstrap, sockets
from gpudoctor.rules.interface_choice.rccl import nccl_level
from gpudoctor.rules.interface_choice.reach import best, doubt, interface_of, way
from gpudoctor.rules.leading import lead_out
from gpudoctor.rules.nccl_names import name_list
from gpudoctor.rules.nccl_ports import carries

NAME = "NCCL_SOCKET_IFNAME"


SYMPTOMS = [
    r"Bootstrap ?: no socket interface found",
    r"NET/Socket : no interface found",
    r"No usable listening interface found",
    r"socketStartConnect: Connect to .* failed",
    r"socketPollConnect: connect to .* returned",
    r"Net : Connect to .* failed : (Connection refused|No route to host)",
]


@check(owner="launch", symptoms=SYMPTOMS)
def nccl_interface(
    network: Network,
    workload: Workload,
    environment: Environment,
    nccl_settings: NcclSettings | None,
    nccl_answer: NcclAnswer | None,
    torch_build: TorchBuild | None,
    job_python: JobPython | None,
    master: Master | None,
    devices: Devices | None,
    rdma: Rdma | None,
    container: Container | None,
) -> Finding:
    """Other nodes reach the interface that NCCL picks.

    NCCL takes the first interface with an address that is not docker* or lo: a bridge of
    containers, a VPN, whatever comes first. The other ranks then hang at init, or end with
    "socketStartConnect: Connect to 172.18.0.1<41233> failed : Connection refused". A name in
    NCCL_SOCKET_IFNAME that this node does not have is "Bootstrap : no socket interface found".
    """
    if torch_build and not torch_build.cuda and not torch_build.hip:
        return skip(f"torch {torch_build.version} is built without NCCL")
    spans = workload.nodes > 1
    if not spans and not (devices and devices.gpus):
        return skip("no GPU, and one node: NCCL is not used; --nnodes 2 makes it count")
    library, version = _library(nccl_answer, torch_build, job_python)
    told = (nccl_settings or NcclSettings()).under(environment.values)
    expected = bootstrap(network, told, version)
    choice = _answered(nccl_answer, expected)
    leads, how = way(network, master)
    because = f"{library}: {choice.why}" if choice.why else library if version else ""
    differs, by = _disagreement(nccl_answer, expected), _origin(nccl_settings)
    evidence = [line for line in (choice.error, because, how, differs, by) if line]
    fix = _fix(network, leads, told, container)
    if choice.unknown:
        return skip(f"{choice.unknown}; --python names the job's Python")
    if choice.error:
        return fail(_none(told, choice), fix, evidence=evidence, basis="vendor", owner=_owner(fix))
    first = choice.picked[0]
    if not spans:
        return ok(f"{first}; the job is on this node", evidence)
    data = () if rdma and carries(rdma, told) else sockets(network, told, version).picked
    return _judged(network, [first, *data], leads, told, evidence, fix)


def _judged(
    network: Network,
    picked: list[Pick],
    leads: str,
    told: dict[str, str],
    evidence: list[str],
    fix: Fix,
) -> Finding:
    """Of a job on several nodes."""
    first = picked[0]
    others = [pick for pick in picked[1:] if pick.interface != first.interface]
    wrong = doubt(network, first, leads)
    if wrong:
        summary = f"NCCL picks {first}: {wrong.words}"
        answer = fail if wrong.certain else warn
        evidence += _why_double(fix)
        return answer(summary, fix, evidence=evidence, basis="vendor", owner=_owner(fix))
    doubts = {pick: found for pick in others if (found := doubt(network, pick, leads))}
    if doubts:
        names = next(iter(doubts)).interface
        names += f" and {len(doubts) - 1} more" if len(doubts) > 1 else ""
        summary = f"NCCL sends data also by {names}, not only {first.interface}"
        said = [f"{pick.interface} ({pick.ip}): {found.words}" for pick, found in doubts.items()]
        return warn(summary, fix, evidence=[*evidence, *said, *_why_double(fix)], basis="vendor")
    if trap := _longer(network, told, picked):
        meant, longer = trap
        summary = f"{NAME}={told[NAME]} also means {longer}"[:79]
        exact = Fix(EnvSet(NAME, f"={meant}"))
        return warn(summary, exact, evidence=[*evidence, *_why_double(exact)], basis="vendor")
    way_there = "" if leads in ("", first.interface) else f"; MASTER_ADDR is reached by {leads}"
    return ok(f"{first}{way_there}", evidence)


def _library(
    answer: NcclAnswer | None, build: TorchBuild | None, python: JobPython | None
) -> tuple[str, tuple[int, ...] | None]:
    """What the job has, and whose rules apply: NCCL's of which version."""
    version: tuple[int, ...] | None
    if build and build.hip:
        rocm = version_of(build.hip)[:2]
        return f"RCCL of ROCm {'.'.join(map(str, rocm))}", nccl_level(rocm)
    version = answer.version if answer else None
    if not version and python and python.nccl:
        version = python.nccl
    if not version and build:
        pin = build.nccl_pin.rpartition(" ")[2] or nccl_of_wheel(build.version)
        version = version_of(pin)[:3] or None
    return f"NCCL {'.'.join(map(str, version))}" if version else "NCCL", version


def _answered(answer: NcclAnswer | None, expected: Choice) -> Choice:
    """NCCL's own answer, where it was asked, for the reason that we know."""
    if answer is None:
        return expected
    if answer.error:
        return Choice(error=answer.error, why=expected.why)
    if not answer.interface:
        return expected
    return Choice(picked=(Pick(answer.interface, answer.address),), why=expected.why)


def _disagreement(answer: NcclAnswer | None, expected: Choice) -> str:
    if answer is None or expected.unknown or not (answer.interface or answer.error):
        return ""
    picks = expected.picked[0].interface if expected.picked else ""
    if picks == answer.interface:
        return ""
    return f"{answer.library} says so itself; by its rules {picks or 'none'} was expected"


def _origin(settings: NcclSettings | None) -> str:
    if settings is None:
        return ""
    files = [file.path for file in settings.files if NAME in file.values]
    where = settings.origins.get(NAME) or next(iter(files), "")
    return f"{NAME} is set by {where}" if where else ""


def _none(told: dict[str, str], choice: Choice) -> str:
    if "NCCL_COMM_ID" in told:
        return f"NCCL_COMM_ID={told['NCCL_COMM_ID']} fits no interface here"[:79]
    if len(told.get(NAME, "")) > 1:
        return f"{NAME}={told[NAME]} fits no interface here"[:79]
    return "NCCL finds no interface here"


def _fix(network: Network, leads: str, told: dict[str, str], container: Container | None) -> Fix:
    wanted = best(network, leads)
    settings = [EnvUnset("NCCL_COMM_ID")] if "NCCL_COMM_ID" in told else []
    if wanted:
        return Fix(*settings, EnvSet(NAME, f"={wanted}"))
    if len(told.get(NAME, "")) > 1:
        return Fix(*settings, EnvUnset(NAME))
    return Fix(*settings) if settings else lead_out(container)


def _owner(fix: Fix) -> Owner:
    return "launch" if fix.settings else "node"


def _why_double(fix: Fix) -> list[str]:
    values = [setting.value for setting in fix.settings if isinstance(setting, EnvSet)]
    name = values[0][1:] if values else ""
    return (
        [f'"={name}" is exactly {name}; without the = it is every name that begins so']
        if name
        else []
    )


def _longer(network: Network, told: dict[str, str], picked: list[Pick]) -> tuple[str, str] | None:
    """A name that is meant, and one that begins with it and is taken as well."""
    words = name_list(told.get(NAME, ""))
    if words.exact or words.excludes:
        return None
    listed = {entry.name for entry in words.entries}
    for pick in picked:
        found = [n for n in listed if pick.interface.startswith(n) and network.interface(n)]
        if found and pick.interface not in listed and interface_of(network, pick):
            return max(found, key=len), pick.interface
    return None
