"""Read NCCL's files, tell who set its variables, and ask the library itself."""

import os
import re
import stat
from collections.abc import Iterable, Mapping

from msgspec import Struct

from gpudoctor.data import table
from gpudoctor.facts.nccl import NcclAnswer, NcclFile, NcclSettings
from gpudoctor.probes import Machine, error_words, linker, probe, signs
from gpudoctor.probes.job_python import job_python, site_packages
from gpudoctor.probes.names import question
from gpudoctor.probes.user import entry
from gpudoctor.probes.way import is_ip
from gpudoctor.probes.workload import one_node
from gpudoctor.redact import may_tell, value_of
from gpudoctor.rules.interface_choice.nccl import host_of
from gpudoctor.snapshot import Absent

FAMILIES = ("NCCL_", "RCCL_", "TORCH_NCCL_", "GLOO_", "TP_SOCKET_")  # whose origin is told
MOST_OTHERS = 50
MOST_PARENTS = 30
LIBRARY = "libnccl.so.2"
ID_BYTES = 128

# In the order in which a login shell reads them, so that the last one that sets a variable counts.
SHELL_FILES = (
    "/etc/environment",
    "/etc/profile",
    "/etc/profile.d/*.sh",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    "/etc/zsh/zshenv",
    "~/.profile",
    "~/.bash_profile",
    "~/.bashrc",
    "~/.zshenv",
    "~/.zshrc",
)


class Setting(Struct, frozen=True):
    """An assignment in a shell's file."""

    name: str
    value: str
    where: str  # "~/.bashrc:12"


@probe(isolated=True, timeout=3.0)
def nccl_settings(machine: Machine) -> NcclSettings:
    """NCCL's configuration files, RCCL's, and where variables of theirs were set."""
    home = _home(machine)
    names = [name for name in machine.env if name.startswith(FAMILIES) and may_tell(name)]
    return NcclSettings(
        files=tuple(_file(machine, path) for path in _files(machine, home)),
        origins=_origins(machine, sorted(names), home) if names else {},
    )


def told(machine: Machine) -> dict[str, str]:
    """Variables as NCCL sees them, with what its files say; only in a probe's child."""
    files = [_file(machine, path) for path in _files(machine, _home(machine))]
    return NcclSettings(files=tuple(files)).under(machine.env)


def _home(machine: Machine) -> str:
    """The home directory as the variable says; NCCL before 2.30 goes by passwd: see _files."""
    return machine.env.get("HOME", "").rstrip("/")


def _files(machine: Machine, home: str) -> list[str]:
    """Those that are there, in the order in which they are read: what is set first stays."""
    named = machine.env.get("NCCL_CONF_FILE", "")
    other = _home_by_passwd(machine)
    if named or (other and other != home):
        rules = _rules(machine)
        named = named if rules["variable"] else ""
        home = other or home if rules["home"] == "passwd" else home
    library = "rccl" if signs.amd_gpu(machine) and signs.no_nvidia(machine) else "nccl"
    users = [f"{home}/.{library}.conf"] if home else []
    if named:  # also one that is not there, which NCCL passes over without a word
        named = os.path.normpath(os.path.join(machine.cwd or "/", named))
    others = [path for path in (*users, f"/etc/{library}.conf") if machine.exists(path)]
    return [named, *(path for path in others if path not in users)] if named else others


def _home_by_passwd(machine: Machine) -> str:
    if not machine.live:
        return ""
    try:
        own = entry(machine, os.getuid())
    except (OSError, TimeoutError):
        return ""
    return own.home.rstrip("/") if own else ""


def _rules(machine: Machine) -> Mapping[str, object]:
    """How the job's NCCL looks for its files; where its version is not known, as the newest."""
    python = job_python(machine)
    version = None if isinstance(python, Absent) else python.nccl
    rows = table("interface_choice")["files"]
    return next((r for r in reversed(rows) if not version or tuple(r["since"]) <= version), rows[0])


def _file(machine: Machine, path: str) -> NcclFile:
    try:
        if not stat.S_ISREG(os.stat(machine.path(path)).st_mode):
            return NcclFile(path=value_of(path), error="not a regular file")
        values = parse_file(machine.read(path))
    except OSError as error:
        return NcclFile(path=value_of(path), error=error_words(error))
    told = {name: value_of(value) for name, value in values.items() if may_tell(name)}
    others = [value_of(name) for name in values if name not in told]
    return NcclFile(path=value_of(path), values=told, others=tuple(others[:MOST_OTHERS]))


