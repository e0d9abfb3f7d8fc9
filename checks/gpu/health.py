"""GPU memory that goes bad, and GPUs that wait for a reset."""

import re

from gpudoctor import Finding, Gpu, Gpus, Status, check, count_of, ok, skip, unknown
from gpudoctor.rules.gpu_models import gpu_model
from gpudoctor.rules.per_gpu import NO_GPU, Trouble, address, is_closed, reset, unread, which, worst

SRAM_MOST = 4  # "more than 4 ... events within an address bank": GPU memory error management, RMA
SILENT = "no answer"
UNUSED = r"NOT_SUPPORTED|not in KFD's topology"  # of these gpu-count speaks
OLD_SWITCHES = ("sm_70", "sm_80")  # before H100 a GPU on NVSwitches is not reset alone
DRAINS_OTHERS = ("drain p2p",)  # the GPU itself goes on; NVML_GPU_RECOVERY_ACTION_DRAIN_P2P

ECC = [
    r"uncorrectable ECC error encountered",
    r"cudaErrorECCUncorrectable",
    r"CUDA_ERROR_ECC_UNCORRECTABLE",
    r"hipErrorECCNotCorrectable",
]
DEAD = [
    r"GPU is lost",
    r"GPU requires reset",
    r"Unable to determine the device handle for GPU",
    r"GPU has fallen off the bus",
    r"unspecified launch failure",
]


@check(owner="node", symptoms=[*ECC, r"Xid .*: (48|95|140),"])
def gpu_ecc(gpus: Gpus) -> Finding:
    """GPU memory has no uncorrected errors.

    An uncorrected memory error ends the job with "CUDA error: uncorrectable ECC error
    encountered", often again and again until the GPU is reset. With ECC off the same error
    is not noticed: weights go wrong in silence.
    """
    if not gpus.alive:
        return skip(NO_GPU)
    if troubles := [trouble for gpu in gpus.alive for trouble in _ecc(gpu)]:
        return worst(troubles)
    if gap := unread(gpus.alive, "ecc_enabled", "ecc_pending", "ecc_uncorrected"):
        return gap
    counted = [gpu for gpu in gpus.alive if gpu.ecc_uncorrected is not None]
    if not counted:
        return skip("these GPUs count no memory errors: they have no ECC, or it is off")
    totals = [f"GPU {gpu.index}: {_history(gpu)}" for gpu in counted if gpu.ecc_uncorrected_total]
    return ok(f"no uncorrected error on {count_of(len(counted), 'GPU')} since the reset", totals)


@check(owner="node", symptoms=[*ECC, r"Xid .*: (63|64|94),", r"row.?remap", r"page retirement"])
def gpu_remap(gpus: Gpus) -> Finding:
    """No GPU waits to replace bad memory, or has no spare memory left.

    A bad row is replaced by a spare one, but only at the next reset; until then the job can
    meet it: "uncorrectable ECC error encountered". With no spare rows left it stays bad.
    """
    if not gpus.alive:
        return skip(NO_GPU)
    if troubles := [trouble for gpu in gpus.alive for trouble in _remap(gpu)]:
        return worst(troubles)
    fields = ("rows_remapped", "remap_pending", "remap_failed", "pages_retired", "pages_pending")
    if gap := unread(gpus.alive, *fields):
        return gap
    told = [(gpu.remap_pending, gpu.pages_pending, gpu.pages_retired) for gpu in gpus.alive]
    if all(one is None for gpu in told for one in gpu):
        return skip("these GPUs do not tell of replaced memory")
    replaced = sum((gpu.rows_remapped or 0) + (gpu.pages_retired or 0) for gpu in gpus.alive)
    return ok(f"nothing pending; {count_of(replaced, 'row or page', 'rows or pages')} replaced")


@check(owner="node", symptoms=[*DEAD, r"Xid .*: (79|154),", r"NVML_ERROR_(GPU_IS_LOST|RESET)"])
def gpu_recovery(gpus: Gpus) -> Finding:
    """No GPU waits for a reset or a reboot.

    After some errors the driver keeps a GPU half alive: it is listed, but a job that starts
    on it ends with "unspecified launch failure" or "GPU requires reset", and the others of
    the job hang in NCCL until they time out.
    """
    if not gpus.devices:
        return skip(NO_GPU)
    if troubles := [trouble for gpu in gpus.devices for trouble in _recovery(gpu)]:
        return worst(troubles)
    if silent := [words for gpu in gpus.devices if (words := _silent(gpu))]:
        return unknown(silent[0])
    if not gpus.alive:
        return skip(NO_GPU)
    if gap := unread(gpus.alive, "recovery_action"):
        return gap
    if all(gpu.recovery_action is None for gpu in gpus.alive):
        return skip("these drivers tell no recovery action; NVIDIA's does from R570 on")
    return ok("no action needed")


