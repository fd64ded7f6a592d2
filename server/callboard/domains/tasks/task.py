"""A task as the store keeps it, and the one statement by which its status changes.

Every change of a status goes through `enter` or, for a claim, through the statement that claims: a
compare-and-set that also writes the row of the task's history. Which actions lead away from which status
stands in `ALLOWED`; everything else is refused with the present status and what would be allowed.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from callboard import text
from callboard.errors import InvalidTransition, Refused, UnknownTask
from callboard.events import Event, Notice
from callboard.identity import MEMBER, Caller
from callboard.store import Command, Row, Tx, Value

Status = Literal[
    "pending", "ready", "running", "in_review", "done", "failed", "blocked", "paused", "skipped", "cancelled"
]
DERIVED: frozenset[str] = frozenset({"pending", "ready", "blocked"})
"""What follows from the dependencies."""
ENDED: frozenset[str] = frozenset({"done", "failed", "skipped", "cancelled"})

ALLOWED: Mapping[str, frozenset[str]] = {
    "claim": frozenset({"ready"}),
    "assign": frozenset({"ready", "running", "in_review"}),
    "release": frozenset({"running"}),
    "submit": frozenset({"running"}),
    "review": frozenset({"in_review"}),
    "complete": frozenset({"running", "paused", "ready", "in_review"}),
    "fail": frozenset({"running", "in_review"}),
    "pause": frozenset({"pending", "ready", "blocked", "running", "in_review"}),
    "resume": frozenset({"paused"}),
    "retry": frozenset({"failed"}),
    "reopen": frozenset({"done", "skipped", "cancelled"}),
    "skip": frozenset({"pending", "ready", "running", "in_review", "blocked", "paused", "failed"}),
    "cancel": frozenset({"pending", "ready", "running", "in_review", "blocked", "paused", "failed"}),
    "force_ready": frozenset({"pending", "blocked"}),
    "archive": ENDED,
}
"""From which statuses each action leads away."""


class Task(Row):
    id: str
    lead_id: str
    project_id: str
    team_id: str
    role: str
    title: str | None
    description: str
    files: str
    depends_on: str
    dag_status: Status
    priority: int
    model: str | None
    assigned_agent_id: str | None
    failure_reason: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    archived_at: str | None
    overridden_by: str | None
    seq: int
    unmet: int
    dependents: int
    version: int
    claim_epoch: int
    lease_ttl_ms: int | None
    lease_boot_ms: int | None
    lease_expires_at: str | None
    renew_until_boot_ms: int | None
    attempts: int
    paused_from: Status | None
    reviewer_id: str | None
    result_digest: bytes | None

    @property
    def file_paths(self) -> list[str]:
        paths: list[str] = json.loads(self.files)
        return paths

    @property
    def names_its_dependencies(self) -> list[str]:
        names: list[str] = json.loads(self.depends_on)
        return names

    @property
    def called(self) -> str:
        """The task in a sentence."""
        return f"{self.id} ({self.title})" if self.title else self.id

    def is_claimed(self, now: int) -> bool:
        """Whether somebody's claim on it stands."""
        return self.assigned_agent_id is not None and (self.lease_boot_ms or 0) > now


COLUMNS = ", ".join(Task.columns())
STATE = (
    "dag_status", "assigned_agent_id", "failure_reason", "started_at", "completed_at", "archived_at",
    "overridden_by", "claim_epoch", "lease_ttl_ms", "lease_boot_ms", "lease_expires_at",
    "renew_until_boot_ms", "attempts", "paused_from", "reviewer_id", "result_digest",
)  # fmt: skip
"""The columns that transitions change."""

UNCLAIMED: Mapping[str, Value] = {
    "lease_ttl_ms": None,
    "lease_boot_ms": None,
    "lease_expires_at": None,
    "renew_until_boot_ms": None,
}
"""The lease of a task that nobody has claimed."""

TASK = Task.query(f"SELECT {COLUMNS} FROM dag_tasks WHERE id = :id AND lead_id = :lead_id")
ENTER = Task.query(f"""
    UPDATE dag_tasks SET {", ".join(f"{column} = :{column}" for column in STATE)}
     WHERE id = :id AND lead_id = :lead_id AND dag_status = :was AND claim_epoch = :was_epoch
    RETURNING {COLUMNS}
""")
RECORD = Command("""
    INSERT INTO _task_transitions
           (lead_id, task_id, action, from_status, to_status, actor, assigned_agent_id, claim_epoch,
            cause_task_id, reason, created_at)
    VALUES (:lead_id, :task_id, :action, :from_status, :to_status, :actor, :assigned_agent_id, :claim_epoch,
            :cause_task_id, :reason, :at)
""")


class Name(Row):
    id: str


# Ids near a misspelt one are looked for among those that begin alike, so that this costs the same
# however many tasks there are.
ALIKE = Name.query("""
    SELECT id FROM dag_tasks
     WHERE lead_id = :lead_id AND archived_at IS NULL AND id >= :least AND id < :beyond LIMIT 200
""")


class LedBy(Row):
    led_by: str | None


LED_BY = LedBy.query("SELECT led_by FROM _crews WHERE lead_id = :lead_id")


class NotReady(Refused):
    """The task cannot be claimed yet."""


