"""The bare host: the shell that starts the job, and what root changes below it."""

from collections.abc import Sequence

from gpudoctor.launch import Spelling
from gpudoctor.launch import _node as node
from gpudoctor.launch._inherits import notes_on, unprivileged
from gpudoctor.launch._shell import command, prelude, spelling
from gpudoctor.launch.settings import Capability, Setting


def spell(settings: Sequence[Setting]) -> Spelling:
    settings = unprivileged(settings)
    capabilities = [s for s in settings if isinstance(s, Capability)]
    lines = [line for setting in settings for line in prelude(setting)]
    if capabilities:
        lines += _with_capabilities(capabilities)
    others = [setting for setting in settings if setting not in capabilities]
    return spelling(
        "In the shell that starts the job:",
        lines,
        [note for setting in others for note in notes_on(setting, "A job on the bare host")],
        "On the node, as root:",
        node.lines(settings),
    )


def _with_capabilities(capabilities: Sequence[Capability]) -> list[str]:
    names = ",".join(f"+{capability.name.lower()}" for capability in capabilities)
    words = ["sudo -E setpriv", '--reuid="$(id -u)"', '--regid="$(id -g)"', "--init-groups"]
    return command([*words, f"--inh-caps={names}", f"--ambient-caps={names}", "COMMAND"])
