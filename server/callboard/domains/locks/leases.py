"""Leases: what is held, by whom, until when.

They are kept under canonical names (`lockname`), of whose neighbourhood an index finds what could conflict.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from callboard.events import Event
from callboard.lockname import cover, neighbourhood, overlap, prefix_of, shown
from callboard.store import Command, Query, Row, Tx

Mode = Literal["exclusive", "shared"]

MAX_HOLD_MS = 4 * 3600 * 1000
"""How long a lease renews itself after the grant or the last renewal that its holder asked for: a
client that stays connected for ever must not hold for ever."""

TABLES: Mapping[Mode, str] = {"exclusive": "file_locks", "shared": "_lock_holders"}


class Lease(Row):
    file_path: str
    agent_id: str
    agent_role: str
    reason: str
    acquired_at: str
    expires_at: str
    project_id: str
    prefix: str
    fence: int
    ttl_ms: int
    granted_boot_ms: int
    expires_boot_ms: int
    renew_until_boot_ms: int
    task_id: str | None
    mode: Mode

    @property
    def path(self) -> str:
        """The path as agents know it."""
        return shown(self.file_path)


COLUMNS = ", ".join(Lease.columns()[:-1])


# The unary plus keeps the planner on the prefix, of which an index finds the few that matter.
NEAR = Lease.query(f"""
    SELECT {COLUMNS}, mode FROM _leases
     WHERE prefix IN (SELECT value FROM json_each(:above)) AND +expires_boot_ms > :now AND +agent_id <> :but
    UNION ALL
    SELECT {COLUMNS}, mode FROM _leases
     WHERE prefix > :at AND prefix < :beyond AND +expires_boot_ms > :now AND +agent_id <> :but
""")
OWN_ABOVE = Lease.query(f"""
    SELECT {COLUMNS}, mode FROM _leases
     WHERE prefix IN (SELECT value FROM json_each(:above))
       AND +expires_boot_ms > :now AND +agent_id = :agent_id
""")
HELD_BY = Lease.query(f"""
    SELECT {COLUMNS}, mode FROM _leases WHERE agent_id = :agent_id AND +expires_boot_ms > :now
""")
HELD_AT = Lease.query(f"""
    SELECT {COLUMNS}, mode FROM _leases WHERE file_path = :file_path AND +expires_boot_ms > :now
""")
OWN_AT = Lease.query(f"""
    SELECT {COLUMNS}, mode FROM _leases WHERE file_path = :file_path AND agent_id = :agent_id
""")
IN_PROJECT = Lease.query(f"""
    SELECT {COLUMNS}, mode FROM _leases
     WHERE project_id = :project_id AND fence > :after AND +expires_boot_ms > :now
       AND (:agent_id IS NULL OR agent_id = :agent_id)
       AND (:prefix IS NULL OR prefix = :prefix OR (prefix > :at AND prefix < :beyond))
     ORDER BY fence LIMIT :limit
