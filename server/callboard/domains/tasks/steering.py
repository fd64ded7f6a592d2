"""The tools by which a lead steers the graph: hold, let go, try again, leave out."""

from typing import Any

from callboard.domains import delegations
from callboard.domains.tasks import claims
from callboard.domains.tasks.claims import release_files
from callboard.domains.tasks.deriving import Derived, derive, enter_line, follows
from callboard.domains.tasks.finishing import SHOWN, Finished, finished
from callboard.domains.tasks.task import Task, allow, enter, find, leader_of, notify, tell
from callboard.identity import Caller
from callboard.params import Reason, TaskId
from callboard.store import Row, Tx
from callboard.tool import Result, tool


class Steered(Result):
    task_id: str
    dag_status: str
    from_status: str
    assigned_agent_id: str | None = None
    newly_ready: list[str] | None = None
    newly_blocked: list[str] | None = None
    still_going: list[str] | None = None


class Id(Row):
    id: str


BEGUN_BEHIND = Id.query("""
    SELECT t.id FROM _task_edges AS e CROSS JOIN dag_tasks AS t ON t.lead_id = e.lead_id AND t.id = e.task_id
     WHERE e.lead_id = :lead_id AND e.dep_id = :task_id AND t.archived_at IS NULL
       AND t.dag_status NOT IN ('pending', 'ready', 'blocked', 'paused')
     ORDER BY t.seq LIMIT :limit
""")


def _steered(before: Task, after: Task, found: Derived, still_going: list[str] | None = None) -> Steered:
    return Steered(
        task_id=after.id,
        dag_status=after.dag_status,
        from_status=before.dag_status,
        assigned_agent_id=after.assigned_agent_id,
        newly_ready=found.ready[:SHOWN] or None,
        newly_blocked=found.blocked[:SHOWN] or None,
        still_going=still_going or None,
    )


def _open(tx: Tx, caller: Caller, task_id: str, action: str) -> Task:
    """The task, if the action is possible now. Raises UnknownTask, InvalidTransition."""
    claims.reap(tx)
    task = find(tx, caller.lead_id, task_id)
    allow(task, action)
    return task


def _tell(
    tx: Tx, caller: Caller, before: Task, after: Task, kind: str, verb: str, reason: str, found: Derived
) -> None:
    """Tell it to everybody, and the holder, whom it concerns most, through its inbox; also the lead, when
    one of its sub-leads did it."""
    said = f"{caller.agent_id} {verb} {after.called}" + (f": {reason}" if reason else ".")
    was = before.dag_status
    tell(
        tx,
        after,
        kind,
        said,
        was=was,
        reason=reason,
        newly_ready=found.ready[:20],
        newly_blocked=found.blocked[:20],
    )
    for agent_id in dict.fromkeys([before.assigned_agent_id, leader_of(tx, after.lead_id)]):
        urgent = agent_id == before.assigned_agent_id
        notify(tx, agent_id, after, kind, said, by=caller.agent_id, priority="urgent" if urgent else "normal")


@tool(writes=True, who="lead", profile="lead")
def pause_dag_task(tx: Tx, caller: Caller, task_id: TaskId, reason: Reason = "") -> Steered:
    """Hold a task that is not finished. Whoever works on it is told to stop, and keeps claim and locks.

    It goes on where it was with resume_dag_task. Refused with invalid_transition when it is finished.
    """
    task = _open(tx, caller, task_id, "pause")
    after = enter(
        tx, task, "pause", "paused", actor=caller.agent_id, reason=reason, paused_from=task.dag_status
    )
    # Being blocked is not ended by a pause, so nothing changes behind it.
    _tell(tx, caller, task, after, "task_paused", "paused", reason, Derived())
    return _steered(task, after, Derived())


@tool(writes=True, who="lead", profile="lead")
def resume_dag_task(tx: Tx, caller: Caller, task_id: TaskId, reason: Reason = "") -> Steered:
    """Let a paused task go on where it was: with its holder if that claim still stands, else as its
    dependencies say.

    Refused with invalid_transition when it is not paused.
    """
    task = _open(tx, caller, task_id, "resume")
    to = task.paused_from or "pending"
    if (to == "running" and not task.is_claimed(tx.now)) or to not in ("running", "in_review"):
        after, found = enter_line(tx, task, "resume", actor=caller.agent_id, reason=reason)
    else:
        after, found = enter(tx, task, "resume", to, actor=caller.agent_id, reason=reason), Derived()
    _tell(tx, caller, task, after, "task_resumed", "resumed", reason, found)
    return _steered(task, after, found)


