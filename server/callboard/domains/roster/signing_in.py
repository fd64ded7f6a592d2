"""Signing in: a newcomer's id and crew, and the return of an agent that is known."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard import identity, text
from callboard.domains import projects
from callboard.domains.roster import roles
from callboard.domains.roster.agents import (
    AGENT,
    LIVE_LEAD,
    LIVE_MS,
    NAMES,
    Agent,
    Known,
    Status,
    comes_through,
    merged,
    tell,
)
from callboard.errors import (
    AgentConflict,
    AgentTerminated,
    Forbidden,
    InvalidArguments,
    NotFound,
    UnknownAgent,
)
from callboard.identity import Caller
from callboard.params import (
    Capabilities,
    LeadId,
    Model,
    Object,
    ProjectId,
    Provider,
    RoleId,
    SessionId,
    TeamId,
)
from callboard.store import Command, Row, Tx
from callboard.tool import Result, tool

UNKNOWN = "unknown"
"""The model of an agent that does not tell it."""

KNOWN_LOOK = Known.query("SELECT agent_id AS id FROM agent_roster WHERE name_key = :name_key")
KNOWN_PROJECT = Known.query("SELECT id FROM projects WHERE id = :project_id")


class Crew(Row):
    lead_id: str
    project_id: str
    led_by: str | None


CREW = Crew.query("SELECT lead_id, project_id, led_by FROM _crews WHERE lead_id = :lead_id")
FOUND_CREW = Command("""
    INSERT INTO _crews (lead_id, project_id, led_by, created_at) VALUES (:lead_id, :project_id, :led_by, :at)
    ON CONFLICT (lead_id) DO NOTHING
""")
TAKE_UP_LEAD = Command("UPDATE _crews SET led_by = :agent_id WHERE lead_id = :lead_id AND led_by IS NULL")
SIGN_IN = Command("""
    INSERT INTO agent_roster
           (agent_id, role, model, status, session_id, project_id, provider, team_id, created_at, updated_at,
            metadata, lead_id, parent_id, capabilities, name_key, last_seen_boot_ms, last_seen_at,
            signed_in_boot_ms)
    VALUES (:agent_id, :role, :model, 'idle', :session_id, :project_id, :provider, :team_id, :at, :at,
            :metadata, :lead_id, :parent_id, :capabilities, :name_key, :now, :at, :now)
""")
RESUME = Command("""
    UPDATE agent_roster
       SET status = 'idle', terminated_at = NULL, termination_reason = NULL,
           model = coalesce(:model, model), provider = coalesce(:provider, provider),
           session_id = coalesce(:session_id, session_id), team_id = coalesce(:team_id, team_id),
           capabilities = coalesce(:capabilities, capabilities), metadata = :metadata,
           updated_at = :at, last_seen_boot_ms = :now, last_seen_at = :at, signed_in_boot_ms = :now
     WHERE agent_id = :agent_id
