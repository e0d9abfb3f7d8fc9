"""What puts a node's clock right, by the daemon that keeps it."""

from collections.abc import Sequence

from gpudoctor.finding import Fix


def keep_time(daemons: Sequence[str]) -> Fix:
    """Commands for the daemon that is seen; where none is, the system's own way."""
    if "chronyd" in daemons:
        commands = ["chronyc tracking", "sudo chronyc makestep"]
        text = "Let chronyd reach a server, and see that chrony.conf has `rtcsync`"
    elif "systemd-timesyncd" in daemons:
        commands = ["sudo systemctl restart systemd-timesyncd", "timedatectl timesync-status"]
        text = "Let systemd-timesyncd reach a server"
    elif "ntpd" in daemons:
        commands = ["ntpq -p", "sudo systemctl restart ntp || sudo systemctl restart ntpd"]
        text = "Let ntpd reach a server"
    else:
        commands = ["sudo timedatectl set-ntp true || sudo systemctl enable --now chronyd"]
        text = "Let the node keep its clock; a container has the node's"
    return Fix(text=text, commands=commands, needs_root=True)
