"""Claims: who works on which task, under which epoch, until when.

A claim is a lease, like a lock: any call of its holder renews it, and one that ends without the holder's
word gives the task back. Its epoch comes from the store's one fence counter, so work handed in under an
older claim is recognised as late. A task comes back twice; the third time it fails as orphaned.
"""

from collections.abc import Iterable
from typing import NamedTuple

from callboard import globs
from callboard.domains import costs, delegations, locks
from callboard.domains.tasks.deriving import Derived, derive, enter_line, follows, spread
from callboard.domains.tasks.task import (
    COLUMNS,
    NotReady,
    Task,
    allow,
    enter,
    find,
    leader_of,
    notify,
    record,
    tell,
)
from callboard.errors import AgentTerminated, AlreadyClaimed, UnknownAgent
from callboard.identity import MEMBER, Caller, Member
from callboard.store import Command, Row, Tx

CLAIM_MS = 600_000
"""How long a claim lasts after the last sign of life of its holder."""

MAX_HOLD_MS = 4 * 3600 * 1000
"""How long a claim renews itself after it was made or refreshed by its holder."""

MOST_ATTEMPTS = 3
"""So many claims may end without their holders' word; with the last the task fails."""

_DEADLINE_TEXT = "strftime('%Y-%m-%dT%H:%M:%fZ', :at, (({deadline} - :now) / 1000.0) || ' seconds')"

# One statement decides: the row comes back to whoever has the task now, and to nobody else.
CLAIM = Task.query(f"""
    UPDATE dag_tasks
       SET dag_status = 'running', assigned_agent_id = :agent_id, claim_epoch = :epoch, started_at = :at,
           completed_at = NULL, reviewer_id = NULL, paused_from = NULL, lease_ttl_ms = {CLAIM_MS},
           lease_boot_ms = :now + {CLAIM_MS}, renew_until_boot_ms = :now + {MAX_HOLD_MS},
           lease_expires_at = {_DEADLINE_TEXT.format(deadline=f":now + {CLAIM_MS}")}
     WHERE id = :id AND lead_id = :lead_id AND dag_status = :was AND claim_epoch = :was_epoch
       AND (dag_status <> 'ready' OR assigned_agent_id IS NULL) AND archived_at IS NULL
    RETURNING {COLUMNS}
""")
REFRESH = Task.query(f"""
    UPDATE dag_tasks
       SET lease_boot_ms = max(lease_boot_ms, :now + {CLAIM_MS}), renew_until_boot_ms = :now + {MAX_HOLD_MS},
           lease_expires_at = {_DEADLINE_TEXT.format(deadline=f"max(lease_boot_ms, :now + {CLAIM_MS})")}
     WHERE id = :id AND lead_id = :lead_id AND assigned_agent_id = :agent_id AND lease_boot_ms > :now
    RETURNING {COLUMNS}
""")
_RENEWED = "max(lease_boot_ms, min(:now + lease_ttl_ms + :slack_ms, renew_until_boot_ms))"
RENEW = Command(f"""
    UPDATE dag_tasks
       SET lease_boot_ms = {_RENEWED}, lease_expires_at = {_DEADLINE_TEXT.format(deadline=_RENEWED)}
     WHERE assigned_agent_id = :agent_id AND dag_status IN ('running', 'in_review', 'paused')
       AND lease_boot_ms > :now
""")
LAPSED = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE lease_boot_ms IS NOT NULL AND lease_boot_ms <= :now ORDER BY lease_boot_ms, seq
""")
CLAIMED_BY = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE assigned_agent_id = :agent_id AND dag_status IN ('running', 'in_review', 'paused')
       AND lease_boot_ms IS NOT NULL ORDER BY seq
""")
READY_FOR = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE lead_id = :lead_id AND role = :role AND dag_status = 'ready' AND archived_at IS NULL
     ORDER BY priority DESC, dependents DESC, seq
