"""Hosts of the lab: network namespaces, each with a hostname and an /etc of its own.

A process that reads a pipe of ours holds each of them. However the tests end, the pipe closes,
that process goes, and the kernel removes the namespaces with all that is in them. So nothing needs
a unique name, and nothing of it is seen from outside.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# /sys shows the namespace that it was mounted in; cgroups are mounted below it.
_HOLD = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/sys /mnt/upper /mnt/work
mount -t sysfs sysfs /mnt/sys
[ ! -d /sys/fs/cgroup ] || mount --rbind /sys/fs/cgroup /mnt/sys/fs/cgroup
mount --move /mnt/sys /sys
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc 2>/dev/null ||
    { cp -a /etc /mnt/etc && mount --bind /mnt/etc /etc; }
echo "$1" >/proc/sys/kernel/hostname
cd /proc/sys/net/ipv6/conf 2>/dev/null && for each in all default; do
    echo 0 >$each/accept_dad
    echo 0 >$each/accept_ra
    echo 0 >$each/router_solicitations
done
ip link set lo up
# The two ends of a cable have carrier at once if their numbers differ, else after a second.
for each in $(seq "$2"); do
    ip link add name gap type bridge
    ip link del dev gap
done
echo ready
read -r _ || true
"""

_LISTEN = """
import socket, sys
family, ip, port = sys.argv[1:]
server = socket.create_server((ip, int(port)), family=getattr(socket, family))
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""

_ATTACH = """
import fcntl, struct, sys, time
name, kind = sys.argv[1:]
device = open("/dev/net/tun", "r+b", buffering=0)
fcntl.ioctl(device, 0x400454CA, struct.pack("16sH14x", name.encode(), 0x1001 + (kind == "tap")))
print("ready", flush=True)
time.sleep(3600)
"""

PAIR = ("10.77.0.1/24", "10.77.0.2/24")


class Host:
    """One host. Its loopback is up; /etc/hosts names localhost and nothing else.

    Attributes:
        name: its hostname.
        pid: of the process that holds its namespaces.
    """

    def __init__(self, zoo: "Zoo", name: str) -> None:
        self.name = name
        self._zoo = zoo
        self._started: list[subprocess.Popen[str]] = []
        unshare = ["unshare", "--net", "--uts", "--mount", "--propagation", "private"]
        self._held = subprocess.Popen(
            [*unshare, "sh", "-c", _HOLD, "sh", name, str(zoo.count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._held.pid
        if self._held.stdout.readline() != "ready\n":
            said = self._held.communicate(timeout=10)[1]
            raise OSError(f"no namespaces to be had: {said.strip()}")
        self.hosts("127.0.0.1 localhost\n")

    def words(self, *command: object, cwd: object = "") -> list[str]:
        """The command, to be run from outside, that runs a command in here."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--uts", "--mount"]
        return [*enter, f"--wdns={cwd or os.getcwd()}", "--", *map(str, command)]

    def run(self, *command: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in here and wait for it, for at most a minute."""
        options = {"capture_output": True, "text": True, "timeout": 60, **options}
        return subprocess.run(self.words(*command, cwd=options.get("cwd", "")), **options)

    def start(self, *command: object, **options: Any) -> subprocess.Popen[str]:
        """Start a command in here; it is killed with the host, or when the tests end."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
        words = ["setpriv", "--pdeathsig", "KILL", *self.words(*command)]
        self._started.append(subprocess.Popen(words, **options))
        return self._started[-1]

    def listen(self, ip: str, port: int) -> subprocess.Popen[str]:
        """Accept TCP connections at an address, and close them; it listens on return."""
        family = "AF_INET6" if ":" in ip else "AF_INET"
        return self._serve(_LISTEN, family, ip, port)

    def ip(self, words: str) -> str:
        """Run `ip` with words of the shell: `ip("route add blackhole 10.9.0.0/24")`."""
        return self._must("ip", *words.split())

    def nft(self, rules: str) -> None:
        """Load rules in nft's own words."""
        self._must("nft", "-f", "-", input=rules)

    def filter(self, *rules: str, hook: str = "input", policy: str = "accept") -> None:
        """Add a table of nft: `filter("tcp dport 29500 drop")`."""
        chain = [f"type filter hook {hook} priority filter; policy {policy};", *rules]
        self.nft(f"table inet lab {{ chain {hook} {{\n" + "\n".join(chain) + "\n}\n}\n")

    def unfilter(self) -> None:
        """Remove all rules of nft."""
        self.nft("flush ruleset\n")

    def sysctl(self, name: str, value: object) -> None:
        """Set a sysctl of the network: `sysctl("net.ipv4.ip_local_port_range", "40000 40100")`."""
        file = "/proc/sys/" + name.replace(".", "/")
        self._must("sh", "-c", 'echo "$1" >"$2"', "sh", value, file)

    def file(self, path: str) -> Path:
        """A file of this host's own /etc, as it is seen from outside."""
        assert path.startswith("/etc/"), f"{path} is not this host's own"
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, text: str) -> None:
        """Write a file of this host's own /etc."""
        file = self.file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():  # as resolv.conf often is: it would lead out of here
            file.unlink()
        file.write_text(text)

    def hosts(self, text: str) -> None:
        self.write("/etc/hosts", text)

    def add(
        self,
        name: str,
        *addresses: str,
        kind: str = "veth",
        up: bool = True,
        carrier: bool = True,
        mtu: int | None = None,
    ) -> None:
        """Add an interface: "veth" (as a container's eth0), "bridge", "tun", "tap", "vxlan", ...

        Interfaces are numbered, and so listed, in the order in which they are added. To have
        a carrier, a bridge gets a port without an address.
        """
        if kind == "veth":
            outside = self._zoo.outside
            outside.connect(outside.free_name(), self, name, up=carrier)
        elif kind in ("tun", "tap"):
            self.ip(f"tuntap add mode {kind} name {name}")
        elif kind == "vxlan":
            self.ip(f"link add {name} type vxlan id 1 dstport 4789")
        else:
            self.ip(f"link add {name} type {kind}")
        if mtu is not None:
            self.ip(f"link set {name} mtu {mtu}")
        for address in addresses:
            # Without this an IPv6 address cannot be bound to for a second.
            self.ip(f"address add {address} dev {name}{' nodad' if ':' in address else ''}")
        if up:
            self.ip(f"link set {name} up")
        if carrier and kind in ("tun", "tap"):
            self._serve(_ATTACH, name, kind)
        if carrier and kind == "bridge":
            port = self.free_name()
            self.add(port)
            self.ip(f"link set {port} master {name}")
        if up and carrier:
            self.settle(name)

    def settle(self, name: str) -> None:
        """Wait until the kernel says that an interface can carry: up to a second late."""
        state = Path(f"/proc/{self.pid}/root/sys/class/net/{name}/operstate")
        end = time.monotonic() + 10
        while state.read_text().strip() not in ("up", "unknown"):
            assert time.monotonic() < end, f"{name} of {self.name} never comes up"
            time.sleep(0.01)

    def connect(self, name: str, other: "Host", others_name: str, up: bool = True) -> None:
        """Lay a cable to another host: a pair of veth. Only this end is switched on."""
        self.ip(f"link add {name} type veth peer name {others_name} netns {other.pid}")
        if up:
            self.ip(f"link set {name} up")

    def free_name(self) -> str:
        """A name that no interface has."""
        taken = os.listdir(f"/proc/{self.pid}/root/sys/class/net")
        return next(f"veth{n}" for n in range(1000) if f"veth{n}" not in taken)

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()
        self._held.communicate(timeout=10)

    def _serve(self, script: str, *args: object) -> subprocess.Popen[str]:
        server = self.start(sys.executable, "-S", "-c", script, *args)
        said = server.stdout.readline()
        assert said == "ready\n", said + server.stdout.read()
        return server

    def _must(self, *command: object, **options: Any) -> str:
        ended = self.run(*command, **options)
        assert ended.returncode == 0, f"{command}: {ended.stderr}"
        return ended.stdout


