"""Locks that belong to a task: taken with the claim on it, ended with it.

Whoever claims a task may take its files' leases in the same transaction. They carry the task's id, so the
end of the claim frees exactly these and leaves the agent's other leases alone.
"""

from collections.abc import Iterable

from callboard.domains.locks import leases, queue
from callboard.domains.locks.answers import held_by_other
from callboard.domains.locks.tickets import Blocker, Request
from callboard.domains.locks.tools import check_quota
from callboard.lockname import name_of
from callboard.store import Tx


def request_for_task(
    *,
    agent_id: str,
    agent_role: str,
    project_id: str,
    lead_id: str,
    file_paths: Iterable[str],
    task_id: str,
    ttl_ms: int,
) -> Request:
    """What a claim asks for: all files of its task, for the agent alone."""
    names = tuple(dict.fromkeys(name_of(project_id, path) for path in file_paths))
    return Request(
        agent_id, agent_role, project_id, lead_id, names, "exclusive", ttl_ms, f"task {task_id}", task_id
    )


def standing_against(tx: Tx, asked: Request) -> Blocker | None:
    """The first lease, earlier request or rest of another agent that stands against a claim's files."""
    return next(queue.blockers(tx, asked, None), None)


def take_for_task(tx: Tx, asked: Request) -> list[str]:
    """Take the leases on all files of a claim, or none; their paths. Raises LockHeld, QuotaExceeded."""
    if not asked.names:
        return []
    queue.reap(tx)
    if (blocker := standing_against(tx, asked)) is not None:
        raise held_by_other(tx, asked, blocker, None)
    taken = queue.grant(tx, asked, None)
    check_quota(tx, asked.agent_id, sum(not refreshed for _, refreshed in taken))
    return [lease.path for lease, _ in taken]


def release_for_task(tx: Tx, *, agent_id: str, task_id: str, why: str) -> list[str]:
    """End the leases that an agent holds for one task, whatever their age; their paths. Those who wait for
    them move up."""
    held = [
        lease for lease in tx.all(leases.HELD_BY, agent_id=agent_id, now=tx.now) if lease.task_id == task_id
    ]
    for lease in held:
        leases.drop(tx, lease)
        leases.tell(tx, "lock_released", f"released {lease.path}: {why}", lease)
    queue.settle(tx, [lease.file_path for lease in held])
    return [lease.path for lease in held]