""")


class Working(Row):
    id: str
    lead_id: str
    assigned_agent_id: str
    file_path: str


class Due(Row):
    boot_ms: int | None


WORKING = Working.query("""
    SELECT t.id, t.lead_id, t.assigned_agent_id, f.value AS file_path
      FROM dag_tasks AS t CROSS JOIN json_each(t.files) AS f
     WHERE t.project_id = :project_id AND t.dag_status IN ('running', 'in_review', 'paused')
       AND t.assigned_agent_id IS NOT NULL AND t.archived_at IS NULL AND t.assigned_agent_id <> :agent_id
""")
NEXT_DUE = Due.query("SELECT min(lease_boot_ms) AS boot_ms FROM dag_tasks WHERE lease_boot_ms IS NOT NULL")


class Obstacle(NamedTuple):
    """What keeps a file of a task from being worked on: another agent's lock, or its task."""

    file_path: str
    agent_id: str
    task_id: str | None


class Desk:
    """Which files an agent could work on now. Each is looked up once, however many tasks name it."""

    def __init__(self, tx: Tx, member: Member, project_id: str) -> None:
        self._tx = tx
        self._member = member
        self._project_id = project_id
        self._working = tx.all(WORKING, project_id=project_id, agent_id=member.agent_id)
        self._known: dict[str, Obstacle | None] = {}

    def obstacle(self, task: Task) -> Obstacle | None:
        """The first thing that stands against the agent's work on a task."""
        for path in task.file_paths:
            if path not in self._known:
                self._known[path] = self._look(path, task)
            if (found := self._known[path]) is not None:
                return found
        return None

    def _look(self, path: str, task: Task) -> Obstacle | None:
        for other in self._working:
            if globs.overlaps(other.file_path, path):
                shown = other.id if other.lead_id == task.lead_id else None
                return Obstacle(path, other.assigned_agent_id, shown)
        asked = _asked(self._member, self._project_id, task, [path])
        blocker = locks.standing_against(self._tx, asked)
        return Obstacle(path, blocker.agent_id, None) if blocker else None


def _asked(member: Member, project_id: str, task: Task, file_paths: Iterable[str]) -> locks.Request:
    return locks.request_for_task(
        agent_id=member.agent_id,
        agent_role=member.role,
        project_id=project_id,
        lead_id=task.lead_id,
        file_paths=file_paths,
        task_id=task.id,
        ttl_ms=CLAIM_MS,
    )


def member_of(tx: Tx, lead_id: str, agent_id: str) -> Member:
    """An agent of the crew that can be given work. Raises UnknownAgent, AgentTerminated."""
    member = tx.one(MEMBER, agent_id=agent_id)
    if member is None or member.lead_id != lead_id:
        raise UnknownAgent(
            f"{agent_id} is not in this crew.", agent_id=agent_id, hint="See list_agents with your lead_id."
        )
    if member.status == "terminated":
        raise AgentTerminated(
            f"{agent_id} has left.", hint="See list_agents.", agent_id=agent_id, since=member.terminated_at
        )
    return member


def claim(tx: Tx, member: Member, task: Task, *, lock_files: bool) -> Task:
    """Give a ready task to an agent that asks for it, or refresh the claim that it has.

    Raises NotReady, AlreadyClaimed, InvalidTransition, BudgetExceeded, and LockHeld for its files.
    """
    if task.dag_status == "running" and task.assigned_agent_id == member.agent_id:
        if lock_files:
            locks.take_for_task(tx, _asked(member, task.project_id, task, task.file_paths))
        return refresh(tx, task, member.agent_id)
    if task.dag_status in ("running", "in_review") and task.archived_at is None:
        raise already_claimed(task, hint="Take another with claim_next_dag_task.")
    _check_ready(task, "claim", ("pending", "blocked", "paused"))
    return _taken(tx, member, task, "claim", member.agent_id, "", lock_files)