@tool(writes=True, who="lead", profile="lead")
def retry_dag_task(tx: Tx, caller: Caller, task_id: TaskId, reason: Reason = "") -> Steered:
    """Give a failed task another try; what it had blocked waits for it again.

    Why it failed stays in its history. Refused with invalid_transition when it has not failed: use
    reopen_dag_task for what is done, skipped or cancelled.
    """
    task = _open(tx, caller, task_id, "retry")
    return _begin_again(tx, caller, task, "retry", "task_retried", "retried", reason)


@tool(writes=True, who="lead", profile="lead")
def reopen_dag_task(tx: Tx, caller: Caller, task_id: TaskId, reason: Reason = "") -> Steered:
    """Open a task again that is done, skipped or cancelled.

    What depends on it and has not begun waits for it again; what has begun or ended is left alone and
    named in still_going. Refused with invalid_transition from any other status.
    """
    task = _open(tx, caller, task_id, "reopen")
    return _begin_again(tx, caller, task, "reopen", "task_reopened", "reopened", reason)


def _begin_again(
    tx: Tx, caller: Caller, task: Task, action: str, kind: str, verb: str, reason: str
) -> Steered:
    fresh: dict[str, Any] = dict.fromkeys(
        ("failure_reason", "completed_at", "started_at", "overridden_by", "reviewer_id", "result_digest")
    )
    to = follows(tx, task, forced=False)
    opened = enter(tx, task, action, to, actor=caller.agent_id, reason=reason, attempts=0, **fresh)
    found = derive(tx, task.lead_id, [task.id], cause=task.id, reason=f"{task.id} was {verb}")
    begun = tx.all(BEGUN_BEHIND, lead_id=task.lead_id, task_id=task.id, limit=SHOWN)
    _tell(tx, caller, task, opened, kind, verb, reason, found)
    return _steered(task, opened, found, [row.id for row in begun] if action == "reopen" else None)


@tool(writes=True, who="lead", profile="lead", destructive=True)
def skip_dag_task(tx: Tx, caller: Caller, task_id: TaskId, reason: Reason = "") -> Finished:
    """Leave a task out; what depends on it goes on as if it were done.

    Whoever works on it is told, and its locks end. Refused with invalid_transition when it is done or
    cancelled. Use cancel_dag_task if the rest needs it.
    """
    return _leave_out(tx, caller, task_id, "skip", "skipped", reason)


@tool(writes=True, who="lead", profile="lead", destructive=True)
def cancel_dag_task(tx: Tx, caller: Caller, task_id: TaskId, reason: Reason = "") -> Finished:
    """Give a task up; what depends on it becomes blocked until that dependency is removed.

    Whoever works on it is told, and its locks end. The task is kept and can be reopened. Refused with
    invalid_transition when it is done or skipped.
    """
    return _leave_out(tx, caller, task_id, "cancel", "cancelled", reason)


def _leave_out(tx: Tx, caller: Caller, task_id: str, action: str, to: str, reason: str) -> Finished:
    task = _open(tx, caller, task_id, action)
    released = release_files(tx, task, f"{task_id} was {to}")
    after = enter(tx, task, action, to, actor=caller.agent_id, reason=reason, completed_at=tx.at)
    found = derive(tx, task.lead_id, [task_id], cause=task_id, reason=f"{task_id} was {to}")
    delegations.settle_for_task(
        tx,
        lead_id=task.lead_id,
        task_id=task_id,
        outcome="cancelled",
        result=reason or None,
        by=caller.agent_id,
    )
    _tell(tx, caller, task, after, f"task_{to}", to, reason, found)
    return finished(after, found, released)


@tool(writes=True, who="lead", profile="lead")
def force_ready_dag_task(tx: Tx, caller: Caller, task_id: TaskId, reason: Reason = "") -> Steered:
    """Make a pending or blocked task ready though its dependencies are not done; that you did is recorded.

    A new unsatisfied dependency ends it. Refused with invalid_transition from any other status.
    """
    task = _open(tx, caller, task_id, "force_ready")
    after = enter(
        tx, task, "force_ready", "ready", actor=caller.agent_id, reason=reason, overridden_by=caller.agent_id
    )
    found = derive(tx, task.lead_id, [task_id], cause=task_id, reason=f"{task_id} was forced")
    _tell(tx, caller, task, after, "task_forced_ready", "forced", reason, found)
    return _steered(task, after, found)