""")


class Registered(Result):
    agent_id: str
    role: str
    status: Status
    project_id: str
    lead_id: str = Field(description="The crew you belong to")
    led_by: str | None = Field(default=None, description="Who leads it; absent when nobody does")
    joined: Literal["own crew", "given lead", "live lead", "leaderless crew", "resumed"]
    team_id: str
    model: str
    parent_id: str | None = None
    provider: str | None = None
    session_id: str | None = None
    capabilities: list[str] | None = None
    metadata: dict[str, Any] | None = None
    next: str = Field(description="What to do now")


@tool(writes=True, idempotent=True, who="anyone", profile="core")
def register_agent(
    tx: Tx,
    caller: Caller,
    role: RoleId,
    model: Model | None = None,
    provider: Provider | None = None,
    lead_id: LeadId | None = None,
    project_id: ProjectId | None = None,
    team_id: TeamId | None = None,
    session_id: SessionId | None = None,
    capabilities: Capabilities | None = None,
    metadata: Object | None = None,
    revive: Annotated[bool, Field(description="After termination")] = False,
) -> Registered:
    """Sign in before anything else; pass the returned agent_id with every call.

    Your agent_id from before resumes it. You join lead_id, else the live lead; role lead starts a crew.
    """
    if caller.kind == "human":
        raise Forbidden("People are not on the roster.", operation="register_agent", needs="an agent")
    if role == "lead" and caller.scope == "worker":
        raise Forbidden(
            "Your token is for a worker.", operation="register_agent", needs="a token with the scope lead"
        )
    roles.get(tx, role)
    about: dict[str, Any] = {
        "model": model,
        "provider": provider,
        "session_id": session_id,
        "team_id": team_id,
        "capabilities": None if capabilities is None else json.dumps(capabilities, ensure_ascii=False),
    }
    known = tx.one(AGENT, agent_id=caller.agent_id) if caller.agent_id else None
    if known is not None:
        return _resume(
            tx,
            caller,
            known,
            role=role,
            lead_id=lead_id,
            project_id=project_id,
            revive=revive,
            metadata=metadata,
            about=about,
        )
    agent_id = caller.agent_id or _new_id(tx, role)
    name_key = _name_key(tx, agent_id)
    project = project_id or caller.here
    if tx.one(KNOWN_PROJECT, project_id=project) is None:
        raise NotFound(
            f"There is no project {project}.",
            hint="Leave project_id out to join the project of this folder.",
            kind="project",
            given=project,
        )
    projects.check_model(tx, project, role, model or UNKNOWN, operation="register_agent")
    crew, parent_id, joined = _crew(tx, agent_id, role, lead_id, project)
    tx.run(
        SIGN_IN,
        **about
        | {
            "model": model or UNKNOWN,
            "team_id": team_id or "default",
            "capabilities": about["capabilities"] or "[]",
        },
        agent_id=agent_id,
        role=role,
        project_id=crew.project_id,
        metadata=merged(None, metadata),
        lead_id=crew.lead_id,
        parent_id=parent_id,
        name_key=name_key,
        now=tx.now,
        at=tx.at,
    )
    if caller.stdio:
        comes_through(tx, agent_id)
    tell(tx, "agent_registered", "signed in", agent_id, role, crew.project_id, {"lead_id": crew.lead_id})
    return _registered(tx, agent_id, joined)


def _resume(
    tx: Tx,
    caller: Caller,
    known: Agent,
    *,
    role: str,
    lead_id: str | None,
    project_id: str | None,
    revive: bool,
    metadata: Mapping[str, Any] | None,
    about: dict[str, Any],
) -> Registered:
    if known.status == "terminated" and not revive:
        raise AgentTerminated(
            f"Agent {known.agent_id} has left.",
            agent_id=known.agent_id,
            since=known.terminated_at,
            hint="Pass revive=true to come back as this agent, or leave agent_id out for a new id.",
        )
    for name, given, registered in (
        ("role", role, known.role),
        ("crew", lead_id, known.lead_id if lead_id != known.parent_id else lead_id),
        ("project", project_id or caller.here, known.project_id),
    ):
        if given is not None and given != registered:
            raise AgentConflict(
                f"{known.agent_id} is registered with {name} {registered}.",
                agent_id=known.agent_id,
                registered=registered,
                hint=f"Register with {name} {registered}, or under another agent_id.",
            )
    projects.check_model(
        tx,
        known.project_id or caller.here,
        known.role,
        about["model"] or known.model,
        operation="register_agent",
    )
    tx.run(
        RESUME,
        **about,
        agent_id=known.agent_id,
        metadata=merged(known.metadata, metadata),
        now=tx.now,
        at=tx.at,
    )
    if caller.stdio:
        comes_through(tx, known.agent_id)
    if known.role == "lead" and known.lead_id == known.agent_id:
        tx.run(TAKE_UP_LEAD, lead_id=known.lead_id, agent_id=known.agent_id)
    tell(tx, "agent_resumed", "is back", known.agent_id, known.role, known.project_id or "", {})
    return _registered(tx, known.agent_id, "resumed")


def _registered(tx: Tx, agent_id: str, joined: Any) -> Registered:
    agent = tx.one(AGENT, agent_id=agent_id)
    assert agent is not None
    return Registered(
        agent_id=agent.agent_id,
        role=agent.role,
        status=agent.status,
        project_id=agent.project_id or "",
        lead_id=agent.lead_id,
        led_by=agent.led_by,
        joined=joined,
        team_id=agent.team_id,
        model=agent.model,
        parent_id=agent.parent_id,
        provider=agent.provider,
        session_id=agent.session_id,
        capabilities=json.loads(agent.capabilities) or None,
        metadata=json.loads(agent.metadata or "{}") or None,
        next=f"Pass agent_id {agent.agent_id} with every call; lock files before you edit them.",
    )


def _new_id(tx: Tx, role: str) -> str:
    """A free id `<role>-<4 hex>`, longer when chance has it that the short ones are taken."""
    for size in (2, 2, 2, 4, 8):
        agent_id = f"{role[:40]}-{tx.ids(size)}"
        if tx.one(KNOWN_LOOK, name_key=text.fold_name(agent_id)) is None:
            return agent_id
    raise RuntimeError("no free agent id was found")


def _name_key(tx: Tx, agent_id: str) -> str:
    """The look of a new id. Raises InvalidArguments for a reserved one, AgentConflict for one that
    reads like another agent's."""
    name_key = text.fold_name(agent_id)
    if name_key in identity.RESERVED_LOOKS:
        raise InvalidArguments(
            f"{agent_id} is reserved.",
            hint="Choose another agent_id, or leave it out.",
            fields=[{"field": "agent_id", "rule": "is reserved"}],
        )
    if tx.one(KNOWN_PROJECT, project_id=agent_id) is not None:
        raise AgentConflict(f"{agent_id} is a project.", agent_id=agent_id, hint="Choose another agent_id.")
    if (other := tx.one(KNOWN_LOOK, name_key=name_key)) is not None:
        raise AgentConflict(
            f"{agent_id} reads like {other.id}.",
            hint="Choose an id that cannot be mistaken for another agent's.",
            agent_id=agent_id,
            registered=other.id,
        )
    return name_key


