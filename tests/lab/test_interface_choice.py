"""Which interface a library picks: our model beside the real NCCL and the real gloo.

Each zoo is a host with interfaces of its own. NCCL needs no GPU to choose where it listens.
"""

import json
import os
import pwd
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpudoctor import Names, NcclAnswer, Network, Status
from gpudoctor.probes import linker
from gpudoctor.probes import nccl as nccl_probe
from gpudoctor.report import Report
from gpudoctor.rules.interface_choice import gloo, nccl

from .net import Host

# The rules changed after the first; the second takes what is not in NCCL_COMM_ID's subnet.
VERSIONS = ("2.27.5", "2.29.7", "2.32.3")

ASK_NCCL = """
import json, os, sys
from gpudoctor.probes import Machine, linker, nccl, network
from gpudoctor.snapshot import encode
told = json.loads(sys.stdin.read())
libraries = [linker.load(file) for file in sys.argv[1:]]

def answer(library, env):
    ours, theirs = os.pipe()
    if not os.fork():  # each asks a library that has not chosen yet
        env = {**os.environ, **env}
        values = nccl.nccl_settings(Machine(env=env)).under(env)
        os.write(theirs, encode([{n: v for n, v in values.items() if n.startswith("NCCL_")},
                                 nccl.ask(library, env)]))
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    os.wait()
    return said

while True:  # a carrier and an address of IPv6 come up to a second late
    before = network.network(Machine())
    said = [answer(library, env) for library in libraries for env in told]
    seen = [(i.name, i.up, i.running, i.addresses) for i in before.interfaces]
    after = network.network(Machine())
    if seen == [(i.name, i.up, i.running, i.addresses) for i in after.interfaces]:
        break
print(encode(before).decode(), *said, sep="\\n")
"""


def plant(host: Host, nics: Sequence[tuple[str, tuple[str, ...], dict[str, Any]]]) -> None:
    """Add interfaces, and wait for their carriers once, not for each of them."""
    for name, addresses, how in nics:
        host.add(name, *addresses, **{**how, "up": False})
    up = [(name, how) for name, _, how in nics if how.get("up", True)]
    for name, _ in up:
        host.ip(f"link set {name} up")
    for name, how in up:
        if how.get("carrier", True):
            host.settle(name)


def nic(name: str, *addresses: str, **how: Any) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    return name, addresses, how


ETH0 = nic("eth0", "10.1.0.1/24")
ETH1 = nic("eth1", "10.2.0.1/24")
DOCKER0 = nic("docker0", "172.17.0.1/16", kind="bridge")
VIRBR0 = nic("virbr0", "192.168.122.1/24", kind="bridge")
IB0 = nic("ib0", "10.5.0.1/24")
TUN0 = nic("tun0", "10.8.0.2/24", kind="tun")
WLAN0 = nic("wlan0", "192.168.7.2/24")
V6 = nic("eth0", "fd00:1::1/64")

