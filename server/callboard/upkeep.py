"""Upkeep: what serving processes do for the store while nobody calls.

They anchor the ledger's end outside the store, and fold a log that nobody writes into the file. Any number of
processes may look; a lock lets one of them do it.
"""

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import anyio
import apsw

from callboard import audit, connection
from callboard.store import Store

log = logging.getLogger(__name__)


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
