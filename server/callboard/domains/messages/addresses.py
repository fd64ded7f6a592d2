"""Addresses: whom a name stands for.

An agent's id first, then a role, each exactly: nothing is ever delivered by a part of a name. A role
stands for every member of the crew that has it, also for those that are silent; who has left is nobody.
"""

from callboard import text
from callboard.domains.messages.mail import UnknownRecipient
from callboard.errors import AgentTerminated
from callboard.identity import Caller
from callboard.store import Row, Tx

HUMAN = "human:"


class Recipient(Row):
    agent_id: str
    status: str
    terminated_at: str | None


class Name(Row):
    name: str


AGENT = Recipient.query("""
    SELECT agent_id, status, terminated_at FROM agent_roster
     WHERE agent_id = :name AND project_id = :project_id
""")
# A human stands above the crews of a project, and addresses all of them.
MEMBERS = Name.query("""
    SELECT agent_id AS name FROM agent_roster
     WHERE project_id = :project_id AND (:human OR lead_id = :lead_id) AND status <> 'terminated'
       AND (:role IS NULL OR role = :role) AND agent_id <> :own
     ORDER BY agent_id
""")
PERSON = Name.query("""
    SELECT principal AS name FROM _credentials
     WHERE kind = 'human' AND principal = :name AND revoked_at IS NULL LIMIT 1
""")
NAMES = Name.query("""
    SELECT agent_id AS name FROM agent_roster WHERE project_id = :project_id AND status <> 'terminated'
     UNION SELECT role FROM agent_roster WHERE project_id = :project_id AND status <> 'terminated'
     ORDER BY name
""")


def recipients(tx: Tx, caller: Caller, name: str) -> list[str]:
    """Whom a message to this name reaches: at least one. Raises UnknownRecipient, AgentTerminated."""
    agent = tx.one(AGENT, name=name, project_id=caller.project_id)
    if agent is not None and agent.status != "terminated":
        return [agent.agent_id]
    members = _members(tx, caller, name)
    if members:
        return members
    if agent is not None:
        raise AgentTerminated(
            f"{name} has left.", hint="See list_agents.", agent_id=name, since=agent.terminated_at
        )
    person = name.removeprefix(HUMAN)
    if person != name and tx.one(PERSON, name=person) is not None:
        return [name]
    near = text.nearest(name, [row.name for row in tx.all(NAMES, project_id=caller.project_id)])
    raise UnknownRecipient(
        f"Nobody here is called {name}, and no other member of your crew has that role.",
        hint=f"Did you mean {near[0]}?" if near else "See list_agents.",
        given=name,
        near=near or None,
    )


def crew(tx: Tx, caller: Caller) -> list[str]:
    """Every other member of the caller's crew: at least one. Raises UnknownRecipient."""
    if members := _members(tx, caller, None):
        return members
    raise UnknownRecipient("Nobody else is in your crew.", hint="See list_agents.")


def _members(tx: Tx, caller: Caller, role: str | None) -> list[str]:
    rows = tx.all(
        MEMBERS,
        project_id=caller.project_id,
        lead_id=caller.lead_id,
        human=caller.kind == "human",
        role=role,
        own=caller.agent_id,
    )
    return [row.name for row in rows]