ZOOS = {
    "nothing but lo": [],
    "one": [ETH0],
    "two": [ETH0, ETH1],
    "two, the other way round": [ETH1, ETH0],
    "docker0 first": [DOCKER0, ETH0],
    "docker0 last": [ETH0, DOCKER0],
    "docker0 only": [DOCKER0],
    "docker0 without carrier": [nic("docker0", "172.17.0.1/16", kind="bridge", carrier=False)],
    "dockerd's own network": [nic("br-03e0aa", "172.19.0.1/16", kind="bridge"), ETH0],
    "its network without carrier": [
        nic("br-03e0aa", "172.19.0.1/16", kind="bridge", carrier=False),
        ETH0,
    ],
    "virbr0 first": [VIRBR0, ETH0],
    "virbr0 only": [VIRBR0],
    "virbr0 and docker0": [VIRBR0, DOCKER0],
    "virbr0 without carrier": [nic("virbr0", "192.168.122.1/24", kind="bridge", carrier=False)],
    "podman0": [nic("podman0", "10.88.0.1/16", kind="bridge"), ETH0],
    "Kubernetes' host": [
        ETH0,
        nic("flannel.1", "10.244.0.0/32", kind="vxlan"),
        nic("cni0", "10.244.0.1/24", kind="bridge"),
        nic("cali12345"),
    ],
    "Kubernetes' host, cni0 first": [
        nic("cni0", "10.244.0.1/24", kind="bridge"),
        ETH0,
    ],
    "IPoIB last": [ETH0, IB0],
    "IPoIB without carrier": [ETH0, nic("ib0", "10.5.0.1/24", carrier=False)],
    "IPoIB switched off": [ETH0, nic("ib0", "10.5.0.1/24", up=False)],
    "IPoIB, two of them": [ETH0, nic("ibp12s0", "10.6.0.1/24"), IB0],
    "ib as a beginning only": [nic("xib0", "10.7.0.1/24"), nic("ibm0", "10.7.1.1/24")],
    "VPN first": [TUN0, ETH0],
    "VPN that nobody reads": [nic("tun0", "10.8.0.2/24", kind="tun", carrier=False), ETH0],
    "Tailscale": [nic("tailscale0", "100.64.0.7/32", kind="tun"), ETH0],
    "WLAN first": [WLAN0, ETH0],
    "stray veth first": [nic("veth9a1", "169.254.9.1/16"), ETH0],
    "no carrier": [nic("eth0", "10.1.0.1/24", carrier=False), ETH1],
    "switched off": [nic("eth0", "10.1.0.1/24", up=False), ETH1],
    "all switched off": [nic("eth0", "10.1.0.1/24", up=False)],
    "no address": [nic("eth0"), ETH1],
    "only IPv6": [V6],
    "IPv6 first, then IPv4": [V6, ETH1],
    "both families": [nic("eth0", "10.1.0.1/24", "fd00:1::1/64"), ETH1],
    "IPv6 and docker0": [V6, DOCKER0],
    "two addresses": [nic("eth0", "10.1.0.1/24", "10.1.1.1/24"), ETH1],
    "prefix trap": [nic("eth10", "10.3.0.1/24"), nic("eth1", "10.2.0.1/24"), ETH0],
    "names with dots": [nic("eth0.100", "10.4.0.1/24"), ETH0],
    "longest name": [nic("enp129s0f1np1xx", "10.4.0.1/24"), ETH0],
    "lo by name": [nic("lomp0", "10.4.0.1/24"), ETH1],
    "docker by name": [nic("dockergw", "10.4.0.1/24"), ETH1],
    "same subnet twice": [nic("eth0", "10.1.0.1/24"), nic("eth1", "10.1.0.2/24")],
    "narrow subnet": [nic("eth0", "10.1.0.1/30"), ETH1],
    "point to point": [nic("eth0", "10.1.0.1/32"), ETH1],
    "eighteen": [nic(f"eth{n}", f"10.1.{n}.1/24") for n in range(18)],
}

IFNAMES = (
    *("eth", "eth0", "=eth0", "=eth", "=eth1,eth0", "eth1,eth0", "^docker,lo", "^=eth0", "^eth"),
    *(
        "docker0,eth0",
        "lo",
        "=lo",
        "ib",
        "e",
        "",
        "=",
        "^",
        "^=",
        "=^eth0",
        ",,eth1,",
        "eth0:1,eth1",
    ),
    *("eth0 ", '"eth0"', " eth0", "nothere", "virbr,docker", "^eth,docker,br-,cni,virbr,lo"),
)
COMM_IDS = (
    *("10.1.0.9:1234", "10.2.0.77", "192.0.2.1:1", "127.0.0.1:9", "10.1.0.9:1,10.2.0.9:1", "", "x"),
    *(
        "[fd00:1::9]:1234",
        "[fd00:9::9]:1",
        "[::1]:1",
        "[fd00:1::9",
        "[fe80::9%eth0]:5",
        "172.17.9.9:1",
    ),
)
TOLD: list[dict[str, str]] = [
    {},
    *({"NCCL_SOCKET_IFNAME": text} for text in IFNAMES),
    *({"NCCL_COMM_ID": text} for text in COMM_IDS),
    *({"NCCL_SOCKET_FAMILY": text} for text in ("AF_INET", "AF_INET6", "AF_INET4", "")),
    {"NCCL_SOCKET_FAMILY": "AF_INET6", "NCCL_SOCKET_IFNAME": "=eth1"},
    {"NCCL_SOCKET_FAMILY": "AF_INET6", "NCCL_COMM_ID": "10.1.0.9:1"},
    {"NCCL_COMM_ID": "10.1.0.9:1", "NCCL_SOCKET_IFNAME": "=eth1"},
]