def already_claimed(task: Task, *, hint: str) -> AlreadyClaimed:
    """The refusal of a task that somebody works on."""
    return AlreadyClaimed(
        f"{task.assigned_agent_id} has {task.id}.",
        hint=hint,
        task_id=task.id,
        status=task.dag_status,
        holder=task.assigned_agent_id,
        since=task.started_at,
    )


def assign(
    tx: Tx,
    caller: Caller,
    *,
    lead_id: str,
    task_id: str,
    agent_id: str,
    reason: str,
    lock_files: bool = False,
    quietly: bool = False,
) -> Task:
    """Give a task to an agent of the crew, also one that another agent has, who is told. The agent itself
    is told too, unless `quietly`: then whoever calls this tells it more.

    Raises UnknownTask, UnknownAgent, AgentTerminated, NotReady, InvalidTransition, BudgetExceeded, LockHeld.
    """
    reap(tx)
    task = find(tx, lead_id, task_id)
    member = member_of(tx, lead_id, agent_id)
    if task.dag_status == "running" and task.assigned_agent_id == agent_id:
        return refresh(tx, task, agent_id)
    _check_ready(task, "assign", ("pending", "blocked"))
    former = task.assigned_agent_id
    if former is not None:
        release_files(tx, task, f"{task.id} was given to {agent_id}")
    taken = _taken(tx, member, task, "assign", caller.agent_id, reason, lock_files)
    if former is not None and former != agent_id:
        said = f"{taken.called} was given to {agent_id} and is no longer yours."
        notify(
            tx,
            former,
            taken,
            "task_assigned",
            said,
            by=caller.agent_id,
            priority="urgent",
            reason=reason or None,
        )
    if not quietly:
        said = f"{caller.agent_id} gave you {taken.called}."
        epoch = taken.claim_epoch
        notify(
            tx, agent_id, taken, "task_assigned", said, by=caller.agent_id, priority="high",
            claim_epoch=epoch, reason=reason or None,
        )  # fmt: skip
    return taken


def _check_ready(task: Task, action: str, not_yet: tuple[str, ...]) -> None:
    if task.archived_at is None and task.dag_status in not_yet:
        raise NotReady(
            f"{task.id} is {task.dag_status}.",
            hint="See get_dag_task for what it waits for; claim_next_dag_task gives you another.",
            task_id=task.id,
            status=task.dag_status,
            waits_for=task.names_its_dependencies[:20] or None,
        )
    allow(task, action)


def _taken(
    tx: Tx, member: Member, task: Task, action: str, actor: str, reason: str, lock_files: bool
) -> Task:
    refusal = costs.blocked_budget(tx, lead_id=task.lead_id, project_id=task.project_id, task_id=task.id)
    if refusal is not None:
        raise refusal
    if lock_files:
        locks.take_for_task(tx, _asked(member, task.project_id, task, task.file_paths))
    taken = tx.one(
        CLAIM,
        id=task.id,
        lead_id=task.lead_id,
        agent_id=member.agent_id,
        epoch=tx.next_fence(),
        was=task.dag_status,
        was_epoch=task.claim_epoch,
        at=tx.at,
        now=tx.now,
    )
    if taken is None:
        raise RuntimeError(f"task {task.id} was claimed over a claim")
    record(tx, taken, action, task.dag_status, actor=actor, reason=reason)
    # It may have been delegated to another, who lost it or never began.
    delegations.settle_for_task(
        tx,
        lead_id=task.lead_id,
        task_id=task.id,
        outcome="cancelled",
        result=None,
        by=actor,
        unless_to=member.agent_id,
    )
    kind, verb = (
        ("task_started", "began") if action == "claim" else ("task_assigned", f"gave {member.agent_id}")
    )
    tell(tx, taken, kind, f"{verb} {taken.called}", holder=member.agent_id, claim_epoch=taken.claim_epoch)
    return taken


