"""The tools of file locks."""

from typing import Annotated, Literal

from pydantic import Field

from callboard import globs
from callboard.domains.locks import leases, queue, tickets
from callboard.domains.locks.answers import (
    SHOWN,
    ForceReleased,
    Granted,
    GrantedAll,
    LeaseExpired,
    Lock,
    LockHeld,
    LockPage,
    LockState,
    Released,
    ReleasedAll,
    StaleFence,
    deadlock,
    facts,
    held_by_other,
    lock_of,
    not_owner,
    told,
    waiters_of,
)
from callboard.domains.locks.leases import Lease, Mode
from callboard.domains.locks.tickets import Request
from callboard.errors import Forbidden, InvalidPath, NotFound, QuotaExceeded, WaitTimeout
from callboard.events import Notice
from callboard.identity import MEMBER, Caller
from callboard.lockname import cover, name_of, neighbourhood
from callboard.params import (
    AfterId,
    AgentId,
    Fence,
    FilePath,
    FilePaths,
    Limit,
    PathPrefix,
    QueueSeconds,
    Reason,
    RepoPath,
    TaskId,
    Ttl,
    WaitSeconds,
    WhyNeeded,
)
from callboard.store import Row, Tx
from callboard.tool import NotYet, fitted, tool

MOST_LEASES = 1_000
"""Leases that one agent may hold."""

MOST_TICKETS = 100
"""Requests with which one agent may wait."""

LockMode = Annotated[Mode, Field(description="shared: read only")]


# Asking for locks


def _request(
    caller: Caller, paths: list[RepoPath], mode: Mode, ttl_seconds: int, reason: str, task_id: str | None
) -> Request:
    names = {name_of(caller.project_id, path): path for path in paths}
    return Request(
        caller.agent_id,
        caller.role,
        caller.project_id,
        caller.lead_id,
        tuple(names),
        mode,
        ttl_seconds * 1000,
        reason,
        task_id,
        frozenset(name for name, path in names.items() if path.is_file),
    )


def _acquire(
    tx: Tx, request: Request, wait_seconds: int, queue_seconds: int
) -> tuple[list[tuple[Lease, bool]], int] | NotYet | LockHeld:
    """Take every path of the request or none: the leases with whether each was a refresh, and the
    milliseconds waited; or what stands against it."""
    in_line = queue.reap(tx)
    ticket = tickets.own_ticket(tx, request) if in_line else None
    number = ticket.ticket if ticket else None
    if (first := next(queue.blockers(tx, request, number, in_line=in_line), None)) is None:
        taken = queue.grant(tx, request, ticket)
        check_quota(tx, request.agent_id, sum(not refreshed for _, refreshed in taken))
        return taken, tx.now - ticket.enqueued_boot_ms if ticket else 0
    if not wait_seconds and not queue_seconds:
        raise held_by_other(tx, request, first, number)
    standing = list(queue.blockers(tx, request, number))
    if ticket is None:
        _check_places(tx, request)
    ticket = queue.enter(tx, request, call=bool(wait_seconds), keep_ms=queue_seconds * 1000)
    # With its place in line: one that was silent is in the way again of those who came meanwhile.
    if (walk := queue.circle(tx, request, ticket.ticket, standing)) is not None:
        raise deadlock(tx, request, walk)
    refusal = held_by_other(tx, request, first, ticket.ticket)
    if not wait_seconds:
        return refusal
    ends = [blocker.until_boot_ms for blocker in standing]
    return NotYet(
        again_boot_ms=min([*ends, tx.now + tickets.SIGN_OF_LIFE_MS]),
        ready=lambda tx: _could_go_on(tx, request),
        give_up=lambda tx, waited_ms: _give_up(tx, request, waited_ms),
    )


class Waiting(Row):
    requests: int
    paths: int


WAITING = Waiting.query("""
    SELECT count(DISTINCT w.ticket) AS requests, count(*) AS paths
      FROM _lock_waiters AS w JOIN _lock_waiter_paths AS p ON p.ticket = w.ticket WHERE w.agent_id = :agent_id
""")


def _check_places(tx: Tx, request: Request) -> None:
    """What an agent waits for counts like what it holds: a place may become a lease by itself."""
    waiting = tx.one(WAITING, agent_id=request.agent_id)
    held = tx.one(leases.HELD_COUNT, agent_id=request.agent_id)
    if waiting is None or held is None:
        return
    if waiting.requests >= MOST_TICKETS:
        raise QuotaExceeded(
            f"An agent waits with at most {MOST_TICKETS} requests.",
            quota="lock_requests",
            used=waiting.requests,
            limit=MOST_TICKETS,
        )
    if held.number + waiting.paths + len(request.names) > MOST_LEASES:
        raise QuotaExceeded(
            f"An agent holds and waits for at most {MOST_LEASES} locks.",
            quota="locks",
            used=held.number + waiting.paths,
            limit=MOST_LEASES,
        )


