"""probes/limits.py on this machine, with limits that are really set."""

import json
import os
import subprocess
import sys
import threading

import pytest

from gpudoctor import Absent, Limit, Limits, Machine, Processes
from gpudoctor.probes.limits import limits, parse_files, parse_threads, processes

SHOW = """
import resource, sys, msgspec
{lower}
from gpudoctor import Machine
from gpudoctor.probes.limits import limits
sys.stdout.buffer.write(msgspec.json.encode(limits(Machine())))
"""


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("RLIMIT_NOFILE", "nofile", 256),
        ("RLIMIT_MEMLOCK", "memlock", 64 << 10),
        ("RLIMIT_STACK", "stack", 4 << 20),
        ("RLIMIT_AS", "address_space", 4 << 30),
        ("RLIMIT_NPROC", "nproc", 500),
    ],
)
def test_sees_what_is_set(name, field, value):
    lower = f"resource.setrlimit(resource.{name}, ({value}, {value}))"

    done = subprocess.run(
        [sys.executable, "-c", SHOW.format(lower=lower)], capture_output=True, check=True
    )

    assert json.loads(done.stdout)[field] == {"soft": value, "hard": value}


def test_unlimited_is_none():
    found = limits(Machine())

    assert isinstance(found, Limits)
    for limit in (found.memlock, found.stack, found.nofile, found.nproc, found.address_space):
        assert isinstance(limit, Limit)
        assert limit.soft is None or limit.soft >= 0  # RLIM_INFINITY is -1


def test_counts_threads_of_this_user():
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        found = processes(Machine())
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert isinstance(found, Processes)
    assert found.own_threads >= 9
    assert found.all_threads >= 9
    assert found.pid_max is None or found.pid_max > os.getpid()


def test_a_tree_has_no_limits_and_no_processes(tmp_path):
    machine = Machine(str(tmp_path))

    assert isinstance(limits(machine), Absent)
    assert isinstance(processes(machine), Absent)


def test_all_threads_from_loadavg():
    assert parse_threads("0.87 0.36 0.14 5/110 13168\n") == 110


@pytest.mark.parametrize(
    ("text", "used_and_most"),
    [
        ("556\t0\t2466183\n", (556, 2466183)),
        ("9984\t128\t9223372036854775807\n", (9856, 9223372036854775807)),
        ("", (None, None)),
    ],
)
def test_files(text, used_and_most):
    assert parse_files(text) == used_and_most
