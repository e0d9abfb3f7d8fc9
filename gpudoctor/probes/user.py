"""Look at who we are."""

import os

from gpudoctor.facts.user import User
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent

_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # in the order of getpass.getuser()


@probe()
def user(machine: Machine) -> User | Absent:
    """Ids, passwd entry and home directory of this process."""
    if not machine.live:
        return Absent("the user is that of a running process: not known from --root")
    home = machine.env.get("HOME", "")
    return User(
        uid=os.getuid(),
        gid=os.getgid(),
        groups=tuple(sorted(os.getgroups())),
        has_passwd_entry=True,
        name_from_environment=next((name for name in _NAMES if machine.env.get(name)), ""),
        home=home,
        home_is_set=bool(home),
    )
