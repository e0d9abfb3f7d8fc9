"""Who the job runs as."""

from gpudoctor.snapshot import Fact


class User(Fact, frozen=True, kw_only=True):
    """Ids, and the names that libraries ask for."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    has_passwd_entry: bool | None = True  # None: the user database did not answer
    name_from_environment: str = ""  # the variable that getpass.getuser() finds: "USER"
    home: str = ""  # $HOME, else the passwd entry's
    home_is_set: bool = True
