"""The tools by which groups are made, filled, listed and closed."""

import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from callboard.domains import roster
from callboard.domains.chat import groups
from callboard.domains.chat.groups import Group
from callboard.domains.messages import Quotes
from callboard.domains.roster import roles as known_roles
from callboard.errors import AgentTerminated, Conflict, Forbidden, NotOwner, QuotaExceeded, UnknownAgent
from callboard.events import Event, Notice
from callboard.identity import Caller
from callboard.params import AfterName, FirstMembers, GroupName, Limit, Members, StandingRoles
from callboard.store import Command, Row, Tx
from callboard.tool import Result, fitted, tool

MOST_GROUPS = 10_000
"""Groups of one project."""

PREVIEW = 200
"""Characters of a group's last message that the list of groups shows."""

IncludeArchived = Annotated[bool, Field(description="Archived too")]


class Count(Row):
    number: int


class MemberId(Row):
    agent_id: str


class Line(Row):
    name: str
    lead_id: str
    roles: str
    archived: int
    read_seq: int | None
    unread: int
    last_seq: int | None
    last_from: str | None
    last_content: str | None
    last_at: str | None


COUNT = Count.query("SELECT count(*) AS number FROM chat_groups WHERE project_id = :project_id")
CREATE = Command("""
    INSERT INTO chat_groups (name, lead_id, project_id, roles, archived, created_at, created_by)
    VALUES (:name, :lead_id, :project_id, :roles, 0, :at, :created_by)
""")
ARCHIVE = Command("""
    UPDATE chat_groups SET archived = :archived
     WHERE name = :group_name AND lead_id = :lead_id AND archived <> :archived
""")
OF_ROLES = MemberId.query("""
    SELECT agent_id FROM agent_roster
     WHERE lead_id = :lead_id AND status <> 'terminated' AND role IN (SELECT value FROM json_each(:roles))
""")
# A post of one's own is never unread.
LIST = Line.query("""
    SELECT g.name, g.lead_id, coalesce(g.roles, '[]') AS roles, g.archived, own.read_seq,
           (SELECT count(*) FROM chat_group_messages AS p
             WHERE p.group_name = g.name AND p.lead_id = g.lead_id AND p.seq > own.read_seq
               AND p.from_agent_id <> :agent_id) AS unread,
           last.seq AS last_seq, last.from_agent_id AS last_from,
           substr(last.content, 1, :preview) AS last_content, last.timestamp AS last_at
      FROM chat_groups AS g
      LEFT JOIN chat_group_members AS own
             ON own.group_name = g.name AND own.lead_id = g.lead_id AND own.agent_id = :agent_id
      LEFT JOIN chat_group_messages AS last
             ON last.seq = (SELECT max(seq) FROM chat_group_messages AS p
                             WHERE p.group_name = g.name AND p.lead_id = g.lead_id)
     WHERE iif(:human, g.project_id = :project_id, g.lead_id = :lead_id)
       AND (:all OR own.agent_id IS NOT NULL) AND (:archived OR g.archived = 0)
       AND (g.name, g.lead_id) > (:after_name, :after_lead)
     ORDER BY g.name, g.lead_id LIMIT :limit
""")


class GroupView(Result):
    group_name: str
    lead_id: str
    created: bool | None = Field(default=None, description="False: it was there, as you want it")
    members: list[str]
    roles: list[str]


class LastMessage(Result):
    sender: str = Field(serialization_alias="from")
    seq: int
    timestamp: str
    text: str = Field(description="Its beginning, between fences")


class GroupLine(Result):
    group_name: str
    lead_id: str
    members: list[str]
    roles: list[str] | None = None
    archived: bool | None = None
    unread_messages: int | None = Field(default=None, description="If you are a member")
    last_read_id: int | None = Field(default=None, description="Read on with after_id = this")
    last_message: LastMessage | None = None


class GroupPage(Result):
    groups: list[GroupLine]
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    next_after_id: str | None = None


class Added(Result):
    group_name: str
    added: list[str]
    members: list[str]


class Removed(Result):
    group_name: str
    removed: list[str]
    members: list[str]


class GroupState(Result):
    group_name: str
    archived: bool
    changed: bool


