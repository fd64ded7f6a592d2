"""Delegating: work, the claim of its task and the message that tells it are handed over together or not
at all."""

import json
from typing import Annotated

from pydantic import Field

from callboard.domains import delegations, roster
from callboard.domains.tasks.claims import already_claimed, assign, member_of
from callboard.domains.tasks.dependencies import DECISION, DECISIONS_AMONG, named
from callboard.domains.tasks.task import NotReady, find
from callboard.errors import Conflict, InvalidArguments
from callboard.identity import Caller
from callboard.params import AgentId, Context, DependsOn, TaskId, Work
from callboard.store import Tx
from callboard.tool import tool


class Delegated(delegations.DelegationView):
    dag_task_id: str | None = None
    claim_epoch: int | None = Field(default=None, description="Of the claim that was made with it")


@tool(writes=True, who="lead", profile="core", toolset="delegations")
def delegate_task(
    tx: Tx,
    caller: Caller,
    target_agent_id: AgentId,
    task: Work,
    context: Context | None = None,
    dag_task_id: TaskId | None = None,
    depends_on: DependsOn | None = None,
    any_role: Annotated[bool, Field(description="Of any role")] = False,
) -> Delegated:
    """Hand work to a live agent of your crew, who reports back to you.

    dag_task_id is claimed for it too. not_ready while depends_on is unfinished or it is silent.
    """
    agent = roster.get(tx, target_agent_id, project_id=caller.project_id)
    lead_id = agent.lead_id if caller.kind == "human" else caller.lead_id
    member_of(tx, lead_id, target_agent_id)
    _check_there(tx, caller, agent)
    _check_finished(tx, lead_id, depends_on or [])
    epoch = None
    if dag_task_id is not None:
        epoch = _claimed(tx, caller, lead_id, dag_task_id, agent, any_role=any_role)
    given = delegations.give(
        tx,
        caller,
        agent_id=target_agent_id,
        lead_id=lead_id,
        task=task,
        context=context,
        dag_task_id=dag_task_id,
        claim_epoch=epoch,
    )
    return Delegated(**given.model_dump(), dag_task_id=dag_task_id, claim_epoch=epoch)


def _check_there(tx: Tx, caller: Caller, agent: roster.Agent) -> None:
    """Refuse to hand work to oneself, or to an agent that shows no sign of life."""
    if agent.agent_id == caller.agent_id:
        rule = "must be another agent than you"
        raise InvalidArguments(f"target_agent_id {rule}", fields=[{"field": "target_agent_id", "rule": rule}])
    if (liveness := agent.liveness(tx.now)) != "live":
        raise NotReady(
            f"{agent.agent_id} has shown no sign of life since {agent.last_seen_at or 'the host started'}.",
            hint="See match_agents with available_only for who is here; a message waits for it.",
            agent_id=agent.agent_id,
            liveness=liveness,
            last_seen_at=agent.last_seen_at,
        )


def _check_finished(tx: Tx, lead_id: str, depends_on: list[str]) -> None:
    """Refuse while something that must be finished first is not. Raises NotReady, UnknownTask, NotFound."""
    decisions = json.dumps([name.removeprefix(DECISION) for name in depends_on if name.startswith(DECISION)])
    made = tx.all(DECISIONS_AMONG, lead_id=lead_id, ids=decisions)
    settled = {DECISION + decision.id for decision in made if decision.satisfied}
    waiting = [name for name in named(tx, lead_id, depends_on) if name not in settled]
    if waiting:
        raise NotReady(
            f"{waiting[0]} is not finished" + (f", nor {len(waiting) - 1} more." if waiting[1:] else "."),
            hint="Delegate when they are, or leave them out of depends_on.",
            blocked_by=waiting,
        )


def _claimed(
    tx: Tx, caller: Caller, lead_id: str, task_id: str, agent: roster.Agent, *, any_role: bool
) -> int:
    """Claim a ready task for the agent; the epoch of the claim. Raises what `assign` raises, and
    AlreadyClaimed: a delegation takes no task away from anybody."""
    task = find(tx, lead_id, task_id)
    if task.dag_status in ("running", "in_review") and task.archived_at is None:
        raise already_claimed(task, hint="Give it to another with assign_dag_task.")
    if task.role != agent.role and not any_role:
        raise Conflict(
            f"{task.id} is for a {task.role}; {agent.agent_id} is a {agent.role}.",
            hint="Choose another agent, or pass any_role=true.",
            kind="role",
            task_id=task.id,
            expected=task.role,
            current=agent.role,
        )
    assigned = assign(
        tx,
        caller,
        lead_id=lead_id,
        task_id=task_id,
        agent_id=agent.agent_id,
        reason="delegated",
        quietly=True,
    )
    return assigned.claim_epoch
