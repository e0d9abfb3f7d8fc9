"""probes/names.py: only this machine's own resolver is asked, and never for long."""

import socket

import pytest

from gpudoctor import Absent, Machine, Names
from gpudoctor.probes.names import asks, names, question, resolve
from gpudoctor.probes.workload import one_node


def test_own_name():
    found = names(Machine(env={}))

    assert isinstance(found, Names)
    assert found.hostname == socket.gethostname()


def test_not_of_another_tree(tmp_path):
    assert isinstance(names(Machine(str(tmp_path), env={})), Absent)


def test_one_node_asks_nobody():
    assert names.unless is one_node


@pytest.mark.parametrize("name", ["a" * 80 + ".lab", ".."])
def test_what_is_no_name(name):
    found = resolve(name)

    assert found.addresses == ()
    assert found.error


def test_longest_hostname_that_linux_allows():
    # The C library takes a label of 64, so libraries find it in /etc/hosts; Python's own does not.
    assert resolve("a" * 64).error.startswith("EAI_")


def test_numbers_need_no_resolver():
    assert resolve("127.0.0.1").addresses == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("search lab\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n", "nameserver 10.0.0.2, 10.0.0.3"),
        ("", "no nameserver is set"),
    ],
)
def test_question_names_the_servers(text, says, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(text)
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/hostname").write_text("node7\n")
    machine = Machine(str(tmp_path), env={})

    assert question(machine, "node0") == f"resolves node0: /etc/hosts, then {says}"
    assert asks(machine) == [question(machine, "node7")]