@tool(writes=True, idempotent=True, profile="lead")
def create_chat_group(
    tx: Tx,
    caller: Caller,
    name: GroupName,
    members: FirstMembers | None = None,
    roles: StandingRoles | None = None,
) -> GroupView:
    """Make a group for a topic. You and your crew's lead join, with the members and agents of the roles.

    Again with the same members and roles changes nothing. conflict when the name is taken by another
    group, group_archived when it must be unarchived.
    """
    wanted = sorted(set(roles or []))
    for role in wanted:
        known_roles.get(tx, role)
    agents = _agents(tx, caller, members or [])
    lead_id = agents[0].lead_id if caller.kind == "human" and agents else caller.lead_id
    present = tx.one(groups.GROUP, name=name, lead_id=lead_id, agent_id=caller.agent_id)
    if present is not None:
        return _unchanged(tx, caller, present, members or [], wanted)
    count = tx.one(COUNT, project_id=caller.project_id)
    if count is not None and count.number >= MOST_GROUPS:
        raise QuotaExceeded(
            f"The project has {MOST_GROUPS} groups.", quota="groups", used=count.number, limit=MOST_GROUPS
        )
    tx.run(
        CREATE,
        name=name,
        lead_id=lead_id,
        project_id=caller.project_id,
        roles=json.dumps(wanted),
        at=tx.at,
        created_by=caller.agent_id,
    )
    group = tx.one(groups.GROUP, name=name, lead_id=lead_id, agent_id=caller.agent_id)
    assert group is not None  # it was inserted by the statement before
    tx.tell(
        Event(
            "chat",
            "group_created",
            f"made the group {name}",
            subject=group.subject,
            details={"group_name": name, "roles": wanted},
            lead_id=lead_id,
        )
    )
    first = [] if caller.kind == "human" else [caller.agent_id]
    first += [group.led_by] if group.led_by else []
    first += [agent.agent_id for agent in agents]
    first += [row.agent_id for row in tx.all(OF_ROLES, lead_id=lead_id, roles=json.dumps(wanted))]
    groups.join(tx, caller, group, first)
    return _view(tx, group, created=True)


def _unchanged(tx: Tx, caller: Caller, group: Group, members: Sequence[str], roles: list[str]) -> GroupView:
    """The group that is there, if it is the one that is wanted. Raises Conflict, GroupArchived."""
    visible = bool(group.is_member) or groups.is_above(caller)
    there = groups.members_of(tx, group) if visible else []
    if not visible or json.loads(group.roles) != roles or not set(members) <= set(there):
        raise Conflict(
            f"There is another group {group.name} in this crew.",
            hint="Take another name, or use add_group_members." if visible else "Take another name.",
            kind="group",
            group_name=group.name,
            roles=json.loads(group.roles) if visible else None,
            members=there if visible else None,
        )
    if group.archived:
        raise groups.archived(group.name)
    return _view(tx, group, created=False)


def _view(tx: Tx, group: Group, *, created: bool) -> GroupView:
    return GroupView(
        group_name=group.name,
        lead_id=group.lead_id,
        created=created,
        members=groups.members_of(tx, group),
        roles=json.loads(group.roles),
    )


def _agents(
    tx: Tx, caller: Caller, agent_ids: Sequence[str], lead_id: str | None = None
) -> list[roster.Agent]:
    """Agents of one crew that are to become members: the caller's, or a given one for a human.

    Raises UnknownAgent, AgentTerminated.
    """
    found = [roster.get(tx, agent_id, project_id=caller.project_id) for agent_id in dict.fromkeys(agent_ids)]
    crew = lead_id or (found[0].lead_id if caller.kind == "human" and found else caller.lead_id)
    for agent in found:
        if agent.lead_id != crew:
            raise UnknownAgent(
                f"{agent.agent_id} is not in this crew.",
                agent_id=agent.agent_id,
                hint="See list_agents with lead_id.",
            )
        if agent.status == "terminated":
            raise AgentTerminated(
                f"{agent.agent_id} has left.", agent_id=agent.agent_id, since=agent.terminated_at
            )
    return found


