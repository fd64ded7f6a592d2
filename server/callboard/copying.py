"""Copies of a store's file: whole, sound, and safe on disk.

The one idea: the store's file is only touched through SQLite, as closing a descriptor of one's own would drop
the locks of every connection of the process; what nobody else knows yet may be opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw

from callboard.connection import BUSY_SECONDS, open_hardened
from callboard.unusable import RESTORE, Damaged

__all__ = ["back_up", "make_file", "opened", "sync_folder"]


def back_up(
    source: Path, target: Path, look: Callable[[apsw.Connection, apsw.Connection], None] | None = None
) -> None:
    """Copy a store in one step of all pages; the copy appears only once it is found sound and safe on disk.

    One step, because a copy in several would start again with every commit of others. Writers wait for
    nothing in WAL mode. `look` compares the source, still at the moment of the copy, with the copy, and may
    refuse or change it. Raises apsw errors, and `Damaged` where the copy is not sound.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    make_file(draft)
    try:
        with opened(source) as there, opened(draft) as here:
            there.execute("BEGIN; SELECT count(*) FROM sqlite_schema")  # reading is what fixes the moment
            copying = here.backup("main", there, "main")
            try:
                copying.step(-1)
            finally:
                copying.close(True)
            here.pragma("journal_mode", "delete")
            findings = here.execute("PRAGMA integrity_check(3)").get
            if findings != "ok" or here.execute("SELECT * FROM pragma_foreign_key_check").get:
                raise Damaged(f"A copy of the store {source} is not sound: {findings}. {RESTORE}")
            if look is not None:
                look(there, here)
        # No connection knows the draft any more, so it may be opened. Renaming does not bring bytes to disk.
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(target)
        sync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def opened(path: Path) -> Iterator[apsw.Connection]:
    """A connection for a while. It has not read anything yet."""
    with closing(open_hardened(path, BUSY_SECONDS, lambda: False)) as db:
        yield db


def make_file(path: Path) -> None:
    """An empty file that only its owner reads. It is made without opening it, so that no descriptor is ever
    closed beside a connection; a system that cannot do so opens it, which is sound while nobody else knows
    the file."""
    try:
        os.mknod(path, stat.S_IFREG | 0o600)
    except FileExistsError:
        return
    except (AttributeError, OSError):
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: S6."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
