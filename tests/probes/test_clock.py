"""probes/clock.py: the real kernel's clock, and a planted tree around it."""

import time

import pytest

from gpudoctor import Clock, Machine
from gpudoctor.probes.clock import clock, daemons


def plant(root, files: dict[str, str]) -> Machine:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Machine(str(root))


def look(machine: Machine) -> Clock:
    found = clock(machine)
    if not isinstance(found, Clock):
        pytest.skip(found.absent)  # under a seccomp filter or gVisor
    return found


def test_the_kernel_answers_without_any_privilege():
    found = look(Machine())

    assert 0 <= found.state <= 5
    assert found.max_error_seconds >= 0
    assert found.now <= time.time()
    assert found.clocksource not in found.clocksources


def test_the_files_around_it(tmp_path):
    source = "sys/devices/system/clocksource/clocksource0"
    files = {
        "sys/class/rtc/rtc0/since_epoch": "1000000000\n",
        f"{source}/current_clocksource": "hpet\n",
        f"{source}/available_clocksource": "tsc hpet acpi_pm \n",
        "run/chrony/chronyd.pid": "612\n",
    }
    found = look(plant(tmp_path, files))

    assert found.rtc_offset_seconds == pytest.approx(found.now - 1e9, abs=0.01)
    assert found.clocksource == "hpet"
    assert found.clocksources == ("tsc", "acpi_pm")
    assert found.daemons == ("chronyd",)


def test_nothing_around_it(tmp_path):
    found = look(Machine(str(tmp_path)))

    assert found.rtc_offset_seconds is None
    assert found.clocksource == ""
    assert found.clocksources == found.daemons == ()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param([], (), id="container"),
        pytest.param(["run/chronyd.pid"], ("chronyd",), id="older chrony"),
        pytest.param(["run/systemd/timesync/synchronized"], ("systemd-timesyncd",), id="systemd"),
        pytest.param(["run/ntpd.pid"], ("ntpd",), id="ntpd"),
        pytest.param(["run/ptp4l", "run/phc2sys.77"], ("ptp4l", "phc2sys"), id="PTP"),
    ],
)
def test_daemons(files, expected, tmp_path):
    assert daemons(plant(tmp_path, dict.fromkeys(files, ""))) == expected


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        pytest.param(0, 0x2001, True, id="kept by ntpd or chronyd"),
        pytest.param(1, 0x2011, True, id="leap second to come"),
        pytest.param(5, 0x40, False, id="fresh machine"),
        pytest.param(0, 0x40, False, id="only the bit"),
        pytest.param(5, 0x2001, False, id="only the state"),
    ],
)
def test_synchronised(state, status, expected):
    found = Clock(state=state, status=status, max_error_seconds=0, estimated_error_seconds=0, now=0)

    assert found.synchronised is expected
