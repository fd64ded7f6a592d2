"""The tools that put finished work away: archived tasks hold no files, satisfy and block nothing, and are
read only on request."""

import json
from typing import Annotated

from pydantic import Field

from callboard import graph
from callboard.domains import delegations
from callboard.domains.tasks import claims, dependencies
from callboard.domains.tasks.claims import release_files
from callboard.domains.tasks.dependencies import circle
from callboard.domains.tasks.deriving import derive
from callboard.domains.tasks.finishing import SHOWN
from callboard.domains.tasks.task import COLUMNS, ENDED, Task, enter, find, invalid, leader_of, notify, tell
from callboard.errors import InvalidArguments
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import Since, TaskId, TaskIds, WhyNeeded
from callboard.store import Command, Row, Tx
from callboard.tool import Result, tool

AT_ONCE = 5_000
"""Finished tasks that one call archives at most, oldest first."""


class Id(Row):
    id: str


class Needed(Row):
    id: str
    needed_by: str


# What failed or was cancelled keeps blocking, so it must stay as long as anything that is not archived
# with it depends on it.
NEEDED = Needed.query("""
    SELECT t.id, min(b.id) AS needed_by
      FROM json_each(:ids) AS c
           CROSS JOIN dag_tasks AS t ON t.id = c.value AND t.lead_id = :lead_id
           CROSS JOIN _task_edges AS e ON e.lead_id = :lead_id AND e.dep_id = t.id
           CROSS JOIN dag_tasks AS b ON b.id = e.task_id AND b.lead_id = :lead_id
     WHERE t.dag_status IN ('failed', 'cancelled') AND b.archived_at IS NULL
       AND b.id NOT IN (SELECT value FROM json_each(:ids))
     GROUP BY t.id ORDER BY t.id
""")
FINISHED_BEFORE = Id.query("""
    SELECT id FROM dag_tasks
     WHERE lead_id = :lead_id AND dag_status IN ('done', 'failed', 'skipped', 'cancelled')
       AND archived_at IS NULL AND completed_at < :before
     ORDER BY completed_at, id LIMIT :limit
""")
ARCHIVE = Command("""
    UPDATE dag_tasks SET archived_at = :at
     WHERE lead_id = :lead_id AND archived_at IS NULL AND id IN (SELECT value FROM json_each(:ids))
""")
ARCHIVE_ALL = Command("""
    UPDATE dag_tasks SET archived_at = :at WHERE lead_id = :lead_id AND archived_at IS NULL
""")
RECORD_ARCHIVED = Command("""
    INSERT INTO _task_transitions
           (lead_id, task_id, action, from_status, to_status, actor, assigned_agent_id, claim_epoch, reason,
            created_at)
    SELECT lead_id, id, :action, dag_status, dag_status, :actor, assigned_agent_id, claim_epoch, :reason, :at
      FROM dag_tasks
     WHERE lead_id = :lead_id AND archived_at IS NULL
       AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
     ORDER BY seq
""")
GOING = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE lead_id = :lead_id AND dag_status IN ('running', 'in_review', 'paused') AND archived_at IS NULL
     ORDER BY seq