def check_quota(tx: Tx, agent_id: str, added: int) -> None:
    """Counted after the grant, which the refusal takes back: leases that were refreshed add nothing."""
    held = tx.one(leases.HELD_COUNT, agent_id=agent_id)
    if held is not None and held.number > MOST_LEASES:
        raise QuotaExceeded(
            f"An agent holds at most {MOST_LEASES} locks.",
            quota="locks",
            used=held.number - added,
            limit=MOST_LEASES,
            hint="Release what you no longer need, or lock a directory instead of its files.",
        )


def _could_go_on(tx: Tx, request: Request) -> bool:
    ticket = tickets.own_ticket(tx, request)
    return ticket is None or next(queue.blockers(tx, request, ticket.ticket), None) is None


def _give_up(tx: Tx, request: Request, waited_ms: int) -> WaitTimeout:
    ticket = tickets.own_ticket(tx, request)
    first = next(queue.blockers(tx, request, ticket.ticket), None) if ticket else None
    known = facts(tx, request, first, ticket.ticket) if first and ticket else {}
    hint = "Call again to wait from the end of the line, or do something else first."
    if ticket and ticket.queue_until_boot_ms > tx.now:
        queue.hang_up(tx, request, ticket)
        kept_seconds = (ticket.queue_until_boot_ms - tx.now) // 1000
        hint = f"Your place is kept for {kept_seconds} s; call again to go on waiting."
    elif ticket:
        queue.leave(tx, request, ticket)
    said = f"Waited {waited_ms / 1000:.1f} s" + (f": {told(first)}" if first else ".")
    return WaitTimeout(said, hint=hint, waited_ms=waited_ms, **known)


# The tools


@tool(writes=True, idempotent=True, profile="core", waits_on="locks")
def acquire_file_lock(
    tx: Tx,
    caller: Caller,
    file_path: FilePath,
    mode: LockMode = "exclusive",
    ttl_seconds: Ttl = 600,
    reason: Reason = "",
    wait_seconds: WaitSeconds = 0,
    queue_seconds: QueueSeconds = 0,
    task_id: TaskId | None = None,
) -> Granted | NotYet | LockHeld:
    """Take the lease on a file, directory or glob before you edit it, or refresh yours.

    lock_held: wait with wait_seconds, keep a place with queue_seconds, or message the holder.
    """
    request = _request(caller, [file_path], mode, ttl_seconds, reason, task_id)
    taken = _acquire(tx, request, wait_seconds, queue_seconds)
    if isinstance(taken, NotYet | LockHeld):
        return taken
    [(lease, refreshed)], waited_ms = taken
    granted: Granted = lock_of(tx, lease, Granted, refreshed=refreshed, granted_after_ms=waited_ms)
    return granted


@tool(writes=True, idempotent=True, profile="core", waits_on="locks")
def acquire_file_locks(
    tx: Tx,
    caller: Caller,
    file_paths: FilePaths,
    mode: LockMode = "exclusive",
    ttl_seconds: Ttl = 600,
    reason: Reason = "",
    wait_seconds: WaitSeconds = 0,
    queue_seconds: QueueSeconds = 0,
    task_id: TaskId | None = None,
) -> GrantedAll | NotYet | LockHeld:
    """Take the leases on several paths at once: all of them or none.

    One by one they can deadlock. Refused like acquire_file_lock.
    """
    taken = _acquire(
        tx, _request(caller, file_paths, mode, ttl_seconds, reason, task_id), wait_seconds, queue_seconds
    )
    if isinstance(taken, NotYet | LockHeld):
        return taken
    granted, waited_ms = taken
    # The reason is the caller's own and the same for all: told once by who asked, not a hundred times.
    taken_locks = [lock_of(tx, lease).model_copy(update={"reason": None}) for lease, _ in granted]
    return GrantedAll(locks=taken_locks, granted_after_ms=waited_ms)


