"""Tickets: who waits for which paths, as it is kept.

A ticket lives as long as its call waits, by a short lease that the waiting call renews, or as long as its
place is kept.
"""

import hashlib
from typing import Literal, NamedTuple

from callboard.domains.locks.leases import Mode
from callboard.lockname import neighbourhood, overlap
from callboard.store import Command, Row, Tx

CALL_LEASE_MS = 2_000
"""How long a waiting call's ticket outlives its last sign of life; twice the time between two signs."""

SIGN_OF_LIFE_MS = CALL_LEASE_MS // 2

RESUMABLE_MS = 10_000
"""How long a call that fell silent, for a stall of its process, may take its place up again. Meanwhile
the place blocks nobody and is granted nothing."""


class Request(NamedTuple):
    """What an agent asks for: some paths, all or none, in one mode."""

    agent_id: str
    agent_role: str
    project_id: str
    lead_id: str
    names: tuple[str, ...]
    mode: Mode
    ttl_ms: int
    reason: str
    task_id: str | None
    files: frozenset[str] = frozenset()
    """Those of the paths that name single files."""

    @property
    def digest(self) -> str:
        """Names the request: the same agent asking for the same again resumes its place."""
        return hashlib.sha256("\n".join((self.mode, *sorted(self.names))).encode()).hexdigest()


class Blocker(NamedTuple):
    """What stands against one path of a request, and until when at most."""

    by: Literal["holder", "waiter", "delay"]
    wanted: str
    file_path: str
    agent_id: str
    mode: Mode
    until_boot_ms: int
    agent_role: str = ""
    reason: str = ""


class Ticket(Row):
    ticket: int
    agent_id: str
    agent_role: str
    project_id: str
    lead_id: str
    mode: Mode
    reason: str
    ttl_ms: int
    task_id: str | None
    enqueued_boot_ms: int
    call_until_boot_ms: int
    queue_until_boot_ms: int


class WaitingPath(Row):
    ticket: int
    agent_id: str
    agent_role: str
    mode: Mode
    reason: str
    file_path: str
    enqueued_at: str
    enqueued_boot_ms: int
    call_until_boot_ms: int
    queue_until_boot_ms: int


class Name(Row):
    file_path: str
    is_file: int


class Due(Row):
    boot_ms: int | None
    in_line: int


class Resting(Row):
    file_path: str
    agent_id: str
    until_boot_ms: int