def _crew(
    tx: Tx, agent_id: str, role: str, lead_id: str | None, project_id: str
) -> tuple[Crew, str | None, str]:
    """The crew that a newcomer belongs to, whom it answers to, and how that came about."""
    if lead_id is not None:
        crew = tx.one(CREW, lead_id=lead_id)
        parent = tx.one(AGENT, agent_id=lead_id)
        if crew is None and parent is not None:
            crew = tx.one(CREW, lead_id=parent.lead_id)
        if crew is None:
            names = [row.id for row in tx.all(NAMES, project_id=project_id)]
            raise UnknownAgent(
                f"There is no lead {lead_id}.",
                agent_id=lead_id,
                near=text.nearest(lead_id, names) or None,
                hint="See list_agents with role=lead, or leave lead_id out.",
            )
        if crew.project_id != project_id:
            raise AgentConflict(
                f"{lead_id} leads a crew of project {crew.project_id}.",
                agent_id=lead_id,
                registered=crew.project_id,
                hint="Pass its project_id if that is the crew you mean.",
            )
        return crew, parent.agent_id if parent else crew.led_by, "given lead"
    if role == "lead":
        return _found(tx, agent_id, project_id, agent_id), None, "own crew"
    lead = tx.one(LIVE_LEAD, project_id=project_id, seen_after=max(0, tx.now - LIVE_MS - 1))
    if lead is not None and (crew := tx.one(CREW, lead_id=lead.lead_id)) is not None:
        return crew, lead.agent_id, "live lead"
    return _found(tx, project_id, project_id, None), None, "leaderless crew"


def _found(tx: Tx, lead_id: str, project_id: str, led_by: str | None) -> Crew:
    tx.run(FOUND_CREW, lead_id=lead_id, project_id=project_id, led_by=led_by, at=tx.at)
    return Crew(lead_id, project_id, led_by)