def parse_file(text: str) -> dict[str, str]:
    """NAME=value as NCCL reads it: nothing is trimmed or unquoted, the first of a name counts."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        name, equals, value = line.removesuffix("\r").partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, value[:1023])
    return found


def _origins(machine: Machine, names: Iterable[str], home: str) -> dict[str, str]:
    first = _environ(machine, 1)
    written = _written(machine, home)
    found = {}
    for name in names:
        value = machine.env[name]
        files = [s.where for s in written if (s.name, s.value) == (name, value)]
        if first.get(name) == value:
            found[name] = "pid 1"
        elif files:
            found[name] = files[-1]
        elif machine.live and (parent := _setter(machine, name, value)):
            found[name] = parent
    return found


def _written(machine: Machine, home: str) -> list[Setting]:
    found: list[Setting] = []
    for pattern in _shell_files(machine):
        path = home + pattern[1:] if pattern.startswith("~") else pattern
        try:
            text = machine.read(path)
        except OSError:
            continue
        found += parse_shell(text, pattern)
    return found


def _shell_files(machine: Machine) -> list[str]:
    files: list[str] = []
    for pattern in SHELL_FILES:
        folder, star, ending = pattern.partition("/*")
        names = machine.list(folder) if star else []
        files += [f"{folder}/{n}" for n in names if n.endswith(ending)] if star else [pattern]
    for variable, inside in (("CONDA_PREFIX", "etc/conda/activate.d"), ("VIRTUAL_ENV", "bin")):
        folder = f"{machine.env.get(variable, '')}/{inside}"
        if machine.env.get(variable, "").startswith("/"):
            wanted = (".sh",) if variable == "CONDA_PREFIX" else ("activate",)
            files += [f"{folder}/{n}" for n in machine.list(folder) if n.endswith(wanted)]
    return files


def parse_shell(text: str, path: str) -> list[Setting]:
    """Assignments at the beginning of lines: export NAME="value"."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(
            r"\s*(?:export\s+|declare\s+-x\s+)?([A-Z]+_[A-Z0-9_]+)=(\"[^\"]*\"|'[^']*'|[^\s;#]*)",
            line,
        )
        if match and match[1].startswith(FAMILIES):
            found.append(Setting(match[1], match[2].strip("\"'"), f"{path}:{number}"))
    return found


def _environ(machine: Machine, pid: int) -> dict[str, str]:
    """The environment that a process was started with; nothing where that is not readable."""
    try:
        text = machine.read(f"/proc/{pid}/environ")
    except OSError:
        return {}
    return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)


def _setter(machine: Machine, name: str, value: str) -> str:
    """The nearest parent that was started without the variable: "bash (pid 812)"."""
    pid = os.getpid()
    for _ in range(MOST_PARENTS):
        status = machine.text(f"/proc/{pid}/stat") or ""
        environ = _environ(machine, pid)
        if not status or not environ or pid <= 1:
            return ""
        if environ.get(name) != value:
            return f"{status.partition('(')[2].rpartition(')')[0]} (pid {pid})"
        pid = int(status.rpartition(")")[2].split()[1])
    return ""


def _not_asked(machine: Machine) -> str:
    return one_node(machine) if machine.live else "no library is loaded under --root"


def contacts(machine: Machine) -> list[str]:
    """Whom NCCL asks, for `--dry-run`: the resolver, where NCCL_COMM_ID has a name."""
    host = host_of(machine.env.get("NCCL_COMM_ID", "")).partition("%")[0]
    return [question(machine, host)] if host and not is_ip(host) else []


@probe(alone=True, timeout=10.0, unless=_not_asked, contacts=contacts)
def nccl_answer(machine: Machine) -> NcclAnswer | Absent:
    """The interface that the job's own libnccl opens its listener on."""
    library = library_of(machine)
    found = linker.load(library)
    if found.handle is None:
        missing = library == LIBRARY
        return Absent("no libnccl.so.2 is here" if missing else found.error, broken=not missing)
    return ask(found, machine.env)


def library_of(machine: Machine) -> str:
    """libnccl as the job loads it: preloaded, the wheel's, or where the linker finds it."""
    entries = re.split(r"[ :]+", machine.env.get("LD_PRELOAD", ""))
    files = [e for e in entries if os.path.basename(e).startswith("libnccl.so") and "/" in e]
    python = job_python(machine)
    if not isinstance(python, Absent):
        folders = site_packages(machine, python.path)[1]
        files += [f"{folder}/nvidia/nccl/lib/{LIBRARY}" for folder in folders]
    return next((file for file in files if machine.exists(file)), LIBRARY)


def ask(library: linker.Library, env: Mapping[str, str]) -> NcclAnswer:
    """Let it make a unique id: it then listens for the other ranks of a job, until we end.

    This process's environment is changed for it. Nothing is sent.
    """
    import ctypes

    log = os.memfd_create("nccl")
    told = {
        **env,
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,BOOTSTRAP,NET",
        "NCCL_DEBUG_FILE": f"/proc/self/fd/{log}",
        "NCCL_NET_PLUGIN": "none",  # no plug-in's code for this
    }
    os.environ.clear()
    os.environ.update(told)
    version = version_of(library)
    code = library.handle.ncclGetUniqueId(ctypes.byref((ctypes.c_ubyte * ID_BYTES)()))
    ctypes.CDLL(None).fflush(None)
    with os.fdopen(log, "rb") as file:
        file.seek(0)
        said = file.read().decode("utf-8", "replace")
    return parse_answer(said, code, library.file, version)


def parse_answer(said: str, code: int, library: str, version: tuple[int, int, int]) -> NcclAnswer:
    """The answer in NCCL's own log."""
    using = re.search(r"Bootstrap ?: Using (\S+?):([0-9.]+|[0-9a-f:]+(?:%\S+)?)<\d+>", said)
    warned = re.findall(r"NCCL WARN (.+)", said)
    error = (warned or [f"ncclGetUniqueId returned {code}"])[-1].strip() if code else ""
    return NcclAnswer(
        library=library,
        version=version,
        interface=using[1] if using and not code else "",
        address=using[2] if using and not code else "",
        error=value_of(error),
    )


def version_of(library: linker.Library) -> tuple[int, int, int]:
    """What the library says it is: 21803 is 2.18.3; before 2.9 the middle had one digit."""
    import ctypes

    number = ctypes.c_int()
    library.handle.ncclGetVersion(ctypes.byref(number))
    major = 10000 if number.value >= 10000 else 1000
    return number.value // major, number.value % major // 100, number.value % 100
