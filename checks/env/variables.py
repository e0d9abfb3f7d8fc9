"""The job's environment variables: leftovers, slips, thread counts and library paths."""

import re
from collections.abc import Mapping

from gpudoctor import (
    Cgroup,
    Environment,
    EnvSet,
    EnvUnset,
    Finding,
    Fix,
    JobPython,
    LibraryDir,
    Setting,
    System,
    Workload,
    check,
    count_of,
    fail,
    ok,
    warn,
)
from gpudoctor.rules import variables
from gpudoctor.rules.env_faults import SUMMARY, left_over, mended, remarks, short, spelling, stops

A_RANK = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
STARTERS = ("SLURM_", "OMPI_", "MPI_", "MV2_")  # whose ranks get no OMP_NUM_THREADS; torchrun's do
TOO_MANY_THREADS = 2  # per CPU of the quota

# Which of two copies of a library is loaded depends on DT_RPATH, searched before
# LD_LIBRARY_PATH, or DT_RUNPATH, searched after it; read in the wheels.
CUDNN_IS_SAFE = (9, 22)  # libcudnn.so.9 of nvidia-cudnn-cu12 has RUNPATH to 9.21, RPATH since
TORCH_OPENS_NVJITLINK = (2, 6)  # torch/__init__.py loads the wheel's own first (pytorch 138460)
WHEELS_OWN = r"/(site|dist)-packages/(nvidia|torch)/"


@check(
    owner="job",
    symptoms=[
        r"MKL_VERBOSE (?:Intel|oneMKL|\wGEMM)",
        r"onednn_verbose,",
        r":\d:hip_\w+\.cpp",
        r"torch_compile_debug/run_",
    ],
)
def env_leftovers(environment: Environment, workload: Workload | None) -> Finding:
    """No variable is left over from debugging.

    They outlive the hunt that they were set for, in an image, a job script or ~/.bashrc. The
    job runs, but several times slower, with no error anywhere: CUDA_LAUNCH_BLOCKING=1 waits for
    every kernel, TORCH_DISTRIBUTED_DEBUG=DETAIL checks every collective. For NCCL's own see
    nccl-environment.
    """
    values = environment.values
    found = left_over(environment.names, values, _is_ours, workload)
    if not found:
        return ok(f"none among {count_of(len(_ours(values)), 'known variable')}")
    said = {name: f"{name}={short(values[name])}" for name in found}
    if len(found) == 1:
        summary = f"{next(iter(said.values()))} is left over from debugging"
    else:
        summary = f"{len(found)} are left over from debugging: {', '.join(found)}"
    fix = Fix(*map(EnvUnset, found))
    evidence = [f"{said[name]}: {cost}" for name, cost in found.items()]
    return warn(short(summary, SUMMARY), fix, evidence=evidence, basis="vendor")


@check(
    owner="job",
    symptoms=[
        r"Invalid value for environment variable",
        r"Unrecognized CachingAllocator option",
        r"The value of TORCH_DISTRIBUTED_DEBUG must be",
    ],
)
def env_typos(environment: Environment) -> Finding:
    """Every variable is spelled, and has a value, as its library reads it.

    A name that no library knows is ignored without a word, and so are many values. PyTorch
    stops at some: "Unrecognized CachingAllocator option", "Invalid value for environment
    variable". For NCCL's own see nccl-environment.
    """
    values = environment.values
    spelt = spelling(environment.names, values, _is_ours)
    if not spelt.names:
        known = count_of(len(_ours(values)), "known variable")
        return ok(f"{known}, all as their libraries read them", remarks(values, _is_ours))
    evidence = [f"{name} is read by no library, {right} is" for name, right in spelt.slips.items()]
    evidence += [f"{name} is not read since {until}" for name, until in spelt.gone.items()]
    evidence += [f"{name}={short(values[name])} is {why}" for name, why in spelt.wrong.items()]
    names = spelt.names
    summary = (
        evidence[0] if len(names) == 1 else f"{len(names)} are not read so: {', '.join(names)}"
    )
    settings = [*map(EnvUnset, spelt.gone), *(mended(name, values[name]) for name in spelt.wrong)]
    renames = [f'export {right}="${name}"; unset {name}' for name, right in spelt.slips.items()]
    fix = Fix(*settings, text="Spell it as the library reads it", commands=renames)
    judge = fail if stops(spelt, values) else warn
    return judge(short(summary, SUMMARY), fix, evidence=evidence, basis="vendor")


