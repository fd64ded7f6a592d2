"""Where a guard's process begins and ends: with its own surroundings and streams, and in a hurry.

Such a process lives for some fifty milliseconds. So nothing is loaded before it is needed, no garbage is
looked for, and at the end the interpreter is not taken apart: together these two are worth a tenth of it.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from callboard.guards.asking import Surroundings


def hook(client: str, event: str) -> NoReturn:
    """`callboard hook CLIENT EVENT`, with the client's JSON on standard input."""
    gc.disable()
    from callboard.guards.hook import run

    _end(run(client, event, _around(), sys.stdin, sys.stdout, sys.stderr))


def check(event: str, arguments: list[str]) -> NoReturn:
    """`callboard guard check EVENT`, as git's hook of that name calls it."""
    gc.disable()
    from callboard.guards.committing import run

    _end(run(event, arguments, _around(), sys.stdin, sys.stderr))


def _around() -> Surroundings:
    from callboard import bootclock
    from callboard.guards.asking import own_surroundings
    from callboard.guards.reader import Moment

    return own_surroundings(Moment(bootclock.boot_id(), bootclock.boot_ms()))


def _end(code: int) -> NoReturn:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # also where nobody listens any more
