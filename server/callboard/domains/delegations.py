"""Delegations: work that one agent hands to another, and what came of it.

The row is the only truth. It keeps who gave the work, and it leaves `active` once: by the word of either
agent, with the end of the task that it is linked to, or with the end of either agent.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from callboard.domains import messages
from callboard.errors import InvalidTransition, NotFound, NotOwner
from callboard.events import Event, Notice
from callboard.identity import MEMBER, Caller
from callboard.params import AfterId, AgentId, DelegationId, Limit, Outcome, Reason, TaskId
from callboard.store import Query, Row, Tx
from callboard.tool import Result, fitted, tool

Status = Literal["active", "completed", "failed", "cancelled"]
End = Literal["completed", "failed", "cancelled"]

OF_TASK_SHOWN = 20
"""How many delegations of one task are shown with it: the latest."""

BY_TASK: Mapping[End, str] = {
    "completed": "is done",
    "failed": "has failed",
    "cancelled": "was called off or given to another",
}
"""What became of the task, where it ended the delegation."""

SHORT = 80
"""Characters of a task that stand for it in a line of the ledger or of a notice."""


class Delegation(Row):
    delegation_id: str
    agent_id: str
    task: str
    context: str | None
    dag_task_id: str | None
    status: Status
    created_at: str
    completed_at: str | None
    result: str | None
    delegator_id: str
    lead_id: str
    project_id: str
    message_id: int | None
    seq: int

    @property
    def outcome(self) -> str | None:
        """The result as text; it is stored as JSON."""
        return None if self.result is None else str(json.loads(self.result))


class Number(Row):
    seq: int


COLUMNS = ", ".join(Delegation.columns())
DELEGATION = Delegation.query(f"""
    SELECT {COLUMNS} FROM active_delegations WHERE delegation_id = :delegation_id
""")
NEXT_SEQ = Number.query("SELECT coalesce(max(seq), 0) + 1 AS seq FROM active_delegations")
GIVE = Delegation.query(f"""
    INSERT INTO active_delegations
           (delegation_id, agent_id, task, context, dag_task_id, status, created_at, delegator_id, lead_id,
            project_id, message_id, seq)
    VALUES (:delegation_id, :agent_id, :task, :context, :dag_task_id, 'active', :at, :delegator_id, :lead_id,
            :project_id, :message_id, :seq)
    RETURNING {COLUMNS}
""")
# Whoever ends it first has ended it: only what is active changes.
SETTLE = Delegation.query(f"""
    UPDATE active_delegations SET status = :status, result = :result, completed_at = :at
     WHERE delegation_id = :delegation_id AND status = 'active'
    RETURNING {COLUMNS}
""")
# The unary plus keeps the planner on the few of a task or an agent, off the many of a crew.
ACTIVE_OF_TASK = Delegation.query(f"""
    SELECT {COLUMNS} FROM active_delegations
     WHERE dag_task_id = :task_id AND +lead_id = :lead_id AND status = 'active' ORDER BY seq
""")
ACTIVE_TO = Delegation.query(f"""
    SELECT {COLUMNS} FROM active_delegations WHERE agent_id = :agent_id AND status = 'active' ORDER BY seq
""")
ACTIVE_FROM = Delegation.query(f"""
    SELECT {COLUMNS} FROM active_delegations WHERE delegator_id = :agent_id AND status = 'active' ORDER BY seq
""")
LATEST_OF_TASK = Delegation.query(f"""
    SELECT {COLUMNS} FROM active_delegations
     WHERE dag_task_id = :task_id AND +lead_id = :lead_id ORDER BY seq DESC LIMIT :limit
