"""Serve torch.distributed.TCPStore over pipes: `python store.py opens|joins HOST PORT SECONDS`.

Run by the training job's own Python, 3.8 or newer, with the standard library and torch only.
Every message is a length (4 bytes, big-endian) and then that many bytes. The first that goes out
says that the store is there; after it each request gets one answer. A request is a letter, the
length of the key (2 bytes), the key, and a value:

    p  put the value
    g  get; the value is how long to wait for it at most, in seconds as text
    a  add the value, a number as text

An answer is `+` and a value, `-` (it is not there), or `!` and what went wrong. It ends with its
standard input: whoever started it may be gone without a word.
"""

from __future__ import annotations  # read by Python 3.8 too

import os
import signal
import struct
import sys
import time
import warnings
from datetime import timedelta
from typing import Any

LIMIT = 4 << 20  # bytes of a value; of one that is longer, this and one more
REQUEST_LIMIT = LIMIT + (1 << 10)
LENGTH = struct.Struct(">I")
KEY = struct.Struct(">cH")
PIECE, MOST_PIECES = 512, 512  # bytes, of a value: packets that small get through everywhere
FIRST, LONGEST = 0.01, 0.25  # seconds between two questions of one who waits
TALK_SECONDS = 10  # for one request to the store and its answer


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)
    role, host, port, seconds = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != here]
    try:
        store = opened(role, host, int(port), float(seconds))
    except BaseException as error:
        say(answers, b"!" + words(error))
        return
    say(answers, b"+")
    while True:
        raw = read(0, LENGTH.size)
        if len(raw) < LENGTH.size:
            break
        length = LENGTH.unpack(raw)[0]
        request = read(0, length) if length <= REQUEST_LIMIT else b""
        if not request or len(request) < length:
            break
        try:
            answer = answered(store, request)
        except Exception as error:
            answer = b"!" + words(error)
        say(answers, answer)
    os._exit(0)  # the store's threads may hang at the end


def opened(role: str, host: str, port: int, seconds: float) -> Any:
    """The store: made here, or connected to where it is."""
    warnings.simplefilter("ignore")
    try:
        from torch.distributed import TCPStore
    except ImportError as error:
        missing = getattr(error, "name", None) == "torch"
        raise RuntimeError("no torch" if missing else f"import torch: {error}") from None
    end = time.monotonic() + seconds
    while True:
        try:
            # What is asked for takes a moment; only until there is a server it may take longer.
            store = TCPStore(
                host,
                port,
                is_master=role == "opens",
                timeout=timedelta(seconds=max(1.0, end - time.monotonic())),
                wait_for_workers=False,
            )
            break
        except Exception:
            if role == "opens" or time.monotonic() >= end - 0.5:
                raise
            time.sleep(0.25)  # a name that is not known yet
    store.set_timeout(timedelta(seconds=TALK_SECONDS))
    return store


def answered(store: Any, request: bytes) -> bytes:
    what, length = KEY.unpack_from(request)
    key = request[KEY.size : KEY.size + length].decode()
    value = request[KEY.size + length :]
    if what == b"p":
        put(store, key, value)
        return b"+"
    if what == b"a":
        return b"+%d" % store.add(key, int(value))
    end, pause = time.monotonic() + float(value), FIRST
    # Its own wait, once it has timed out, leaves the connection of older versions unusable, and
    # its check is not in all; adding nothing is.
    while store.add(f"{key}?", 0) <= 0:
        left = end - time.monotonic()
        if left <= 0:
            return b"-"
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST)
    return b"+" + get(store, key)


def put(store: Any, key: str, value: bytes) -> None:
    """In pieces, each in a small packet of its own: the large ones may be what gets lost."""
    size = max(PIECE, -(-len(value) // MOST_PIECES))
    pieces = [value[at : at + size] for at in range(0, len(value), size)] or [b""]
    for number, piece in enumerate(pieces[1:], 1):
        store.set(f"{key}#{number}", piece)
    store.set(key, b"%d " % len(pieces) + pieces[0])
    store.add(f"{key}?", 1)


def get(store: Any, key: str) -> bytes:
    count, _, value = store.get(key).partition(b" ")
    for number in range(1, min(int(count), MOST_PIECES)):
        value += store.get(f"{key}#{number}")
        if len(value) > LIMIT:
            break
    return bytes(value[: LIMIT + 1])


def read(pipe: int, length: int) -> bytes:
    """So many bytes; fewer at the end."""
    found = bytearray()
    while len(found) < length:
        chunk = os.read(pipe, min(length - len(found), 1 << 20))
        if not chunk:
            break
        found += chunk
    return bytes(found)


def say(pipe: int, answer: bytes) -> None:
    message = LENGTH.pack(len(answer)) + answer
    while message:
        message = message[os.write(pipe, message) :]


def words(error: BaseException) -> bytes:
    """The error's first line, without C++'s stack behind it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return " ".join(text.split())[:500].encode("utf-8", "replace")


if __name__ == "__main__":
    main()
