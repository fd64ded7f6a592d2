"""The store's file: found, checked, born, migrated, connected.

`prepare` runs once, before a process opens any connection, and either leaves a sound store of this version
behind or refuses with a sentence for the person at the terminal, having changed nothing. `connect` then opens
as many connections as are wanted. Between them nothing here looks at the file except through SQLite: closing
a descriptor of one's own would drop the locks of every connection of the process
(https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from errno import EACCES, EPERM, EROFS
from pathlib import Path
from typing import NamedTuple

import apsw

from callboard import copying, mounts, schema
from callboard.clock import utc_text
from callboard.connection import BUSY_SECONDS, connect, has_moved, insist
from callboard.reboot import rebase
from callboard.unusable import (
    RESTORE,
    Busy,
    Damaged,
    FileReadOnly,
    FolderMissing,
    FolderReadOnly,
    ForeignFile,
    Full,
    MigrationFailed,
    NetworkFileSystem,
    NewerSchema,
    NotADatabase,
    NotAFile,
    OldSQLite,
    Unavailable,
    Unusable,
    refusals,
    translate,
)

__all__ = [
    "MIGRATIONS",
    "Busy",
    "Damaged",
    "FileReadOnly",
    "FolderMissing",
    "FolderReadOnly",
    "ForeignFile",
    "Full",
    "MigrationFailed",
    "NetworkFileSystem",
    "NewerSchema",
    "NotADatabase",
    "NotAFile",
    "OldSQLite",
    "StoreInfo",
    "Unavailable",
    "Unusable",
    "connect",
    "has_moved",
    "locate",
    "prepare",
    "rebase",
    "translate",
]

CHECK_LIMIT = 50_000_000
"""A store up to this many bytes is checked at every start; for a larger one that would take too long."""

LOOKED_PAGES = 64
"""How many pages that look keeps at once. It hardly comes back to one, and what it kept would stay with the
process."""

MOST_FENCE = 2**53 - 1
"""The greatest whole number that every reader of JSON tells from its neighbours."""

MIGRATING_SECONDS = 60.0
"""How long a start waits for another process that migrates the store: it copies a store of any size, and
checks the copy."""

BACKUPS_KEPT = 5
"""How many copies from before migrations stay beside the store."""


class StoreInfo(NamedTuple):
    """What `prepare` found or made."""

    path: Path
    """The file, with every link of its folder resolved."""
    store_id: str
    schema_version: int
    journal_mode: str
    """`wal`, or `delete` on a network file system."""
    file_system: str
    """Its type as the kernel names it, or `unknown`."""
    created: bool
    """True in the one process that made the store."""
    migrated_from: int | None
    """The version that this call migrated from."""
    checked: bool = True  # whether its pages were looked through; a large store's are not, at a start


MIGRATIONS: dict[int, Callable[[apsw.Connection], None]] = {0: schema.create}
"""From a version to a later one. A step runs inside the migration's transaction and sets `user_version`."""

# --- starting -----------------------------------------------------------------------------------------------