""")


def _listing(leading: str) -> Query[Delegation]:
    """One way to page through delegations. `leading` is the filter that an index serves."""
    return Delegation.query(f"""
        SELECT {COLUMNS} FROM active_delegations
         WHERE {leading} AND seq > :after
           AND (:agent_id IS NULL OR agent_id = :agent_id) AND (:status IS NULL OR status = :status)
           AND (:task_id IS NULL OR dag_task_id = :task_id)
         ORDER BY seq LIMIT :limit
    """)


Leading = Literal["task", "agent", "crew", "project"]
LISTINGS: Mapping[Leading, Query[Delegation]] = {
    "task": _listing("dag_task_id = :task_id AND +lead_id = :lead_id"),
    "agent": _listing("agent_id = :agent_id AND +lead_id = :lead_id"),
    "crew": _listing("lead_id = :lead_id"),
    # A human reads those of every crew of the project.
    "project": _listing("project_id = :project_id"),
}


class DelegationView(Result):
    delegation_id: str
    agent_id: str
    delegator_id: str
    status: Status
    created_at: str
    completed_at: str | None = None


class DelegationDetail(DelegationView):
    task: str
    context: str | None = None
    dag_task_id: str | None = None
    result: str | None = None


class DelegationPage(Result):
    delegations: list[DelegationDetail]
    next_after_id: int | None = None


def _view(row: Delegation) -> DelegationView:
    return DelegationView(
        delegation_id=row.delegation_id,
        agent_id=row.agent_id,
        delegator_id=row.delegator_id,
        status=row.status,
        created_at=row.created_at,
        completed_at=row.completed_at,
    )


def _detail(row: Delegation) -> DelegationDetail:
    """A delegation with its texts."""
    return DelegationDetail(
        **_view(row).model_dump(),
        task=row.task,
        context=row.context,
        dag_task_id=row.dag_task_id,
        result=row.outcome,
    )


def of_task(tx: Tx, *, lead_id: str, task_id: str) -> list[DelegationView]:
    """The latest delegations of a task, oldest first."""
    rows = tx.all(LATEST_OF_TASK, lead_id=lead_id, task_id=task_id, limit=OF_TASK_SHOWN)
    return [_view(row) for row in reversed(rows)]


def give(
    tx: Tx,
    caller: Caller,
    *,
    agent_id: str,
    lead_id: str,
    task: str,
    context: str | None,
    dag_task_id: str | None,
    claim_epoch: int | None,
) -> DelegationView:
    """Hand work to an agent: the row, and the message that tells it. `claim_epoch` is that of the claim
    which was made with it."""
    delegation_id = f"delegation-{tx.ids(4)}"
    payload: dict[str, object] = {
        "text": task,
        "event": "delegated",
        "delegation_id": delegation_id,
        "context": context,
        "dag_task_id": dag_task_id,
        "claim_epoch": claim_epoch,
    }
    payload = {key: value for key, value in payload.items() if value is not None}
    message_id = messages.post(
        tx,
        Notice(agent_id, "delegation", payload, source_agent_id=caller.agent_id, source_role=caller.role),
        caller,
    )
    number = tx.one(NEXT_SEQ)
    assert number is not None
    given = tx.one(
        GIVE,
        delegation_id=delegation_id,
        agent_id=agent_id,
        task=task,
        context=context,
        dag_task_id=dag_task_id,
        at=tx.at,
        delegator_id=caller.agent_id,
        lead_id=lead_id,
        project_id=caller.project_id,
        message_id=message_id,
        seq=number.seq,
    )
    assert given is not None
    tx.tell(
        Event(
            "tasks",
            "delegated",
            f"delegated to {agent_id}: {_short(task)}",
            subject=delegation_id,
            details={"delegation_id": delegation_id, "agent_id": agent_id, "dag_task_id": dag_task_id},
            lead_id=lead_id,
        )
    )
    return _view(given)


def settle_for_task(
    tx: Tx,
    *,
    lead_id: str,
    task_id: str,
    outcome: End,
    result: str | None,
    by: str,
    unless_to: str | None = None,
) -> None:
    """End the active delegations of a task that has ended or gone to another agent. `by` is who ended it;
    a delegation to the agent `unless_to`, who takes the task up again, stands."""
    why = f"task {task_id} {BY_TASK[outcome]}"
    for delegation in tx.all(ACTIVE_OF_TASK, lead_id=lead_id, task_id=task_id):
        if delegation.agent_id != unless_to:
            _settle(tx, delegation, outcome, result, by=by, why=why)


def settle_for_agent(tx: Tx, agent_id: str, *, by: str) -> list[str]:
    """End what an agent that has left was given, which fails, and what it gave, which is cancelled, as
    nobody is left who waits for its outcome. The ids of all of them."""
    given = tx.all(ACTIVE_TO, agent_id=agent_id)
    gave = tx.all(ACTIVE_FROM, agent_id=agent_id)
    why = f"{agent_id} has left"
    for delegation in given:
        _settle(tx, delegation, "failed", None, by=by, why=why, gone=agent_id)
    for delegation in gave:
        _settle(tx, delegation, "cancelled", None, by=by, why=why, gone=agent_id)
    return [delegation.delegation_id for delegation in given + gave]


def _settle(
    tx: Tx,
    delegation: Delegation,
    outcome: End,
    result: str | None,
    *,
    by: str,
    why: str,
    gone: str | None = None,
) -> Delegation | None:
    """End an active delegation, in one statement; None for one that had ended before.

    Its delegator is told, and on cancelling its assignee, unless they ended it themselves or are `gone`.
    Unless the assignee itself ended it, the message that gave the work ends with it.
    """
    ended = tx.one(
        SETTLE,
        delegation_id=delegation.delegation_id,
        status=outcome,
        result=None if result is None else json.dumps(result, ensure_ascii=False),
        at=tx.at,
    )
    if ended is None:
        return None
    unseen = by != ended.agent_id and ended.message_id is not None and messages.withdraw(tx, ended.message_id)
    said = f"{ended.delegation_id} ({_short(ended.task)}) is {outcome}"
    facts: dict[str, object] = {
        "event": f"delegation_{outcome}",
        "delegation_id": ended.delegation_id,
        "agent_id": ended.agent_id,
        "by": by,
    }
    if ended.dag_task_id is not None:
        facts["dag_task_id"] = ended.dag_task_id
    member = tx.one(MEMBER, agent_id=by)

    def tell(target: str, kind: Literal["delegation", "delegation_result"], text: str) -> None:
        tx.notify(
            Notice(
                target,
                kind,
                {"text": text} | facts,
                "high" if kind == "delegation" else "normal",
                source_agent_id=by if member else None,
                source_role=member.role if member else None,
            )
        )

    if ended.delegator_id not in (by, gone):
        tell(ended.delegator_id, "delegation_result", f"{said}: {result or why}")
    if outcome == "cancelled" and not unseen and ended.agent_id not in (by, gone):
        tell(ended.agent_id, "delegation", f"{said}: {why}")
    tx.tell(
        Event(
            "tasks",
            f"delegation_{outcome}",
            f"{said}: {why}",
            subject=ended.delegation_id,
            details=facts,
            lead_id=ended.lead_id,
        )
    )
    return ended


def _short(task: str) -> str:
    """The beginning of a task, for a line that people read."""
    line = " ".join(task.split())
    return line if len(line) <= SHORT else line[: SHORT - 1] + "…"


# The tools


class Ended(Result):
    delegation_id: str
    status: Status
    agent_id: str
    delegator_id: str
    dag_task_id: str | None = None
    completed_at: str | None = None


def _found(tx: Tx, caller: Caller, delegation_id: str) -> Delegation:
    """A delegation that the caller may see. Raises NotFound, for another crew's as for one that is not."""
    row = tx.one(DELEGATION, delegation_id=delegation_id)
    own = row is not None and (
        row.lead_id == caller.lead_id or (caller.kind == "human" and row.project_id == caller.project_id)
    )
    if row is None or not own:
        raise NotFound(
            f"There is no delegation {delegation_id}.",
            hint="See list_delegations.",
            kind="delegation",
            given=delegation_id,
        )
    return row


