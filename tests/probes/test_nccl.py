"""probes/nccl.py: files, where variables come from, and what NCCL's log says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpudoctor import Machine, NcclFile
from gpudoctor.probes.nccl import (
    Setting,
    library_of,
    nccl_answer,
    nccl_settings,
    parse_answer,
    parse_file,
    parse_shell,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            "NCCL_DEBUG=INFO\nNCCL_ALGO=Ring\n", {"NCCL_DEBUG": "INFO", "NCCL_ALGO": "Ring"}
        ),
        pytest.param("NCCL_DEBUG=INFO", {"NCCL_DEBUG": "INFO"}, id="no end of line"),
        pytest.param("# NCCL_DEBUG=INFO\n\n", {}, id="comment"),
        pytest.param("NCCL_X=a\nNCCL_X=b\n", {"NCCL_X": "a"}, id="the first counts"),
        pytest.param('NCCL_X="eth0"\n', {"NCCL_X": '"eth0"'}, id="quotes stay"),
        pytest.param("NCCL_X = eth0\n", {"NCCL_X ": " eth0"}, id="so does white space"),
        pytest.param("export NCCL_X=eth0\n", {"export NCCL_X": "eth0"}, id="no shell"),
        pytest.param("NCCL_SOCKET_IFNAME==eth0\n", {"NCCL_SOCKET_IFNAME": "=eth0"}, id="="),
        pytest.param("NCCL_X=eth0\r\n", {"NCCL_X": "eth0"}, id="CR LF"),
        pytest.param("words\n", {}, id="no assignment"),
    ],
)
def test_file(text, found):
    assert parse_file(text) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param("export NCCL_DEBUG=INFO", [("NCCL_DEBUG", "INFO")], id="export"),
        pytest.param('NCCL_DEBUG="INFO"  # why', [("NCCL_DEBUG", "INFO")], id="quotes, comment"),
        pytest.param("  export GLOO_SOCKET_IFNAME='eth0';", [("GLOO_SOCKET_IFNAME", "eth0")]),
        pytest.param("declare -x NCCL_DEBUG=INFO", [("NCCL_DEBUG", "INFO")], id="declare"),
        pytest.param("# export NCCL_DEBUG=INFO", [], id="commented out"),
        pytest.param("export PATH=/x NCCL_DEBUG=INFO", [], id="not at the beginning"),
        pytest.param("export AWS_SECRET_ACCESS_KEY=x", [], id="not of these libraries"),
    ],
)
def test_shell(line, found):
    settings = parse_shell(f"\n{line}\n", "~/.bashrc")

    assert settings == [Setting(name, value, "~/.bashrc:2") for name, value in found]


@pytest.fixture
def tree(tmp_path: Path):
    """`tree({path: text})` plants files; the machine that has them."""

    def plant(files: dict[str, str], **env: str) -> Machine:
        for path, text in files.items():
            file = tmp_path / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Machine(root=str(tmp_path), env=env, cwd="/job")

    return plant


USERS, ALL = "/home/alice/.nccl.conf", "/etc/nccl.conf"
BOTH = {USERS: "NCCL_DEBUG=INFO\n", ALL: "NCCL_DEBUG=WARN\nNCCL_ALGO=Ring\n"}


@pytest.mark.parametrize(
    ("files", "env", "found"),
    [
        pytest.param({}, {}, [], id="none"),
        pytest.param({ALL: ""}, {"HOME": "/home/alice"}, [ALL], id="of the machine"),
        pytest.param(BOTH, {"HOME": "/home/alice"}, [USERS, ALL], id="the user's comes first"),
        pytest.param(BOTH, {"HOME": "/home/bob"}, [ALL], id="another user's"),
        pytest.param(
            {**BOTH, "/job/own.conf": ""},
            {"HOME": "/home/alice", "NCCL_CONF_FILE": "own.conf"},
            ["/job/own.conf", ALL],
            id="NCCL_CONF_FILE in place of the user's",
        ),
        pytest.param(
            BOTH,
            {"HOME": "/home/alice", "NCCL_CONF_FILE": "/nowhere"},
            ["/nowhere", ALL],
            id="NCCL_CONF_FILE that is not there",
        ),
        pytest.param(
            {"/etc/rccl.conf": ""}, {"HOME": "/root"}, [], id="RCCL's, without an AMD GPU"
        ),
        pytest.param(
            {"/etc/rccl.conf": "", ALL: "", "/dev/kfd": ""},
            {"HOME": "/root"},
            ["/etc/rccl.conf"],
            id="RCCL's",
        ),
    ],
)
def test_files_in_the_order_of_reading(tree, files, env, found):
    settings = nccl_settings(tree(files, **env))

    assert [file.path for file in settings.files] == found


def test_file_says_what_is_known_and_what_is_wrong(tree):
    text = "NCCL_SOCKET_IFNAME=eth0\nexport NCCL_DEBUG=INFO\nMY_PASSWORD=x\n"
    machine = tree({ALL: text}, NCCL_CONF_FILE="/nowhere", HOME="/root")

    missing, found = nccl_settings(machine).files

    assert missing.error == "ENOENT: No such file or directory"
    assert found == NcclFile(
        path=ALL,
        values={"NCCL_SOCKET_IFNAME": "eth0"},
        others=("export NCCL_DEBUG", "MY_PASSWORD"),
    )


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param({"/etc/environment": "NCCL_DEBUG=INFO\n"}, "/etc/environment:1", id="machine"),
        pytest.param(
            {"/etc/profile.d/nccl.sh": "#!/bin/sh\nexport NCCL_DEBUG=INFO\n"},
            "/etc/profile.d/nccl.sh:2",
            id="profile.d",
        ),
        pytest.param(
            {
                "/etc/environment": "NCCL_DEBUG=INFO\n",
                "/home/alice/.bashrc": "\n\nexport NCCL_DEBUG='INFO'\n",
            },
            "~/.bashrc:3",
            id="the last one that is read",
        ),
        pytest.param({"/home/alice/.bashrc": "export NCCL_DEBUG=WARN\n"}, None, id="another value"),
        pytest.param(
            {"/proc/1/environ": "PATH=/bin\0NCCL_DEBUG=INFO\0"}, "pid 1", id="the container's"
        ),
        pytest.param(
            {"/venv/bin/activate": "export NCCL_DEBUG=INFO\n"}, "/venv/bin/activate:1", id="venv"
        ),
        pytest.param({}, None, id="unknown"),
    ],
)
def test_origin(tree, files, found):
    machine = tree(files, HOME="/home/alice", NCCL_DEBUG="INFO", VIRTUAL_ENV="/venv", AWS_KEY="x")

    origins = nccl_settings(machine).origins

    assert origins.get("NCCL_DEBUG") == found
    assert set(origins) <= {"NCCL_DEBUG"}


def test_origin_is_the_shell_that_set_it(tmp_path):
    ask = (
        "import os; from gpudoctor.probes import Machine, nccl;"
        "print(nccl.nccl_settings(Machine()).origins, os.getppid())"
    )
    script = tmp_path / "start-job"  # two commands, or the shell becomes the last one
    script.write_text(f"export NCCL_ALGO=Ring\n{sys.executable} -c '{ask}'\ntrue\n")
    env = {name: text for name, text in os.environ.items() if name != "NCCL_ALGO"}
    env["HOME"] = str(tmp_path)

    ended = subprocess.run(["sh", script], env=env, capture_output=True, text=True, timeout=60)

    origins, _, parent = ended.stdout.strip().rpartition(" ")
    assert origins == f"{{'NCCL_ALGO': 'sh (pid {parent})'}}", ended.stderr


OLD = """
node0:2771:2771 [0] NCCL INFO Bootstrap : Using eth0:10.77.0.1<0>
"""
NEW = """
node0:2771:2771 [0] NCCL INFO ENV/Plugin: Could not find: libnccl-env.so
node0:2771:2771 [0] NCCL INFO Bootstrap: Using eth0:1:10.77.0.1<0>
"""
SIX = "node0:1:1 [0] NCCL INFO Bootstrap: Using eth0:fe80::5054:ff:fe12:3456%eth0<0>\n"
NONE = """
node0:2843:2843 [0] NCCL INFO NCCL_SOCKET_IFNAME set by environment to eth9

