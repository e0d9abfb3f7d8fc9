"""Put a planted tree in the place of what this machine shows."""

from pathlib import Path


def laid_over(root: Path, nodes: str = "") -> str:
    """A script that lays ROOT/sys and ROOT/dev over the real ones, and ROOT/proc/driver.

    Files in ROOT/dev become nodes that everybody may open; `nodes` is a script that then changes
    them. For a mount namespace of its own.
    """
    return f"""
        cd {root}/dev
        for node in $(find . -type f); do
            rm $node
            mknod -m 0666 $node c 1 3
        done
        {nodes}
        cd /
        mount -t overlay -o lowerdir={root}/sys:/sys overlay /sys
        mount -t overlay -o lowerdir={root}/dev:/dev overlay /dev
        mount -t tmpfs -o size=16g tmpfs /dev/shm
        if [ -d {root}/proc/driver ]; then mount --bind {root}/proc/driver /proc/driver; fi
    """