def _end(
    tx: Tx, caller: Caller, delegation: Delegation, owner: str, outcome: End, result: str | None, why: str
) -> Ended:
    """End a delegation by the word of its owner. Raises NotOwner, InvalidTransition."""
    if caller.agent_id != owner and not (caller.kind == "human" and outcome == "cancelled"):
        raise NotOwner(
            f"Only {owner} can say that {delegation.delegation_id} is {outcome}.",
            object=delegation.delegation_id,
            owner=owner,
        )
    ended = _settle(tx, delegation, outcome, result, by=caller.agent_id, why=why)
    if ended is None:
        raise InvalidTransition(
            f"{delegation.delegation_id} is {delegation.status} already.",
            delegation_id=delegation.delegation_id,
            status=delegation.status,
            action=outcome,
            allowed_from=["active"],
        )
    return Ended(
        delegation_id=ended.delegation_id,
        status=ended.status,
        agent_id=ended.agent_id,
        delegator_id=ended.delegator_id,
        dag_task_id=ended.dag_task_id,
        completed_at=ended.completed_at,
    )


@tool(writes=True)
def complete_delegation(tx: Tx, caller: Caller, delegation_id: DelegationId, result: Outcome) -> Ended:
    """Hand back what came of work that was delegated to you; the result is kept and the delegator told.

    Where it is linked to a task, complete_dag_task settles both. Refused with invalid_transition once it
    has ended.
    """
    delegation = _found(tx, caller, delegation_id)
    return _end(tx, caller, delegation, delegation.agent_id, "completed", result, "done")