class Cycle(Refused):
    """These dependencies would make a task wait for itself."""


class TaskExists(Refused):
    """There is a task of that id already."""


def find(tx: Tx, lead_id: str, task_id: str) -> Task:
    """A task of the crew, archived or not. Raises UnknownTask."""
    task = tx.one(TASK, id=task_id, lead_id=lead_id)
    if task is None:
        raise unknown(tx, lead_id, task_id)
    return task


def unknown(tx: Tx, lead_id: str, task_id: str) -> UnknownTask:
    """The refusal of an id that no task of the crew has, with near names."""
    alike = tx.all(ALIKE, lead_id=lead_id, least=task_id[:1], beyond=task_id[:1] + "\U0010ffff")
    near = text.nearest(task_id, [name.id for name in alike])
    return UnknownTask(
        f"There is no task {task_id} in your crew.",
        hint=f"Did you mean {near[0]}?" if near else "See list_dag_tasks.",
        task_id=task_id,
        near=near or None,
    )


def allow(task: Task, action: str) -> None:
    """Refuse what the table of transitions does not have. Raises InvalidTransition."""
    if task.archived_at is None and task.dag_status in ALLOWED[action]:
        return
    raise invalid(task, action)


def invalid(task: Task, action: str, hint: str | None = None) -> InvalidTransition:
    """The refusal of an action, with what the task's status would allow."""
    archived = task.archived_at is not None
    now = ["unarchive"] if archived else [name for name, froms in ALLOWED.items() if task.dag_status in froms]
    return InvalidTransition(
        f"{task.id} is {'archived' if archived else task.dag_status}; it cannot be changed by {action}.",
        hint=hint or f"Possible now: {', '.join(now)}.",
        task_id=task.id,
        status=task.dag_status,
        archived=True if archived else None,
        action=action,
        allowed=now,
        allowed_from=sorted(ALLOWED.get(action, ())),
    )


def enter(
    tx: Tx,
    task: Task,
    action: str,
    to: str,
    *,
    actor: str | None,
    reason: str = "",
    cause: str | None = None,
    **changes: Value,
) -> Task:
    """Take a task from the status in which it was read to another; `changes` are further columns of its
    state. A task that leaves the active ones leaves its claim's lease behind unless `changes` say more."""
    state: dict[str, Value] = {column: getattr(task, column) for column in STATE}
    if to not in ("running", "in_review", "paused"):
        state |= UNCLAIMED
    if to != "paused":
        state["paused_from"] = None
    if to in DERIVED:
        state["assigned_agent_id"] = None
    state |= changes
    state["dag_status"] = to
    entered = tx.one(
        ENTER, id=task.id, lead_id=task.lead_id, was=task.dag_status, was_epoch=task.claim_epoch, **state
    )
    if entered is None:
        raise RuntimeError(f"task {task.id} changed within a transaction")
    record(tx, entered, action, task.dag_status, actor=actor, reason=reason, cause=cause)
    return entered


def record(
    tx: Tx,
    task: Task,
    action: str,
    was: str | None,
    *,
    actor: str | None,
    reason: str = "",
    cause: str | None = None,
) -> None:
    """Write one line of a task's history: what it is now, and what led to it."""
    tx.run(
        RECORD,
        lead_id=task.lead_id,
        task_id=task.id,
        action=action,
        from_status=was,
        to_status=task.dag_status,
        actor=actor,
        assigned_agent_id=task.assigned_agent_id,
        claim_epoch=task.claim_epoch,
        cause_task_id=cause,
        reason=reason or None,
        at=tx.at,
    )


def tell(
    tx: Tx, task: Task, kind: str, summary: str, *, agent_id: str | None = None, **details: object
) -> None:
    """Tell what happened to a task. `agent_id` is who did it, where that is not the caller."""
    member = tx.one(MEMBER, agent_id=agent_id) if agent_id else None
    tx.tell(
        Event(
            "tasks",
            kind,
            summary,
            subject=task.id,
            details={
                "task_id": task.id,
                "dag_status": task.dag_status,
                **{name: value for name, value in details.items() if value not in (None, [], "")},
            },
            agent_id=agent_id,
            agent_role=member.role if member else None,
            project_id=task.project_id,
            lead_id=task.lead_id,
        )
    )


def notify(
    tx: Tx,
    agent_id: str | None,
    task: Task,
    event: str,
    said: str,
    *,
    by: str | None,
    priority: Literal["normal", "high", "urgent"] = "normal",
    **facts: Any,
) -> None:
    """Tell an agent about a task through its inbox, unless it did this itself or is not there any more."""
    if agent_id is None or agent_id == by:
        return
    member = tx.one(MEMBER, agent_id=agent_id)
    if member is None or member.status == "terminated":
        return
    payload = {"text": said, "event": event, "task_id": task.id, "dag_status": task.dag_status, "by": by}
    payload |= facts
    tx.notify(
        Notice(
            agent_id, "task", {key: value for key, value in payload.items() if value is not None}, priority
        )
    )


def leader_of(tx: Tx, lead_id: str) -> str | None:
    """Who leads the crew now; None for a leaderless one."""
    crew = tx.one(LED_BY, lead_id=lead_id)
    return crew.led_by if crew else None


def is_lead(caller: Caller) -> bool:
    return caller.kind in ("lead", "human")