def _ecc(gpu: Gpu) -> list[Trouble]:
    model = gpu_model(gpu.name)
    found = []
    if gpu.ecc_uncorrected:
        errors = count_of(gpu.ecc_uncorrected, "uncorrected memory error")
        found.append(_renew(gpu, Status.FAIL, f"{errors} since the last reset"))
    if (gpu.ecc_sram_uncorrected_total or 0) > SRAM_MOST:
        words = f"{gpu.ecc_sram_uncorrected_total} uncorrected SRAM errors in its life"
        found.append(_replace(gpu, words))
    if gpu.ecc_enabled is not None and gpu.ecc_pending not in (None, gpu.ecc_enabled):
        now, then = ("on", "off") if gpu.ecc_enabled else ("off", "on")
        words = f"ECC is {now} and will be {then} after the next reset"
        found.append(_renew(gpu, Status.WARN, words))
    elif gpu.ecc_enabled is False and model and model.data_centre:
        switch = (f"sudo nvidia-smi -i {address(gpu)} -e 1", reset(gpu))
        found.append(
            Trouble(
                status=Status.WARN,
                gpu=gpu,
                words="ECC is off on a data-centre GPU",
                text="Switch ECC on; it takes effect with a reset",
                commands=switch if gpu.vendor == "nvidia" else (),
                basis="rule-of-thumb",
            )
        )
    return found


def _remap(gpu: Gpu) -> list[Trouble]:
    if gpu.remap_failed:
        return [_replace(gpu, "replacing a bad memory row failed")]
    if gpu.banks_exhausted:
        banks = count_of(gpu.banks_exhausted, "memory bank")
        return [_replace(gpu, f"{banks} without a spare row")]
    if gpu.remap_pending:
        return [_renew(gpu, Status.WARN, "a bad memory row waits to be replaced")]
    if gpu.pages_pending:
        return [_renew(gpu, Status.WARN, "a bad memory page waits to be retired")]
    return []


def _recovery(gpu: Gpu) -> list[Trouble]:
    if gpu.lost:
        if gpu.lost.startswith(SILENT) or is_closed(gpu) or re.search(UNUSED, gpu.lost):
            return []
        return [_reboot(gpu, f"does not answer: {gpu.lost}")]
    found = []
    action = gpu.recovery_action or "none"
    words = f"the driver asks for: {action}"
    if action in DRAINS_OTHERS:
        found.append(_renew(gpu, Status.WARN, words))
    elif action != "none":
        again = _reboot if "reboot" in action else _reset
        found.append(again(gpu, words))
    if gpu.inforom_corrupt:
        words = "its infoROM is corrupt: error counts and settings may be lost"
        found.append(_renew(gpu, Status.WARN, words))
    return found


def _silent(gpu: Gpu) -> str:
    """What of a GPU had no answer in time; empty: all had. No other check may have asked it."""
    if gpu.lost:
        return f"{which(gpu)}: {gpu.lost}" if gpu.lost.startswith(SILENT) else ""
    fields = [name for name, error in gpu.unread.items() if error.startswith(SILENT)]
    return f"{which(gpu)}: {gpu.unread[fields[0]]}: {', '.join(fields)}" if fields else ""


def _reset(gpu: Gpu, words: str) -> Trouble:
    return _renew(gpu, Status.FAIL, words)


def _renew(gpu: Gpu, status: Status, words: str) -> Trouble:
    text = "Drain the node and reset the GPU"
    model = gpu_model(gpu.name)
    if model and model.fabric and model.arch in OLD_SWITCHES:
        text += "; on boards with NVSwitches all GPUs together, by `nvidia-smi -r`"
    return Trouble(status=status, gpu=gpu, words=words, text=text, commands=(reset(gpu),))


def _reboot(gpu: Gpu, words: str) -> Trouble:
    return Trouble(
        status=Status.FAIL,
        gpu=gpu,
        words=words,
        text="Drain the node and reboot it; if it comes back, see cables, cooling and seating",
        commands=("sudo reboot",),
    )


def _replace(gpu: Gpu, words: str) -> Trouble:
    text = "Drain the node, run the vendor's diagnostics, and have the GPU replaced"
    test = "sudo dcgmi diag -r 3" if gpu.vendor == "nvidia" else "sudo rvs -c gst_single.conf"
    return Trouble(status=Status.FAIL, gpu=gpu, words=words, text=text, commands=(test,))


def _history(gpu: Gpu) -> str:
    return f"{gpu.ecc_uncorrected_total} uncorrected errors in its life, none since the reset"