@tool(writes=True)
def fail_delegation(tx: Tx, caller: Caller, delegation_id: DelegationId, result: Outcome) -> Ended:
    """Say that you cannot do work that was delegated to you, and why; the delegator is told.

    Where it is linked to a task, fail_dag_task or release_dag_task says so of the task.
    """
    delegation = _found(tx, caller, delegation_id)
    return _end(tx, caller, delegation, delegation.agent_id, "failed", result, "given up")


@tool(writes=True, destructive=True, profile="lead")
def cancel_delegation(tx: Tx, caller: Caller, delegation_id: DelegationId, reason: Reason = "") -> Ended:
    """Take back work that you delegated; its message ends if it was not read, else the agent is told.

    A linked task stays with its holder: cancel_dag_task or assign_dag_task takes that away.
    """
    delegation = _found(tx, caller, delegation_id)
    why = reason or "no longer wanted"
    return _end(tx, caller, delegation, delegation.delegator_id, "cancelled", reason or None, why)


@tool()
def list_delegations(
    tx: Tx,
    caller: Caller,
    target_agent_id: AgentId | None = None,
    status: Annotated[Status | None, Field(description="Only these")] = None,
    dag_task_id: TaskId | None = None,
    limit: Limit = 50,
    after_id: AfterId | None = None,
) -> DelegationPage:
    """List the work that was delegated in your crew, oldest first, with its outcome.

    target_agent_id is who does it. Go on with after_id = next_after_id.
    """
    leading: Leading = "task" if dag_task_id else "agent" if target_agent_id else "crew"
    rows = tx.all(
        LISTINGS["project" if caller.kind == "human" else leading],
        lead_id=caller.lead_id,
        project_id=caller.project_id,
        agent_id=target_agent_id,
        status=status,
        task_id=dag_task_id,
        after=after_id or 0,
        limit=limit + 1,
    )
    shown, more = fitted([_detail(row) for row in rows], limit)
    return DelegationPage(delegations=shown, next_after_id=rows[len(shown) - 1].seq if more else None)


TOOLS = (complete_delegation, fail_delegation, cancel_delegation, list_delegations)
