"""Run commands in turn; [rounds, commands] as JSON on stdin, [seconds, peak bytes] on stdout.

In turn, so that a busy moment hits all of them alike. A program of its own, because the peak
of a child's memory starts at that of the process that forked it.
"""

import json
import resource
import subprocess
import sys
import time


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


rounds, commands = json.load(sys.stdin)
for command in commands:
    seconds(command)  # a first run reads files from disk
taken = [[seconds(command) for command in commands] for _ in range(rounds)]
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
json.dump([list(zip(*taken, strict=True)), peak], sys.stdout)
