"""The queue: who waits for what, and whose turn it is.

A ticket is a place in the line. It lives as long as its call waits (a short lease that the waiting call
renews) or as long as its place is kept. A waiting call grants itself, in its own transaction, so nobody
who is gone is ever granted anything; a kept place without a call is granted by whoever frees the path.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from callboard import graph
from callboard.domains.locks import leases
from callboard.domains.locks.leases import Lease, Mode, neighbourhood, overlap, shown
from callboard.events import Event, Notice
from callboard.store import Command, Row, Tx

CALL_LEASE_MS = 2_000
"""How long a waiting call's ticket outlives its last sign of life; twice the time between two signs."""

SIGN_OF_LIFE_MS = CALL_LEASE_MS // 2


@dataclass(frozen=True, slots=True)
class Request:
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


@dataclass(frozen=True, slots=True)
class Blocker:
    """What stands against one path of a request, and until when at most (0: nobody knows)."""

    by: Literal["holder", "waiter", "delay"]
    wanted: str
    file_path: str
    agent_id: str
    mode: Mode
    agent_role: str = ""
    reason: str = ""
    until_boot_ms: int = 0


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
           call_until_boot_ms = excluded.call_until_boot_ms,
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
EXPIRED_TICKETS = Ticket.query(f"""
    SELECT {COLUMNS} FROM _lock_waiters WHERE call_until_boot_ms <= :now AND queue_until_boot_ms <= :now
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
NEXT_DUE = Due.query("""
    SELECT min(boot_ms) AS boot_ms
      FROM (SELECT min(expires_boot_ms) AS boot_ms FROM file_locks
            UNION ALL SELECT min(expires_boot_ms) FROM _lock_holders
            UNION ALL SELECT min(max(call_until_boot_ms, queue_until_boot_ms)) FROM _lock_waiters
            UNION ALL SELECT min(until_boot_ms) FROM _lock_delays)
""")


def own_ticket(tx: Tx, request: Request) -> Ticket | None:
    """The place that this agent has for this request."""
    return tx.one(OWN, agent_id=request.agent_id, request=request.digest)


def blockers(tx: Tx, request: Request, ticket: int | None) -> Iterator[Blocker]:
    """What stands against the request, holders first: conflicting leases of others; conflicting requests
    of others that came earlier, unless an own lease covers the path already; paths that rest."""
    covered: set[str] = set()
    for name in request.names:
        for lease in leases.near(tx, name):
            if lease.agent_id == request.agent_id:
                enough = lease.mode == "exclusive" or request.mode == "shared"
                if enough and leases.cover(lease.file_path, name):
                    covered.add(name)
            elif not (lease.mode == request.mode == "shared"):
                yield Blocker(
                    by="holder",
                    wanted=name,
                    file_path=lease.file_path,
                    agent_id=lease.agent_id,
                    agent_role=lease.agent_role,
                    mode=lease.mode,
                    reason=lease.reason,
                    until_boot_ms=lease.expires_boot_ms,
                )
    for name in request.names:
        if name not in covered:
            yield from _earlier(tx, request, name, ticket)
        for rest in tx.all(RESTING_NEAR, now=tx.now, **neighbourhood(name)):
            if rest.agent_id != request.agent_id and overlap(rest.file_path, name):
                yield Blocker(
                    by="delay",
                    wanted=name,
                    file_path=rest.file_path,
                    agent_id=rest.agent_id,
                    mode="exclusive",
                    until_boot_ms=rest.until_boot_ms,
                )


def _earlier(tx: Tx, request: Request, name: str, ticket: int | None) -> Iterator[Blocker]:
    for other in waiting_near(tx, name):
        if ticket is not None and other.ticket >= ticket:
            return
        if other.agent_id != request.agent_id and not (other.mode == request.mode == "shared"):
            yield Blocker(
                by="waiter",
                wanted=name,
                file_path=other.file_path,
                agent_id=other.agent_id,
                agent_role=other.agent_role,
                mode=other.mode,
                reason=other.reason,
            )


def waiting_near(tx: Tx, name: str) -> list[WaitingPath]:
    """Who waits for something that `name` overlaps, in order."""
    return [
        waiting
        for waiting in tx.all(WAITING_NEAR, now=tx.now, **neighbourhood(name))
        if overlap(waiting.file_path, name)
    ]


def place(tx: Tx, request: Request, ticket: int | None) -> int:
    """The request's place in line, from 1: behind every earlier request that it conflicts with."""
    ahead = {
        other.ticket
        for name in request.names
        for other in waiting_near(tx, name)
        if other.agent_id != request.agent_id
        and (ticket is None or other.ticket < ticket)
        and not (other.mode == request.mode == "shared")
    }
    return len(ahead) + 1


def enter(tx: Tx, request: Request, *, call: bool, keep_ms: int) -> Ticket:
    """Take or resume a place in line, for a waiting call, for a time after it, or for both."""
    known = own_ticket(tx, request)
    ticket = tx.one(
        ENTER,
        agent_id=request.agent_id,
        agent_role=request.agent_role,
        project_id=request.project_id,
        lead_id=request.lead_id,
        mode=request.mode,
        request=request.digest,
        reason=request.reason,
        ttl_ms=request.ttl_ms,
        task_id=request.task_id,
        call_until=tx.now + CALL_LEASE_MS if call else 0,
        queue_until=tx.now + keep_ms if keep_ms else 0,
        at=tx.at,
        now=tx.now,
    )
    if ticket is None:
        raise RuntimeError("a place in the queue was not given")
    if known is None:
        for name in request.names:
            tx.run(
                ENTER_PATH,
                ticket=ticket.ticket,
                file_path=name,
                prefix=leases.prefix_of(name),
                is_file=name in request.files,
            )
        _tell(tx, "lock_queued", "waits for", request)
    return ticket


def leave(tx: Tx, request: Request, ticket: Ticket) -> None:
    """Give up a place in line; those behind move up."""
    tx.run(LEAVE, ticket=ticket.ticket)
    _tell(tx, "lock_queue_left", "no longer waits for", request)
    settle(tx, request.names)


def hang_up(tx: Tx, ticket: Ticket) -> None:
    """The call has ended; its place is kept."""
    tx.run(HANG_UP, ticket=ticket.ticket)


def grant(tx: Tx, request: Request, ticket: Ticket | None) -> list[tuple[Lease, bool]]:
    """Take every path of a request against which nothing stands, and its place out of the line."""
    taken = [
        leases.take(
            tx,
            file_path=name,
            agent_id=request.agent_id,
            agent_role=request.agent_role,
            project_id=request.project_id,
            mode=request.mode,
            ttl_ms=request.ttl_ms,
            reason=request.reason,
            task_id=request.task_id,
            is_file=name in request.files,
            waited_ms=tx.now - ticket.enqueued_boot_ms if ticket else 0,
        )
        for name in request.names
    ]
    if ticket is not None:
        tx.run(LEAVE, ticket=ticket.ticket)
    return taken


def settle(tx: Tx, freed: Iterable[str]) -> None:
    """Some paths became free: grant the kept places whose turn has come, and tell their agents.
    Waiting calls are woken by the commit and look for themselves."""
    kept = {
        ticket.ticket: ticket
        for name in freed
        for ticket in tx.all(KEPT_NEAR, now=tx.now, **neighbourhood(name))
    }
    for _, ticket in sorted(kept.items()):
        request = request_of(tx, ticket)
        if next(blockers(tx, request, ticket.ticket), None) is not None:
            continue
        for lease, _refreshed in grant(tx, request, ticket):
            tx.notify(
                Notice(
                    ticket.agent_id,
                    "lock",
                    {
                        "text": f"Your turn has come: you hold {lease.path} until {lease.expires_at}.",
                        "event": "lock_acquired",
                        "file_path": lease.path,
                        "mode": lease.mode,
                        "fence": lease.fence,
                        "expires_at": lease.expires_at,
                    },
                    "high",
                )
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


def circle(tx: Tx, request: Request, ticket: int | None, standing: list[Blocker]) -> list[Blocker] | None:
    """The circle of waiting that the request would close: each entry is what the next agent in it waits
    for, beginning with the caller's. None when there is none.

    The graph has an edge from each waiter to the holders and the earlier waiters it waits for. It has no
    circle before; only a new request adds edges that start at its agent, so only circles through that
    agent need looking for.
    """
    edges: dict[tuple[str, str], Blocker] = {}

    def waits_for(agent_id: str) -> set[str]:
        found = list(standing) if agent_id == request.agent_id else []
        for other in tx.all(TICKETS_OF, agent_id=agent_id):
            if other.ticket != ticket and max(other.call_until_boot_ms, other.queue_until_boot_ms) > tx.now:
                found.extend(blockers(tx, request_of(tx, other), other.ticket))
        for blocker in found:
            if blocker.by != "delay":
                edges.setdefault((agent_id, blocker.agent_id), blocker)
        return {blocker.agent_id for blocker in found if blocker.by != "delay"}

    walk = graph.find_cycle_through(request.agent_id, waits_for)
    return None if walk is None else [edges[pair] for pair in pairwise(walk)]


def reap(tx: Tx) -> bool:
    """End what is over: leases past their time, whose holders are told; places of calls that died; rests.
    Whether there was anything to end."""
    over = leases.drop_expired(tx)
    freed = [lease.file_path for lease in over]
    _ended_by_themselves(tx, over)
    for ticket in tx.all(EXPIRED_TICKETS, now=tx.now):
        freed.extend(name.file_path for name in tx.all(NAMES, ticket=ticket.ticket))
        tx.run(LEAVE, ticket=ticket.ticket)
    freed.extend(rest.file_path for rest in tx.all(REST_OVER, now=tx.now))
    settle(tx, freed)
    return bool(freed)


def end_all(tx: Tx, agent_id: str, *, died: bool = False) -> list[str]:
    """End every lease and every place of an agent that has left or, with `died`, whose program is gone;
    the paths that it held. Those who wait for them move up."""
    held = tx.all(leases.HELD_BY, agent_id=agent_id, now=tx.now)
    for lease in held:
        leases.drop(tx, lease)
    if died:
        _ended_by_themselves(tx, held)
    else:
        for lease in held:
            leases.tell(tx, "lock_released", f"released {lease.path}: its agent has left", lease)
    freed = [lease.file_path for lease in held]
    for ticket in tx.all(TICKETS_OF, agent_id=agent_id):
        freed.extend(name.file_path for name in tx.all(NAMES, ticket=ticket.ticket))
        tx.run(LEAVE, ticket=ticket.ticket)
    settle(tx, freed)
    return [lease.path for lease in held]


def _ended_by_themselves(tx: Tx, over: list[Lease]) -> None:
    """Leases that nobody gave back: their holders are told, and their paths may have to rest."""
    if not over:
        return
    rest_ms = round(1000 * tx.setting("locks.delay_seconds", 0))
    for lease in over:
        leases.tell(tx, "lock_expired", f"lost {lease.path}: its lease ended", lease)
        tx.notify(
            Notice(
                lease.agent_id,
                "lock",
                {
                    "text": f"You lost {lease.path} (fence {lease.fence}): its lease has ended. "
                    "Do not write to it before you hold it again.",
                    "event": "lock_expired",
                    "file_path": lease.path,
                    "fence": lease.fence,
                },
                "high",
            )
        )
        if rest_ms:
            tx.run(
                REST,
                file_path=lease.file_path,
                prefix=lease.prefix,
                until=tx.now + rest_ms,
                agent_id=lease.agent_id,
            )


def next_due(tx: Tx) -> int | None:
    """When there will be something to reap next, on the boot clock."""
    due = tx.one(NEXT_DUE)
    return due.boot_ms if due else None


def _tell(tx: Tx, kind: str, verb: str, request: Request) -> None:
    paths = [shown(name) for name in request.names]
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    tx.tell(
        Event(
            "locks",
            kind,
            f"{verb} {', '.join(paths[:3])}{more} ({request.mode})",
            subject=request.names[0],
            details={"file_paths": paths, "mode": request.mode},
            agent_id=request.agent_id,
            agent_role=request.agent_role,
            project_id=request.project_id,
        )
    )
