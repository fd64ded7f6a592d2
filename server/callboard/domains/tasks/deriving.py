"""Derivation: which tasks are ready, pending or blocked, as it follows from their dependencies.

A task is ready when each dependency is satisfied (done, skipped or archived) or when it was forced; else
blocked when something it waits for cannot happen by itself: a dependency that is failed, cancelled or
itself blocked, or a decision that was turned down; else pending. So being blocked travels along the edges,
through paused tasks too, and ends at a task that is being worked on or was forced: that one will finish.
The stored status is brought up to date in the transaction of every change, and only where it can differ:
among the dependents of what changed.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from callboard.domains.tasks.task import RECORD, Status, Task, enter
from callboard.events import Signal
from callboard.store import Command, Query, Row, Tx

STUCK = """
    (d.dag_status IN ('failed', 'cancelled', 'blocked')
     OR (d.dag_status = 'paused' AND d.paused_from = 'blocked'))
"""
"""A dependency `d` that will not be done by itself."""
TURNED_DOWN = "r.status IN ('rejected', 'dismissed', 'withdrawn')"

FOLLOWS_UNFORCED = f"""
    CASE WHEN t.unmet = 0 THEN 'ready'
         WHEN EXISTS (SELECT 1 FROM _task_edges AS e CROSS JOIN dag_tasks AS d
                       WHERE e.lead_id = t.lead_id AND e.task_id = t.id
                         AND d.lead_id = e.lead_id AND d.id = e.dep_id AND d.archived_at IS NULL AND {STUCK})
           OR EXISTS (SELECT 1 FROM _task_decisions AS w CROSS JOIN decisions AS r
                       WHERE w.lead_id = t.lead_id AND w.task_id = t.id AND r.id = w.decision_id
                         AND {TURNED_DOWN}) THEN 'blocked'
         ELSE 'pending' END
"""
"""The status that follows for the task `t` unless it was forced. The cross joins keep the planner on the
task's own edges."""
FOLLOWS = f"iif(t.overridden_by IS NOT NULL, 'ready', {FOLLOWS_UNFORCED})"


class Due(Row):
    """A task whose stored status is not what follows."""

    id: str
    dag_status: Status
    was: Status
    follows: Status
    claim_epoch: int


class Followed(Row):
    follows: Status


def _due(source: str) -> Query[Due]:
    return Due.query(f"""
        SELECT id, dag_status, was, follows, claim_epoch
          FROM (SELECT t.id, t.dag_status, iif(t.dag_status = 'paused', t.paused_from, t.dag_status) AS was,
                       {FOLLOWS} AS follows, t.claim_epoch
                  FROM {source}
                 WHERE t.lead_id = :lead_id AND t.archived_at IS NULL
                   AND t.dag_status IN ('pending', 'ready', 'blocked', 'paused'))
         WHERE was IN ('pending', 'ready', 'blocked') AND was <> follows
         GROUP BY id ORDER BY id
    """)


DUE_AMONG = _due("json_each(:ids) AS c CROSS JOIN dag_tasks AS t ON t.id = c.value")
DUE_BEHIND = _due("""
    json_each(:ids) AS c CROSS JOIN _task_edges AS b ON b.lead_id = :lead_id AND b.dep_id = c.value
    CROSS JOIN dag_tasks AS t ON t.id = b.task_id
""")
FOLLOWS_FOR = {
    True: Followed.query(
        f"SELECT {FOLLOWS} AS follows FROM dag_tasks AS t WHERE id = :id AND lead_id = :lead_id"
    ),
    False: Followed.query(
        f"SELECT {FOLLOWS_UNFORCED} AS follows FROM dag_tasks AS t WHERE id = :id AND lead_id = :lead_id"
    ),
}
SET_STATUS = Command("""
    UPDATE dag_tasks
       SET paused_from = iif(dag_status = 'paused', :follows, NULL),
           dag_status = iif(dag_status = 'paused', dag_status, :follows)
     WHERE id = :id AND lead_id = :lead_id
""")


class Waiting(Row):
    lead_id: str
    task_id: str


