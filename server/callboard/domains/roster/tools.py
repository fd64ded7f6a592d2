"""The roster's tools for agents that have signed in."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard.domains import projects
from callboard.domains.roster.agents import PROJECT_AGENTS, Agent, Liveness, Status, get, merged, tell
from callboard.identity import Caller
from callboard.params import (
    AfterName,
    Capabilities,
    LeadId,
    Limit,
    Model,
    Object,
    ProjectId,
    RoleId,
    SessionId,
    Summary,
    TeamId,
)
from callboard.store import Command, Row, Tx
from callboard.tool import Result, fitted, tool

BEAT = Command("""
    UPDATE agent_roster
       SET status = coalesce(:status, status), last_task_summary = coalesce(:summary, last_task_summary),
           updated_at = :at, last_seen_boot_ms = :now, last_seen_at = :at
     WHERE agent_id = :agent_id
""")
UPDATE = Command("""
    UPDATE agent_roster
       SET model = coalesce(:model, model), session_id = coalesce(:session_id, session_id),
           last_task_summary = coalesce(:summary, last_task_summary), metadata = :metadata,
           capabilities = coalesce(:capabilities, capabilities), updated_at = :at
     WHERE agent_id = :agent_id
""")


class Listed(Result):
    agent_id: str
    role: str
    status: Status
    liveness: Liveness
    lead_id: str
    model: str
    team_id: str
    parent_id: str | None = None
    leads: bool | None = None
    last_task_summary: str | None = None
    current_task: str | None = None
    locks_held: int
    unread_messages: int
    last_seen_at: str | None = None


class AgentPage(Result):
    agents: list[Listed]
    next_after_id: str | None = None


class Beat(Result):
    agent_id: str
    status: Status
    locks_held: int
    next_expiry: str | None = Field(
        default=None, description="When your next lease ends, unless you call again"
    )
    claims: list[str] | None = Field(default=None, description="Tasks that you have in hand")


class Updated(Result):
    agent_id: str
    model: str
    session_id: str | None = None
    last_task_summary: str | None = None
    capabilities: list[str]
    metadata: dict[str, Any]


class Holding(Row):
    number: int
    next_expiry: str | None


HOLDING = Holding.query("""
    SELECT count(*) OVER () AS number, expires_at AS next_expiry FROM _leases
     WHERE agent_id = :agent_id AND +expires_boot_ms > :now ORDER BY expires_boot_ms LIMIT 1
""")


class Claimed(Row):
    id: str


CLAIMED = Claimed.query("""
    SELECT id FROM dag_tasks
     WHERE assigned_agent_id = :agent_id AND dag_status IN ('running', 'in_review', 'paused')
       AND archived_at IS NULL
     ORDER BY dag_status <> 'running', started_at, id LIMIT 20
""")


class Load(Row):
    locks: int
    unread: int
    task_id: str | None


LOAD = Load.query("""
    SELECT (SELECT count(*) FROM _leases WHERE agent_id = :agent_id AND +expires_boot_ms > :now) AS locks,
           (SELECT count(*) FROM message_queue
             WHERE target_agent_id = :agent_id AND status = 'queued') AS unread,
           (SELECT id FROM dag_tasks
             WHERE assigned_agent_id = :agent_id AND dag_status = 'running' AND archived_at IS NULL
             ORDER BY started_at DESC, id LIMIT 1) AS task_id
