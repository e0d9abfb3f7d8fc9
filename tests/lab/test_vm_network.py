"""What no network namespace has: RDMA, wireless and a PCIe slot, on a machine of our own.

One boot for all cases: the script below makes one after the other, and each is looked at there.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from gpudoctor import EnvUnset, Rdma, RdmaDevices, Status
from gpudoctor.report import Report

HERE = Path(__file__).parent
# Card and slot could do 16 lanes of PCIe 4; what QEMU plugs in has one of PCIe 1.
SLOT = ["-machine", "q35", "-device", "pcie-root-port,id=slot1,x-speed=16,x-width=16,chassis=1"]
SLOW = ["-netdev", "user,id=slow,restrict=on", "-device", "rtl8139,netdev=slow"]  # 100 Mb/s
CARD = ["-netdev", "user,id=none,restrict=on", "-device", "virtio-net-pci,bus=slot1,netdev=none"]

SCRIPT = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb NCCL_IB_HCA==rxe0
look() {
    case=$1
    shift
    echo "== $case: $("$@" 2>&1 | tr -d '\\n')"
}
check() { "$installed/bin/python" -m gpudoctor check -f json --nnodes 2 --deadline 60 "$@"; }
judge() { look "$1" check rdma-devices rdma-ports rdma-rate rdma-gid rdma-gdr nccl-hca; }
pingpong() {  # over RDMA, with both ends here, by the GID that is named
    timeout 60 ibv_rc_pingpong -d rxe0 -g $1 -n 10 >/run/other 2>&1 &
    until ss -Hltn | grep -q :18515; do kill -0 $! 2>/dev/null || break; done
    timeout 60 ibv_rc_pingpong -d rxe0 -g $1 -n 10 127.0.0.1
    echo "; ended with $?"
    wait $!
    cat /run/other
}

echo  # the firmware's last words have no end of line
modprobe -a dummy rdma_rxe mac80211_hwsim 8139cp
ip link set lo up
ip link add eth9 type dummy
ip address add 10.81.0.1/24 dev eth9
ip link set eth9 up
rdma link add rxe0 type rxe netdev eth9
judge healthy
look ping-1 pingpong 1
NCCL_IB_GID_INDEX=5 judge wrong-index
look ping-5 pingpong 5
mv /dev/infiniband /dev/elsewhere  # as in a container that was not given it
judge closed
mv /dev/elsewhere /dev/infiniband
ip link set eth9 down
judge down
ip link set eth9 up
judge up-again
ip address flush dev eth9 scope global
judge no-address
rdma link delete rxe0

for n in 0 1; do
    iw dev wlan$n set type ibss
    ip link set wlan$n up
    iw dev wlan$n ibss join lab 2412
done
ip address add 10.82.0.1/24 dev wlan0
for n in $(seq 100); do grep -q 1 /sys/class/net/wlan0/carrier && break; sleep 0.2; done
look wireless check net-wireless net-link --node-rank 1 --master-addr 10.82.0.2
slow=$(basename /sys/bus/pci/drivers/8139cp/*/net/*)
ip address add 10.83.0.1/24 dev $slow
ip link set $slow up
for n in $(seq 100); do grep -q 1 /sys/class/net/$slow/carrier && break; sleep 0.2; done
look slow check net-link --node-rank 1 --master-addr 10.83.0.2
look slot "$installed/bin/python" -c '
import json
from msgspec.structs import astuple
from gpudoctor.probes import Machine, pci
machine = Machine()
links = {at: pci.link(machine, f"{pci.DEVICES}/{at}") for at in machine.list(pci.DEVICES)}
print(json.dumps({at: astuple(link) for at, link in links.items() if link.width}))'
"""


class Seen(NamedTuple):
    """What was said for each case."""

    texts: Mapping[str, str]

    def report(self, case: str) -> Report:
        return msgspec.json.decode(self.texts[case], type=Report)

    def result(self, case: str, check: str):
        return next(r for r in self.report(case).results if r.id == check)