WAITING_FOR_DECISION = Waiting.query("""
    SELECT lead_id, task_id FROM _task_decisions WHERE decision_id = :decision_id ORDER BY lead_id, task_id
""")


@dataclass(slots=True)
class Derived:
    """What followed from a change."""

    ready: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)


def follows(tx: Tx, task: Task, *, forced: bool = True) -> Status:
    """What a task's dependencies make of it, whatever it is now; `forced` is whether it counts that
    somebody made it ready all the same."""
    found = tx.one(FOLLOWS_FOR[forced], id=task.id, lead_id=task.lead_id)
    assert found is not None
    return found.follows


def enter_line(
    tx: Tx, task: Task, action: str, *, actor: str | None, reason: str, **changes: Any
) -> tuple[Task, Derived]:
    """Put a task that was worked on back in line, with what its dependencies make of it now, and what follows
    from that. While it was worked on it blocked nobody; if it is blocked, it blocks what waits for it."""
    after = enter(tx, task, action, follows(tx, task), actor=actor, reason=reason, **changes)
    return after, spread(tx, after)


def spread(tx: Tx, task: Task) -> Derived:
    """Bring what waits for a task up to date if that is blocked, behind a pause too."""
    if "blocked" not in (task.dag_status, task.paused_from):
        return Derived()
    return derive(tx, task.lead_id, [task.id], cause=task.id, reason=f"{task.id} is blocked")


def derive(
    tx: Tx,
    lead_id: str,
    changed: Iterable[str],
    *,
    itself: bool = False,
    cause: str | None = None,
    reason: str = "",
) -> Derived:
    """Bring the dependents of what changed up to date, with `itself` those that changed as well; a row of
    history for each, naming `cause` as the task whose change led to it.

    Costs what it touches: one statement for each step along the edges, and only a task that begins or ends
    being blocked leads a step further.
    """
    found = Derived()
    frontier = list(dict.fromkeys(changed))
    due = tx.all(DUE_AMONG, lead_id=lead_id, ids=json.dumps(frontier)) if itself else []
    turned = _set(tx, lead_id, due, found, cause, reason)
    frontier = list(dict.fromkeys([*frontier, *turned]))
    while frontier:
        due = tx.all(DUE_BEHIND, lead_id=lead_id, ids=json.dumps(frontier))
        frontier = _set(tx, lead_id, due, found, cause, reason)
    return found


def _set(tx: Tx, lead_id: str, due: list[Due], found: Derived, cause: str | None, reason: str) -> list[str]:
    """Store what follows for each; those whose being blocked began or ended."""
    tx.run_many(SET_STATUS, [{"id": task.id, "lead_id": lead_id, "follows": task.follows} for task in due])
    seen = [task for task in due if task.dag_status != "paused"]
    tx.run_many(
        RECORD,
        [
            {
                "lead_id": lead_id,
                "task_id": task.id,
                "action": "derive",
                "from_status": task.was,
                "to_status": task.follows,
                "actor": None,
                "assigned_agent_id": None,
                "claim_epoch": task.claim_epoch,
                "cause_task_id": cause,
                "reason": reason or None,
                "at": tx.at,
            }
            for task in seen
        ],
    )
    for task in due:
        tx.tell(Signal("tasks", "task_derived", task.id, lead_id=lead_id))
    for task in seen:
        list_of = {"ready": found.ready, "blocked": found.blocked, "pending": found.pending}
        list_of[task.follows].append(task.id)
    return [task.id for task in due if "blocked" in (task.was, task.follows)]


def settle_decision(tx: Tx, decision_id: str, *, outcome: str) -> list[str]:
    """A decision was resolved: bring the tasks that wait for it up to date; those that became ready."""
    waiting = tx.all(WAITING_FOR_DECISION, decision_id=decision_id)
    ready: list[str] = []
    for lead_id in dict.fromkeys(row.lead_id for row in waiting):
        ids = [row.task_id for row in waiting if row.lead_id == lead_id]
        ready += derive(tx, lead_id, ids, itself=True, reason=f"decision {decision_id} {outcome}").ready
    return ready