def refresh(tx: Tx, task: Task, agent_id: str) -> Task:
    """Let a claim begin its time anew, under the same epoch."""
    refreshed = tx.one(REFRESH, id=task.id, lead_id=task.lead_id, agent_id=agent_id, at=tx.at, now=tx.now)
    if refreshed is None:
        raise RuntimeError(f"the claim on {task.id} was over")
    tell(tx, refreshed, "task_claim_refreshed", f"goes on with {task.called}", claim_epoch=task.claim_epoch)
    return refreshed


def renew_claims(tx: Tx, agent_id: str, *, slack_ms: int) -> None:
    """Renew what an agent has claimed, as it has shown a sign of life; like `locks.renew_leases`."""
    tx.run(RENEW, agent_id=agent_id, slack_ms=slack_ms, at=tx.at, now=tx.now)


def release_files(tx: Tx, task: Task, why: str) -> list[str]:
    """End the locks that belong to the claim on a task; their paths."""
    if task.assigned_agent_id is None:
        return []
    return locks.release_for_task(tx, agent_id=task.assigned_agent_id, task_id=task.id, why=why)


def reap(tx: Tx) -> None:
    """Take back the tasks whose claims have lapsed."""
    for task in tx.all(LAPSED, now=tx.now):
        _orphaned(tx, task, "its claim lapsed")


def next_due(tx: Tx) -> int | None:
    """When the next claim lapses unless it is renewed, on the boot clock."""
    due = tx.one(NEXT_DUE)
    return due.boot_ms if due else None


def end_claims(tx: Tx, agent_id: str, why: str) -> list[str]:
    """Take back everything that an agent has claimed which has left or is gone; the tasks' ids."""
    claimed = tx.all(CLAIMED_BY, agent_id=agent_id)
    for task in claimed:
        _orphaned(tx, task, why)
    return [task.id for task in claimed]


def _orphaned(tx: Tx, task: Task, why: str) -> None:
    """A claim has ended without its holder's word. A submission can still be judged without its author,
    and what the lead has paused stays so; anything else begins anew, or fails when that has happened too
    often."""
    holder = task.assigned_agent_id
    release_files(tx, task, why)
    reviewed = "in_review" in (task.dag_status, task.paused_from)
    attempts = task.attempts + (task.dag_status == "running")
    found = Derived()
    if reviewed:
        after = enter(tx, task, "orphan", task.dag_status, actor=None, reason=why, **_NO_LEASE)
    elif task.dag_status == "paused":
        changes = {**_NO_LEASE, "assigned_agent_id": None, "paused_from": follows(tx, task)}
        after = enter(tx, task, "orphan", "paused", actor=None, reason=why, **changes)
        found = spread(tx, after)
    elif attempts < MOST_ATTEMPTS:
        after, found = enter_line(tx, task, "orphan", actor=None, reason=why, attempts=attempts)
    else:
        after = enter(
            tx, task, "orphan", "failed", actor=None, reason=why, attempts=attempts,
            failure_reason="orphaned", completed_at=tx.at,
        )  # fmt: skip
        found = derive(tx, task.lead_id, [task.id], cause=task.id, reason="orphaned")
        delegations.settle_for_task(
            tx, lead_id=task.lead_id, task_id=task.id, outcome="failed", result="orphaned", by="server"
        )
    said = f"{holder} no longer has {task.called}: {why}; it is {after.dag_status} now."
    facts = {"attempts": attempts, "newly_blocked": found.blocked[:20] or None}
    tell(
        tx, after, "task_orphaned", said, agent_id=holder, holder=holder, claim_epoch=task.claim_epoch,
        **facts,
    )  # fmt: skip
    for agent_id in dict.fromkeys([leader_of(tx, task.lead_id), holder]):
        notify(tx, agent_id, after, "task_orphaned", said, by=None, priority="high", **facts)


_NO_LEASE: dict[str, None] = dict.fromkeys(
    ("lease_ttl_ms", "lease_boot_ms", "lease_expires_at", "renew_until_boot_ms")
)
