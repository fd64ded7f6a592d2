"""Connections to the store: hardened, patient, and able to tell that the file below them is gone."""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import apsw

from callboard import schema
from callboard.unusable import NewerSchema, Unavailable, refusals

__all__ = ["BUSY_SECONDS", "connect", "has_moved", "insist", "open_hardened"]

T = TypeVar("T")

BUSY_SECONDS = int(schema.PRAGMAS["busy_timeout"]) / 1000
"""How long a connection waits for the write lock, in seconds."""

# These belong to the file, but for the timeout: SQLite's own would replace the busy handler, which keeps it.
_NOT_SET_HERE = {"application_id", "user_version", "auto_vacuum", "journal_mode", "busy_timeout"}
_OF_A_CONNECTION = {name: value for name, value in schema.PRAGMAS.items() if name not in _NOT_SET_HERE}


def connect(
    path: Path,
    *,
    durability: Literal["full", "normal"],
    readonly: bool = False,
    should_stop: Callable[[], bool],
    busy_seconds: float = BUSY_SECONDS,
) -> apsw.Connection:
    """A connection to a store that `prepare` has seen to, with the pragmas of `schema.sql` and hardened (S8).

    It waits up to `busy_seconds` for the write lock, and no longer once `should_stop()` is true. The journal
    mode is the file's and is left alone. Raises `Unusable`.
    """
    with refusals(path):
        db = open_hardened(path, busy_seconds, should_stop)
        try:
            for name, value in (_OF_A_CONNECTION | {"synchronous": durability.upper()}).items():
                db.pragma(name, value)
            version = insist(lambda: db.pragma("user_version"), busy_seconds, should_stop)
            if version > schema.VERSION:
                raise NewerSchema(
                    f"{path} was brought to schema version {version}. Install a newer callboard."
                )
            if version < schema.VERSION:
                raise Unavailable(f"{path} is not the store that was prepared. Start the server again.")
            db.pragma("query_only", readonly)
        except BaseException:
            db.close()
            raise
        return db


def has_moved(db: apsw.Connection) -> bool:
    """Whether the file under a connection was deleted or replaced, so that its writes would go nowhere."""
    moved = array("i", [0])  # a C int, into which SQLite writes
    db.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, moved.buffer_info()[0])
    return bool(moved[0])


def open_hardened(path: Path, busy_seconds: float, should_stop: Callable[[], bool]) -> apsw.Connection:
    """A hardened connection that waits its turn; it makes no file and follows no link."""
    real = path.parent.resolve() / path.name
    db = apsw.Connection(
        str(real), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW, statementcachesize=400
    )
    db.set_busy_handler(_patience(busy_seconds, should_stop))
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    db.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
    # Else each binding of a value that a partial index might depend on has its statement prepared again:
    # measured on the lookup of an inbox, 250 to 380 microseconds instead of 8.
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    # Before anything is written: making a store would spill a file of its own for each statement.
    db.pragma("temp_store", schema.PRAGMAS["temp_store"])
    return db


def _patience(seconds: float, should_stop: Callable[[], bool]) -> Callable[[int], bool]:
    """A busy handler with short random naps. SQLite's own timeout sleeps longer and longer and so starves
    whoever has waited; measured with 16 busy processes, the worst wait falls from 842 ms to 91 ms."""
    since = 0.0

    def wait(tries: int) -> bool:
        nonlocal since
        if tries == 0:
            since = time.monotonic()
        elif time.monotonic() - since > seconds:
            return False
        if should_stop():
            return False
        time.sleep(random.uniform(50e-6, min(2e-3, 200e-6 * (1 << min(tries, 6)))))
        return True

    return wait


def insist(step: Callable[[], T], seconds: float, should_stop: Callable[[], bool]) -> T:
    """Repeat what found the store busy. In the moment of a switch to WAL, or of the last close, SQLite
    answers so at once and asks no busy handler: measured, 2 of 120 first opens."""
    wait = _patience(seconds, should_stop)
    tries = 0
    while True:
        try:
            return step()
        except apsw.BusyError:
            if not wait(tries):
                raise
            tries += 1