def prepare(
    path: Path,
    *,
    boot_id: str,
    boot_ms: int,
    now: datetime,
    new_store_id: Callable[[], str],
    allow_network: bool = False,
    mountinfo: Path = mounts.MOUNTINFO,
) -> StoreInfo:
    """See that a sound store of this version stands at `path`: make it, or check and migrate what is there.

    `boot_id` and `boot_ms` are the host's boot and the present time on its boot clock; after a reboot,
    deadlines are carried over to it (`rebase`). `new_store_id` names a store that is born. With
    `allow_network`, a network file system is put up with, at the price of a rollback journal. `mountinfo` is
    where the kernel tells what is mounted. Any number of processes may do this at once.

    Raises `Unusable`, and then has changed nothing.
    """
    _check_library(apsw.sqlite_lib_version())
    with refusals(path):
        path, kind = locate(path, allow_network, mountinfo)
        copying.make_file(path)
        with copying.opened(path) as db:
            # A refusal changes nothing: closing does not even fold the log of a crashed server into the file.
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, _has_content(path, "-wal"))
            unborn = _is_unborn(db, path)
            if not unborn:
                _check_header(db, path)
            db.pragma("synchronous", "EXTRA")
            created = unborn and _bear(db, path, boot_id, now, new_store_id)
            _check_version(db, path)
            checked = _check_pages(db, path)
            migrated_from = _migrate(db, path, boot_id, now, new_store_id)
            _check_schema(db, path)
            store_id = _read(db, "store.id", path)
            _check_fence(db, path)
            _set_journal_mode(db, "delete" if mounts.is_shared(kind) else "wal")
            if created:
                copying.sync_folder(path.parent)
            _carry_over(db, boot_id, boot_ms, now)
            info = StoreInfo(
                path=path,
                store_id=store_id,
                schema_version=db.pragma("user_version"),
                journal_mode=db.pragma("journal_mode"),
                file_system=kind,
                created=created,
                migrated_from=migrated_from,
                checked=checked,
            )
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            return info


def _check_library(version: str) -> None:
    """S1: two connections that write and checkpoint can damage a store
    (https://sqlite.org/wal.html#walresetbug)."""
    number = tuple(int(part) for part in version.split("."))
    mended = number >= (3, 51, 3) or number[:3] in ((3, 50, 7), (3, 44, 6))
    if not mended:
        raise OldSQLite(
            f"SQLite {version} can damage a store that several processes share. Install apsw 3.53 or newer."
        )


