"""The real kernel's clock: read as anybody, refused by a filter, told that it is in step."""

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gpudoctor import Clock, Machine, Status
from gpudoctor.probes.clock import clock
from gpudoctor.report import Report

pytestmark = pytest.mark.lab

TIMEX = struct.Struct("@I4li")  # modes, offset, freq, maxerror, esterror, status
MAXERROR, ESTERROR, STATUS = 0x0004, 0x0008, 0x0010  # ADJ_*: what of it is to be set
UNSYNC = 0x0040

DENY = Path(__file__).with_name("seccomp_deny.py")
# adjtimex and clock_adjtime, which newer C libraries call for it.
ADJTIMEX = {"x86_64": "159,305", "aarch64": "171,266"}.get(os.uname().machine, "")


def results(words: list[str], *args: str) -> dict[str, tuple[Status, str]]:
    command = [*words, "check", "-f", "json", "clock", *args]
    ended = subprocess.run(command, capture_output=True, timeout=60)
    report = msgspec.json.decode(ended.stdout, type=Report)
    return {r.id: (r.status, r.summary + r.reason) for r in report.results}


def adjtimex(modes: int, max_error: int, status: int) -> tuple[int, int]:
    """Set, and read what was there: maximum error and status."""
    libc = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(512)
    assert libc.adjtimex(room) >= 0
    _, _, _, before, _, bits = TIMEX.unpack_from(room)
    TIMEX.pack_into(room, 0, modes, 0, 0, max_error, max_error, status)
    if libc.adjtimex(room) < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")
    return before, bits


@pytest.fixture
def kernel_clock(require) -> Iterator[None]:
    """What the kernel is told of its clock is put back after the test; the time stays as it is."""
    require(os.geteuid() == 0, "telling the kernel of its clock needs root")
    try:
        max_error, bits = adjtimex(0, 0, 0)
        adjtimex(STATUS, 0, bits)
    except OSError as error:
        require(False, f"the kernel cannot be told of its clock here: {error}")
    yield
    adjtimex(MAXERROR | ESTERROR | STATUS, max_error, bits)


@pytest.mark.parametrize(
    ("max_error", "status", "one", "two"),
    [
        pytest.param(2_000, 0, Status.PASS, Status.PASS, id="in step"),
        pytest.param(2_500_000, 0, Status.SKIP, Status.WARN, id="large error"),
        pytest.param(16_000_000, UNSYNC, Status.SKIP, Status.WARN, id="not synchronised"),
    ],
)
def test_what_the_kernel_is_told(max_error, status, one, two, kernel_clock, gpudoctor):
    adjtimex(MAXERROR | ESTERROR | STATUS, max_error, status)

    assert results([gpudoctor])["clock-sync"][0] is one
    assert results([gpudoctor], "--nnodes=2")["clock-sync"][0] is two


def test_refused_by_a_filter_nobody_knows(gpudoctor, require):
    require(ADJTIMEX, "the numbers of adjtimex are not known for this machine")
    found = results([sys.executable, str(DENY), ADJTIMEX, "--", gpudoctor])

    assert found["clock-sync"][0] is found["clock-sane"][0] is Status.ERROR
    assert "adjtimex: [Errno 1] Operation not permitted" in found["clock-sync"][1]


def test_looking_changes_nothing(kernel_clock):
    before = adjtimex(0, 0, 0)
    found = clock(Machine())

    assert isinstance(found, Clock)
    assert found.status == before[1]
    assert adjtimex(0, 0, 0)[1] == before[1]
