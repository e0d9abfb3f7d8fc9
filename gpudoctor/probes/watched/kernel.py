"""New lines of the kernel's log."""

import os

from gpudoctor.probes.kernel_log import KMSG, KMSG_NUMBER, RECORD, parse_record

MOST = 10_000  # records in one look
WARNING = 4  # linux/kern_levels.h; the rest is of no use to us, but for what drivers of GPUs say
OF_GPUS = (b"NVRM", b"SXid", b"amdgpu", b"kfd", b"AER:")


class KernelSource:
    """What the kernel has logged since this was made.

    Raises:
        OSError: its log cannot be read.
    """

    def __init__(self) -> None:
        self._open = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if os.fstat(self._open).st_rdev != KMSG_NUMBER:  # LXC puts a terminal there
            raise OSError(19, "it is not the kernel's log", KMSG)
        os.lseek(self._open, 0, os.SEEK_END)

    def __call__(self) -> tuple[str, ...]:
        lines = []
        for _ in range(MOST):
            try:
                record = os.read(self._open, RECORD)
            except BlockingIOError:  # that was the last
                break
            except BrokenPipeError:  # overwritten meanwhile: the next is the oldest there is
                continue
            level = record.partition(b",")[0]
            if (level.isdigit() and int(level) & 7 <= WARNING) or any(w in record for w in OF_GPUS):
                lines.append(parse_record(record.decode("utf-8", "replace")))
        return tuple(lines)
