"""Runs a program and says what it cost: wall time, processor time of it and its children, peak memory."""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass
class Cost:
    wall: float  # seconds
    cpu: float  # seconds of user and system time
    peak: int  # bytes of resident memory
    out: dict  # the JSON document it printed


def run(command, threads, environment=None):
    """Runs a command on `threads` processors; its standard output must be JSON or empty. Ends the benchmark if it fails."""
    os.sync()  # What an earlier program left to be written is not on this one's account.
    start = time.perf_counter()
    child = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads]),
    )
    text = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {child.returncode}\n{text.decode(errors='replace')}")
    try:
        out = json.loads(text)
    except ValueError:
        out = {}
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, out)


def median(costs, what):
    return statistics.median(getattr(cost, what) for cost in costs)


def spread(costs, what, digits=2):
    """The median, and the least and the most when there were several runs."""
    values = sorted(getattr(cost, what) for cost in costs)
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({values[0]:.{digits}f}–{values[-1]:.{digits}f})"


def size_of(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


def machine():
    """Processor, how many, memory, system, and how busy it was before the first run."""
    def first(path, key):
        with open(path) as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")

    gib = int(first("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} × {first('/proc/cpuinfo', 'model name')}, {gib:.0f} GiB, Linux {os.uname().release}, load {load:.1f} before the first run"
