"""Record what tells one container from another, as one text file; plant it as a tree again.

`python3 record.py "how it was started" > recorded/container/NAME.txt` runs anywhere, with the
standard library of Python 3.8. In the file "== PATH" is followed by the text of a file,
"== PATH -> TARGET" is a symbolic link, "== PATH/" a directory.
"""

import os
import sys

FILES = [
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/self/uid_map",
    "/proc/self/attr/current",
    "/proc/1/comm",
    "/proc/version",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/yama/ptrace_scope",
    "/.dockerenv",
    "/run/.containerenv",
    "/run/host/container-manager",
    "/run/systemd/container",
    "/.lock",
]
PLACES = ["/.singularity.d", "/dev/.lxd-mounts", "/dev/lxd/sock", "/dev/incus/sock"]
NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
SYSCTLS = ["ip_forward", "inet_peer_threshold", "tcp_mem", "udp_mem"]
STATUS = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
VARIABLES = (
    "container",
    "APPTAINER_",
    "INVOCATION_ID",
    "KUBERNETES_SERVICE_HOST",
    "OMPI_COMM_WORLD_",
    "SINGULARITY_",
    "SLURM_",
    "WSL_",
)


def record(note):
    """The whole text."""
    parts = [f"# {note}"]
    for path in FILES:
        text = _read(path)
        if path == "/proc/self/mountinfo":  # cgroup's own many lines say nothing here
            lines = (text or "").splitlines()
            text = "\n".join(line for line in lines if " /sys/fs/cgroup" not in line)
        if text is not None:
            parts += [f"== {path}", text.rstrip("\n")]
    parts += [f"== {path}/" for path in PLACES if os.path.exists(path)]
    hosts = (_read("/etc/hosts") or "").partition("\n")[0]
    if hosts.startswith("# Kubernetes"):
        parts += ["== /etc/hosts", hosts]
    status = (_read("/proc/self/status") or "").splitlines()
    parts += ["== /proc/self/status", *(line for line in status if line.startswith(STATUS))]
    for name in NAMESPACES:
        parts.append(f"== /proc/self/ns/{name} -> {os.readlink(f'/proc/self/ns/{name}')}")
    for process in ("self", "1"):
        variables = (_read(f"/proc/{process}/environ") or "").split("\0")
        kept = [pair for pair in variables if pair.startswith(VARIABLES)]
        parts += [f"== /proc/{process}/environ", *kept]
    pid = "self"
    while pid != "0":
        head, _, tail = (_read(f"/proc/{pid}/stat") or "0 (?) ? 0").rpartition(")")
        parts += [f"== /proc/{pid}/stat", f"{head}) {' '.join(tail.split()[:2])}"]
        pid = tail.split()[1]
    for name in SYSCTLS:
        text = _read(f"/proc/sys/net/ipv4/{name}")
        if text is not None:
            parts += [f"== /proc/sys/net/ipv4/{name}", text.strip()]
    return "\n".join(parts) + "\n"


def plant(text, folder):
    """Make the tree that a recorded text describes; its environment variables."""
    environ = {}
    for part in ("\n" + text).split("\n== ")[1:]:
        head, _, body = part.partition("\n")
        path, _, target = head.partition(" -> ")
        if path.endswith("/environ"):
            pairs = [line for line in body.splitlines() if line]
            body = "\0".join(pairs)
            if path == "/proc/self/environ":
                environ = dict(pair.split("=", 1) for pair in pairs)
        place = str(folder) + path
        os.makedirs(place if path.endswith("/") else os.path.dirname(place), exist_ok=True)
        if target:
            os.symlink(target, place)
        elif not path.endswith("/"):
            with open(place, "w") as file:
                file.write(body)
    return environ


def _read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return None


if __name__ == "__main__":
    print(record(" ".join(sys.argv[1:])), end="")
