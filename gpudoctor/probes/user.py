"""Look at who we are."""

import os
import re

from msgspec import Struct

from gpudoctor.facts.user import User
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.in_time import in_time
from gpudoctor.snapshot import Absent

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # in the order of getpass.getuser()
SECONDS = 2.0  # for LDAP and the like


class Entry(Struct, frozen=True):
    """What is used of a passwd entry."""

    name: str
    home: str


@probe(isolated=True)
def user(machine: Machine) -> User | Absent:
    """Ids, passwd entry and home directory of this process."""
    if not machine.live:
        return Absent("the user is that of a running process: not known from --root")
    try:
        own = entry(machine, os.getuid())
        known: bool | None = own is not None
    except TimeoutError:
        own, known = None, None
    return User(
        uid=os.getuid(),
        gid=os.getgid(),
        groups=tuple(sorted(os.getgroups())),
        has_passwd_entry=known,
        name_from_environment=next((name for name in NAMES if machine.env.get(name)), ""),
        home=home(machine, own),
        home_is_set="HOME" in machine.env,
    )


def home(machine: Machine, own: Entry | None) -> str:
    """The home directory as os.path.expanduser("~") finds it; empty if it finds none."""
    if "HOME" in machine.env:
        return machine.env["HOME"] or "/"
    return own.home if own else ""


def entry(machine: Machine, uid: int) -> Entry | None:
    """The passwd entry of a user id.

    Raises:
        TimeoutError: the user database does not answer.
    """
    found = parse_passwd(machine.text("/etc/passwd") or "", uid)
    if found or not asks_elsewhere(machine.text("/etc/nsswitch.conf") or ""):
        return found
    import pwd  # only where /etc/passwd is not all there is

    def ask() -> Entry | str:
        try:
            known = pwd.getpwuid(uid)
        except KeyError:
            return "unknown"
        return Entry(known.pw_name, known.pw_dir)

    (answer,) = in_time([ask], SECONDS)
    if answer is None:
        raise TimeoutError(f"the user database did not answer in {SECONDS:g} s")
    return answer if isinstance(answer, Entry) else None


def parse_passwd(text: str, uid: int) -> Entry | None:
    """The entry of a user id in the text of /etc/passwd."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == str(uid):
            return Entry(fields[0], fields[5])
    return None


def asks_elsewhere(nsswitch: str) -> bool:
    """Whether users are looked up anywhere but in /etc/passwd."""
    match = re.search(r"^\s*passwd:(.*)$", nsswitch, re.MULTILINE)
    sources = re.sub(r"\[.*?\]|#.*", " ", match[1]).split() if match else []
    return any(source != "files" for source in sources)
