"""Checkup: the whole store is read through once a day, and after a process has not stopped in order.

One process of a store does it at a time, under a lease that lapses: one that is killed over it leaves the
checkup to another, and what the last one found stands until the next has ended. It reads on a connection and
in a thread of its own, on one snapshot: writers and answers share the processor with it, and wait for nothing
else.

Each process writes down that it serves and takes that back when it stops, so what is left there of a process
that is gone tells of an unclean stop, whatever ended it: a signal, a crash, or the power.
"""

import json
import logging
import threading
from contextlib import closing
from datetime import timedelta

import anyio

from callboard import about, integrity
from callboard.clock import utc_text
from callboard.errors import Refused, StoreCorrupt
from callboard.store import Command, Row, Store, Tx, typed

EVERY_DAYS = 1
"""How often the store is read through though every process has stopped in order."""

REST_SECONDS = 600
"""How long after one checkup no unclean stop brings the next: some clients kill their server every time."""

LEASE_MS = 600_000
"""How long a checkup may take until another process takes it for dead. Measured, SQLite's own part takes 3 s
of 316 MB that nobody has read lately."""

PROGRESS_STEPS = 10_000
"""After how many of SQLite's own steps it is asked whether the reading was given up: within a millisecond."""

DAMAGE = "integrity_check found damage"

log = logging.getLogger(__name__)


class Marker(Row):
    value: str


# A result from the future was written by a clock that was set back since, and is of no known age.
_DUE = """
    (NOT EXISTS (SELECT 1 FROM settings WHERE key = 'store.integrity' AND updated_at > :day_ago
                    AND updated_at <= :at)
     OR EXISTS (SELECT 1 FROM settings WHERE key = 'store.unclean')
        AND NOT EXISTS (SELECT 1 FROM settings WHERE key = 'store.integrity' AND updated_at > :rested
                           AND updated_at <= :at))
"""
DUE = Marker.query(f"SELECT 'due' AS value WHERE {_DUE}")
CLAIM = Command(f"""
    INSERT INTO settings (key, value, updated_at)
    SELECT 'store.checkup', json_object('process_id', :process_id, 'until_boot_ms', :until), :at WHERE {_DUE}
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
     WHERE CAST(settings.value ->> 'until_boot_ms' AS INTEGER) <= :now
""")
RECORD = Command("""
    INSERT INTO settings (key, value, updated_at) VALUES ('store.integrity', :value, :at)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
""")
RELEASE = Command("""
    DELETE FROM settings WHERE key = 'store.checkup' AND value ->> 'process_id' = :process_id
""")
UNCLEAN = Marker.query("SELECT value FROM settings WHERE key = 'store.unclean'")
MARK_UNCLEAN = Command("""
    INSERT INTO settings (key, value, updated_at)
    VALUES ('store.unclean', json_object('at', :at, 'process_id', :process_id), :at)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
""")
FORGET_UNCLEAN = Command("DELETE FROM settings WHERE key = 'store.unclean' AND value = :seen")


def stopped_uncleanly(tx: Tx, process_id: str) -> None:
    """A process is gone that has not stopped in order; the store is to be read through."""
    tx.run(MARK_UNCLEAN, process_id=process_id, at=tx.at)


async def look(store: Store) -> list[integrity.Broken] | None:
    """Read the store through if it is time and nobody else does; what is broken, or None where it was not
    time. Damaged pages end all writing of this process, and nothing more is written, the result included:
    every other process finds them by a look of its own.

    Raises the store's refusals.
    """
    if not await store.read(lambda tx: tx.one(DUE, **_times(tx))):
        return None
    given_up = threading.Event()
    try:
        if (seen := await store.write(_claimed)) is None:
            return None
        broken = await anyio.to_thread.run_sync(_examined, store, given_up, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        # The process is about to stop, which must not wait for a large store; another one begins anew.
        given_up.set()
        store.post(_released)
        raise
    except Refused:
        raise
    except Exception as error:
        if isinstance(refusal := typed(error), StoreCorrupt):
            raise store.condemn(DAMAGE) from error
        raise refusal from error
    result = [f"{one.rule}: {one.found}" for one in broken]
    for sentence in result:
        log.error("the store is not sound: %s", sentence)
    if any(one.rule == integrity.PAGES for one in broken):
        store.condemn(DAMAGE)
        return broken

    def recorded(tx: Tx) -> None:
        tx.run(RECORD, value=json.dumps({"checked_at": tx.at, "broken": result}), at=tx.at)
        tx.run(FORGET_UNCLEAN, seen=seen)
        _released(tx)

    await store.write(recorded)
    return broken


async def last(store: Store) -> dict[str, object]:
    """What the last checkup found and how long ago, and what has happened since, for health."""
    return (await store.read(about.last_checkup)).as_data()


def _claimed(tx: Tx) -> str | None:
    """Take the lease if it is time and nobody has it: the unclean stop that was known by then, or an empty
    text for none. None for whoever comes too late."""
    until = tx.now + LEASE_MS
    if not tx.run(CLAIM, process_id=tx.process_id, until=until, now=tx.now, **_times(tx)):
        return None
    marker = tx.one(UNCLEAN)
    return marker.value if marker else ""


def _released(tx: Tx) -> None:
    tx.run(RELEASE, process_id=tx.process_id)


def _times(tx: Tx) -> dict[str, str]:
    return {
        "at": tx.at,
        "day_ago": utc_text(tx.wall - timedelta(days=EVERY_DAYS)),
        "rested": utc_text(tx.wall - timedelta(seconds=REST_SECONDS)),
    }


def _examined(store: Store, given_up: threading.Event) -> list[integrity.Broken]:
    """What is broken, as of now. Raises apsw errors, InterruptError once it was given up."""
    with closing(store.connect()) as db:
        db.set_progress_handler(given_up.is_set, PROGRESS_STEPS)
        db.execute("BEGIN")
        return integrity.examine(db)
