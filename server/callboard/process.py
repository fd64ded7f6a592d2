"""This process and others, as the host knows them.

A pid alone names nothing for long, as it is given again. With the time the process was started, and
inside one pid namespace, it names one process of one boot.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class ProcessName(NamedTuple):
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
        _, fields = _stat(pid)
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else 0
    except OSError:
        return 0
    return None if fields[0] == "Z" else int(fields[19])  # a zombie has ended and only waits to be read


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that was started then still runs. Where the system cannot tell, it does."""
    ticks = start_ticks(pid)
    return ticks is not None and (ticks == started or ticks == 0 or started == 0)


def line_of(pid: int) -> Iterator[tuple[int, str]]:
    """A process and those that it descends from, each with its program's name of up to 15 characters.

    The line ends before the first process of the host, which takes in every orphan, and where the system does
    not tell.
    """
    while pid > 1:
        try:
            name, fields = _stat(pid)
        except OSError:
            return
        yield pid, name
        pid = int(fields[1])


def _stat(pid: int) -> tuple[str, list[str]]:
    """The program's name of a process and the fields behind it in /proc/<pid>/stat, from the third on."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    # The name stands in parentheses and may hold spaces and parentheses itself.
    head, _, tail = stat.rpartition(")")
    return head.partition("(")[2], tail.split()


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "host"