COLUMNS = ", ".join(Ticket.columns())
OWN = Ticket.query(f"SELECT {COLUMNS} FROM _lock_waiters WHERE agent_id = :agent_id AND request = :request")
TICKETS_OF = Ticket.query(f"SELECT {COLUMNS} FROM _lock_waiters WHERE agent_id = :agent_id")
NAMES = Name.query(
    "SELECT file_path, is_file FROM _lock_waiter_paths WHERE ticket = :ticket ORDER BY file_path"
)
WAITING_NEAR = WaitingPath.query("""
    SELECT w.ticket, w.agent_id, w.agent_role, w.mode, w.reason, p.file_path, w.enqueued_at,
           w.enqueued_boot_ms, w.call_until_boot_ms, w.queue_until_boot_ms
      FROM _lock_waiter_paths AS p JOIN _lock_waiters AS w ON w.ticket = p.ticket
     WHERE (p.prefix IN (SELECT value FROM json_each(:above)) OR (p.prefix > :at AND p.prefix < :beyond))
       AND (w.call_until_boot_ms > :now OR w.queue_until_boot_ms > :now)
     ORDER BY w.ticket
""")
KEPT_NEAR = Ticket.query(f"""
    SELECT {COLUMNS} FROM _lock_waiters
     WHERE call_until_boot_ms <= :now AND queue_until_boot_ms > :now
       AND ticket IN (SELECT ticket FROM _lock_waiter_paths
                       WHERE prefix IN (SELECT value FROM json_each(:above))
                          OR (prefix > :at AND prefix < :beyond))
     ORDER BY ticket
""")
ENTER = Ticket.query(f"""
    INSERT INTO _lock_waiters
           (agent_id, agent_role, project_id, lead_id, mode, request, reason, ttl_ms, task_id,
            enqueued_at, enqueued_boot_ms, call_until_boot_ms, queue_until_boot_ms)
    VALUES (:agent_id, :agent_role, :project_id, :lead_id, :mode, :request, :reason, :ttl_ms, :task_id,
            :at, :now, :call_until, :queue_until)
    ON CONFLICT (agent_id, request) DO UPDATE
       SET reason = excluded.reason, ttl_ms = excluded.ttl_ms, task_id = excluded.task_id,
           call_until_boot_ms = excluded.call_until_boot_ms, lapsed_boot_ms = 0,
           queue_until_boot_ms = max(_lock_waiters.queue_until_boot_ms, excluded.queue_until_boot_ms)
    RETURNING {COLUMNS}
""")
ENTER_PATH = Command("""
    INSERT INTO _lock_waiter_paths (ticket, file_path, prefix, is_file)
    VALUES (:ticket, :file_path, :prefix, :is_file)
    ON CONFLICT DO NOTHING
""")
HANG_UP = Command("UPDATE _lock_waiters SET call_until_boot_ms = 0 WHERE ticket = :ticket")
LEAVE = Command("DELETE FROM _lock_waiters WHERE ticket = :ticket")
LAPSE = Ticket.query(f"""
    UPDATE _lock_waiters SET lapsed_boot_ms = :now
     WHERE lapsed_boot_ms = 0 AND call_until_boot_ms <= :now AND queue_until_boot_ms <= :now
    RETURNING {COLUMNS}
""")
LOST = Ticket.query(f"""
    SELECT {COLUMNS} FROM _lock_waiters WHERE lapsed_boot_ms > 0 AND lapsed_boot_ms <= :before
""")
HANG_UP_LOST = Ticket.query(f"""
    UPDATE _lock_waiters SET call_until_boot_ms = 0
     WHERE call_until_boot_ms > 0 AND call_until_boot_ms <= :now AND queue_until_boot_ms > :now
    RETURNING {COLUMNS}
""")
RESTING_NEAR = Resting.query("""
    SELECT file_path, agent_id, until_boot_ms FROM _lock_delays
     WHERE (prefix IN (SELECT value FROM json_each(:above)) OR (prefix > :at AND prefix < :beyond))
       AND until_boot_ms > :now
""")
REST = Command("""
    INSERT INTO _lock_delays (file_path, prefix, until_boot_ms, agent_id)
    VALUES (:file_path, :prefix, :until, :agent_id)
    ON CONFLICT (file_path) DO UPDATE SET until_boot_ms = excluded.until_boot_ms, agent_id = excluded.agent_id
""")
REST_OVER = Resting.query("""
    DELETE FROM _lock_delays WHERE until_boot_ms <= :now RETURNING file_path, agent_id, until_boot_ms
""")
NEXT_DUE = Due.query(f"""
    SELECT min(boot_ms) AS boot_ms, sum(in_line) AS in_line
      FROM (SELECT min(expires_boot_ms) AS boot_ms, 0 AS in_line FROM file_locks
            UNION ALL SELECT min(expires_boot_ms), 0 FROM _lock_holders
            UNION ALL SELECT min(iif(lapsed_boot_ms > 0, lapsed_boot_ms + {RESUMABLE_MS},
                                     iif(call_until_boot_ms > 0, call_until_boot_ms, queue_until_boot_ms))),
                             count(*)
                        FROM _lock_waiters
            UNION ALL SELECT min(until_boot_ms), count(*) FROM _lock_delays)
""")


def own_ticket(tx: Tx, request: Request) -> Ticket | None:
    """The place that this agent has for this request."""
    return tx.one(OWN, agent_id=request.agent_id, request=request.digest)


def waiting_near(tx: Tx, name: str) -> list[WaitingPath]:
    """Who waits for something that `name` overlaps, in order."""
    return [
        waiting
        for waiting in tx.all(WAITING_NEAR, now=tx.now, **neighbourhood(name))
        if overlap(waiting.file_path, name)
    ]


def rests_until(tx: Tx, name: str, *, but: str) -> int:
    """Until when a path rests for everybody but one agent; 0 when it does not."""
    return max(
        (
            rest.until_boot_ms
            for rest in tx.all(RESTING_NEAR, now=tx.now, **neighbourhood(name))
            if rest.agent_id != but and overlap(rest.file_path, name)
        ),
        default=0,
    )


def request_of(tx: Tx, ticket: Ticket) -> Request:
    """The request that a ticket stands for."""
    names = tx.all(NAMES, ticket=ticket.ticket)
    return Request(
        ticket.agent_id,
        ticket.agent_role,
        ticket.project_id,
        ticket.lead_id,
        tuple(name.file_path for name in names),
        ticket.mode,
        ticket.ttl_ms,
        ticket.reason,
        ticket.task_id,
        frozenset(name.file_path for name in names if name.is_file),
    )
