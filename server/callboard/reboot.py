"""After a reboot: the deadlines of the old boot clock, carried over to the new one.

A boot clock starts anew with the host, so the integers of an earlier boot mean nothing. Beside each deadline
stands its time on the wall clock, which is what is left to go by.
"""

from __future__ import annotations

from datetime import datetime

import apsw

from callboard.clock import utc_text

__all__ = ["CARRY_OVER", "rebase"]


def _until(column: str) -> str:
    """Milliseconds from now to a time in text: negative where it is over, NULL where there is none."""
    return f"CAST(round((unixepoch({column}, 'subsec') - unixepoch(:now, 'subsec')) * 1000) AS INTEGER)"


def _lease(table: str, *, holder: str, ttl: str, ends: str, ends_at: str, moving: tuple[str, ...]) -> str:
    """A kind of lease. Those of agents that had signed in through a stdio process are over, as that process
    is gone. The others keep their end on the wall clock and get one more term, since their holders may not
    know of the reboot. What else counts from the same clock moves along with the end."""
    gone = f"""{holder} IN (SELECT agent_id FROM _agent_processes)"""
    left = f"iif({gone}, 0, max(0, {_until(ends_at)} + {ttl}))"
    later = f"strftime('%Y-%m-%dT%H:%M:%fZ', :now, format('+%.3f seconds', {left} / 1000.0))"
    others = "".join(f", {column} = {column} - {ends} + :boot_ms + {left}" for column in moving)
    return f"""
        UPDATE {table}
           SET {ends} = :boot_ms + {left},
               {ends_at} = iif({left}, {later}, min({ends_at}, :now)){others}
         WHERE {ends} IS NOT NULL"""


def _lock(table: str) -> str:
    return _lease(
        table,
        holder="agent_id",
        ttl="ttl_ms",
        ends="expires_boot_ms",
        ends_at="expires_at",
        moving=("granted_boot_ms", "renew_until_boot_ms"),
    )


CARRY_OVER: tuple[str, ...] = (
    _lock("file_locks"),
    _lock("_lock_holders"),
    _lease(
        "dag_tasks",
        holder="assigned_agent_id",
        ttl="lease_ttl_ms",
        ends="lease_boot_ms",
        ends_at="lease_expires_at",
        moving=("renew_until_boot_ms",),
    ),
    # A place in the queue (enqueued_, call_until_, queue_until_boot_ms) ends with the call and the agent
    # behind it; its paths are named, as references are not enforced before a store is ready.
    "DELETE FROM _lock_waiter_paths",
    "DELETE FROM _lock_waiters",
    # A path rests for seconds (until_boot_ms), less than a boot takes.
    "DELETE FROM _lock_delays",
    # Nobody is left who would read what was told (created_boot_ms). The ids are not given out again.
    "DELETE FROM _events",
    # A process that had not stopped in order went down with the host, so the store is to be read through.
    # Whoever was reading it went down too.
    """INSERT INTO settings (key, value, updated_at)
       SELECT 'store.unclean', json_object('at', :now, 'process_id', process_id), :now FROM _processes
        WHERE ended_at IS NULL AND gone_boot_ms IS NULL LIMIT 1
           ON CONFLICT (key) DO NOTHING""",
    "DELETE FROM settings WHERE key = 'store.checkup'",
    "UPDATE _processes SET gone_boot_ms = :boot_ms",
    "UPDATE agent_roster SET last_seen_boot_ms = 0, signed_in_boot_ms = 0",
    # Whoever was resuming a session went down with the host.
    "UPDATE project_sessions SET claim_boot_ms = :boot_ms WHERE claim_boot_ms IS NOT NULL",
    # A client may repeat a call after the reboot that took its answer: the newest key begins its day anew,
    # and the others are as much older as they were.
    """UPDATE _request_keys
          SET created_boot_ms = created_boot_ms + :boot_ms
                              - (SELECT max(created_boot_ms) FROM _request_keys)""",
    f"UPDATE timers SET fire_boot_ms = :boot_ms + max(0, {_until('fire_at')}) WHERE status = 'pending'",
    f"""UPDATE message_queue
           SET visible_boot_ms = coalesce(:boot_ms + max(0, {_until("visible_at")}), 0),
               expires_boot_ms = :boot_ms + max(0, {_until("expires_at")})
         WHERE status = 'queued'""",
)
"""One statement for each kind of deadline. `:boot_ms` is now on the new boot clock, `:now` on the wall
clock."""


def rebase(db: apsw.Connection, *, boot_ms: int, now: datetime) -> None:
    """Carry every deadline over to the boot that began `boot_ms` milliseconds ago. The caller owns the
    transaction."""
    for statement in CARRY_OVER:
        db.execute(statement, {"boot_ms": boot_ms, "now": utc_text(now)})