[2026-11-21 03:00:00] node0:2843:2843 [0] b.cc:126 NCCL WARN Bootstrap : no socket interface found
node0:2843:2843 [0] NCCL INFO init.cc:185 -> 5
"""


@pytest.mark.parametrize(
    ("said", "code", "interface", "address", "error"),
    [
        pytest.param(OLD, 0, "eth0", "10.77.0.1", "", id="2.18"),
        pytest.param(NEW, 0, "eth0:1", "10.77.0.1", "", id="2.32, a label"),
        pytest.param(SIX, 0, "eth0", "fe80::5054:ff:fe12:3456%eth0", "", id="IPv6"),
        pytest.param(NONE, 5, "", "", "Bootstrap : no socket interface found", id="none"),
        pytest.param("", 2, "", "", "ncclGetUniqueId returned 2", id="silent"),
    ],
)
def test_answer(said, code, interface, address, error):
    answer = parse_answer(said, code, "l", (2, 32, 3))

    assert (answer.interface, answer.address, answer.error) == (interface, address, error)


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        pytest.param(Machine(env={}), "one node", id="a plain run"),
        pytest.param(Machine(root="/x", env={}), "under --root", id="another machine"),
    ],
)
def test_the_library_is_not_loaded_for_nothing(machine, why):
    assert nccl_answer.unless
    assert why in nccl_answer.unless(machine)


WHEEL = "/venv/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2"
VENV = {"/venv/bin/python": "", "/venv/pyvenv.cfg": "version = 3.12.1\n"}


@pytest.mark.parametrize(
    ("files", "env", "found"),
    [
        pytest.param({}, {}, "libnccl.so.2", id="as the linker finds it"),
        pytest.param({**VENV, WHEEL: ""}, {"VIRTUAL_ENV": "/venv"}, WHEEL, id="the wheel's"),
        pytest.param(
            {**VENV, WHEEL: "", "/opt/libnccl.so.2.30.7": ""},
            {"VIRTUAL_ENV": "/venv", "LD_PRELOAD": "/opt/libnccl.so.2.30.7"},
            "/opt/libnccl.so.2.30.7",
            id="preloaded",
        ),
    ],
)
def test_library_is_the_one_that_the_job_loads(tree, files, env, found):
    assert library_of(tree(files, **env)) == found
