"""probes/user.py: what getpass.getuser() and os.path.expanduser() will find."""

import getpass
import os
import pwd

import pytest

from gpudoctor import Absent, Machine, User
from gpudoctor.probes.user import Entry, asks_elsewhere, entry, home, parse_passwd, user

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
# a comment
alice:x:1000:1000:Alice,,,:/home/alice:/bin/zsh
+::::::
"""


@pytest.mark.parametrize(
    ("uid", "found"),
    [
        pytest.param(0, Entry("root", "/root"), id="root"),
        pytest.param(1000, Entry("alice", "/home/alice"), id="alice"),
        pytest.param(100, None, id="part of a number"),
        pytest.param(4711, None, id="nobody known"),
    ],
)
def test_passwd(uid, found):
    assert parse_passwd(PASSWD, uid) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", False, id="musl: there is no nsswitch.conf"),
        pytest.param("passwd: files\ngroup: files ldap\n", False, id="files"),
        pytest.param("passwd:\tfiles [NOTFOUND=return] # sss\n", False, id="action and comment"),
        pytest.param("passwd:         files systemd\n", True, id="Debian"),
        pytest.param("passwd: sss files\n", True, id="sssd"),
        pytest.param("# passwd: sss\npasswd: files\n", False, id="commented out"),
        pytest.param("passwd: compat\n", True, id="NIS"),
    ],
)
def test_asks_elsewhere(text, expected):
    assert asks_elsewhere(text) is expected


@pytest.mark.parametrize(
    ("env", "own", "expected"),
    [
        pytest.param({"HOME": "/x"}, Entry("alice", "/home/alice"), "/x", id="HOME wins"),
        pytest.param({"HOME": ""}, Entry("alice", "/home/alice"), "/", id="empty means the root"),
        pytest.param({}, Entry("alice", "/home/alice"), "/home/alice", id="passwd"),
        pytest.param({}, None, "", id="none"),
    ],
)
def test_home_is_what_expanduser_finds(env, own, expected):
    assert home(Machine(env=env), own) == expected


def test_entry_of_a_file_tree(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    machine = Machine(str(tmp_path))

    assert entry(machine, 1000) == Entry("alice", "/home/alice")
    assert entry(machine, 4711) is None


@pytest.mark.parametrize("uid", [0, 4_000_000_000])
def test_entry_agrees_with_the_c_library(uid):
    try:
        known = pwd.getpwuid(uid)
    except KeyError:
        expected = None
    else:
        expected = Entry(known.pw_name, known.pw_dir)

    assert entry(Machine(), uid) == expected


@pytest.mark.parametrize("name", ["", "LOGNAME", "USER", "LNAME", "USERNAME"])
def test_this_user(name, monkeypatch):
    for other in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(other, raising=False)
    if name:
        monkeypatch.setenv(name, "somebody")
    found = user(Machine())

    assert isinstance(found, User)
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())
    assert found.name_from_environment == name
    assert not name or getpass.getuser() == "somebody"
    assert found.home == os.path.expanduser("~")


def test_no_user_is_known_from_a_root(tmp_path):
    assert isinstance(user(Machine(str(tmp_path))), Absent)