def _is_ours(name: str) -> bool:
    return not variables.is_of_nccl(name)


def _ours(values: Mapping[str, str]) -> list[str]:
    return list(filter(_is_ours, values))


@check(
    owner="job",
    symptoms=[
        r"Setting OMP_NUM_THREADS environment variable for each process to be 1",
        r"libgomp: Invalid value for environment variable OMP_NUM_THREADS",
        r"pthread_create failed for thread \d+ of \d+: Resource temporarily unavailable",
    ],
)
def env_threads(
    environment: Environment, workload: Workload, system: System, cgroup: Cgroup | None
) -> Finding:
    """OMP_NUM_THREADS gives each rank no more threads than it has CPUs.

    Each rank starts that many threads for its work on the CPU; without it, one for every CPU
    that it may run on, however low the container's CPU quota is. Too many of them wait for each
    other: the data loader falls behind and the GPUs idle, with no error anywhere.
    """
    ranks = workload.local_ranks
    cpus, bound = _cpus_of_rank(environment, workload, system, cgroup)
    told = environment.values.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    fix = Fix(EnvSet("OMP_NUM_THREADS", str(max(1, int(cpus)))))
    have = f"{count_of(ranks, 'rank')} of {cpus:g} CPUs"
    if told and not (told.isdigit() and int(told)):
        summary = f"OMP_NUM_THREADS={short(told)} is not a number of threads: it is ignored"
        return warn(summary, fix, evidence=[have], basis="vendor")
    if told:
        if int(told) > 1 and int(told) > cpus:
            summary = f"{told} threads in each of {have}"
            return warn(summary, fix, basis="rule-of-thumb")
        return ok(f"{told} threads in each of {have}")
    starter = workload.told_by.get("local_ranks", "")
    threads = system.cpus_usable
    if ranks > 1 and not bound and starter.startswith(STARTERS):
        summary = f"not set: {threads} threads in each of {have}"
        return warn(summary, fix, evidence=[f"ranks by {starter}"], basis="rule-of-thumb")
    if ranks == 1 and threads > TOO_MANY_THREADS * cpus:
        return warn(
            f"not set: {threads} threads, the quota is {cpus:g} CPUs", fix, basis="measured"
        )
    return ok(f"not set, {have}", ["torchrun sets it to 1 for several ranks"])


@check(
    owner="image",
    symptoms=[
        r"undefined symbol: __nvJitLink",
        r"undefined symbol: nccl[A-Z]",
        r"Could not load library libcudnn",
        r"CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH",
        r"cuDNN version incompatibility",
        r"CUDA driver is a stub library",
        r"object '.*' from LD_PRELOAD cannot be preloaded",
    ],
)
def env_library_path(environment: Environment, job_python: JobPython | None) -> Finding:
    """LD_LIBRARY_PATH and LD_PRELOAD put no wrong library before the job's own.

    A directory with an older copy of what PyTorch's wheels bring wins over them: "undefined
    symbol: __nvJitLinkComplete_12_4", "cuDNN version incompatibility". A stub of libcuda.so.1
    wins over the driver: "CUDA driver is a stub library".
    """
    if not (environment.library_dirs or environment.preload):
        return ok("neither LD_LIBRARY_PATH nor LD_PRELOAD is set")
    packages = job_python.packages if job_python else {}
    breaks, risks = _shadows(environment.library_dirs, packages)
    stub = _first_stub(environment.library_dirs)
    if stub:
        breaks[stub.path] = "a stub of libcuda.so.1, which stands for a driver only when linking"
    bad = {**risks, **breaks}
    settings = [_path_without(bad, environment)] if bad else []
    if environment.preload_missing:
        kept = [entry for entry in environment.preload if entry not in environment.preload_missing]
        settings.append(EnvSet("LD_PRELOAD", ":".join(kept)) if kept else EnvUnset("LD_PRELOAD"))
    evidence = [f"{path}: {why}" for path, why in bad.items()]
    evidence += [f"LD_PRELOAD: there is no {entry}" for entry in environment.preload_missing]
    if not evidence:
        count = count_of(len(environment.library_dirs), "directory", "directories")
        return ok(f"{count}, none hides a library", _notes(environment))
    summary = evidence[0] if len(evidence) == 1 else f"{len(evidence)} entries are wrong"
    judge = fail if breaks else warn
    evidence = evidence if len(evidence) > 1 or len(summary) > SUMMARY else []
    return judge(short(summary, SUMMARY), Fix(*settings), evidence=evidence, basis="measured")


