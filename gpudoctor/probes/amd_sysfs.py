"""What amdgpu shows of one GPU in sysfs."""

import errno
import re
from typing import Any

from gpudoctor.probes import Machine, error_words, pci

VENDOR = "0x1002"
ALL_ONES = 63  # the link width that a device has when it is gone from the bus
# What sysfs answers for something that this GPU does not have.
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.EOPNOTSUPP)


class Device:
    """The files of one GPU; what should be there and cannot be read is kept in `unread`."""

    def __init__(self, machine: Machine, folder: str) -> None:
        self.machine = machine
        self.folder = folder
        self.unread: dict[str, str] = {}

    @property
    def bus_id(self) -> str:
        return self.folder.rpartition("/")[2]

    def text(self, name: str, field: str) -> str | None:
        """The text of a file that a field comes from; None if there is no such file."""
        try:
            return self.machine.read(f"{self.folder}/{name}").strip()
        except OSError as error:
            if error.errno not in NOT_THERE:
                self.unread[field] = error_words(error)
            return None

    def number(self, name: str, field: str, unit: int = 1) -> int | None:
        """The whole number in a file, in multiples of a unit."""
        text = self.text(name, field)
        return int(text) // unit if text and re.fullmatch(r"-?\d+", text) else None

    def fields(self) -> dict[str, Any]:
        """Fields of `Gpu`. A GPU that sleeps is not woken for its sensors: it takes seconds."""
        if not self.machine.exists(self.folder):
            return {}
        if self.machine.text(f"{self.folder}/power/runtime_status") == "suspended":
            return self.health()
        if self.machine.number(f"{self.folder}/current_link_width") == ALL_ONES:
            return {"lost": "fell off the PCI bus: its registers read as all ones"}
        return self.link() | self.health() | self.sensors()

    def health(self) -> dict[str, Any]:
        """Error counters, retired pages and modes."""
        numa = self.number("numa_node", "numa_node")
        fields: dict[str, Any] = {
            "numa_node": None if numa == -1 else numa,
            "pcie_replays": self.number("pcie_replay_count", "pcie_replays"),
            "partition_compute": self.text("current_compute_partition", "partition_compute"),
            "partition_memory": self.text("current_memory_partition", "partition_memory"),
        }
        features = re.search(r"0x([0-9a-f]+)", self.text("ras/features", "ecc_enabled") or "")
        if features:
            fields["ecc_enabled"] = bool(int(features[1], 16) & 1)  # bit 0: memory controller
        names = [n for n in self.machine.list(f"{self.folder}/ras") if n.endswith("_err_count")]
        texts = [
            self.text(f"ras/{n}", "ecc_uncorrected") for n in names if not n.startswith("xgmi")
        ]
        counts = [parse_errors(text) for text in texts if text is not None]
        if counts:
            fields["ecc_uncorrected"] = sum(uncorrected for uncorrected, _ in counts)
            fields["ecc_corrected_total"] = sum(corrected for _, corrected in counts)
        pages = self.text("ras/gpu_vram_bad_pages", "pages_retired")
        if pages is not None:
            fields["pages_retired"], fields["pages_pending"] = parse_bad_pages(pages)
        return fields

    def xgmi_errors(self) -> int | None:
        """Errors of all XGMI links together, since the driver was loaded."""
        text = self.text("ras/xgmi_wafl_err_count", "links")
        return sum(parse_errors(text)) if text else None

    def sensors(self) -> dict[str, Any]:
        """Use, temperatures, power and clock."""
        fields: dict[str, Any] = {"busy_percent": self.number("gpu_busy_percent", "busy_percent")}
        names = self.machine.list(f"{self.folder}/hwmon")
        if not names:
            return fields
        where = f"hwmon/{names[0]}"
        labels = {self.text(f"{where}/temp{n}_label", ""): f"{where}/temp{n}" for n in (1, 2, 3)}
        core = labels.get("junction") or labels.get("edge") or f"{where}/temp1"
        for field, name, unit in (
            ("temperature_c", f"{core}_input", 1000),
            ("temperature_slowdown_c", f"{core}_crit", 1000),
            ("temperature_memory_c", f"{labels.get('mem', 'none')}_input", 1000),
            ("clock_mhz", f"{where}/freq1_input", 1_000_000),
        ):
            fields[field] = self.number(name, field, unit)
        for field, name in (
            ("power_w", "power1_input"),
            ("power_w", "power1_average"),
            ("power_limit_w", "power1_cap"),
            ("power_default_w", "power1_cap_default"),
        ):
            microwatts = self.number(f"{where}/{name}", field)
            if microwatts is not None:
                fields[field] = microwatts / 1e6
        return fields

    def link(self) -> dict[str, int | None]:
        """The link of the card to its slot."""
        found = pci.link(self.machine, self.folder)
        return {
            "pcie_width": found.width,
            "pcie_width_max": found.width_max,
            "pcie_gen": found.gen,
            "pcie_gen_max": found.gen_max,
        }


def parse_errors(text: str) -> tuple[int, int]:
    """Uncorrected and corrected of a RAS counter: "ue: 0", "ce: 3"."""
    counts = dict(re.findall(r"^(ue|ce):\s*(\d+)", text, re.MULTILINE))
    return int(counts.get("ue", 0)), int(counts.get("ce", 0))


def parse_bad_pages(text: str) -> tuple[int, bool]:
    """Retired pages, and whether more wait for it: "0x3a0 : 0x1000 : R"; P and F wait."""
    flags = re.findall(r":\s*([RPF])\s*$", text, re.MULTILINE)
    return flags.count("R"), bool(set(flags) & {"P", "F"})
