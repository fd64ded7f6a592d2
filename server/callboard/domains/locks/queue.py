"""The queue: who waits for what, and whose turn it is.

A ticket is a place in the line. A waiting call grants itself, in its own transaction, so nobody who is gone
is ever granted anything; a kept place without a call is granted by whoever frees the path.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from callboard import graph
from callboard.domains.locks import leases
from callboard.domains.locks.leases import Lease
from callboard.domains.locks.tickets import (
    CALL_LEASE_MS,
    ENTER,
    ENTER_PATH,
    HANG_UP,
    HANG_UP_LOST,
    KEPT_NEAR,
    LAPSE,
    LEAVE,
    LOST,
    NAMES,
    NEXT_DUE,
    REST,
    REST_OVER,
    RESTING_NEAR,
    RESUMABLE_MS,
    TICKETS_OF,
    Blocker,
    Request,
    Ticket,
    own_ticket,
    request_of,
    waiting_near,
)
from callboard.events import Event, Notice
from callboard.lockname import neighbourhood, overlap, prefix_of, shown
from callboard.store import Tx


def blockers(tx: Tx, request: Request, ticket: int | None, *, in_line: bool = True) -> Iterator[Blocker]:
    """What stands against the request, holders first: conflicting leases of others; conflicting requests
    of others that came earlier, unless an own lease covers the path already; paths that rest. Without
    `in_line` nobody waits and nothing rests, as `reap` has told."""
    for name in request.names:
        for lease in leases.near(tx, name, but=request.agent_id):
            if not (lease.mode == request.mode == "shared"):
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
    for name in request.names if in_line else ():
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
    covered: bool | None = None
    for other in waiting_near(tx, name):
        if ticket is not None and other.ticket >= ticket:
            return
        if other.agent_id != request.agent_id and covered is None:
            covered = leases.covered(tx, request.agent_id, name, request.mode)
        if covered:
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
                until_boot_ms=max(other.call_until_boot_ms, other.queue_until_boot_ms),
            )


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
                prefix=prefix_of(name),
                is_file=name in request.files,
            )
        _tell(tx, "lock_queued", "waits for", request)
    return ticket


def leave(tx: Tx, request: Request, ticket: Ticket) -> None:
    """Give up a place in line; those behind move up."""
    tx.run(LEAVE, ticket=ticket.ticket)
    _tell(tx, "lock_queue_left", "no longer waits for", request)
    settle(tx, request.names)


def hang_up(tx: Tx, request: Request, ticket: Ticket) -> None:
    """The call has ended; its place is kept, and its turn may have come already."""
    tx.run(HANG_UP, ticket=ticket.ticket)
    settle(tx, request.names)


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
    """Some paths became free, and with them those of what is over: grant the kept places whose turn has
    come, and tell their agents. Waiting calls are woken by the commit and look for themselves."""
    kept = {
        ticket.ticket: ticket
        for name in (*freed, *_end_what_is_over(tx))
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


def circle(tx: Tx, request: Request, ticket: int, standing: list[Blocker]) -> list[Blocker] | None:
    """The circle of waiting that the request closes by its ticket: each entry is what the next agent in it
    waits for, beginning with the caller's. None when there is none.

    The graph has an edge from each waiter to the holders and the earlier waiters it waits for. It has no
    circle before. A new ticket adds edges that start at its agent, and one that was silent also such that
    end there, from those who came behind it meanwhile: only circles through that agent need looking for.
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
    Whether anybody may wait, or any path rest: one look tells too that, as nearly always, there is nothing of
    it, and three statements for each path need not be made that would find nothing."""
    due = tx.one(NEXT_DUE)
    if due is None or due.boot_ms is None or due.boot_ms > tx.now:
        return due is not None and due.in_line > 0
    settle(tx, ())
    return True


def _end_what_is_over(tx: Tx) -> list[str]:
    """The names that this frees, also those for which a kept place has lost the call that waited on it."""
    due = next_due(tx)
    if due is None or due > tx.now:
        return []  # as nearly always: one look instead of seven statements that find nothing
    over = leases.drop_expired(tx)
    freed = [lease.file_path for lease in over]
    _ended_by_themselves(tx, over)
    for ticket in tx.all(HANG_UP_LOST, now=tx.now):
        freed.extend(name.file_path for name in tx.all(NAMES, ticket=ticket.ticket))
    for ticket in tx.all(LAPSE, now=tx.now):
        freed.extend(name.file_path for name in tx.all(NAMES, ticket=ticket.ticket))
        if ticket.queue_until_boot_ms:
            _tell_place_lost(tx, ticket, request_of(tx, ticket).names)
            _lose_place(tx, ticket)
    for ticket in tx.all(LOST, before=tx.now - RESUMABLE_MS):
        _lose_place(tx, ticket)
    freed.extend(rest.file_path for rest in tx.all(REST_OVER, now=tx.now))
    return freed


def _lose_place(tx: Tx, ticket: Ticket) -> None:
    """A place is over that nobody gave up."""
    _tell(tx, "lock_queue_left", "lost its place for", request_of(tx, ticket))
    tx.run(LEAVE, ticket=ticket.ticket)


def _tell_place_lost(tx: Tx, ticket: Ticket, names: Iterable[str]) -> None:
    paths = [shown(name) for name in names]
    tx.notify(
        Notice(
            ticket.agent_id,
            "lock",
            {
                "text": f"Your place in line for {', '.join(paths[:3])} is over: kept as long as you asked.",
                "event": "lock_queue_left",
                "file_paths": paths,
            },
        )
    )


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
