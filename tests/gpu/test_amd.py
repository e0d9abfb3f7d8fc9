"""AMD's GPUs: ROCm's tools and we must agree."""

import json
import re

import pytest

from gpudoctor import Status


@pytest.fixture(scope="module")
def addresses(ask) -> set[str]:
    """Bus ids, as rocm-smi says."""
    cards = json.loads(ask("rocm-smi", "--showbus", "--json"))
    return {card["PCI Bus"].lower() for card in cards.values() if "PCI Bus" in card}


def test_the_same_gpus(addresses, seen):
    assert {gpu.bus_id for gpu in seen.gpus.devices if gpu.vendor == "amd"} == addresses


def test_architectures(addresses, ask, seen):
    said = re.findall(r"^\s*Name:\s+(gfx\w+)\s*$", ask("rocminfo"), re.MULTILINE)

    assert sorted(gpu.arch for gpu in seen.gpus.devices if gpu.vendor == "amd") == sorted(said)


def test_they_can_be_used(addresses, seen):
    assert seen.result("gpu-visible").status is Status.PASS


def test_no_check_is_at_a_loss(addresses, seen):
    assert {r.id: r.reason for r in seen.report.results if r.status is Status.ERROR} == {}
