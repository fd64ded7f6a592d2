"""What is answered about locks: the results and the refusals, with the facts that each carries."""

from typing import Any, Literal

from pydantic import Field

from callboard.domains.locks import queue, tickets
from callboard.domains.locks.leases import Lease, Mode
from callboard.domains.locks.tickets import Blocker, Request
from callboard.errors import NotOwner, Refused
from callboard.lockname import overlap, shown
from callboard.params import RepoPath
from callboard.store import Tx
from callboard.tool import Result

SHOWN = 20
"""Leases and waiters that one answer about a path names at most."""


class LockHeld(Refused):
    """Another agent holds this path, or waits for it and came first."""


class Deadlock(Refused):
    """Waiting for this would close a circle of agents that wait for each other."""


class LeaseExpired(Refused):
    """You no longer hold this path; the lease is over and is not revived."""


class StaleFence(Refused):
    """The fence is not that of the lease in force."""


class Lock(Result):
    file_path: str
    agent_id: str
    agent_role: str
    mode: Mode
    fence: int
    acquired_at: str
    expires_at: str
    remaining_seconds: int
    reason: str | None = None
    task_id: str | None = None


class Granted(Lock):
    refreshed: bool = Field(description="True when you held it already; the fence is the same")
    granted_after_ms: int


class GrantedAll(Result):
    locks: list[Lock]
    granted_after_ms: int


class Released(Result):
    released: bool
    file_path: str
    fence: int | None = None


class ReleasedAll(Result):
    released: list[str]


class ForceReleased(Result):
    released: list[Lock]


class Waiter(Result):
    agent_id: str
    agent_role: str
    file_path: str
    mode: Mode
    queue_place: int
    waiting_seconds: int
    reason: str | None = None


class LockState(Result):
    file_path: str
    state: Literal["free", "yours", "held"]
    locks: list[Lock] = Field(description="Leases in force that overlap the path")
    waiters: list[Waiter] | None = None
    rests_ms: int | None = Field(default=None, description="How long it still rests after a lost lease")
    fence_stands: bool | None = Field(
        default=None, description="Whether the given fence is that of a lease in force"
    )


class LockPage(Result):
    locks: list[Lock]
    waiters: list[Waiter] | None = None
    next_after_id: int | None = None


def lock_of(tx: Tx, lease: Lease, kind: type[Lock] = Lock, **more: Any) -> Any:
    """A lease as agents see it."""
    return kind(
        file_path=lease.path,
        agent_id=lease.agent_id,
        agent_role=lease.agent_role,
        mode=lease.mode,
        fence=lease.fence,
        acquired_at=lease.acquired_at,
        expires_at=lease.expires_at,
        remaining_seconds=max(0, lease.expires_boot_ms - tx.now) // 1000,
        reason=lease.reason or None,
        task_id=lease.task_id,
        **more,
    )


def held_by_other(tx: Tx, request: Request, blocker: Blocker, ticket: int | None) -> LockHeld:
    return LockHeld(told(blocker), hint=_advice(blocker), **facts(tx, request, blocker, ticket))


def told(blocker: Blocker) -> str:
    path = shown(blocker.file_path)
    if blocker.by == "holder":
        return f"{blocker.agent_id} holds {path}."
    if blocker.by == "waiter":
        return f"{blocker.agent_id} waits for {path} and came first."
    return f"{path} rests for a moment after a lease on it was lost."


def _advice(blocker: Blocker) -> str:
    if blocker.by == "delay":
        return "Call again with wait_seconds."
    return f"Call again with wait_seconds, or message {blocker.agent_id}."


def facts(tx: Tx, request: Request, blocker: Blocker, ticket: int | None) -> dict[str, Any]:
    # How long somebody will wait is known at most, and says nothing of when the path is free.
    left_ms = None if blocker.by == "waiter" else max(0, blocker.until_boot_ms - tx.now)
    return {
        "retry_after_ms": left_ms,
        "file_path": shown(blocker.wanted),
        "held_path": shown(blocker.file_path),
        "blocked_by": blocker.by,
        "mode": blocker.mode,
        "holder": blocker.agent_id,
        "holder_role": blocker.agent_role or None,
        "reason": blocker.reason or None,
        "remaining_seconds": None if left_ms is None else left_ms // 1000,
        "queue_place": queue.place(tx, request, ticket),
    }


def deadlock(tx: Tx, request: Request, walk: list[Blocker]) -> Deadlock:
    agents = [request.agent_id, *(blocker.agent_id for blocker in walk)]
    cycle = [
        {
            "agent_id": waiting,
            "waits_for": shown(blocker.wanted),
            "held_path": shown(blocker.file_path),
            "holder": other,
        }
        for waiting, other, blocker in zip(agents, agents[1:], walk, strict=False)
    ]
    own = shown(walk[-1].file_path)
    return Deadlock(
        hint=f"Release {own} first, which {agents[-2]} waits for, then ask again."
        if walk[-1].by == "holder"
        else f"Stop waiting for {own}, then ask again.",
        cycle=cycle,
    )


def waiters_of(tx: Tx, waiting: list[tickets.WaitingPath]) -> list[Waiter]:
    return [
        Waiter(
            agent_id=waiter.agent_id,
            agent_role=waiter.agent_role,
            file_path=shown(waiter.file_path),
            mode=waiter.mode,
            queue_place=_place(waiter, waiting[:place]),
            waiting_seconds=(tx.now - waiter.enqueued_boot_ms) // 1000,
            reason=waiter.reason or None,
        )
        for place, waiter in enumerate(waiting)
    ]


def _place(waiter: tickets.WaitingPath, before: list[tickets.WaitingPath]) -> int:
    """The place in line for the one path, from 1: behind who asked earlier and is in its way."""
    ahead = {
        other.ticket
        for other in before
        if other.agent_id != waiter.agent_id
        and not (other.mode == waiter.mode == "shared")
        and overlap(other.file_path, waiter.file_path)
    }
    return len(ahead) + 1


def not_owner(path: RepoPath, lease: Lease) -> NotOwner:
    return NotOwner(
        f"{lease.agent_id} holds {path}.",
        hint=f"Ask {lease.agent_id} to release it, or your lead to take it.",
        file_path=path,
        owner=lease.agent_id,
    )
