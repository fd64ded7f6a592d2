"""Retention: what is over leaves the store when its time is up.

Only what has ended is ever deleted: nothing that is queued, pending or held, and nothing of a crew whose
session is live. The ledger's oldest entries leave as a sealed segment: a file of their own with the hash that
the chain goes on from, and counts of each day stay. Deleting goes in short transactions, so nobody waits.
"""

import json
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import anyio
import apsw

from callboard import audit, copying
from callboard.clock import utc_text
from callboard.dispatch import settle
from callboard.domains.projects import SETTINGS
from callboard.events import Event
from callboard.identity import Caller
from callboard.store import Command, Query, Row, Store, Tx

BATCH = 2_000
"""Rows that one transaction deletes."""

_LIVE = "(SELECT lead_id FROM project_sessions WHERE status IN ('active', 'resuming'))"


class Counted(Row):
    number: int


class Segment(Row):
    """The entries that may be sealed: from behind the last seal to the last one that is old enough."""

    first_seq: int
    last_seq: int


class LastHash(Row):
    entry_hash: bytes


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows of a table leave, and by which setting."""

    setting: str
    table: str
    key: str
    over: str
    """The condition, with `:before` for the time that they must have ended by."""

    @property
    def count(self) -> Query[Counted]:
        return Counted.query(f"SELECT count(*) AS number FROM {self.table} WHERE {self.over}")

    @property
    def delete(self) -> Command:
        chosen = f"SELECT {self.key} FROM {self.table} WHERE {self.over} LIMIT {BATCH}"
        return Command(f"DELETE FROM {self.table} WHERE {self.key} IN ({chosen})")


RULES: Mapping[str, Rule] = {
    "delivered messages": Rule(
        "retention.delivered_days",
        "message_queue",
        "id",
        f"status = 'delivered' AND delivered_at < :before AND lead_id NOT IN {_LIVE}",
    ),
    "expired messages": Rule(
        "retention.expired_days",
        "message_queue",
        "id",
        f"status = 'expired' AND expired_at < :before AND lead_id NOT IN {_LIVE}",
    ),
    "ended timers": Rule(
        "retention.timers_days",
        "timers",
        "id",
        f"status IN ('fired', 'cancelled') AND ended_at < :before AND coalesce(lead_id, '') NOT IN {_LIVE}",
    ),
}
"""What leaves by its age, beside the ledger's entries."""

COUNT = {name: rule.count for name, rule in RULES.items()}
DELETE = {name: rule.delete for name, rule in RULES.items()}

ACTIVITY = "retention.activity_days"
ENTRIES = "ledger entries"

# The tail stays, as the next entry follows on it.
SEGMENT = Segment.query(f"""
    SELECT first_seq, last_seq
      FROM (SELECT coalesce((SELECT max(last_seq) FROM _activity_seals), 0) + 1 AS first_seq,
                   coalesce((SELECT min(id) FROM activity_log
                              WHERE timestamp >= :before OR lead_id IN {_LIVE}
                                 OR id = (SELECT max(id) FROM activity_log)), 1) - 1 AS last_seq)
     WHERE last_seq >= first_seq
""")
NEXT = Counted.query("SELECT coalesce(max(last_seq), 0) + 1 AS number FROM _activity_seals")
LAST_HASH = LastHash.query("SELECT entry_hash FROM activity_log WHERE id = :seq")
SEAL = Command("""
    INSERT INTO _activity_seals (first_seq, last_seq, last_hash, sealed_at)
    VALUES (:first_seq, :last_seq, :last_hash, :at)
""")
FOLD = Command("""
    INSERT INTO _activity_days (day, project_id, lead_id, action_type, entries)
    SELECT substr(timestamp, 1, 10), coalesce(project_id, ''), lead_id, action_type, count(*)
      FROM activity_log WHERE id BETWEEN :first_seq AND :last_seq
     GROUP BY 1, 2, 3, 4
    ON CONFLICT (day, project_id, lead_id, action_type) DO UPDATE
       SET entries = _activity_days.entries + excluded.entries
""")
DROP_SEALED = Command(f"""
    DELETE FROM activity_log
     WHERE id IN (SELECT id FROM activity_log
                   WHERE id <= (SELECT max(last_seq) FROM _activity_seals) ORDER BY id LIMIT {BATCH})
""")


