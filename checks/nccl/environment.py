"""What NCCL, RCCL and PyTorch's part for them are told, against the machine as it is."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import NamedTuple

from gpudoctor import (
    MIB,
    Absent,
    Environment,
    EnvSet,
    EnvUnset,
    Finding,
    Fix,
    Gpus,
    NcclPlugins,
    NcclSettings,
    Rdma,
    Setting,
    Workload,
    check,
    count_of,
    fail,
    ok,
    size,
    warn,
)
from gpudoctor.rules.env_faults import (
    SUMMARY,
    Spelling,
    left_over,
    mended,
    remarks,
    short,
    spelling,
    stops,
)
from gpudoctor.rules.nccl_ports import INDEX_BY_ITSELF, all_ports, fabric, number, told
from gpudoctor.rules.variables import is_of_nccl

BUFFER = 4 * MIB  # NCCL user guide; each channel has one for every peer, cut into 8 pieces
BUFFER_LEAST, BUFFER_MOST = MIB // 4, 64 * MIB
OF_PCIE = (
    "PCIe switch",
    "PCIe",
)  # paths of pairs that NCCL joins directly unless it is told not to
INTERNAL = ("ib", "socket")  # networks that are part of NCCL: NCCL_NET


class Fault(NamedTuple):
    """One variable, what is wrong with it, and the way out: a setting, or its right name."""

    name: str
    words: str
    setting: Setting | None
    right_name: str = ""
    ends: bool = False  # the job, not only its speed


@check(
    owner="job",
    symptoms=[
        r"NCCL_\w+ set by environment to",
        r"Invalid value for environment variable: TORCH_NCCL",
        r"Error: network .* not found",
        r"Failed to initialize any NET plugin",
        r"NET/Plugin: Could not find",
    ],
)
def nccl_environment(
    environment: Environment,
    workload: Workload | None,
    nccl_settings: NcclSettings | None,
    nccl_plugins: NcclPlugins | None,
    rdma: Rdma | Absent,
    gpus: Gpus | None,
) -> Finding:
    """What NCCL is told suits this machine.

    NCCL_* variables outlive the hunt that they were set for, in ~/.bashrc, an image or
    /etc/nccl.conf. NCCL takes them without a word: "true" for 0, a network plug-in that is not
    there for none. The job runs several times slower, or ends in "Failed to initialize any NET
    plugin". Only NCCL_DEBUG=INFO tells: "NCCL_P2P_DISABLE set by environment to 1".
    """
    every = told(environment, nccl_settings)
    values = {name: value for name, value in every.items() if is_of_nccl(name)}
    spelt = spelling(_names(environment, values, nccl_settings), values, is_of_nccl)
    read = {n: v for n, v in values.items() if v.strip() and n not in spelt.names}
    faults = [
        *_spelling(spelt, values),
        *_leftovers(read, environment, workload, rdma, gpus),
        *_level(read, gpus, workload),
        *_buffers(read),
        *_network(read, rdma, nccl_plugins),
    ]
    if not faults:
        notes = [*remarks(values, is_of_nccl), *_notes(read, gpus)]
        return ok(f"{count_of(len(values), 'variable')} of NCCL's, none to mend", notes)
    judge = fail if stops(spelt, values) or any(fault.ends for fault in faults) else warn
    evidence = [fault.words + _origin(fault.name, environment, nccl_settings) for fault in faults]
    fix = _fix(faults, environment, nccl_settings)
    return judge(_summary(faults), fix, evidence=evidence, basis="vendor")


def _names(
    environment: Environment, values: Mapping[str, str], settings: NcclSettings | None
) -> list[str]:
    """All names there are, also those in files that are not known."""
    in_files = [name for file in settings.files for name in file.others] if settings else []
    return list(dict.fromkeys([*environment.names, *values, *in_files]))


def _summary(faults: Sequence[Fault]) -> str:
    if len(faults) == 1:
        words = faults[0].words
        if len(words) <= SUMMARY:
            return words
        return short(f"{words.partition(':')[0]} is to be mended", SUMMARY)
    names = ", ".join(fault.name for fault in faults)
    return short(f"{len(faults)} are to be mended: {names}", SUMMARY)


def _spelling(spelt: Spelling, values: Mapping[str, str]) -> list[Fault]:
    return [
        *(
            Fault(name, f"{name} is read by no library, {right} is", None, right)
            for name, right in spelt.slips.items()
        ),
        *(
            Fault(name, f"{name} is not read since NCCL {until}", EnvUnset(name))
            for name, until in spelt.gone.items()
        ),
        *(
            Fault(name, f"{name}={short(values[name])} is {why}", mended(name, values[name]))
            for name, why in spelt.wrong.items()
        ),
    ]


def _leftovers(
    read: Mapping[str, str],
    environment: Environment,
    workload: Workload | None,
    rdma: Rdma | Absent,
    gpus: Gpus | None,
) -> list[Fault]:
    fast = isinstance(rdma, Rdma) and any(port.active for port in fabric(rdma, read))
    costs = left_over(environment.names, read, is_of_nccl, workload, fast)
    if _no_direct_way(gpus):
        costs.pop("NCCL_P2P_DISABLE", None)
    return [Fault(n, f"{n}={short(read[n])}: {cost}", EnvUnset(n)) for n, cost in costs.items()]


def _no_direct_way(gpus: Gpus | None) -> bool:
    """Whether the driver lets no pair of GPUs talk directly, whatever NCCL is told."""
    return gpus is not None and bool(gpus.pairs) and all(p.p2p != "ok" for p in gpus.pairs)


def _level(read: Mapping[str, str], gpus: Gpus | None, workload: Workload | None) -> list[Fault]:
    """A level of P2P that leaves pairs out which NCCL would join by itself."""
    name = "NCCL_P2P_LEVEL"
    level = read.get(name, "").strip()
    one_rank = workload is not None and workload.knows("local_ranks") and workload.local_ranks == 1
    if level not in ("LOC", "NVL", "0") or gpus is None or one_rank:
        return []
    links = ("NVLink", "XGMI") if level != "NVL" else ()
    lost = [p for p in gpus.pairs if p.p2p == "ok" and p.path in (*OF_PCIE, *links)]
    if not lost:
        return []
    words = f"{name}={level}: {count_of(len(lost), 'pair')} of GPUs talk through host memory"
    return [Fault(name, words, EnvUnset(name))]


def _buffers(read: Mapping[str, str]) -> list[Fault]:
    name = "NCCL_BUFFSIZE"
    wanted = number(read.get(name, ""))
    if wanted is None or BUFFER_LEAST <= wanted <= BUFFER_MOST:
        return []
    why = "every message is cut to pieces" if wanted < BUFFER_LEAST else "it is GPU memory"
    words = f"{name} is {size(wanted)}, usual are {size(BUFFER)}: {why}"
    return [Fault(name, words, EnvUnset(name))]


def _network(
    read: Mapping[str, str], rdma: Rdma | Absent, plugins: NcclPlugins | None
) -> list[Fault]:
    """A network, or a plug-in with one, that is asked for and not here.

    NCCL falls back on its own networks when there is no plug-in, but on nothing when a network
    is named.
    """
    net, plugin = read.get("NCCL_NET", ""), read.get("NCCL_NET_PLUGIN", "")
    unset, wrong = EnvUnset("NCCL_NET"), ""
    if net.lower() == "ib" and _no_port(rdma):
        wrong = f"NCCL_NET={net}: no RDMA port here is active"
    elif net and net.lower() not in INTERNAL and plugins and not plugins.files:
        wrong = f"NCCL_NET={short(net)}: a plug-in's, and the linker finds no libnccl-net*.so"
    found = [Fault("NCCL_NET", wrong, unset, ends=net.lower() == "ib")] if wrong else []
    asked = [] if plugin.lower() == "none" else plugin.split(",")
    if plugin and asked and plugins and not any(map(plugins.has, asked)):
        words = f"NCCL_NET_PLUGIN={short(plugin)}: the linker finds no such library"
        found.append(Fault("NCCL_NET_PLUGIN", words, EnvUnset("NCCL_NET_PLUGIN")))
    return found


def _no_port(rdma: Rdma | Absent) -> bool:
    """Whether there surely is none."""
    if isinstance(rdma, Absent):
        return not rdma.broken
    return not any(port.active for port in all_ports(rdma))


def _origin(name: str, environment: Environment, settings: NcclSettings | None) -> str:
    """Who set it, as a remark at the end of a line."""
    if settings is None:
        return ""
    if name in environment.names:
        told_by = settings.origins.get(name, "")
        return f" (set in {told_by})" if told_by else ""
    return f" (set in {_file_with(name, settings)})"


def _file_with(name: str, settings: NcclSettings) -> str:
    return next((f.path for f in settings.files if name in f.values or name in f.others), "")


def _fix(faults: Sequence[Fault], environment: Environment, settings: NcclSettings | None) -> Fix:
    """Variables by the launcher, files by sed."""
    here = [fault for fault in faults if fault.name in environment.names]
    commands = [
        f'export {fault.right_name}="${fault.name}"; unset {fault.name}'
        for fault in here
        if fault.right_name
    ]
    in_root = False
    for fault in faults:
        if fault not in here and settings:
            path = _file_with(fault.name, settings)
            in_root |= path.startswith("/etc/")
            commands.append(f"sed -i {quote(_edit(fault))} {quote(path)}")
    kept = [fault.setting for fault in here if fault.setting]
    text = "Take it out, or write it as NCCL reads it"
    return Fix(*kept, text=text, commands=commands, needs_root=in_root)


def _edit(fault: Fault) -> str:
    if fault.right_name:
        return f"s/^{fault.name}=/{fault.right_name}=/"
    if isinstance(fault.setting, EnvSet):
        return f"s/^{fault.name}=.*/{fault.name}={fault.setting.value}/"
    return f"/^{fault.name}=/d"


def _notes(read: Mapping[str, str], gpus: Gpus | None) -> list[str]:
    """What is worth knowing, and no fault."""
    lines = []
    if "NCCL_IB_GID_INDEX" in read:
        since = ".".join(map(str, INDEX_BY_ITSELF))
        lines.append(f"NCCL_IB_GID_INDEX: since {since} NCCL chooses by itself; see rdma-gid")
    if _no_direct_way(gpus) and read.get("NCCL_P2P_DISABLE", "0") != "0":
        lines.append("NCCL_P2P_DISABLE: the driver lets no GPUs here talk directly anyway")
    size_told = number(read.get("NCCL_BUFFSIZE", ""))
    if size_told and size_told & (size_told - 1):
        lines.append("NCCL_BUFFSIZE: NCCL's guide advises a power of two")
    if read.get("NCCL_P2P_LEVEL", "").strip().isdecimal():
        lines.append("NCCL_P2P_LEVEL: what a number means has changed; LOC to SYS have not")
    return lines