""")


@tool(writes=True, idempotent=True, profile="core")
def heartbeat(
    tx: Tx,
    caller: Caller,
    status: Annotated[Literal["idle", "running"] | None, Field(description="What you are")] = None,
    last_task_summary: Summary | None = None,
) -> Beat:
    """Say that you are there; renews leases and claims, as any call does.

    For long work without calls.
    """
    agent = get(tx, caller.agent_id, project_id=caller.project_id)
    tx.run(BEAT, agent_id=caller.agent_id, status=status, summary=last_task_summary, now=tx.now, at=tx.at)
    if status is not None and status != agent.status:
        tell(
            tx,
            "status_change",
            f"is {status}",
            agent.agent_id,
            agent.role,
            caller.project_id,
            {"status": status},
        )
    holding = tx.one(HOLDING, agent_id=caller.agent_id, now=tx.now)
    return Beat(
        agent_id=caller.agent_id,
        status=status or agent.status,
        locks_held=holding.number if holding else 0,
        next_expiry=holding.next_expiry if holding else None,
        claims=[task.id for task in tx.all(CLAIMED, agent_id=caller.agent_id)] or None,
    )


@tool(writes=True, idempotent=True)
def update_agent(
    tx: Tx,
    caller: Caller,
    model: Model | None = None,
    session_id: SessionId | None = None,
    last_task_summary: Summary | None = None,
    capabilities: Capabilities | None = None,
    metadata: Object | None = None,
) -> Updated:
    """Change what the roster says of you: model, session, summary, capabilities, metadata.

    Metadata is merged key by key; a key given as null is removed. What you leave out stays.
    """
    agent = get(tx, caller.agent_id, project_id=caller.project_id)
    if model is not None:
        projects.check_model(tx, caller.project_id, agent.role, model, operation="update_agent")
    metadata_now = merged(agent.metadata, metadata)
    rendered = None if capabilities is None else json.dumps(capabilities, ensure_ascii=False)
    tx.run(
        UPDATE,
        agent_id=caller.agent_id,
        model=model,
        session_id=session_id,
        summary=last_task_summary,
        metadata=metadata_now,
        capabilities=rendered,
        at=tx.at,
    )
    tell(tx, "agent_updated", "changed its entry", agent.agent_id, agent.role, caller.project_id, {})
    return Updated(
        agent_id=caller.agent_id,
        model=model or agent.model,
        session_id=session_id or agent.session_id,
        last_task_summary=last_task_summary or agent.last_task_summary,
        capabilities=json.loads(rendered or agent.capabilities),
        metadata=json.loads(metadata_now),
    )


@tool(profile="core")
def list_agents(
    tx: Tx,
    caller: Caller,
    project_id: ProjectId | None = None,
    lead_id: LeadId | None = None,
    team_id: TeamId | None = None,
    role: RoleId | None = None,
    status: Annotated[Status | None, Field(description="Only these")] = None,
    include_terminated: Annotated[bool, Field(description="Also the gone")] = False,
    limit: Limit = 50,
    after_id: AfterName | None = None,
) -> AgentPage:
    """List who is here: role, crew, whether live or stale, current task, locks held.

    stale: silent for a minute.
    """
    if project_id is not None and project_id != caller.project_id and caller.kind != "human":
        return AgentPage(agents=[])
    rows = tx.all(
        PROJECT_AGENTS,
        project_id=project_id or caller.project_id,
        lead_id=lead_id,
        team_id=team_id,
        role=role,
        status=status,
        terminated=include_terminated or status == "terminated",
        after=after_id or "",
        limit=limit + 1,
    )
    shown, more = fitted([listed(tx, agent, caller) for agent in rows], limit)
    return AgentPage(agents=shown, next_after_id=shown[-1].agent_id if more else None)


def listed(tx: Tx, agent: Agent, caller: Caller) -> Listed:
    """An agent's line of the roster, as others see it."""
    load = tx.one(LOAD, agent_id=agent.agent_id, now=tx.now)
    assert load is not None
    same_crew = agent.lead_id == caller.lead_id or caller.kind == "human"
    return Listed(
        agent_id=agent.agent_id,
        role=agent.role,
        status=agent.status,
        liveness=agent.liveness(tx.now),
        lead_id=agent.lead_id,
        model=agent.model,
        team_id=agent.team_id,
        parent_id=agent.parent_id,
        leads=True if agent.led_by == agent.agent_id else None,
        last_task_summary=agent.last_task_summary,
        current_task=load.task_id if same_crew else None,
        locks_held=load.locks,
        unread_messages=load.unread,
        last_seen_at=agent.last_seen_at,
    )
