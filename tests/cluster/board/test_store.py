"""torch's own TCPStore as the meeting point, held by the job's Python."""

import os
import signal
import socket
import threading

import pytest

from gpudoctor.cluster.board import LIMIT, Unreachable
from gpudoctor.cluster.board.store import Store
from gpudoctor.probes.all_reduce import free_port

BOUND = 60.0


@pytest.fixture(scope="module")
def made():
    stores = []

    def make(python, port, *, opens, seconds=BOUND):
        env = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
        store = Store(str(python), "127.0.0.1", port, opens=opens, seconds=seconds, env=env)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def pair(made, real_torch):
    port = free_port()
    pair = made(real_torch, port, opens=True), made(real_torch, port, opens=False)
    assert all(store.find(BOUND) for store in pair)
    return pair


@pytest.fixture
def opened(made, real_torch):
    store = made(real_torch, free_port(), opens=True)
    assert store.find(BOUND)
    return store


@pytest.mark.lab
def test_keys_and_values(pair):
    opened, joined = pair
    opened.put("facts/1", b"\x00\xff" * 10)

    assert joined.get("facts/1") == b"\x00\xff" * 10
    assert joined.get("facts/2") is None
    assert [store.add("joined") for store in (opened, joined, joined)] == [1, 2, 3]
    assert opened.add("joined", 0) == 3


@pytest.mark.lab
def test_what_is_waited_for_comes(pair):
    opened, joined = pair
    threading.Timer(0.3, opened.put, ("roll", b"all")).start()

    assert joined.get("roll", BOUND) == b"all"


@pytest.mark.lab
def test_of_what_is_too_large_only_that_is_seen(pair):
    opened, joined = pair
    opened.put("facts/9", b"x" * (LIMIT + 100))

    assert len(joined.get("facts/9")) == LIMIT + 1


@pytest.mark.lab
def test_the_end_of_the_store_is_an_error_in_words(made, opened, real_torch):
    joined = made(real_torch, int(opened.where.rpartition(":")[2]), opens=False)
    assert joined.find(BOUND)
    opened.close()

    with pytest.raises(Unreachable, match=r"store|gone"):
        joined.add("joined")


@pytest.mark.lab
def test_a_child_that_dies_is_an_error_in_words(opened):
    os.kill(opened._child.pid, signal.SIGSEGV)

    opened._child.wait(BOUND)

    with pytest.raises(Unreachable, match="is gone"):
        opened.add("joined")


@pytest.mark.lab
def test_a_child_that_hangs_is_an_error_in_words(opened, monkeypatch):
    monkeypatch.setattr("gpudoctor.cluster.board.store.TALK_SECONDS", 0.5)
    os.kill(opened._child.pid, signal.SIGSTOP)

    with pytest.raises(Unreachable, match="no answer"):
        opened.get("facts/1")


@pytest.mark.lab
def test_a_port_that_is_taken(made, real_torch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        store = made(real_torch, taken.getsockname()[1], opens=True)

        with pytest.raises(Unreachable, match="is taken: --meet-port"):
            store.find(BOUND)


@pytest.mark.lab
def test_nobody_there(made, real_torch):
    store = made(real_torch, free_port(), opens=False, seconds=1.0)

    with pytest.raises(Unreachable):
        store.find(BOUND)


def test_no_torch(made, tmp_path):
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\nexec /usr/bin/env python3 -S -I "$@"\n')
    bare.chmod(0o755)
    store = made(bare, free_port(), opens=True)

    with pytest.raises(Unreachable, match=r"no torch in .*--share DIR"):
        store.find(BOUND)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("exit 3", "gone \\(exit code 3\\)", id="ends"),
        pytest.param("echo words >&2; kill -11 $$", r"gone \(SIGSEGV\): words", id="crashes"),
        pytest.param("printf '\\377\\377\\377\\377'", "4294967295 bytes", id="talks nonsense"),
        pytest.param("printf '\\000\\000'; sleep 60", "stops", id="stops in the middle"),
    ],
)
def test_a_python_that_is_none(made, tmp_path, script, said):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    store = made(path, 1, opens=True)

    with pytest.raises(Unreachable, match=said):
        store.find(BOUND)


def test_no_python(made):
    with pytest.raises(Unreachable, match="does not start"):
        made("/nowhere/python", 1, opens=True)
