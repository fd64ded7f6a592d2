"""Upkeep: what serving processes do for the store while nobody calls.

They anchor the ledger's end outside the store, fold a log that nobody writes into the file, and read the
whole store through once a day. Any number of processes may look; a lock, or one statement, lets one of them
do it.
"""

import json
import logging
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import apsw

from callboard import audit, connection, integrity
from callboard.clock import utc_text
from callboard.store import Command, Row, Store, Tx

CHECK_DAYS = 1
"""How often the whole store is read through."""

log = logging.getLogger(__name__)


class Marker(Row):
    value: str


CLAIM_CHECK = Command("""
    INSERT INTO settings (key, value, updated_at) VALUES ('store.integrity', :value, :at)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
     WHERE settings.updated_at <= :before
""")
RECORD_CHECK = Command("""
    UPDATE settings SET value = :value, updated_at = :at WHERE key = 'store.integrity'
""")
LAST_CHECK = Marker.query("SELECT value FROM settings WHERE key = 'store.integrity'")


async def anchor(store: Store, file: Path) -> audit.Anchor | None:
    """Tell the ledger's end to a file outside the store and to the log, if it is time. Raises the store's
    refusals, OSError, and ValueError for a file that holds something else."""
    known = audit.standing(await anyio.to_thread.run_sync(audit.read_anchors, file))
    tail = await store.read(audit.tail_of)  # read after the anchors, so it can only be further on
    if known and (tail is None or tail.seq < known[-1].seq):
        end = tail.seq if tail else 0
        log.error(
            "the ledger ends at %d, and %d was anchored: see callboard audit verify", end, known[-1].seq
        )
        return None
    written = await anyio.to_thread.run_sync(audit.anchor_if_due, file, tail) if tail else None
    if written is not None:
        log.info("ledger anchored: seq %d, hash %s, %s", written.seq, written.hash, written.at)
    return written


@dataclass(slots=True)
class IdleLog:
    """The store's log as it was seen last: one that has not grown since is idle."""

    store: Store
    seen: tuple[int, int] = (0, 0)

    async def fold(self) -> bool:
        """Fold an idle log into the store's file and cut it to nothing; whether that was done.

        SQLite's own lock lets one process do so at a time, and whoever reads or writes goes first. Raises
        apsw errors other than that the store is busy.
        """
        file = self.store.info.path.with_name(self.store.info.path.name + "-wal")
        try:
            stat = file.stat()
        except FileNotFoundError:
            return False
        before, self.seen = self.seen, (stat.st_size, stat.st_mtime_ns)
        if not stat.st_size or self.seen != before:
            return False
        return await anyio.to_thread.run_sync(self._truncate)

    def _truncate(self) -> bool:
        db = connection.connect(
            self.store.info.path,
            durability=self.store.durability,
            should_stop=lambda: False,
            busy_seconds=0.05,
        )
        with closing(db):
            try:
                db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                return False
        return True


async def check_daily(store: Store) -> list[integrity.Broken] | None:
    """Read the store through if no process has within a day; what is broken, or None where it was not time.

    Raises the store's refusals and apsw errors.
    """

    def claimed(tx: Tx) -> bool:
        before = utc_text(tx.wall - timedelta(days=CHECK_DAYS))
        return bool(tx.run(CLAIM_CHECK, value=json.dumps({"checking_since": tx.at}), at=tx.at, before=before))

    def examined() -> list[integrity.Broken]:
        with closing(store.connect()) as db:
            db.execute("BEGIN")
            return integrity.examine(db)

    if not await store.write(claimed):
        return None
    broken = await anyio.to_thread.run_sync(examined)
    result = [f"{one.rule}: {one.found}" for one in broken]
    for sentence in result:
        log.error("the store is not sound: %s", sentence)

    def recorded(tx: Tx) -> None:
        tx.run(RECORD_CHECK, value=json.dumps({"checked_at": tx.at, "broken": result}), at=tx.at)

    await store.write(recorded)
    return broken


async def last_check(store: Store) -> dict[str, object]:
    """What the last reading through found, and how long ago, for health; nothing where there was none."""

    def found(tx: Tx) -> dict[str, object]:
        marker = tx.one(LAST_CHECK)
        result = json.loads(marker.value) if marker else {}
        if "checked_at" not in result:
            return {}
        age = tx.wall - datetime.fromisoformat(result["checked_at"])
        return {
            "integrity_check_age_seconds": max(0, int(age.total_seconds())),
            "integrity_broken": result["broken"],
        }

    return await store.read(found)
