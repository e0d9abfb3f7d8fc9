"""A board in a directory that all nodes see: `check --cluster --share DIR`.

    DIR/gpudoctor-KEY/now      names the run
    DIR/gpudoctor-KEY/RUN/...  a file for each key, put in place by a rename

A run that died leaves its directory; the next one of the same key takes its place and removes it.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import time
import uuid

from gpudoctor.cluster.board import LIMIT, Unreachable

_FIRST, _LONGEST = 0.005, 0.25  # seconds between two looks: a file system of many nodes is patient
_NOW = "now"


class Share:
    """The board, as the node that opens it or one that joins sees it."""

    def __init__(self, directory: str, key: str, *, opens: bool) -> None:
        """Open or find it.

        Raises:
            Unreachable: the directory cannot be used.
        """
        name = re.sub(r"[^\w.-]", "_", key)[:100]
        self._home = os.path.join(os.path.abspath(directory), f"gpudoctor-{name}")
        self.where = directory
        self._opens = opens
        self._run = ""
        if not os.path.isdir(directory):
            raise Unreachable(f"--share {directory}: there is no such directory")
        try:
            if opens:
                self._begin()
        except OSError as error:
            raise _unreachable(error, self._home) from None

    def find(self, seconds: float) -> bool:
        """Whether a run has been opened, waited for at most so long; it is joined.

        Raises:
            Unreachable: somebody else has made the directory, or may write to it.
        """
        run = self._now(seconds)
        if run and not self._run:
            self._ours()
        self._run = os.path.join(self._home, run) if run else ""
        return bool(run)

    def put(self, key: str, value: bytes) -> None:
        self._write(os.path.join(self._run, _file(key)), value)

    def get(self, key: str, seconds: float = 0.0) -> bytes | None:
        return self._read(os.path.join(self._run, _file(key)), seconds)

    def add(self, key: str, amount: int = 1) -> int:
        path, number = os.path.join(self._run, _file(key)), 0
        try:
            names = set(os.listdir(self._run))
            while f"{_file(key)}.{number + 1}" in names:
                number += 1
            while amount > 0:
                number += 1
                with contextlib.suppress(FileExistsError):
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    os.close(os.open(f"{path}.{number}", flags, 0o600))
                    amount -= 1
        except OSError as error:
            raise _unreachable(error, path) from None
        return number

    def renewed(self) -> bool:
        run = self._now(0)
        return bool(run) and run != os.path.basename(self._run)

    def close(self) -> None:
        if self._opens:
            with contextlib.suppress(OSError):
                if not self.renewed():
                    os.unlink(os.path.join(self._home, _NOW))
            shutil.rmtree(self._run, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(self._home)

    def _now(self, seconds: float) -> str:
        """The run that is on, waited for at most so long; empty: none is."""
        found = self._read(os.path.join(self._home, _NOW), seconds) or b""
        return found.decode() if re.fullmatch(rb"[0-9a-f]{32}", found) else ""

    def _begin(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._home, 0o700)
        self._ours()
        before = [name for name in os.listdir(self._home) if re.fullmatch(r"[0-9a-f]{32}", name)]
        run = uuid.uuid4().hex
        self._run = os.path.join(self._home, run)
        os.mkdir(self._run, 0o700)
        self._write(os.path.join(self._home, _NOW), run.encode())
        for name in before:
            shutil.rmtree(os.path.join(self._home, name), ignore_errors=True)

    def _ours(self) -> None:
        """What we make there must belong to whom the directory belongs, also as a squashed root.

        Raises:
            Unreachable: somebody else has made it, or may write to it.
        """
        path = os.path.join(self._home, uuid.uuid4().hex + ".own")
        opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            folder, own = os.lstat(self._home), os.fstat(opened)
        finally:
            os.close(opened)
            os.unlink(path)
        if (
            not stat.S_ISDIR(folder.st_mode)
            or folder.st_uid != own.st_uid
            or folder.st_mode & 0o022
        ):
            raise Unreachable(f"{self._home}: others could have written there")

    def _write(self, path: str, value: bytes) -> None:
        partial = f"{path}.{uuid.uuid4().hex}.partial"
        try:
            opened = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with open(opened, "wb") as file:
                file.write(value)
            os.replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise _unreachable(error, path) from None

    def _read(self, path: str, seconds: float) -> bytes | None:
        end, pause = time.monotonic() + seconds, _FIRST
        while True:
            try:
                # NFS believes that a file is not there until the directory is opened anew.
                os.close(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY))
                with open(path, "rb") as file:
                    return file.read(LIMIT + 1)
            except FileNotFoundError:
                left = end - time.monotonic()
                if left <= 0:
                    return None
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise _unreachable(error, path) from None
                left = end - time.monotonic()
                if left <= 0:
                    return None
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST)


def _file(key: str) -> str:
    return key.replace("/", "+")


def _unreachable(error: OSError, path: str) -> Unreachable:
    if isinstance(error, FileNotFoundError):
        return Unreachable(f"{os.path.dirname(path)}: the run there has ended")
    return Unreachable(f"{path}: {error.strerror or error}")