class Zoo:
    """Hosts, and what joins them. Close it, or use it as a context."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []
        self._outside: Host | None = None

    def host(self, name: str = "node0") -> Host:
        """A new host that nothing is joined to."""
        self._hosts.append(Host(self, name))
        return self._hosts[-1]

    @property
    def count(self) -> int:
        """How many hosts there are."""
        return len(self._hosts)

    @property
    def outside(self) -> Host:
        """Where the other ends of all cables are."""
        if self._outside is None:
            self._outside = self.host("outside")
        return self._outside

    def join(self, a: Host, b: Host, addresses: Sequence[str] = PAIR, name: str = "eth0") -> None:
        """Join two hosts by a cable, with an interface of the same name in each."""
        a.connect(name, b, name)
        for host, address in zip((a, b), addresses, strict=True):
            host.ip(f"address add {address} dev {name}{' nodad' if ':' in address else ''}")
            host.ip(f"link set {name} up")
        for host in (a, b):
            host.settle(name)

    def pair(self) -> tuple[Host, Host]:
        """Two healthy hosts, node0 at 10.77.0.1 and node1 at 10.77.0.2, that know each other."""
        a, b = self.host("node0"), self.host("node1")
        self.join(a, b)
        for host in (a, b):
            host.hosts("127.0.0.1 localhost\n10.77.0.1 node0\n10.77.0.2 node1\n")
        return a, b

    def lan(self, count: int) -> list[Host]:
        """Healthy hosts at one switch: node0 at 10.77.0.1, node1 at .2, ..., all known by name.

        The switch is a bridge of `outside`; its port to node3 has the name port3.
        """
        switch = self.outside
        switch.ip("link add lan type bridge")
        switch.ip("link set lan up")
        hosts = [self.host(f"node{number}") for number in range(count)]
        known = "".join(f"10.77.0.{n + 1} {host.name}\n" for n, host in enumerate(hosts))
        for number, host in enumerate(hosts):
            host.connect("eth0", switch, f"port{number}")
            host.ip(f"address add 10.77.0.{number + 1}/24 dev eth0")
            switch.ip(f"link set port{number} master lan up")
            host.hosts(f"127.0.0.1 localhost\n{known}")
        for host in hosts:
            host.settle("eth0")
        return hosts

    def close(self) -> None:
        for host in reversed(self._hosts):
            with contextlib.suppress(ProcessLookupError):
                host.close()

    def __enter__(self) -> "Zoo":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
