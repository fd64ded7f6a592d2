"""The host's boot clock, which every deadline of a store is read by.

It counts suspended time, never steps and is shared by every process of the host. It stands apart from
`clock`, because the guards read it in a process that loads next to nothing.
"""

import math
import time
from pathlib import Path

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_ms() -> int:
    """Whole milliseconds since the host booted, suspended time included. Where the system has no clock that
    counts it, its monotonic clock stands in."""
    return time.clock_gettime_ns(_CLOCK) // 1_000_000


def boot_id() -> str:
    """Names one boot of the host; deadlines of another boot mean nothing on this one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        # Without the kernel's own name for this boot, the moment of booting names it, to the minute.
        return f"booted-{math.floor((time.time() - time.clock_gettime(_CLOCK)) / 60)}"
