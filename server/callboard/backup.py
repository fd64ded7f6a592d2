"""Backups: a copy of the store that is known to be good, and the way back to one.

A copy is made through SQLite, in one step, from one moment of the store, and is only called a backup once it
has been read through. A restored store is an earlier one: what was promised since then is unknown to it, so
its fences move on by a million, and its leases are treated as after a reboot.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import apsw

from callboard import audit, copying, integrity, schema, storefile
from callboard.clock import Clock, utc_text
from callboard.connection import open_hardened
from callboard.reboot import rebase
from callboard.unusable import Busy, Damaged, NewerSchema, Unusable, refusals

Maker = Callable[[Path], None]
"""Makes a store at a path."""
Looker = Callable[[apsw.Connection, apsw.Connection], None]
"""Looks at a store and at its copy."""

FENCE_STEP = 1_000_000
"""How far a restored store's fences are ahead of its own: more than is ever granted after a backup (L2)."""

RAISE_FENCE = """
    UPDATE settings SET value = CAST(CAST(value AS INTEGER) + :step AS TEXT), updated_at = :now
     WHERE key = 'store.fence'
"""
SET_BOOT = """
    UPDATE settings SET value = json_quote(:boot_id), updated_at = :now WHERE key = 'store.boot_id'
"""


class NotRestored(Unusable):
    """A restore or an import that must not be done; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A backup that was made."""

    path: Path
    bytes: int
    rows: int
    last_seq: int
    """The end of the ledger in the copy."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A store that was put in its place."""

    path: Path
    store_id: str
    rows: int
    replaced: Path | None
    """Where the store went that was there before."""


def back_up(source: Path, target: Path) -> Copied:
    """Copy the store at `source` to `target` while others work on it. Nothing appears at `target` before the
    copy was compared with the store, read through and brought to disk; it is its owner's alone to read.

    Raises `Unusable`, and FileExistsError where something stands at `target`.
    """
    if target.exists() or target.is_symlink():
        raise FileExistsError(f"{target} is there already; a backup replaces nothing.")
    compared: list[tuple[int, int]] = []

    def compare(there: apsw.Connection, here: apsw.Connection) -> None:
        if (rows := integrity.counts(here)) != integrity.counts(there):
            raise Damaged(f"The copy of {source} has not as many rows as the store; it was thrown away.")
        check(here, source)
        last = here.execute("SELECT coalesce(max(id), 0) FROM activity_log").get
        compared.append((sum(rows.values()), int(last)))

    _check_is_store(source)
    with refusals(source):
        copying.back_up(source, target, compare)
    [(rows, last_seq)] = compared
    return Copied(target, target.stat().st_size, rows, last_seq)


def restore(source: Path, path: Path, *, clock: Clock) -> Restored:
    """Put the backup at `source` in the place of the store at `path`, while no server runs there. The store
    that was there stays beside it. An older backup is migrated by the next start.

    Raises `Unusable`, and then has changed nothing.
    """
    _check_is_store(source)
    with refusals(source):
        return place(path, clock, lambda draft: copying.back_up(source, draft, _sound(source)))


def place(path: Path, clock: Clock, make: Maker) -> Restored:
    """Have a store made beside `path`, ready to take over there, and let it take over."""
    path, _ = storefile.locate(path)
    draft = path.with_name(f".{path.name}.restored.{os.getpid()}")
    try:
        make(draft)
        now = clock.now()
        with copying.opened(draft) as db:
            _renew(db, clock, now)
            store_id = str(db.execute("SELECT value ->> '$' FROM settings WHERE key = 'store.id'").get)
            rows = sum(integrity.counts(db).values())
        with draft.open("rb") as file:  # no connection knows the draft now
            os.fsync(file.fileno())
        with _alone(path):
            aside = _put_aside(path, now)
            draft.replace(path)
            copying.sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return Restored(path, store_id, rows, aside)


def check(db: apsw.Connection, source: Path) -> None:
    """Raises `Damaged` where a store breaks one of its own rules."""
    if broken := integrity.examine(db):
        first = broken[0]
        raise Damaged(f"{source} is not sound: {first.rule}: {first.found}. callboard integrity tells more.")


def anchor_restored(file: Path, path: Path, now: datetime) -> None:
    """Tell the anchors that the store's ledger was taken back on purpose, to where it ends now."""
    with closing(open_hardened(path, 5.0, lambda: False)) as db:
        db.pragma("query_only", True)
        row = db.execute("SELECT id, entry_hash FROM activity_log ORDER BY id DESC LIMIT 1").fetchone()
    if row is not None:
        audit.write_anchor(file, audit.Anchor(row[0], row[1].hex(), utc_text(now), restored=True))


def _check_is_store(source: Path) -> None:
    """Raises `Unusable` for a file that is no store of this version or an earlier one."""
    with refusals(source):
        if not source.is_file():
            raise NotRestored(f"There is no store at {source}.")
        with closing(open_hardened(source, 5.0, lambda: False)) as db:
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            if db.pragma("application_id") != schema.APPLICATION_ID:
                raise NotRestored(f"{source} is not a store of callboard.")
            if (version := db.pragma("user_version")) > schema.VERSION:
                raise NewerSchema(
                    f"{source} has schema version {version}; this callboard knows versions up to "
                    f"{schema.VERSION}. Install a newer callboard."
                )


def _sound(source: Path) -> Looker:
    def look(there: apsw.Connection, here: apsw.Connection) -> None:
        if here.pragma("user_version") == schema.VERSION:
            check(here, source)

    return look


def _renew(db: apsw.Connection, clock: Clock, now: datetime) -> None:
    """What an earlier store must know before anybody works on it again."""
    told = {"now": utc_text(now), "step": FENCE_STEP, "boot_id": clock.boot_id}
    db.execute("BEGIN IMMEDIATE")
    db.execute(RAISE_FENCE, told)
    if not db.changes():
        raise Damaged("The backup has no fence counter; nothing was changed.")
    rebase(db, boot_ms=clock.boot_ms(), now=now)
    db.execute(SET_BOOT, told)
    db.execute("COMMIT")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else has the store at `path` open, until the block ends. Raises `Busy` where somebody has.

    Leaving WAL mode needs the file to oneself, whoever runs the others and in whatever container, and leaves
    one file behind that holds everything. A file that is too damaged for that is nobody's to keep: servers
    that still have it open see that it was moved, and write no more.
    """
    if not path.exists():
        yield
        return
    with closing(open_hardened(path, 0.5, lambda: False)) as db:
        try:
            db.pragma("journal_mode", "delete")
            db.pragma("locking_mode", "exclusive")
            db.execute("BEGIN EXCLUSIVE")
        except apsw.BusyError:
            raise Busy(
                f"A server is running on {path}. Stop every client and server of it, then do this again; "
                "nothing was changed."
            ) from None
        except (apsw.CorruptError, apsw.NotADBError):
            pass
        yield


def _put_aside(path: Path, now: datetime) -> Path | None:
    """Give the store that is there a second name, which tells the time. Its own name goes over to the new
    store in one step, so that no server that starts meanwhile finds nothing there and makes an empty one. A
    log that a damaged store has left must be out of the way before."""
    if not path.exists():
        return None
    stamp = re.sub(r"\W", "", utc_text(now))
    aside = path.with_name(f"{path.name}.replaced-{stamp}")
    for suffix in ("-wal", "-journal"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    aside.hardlink_to(path)
    return aside
