"""People: who am I, and one agent in full."""

import json
from typing import Any

from pydantic import Field

from callboard.domains import history, roster
from callboard.domains.crew.holding import OwnTask, claims_of, own_task
from callboard.domains.crew.leaving import LEADER
from callboard.domains.locks.answers import Lock, lock_of
from callboard.domains.locks.leases import HELD_BY
from callboard.identity import Caller
from callboard.params import AgentId
from callboard.store import Row, Tx
from callboard.tool import Result, tool

MOST_LEASES_SHOWN = 20
MOST_CLAIMS_SHOWN = 20


class TaskLine(Row):
    id: str
    title: str | None
    dag_status: str


class DelegationLine(Row):
    delegation_id: str
    task: str


class PlanLine(Row):
    plan_json: str


TASKS_OF = TaskLine.query("""
    SELECT id, title, dag_status FROM dag_tasks
     WHERE assigned_agent_id = :agent_id AND lead_id = :lead_id AND archived_at IS NULL
       AND dag_status IN ('running', 'in_review', 'paused')
     ORDER BY id LIMIT 20
""")
DELEGATIONS_OF = DelegationLine.query("""
    SELECT delegation_id, task FROM active_delegations
     WHERE agent_id = :agent_id AND status = 'active' ORDER BY delegation_id LIMIT 20
""")
PLAN_OF = PlanLine.query("SELECT plan_json FROM agent_plans WHERE agent_id = :agent_id")


class WhoAmI(Result):
    agent_id: str
    role: str
    kind: str = Field(description="worker, lead, observer or human: what you may do")
    identified_by: str
    trust_level: str = Field(description="L0: you said so yourself; L1: by a token")
    lead_id: str
    led_by: str | None = None
    project_id: str
    leases: list[Lock]
    claims: list[OwnTask] = Field(description="Tasks that you have in hand")
    store_id: str
    store_path: str
    schema_version: int


class TaskView(Result):
    task_id: str
    dag_status: str
    title: str | None = None


class DelegationView(Result):
    delegation_id: str
    task: str


class Profile(roster.Listed):
    project_id: str
    created_at: str
    provider: str | None = None
    session_id: str | None = None
    capabilities: list[str]
    metadata: dict[str, Any]
    terminated_at: str | None = None
    termination_reason: str | None = None
    locks: list[Lock]
    tasks: list[TaskView]
    delegations: list[DelegationView]
    plan: list[dict[str, Any]] | None = None
    recent_activity: list[history.Activity]


@tool(toolset="roster")
def whoami(tx: Tx, caller: Caller) -> WhoAmI:
    """Say who you are to callboard: how you were identified, your rights, your crew, what you hold.

    Call it when you are unsure whether a call went out under your name, or after a restart. Agents that
    see another store_id are on another store.
    """
    leader = tx.one(LEADER, lead_id=caller.lead_id)
    held = tx.all(HELD_BY, agent_id=caller.agent_id, now=tx.now)
    return WhoAmI(
        agent_id=caller.agent_id,
        role=caller.role,
        kind=caller.kind,
        identified_by=caller.source or "nothing",
        trust_level=caller.trust,
        lead_id=caller.lead_id,
        led_by=leader.led_by if leader else None,
        project_id=caller.project_id,
        leases=[lock_of(tx, lease) for lease in held[:MOST_LEASES_SHOWN]],
        claims=[own_task(tx, task) for task in claims_of(tx, caller, MOST_CLAIMS_SHOWN)],
        store_id=tx.info.store_id,
        store_path=str(tx.info.path),
        schema_version=tx.info.schema_version,
    )


@tool(toolset="roster")
def get_agent(tx: Tx, caller: Caller, target_agent_id: AgentId) -> Profile:
    """Look at one agent: its locks, tasks, delegations, plan and latest activity.

    Read it before you hand work over to an agent or take work over from it.
    """
    agent = roster.get(tx, target_agent_id, project_id=caller.project_id)
    same_crew = agent.lead_id == caller.lead_id or caller.kind == "human"
    plan = tx.one(PLAN_OF, agent_id=agent.agent_id) if same_crew else None
    tasks = tx.all(TASKS_OF, agent_id=agent.agent_id, lead_id=agent.lead_id) if same_crew else []
    delegations = tx.all(DELEGATIONS_OF, agent_id=agent.agent_id) if same_crew else []
    return Profile(
        **roster.listed(tx, agent, caller).model_dump(),
        project_id=agent.project_id or "",
        created_at=agent.created_at,
        provider=agent.provider,
        session_id=agent.session_id,
        capabilities=json.loads(agent.capabilities),
        metadata=json.loads(agent.metadata or "{}"),
        terminated_at=agent.terminated_at,
        termination_reason=agent.termination_reason,
        locks=[
            lock_of(tx, lease)
            for lease in tx.all(HELD_BY, agent_id=agent.agent_id, now=tx.now)[:MOST_LEASES_SHOWN]
        ],
        tasks=[TaskView(task_id=task.id, dag_status=task.dag_status, title=task.title) for task in tasks],
        delegations=[DelegationView(delegation_id=row.delegation_id, task=row.task) for row in delegations],
        plan=json.loads(plan.plan_json) if plan else None,
        recent_activity=history.latest_of(tx, caller, agent.agent_id, 10),
    )
