"""States of one GPU: its name, what NVML says, what is read of it, and which checks complain."""

from typing import Any

from gpudoctor import Status

FAIL, WARN = Status.FAIL, Status.WARN

STATES: list[tuple[str, str, dict[str, Any], dict[str, Status]]] = [
    ("another model", "name=H200", {"name": "H200"}, {"gpu-same-model": WARN}),
    (
        "ECC errors",
        "ecc_uncorr_vol=3 ecc_uncorr_agg=7 sram_uncorr=5",
        {"ecc_uncorrected": 3, "ecc_uncorrected_total": 7, "ecc_sram_uncorrected_total": 5},
        {"gpu-ecc": FAIL},
    ),
    (
        "ECC off until the next reset",
        "ecc=0 ecc_pending=1",
        {"ecc_enabled": False, "ecc_pending": True, "ecc_uncorrected": None},
        {"gpu-ecc": WARN},
    ),
    (
        "remapping pending",
        "remap_uncorr=1 remap_pending=1",
        {"rows_remapped": 1, "remap_pending": True, "remap_failed": False},
        {"gpu-remap": WARN},
    ),
    (
        "remapping failed",
        "remap_failed=1 remap_hist=2000,500,50,9,1",
        {"remap_failed": True, "banks_exhausted": 1},
        {"gpu-remap": FAIL},
    ),
    (
        "pages retired",
        "retired=12 retired_pending=1",
        {"pages_retired": 12, "pages_pending": True},
        {"gpu-remap": WARN},
    ),
    ("infoROM", "inforom=0", {"inforom_corrupt": True}, {"gpu-recovery": WARN}),
    ("reset asked for", "field.230=1", {"recovery_action": "reset"}, {"gpu-recovery": FAIL}),
    (
        "x4 of x16",
        "pcie_width=4",
        {"pcie_width": 4, "pcie_width_max": 16},
        {"gpu-pcie-width": FAIL},
    ),
    (
        "thermal slowdown",
        "throttle=0x48 temp=89",
        {"throttle": ("hw slowdown", "hw thermal"), "temperature_c": 89},
        {"gpu-throttle": FAIL, "gpu-temperature": WARN},
    ),
    ("a reason of the future", "throttle=0x10000", {"throttle": ("bit 0x10000",)}, {}),
    ("power capped", "power_limit=350000", {"power_limit_w": 350.0}, {"gpu-power-limit": WARN}),
    (
        "MIG pending",
        "mig=0 mig_pending=1",
        {"mig_enabled": False, "mig_pending": True, "mig_devices": 0},
        {"gpu-mig": WARN},
    ),
    (
        "MIG without a slice",
        "mig=1 mig_max=7",
        {"mig_enabled": True, "mig_devices": 0},
        {"gpu-mig": FAIL},
    ),
    (
        "MIG with slices",
        "mig=1 mig_max=7 mig_count=3",
        {"mig_enabled": True, "mig_devices": 3},
        {},
    ),
    (
        "exclusive mode",
        "compute_mode=3",
        {"compute_mode": "exclusive process"},
        {"gpu-compute-mode": WARN},
    ),
    ("prohibited", "compute_mode=2", {"compute_mode": "prohibited"}, {"gpu-compute-mode": FAIL}),
    ("persistence off", "persistence=0", {"persistence": False}, {"gpu-persistence": WARN}),
    ("second NUMA node", "numa=1", {"numa_node": 1}, {}),
    (
        "fabric not completed",
        "fabric_state=2",
        {"fabric_state": "in progress"},
        {"gpu-fabric": FAIL},
    ),
    (
        "fabric in error",
        "fabric_status=29",
        {"fabric_state": "completed", "fabric_error": "NVML_ERROR_INVALID_STATE"},
        {"gpu-fabric": FAIL},
    ),
    (
        "fabric degraded",
        "fabric_health=0x511",
        {"fabric_unhealthy": ("degraded bandwidth", "route unhealthy", "insufficient NVLinks")},
        {"gpu-fabric": FAIL},
    ),
    (
        "fabric unhealthy",
        "fabric_summary=2",
        {"fabric_unhealthy": ("unhealthy",)},
        {"gpu-fabric": FAIL},
    ),
]
