"""checks/clock.py: tables of facts -> status."""

import pytest

from gpudoctor import Clock, Status, Workload
from gpudoctor.registry import get

ONE = Workload()
TWO = Workload().told({"nodes": 2}, "--nnodes")
NOW = 1_795_219_959.0  # 2026-11-21
DAY = 86400


def clock(state: int = 0, status: int = 0x2001, error: float = 0.012, **more) -> Clock:
    return Clock(
        state=state,
        status=status,
        max_error_seconds=error,
        estimated_error_seconds=0.0,
        **{"now": NOW, "clocksource": "tsc", **more},
    )


def unsynchronised(**more) -> Clock:
    """As a fresh virtual machine says it."""
    return clock(5, 0x40, 16.0, **more)


@pytest.mark.parametrize(
    ("found", "job", "status", "says"),
    [
        pytest.param(clock(), ONE, Status.PASS, "off by at most 0.012 s", id="one node"),
        pytest.param(clock(), TWO, Status.PASS, "synchronised", id="two nodes"),
        pytest.param(clock(state=1), TWO, Status.PASS, "synchronised", id="leap second to come"),
        pytest.param(unsynchronised(), ONE, Status.SKIP, "--nnodes 2", id="laptop, no daemon"),
        pytest.param(unsynchronised(), TWO, Status.WARN, "2 nodes must agree", id="no daemon"),
        pytest.param(clock(0, 0x40), TWO, Status.WARN, "not synchronised", id="only STA_UNSYNC"),
        pytest.param(clock(error=2.5), TWO, Status.WARN, "off by up to 2.5 s", id="large error"),
        pytest.param(clock(error=2.5), ONE, Status.SKIP, "", id="large error, one node"),
        pytest.param(
            unsynchronised(daemons=("ptp4l", "phc2sys")),
            TWO,
            Status.PASS,
            "kept by ptp4l and phc2sys",
            id="PTP does not tell the kernel",
        ),
        pytest.param(
            unsynchronised(daemons=("chronyd",)),
            TWO,
            Status.WARN,
            "not synchronised",
            id="chronyd that reaches nobody",
        ),
    ],
)
def test_sync(found, job, status, says):
    finding = get("clock-sync")(found, job)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("daemons", "command"),
    [
        pytest.param(("chronyd",), "sudo chronyc makestep", id="chrony"),
        pytest.param(("systemd-timesyncd",), "sudo systemctl restart systemd-timesyncd", id="sntp"),
        pytest.param(("ntpd",), "sudo systemctl restart ntp ", id="ntpd"),
        pytest.param((), "sudo timedatectl set-ntp true", id="none, or in a container"),
    ],
)
def test_sync_speaks_to_the_daemon_that_is_there(daemons, command):
    finding = get("clock-sync")(unsynchronised(daemons=daemons), TWO)

    assert any(line.startswith(command) for line in finding.fix.commands)
    assert finding.fix.needs_root


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(clock(), Status.PASS, "2026-11-21 UTC, read from tsc", id="host"),
        pytest.param(unsynchronised(), Status.PASS, "2026-11-21", id="no hardware clock"),
        pytest.param(
            unsynchronised(rtc_offset_seconds=-7 * 3600.0),
            Status.PASS,
            "2026",
            id="hardware clock in local time",
        ),
        pytest.param(clock(now=0.0), Status.FAIL, "it says 1970-01-01", id="no battery"),
        pytest.param(clock(now=1.6e9), Status.FAIL, "2020-09-13", id="behind"),
        pytest.param(clock(now=5e9), Status.FAIL, "2128", id="ahead"),
        pytest.param(clock(now=1e15), Status.FAIL, "9999", id="far ahead"),
        pytest.param(clock(now=-1e9), Status.FAIL, "1970", id="before 1970"),
        pytest.param(
            unsynchronised(rtc_offset_seconds=-12.0 * DAY),
            Status.FAIL,
            "the hardware clock 2026-12-03",
            id="12 days behind the hardware clock",
        ),
        pytest.param(
            clock(rtc_offset_seconds=-12.0 * DAY), Status.PASS, "2026", id="hardware clock is wrong"
        ),
        pytest.param(
            unsynchronised(rtc_offset_seconds=NOW - 100), Status.PASS, "2026", id="empty battery"
        ),
        pytest.param(clock(clocksource="hpet"), Status.WARN, "hpet", id="hpet"),
        pytest.param(clock(clocksource="acpi_pm"), Status.WARN, "acpi_pm", id="acpi_pm"),
        pytest.param(clock(clocksource="kvm-clock"), Status.PASS, "kvm-clock", id="cloud"),
        pytest.param(clock(clocksource="arch_sys_counter"), Status.PASS, "arch", id="Grace"),
        pytest.param(clock(clocksource=""), Status.PASS, "2026-11-21 UTC", id="no sysfs"),
    ],
)
def test_sane(found, status, says):
    finding = get("clock-sane")(found)

    assert finding.status is status
    assert says in finding.summary


@pytest.mark.parametrize(
    ("others", "command"),
    [
        pytest.param(("tsc", "acpi_pm"), "echo tsc | sudo tee /sys/", id="tsc is there"),
        pytest.param(("acpi_pm",), "sudo dmesg", id="the kernel gave it up"),
    ],
)
def test_sane_names_a_quicker_source(others, command):
    finding = get("clock-sane")(clock(clocksource="hpet", clocksources=others))

    assert finding.fix.commands[0].startswith(command)