@pytest.fixture(scope="session")
def libraries(downloaded) -> list[Path]:
    """libnccl of several versions; GPUDOCTOR_NCCL names others, with colons between them."""
    if "GPUDOCTOR_NCCL" in os.environ:
        return [Path(file) for file in os.environ["GPUDOCTOR_NCCL"].split(":")]
    folders = [downloaded(f"nvidia-nccl-cu12=={version}") for version in VERSIONS]
    return [folder / "nvidia/nccl/lib/libnccl.so.2" for folder in folders]


def asked(
    host: Host, libraries: list[Path], told: list[dict[str, str]], **env: str
) -> tuple[Network, list[tuple[dict[str, str], NcclAnswer]]]:
    """The host's interfaces; for each library and each setting, what NCCL goes by and answers."""
    command = [sys.executable, "-c", ASK_NCCL, *libraries]
    home = pwd.getpwuid(os.getuid()).pw_dir
    env = {"PATH": os.environ["PATH"], "HOME": home, **env}
    ended = host.run(*command, input=json.dumps(told), env=env)
    assert ended.returncode == 0, ended.stderr
    first, *lines = ended.stdout.splitlines()
    answers = [msgspec.json.decode(line, type=tuple[dict[str, str], NcclAnswer]) for line in lines]
    return msgspec.json.decode(first, type=Network), answers


def differs(network: Network, told: dict[str, str], answer: NcclAnswer) -> str:
    """How NCCL and the model disagree; empty: they do not."""
    expected = nccl.bootstrap(network, told, answer.version)
    picked = (answer.interface, answer.address.partition("%")[0]) if answer.interface else None
    model = (expected.picked[0].interface, expected.picked[0].ip) if expected.picked else None
    if (picked, answer.error) == (model, expected.error):
        return ""
    return f"{answer.version} {told}: {picked or answer.error}, not {model or expected}"


@pytest.mark.parametrize("name", ZOOS)
def test_nccl(zoo, libraries, name):
    host = zoo.host()
    plant(host, ZOOS[name])

    network, answers = asked(host, libraries, TOLD)

    assert len(answers) == len(libraries) * len(TOLD)
    assert [line for told, answer in answers if (line := differs(network, told, answer))] == []


def environment(folder: Path, library: Path, version: tuple[int, int, int]) -> Path:
    """A virtual environment, as far as looking at its files goes, with this NCCL."""
    site = folder / "lib/python3.12/site-packages"
    (site / "nvidia_nccl_cu12-{}.{}.{}.dist-info".format(*version)).mkdir(parents=True)
    (site / "nvidia/nccl/lib").mkdir(parents=True)
    (site / "nvidia/nccl/lib/libnccl.so.2").symlink_to(library)
    (folder / "bin").mkdir()
    (folder / "bin/python").touch()
    (folder / "pyvenv.cfg").write_text("version = 3.12.1\n")
    return folder


def version_of(library: Path) -> tuple[int, int, int]:
    return nccl_probe.version_of(linker.load(str(library)))