""")


class Count(Row):
    number: int


HELD_COUNT = Count.query("SELECT count(*) AS number FROM _leases WHERE agent_id = :agent_id")


def near(tx: Tx, name: str, *, but: str = "") -> Iterator[Lease]:
    """The live leases that `name` overlaps, whoever holds them but one agent."""
    for lease in tx.iterate(NEAR, but=but, now=tx.now, **neighbourhood(name)):
        if overlap(lease.file_path, name):
            yield lease


def covered(tx: Tx, agent_id: str, name: str, mode: Mode) -> bool:
    """Whether the agent holds all of `name` already, in at least this mode."""
    above = neighbourhood(name)["above"]
    return any(
        cover(lease.file_path, name)
        for lease in tx.all(OWN_ABOVE, agent_id=agent_id, above=above, now=tx.now)
        if lease.mode == "exclusive" or mode == "shared"
    )


# A deadline is kept as an integer; its text is for people, and for carrying leases over a reboot.
_DEADLINE_TEXT = "strftime('%Y-%m-%dT%H:%M:%fZ', :at, (({deadline} - :now) / 1000.0) || ' seconds')"


def _take(mode: Mode) -> Query[Lease]:
    return Lease.query(f"""
        INSERT INTO {TABLES[mode]} ({COLUMNS}, renewed_at)
        VALUES (:file_path, :agent_id, :agent_role, :reason, :at,
                {_DEADLINE_TEXT.format(deadline=":deadline")},
                :project_id, :prefix, :fence, :ttl_ms, :now, :deadline, :now + {MAX_HOLD_MS}, :task_id, NULL)
        ON CONFLICT DO NOTHING
        RETURNING {COLUMNS}, '{mode}' AS mode
    """)


def _extend(mode: Mode) -> Query[Lease]:
    deadline = "max(expires_boot_ms, :deadline)"
    return Lease.query(f"""
        UPDATE {TABLES[mode]}
           SET expires_boot_ms = {deadline}, expires_at = {_DEADLINE_TEXT.format(deadline=deadline)},
               ttl_ms = :ttl_ms, renew_until_boot_ms = :now + {MAX_HOLD_MS}, renewed_at = :at,
               reason = CASE WHEN :reason = '' THEN reason ELSE :reason END,
               task_id = coalesce(:task_id, task_id)
         WHERE file_path = :file_path AND agent_id = :agent_id AND expires_boot_ms > :now
        RETURNING {COLUMNS}, '{mode}' AS mode
    """)


def _renew(mode: Mode) -> Command:
    deadline = "max(expires_boot_ms, min(:now + ttl_ms + :slack_ms, renew_until_boot_ms))"
    return Command(f"""
        UPDATE {TABLES[mode]}
           SET expires_boot_ms = {deadline}, expires_at = {_DEADLINE_TEXT.format(deadline=deadline)}
         WHERE agent_id = :agent_id AND expires_boot_ms > :now
    """)


def _drop(mode: Mode) -> Query[Lease]:
    return Lease.query(f"""
        DELETE FROM {TABLES[mode]} WHERE file_path = :file_path AND agent_id = :agent_id
        RETURNING {COLUMNS}, '{mode}' AS mode
    """)


def _drop_expired(mode: Mode) -> Query[Lease]:
    return Lease.query(f"""
        DELETE FROM {TABLES[mode]} WHERE expires_boot_ms <= :now RETURNING {COLUMNS}, '{mode}' AS mode
    """)


MODES: tuple[Mode, ...] = ("exclusive", "shared")
TAKE = {mode: _take(mode) for mode in MODES}
EXTEND = {mode: _extend(mode) for mode in MODES}
RENEW = {mode: _renew(mode) for mode in MODES}
DROP = {mode: _drop(mode) for mode in MODES}
DROP_EXPIRED = {mode: _drop_expired(mode) for mode in MODES}


def take(
    tx: Tx,
    *,
    file_path: str,
    agent_id: str,
    agent_role: str,
    project_id: str,
    mode: Mode,
    ttl_ms: int,
    reason: str,
    task_id: str | None,
    is_file: bool = False,
    waited_ms: int = 0,
) -> tuple[Lease, bool]:
    """Grant a lease that nothing stands against, or refresh the agent's own; whether it was a refresh.

    A refresh keeps its fence, and never shortens the lease or weakens its mode. A new grant has the
    next fence, one for exclusive use in place of a shared one too, which it never shortens either.
    """
    deadline = tx.now + ttl_ms + tx.coarse_ms
    asked = {
        "agent_id": agent_id,
        "file_path": file_path,
        "reason": reason,
        "task_id": task_id,
        "ttl_ms": ttl_ms,
    }
    own = {lease.mode for lease in tx.all(OWN_AT, file_path=file_path, agent_id=agent_id)}
    for held in own & {"exclusive", mode}:
        if (lease := tx.one(EXTEND[held], **asked, deadline=deadline, at=tx.at, now=tx.now)) is not None:
            tell(tx, "lock_renewed", f"refreshed {lease.path}", lease)
            return lease, True
    weaker = tx.one(DROP["shared"], file_path=file_path, agent_id=agent_id) if "shared" in own else None
    fence = tx.next_fence()
    taken = tx.one(
        TAKE[mode],
        **asked,
        agent_role=agent_role,
        project_id=project_id,
        prefix=prefix_of(file_path),
        fence=fence,
        deadline=max(deadline, weaker.expires_boot_ms) if weaker else deadline,
        at=tx.at,
        now=tx.now,
    )
    if taken is None:
        raise RuntimeError(f"{file_path} was granted over a live lease")
    waited = {"waited_ms": waited_ms} if waited_ms else {}
    locked = [taken.path] if is_file else []
    tell(tx, "lock_acquired", f"locked {taken.path} ({mode})", taken, locked=locked, **waited)
    return taken, False


def renew_leases(tx: Tx, agent_id: str, *, slack_ms: int) -> None:
    """Renew what an agent holds, as it has shown a sign of life: each lease by its own length and the
    slack, up to the end of its automatic renewal. What is over stays over."""
    for mode in MODES:
        tx.run(RENEW[mode], agent_id=agent_id, slack_ms=slack_ms, at=tx.at, now=tx.now)


def drop(tx: Tx, lease: Lease) -> None:
    """End a lease."""
    tx.one(DROP[lease.mode], file_path=lease.file_path, agent_id=lease.agent_id)


def drop_expired(tx: Tx) -> list[Lease]:
    """End the leases whose time is over; which they were."""
    return [lease for mode in MODES for lease in tx.all(DROP_EXPIRED[mode], now=tx.now)]


def tell(
    tx: Tx, kind: str, summary: str, lease: Lease, *, locked: Sequence[str] = (), **details: object
) -> None:
    """Tell what happened to a lease, with all that its history needs. One that was given back had its mode by
    its grant, which has the same fence, and ends now."""
    going = {} if kind == "lock_released" else {"mode": lease.mode, "expires_at": lease.expires_at}
    tx.tell(
        Event(
            "locks",
            kind,
            f"{summary}, fence {lease.fence}",
            subject=lease.file_path,
            details={
                "file_path": lease.path,
                "fence": lease.fence,
                "holder": lease.agent_id,
                **going,
                **details,
            },
            agent_id=None if kind == "lock_force_released" else lease.agent_id,
            agent_role=None if kind == "lock_force_released" else lease.agent_role,
            project_id=lease.project_id,
            locked=locked,
        )
    )
