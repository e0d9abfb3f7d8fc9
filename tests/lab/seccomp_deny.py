"""Run a command under a seccomp filter that refuses system calls with EPERM.

`python3 seccomp_deny.py get_mempolicy,mbind -- COMMAND...`; names or numbers, x86-64 and arm64.
"""

import ctypes
import os
import struct
import sys

NUMBERS = {
    "x86_64": {"mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "process_vm_readv": 310},
    "aarch64": {"mbind": 235, "set_mempolicy": 237, "get_mempolicy": 236, "process_vm_readv": 270},
}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
ALLOW, EPERM = 0x7FFF0000, 0x00050001  # linux/seccomp.h, SECCOMP_RET_ERRNO | 1
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2


def deny(numbers):
    """Refuse these calls from now on, to this process and to what it becomes."""
    program = [struct.pack("HBBI", LOAD, 0, 0, 0)]
    for index, number in enumerate(numbers):
        program.append(struct.pack("HBBI", JUMP_IF_EQUAL, len(numbers) - index, 0, number))
    program += [struct.pack("HBBI", RETURN, 0, 0, what) for what in (ALLOW, EPERM)]
    code = ctypes.create_string_buffer(b"".join(program))
    argument = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, FILTER, argument, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the filter was not accepted")


if __name__ == "__main__":
    known = {**NUMBERS[os.uname().machine], "clone3": 435}
    deny([known[word] if word in known else int(word) for word in sys.argv[1].split(",")])
    os.execvp(sys.argv[3], sys.argv[3:])