def test_nccl_reads_the_files_that_we_read(zoo, libraries, tmp_path):
    host = zoo.host()
    plant(host, [ETH0, ETH1, nic("eth2", "10.3.0.1/24")])
    by_passwd, by_variable = tmp_path / "passwd", tmp_path / "variable"
    for folder, name in ((by_passwd, "eth1"), (by_variable, "eth2")):
        folder.mkdir()
        (folder / ".nccl.conf").write_text(f"# ours\nNCCL_SOCKET_IFNAME=={name}\n")
    (tmp_path / "named.conf").write_text("NCCL_SOCKET_FAMILY=AF_INET\n")
    host.write("/etc/passwd", f"root:x:0:0:root:{by_passwd}:/bin/sh\n")
    host.write("/etc/nccl.conf", "NCCL_SOCKET_IFNAME==eth0\nNCCL_SOCKET_FAMILY=AF_INET6\n")
    told = [{}, {"NCCL_CONF_FILE": f"{tmp_path}/named.conf"}, {"NCCL_SOCKET_FAMILY": "AF_INET"}]

    for number, library in enumerate(libraries):
        venv = environment(tmp_path / str(number), library, version_of(library))
        env = {"HOME": str(by_variable), "VIRTUAL_ENV": str(venv)}
        network, answers = asked(host, [library], told, **env)

        assert [line for told, answer in answers if (line := differs(network, told, answer))] == []
        home = "eth2" if version_of(library) >= (2, 30) else "eth1"
        assert [answer.interface for _, answer in answers] == [home, "eth0", home]


@pytest.mark.parametrize(
    ("nics", "told", "says"),
    [
        pytest.param(ZOOS["dockerd's own network"], {}, "br-03e0aa (172.19.0.1)", id="docker"),
        pytest.param(ZOOS["Kubernetes' host, cni0 first"], {}, "cni0", id="cni0"),
        pytest.param(ZOOS["Tailscale"], {}, "tailscale0 (100.64.0.7)", id="Tailscale"),
        pytest.param(
            [ETH0], {"NCCL_SOCKET_IFNAME": "ens3"}, "ens3 fits no interface", id="no such"
        ),
        pytest.param([ETH0], {"NCCL_SOCKET_IFNAME": "lo"}, "lo (127.0.0.1)", id="lo"),
        pytest.param(
            ZOOS["prefix trap"], {"NCCL_SOCKET_IFNAME": "eth1"}, "also means eth10", id="prefix"
        ),
        pytest.param(
            [ETH0], {"NCCL_COMM_ID": "192.0.2.1:9"}, "192.0.2.1:9 fits no", id="NCCL_COMM_ID"
        ),
    ],
)
def test_check_finds_it_and_its_fix_helps(zoo, libraries, tmp_path, nics, told, says):
    host = zoo.host()
    plant(host, nics)
    version = version_of(libraries[-1])
    venv = environment(tmp_path / "venv", libraries[-1], version)
    check = [sys.executable, "-m", "gpudoctor", "check", "-f", "json", "--nnodes", "2"]
    check.append("nccl-interface")
    env = {"PATH": os.environ["PATH"], "HOME": "/", "VIRTUAL_ENV": str(venv), **told}

    def result(script: str = "") -> Any:
        ended = host.run("sh", "-c", f'{script}\nexec "$@"', "sh", *check, env=env)
        assert ended.stdout, ended.stderr
        report = msgspec.json.decode(ended.stdout, type=Report)
        facts: Any = report.nodes[0].facts
        assert facts["nccl_answer"]["version"] == list(version)
        return report.results[0]

    broken = result()
    (fix,) = [fix for fix in broken.fixes if fix.launcher == "host"]
    mended = result("\n".join(fix.commands))

    assert broken.status in (Status.FAIL, Status.WARN)
    assert says in broken.summary
    assert mended.status is Status.PASS


ASK_GLOO = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
from datetime import timedelta
import torch.distributed as dist

def listening():
    found = set()
    for file, width in (("/proc/net/tcp", 8), ("/proc/net/tcp6", 32)):
        with open(file) as lines:
            rows = [line.split() for line in lines][1:]
        found |= {row[1][:width] for row in rows if row[3] == "0A"}
    return found

