"""What holds a GPU's clocks down: heat, power supply, a lowered limit."""

from gpudoctor import Finding, Gpu, Gpus, Status, check, count_of, ok, skip
from gpudoctor.rules.gpu_models import gpu_model
from gpudoctor.rules.per_gpu import NO_GPU, Trouble, address, unread, worst
from gpudoctor.rules.throttling import is_laptop, slowed

MARGIN_C = 5  # to the temperature at which the hardware slows down; leptonai/gpud
MEMORY_HOT_C = 105  # of GDDR6X and of AMD's HBM, at about which they throttle
HBM_HOT_C = 95  # "GPU Memory Max Operating T.Limit" of A100 and H100
LOWERED = 0.9  # of the default power limit; peers use the same, it is a matter of taste

SLOW = [
    r"clocks_(throttle|event)_reasons",
    r"(HW|SW) (Thermal )?Slowdown",
    r"Watchdog caught collective operation timeout",
]


@check(owner="node", symptoms=[*SLOW, r"HW Power Brake"])
def gpu_throttle(gpus: Gpus) -> Finding:
    """No GPU is slowed down by heat or by its power supply.

    The slowest GPU sets the pace of all: one that the hardware has braked to half its clock
    or less makes every step of the job slower, and may end it with "Watchdog caught
    collective operation timeout".
    """
    if not gpus.alive:
        return skip(NO_GPU)
    if troubles := [trouble for gpu in gpus.alive for trouble in _throttle(gpu)]:
        return worst(troubles)
    if gap := unread(gpus.alive, "throttle"):
        return gap
    known = [gpu for gpu in gpus.alive if gpu.throttle is not None]
    if not known:
        return skip("these GPUs do not tell why their clocks are low")
    reasons = sorted({reason for gpu in known for reason in gpu.throttle or ()} - {"idle"})
    return ok(f"neither heat nor power supply brake {count_of(len(known), 'GPU')}", reasons)


@check(owner="node", symptoms=[*SLOW, r"GPU .*over.?temperature", r"thermal shutdown"])
def gpu_temperature(gpus: Gpus) -> Finding:
    """Every GPU is cool enough to take the job's load.

    A GPU that is hot before the job starts slows down as soon as it works, and all others
    wait for it: step times grow by a third, "SW Thermal Slowdown" stands in nvidia-smi.
    """
    if not gpus.alive:
        return skip(NO_GPU)
    if troubles := [trouble for gpu in gpus.alive for trouble in _temperature(gpu)]:
        return worst(troubles)
    if gap := unread(gpus.alive, "temperature_c"):
        return gap
    known = [gpu.temperature_c for gpu in gpus.alive if gpu.temperature_c is not None]
    if not known:
        return skip("these GPUs do not tell their temperature")
    margins = [margin for gpu in gpus.alive if (margin := _margin(gpu)) is not None]
    closest = f", {min(margins)} °C below where it slows down" if margins else ""
    return ok(f"the hottest has {max(known)} °C{closest}")


@check(owner="node", symptoms=[*SLOW, r"SW Power Cap"])
def gpu_power_limit(gpus: Gpus) -> Finding:
    """No GPU's power limit is set below its default.

    A lowered limit stays until the next boot, whoever set it. The GPU then keeps its clocks
    low under load ("SW Power Cap" in nvidia-smi), and in a job all others wait for it.
    """
    if not gpus.alive:
        return skip(NO_GPU)
    if troubles := [trouble for gpu in gpus.alive for trouble in _power(gpu)]:
        return worst(troubles)
    if gap := unread(gpus.alive, "power_limit_w", "power_default_w"):
        return gap
    known = {gpu.power_limit_w for gpu in gpus.alive if gpu.power_limit_w and gpu.power_default_w}
    if not known:
        return skip("these GPUs have no power limit that can be set")
    watts = " and ".join(f"{limit:.0f} W" for limit in sorted(known))
    return ok(f"{watts}, the default or near it")


def _throttle(gpu: Gpu) -> list[Trouble]:
    braked, heated = slowed(gpu)
    if not (braked or heated):
        return []
    laptop = is_laptop(gpu)
    text = "Have cooling, fans and power feed looked at; keep the node out of jobs until then"
    if laptop:
        text = "Plug the laptop in and let it cool down"
    return [
        Trouble(
            status=Status.FAIL if braked and not laptop else Status.WARN,
            gpu=gpu,
            words=f"slowed down now: {', '.join([*braked, *heated])}",
            text=text,
            commands=(_show(gpu),),
        )
    ]


def _temperature(gpu: Gpu) -> list[Trouble]:
    words = []
    margin = _margin(gpu)
    if margin is not None and margin <= MARGIN_C:
        words.append(f"{gpu.temperature_c} °C, it slows down at {gpu.temperature_slowdown_c} °C")
    model = gpu_model(gpu.name)
    hbm = gpu.vendor == "nvidia" and model is not None and model.data_centre
    if (gpu.temperature_memory_c or 0) >= (HBM_HOT_C if hbm else MEMORY_HOT_C):
        words.append(f"its memory has {gpu.temperature_memory_c} °C")
    text = "Have the cooling looked at: fans, air flow, inlet temperature, dust"
    return [
        Trouble(
            status=Status.WARN,
            gpu=gpu,
            words=word,
            text=text,
            commands=(_show(gpu),),
            basis="rule-of-thumb",
        )
        for word in words
    ]


def _power(gpu: Gpu) -> list[Trouble]:
    limit, default = gpu.power_limit_w, gpu.power_default_w
    if not limit or not default or limit >= LOWERED * default:
        return []
    if is_laptop(gpu):
        return []  # the laptop's firmware moves it all the time
    command = f"sudo nvidia-smi -i {address(gpu)} -pl {default:.0f}"
    if gpu.vendor == "amd":
        command = f"sudo amd-smi set --gpu {address(gpu)} --power-cap {default:.0f}"
    return [
        Trouble(
            status=Status.WARN,
            gpu=gpu,
            words=f"limited to {limit:.0f} W, its default is {default:.0f} W",
            text="Set the default power limit again, unless the site means it",
            commands=(command,),
            basis="rule-of-thumb",
        )
    ]


def _margin(gpu: Gpu) -> int | None:
    if gpu.temperature_c is None or gpu.temperature_slowdown_c is None:
        return None
    return gpu.temperature_slowdown_c - gpu.temperature_c


def _show(gpu: Gpu) -> str:
    if gpu.vendor == "amd":
        return f"amd-smi metric --gpu {address(gpu)} --temperature --power --clock --fan"
    return f"nvidia-smi -i {address(gpu)} -q -d PERFORMANCE,TEMPERATURE,POWER,CLOCK"