@dataclass(slots=True)
class Pruned:
    """What left, or would leave, and what the store weighs."""

    rows: dict[str, int] = field(default_factory=dict)
    segment: Path | None = None
    """The file of the entries that left the ledger."""
    bytes_before: int = 0
    bytes_after: int = 0


async def look(store: Store, days: int | None = None) -> Pruned:
    """What a prune would delete now. `days` stands for every limit that is longer."""

    def counted(tx: Tx) -> Pruned:
        found = Pruned()
        for name, rule in RULES.items():
            row = tx.one(COUNT[name], before=before(tx, rule.setting, days))
            found.rows[name] = row.number if row else 0
        segment = tx.one(SEGMENT, before=before(tx, ACTIVITY, days))
        found.rows[ENTRIES] = segment.last_seq - segment.first_seq + 1 if segment else 0
        return found

    found = await store.read(counted)
    found.bytes_before = found.bytes_after = store.info.path.stat().st_size
    return found


async def prune(store: Store, caller: Caller, days: int | None = None) -> Pruned:
    """Delete what is over, seal what is old of the ledger, and give the space back.

    Raises the store's refusals, and OSError where the segment cannot be written; the ledger is whole then.
    """
    done = Pruned(bytes_before=store.info.path.stat().st_size)
    for name, rule in RULES.items():
        done.rows[name] = await _drained(store, DELETE[name], rule.setting, days)
    segment = await store.read(lambda tx: tx.one(SEGMENT, before=before(tx, ACTIVITY, days)))
    if segment is not None:
        done.segment = await anyio.to_thread.run_sync(_export, store, segment)
        await store.write(lambda tx: _seal(tx, caller, segment))
    done.rows[ENTRIES] = await _drained(store, DROP_SEALED, None, None)
    if any(done.rows.values()):
        await store.write(lambda tx: _told(tx, caller, done.rows))
    await anyio.to_thread.run_sync(_shrink, store)
    done.bytes_after = store.info.path.stat().st_size
    return done


def before(tx: Tx, setting: str, days: int | None) -> str:
    """The time by which a row must have ended, as text."""
    limit = int(tx.setting(setting, SETTINGS[setting].default))
    return utc_text(tx.wall - timedelta(days=limit if days is None else min(limit, days)))


async def _drained(store: Store, command: Command, setting: str | None, days: int | None) -> int:
    def batch(tx: Tx) -> int:
        return tx.run(command, **({"before": before(tx, setting, days)} if setting else {}))

    total = 0
    while gone := await store.write(batch):
        total += gone
    return total


def _seal(tx: Tx, caller: Caller, segment: Segment) -> None:
    """Close a segment that was exported and count what it holds, unless another prune was first."""
    first, last = segment
    behind, end = tx.one(NEXT), tx.one(LAST_HASH, seq=last)
    if behind is None or behind.number != first or end is None:
        return
    tx.run(SEAL, first_seq=first, last_seq=last, last_hash=end.entry_hash, at=tx.at)
    tx.run(FOLD, first_seq=first, last_seq=last)
    summary = f"sealed the ledger's entries {first} to {last}"
    details = {"first_seq": first, "last_seq": last, "last_hash": end.entry_hash.hex()}
    tx.tell(Event("history", "activity_sealed", summary, details=details))
    settle(tx, caller)


def _told(tx: Tx, caller: Caller, rows: Mapping[str, int]) -> None:
    gone = {name: count for name, count in rows.items() if count}
    said = ", ".join(f"{count} {name}" for name, count in gone.items())
    tx.tell(Event("history", "rows_pruned", f"pruned {said}", details={"rows": gone}))
    settle(tx, caller)


def _export(store: Store, segment: Segment) -> Path:
    """The entries of a segment in a file beside the store, found to be a whole part of the chain."""
    path = store.info.path
    target = path.with_name(f"{path.name}.activity-{segment.first_seq}-{segment.last_seq}.jsonl")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with closing(store.connect()) as db, draft.open("x", encoding="utf-8") as file:
            draft.chmod(0o600)
            db.execute("BEGIN")
            for line in audit.segment(db, segment.last_seq):
                file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        copying.sync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _shrink(store: Store) -> None:
    """Give freed pages back to the file system, a thousand in each transaction, and fold the log."""
    with closing(store.connect(readonly=False)) as db:
        left = db.pragma("freelist_count")
        while left:
            db.execute("PRAGMA incremental_vacuum(1000)").fetchall()  # each step frees one page
            before, left = left, db.pragma("freelist_count")
            if left >= before:
                break  # somebody frees as fast
        db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