@tool(writes=True, idempotent=True)
def renew_file_lock(
    tx: Tx, caller: Caller, file_path: FilePath, ttl_seconds: Ttl = 600, fence: Fence | None = None
) -> Lock:
    """Keep a lease that you hold for longer. Any call of yours renews it too; this names the length.

    Refused with lease_expired or stale_fence once it is over: it is never revived, so acquire the path
    again and look at what changed meanwhile.
    """
    lease = _own_lease(tx, caller, file_path, fence)
    renewed, _ = leases.take(
        tx,
        file_path=lease.file_path,
        agent_id=caller.agent_id,
        agent_role=caller.role,
        project_id=caller.project_id,
        mode=lease.mode,
        ttl_ms=ttl_seconds * 1000,
        reason="",
        task_id=None,
    )
    lock: Lock = lock_of(tx, renewed)
    return lock


@tool(writes=True, idempotent=True, profile="core")
def release_file_lock(tx: Tx, caller: Caller, file_path: FilePath, fence: Fence | None = None) -> Released:
    """Give a lease back as soon as you have written; who waits for it gets it.

    released: false when nobody held it; not_owner for another's.
    """
    name = name_of(caller.project_id, file_path)
    held = tx.all(leases.HELD_AT, file_path=name, now=tx.now)
    if fence is None and not any(lease.agent_id == caller.agent_id for lease in held):
        if held:
            raise not_owner(file_path, held[0])
        return Released(released=False, file_path=file_path)
    lease = _own_lease(tx, caller, file_path, fence)
    _release(tx, lease, "released")
    queue.settle(tx, [name])
    return Released(released=True, file_path=file_path, fence=lease.fence)


@tool(writes=True, idempotent=True)
def release_file_locks(tx: Tx, caller: Caller, task_id: TaskId | None = None) -> ReleasedAll:
    """Give back all the leases that you hold, or those that you took for one task.

    Answers with the paths that were released; none is no error.
    """
    held = [
        lease
        for lease in tx.all(leases.HELD_BY, agent_id=caller.agent_id, now=tx.now)
        if task_id is None or lease.task_id == task_id
    ]
    for lease in held:
        _release(tx, lease, "released")
    queue.settle(tx, [lease.file_path for lease in held])
    return ReleasedAll(released=[lease.path for lease in held])


@tool(writes=True, destructive=True, who="lead", profile="lead")
def force_release_file_lock(tx: Tx, caller: Caller, file_path: FilePath, reason: WhyNeeded) -> ForceReleased:
    """Take a lease away from its holder, who is told why. For a lead whose agent is stuck or gone.

    Whatever the holder still writes under its old fence is then recognised as late. Only leases of your
    own crew; not_found when nobody holds that very path.
    """
    name = name_of(caller.project_id, file_path)
    held = tx.all(leases.HELD_AT, file_path=name, now=tx.now)
    if not held:
        raise NotFound(
            f"Nobody holds {file_path}.",
            kind="lock",
            given=file_path,
            hint="See list_file_locks for what is held.",
        )
    for lease in held:
        holder = tx.one(MEMBER, agent_id=lease.agent_id)
        if caller.kind != "human" and holder is not None and holder.lead_id != caller.lead_id:
            raise Forbidden(
                f"{lease.agent_id} belongs to another crew.",
                operation="force_release_file_lock",
                needs="the lead of its crew",
                caller_kind=caller.kind,
                hint=f"Ask {lease.agent_id} with send_message, or wait for it with acquire_file_lock.",
            )
        leases.drop(tx, lease)
        leases.tell(
            tx, "lock_force_released", f"took {lease.path} from {lease.agent_id}", lease, reason=reason
        )
        tx.notify(
            Notice(
                lease.agent_id,
                "lock",
                {
                    "text": f"{caller.agent_id} took {lease.path} (fence {lease.fence}) from you: {reason}",
                    "event": "lock_force_released",
                    "file_path": lease.path,
                    "fence": lease.fence,
                    "by": caller.agent_id,
                    "reason": reason,
                },
                "urgent",
            )
        )
    tx.next_fence()
    queue.settle(tx, [name])
    return ForceReleased(released=[lock_of(tx, lease) for lease in held])


@tool(who="anyone")
def check_file_lock(tx: Tx, caller: Caller, file_path: FilePath, fence: Fence | None = None) -> LockState:
    """Ask who holds a path, without taking it: free, yours, or held by whom until when, and who waits.

    With fence, also whether that fence still stands. Guards and hooks ask this before a write.
    """
    name = name_of(caller.project_id, file_path)
    found = list(leases.near(tx, name))
    own = [lease for lease in found if lease.agent_id == caller.agent_id]
    others = [lease for lease in found if lease.agent_id != caller.agent_id]
    covered = any(cover(lease.file_path, name) for lease in own)
    rests_until = tickets.rests_until(tx, name, but=caller.agent_id)
    shown, _ = fitted([lock_of(tx, lease) for lease in found], SHOWN)
    waiters = waiters_of(tx, tickets.waiting_near(tx, name)[:SHOWN])
    return LockState(
        file_path=file_path,
        state="held"
        if any(lease.mode == "exclusive" for lease in others) or rests_until
        else _state(covered, others),
        locks=shown,
        waiters=waiters or None,
        rests_ms=rests_until - tx.now if rests_until else None,
        fence_stands=None if fence is None else _stands(own if caller.agent_id else found, name, fence),
    )


