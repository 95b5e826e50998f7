"""What this machine has: cores and memory."""

import ctypes
import math
import os
import platform
import sys
from pathlib import Path

from weldnet.errors import InputError, MemoryShortageError


def available_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The cores this process may really use: its affinity and its container's quota, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        # No container, or `max`: no quota.
        return cores


WAITS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Variables that say how long OpenMP's threads spin where they wait for one another, before they sleep."""

SPINS = "6000"
"""About 0.2 ms: fewer cost speed on idle cores. GNU's OpenMP, which torch's wheels hold, spins for 8 ms, and beside
other work on the same cores takes them from the very threads that are waited for."""


def shorten_waits() -> None:
    """Has OpenMP, which torch loads, let its threads sleep soon where they wait; a variable of the user's own stays."""
    if "torch" not in sys.modules and not any(name in os.environ for name in WAITS):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def describe_waits() -> str:
    """How long threads spin, for the log."""
    found = [f"{name}={os.environ[name]}" for name in WAITS if name in os.environ]
    return f"threads that wait for one another spin by {', '.join(found) or 'the default of OpenMP'}"


PROCESSES_PER_CORE = 4
"""More would wait for one another; more than one a core pays where files come from a slow drive."""


def check_processes(key: str, number: int) -> None:
    """Refuses more processes than this machine has cores for."""
    most = PROCESSES_PER_CORE * available_cores()
    if number > most:
        raise InputError(
            f"{key}={number}: allowed are 1 to {most} processes, {PROCESSES_PER_CORE} for each core that this process "
            "may use"
        )


def check_memory(key: str, num_bytes: int, instead: str, meminfo: Path = Path("/proc/meminfo")) -> None:
    """Refuses what needs more memory than is free."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    if num_bytes > 0.9 * free:
        raise MemoryShortageError(f"{key} needs {num_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; take {instead}")


_M_MMAP_THRESHOLD = -3
"""Of glibc's `mallopt`."""


def give_memory_back() -> None:
    """Lets the system have the memory again that loading a model took, and that of each decoded photograph from now on.

    glibc would raise its threshold at the first one that is freed, and keep what comes after.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 * 2**20)