@tool()
def list_chat_groups(
    tx: Tx,
    caller: Caller,
    include_archived: IncludeArchived = False,
    limit: Limit = 50,
    after_id: AfterName | None = None,
) -> GroupPage:
    """List your groups by name, with members, unread messages and the beginning of the last one.

    A lead sees all groups of its crew. Read one with read_group_messages.
    """
    after_lead, _, after_name = (after_id or "/").partition("/")
    rows = tx.all(
        LIST,
        agent_id=caller.agent_id,
        project_id=caller.project_id,
        lead_id=caller.lead_id,
        human=caller.reads_all_crews,
        all=groups.is_above(caller),
        archived=include_archived,
        preview=PREVIEW,
        after_name=after_name,
        after_lead=after_lead,
        limit=limit + 1,
    )
    quotes = Quotes(tx, [row.last_content or "" for row in rows])
    shown, more = fitted([_line(tx, row, quotes) for row in rows], limit)
    return GroupPage(
        groups=shown,
        mark=quotes.mark if any(line.last_message for line in shown) else None,
        next_after_id=f"{shown[-1].lead_id}/{shown[-1].group_name}" if more else None,
    )


def _line(tx: Tx, row: Line, quotes: Quotes) -> GroupLine:
    last = None
    if row.last_seq is not None:
        last = LastMessage(
            sender=row.last_from or "",
            seq=row.last_seq,
            timestamp=row.last_at or "",
            text=quotes.quote(row.last_content or ""),
        )
    members = tx.all(groups.MEMBERS, group_name=row.name, lead_id=row.lead_id)
    return GroupLine(
        group_name=row.name,
        lead_id=row.lead_id,
        members=[member.agent_id for member in members],
        roles=json.loads(row.roles) or None,
        archived=True if row.archived else None,
        unread_messages=None if row.read_seq is None else row.unread,
        last_read_id=row.read_seq,
        last_message=last,
    )


@tool(writes=True, idempotent=True)
def add_group_members(tx: Tx, caller: Caller, group_name: GroupName, members: Members) -> Added:
    """Add agents of your crew to a group that you are in or lead; they get its last 20 messages.

    All or none: unknown_agent or agent_terminated names the first that cannot be added.
    """
    group = groups.find_open(tx, caller, group_name)
    _agents(tx, caller, members, group.lead_id)
    added = groups.join(tx, caller, group, members)
    return Added(group_name=group.name, added=added, members=groups.members_of(tx, group))


@tool(writes=True, idempotent=True, destructive=True)
def remove_group_members(tx: Tx, caller: Caller, group_name: GroupName, members: Members) -> Removed:
    """Take agents out of a group that you are in or lead, or yourself; what was said stays.

    The group's roles do not bring them back, add_group_members does. The crew's lead stays: forbidden.
    """
    group = groups.find_open(tx, caller, group_name)
    if group.led_by is not None and group.led_by in members:
        raise Forbidden(
            f"{group.led_by} leads the crew and is in all of its groups.",
            operation="remove_group_members",
            needs="another member",
            caller_kind=caller.kind,
        )
    removed = groups.leave(tx, group, members)
    for agent_id in removed:
        if agent_id != caller.agent_id:
            said = f"{caller.agent_id} has taken you out of the group {group.name}."
            payload = {"text": said, "event": "group_left", "group_name": group.name}
            tx.notify(Notice(agent_id, "system", payload))
    return Removed(group_name=group.name, removed=removed, members=groups.members_of(tx, group))


@tool(writes=True, idempotent=True)
def archive_chat_group(tx: Tx, caller: Caller, group_name: GroupName) -> GroupState:
    """Close a group that you made or lead: it can still be read, and takes no more messages.

    unarchive_chat_group opens it again. not_owner for other members.
    """
    return _set_archived(tx, caller, group_name, archived=True)


@tool(writes=True, idempotent=True)
def unarchive_chat_group(tx: Tx, caller: Caller, group_name: GroupName) -> GroupState:
    """Open an archived group that you made or lead, with the members it had.

    See list_chat_groups with include_archived. not_owner for other members.
    """
    return _set_archived(tx, caller, group_name, archived=False)


def _set_archived(tx: Tx, caller: Caller, group_name: str, *, archived: bool) -> GroupState:
    group = groups.find(tx, caller, group_name)
    if group.created_by != caller.agent_id and not groups.is_above(caller):
        raise NotOwner(
            f"{group.created_by} made the group {group.name}.",
            object=group.name,
            owner=group.created_by,
            hint="Ask it, or your lead.",
        )
    changed = tx.run(ARCHIVE, **group.key, archived=archived) == 1
    if changed:
        done = "archived" if archived else "unarchived"
        tx.tell(
            Event(
                "chat",
                f"group_{done}",
                f"{done} the group {group.name}",
                subject=group.subject,
                details={"group_name": group.name},
                lead_id=group.lead_id,
            )
        )
    return GroupState(group_name=group.name, archived=archived, changed=changed)