@tool(profile="core")
def list_file_locks(
    tx: Tx,
    caller: Caller,
    target_agent_id: AgentId | None = None,
    path_prefix: PathPrefix | None = None,
    include_waiters: Annotated[bool, Field(description="Also who waits")] = False,
    limit: Limit = 50,
    after_id: AfterId | None = None,
) -> LockPage:
    """List the leases in force in your project.

    Look before you plan work on files.
    """
    if path_prefix is not None and path_prefix != "**" and not globs.is_literal(path_prefix):
        raise InvalidPath(
            "path_prefix is a directory, not a glob.", file_path=path_prefix, rule="no wildcards"
        )
    below = name_of(caller.project_id, path_prefix) if path_prefix not in (None, "**") else None
    around = neighbourhood(below) if below else {"at": "", "beyond": ""}
    rows = tx.all(
        leases.IN_PROJECT,
        project_id=caller.project_id,
        agent_id=target_agent_id,
        prefix=below,
        at=around["at"],
        beyond=around["beyond"],
        after=after_id or 0,
        limit=limit + 1,
        now=tx.now,
    )
    shown_locks, more = fitted([lock_of(tx, lease) for lease in rows], limit)
    everything = below or name_of(caller.project_id, "**")
    return LockPage(
        locks=shown_locks,
        waiters=waiters_of(tx, tickets.waiting_near(tx, everything)[:SHOWN]) if include_waiters else None,
        next_after_id=shown_locks[-1].fence if more else None,
    )


def _stands(found: list[Lease], name: str, fence: int) -> bool:
    return any(lease.fence == fence and cover(lease.file_path, name) for lease in found)


def _state(covered: bool, others: list[Lease]) -> Literal["free", "yours", "held"]:
    if covered:
        return "yours"
    return "held" if others else "free"


def _release(tx: Tx, lease: Lease, verb: str) -> None:
    leases.drop(tx, lease)
    leases.tell(tx, "lock_released", f"{verb} {lease.path}", lease)


def _own_lease(tx: Tx, caller: Caller, path: RepoPath, fence: int | None) -> Lease:
    """The caller's lease on exactly this path. Raises LeaseExpired, StaleFence, NotOwner."""
    held = tx.all(leases.HELD_AT, file_path=name_of(caller.project_id, path), now=tx.now)
    own = next((lease for lease in held if lease.agent_id == caller.agent_id), None)
    if own is not None:
        if fence is not None and fence != own.fence:
            raise StaleFence(
                f"You hold {path} under fence {own.fence}.",
                file_path=path,
                given=fence,
                current=own.fence,
                holder=caller.agent_id,
            )
        return own
    newer = next((lease for lease in held if fence is not None and lease.fence > fence), None)
    if newer is not None:
        raise StaleFence(
            f"{newer.agent_id} holds {path} now.",
            hint="Do not write what you prepared under the old lease; acquire the path again first.",
            file_path=path,
            given=fence,
            current=newer.fence,
            holder=newer.agent_id,
        )
    named = next((lease for lease in held if fence in (None, lease.fence)), None)
    if named is not None:
        raise not_owner(path, named)
    raise LeaseExpired(
        f"You do not hold {path}.",
        hint="Acquire it again, and read it again before you write.",
        file_path=path,
        fence=fence,
        ended_at=_ended_at(tx, caller, path),
    )


class Ended(Row):
    timestamp: str


LAST_END = Ended.query("""
    SELECT timestamp FROM activity_log
     WHERE agent_id = :agent_id AND action_type IN ('lock_expired', 'lock_released')
       AND json_extract(details, '$.file_path') = :path
     ORDER BY id DESC LIMIT 1
""")


def _ended_at(tx: Tx, caller: Caller, path: RepoPath) -> str | None:
    """When the caller last held the path, as the ledger tells."""
    ended = tx.one(LAST_END, agent_id=caller.agent_id, path=path)
    return ended.timestamp if ended else None


TOOLS = (
    acquire_file_lock,
    acquire_file_locks,
    renew_file_lock,
    release_file_lock,
    release_file_locks,
    force_release_file_lock,
    check_file_lock,
    list_file_locks,
)
