"""Integrations: what is written where, so that a host runs gpudoctor at the right moment.

One file per kind; words between @ are filled in:

    @gpudoctor@  the program: by its name inside an image, by its path on this machine
    @command@    the job's command as a shell reads it
    @list@       the same as a list in JSON, which is YAML and a Dockerfile's exec form too
    @log@        where a hook of the node keeps what it found
    @metrics@    the directory that the node exporter reads
"""

import json
import pkgutil
import shlex
from collections.abc import Sequence

from msgspec import Struct


class Hook(Struct, frozen=True):
    """One integration.

    Attributes:
        file: its text, beside this module.
        about: what it does, in one line.
        where: where its text belongs.
        inside: it runs in the job's image, where gpudoctor is found by its name.
        command: what it starts unless told otherwise.
    """

    file: str
    about: str
    where: str
    inside: bool = False
    command: tuple[str, ...] = ("python", "train.py")


KINDS = {
    "docker": Hook(
        "docker.Dockerfile", "an image whose entrypoint checks first", "Dockerfile", inside=True
    ),
    "compose": Hook(
        "compose.yaml",
        "a service that checks before its command starts",
        "compose.override.yaml",
        inside=True,
    ),
    "ngc": Hook(
        "ngc.sh",
        "a drop-in of NVIDIA's images, which have an entrypoint already",
        "/opt/nvidia/entrypoint.d/80-gpudoctor.sh",
        inside=True,
    ),
    "kubernetes": Hook(
        "kubernetes.yaml", "a pod whose container checks first", "train.yaml", inside=True
    ),
    "kubernetes-init": Hook(
        "kubernetes-init.yaml",
        "a pod that does not start where the node is at fault",
        "train.yaml",
        inside=True,
    ),
    "kubernetes-job": Hook(
        "kubernetes-job.yaml",
        "a Job that tries another node, or gives up, by what was found",
        "train.yaml",
        inside=True,
    ),
    "slurm-batch": Hook(
        "slurm-batch.sh", "a batch script that checks every node of its job", "train.sbatch"
    ),
    "slurm-taskprolog": Hook(
        "slurm-taskprolog.sh",
        "findings in the job's output, one task per node",
        "/etc/slurm/taskprolog.sh",
    ),
    "slurm-prolog": Hook(
        "slurm-prolog.sh",
        "findings in a log before every job; drains only if told to",
        "/etc/slurm/prolog.sh",
    ),
    "slurm-healthcheck": Hook(
        "slurm-healthcheck.sh",
        "a HealthCheckProgram: logs what is wrong with the node; drains only if told to",
        "/usr/local/sbin/gpudoctor-healthcheck",
    ),
    "torchrun": Hook(
        "torchrun.sh",
        "a script that checks once per node, outside torchrun",
        "train.sh",
        command=("torchrun", "--nproc-per-node", "8", "train.py"),
    ),
    "systemd": Hook(
        "systemd.service", "a unit that checks first", "/etc/systemd/system/train.service"
    ),
    "npd": Hook(
        "npd.json",
        "a condition of the Kubernetes node, by the node problem detector",
        "/config/gpudoctor-monitor.json",
    ),
    "nagios": Hook(
        "nagios.cfg", "a command of NRPE, for Nagios and Icinga", "/etc/nagios/nrpe.d/gpudoctor.cfg"
    ),
    "prometheus": Hook(
        "prometheus.sh",
        "metrics for the node exporter's textfile collector",
        "/etc/cron.hourly/gpudoctor",
    ),
}


def text(
    kind: str,
    program: str,
    command: Sequence[str] = (),
    *,
    log: str = "/var/log/gpudoctor-slurm.log",
    metrics: str = "/var/lib/prometheus/node-exporter",
) -> str:
    """What is to be written.

    Args:
        kind: one of KINDS.
        program: gpudoctor, as it is found where the hook runs.
        command: the job's; empty: the kind's example.
        log: see above.
        metrics: see above.
    """
    hook = KINDS[kind]
    words = list(command or hook.command)
    if kind == "compose":  # it puts variables in
        words = [word.replace("$", "$$") for word in words]
    if kind == "systemd":  # so does it; "%" and, in quotes too, "\\" mean something to it
        for special, plain in (("$", "$$"), ("%", "%%"), ("\\", "\\\\"), ("\n", "\\n")):
            words = [word.replace(special, plain) for word in words]
    quoted = program if hook.file.endswith((".yaml", ".json", "file")) else shlex.quote(program)
    filled = (pkgutil.get_data(__name__, hook.file) or b"").decode()
    for name, value in (
        ("gpudoctor", quoted),
        ("log", shlex.quote(log)),
        ("metrics", shlex.quote(metrics)),
        ("list", json.dumps(words, ensure_ascii=False)),
        ("command", shlex.join(words)),
    ):
        filled = filled.replace(f"@{name}@", value)
    return filled
