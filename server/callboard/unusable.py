"""Why a store cannot be used, in the words of the closed set of codes.

At start-up it is an exception for the person at the terminal, whose message may name paths (`Unusable`).
Inside a call it is a code and a few words that name neither paths nor statements (`translate`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import ClassVar

import apsw

RESTORE = "Nothing was touched. Keep a copy of the file, then restore a backup."
"""What to do about a store that is not sound (S14)."""


class Unusable(Exception):
    """The store cannot be used. The message says why and what to do; it may name paths, as it is for a
    terminal."""

    code: ClassVar[str] = "store_unavailable"
    cause: ClassVar[str] = "the store cannot be used"
    """The same in a few words that name no path."""


class FolderMissing(Unusable):
    """There is no folder for the store to stand in."""

    cause = "folder missing"


class FolderReadOnly(Unusable):
    """The folder takes no new files, but SQLite needs its log beside the store."""

    cause = "folder read-only"


class FileReadOnly(Unusable):
    """This process may not read and write the store."""

    cause = "file read-only"


class NotAFile(Unusable):
    """A symbolic link, a folder or a device stands in the store's place."""

    cause = "not a regular file"


class NetworkFileSystem(Unusable):
    """The file system is shared with another kernel, so SQLite's shared memory cannot work on it."""

    cause = "network file system"


class OldSQLite(Unusable):
    """The SQLite library has a known bug that damages stores which several processes share."""

    cause = "unsound SQLite version"


class ForeignFile(Unusable):
    """The file is an SQLite database of another program."""

    cause = "database of another program"


class MigrationFailed(Unusable):
    """A migration did not lead to the schema of this version, and was taken back."""

    cause = "migration failed"


class Unavailable(Unusable):
    """The system refused an operation on the store."""

    cause = "input or output"


class NotADatabase(Unusable):
    """The file is not an SQLite database."""

    code = "store_corrupt"
    cause = "not a database"


class Damaged(Unusable):
    """The store is a database, but not a sound one."""

    code = "store_corrupt"
    cause = "damaged"


class NewerSchema(Unusable):
    """A newer callboard wrote this store."""

    code = "schema_too_new"
    cause = "schema too new"


class Busy(Unusable):
    """Another process held the store's lock for longer than we wait."""

    code = "store_busy"
    cause = "the write lock is held"


class Full(Unusable):
    """There is no space left."""

    code = "store_full"
    cause = "disk full"


_CORRUPT_IO = (apsw.SQLITE_IOERR_DATA, apsw.SQLITE_IOERR_CORRUPTFS)
_CAUSES: tuple[tuple[type[Exception], str, str], ...] = (
    (apsw.BusyError, Busy.code, Busy.cause),
    (apsw.LockedError, Busy.code, Busy.cause),
    (apsw.FullError, Full.code, Full.cause),
    (apsw.CorruptError, Damaged.code, Damaged.cause),
    (apsw.NotADBError, NotADatabase.code, NotADatabase.cause),
    # Flipped bytes in a text survive SQLite's own checks and show when the text is read.
    (UnicodeDecodeError, Damaged.code, "unreadable text"),
    (apsw.ReadOnlyError, Unusable.code, "read-only"),
    (apsw.CantOpenError, Unusable.code, "cannot be opened"),
    (apsw.PermissionsError, Unusable.code, "permission denied"),
    (apsw.ProtocolError, Unusable.code, "locking"),
    (apsw.NoMemError, Unusable.code, "memory"),
    (apsw.IOError, Unusable.code, Unavailable.cause),
)


def translate(error: BaseException) -> tuple[str, str] | None:
    """An error of the store as its code and a short cause of our own; None for any other error."""
    if isinstance(error, Unusable):
        return error.code, error.cause
    # What full text says of its own tables' damage, under the code of a wrong statement.
    if isinstance(error, apsw.SQLError) and "invalid fts5 file format" in str(error):
        return Damaged.code, Damaged.cause
    extended = getattr(error, "extendedresult", None)
    if extended == apsw.SQLITE_READONLY_DBMOVED:
        return Unusable.code, "moved"
    if extended in _CORRUPT_IO:
        return Damaged.code, Damaged.cause
    if extended == apsw.SQLITE_IOERR_NOMEM:
        return Unusable.code, "memory"
    return next(((code, cause) for kind, code, cause in _CAUSES if isinstance(error, kind)), None)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Errors of SQLite and of the system as start-up refusals about the store at `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise _full(path) from error
        raise Unavailable(f"{path} cannot be used: {error.strerror or 'input or output'}.") from error
    except (apsw.Error, UnicodeDecodeError) as error:
        meaning = translate(error)
        if meaning is None:
            raise
        raise _refusal(path, *meaning) from error


def _full(path: Path) -> Full:
    return Full(
        f"There is no space left for {path}. Free some and start again; what is in the store is safe."
    )


def _refusal(path: Path, code: str, cause: str) -> Unusable:
    if code == Busy.code:
        return Busy(
            f"Another process has held {path} for too long. Start again; if it stays, stop that process."
        )
    if code == Full.code:
        return _full(path)
    if code == Damaged.code:
        return Damaged(f"The store {path} is damaged ({cause}). {RESTORE}")
    return Unavailable(f"{path} cannot be used: {cause}. Look at its owner, its mode and its disk.")