@pytest.fixture(scope="module")
def seen(installed, require, tmp_path_factory) -> Seen:
    require(os.geteuid() == 0, "the virtual machine needs root")
    for program in ("qemu-system-x86_64", "busybox", "cpio", "iw", "ibv_rc_pingpong", "rdma"):
        require(shutil.which(program), f"{program} is not installed")
    require(list(Path("/boot").glob("vmlinuz-*")), "no kernel to boot is installed")
    require(os.stat(installed).st_dev == os.stat("/").st_dev, f"{installed} is on another mount")
    folder = tmp_path_factory.mktemp("vm")
    script = folder / "script"
    script.write_text(f"installed={installed}\n{SCRIPT}")
    boot = [HERE / "vm/boot", script, folder / "boot", *SLOT, *CARD, *SLOW]

    ended = subprocess.run(boot, capture_output=True, text=True, timeout=600)

    lines = [line for line in ended.stdout.splitlines() if line.startswith("== ")]
    said = {case: text for case, _, text in (line[3:].partition(": ") for line in lines)}
    assert "slot" in said, ended.stdout[-8000:] + ended.stderr
    return Seen(said)


def test_a_port_that_is_up(seen):
    report = seen.report("healthy")

    found = {result.id: result.status for result in report.results}
    assert found.pop("rdma-gdr") is Status.SKIP
    assert set(found.values()) == {Status.PASS}
    assert seen.result("healthy", "rdma-ports").summary == "1 of 1 port ACTIVE"


def test_the_device_as_the_kernel_shows_it(seen):
    facts = seen.report("healthy").nodes[0].facts["rdma"]
    (device,) = msgspec.convert(facts, Rdma).devices

    assert (device.driver, device.node_error, device.pci) == ("rdma_rxe", "", "")
    assert device.ports[0].interface == "eth9"
    assert [gid.type for gid in device.ports[0].gids] == ["RoCE v2", "RoCE v2"]


def test_a_wrong_gid_index(seen):
    """Found before, and then really tried: the connection fails with it, and not without."""
    result = seen.result("wrong-index", "rdma-gid")

    assert result.status is Status.FAIL
    assert result.summary == "NCCL_IB_GID_INDEX=5: on rxe0:1 it is empty"
    assert result.settings == (EnvUnset("NCCL_IB_GID_INDEX"),)
    assert "Failed to modify QP to RTR" in seen.texts["ping-5"]
    assert "ended with 0" not in seen.texts["ping-5"]
    assert "ended with 0" in seen.texts["ping-1"]


def test_a_device_without_its_node(seen):
    result = seen.result("closed", "rdma-devices")

    assert result.status is Status.FAIL
    assert result.summary.startswith("rxe0: /dev/infiniband/uverbs0: ENOENT")
    assert result.settings == (RdmaDevices(),)


def test_a_port_that_is_down(seen):
    result = seen.result("down", "rdma-ports")

    assert result.status is Status.FAIL
    assert result.summary == "0 of 1 port ACTIVE, named by NCCL_IB_HCA"
    assert result.fixes[0].commands == ("ip link set eth9 up",)
    assert result.fixes[0].needs_root


def test_its_fix_brings_it_up(seen):
    """The script did what the fix says."""
    assert f"\n{seen.result('down', 'rdma-ports').fixes[0].commands[0]}\njudge up-again" in SCRIPT
    assert seen.result("up-again", "rdma-ports").status is Status.PASS


def test_an_interface_without_an_address(seen):
    result = seen.result("no-address", "rdma-gid")

    assert result.status is Status.WARN
    assert result.summary == "rxe0:1 has no routable GID of IPv4"


def test_wireless(seen):
    result = seen.result("wireless", "net-wireless")

    assert result.status is Status.WARN
    assert "wlan0" in result.summary


def test_a_wireless_link_tells_no_speed(seen):
    result = seen.result("wireless", "net-link")

    assert result.status is Status.SKIP
    assert "wlan0" in result.reason


def test_a_card_of_100_megabits(seen):
    found = seen.result("slow", "net-link")

    assert found.status is Status.FAIL
    assert "100 Mb/s" in found.summary
    assert any("ethtool" in command for fix in found.fixes for command in fix.commands)


def test_a_slot_that_runs_narrow(seen):
    links = {tuple(link) for link in json.loads(seen.texts["slot"]).values()}

    assert (1, 16, 1, 4) in links, "the slot's own end"
    assert (1, 1, 1, 1) in links, "the card, which can do no more"