def _cpus_of_rank(
    environment: Environment, workload: Workload, system: System, cgroup: Cgroup | None
) -> tuple[float, bool]:
    """CPUs for each rank, and whether this process is a rank bound to its own."""
    whole = system.cpus
    if cgroup and cgroup.cpuset_cpus:
        whole = min(whole, cgroup.cpuset_cpus)
    bound = any(name in environment.values for name in A_RANK) and system.cpus_usable < whole
    cpus = float(system.cpus_usable if bound else system.cpus_usable / max(1, workload.local_ranks))
    if cgroup and cgroup.cpu_quota:
        cpus = min(cpus, cgroup.cpu_quota / max(1, workload.local_ranks))
    return round(cpus, 1), bound


def _shadows(
    dirs: tuple[LibraryDir, ...], packages: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Directories whose library breaks the job, and those where it may, by their paths."""
    breaks: dict[str, str] = {}
    risks: dict[str, str] = {}
    torch = _version(packages.get("torch", ""))
    for stem, wheel in (
        ("libnvJitLink", "nvidia-nvjitlink"),
        ("libcudnn", "nvidia-cudnn-cu"),
        ("libnccl", "nvidia-nccl-cu"),
    ):
        ours = next((_version(v) for n, v in packages.items() if n.startswith(wheel)), ())
        if not ours:
            continue
        found = next((d for d in dirs if d.version_of(stem, ours[0])), None)
        theirs = found.version_of(stem, ours[0])[:3] if found else ()
        same = theirs == ours[: len(theirs)]
        if found is None or same or re.search(WHEELS_OWN, f"{found.path}/"):
            continue
        says = f"{stem} {_dotted(theirs)} comes before the wheel's {_dotted(ours)}"
        older = theirs < ours
        if stem == "libnvJitLink" and older and () < torch < TORCH_OPENS_NVJITLINK:
            breaks[found.path] = says
        elif stem == "libcudnn" and ours < CUDNN_IS_SAFE:
            (breaks if older else risks)[found.path] = says
        elif stem == "libnccl" and older:
            risks[found.path] = f"{says} for what loads NCCL before torch"
    return breaks, risks


def _first_stub(dirs: tuple[LibraryDir, ...]) -> LibraryDir | None:
    """The directory whose stub of the driver is found before any real one."""
    first = next((d for d in dirs if "libcuda.so.1" in d.libraries), None)
    return first if first and first.is_stubs else None


def _path_without(bad: Mapping[str, str], environment: Environment) -> Setting:
    kept = [found.path for found in environment.library_dirs if found.path not in bad]
    return EnvSet("LD_LIBRARY_PATH", ":".join(kept)) if kept else EnvUnset("LD_LIBRARY_PATH")


def _notes(environment: Environment) -> list[str]:
    lines = []
    for found in environment.library_dirs:
        if not found.answered:
            lines.append(f"{found.path} does not answer: not looked into")
        elif not found.exists:
            lines.append(f"{found.path} does not exist")
        elif found.is_compat and "libcuda.so.1" in found.libraries:
            lines.append(f"{found.path}: CUDA forward compatibility, for data-centre GPUs only")
        elif found.is_stubs:
            lines.append(f"{found.path}: stubs, which stand for a driver only when linking")
    return lines


def _version(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