for told in json.loads(sys.stdin.read()):
    sys.stdout.flush()
    if not os.fork():
        os.environ["GLOO_SOCKET_IFNAME"] = told
        try:
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
            print(json.dumps([sorted(listening()), ""]))
        except Exception as error:
            print(json.dumps([[], str(error)]))
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""

ASK_NAMES = """
from gpudoctor.probes import Machine, names, network
from gpudoctor.snapshot import encode
print(encode([network.network(Machine()), names.names(Machine())]).decode())
"""

TOLD_GLOO = (
    *("", "e", "eth0", "eth1", "lo", "eth0,eth1", "eth1,eth0", "eth0,", ",eth0", "eth"),
    *("=eth0", "^lo", "eth0 ", "nothere", "eth0,nothere", "docker0", "eth10"),
)
LOCALHOST = "127.0.0.1 localhost\n"

# Interfaces, /etc/hosts, and the interface that the hostname's address is on.
GLOO_ZOOS = {
    "named": ([ETH0, ETH1], LOCALHOST + "10.1.0.1 node0\n"),
    "named, second": ([ETH0, ETH1], LOCALHOST + "10.2.0.1 node0\n"),
    "Debian": ([ETH0], LOCALHOST + "127.0.1.1 node0\n"),
    "Debian, and its address": ([ETH0], LOCALHOST + "127.0.1.1 node0\n10.1.0.1 node0\n"),
    "unresolvable": ([ETH0, DOCKER0], LOCALHOST),
    "another host's": ([ETH0], LOCALHOST + "10.1.0.77 node0\n"),
    "another's, then its own": ([ETH0], LOCALHOST + "10.1.0.77 node0\n10.1.0.1 node0\n"),
    "only lo": ([], LOCALHOST + "10.1.0.1 node0\n"),
    "switched off": ([nic("eth0", "10.1.0.1/24", up=False), ETH1], LOCALHOST + "10.1.0.1 node0\n"),
    "no carrier": ([nic("eth0", "10.1.0.1/24", carrier=False)], LOCALHOST + "10.1.0.1 node0\n"),
    "no address": ([nic("eth0"), ETH1], LOCALHOST + "10.2.0.1 node0\n"),
    "IPv6": ([V6], LOCALHOST + "fd00:1::1 node0\n"),
    "IPv6, switched off": (
        [nic("eth0", "fd00:1::1/64", up=False), ETH1],
        LOCALHOST + "fd00:1::1 node0\n10.2.0.1 node0\n",
    ),
    "link-local": ([nic("eth0", "fe80::9/64"), ETH1], LOCALHOST + "fe80::9 node0\n"),
    "both": ([nic("eth0", "10.1.0.1/24", "fd00:1::1/64")], LOCALHOST + "fd00:1::1 node0\n"),
    "prefix": ([nic("eth10", "10.3.0.1/24"), ETH0], LOCALHOST + "10.1.0.1 node0\n"),
}


def as_kernel_writes(ip: str) -> str:
    """An address as /proc/net/tcp has it: words of 32 bits, in the machine's order."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


@pytest.mark.parametrize("name", GLOO_ZOOS)
def test_gloo(zoo, real_torch, name):
    nics, hosts = GLOO_ZOOS[name]
    host = zoo.host()
    host.hosts(hosts)
    plant(host, nics)

    facts = host.run(sys.executable, "-c", ASK_NAMES).stdout
    ended = host.run(real_torch, "-c", ASK_GLOO, input=json.dumps(TOLD_GLOO))

    network, names = msgspec.json.decode(facts, type=tuple[Network, Names])
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(answers) == len(TOLD_GLOO), ended.stderr
    for told, (listening, error) in zip(TOLD_GLOO, answers, strict=True):
        expected = gloo.choose(network, told, names)
        picked = sorted({as_kernel_writes(pick.ip) for pick in expected.picked})
        assert listening == picked, (told, expected, error)
        assert expected.error in error, (told, expected, error)
