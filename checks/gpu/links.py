"""The vendors' own links between GPUs: NVLink and its switches, XGMI."""

from gpudoctor import CudaInit, Finding, Gpu, Gpus, Status, check, count_of, ok, skip
from gpudoctor.rules.gpu_models import gpu_model
from gpudoctor.rules.per_gpu import NO_GPU, Trouble, address, reset, unread, worst
from gpudoctor.rules.selection import of_vendor

LINK_ERRORS = 1000  # since the driver was loaded; NVIDIA calls for a look when they grow
PASSING = ("degraded bandwidth", "route recovery", "access timeout recovery", "limited capacity")
STARTING = ("not started", "in progress")
WHOLE = (None, "", "SPX")  # AMD GPUs that are not split

NVLINK = [
    r"NVLink.*(inactive|down|fail|error)",
    r"NCCL WARN .*(NVLS|nvls|NVLink)",
    r"Xid .*: (74|136|144|145|146|147|148|149|150),",
]
FABRIC = [
    r"CUDA_ERROR_SYSTEM_NOT_READY",
    r"Error 802: system not yet initialized",
    r"nvidia-fabricmanager.*(fail|mismatch|inactive)",
]


@check(owner="node", symptoms=NVLINK)
def gpu_nvlink(gpus: Gpus) -> Finding:
    """All NVLinks that these GPUs should have are up.

    With one link down NCCL uses fewer channels on all GPUs, or goes over PCIe: the job runs at
    a part of its speed, or ends with Xid 74 and "NCCL WARN ... NVLS".
    """
    nvidia = of_vendor(gpus.alive, "nvidia")
    if not nvidia:
        return skip("NVLink is NVIDIA's: see gpu-xgmi" if gpus.alive else NO_GPU)
    whole = [gpu for gpu in nvidia if not gpu.mig_enabled]
    troubles = [trouble for gpu in whole for trouble in _nvlink(gpu, len(nvidia) == 1)]
    if troubles:
        return worst(troubles)
    if gap := unread(whole, "links"):
        return gap
    linked = [gpu for gpu in whole if gpu.links]
    if not linked:
        return skip("no NVLink is seen: these GPUs have none, or it is hidden from here")
    if not any(_up(gpu) or not gpu_model(gpu.name) for gpu in linked):
        return ok("none is up: no bridge, or a single GPU of its board")
    return _all_well(linked, "NVLink")


@check(owner="node", symptoms=FABRIC)
def gpu_fabric(gpus: Gpus, cuda_init: CudaInit | None) -> Finding:
    """The GPUs have joined the NVSwitch fabric.

    On machines with NVSwitches the fabric manager must admit every GPU. Until it has, CUDA does
    not start: "Error 802: system not yet initialized", although nvidia-smi looks healthy.
    """
    told = [gpu for gpu in of_vendor(gpus.alive, "nvidia") if gpu.fabric_state is not None]
    works = cuda_init is not None and cuda_init.code == 0
    alone = works and len(gpus.alive) == 1  # in a guest with one GPU of the board
    troubles = [t for gpu in told for t in _fabric(gpu, gpus.driver) if not _waived(t, alone)]
    if troubles:
        return worst(troubles)
    if gap := unread(gpus.alive, "fabric_state"):
        return gap
    if not gpus.alive:
        return skip(NO_GPU)
    judged = [gpu for gpu in told if _switched(gpu)]
    if not judged:
        return skip("these GPUs speak of no NVSwitch fabric; gpu-init tells whether CUDA starts")
    if alone and judged[0].fabric_state in STARTING:
        return ok("one GPU, which does without the fabric: CUDA starts")
    return ok(f"{count_of(len(judged), 'GPU')} registered, none complains")


@check(owner="node", symptoms=[r"\bXGMI\b.*(down|error|fail)", r"xgmi.*(WAFL|error)", r"RCCL WARN"])
def gpu_xgmi(gpus: Gpus) -> Finding:
    """All XGMI links between these GPUs are up.

    The GPUs of a board reach each other over XGMI, each by a link of its own. With one missing
    RCCL takes PCIe for that pair, five to ten times slower, and all others wait for it.
    """
    amd = of_vendor(gpus.alive, "amd")
    if not amd:
        return skip("XGMI is AMD's: see gpu-nvlink" if gpus.alive else NO_GPU)
    whole = [gpu for gpu in amd if gpu.partition_compute in WHOLE]
    if troubles := [trouble for gpu in whole for trouble in _xgmi(gpu, whole, gpus.sources)]:
        return worst(troubles)
    if gap := unread(whole, "links"):
        return gap
    linked = [gpu for gpu in whole if gpu.links]
    if not linked:
        return skip("no XGMI link is seen: these GPUs have none, or are split")
    return _all_well(linked, "XGMI link")


