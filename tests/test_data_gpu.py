"""The GPU tables: every row has its shape, a source, and is found by the names drivers give."""

import re

import pytest

from gpudoctor import data
from gpudoctor.rules.gpu_models import gpu_model

MODELS = data.table("gpu_models")
XIDS = data.table("xid")
WIRINGS = ("", "board", "machine", "bridge", "hive")


@pytest.mark.parametrize("row", MODELS["models"], ids=lambda row: row["name"])
def test_model(row):
    assert re.compile(row["name"])
    assert re.fullmatch(r"sm_\d{2,3}|gfx[0-9a-f]{3,4}", row["arch"])
    assert row.get("wiring", "") in WIRINGS
    assert row.get("fabric", "") in ("", "node", "rack")
    assert row.get("pcie_gen") in (None, 3, 4, 5, 6)
    assert row.get("pcie_width") in (None, 8, 16)
    assert not row.get("links") or row["wiring"], "links lead somewhere"
    assert not row.get("fabric") or row["wiring"] == "board"
    assert row["source"]


@pytest.mark.parametrize(
    ("name", "arch", "wiring", "links"),
    [
        ("NVIDIA H100 80GB HBM3", "sm_90", "board", 18),
        ("NVIDIA H100 PCIe", "sm_90", "bridge", 12),
        ("NVIDIA H100 NVL", "sm_90", "bridge", 12),
        ("NVIDIA H200", "sm_90", "board", 18),
        ("NVIDIA H200 NVL", "sm_90", "bridge", 18),
        ("NVIDIA H800", "sm_90", "board", 8),
        ("NVIDIA H800 PCIe", "sm_90", "bridge", 12),
        ("NVIDIA H20", "sm_90", "board", 18),
        ("NVIDIA GH200 480GB", "sm_90", "machine", 18),
        ("NVIDIA B200", "sm_100", "board", 18),
        ("NVIDIA GB200", "sm_100", "board", 18),
        ("NVIDIA B300 SXM6 AC", "sm_103", "board", 18),
        ("NVIDIA GB300", "sm_103", "board", 18),
        ("NVIDIA A100-SXM4-40GB", "sm_80", "board", 12),
        ("NVIDIA A100-SXM4-80GB", "sm_80", "board", 12),
        ("A100-SXM4-40GB", "sm_80", "board", 12),
        ("NVIDIA A800-SXM4-80GB", "sm_80", "board", 8),
        ("NVIDIA A100-PCIE-40GB", "sm_80", "bridge", 12),
        ("NVIDIA A100 80GB PCIe", "sm_80", "bridge", 12),
        ("NVIDIA A30", "sm_80", "bridge", 4),
        ("NVIDIA A10G", "sm_86", "", 0),
        ("NVIDIA L40S", "sm_89", "", 0),
        ("NVIDIA L4", "sm_89", "", 0),
        ("Tesla T4", "sm_75", "", 0),
        ("Tesla V100-SXM2-16GB", "sm_70", "machine", 6),
        ("Tesla V100-SXM3-32GB-H", "sm_70", "board", 6),
        ("Tesla V100-PCIE-32GB", "sm_70", "", 0),
        ("Tesla P100-SXM2-16GB", "sm_60", "machine", 4),
        ("NVIDIA RTX A6000", "sm_86", "bridge", 4),
        ("NVIDIA RTX 6000 Ada Generation", "sm_89", "", 0),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "sm_120", "", 0),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "sm_120", "", 0),
        ("NVIDIA GeForce RTX 3090", "sm_86", "bridge", 4),
        ("NVIDIA GeForce RTX 4090", "sm_89", "", 0),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", "sm_89", "", 0),
        ("NVIDIA GeForce RTX 5090", "sm_120", "", 0),
        ("NVIDIA GB10", "sm_121", "", 0),
        ("AMD Instinct MI300X", "gfx942", "hive", 7),
        ("AMD Instinct MI300X (virtual function)", "gfx942", "hive", 7),
        ("AMD Instinct MI300A", "gfx942", "hive", 0),
        ("AMD Instinct MI250X", "gfx90a", "machine", 0),
        ("AMD Instinct MI355X", "gfx950", "hive", 7),
    ],
)
def test_model_is_found(name, arch, wiring, links):
    model = gpu_model(name)

    assert model is not None
    assert (model.arch, model.wiring, model.links) == (arch, wiring, links)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "NVIDIA Z9000",
        "NVIDIA H200XM-141C",
        "NVIDIA A40-48Q",
        "GRID A100-20C",
        "NVIDIA H100XM-80C",
        "NVIDIA L40S-48Q",
        "GRID T4-16Q",
        "AMD Radeon RX 7900",
        "AMD gfx1151",
    ],
)
def test_others_are_not_known(name):
    assert gpu_model(name) is None


@pytest.mark.parametrize("name", ["GeForce RTX 4090", "GeForce RTX 5090", "GeForce RTX 3080"])
def test_geforce_has_no_p2p_and_is_no_server_part(name):
    model = gpu_model(f"NVIDIA {name}")

    assert model is not None
    assert model.p2p is False
    assert not model.data_centre


@pytest.mark.parametrize("row", XIDS["codes"], ids=lambda row: str(row["code"]))
def test_xid(row):
    assert row["severity"] in ("fail", "warn", "info")
    assert row["meaning"]
    assert row["action"]
    assert row["source"]


def test_xids_stand_once_and_in_order():
    codes = [row["code"] for row in XIDS["codes"]]

    assert codes == sorted(set(codes))


@pytest.mark.parametrize(
    ("severity", "codes"),
    [
        ("fail", [48, 62, 64, 74, 79, 95, 109, 119, 120, 136, 140, 143, 158]),
        ("warn", [63, 92]),
        ("info", [13, 31, 43, 45]),
    ],
)
def test_xids_that_everybody_knows(severity, codes):
    severities = {row["code"]: row["severity"] for row in XIDS["codes"]}

    assert {severities[code] for code in codes} == {severity}


@pytest.mark.parametrize("row", data.table("gpu_throttle")["reasons"], ids=lambda row: row["name"])
def test_throttle_reason(row):
    assert row["kind"] in ("idle", "setting", "power", "heat", "brake")
    assert row["meaning"]
    assert row["source"]
