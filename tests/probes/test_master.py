"""probes/master.py: /proc as recorded, and the loopback of this very machine."""

import os
import socket

import pytest

from gpudoctor import Absent, Machine
from gpudoctor.probes.master import Owner, contacts, master, owners, unnamed

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:733C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0
   1: 0100007F:A1B2 0100007F:733C 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0
   2: 0100007F:733C 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0
   3: 0200000A:733C 0100000A:A1B2 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
"""


def test_owners():
    assert owners(TCP, 29500) == [Owner("0A", 1000, "4711"), Owner("01", 1000, "4713")]
    assert owners(TCP, 29501) == []
    assert owners("", 29500) == []


def test_nobody_named():
    assert master.unless is unnamed
    assert "no MASTER_ADDR" in unnamed(Machine(env={}))
    assert unnamed(Machine(env={"MASTER_ADDR": "node0"})) == ""
    assert unnamed(Machine(env={}, told={"master_addr": "node0"})) == ""


def test_not_of_another_tree(tmp_path):
    machine = Machine(str(tmp_path), env={"MASTER_ADDR": "10.0.0.1"})

    assert isinstance(master(machine), Absent)


@pytest.fixture
def held():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_port_that_is_held_here(held):
    found = master(Machine(env={"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(held)}))

    assert found.here
    assert found.bind_error == "EADDRINUSE"
    assert found.holder_pid == os.getpid()
    assert f"(pid {os.getpid()}, uid {os.getuid()})" in found.holder
    assert found.free_port != held
    assert found.attempts == ()
    assert not found.held_by_launcher


def test_store_of_the_agent(held):
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(held)}
    found = master(Machine(env={**env, "TORCHELASTIC_USE_AGENT_STORE": "True"}))

    assert found.held_by_launcher


def test_port_that_is_free_here():
    """Ours keeps it from others, and shows that rank 0 and the probe do not disturb each other."""
    with socket.socket() as rank0:
        rank0.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        rank0.bind(("127.0.0.1", 0))
        port = str(rank0.getsockname()[1])
        found = master(Machine(env={"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}))

    assert (found.here, found.bind_error) == (True, "")


def test_address_of_an_interface_that_is_not_here():
    env = {"MASTER_ADDR": "fe80::1%no-such", "WORLD_SIZE": "2", "RANK": "1"}

    (attempt,) = master(Machine(env=env)).attempts

    assert (attempt.error, attempt.route_error) == ("ENODEV", "ENODEV")


def test_one_node_with_a_master_elsewhere_connects_to_nobody():
    env = {"MASTER_ADDR": "192.0.2.1", "WORLD_SIZE": "1", "RANK": "0"}

    assert master(Machine(env=env)).attempts == ()


@pytest.mark.parametrize(
    ("env", "told", "says"),
    [
        pytest.param(
            {"MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29501"},
            {},
            ["connects to 192.0.2.1, TCP port 29501, and closes the connection"],
            id="elsewhere",
        ),
        pytest.param(
            {}, {"master_addr": "127.0.0.1"}, ["binds port 29500 of this machine, for a moment"]
        ),
        pytest.param({"MASTER_ADDR": "192.0.2.1", "WORLD_SIZE": "1"}, {}, [], id="one node"),
    ],
)
def test_contacts(env, told, says):
    assert contacts(Machine(env=env, told=told)) == says