""")


class Archived(Result):
    count: int
    archived: list[str]
    kept: list[str] | None = Field(default=None, description="Unfinished work still depends on these")
    more: bool | None = None


class Unarchived(Result):
    task_id: str
    dag_status: str
    newly_blocked: list[str] | None = None


class Reset(Result):
    count: int
    cancelled: list[str]


@tool(writes=True, who="lead", profile="lead")
def archive_dag_tasks(
    tx: Tx,
    caller: Caller,
    task_ids: TaskIds | None = None,
    finished_before: Annotated[Since | None, Field(description="All that ended before this UTC time")] = None,
) -> Archived:
    """Put finished tasks away: those named, or all that ended before a time.

    A failed or cancelled task on which unfinished work depends is refused with invalid_transition when
    named, else kept. Go on calling while more is true.
    """
    if (task_ids is None) == (finished_before is None):
        rule = "give either task_ids or finished_before"
        raise InvalidArguments(f"{rule.capitalize()}.", fields=[{"field": "task_ids", "rule": rule}])
    lead_id, more, kept = caller.lead_id, False, []
    if task_ids is not None:
        ids = list(dict.fromkeys(task_ids))
        for task in [find(tx, lead_id, task_id) for task_id in ids]:
            if task.archived_at is not None or task.dag_status not in ENDED:
                raise invalid(task, "archive")
        for row in tx.all(NEEDED, lead_id=lead_id, ids=json.dumps(ids)):
            task = find(tx, lead_id, row.id)
            hint = f"{row.needed_by} depends on it: remove that dependency first, or archive both."
            raise invalid(task, "archive", hint=hint)
    else:
        before = f"{finished_before}".removesuffix("Z").partition(".")[0] + ".000Z"
        found = tx.all(FINISHED_BEFORE, lead_id=lead_id, before=before, limit=AT_ONCE + 1)
        more = len(found) > AT_ONCE
        ids = [row.id for row in found[:AT_ONCE]]
        while needed := {row.id for row in tx.all(NEEDED, lead_id=lead_id, ids=json.dumps(ids))}:
            kept += sorted(needed)
            ids = [task_id for task_id in ids if task_id not in needed]
    values = {"lead_id": lead_id, "ids": json.dumps(ids), "at": tx.at}
    tx.run(RECORD_ARCHIVED, **values, action="archive", actor=caller.agent_id, reason=None)
    count = tx.run(ARCHIVE, **values)
    if ids:
        _tell(tx, caller, "task_archived", f"archived {count} tasks", ids)
    return Archived(
        count=count, archived=ids[:SHOWN], kept=kept[:SHOWN] or None, more=True if more and count else None
    )


@tool(writes=True, who="lead", profile="lead")
def unarchive_dag_task(tx: Tx, caller: Caller, task_id: TaskId) -> Unarchived:
    """Bring an archived task back, with its dependencies, as it was.

    Refused with invalid_transition when it is not archived, cycle when the graph has closed around it
    meanwhile.
    """
    task = find(tx, caller.lead_id, task_id)
    if task.archived_at is None:
        raise invalid(task, "unarchive")
    enter(tx, task, "unarchive", task.dag_status, actor=caller.agent_id, archived_at=None)
    walk = graph.find_cycle_through(task_id, lambda name: dependencies.above(tx, task.lead_id, name))
    if walk is not None:
        raise circle(walk)
    found = derive(
        tx, task.lead_id, [task_id], itself=True, cause=task_id, reason=f"{task_id} was unarchived"
    )
    after = find(tx, task.lead_id, task_id)
    tell(tx, after, "task_unarchived", f"brought back {after.called}", newly_blocked=found.blocked[:20])
    return Unarchived(
        task_id=task_id, dag_status=after.dag_status, newly_blocked=found.blocked[:SHOWN] or None
    )


@tool(writes=True, who="lead", profile="lead", destructive=True)
def reset_dag(tx: Tx, caller: Caller, reason: WhyNeeded) -> Reset:
    """Begin anew: cancel what is being worked on or held, and archive every task of your crew.

    Holders are told and their claims' locks end. Nothing is deleted; unarchive_dag_task brings single
    tasks back.
    """
    claims.reap(tx)
    going = tx.all(GOING, lead_id=caller.lead_id)
    for task in going:
        release_files(tx, task, "the graph was reset")
        after = enter(
            tx, task, "reset", "cancelled", actor=caller.agent_id, reason=reason, completed_at=tx.at
        )
        delegations.settle_for_task(
            tx, lead_id=task.lead_id, task_id=task.id, outcome="cancelled", result=reason, by=caller.agent_id
        )
        said = f"{caller.agent_id} reset the graph; stop working on {task.called}: {reason}"
        holder = task.assigned_agent_id
        notify(tx, holder, after, "dag_reset", said, by=caller.agent_id, priority="urgent")
    values = {"lead_id": caller.lead_id, "at": tx.at}
    tx.run(RECORD_ARCHIVED, **values, ids=None, action="reset", actor=caller.agent_id, reason=reason)
    count = tx.run(ARCHIVE_ALL, **values)
    ids = [task.id for task in going]
    _tell(tx, caller, "dag_reset", f"reset the graph of {count} tasks: {reason}", ids)
    if (leader := leader_of(tx, caller.lead_id)) is not None and going:
        notify(
            tx,
            leader,
            going[0],
            "dag_reset",
            f"{caller.agent_id} reset the graph: {reason}",
            by=caller.agent_id,
        )
    return Reset(count=count, cancelled=ids[:SHOWN])


def _tell(tx: Tx, caller: Caller, kind: str, said: str, ids: list[str]) -> None:
    details = {"task_ids": ids[:SHOWN], "count": len(ids)}
    tx.tell(Event("tasks", kind, said, subject=caller.lead_id, details=details, lead_id=caller.lead_id))
