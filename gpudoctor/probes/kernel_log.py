"""Read the kernel's log for lines that speak of a GPU: without journalctl, dmesg or waiting."""

import errno
import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from gpudoctor.probes import Machine

KMSG = "/dev/kmsg"
KMSG_NUMBER = os.makedev(1, 11)
MOST_LINES = 200
SECONDS = 2.0
RECORD = 1 << 16  # bytes; a shorter buffer than the record is an error
READ_ALL, SIZE_BUFFER = 3, 10  # of syslog(2)

_NVIDIA = r"NVRM: |\bSXid \(PCI"
# amdgpu writes a hundred lines for each GPU when it starts: only what went wrong.
_AMD = (
    r"\*ERROR\*|GPU reset|ring \S+ timeout|\bRAS\b.*(uncorrectable|poison|fatal)|uncorrectable"
    r"|page fault|PCI rejects atomics|skipped device|Queue preemption failed|bad page|hang"
    r"|timed out|device lost|[Ff]atal error|failed"
)


def parse_record(record: str) -> str:
    """ "6,339,5140900,-;text" of /dev/kmsg as dmesg writes it: "[    5.140900] text"."""
    head, separator, text = record.partition(";")
    fields = head.split(",")
    if not separator or len(fields) < 3 or not fields[2].isdigit():
        return record
    microseconds = int(fields[2])
    text = text.partition("\n")[0]  # what follows are SUBSYSTEM= and DEVICE=
    return f"[{microseconds // 10**6:5}.{microseconds % 10**6:06}] {text}"


def of_gpus(lines: Iterable[str], addresses: Sequence[str] = ()) -> tuple[str, ...]:
    """The newest of those lines that speak of a GPU, the oldest first.

    Args:
        lines: with or without a time in front.
        addresses: of GPUs on the bus; errors of the bus name the device by it.
    """
    kept: deque[str] = deque(maxlen=MOST_LINES)
    for line in lines:
        if "NVRM" in line or "SXid" in line:
            found = re.search(_NVIDIA, line)
        elif "amdgpu" in line or "kfd" in line:
            found = re.search(_AMD, line)
        else:
            found = None
        if found or ("AER:" in line and any(address in line for address in addresses)):
            kept.append(line)
    return tuple(kept)


def kmsg(machine: Machine) -> Iterator[str]:
    """Everything that is in /dev/kmsg by now, as far as it can be read in SECONDS.

    Raises:
        OSError: it cannot be read.
    """
    path = machine.path(KMSG)
    found = os.stat(path)
    if stat.S_ISREG(found.st_mode):  # a recorded one
        yield from map(parse_record, machine.read(KMSG).splitlines())
        return
    if found.st_rdev != KMSG_NUMBER:  # LXC puts a terminal there
        raise OSError(errno.ENODEV, "it is not the kernel's log", path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                record = os.read(descriptor, RECORD)
            except BlockingIOError:  # that was the last
                return
            except BrokenPipeError:  # overwritten meanwhile: the next is the oldest there is
                continue
            if not record:
                return
            yield parse_record(record.decode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def klogctl() -> list[str]:
    """The same by a system call, where the device node is missing.

    Raises:
        OSError: it is not allowed.
    """
    import ctypes  # only in the probe's child

    libc = ctypes.CDLL(None, use_errno=True)
    size = libc.klogctl(SIZE_BUFFER, None, 0)
    room = ctypes.create_string_buffer(max(size, 1))
    read = libc.klogctl(READ_ALL, room, len(room)) if size > 0 else size
    if read < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    lines = room.raw[:read].decode("utf-8", "replace").splitlines()
    return [re.sub(r"^<\d+>", "", line) for line in lines]