def locate(path: Path, allow_network: bool = False, mountinfo: Path = mounts.MOUNTINFO) -> tuple[Path, str]:
    """Where the store really is, and on which file system. Of missing folders only `.callboard` is made."""
    folder = path.parent
    own = folder.name == ".callboard"
    if own:
        _make_folder(folder)
    elif not folder.is_dir():
        raise FolderMissing(f"The folder {folder} does not exist. Make it, or name another store with --db.")
    path = folder.resolve() / path.name
    kind = mounts.kind_at(path, mountinfo)
    if mounts.is_shared(kind) and not allow_network:
        raise NetworkFileSystem(
            f"{path} is on a {kind} file system, which several kernels may share; SQLite cannot keep a store "
            "sound there. Set CALLBOARD_DB to a path on a local disk, or share one HTTP server instead."
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise FolderReadOnly(_read_only(path.parent, "and SQLite keeps its log beside the store"))
    if own:
        # The repository that the folder stands in does not see it.
        with suppress(FileExistsError), (path.parent / ".gitignore").open("x", encoding="ascii") as ignore:
            ignore.write("*\n")
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
            raise NotAFile(f"{path} is {what}. Move it away, or name another store with --db.")
        if not os.access(path, os.R_OK | os.W_OK):
            raise FileReadOnly(
                f"{path} cannot be read and written by this user. Change its owner or its mode."
            )
    return path, kind


def _make_folder(folder: Path) -> None:
    """The store's own folder, closed to others."""
    if folder.is_symlink():
        raise NotAFile(f"{folder} is a symbolic link. Name the store's own place with --db or CALLBOARD_DB.")
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise NotAFile(f"{folder} is not a folder. Move it away, or name a store with --db.") from None
    except FileNotFoundError:
        raise FolderMissing(
            f"The folder {folder.parent} does not exist; no store can be made in it."
        ) from None
    except OSError as error:
        if error.errno not in (EACCES, EPERM, EROFS):
            raise
        raise FolderReadOnly(_read_only(folder.parent, "so no store can be made in it")) from None


def _read_only(folder: Path, so: str) -> str:
    return (
        f"The folder {folder} cannot be written, {so}. "
        "Make it writable for this user, or name another store with --db."
    )


def _header(db: apsw.Connection) -> bytes:
    """The first 100 bytes, through SQLite's own descriptor and without a lock; none of a shorter file."""
    whole, header = db.read("main", 0, 0, 100)
    return bytes(header) if whole else b""


def _is_unborn(db: apsw.Connection, path: Path) -> bool:
    """Whether there is no store yet: an empty file, or the remains of a birth that was cut short."""
    # A log comes after the birth. Asked for first, it cannot be that of a birth which ends in between.
    logged = _has_content(path, "-wal")
    if path.stat().st_size == 0:
        if logged:
            raise Damaged(f"The store {path} is empty, but not its log. {RESTORE}")
        return True
    # A birth that lost power may leave pages of zeros; its journal, still there, takes them back.
    return not any(_header(db)) and _has_content(path, "-journal")


def _has_content(path: Path, suffix: str) -> bool:
    """Whether SQLite has a file of this kind, and something in it, beside the store."""
    try:
        return path.with_name(path.name + suffix).lstat().st_size > 0
    except FileNotFoundError:
        return False


def _check_header(db: apsw.Connection, path: Path) -> None:
    """Tell a store from everything else by its raw header, before SQLite does anything that could write."""
    header = _header(db)
    if not header.startswith(b"SQLite format 3\0"):
        raise NotADatabase(
            f"{path} is not an SQLite database. Move it away, or name another store with --db."
        )
    if int.from_bytes(header[68:72], "big") != schema.APPLICATION_ID:
        raise _foreign(path)


def _foreign(path: Path) -> ForeignFile:
    return ForeignFile(
        f"{path} is a database of another program, not a callboard store. Name another store with --db."
    )


def _check_version(db: apsw.Connection, path: Path) -> None:
    version = db.pragma("user_version")
    if version > schema.VERSION:
        raise NewerSchema(
            f"{path} has schema version {version}; this callboard knows versions up to {schema.VERSION}. "
            "Nothing was touched. Install a newer callboard."
        )


def _check_pages(db: apsw.Connection, path: Path) -> bool:
    """S15: structure, not payload; what it cannot see shows when it is read. False for a large store."""
    if path.stat().st_size > CHECK_LIMIT:
        return False
    kept = db.pragma("cache_size")
    db.pragma("cache_size", LOOKED_PAGES)
    try:
        finding = str(db.execute("PRAGMA quick_check(1)").get)
    except apsw.SQLError as error:
        finding = str(error)  # its words are fixed, so what they do not fit is the schema in the file
    finally:
        db.pragma("cache_size", kept)
    if finding != "ok":
        raise Damaged(f"The store {path} is damaged: {finding.splitlines()[-1]}. {RESTORE}")
    return True


def _check_schema(db: apsw.Connection, path: Path) -> None:
    """A store has exactly the schema of its version: no table is missing, no trigger was slipped in."""
    if odd := schema.drift(db):
        raise Damaged(
            f"The schema of {path} is not that of version {schema.VERSION}: look at {odd[0]}. {RESTORE}"
        )


def _check_fence(db: apsw.Connection, path: Path) -> None:
    """L2: a counter that is no number would begin anew, and one beyond what JSON carries would not rise."""
    if not (fence := _read(db, "store.fence", path)).isdecimal() or int(fence) > MOST_FENCE:
        raise Damaged(f"The store {path} has lost count of its fences: {fence[:40]!r}. {RESTORE}")


@contextmanager
def _write_lock(db: apsw.Connection, first: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """One transaction that has the write lock from its first statements on."""
    try:
        db.execute(first)
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _bear(
    db: apsw.Connection, path: Path, boot_id: str, now: datetime, new_store_id: Callable[[], str]
) -> bool:
    """Make the store in one transaction if nobody has by now; whether it was us.

    It is still in rollback mode then. Switching a file to WAL before it has tables, or with less than EXTRA,
    leaves a journal that can come back after a power cut and take the store away again: S6.
    """
    # This pragma writes the first page. Outside the transaction, a process killed between the two would leave
    # a database of nobody; inside, it must be the first to write, as it cannot change a page that is there.
    form = f"BEGIN; PRAGMA auto_vacuum = {schema.PRAGMAS['auto_vacuum']}"

    def attempt() -> bool:
        with _write_lock(db, form):
            if db.pragma("application_id") == schema.APPLICATION_ID:
                return False
            if db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get:
                raise _foreign(path)
            schema.create(db)
            _name(db, boot_id, now, new_store_id)
        return True

    return insist(attempt, BUSY_SECONDS, lambda: False)


def _name(db: apsw.Connection, boot_id: str, now: datetime, new_store_id: Callable[[], str]) -> None:
    """What a new store knows of itself from its first commit on."""
    _write(db, "store.id", new_store_id(), now)
    _write(db, "store.boot_id", boot_id, now)


def _write(db: apsw.Connection, key: str, value: str, now: datetime) -> None:
    db.execute(
        "INSERT INTO settings (key, value, updated_at) VALUES (:key, :value, :now) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        {"key": key, "value": json.dumps(value), "now": utc_text(now)},
    )


def _read(db: apsw.Connection, key: str, path: Path) -> str:
    value = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).get
    if value is None:
        raise Damaged(f"The store {path} has lost its setting {key}. {RESTORE}")
    return str(json.loads(value))


def _carry_over(db: apsw.Connection, boot_id: str, boot_ms: int, now: datetime) -> None:
    """After a reboot, move every deadline to the new boot clock, once."""

    def carried() -> bool:
        return bool(
            db.execute("SELECT value FROM settings WHERE key = 'store.boot_id'").get == json.dumps(boot_id)
        )

    if not carried():
        with _write_lock(db):
            if not carried():
                rebase(db, boot_ms=boot_ms, now=now)
                _write(db, "store.boot_id", boot_id, now)


def _set_journal_mode(db: apsw.Connection, wanted: str) -> None:
    def switch() -> None:
        if db.pragma("journal_mode") != wanted:
            db.pragma("journal_mode", wanted)

    insist(switch, BUSY_SECONDS, lambda: False)


# --- migrating ----------------------------------------------------------------------------------------------


def _migrate(
    db: apsw.Connection, path: Path, boot_id: str, now: datetime, new_store_id: Callable[[], str]
) -> int | None:
    """Bring an older store here, in one transaction; the version that it had, or None if it was this one.

    The version is read again under the write lock: of many processes that start at once, one migrates (S12).
    """
    if db.pragma("user_version") == schema.VERSION:
        return None

    def attempt() -> int | None:
        with _write_lock(db):
            return _bring_here(db, path, boot_id, now, new_store_id)

    return insist(attempt, MIGRATING_SECONDS, lambda: False)


def _bring_here(
    db: apsw.Connection, path: Path, boot_id: str, now: datetime, new_store_id: Callable[[], str]
) -> int | None:
    """The migration itself, under the write lock; None where somebody else was first."""
    before = version = db.pragma("user_version")
    if before == schema.VERSION:
        return None
    stamp = re.sub(r"\W", "", utc_text(now))
    copying.back_up(path, path.with_name(f"{path.name}.v{before}-{stamp}.backup"))
    _drop_old_backups(path)
    while step := MIGRATIONS.get(version):
        step(db)
        version = db.pragma("user_version")
    if before == 0:
        _name(db, boot_id, now, new_store_id)
    dangling = db.execute("SELECT * FROM pragma_foreign_key_check").get
    if version != schema.VERSION or dangling or schema.drift(db):
        raise MigrationFailed(
            f"The store {path} of version {before} could not be brought to version {schema.VERSION}; "
            "it is as it was. Go on with the callboard that wrote it, and report this."
        )
    return int(before)


def _drop_old_backups(path: Path) -> None:
    """Keep the newest copies; the time of each ends its name."""
    name = re.compile(re.escape(path.name) + r"\.v\d+-\w+\.backup")
    copies = [file for file in path.parent.iterdir() if name.fullmatch(file.name)]
    for copy in sorted(copies, key=lambda file: file.name.split("-")[-1])[:-BACKUPS_KEPT]:
        copy.unlink(missing_ok=True)
