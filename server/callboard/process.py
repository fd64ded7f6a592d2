"""This process and others, as the host knows them.

A pid alone names nothing for long, as it is given again. With the time the process was started, and
inside one pid namespace, it names one process of one boot.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessName:
    """What tells one process from every other on this host."""

    pid: int
    start_ticks: int
    namespace: str

    @classmethod
    def own(cls) -> "ProcessName":
        pid = os.getpid()
        return cls(pid, start_ticks(pid) or 0, _namespace())


def start_ticks(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot (field 22 of /proc/<pid>/stat, proc(5));
    None if there is none, 0 where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else 0
    except OSError:
        return 0
    # The second field is the program's name in parentheses and may hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])  # a zombie has ended and only waits to be read


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that was started then still runs. Where the system cannot tell, it does."""
    ticks = start_ticks(pid)
    return ticks is not None and (ticks == started or ticks == 0 or started == 0)


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "host"