def _all_well(linked: list[Gpu], kind: str) -> Finding:
    """How many are up, unless a model that is not known could have more."""
    unjudged = [gpu for gpu in linked if not gpu_model(gpu.name) and _up(gpu) < _all(gpu)]
    if unjudged:
        seen = f"{_up(unjudged[0])} of {count_of(_all(unjudged[0]), kind)} up"
        return skip(f"{seen}; whether {unjudged[0].name} should have more is not known")
    each = " or ".join(str(up) for up in sorted({_up(gpu) for gpu in linked}))
    return ok(f"{each} {kind}s up on each of {count_of(len(linked), 'GPU')}")


def _up(gpu: Gpu) -> int:
    return sum(link.active for link in gpu.links or ())


def _all(gpu: Gpu) -> int:
    return len(gpu.links or ())


def _nvlink(gpu: Gpu, alone: bool) -> list[Trouble]:
    model, up, found = gpu_model(gpu.name), _up(gpu), []
    # A guest with a single GPU of a board has its links switched off.
    wanted = model.links if model and model.wiring == "board" and (up or not alone) else 0
    if gpu.links is not None and up < wanted:
        status = Status.WARN if alone else Status.FAIL
        found.append((status, f"{up} of {wanted} NVLinks are up"))
    if (errors := _errors(gpu)) > LINK_ERRORS:
        found.append((Status.WARN, f"{errors} errors on its NVLinks"))
    text = "Drain the node and reset all its GPUs together; a link that stays down needs repair"
    commands = (f"nvidia-smi nvlink --status -i {address(gpu)}", "sudo nvidia-smi -r")
    return [
        Trouble(status=status, gpu=gpu, words=words, text=text, commands=commands)
        for status, words in found
    ]


def _xgmi(gpu: Gpu, others: list[Gpu], sources: tuple[str, ...]) -> list[Trouble]:
    model, found = gpu_model(gpu.name), []
    if model and model.wiring == "hive":
        down = _all(gpu) - _up(gpu)
        peers = {link.peer for link in gpu.links or () if link.active}
        board = {other.bus_id for other in others if other.name == gpu.name} - {gpu.bus_id}
        # AMD SMI alone does not say where a link leads.
        missing = len(board - peers) if "kfd" in sources else 0
        if missing or down:
            found.append((Status.FAIL, f"{max(missing, down)} of its XGMI links are down"))
    if (errors := _errors(gpu)) > LINK_ERRORS:
        found.append((Status.WARN, f"{errors} errors on its XGMI links"))
    text = "Drain the node and reset all its GPUs together; a link that stays down needs repair"
    commands = ("amd-smi xgmi", "amd-smi topology", reset(gpu))
    return [
        Trouble(status=status, gpu=gpu, words=words, text=text, commands=commands)
        for status, words in found
    ]


def _errors(gpu: Gpu) -> int:
    return sum(link.errors or 0 for link in gpu.links or ())


def _switched(gpu: Gpu) -> bool:
    """A model that is known to be on no switch is left alone, whatever its driver says."""
    model = gpu_model(gpu.name)
    return model is None or bool(model.fabric)


def _fabric(gpu: Gpu, driver: str) -> list[Trouble]:
    if not _switched(gpu):
        return []
    found = []
    if gpu.fabric_state in STARTING:
        found.append((Status.FAIL, f"registration with the fabric: {gpu.fabric_state}"))
    elif gpu.fabric_error:
        found.append((Status.FAIL, f"registration with the fabric failed: {gpu.fabric_error}"))
    for complaint in gpu.fabric_unhealthy:
        status = Status.WARN if complaint in PASSING else Status.FAIL
        found.append((status, f"its fabric is unhealthy: {complaint}"))
    model = gpu_model(gpu.name)
    text = f"Start the fabric manager; it must be of the driver's very version {driver}".rstrip()
    service, verb = "nvidia-fabricmanager", "sudo systemctl restart"
    if model and model.fabric == "rack":
        text = "Have the rack's NVLink fabric looked at: its fabric manager runs on the switches"
        service, verb = "nvidia-imex", "systemctl status"
    commands = (f"{verb} {service}", "nvidia-smi -q | grep -A 12 Fabric")
    return [
        Trouble(status=status, gpu=gpu, words=words, text=text, commands=commands)
        for status, words in found
    ]


def _waived(trouble: Trouble, alone: bool) -> bool:
    return alone and trouble.gpu.fabric_state in STARTING
