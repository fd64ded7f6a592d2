"""Groups and who sits in them: what the tools and the standing roles share.

A group belongs to a crew, not to whoever made it. Who is neither a member nor a lead of the crew is told
that the group does not exist.
"""

import json
from collections.abc import Iterable

from callboard import text
from callboard.domains import messages
from callboard.errors import Conflict, NotFound, Refused
from callboard.events import Event
from callboard.identity import Caller
from callboard.store import Command, Row, Tx

CATCH_UP = 20
"""How many of a group's latest posts a new member is given with the notice."""


class GroupArchived(Refused):
    """The group is archived: it can be read, and nothing more."""


class Group(Row):
    name: str
    lead_id: str
    project_id: str
    roles: str
    archived: int
    created_by: str
    led_by: str | None
    is_member: int

    @property
    def key(self) -> dict[str, str]:
        """What names the group in a statement."""
        return {"group_name": self.name, "lead_id": self.lead_id}

    @property
    def subject(self) -> str:
        """What names the group to those who listen."""
        return f"{self.lead_id}/{self.name}"


class MemberName(Row):
    agent_id: str


class GroupName(Row):
    name: str


class Joined(Row):
    group_name: str
    agent_id: str


class Latest(Row):
    id: str
    seq: int
    from_agent_id: str


COLUMNS = """
    g.name, g.lead_id, coalesce(g.project_id, '') AS project_id, coalesce(g.roles, '[]') AS roles, g.archived,
    coalesce(g.created_by, '') AS created_by, c.led_by,
    EXISTS (SELECT 1 FROM chat_group_members AS m
             WHERE m.group_name = g.name AND m.lead_id = g.lead_id AND m.agent_id = :agent_id) AS is_member
"""
FROM = "chat_groups AS g LEFT JOIN _crews AS c ON c.lead_id = g.lead_id"
GROUP = Group.query(f"SELECT {COLUMNS} FROM {FROM} WHERE g.name = :name AND g.lead_id = :lead_id")
# A human stands above the crews of a project; two of them may have groups of one name.
GROUPS_OF_PROJECT = Group.query(f"""
    SELECT {COLUMNS} FROM {FROM}
     WHERE g.name = :name AND g.project_id = :project_id ORDER BY g.lead_id LIMIT 2
""")
GROUP_OF_MEMBER = Group.query(f"""
    SELECT {COLUMNS} FROM agent_roster AS a CROSS JOIN {FROM}
     WHERE a.agent_id = :agent_id AND g.lead_id = a.lead_id AND g.name = :name
""")
NAMES = GroupName.query("""
    SELECT g.name FROM chat_groups AS g
     WHERE iif(:human, g.project_id = :project_id, g.lead_id = :lead_id)
       AND (:all OR (g.name, g.lead_id) IN (SELECT group_name, lead_id FROM chat_group_members
                                             WHERE agent_id = :agent_id))
     ORDER BY g.name LIMIT 1000
""")
# Who has left the crew for good is nobody's reader; its line stays, as it may be revived.
MEMBERS = MemberName.query("""
    SELECT m.agent_id FROM chat_group_members AS m JOIN agent_roster AS a ON a.agent_id = m.agent_id
     WHERE m.group_name = :group_name AND m.lead_id = :lead_id AND a.status <> 'terminated'
     ORDER BY m.agent_id
""")
# A new member has as much left to read as it is given.
UNREAD_FROM = f"""
    coalesce((SELECT seq FROM chat_group_messages AS p WHERE p.group_name = g.name AND p.lead_id = g.lead_id
               ORDER BY seq DESC LIMIT 1 OFFSET {CATCH_UP}), 0)
"""
JOIN = Joined.query(f"""
    INSERT INTO chat_group_members (group_name, lead_id, agent_id, added_at, added_by, read_seq)
    SELECT g.name, g.lead_id, agent.value, :at, :added_by, {UNREAD_FROM}
      FROM chat_groups AS g, json_each(:agent_ids) AS agent
     WHERE g.name = :group_name AND g.lead_id = :lead_id
    ON CONFLICT DO NOTHING
    RETURNING group_name, agent_id
""")
# The standing roles, and a crew's lead: it belongs to all of its groups.
ADMIT = Joined.query(f"""
    INSERT INTO chat_group_members (group_name, lead_id, agent_id, added_at, read_seq)
    SELECT g.name, g.lead_id, a.agent_id, :at, {UNREAD_FROM}
      FROM agent_roster AS a CROSS JOIN {FROM}
     WHERE a.agent_id = :agent_id AND g.lead_id = a.lead_id AND g.archived = 0
       AND (c.led_by = a.agent_id
            OR (EXISTS (SELECT 1 FROM json_each(g.roles) WHERE value = a.role)
                AND NOT EXISTS (SELECT 1 FROM _chat_group_leavers AS gone
                                 WHERE gone.group_name = g.name AND gone.lead_id = g.lead_id
                                   AND gone.agent_id = a.agent_id)))
    ON CONFLICT DO NOTHING
    RETURNING group_name, agent_id
""")
LEAVE = MemberName.query("""
    DELETE FROM chat_group_members
     WHERE group_name = :group_name AND lead_id = :lead_id
       AND agent_id IN (SELECT value FROM json_each(:agent_ids))
    RETURNING agent_id
""")
STAY_OUT = Command("""
    INSERT INTO _chat_group_leavers (group_name, lead_id, agent_id)
    SELECT :group_name, :lead_id, value FROM json_each(:agent_ids) WHERE true
    ON CONFLICT DO NOTHING
""")
WELCOME_BACK = Command("""
    DELETE FROM _chat_group_leavers
     WHERE group_name = :group_name AND lead_id = :lead_id
       AND agent_id IN (SELECT value FROM json_each(:agent_ids))
""")
LATEST = Latest.query("""
    SELECT id, seq, from_agent_id
      FROM (SELECT id, seq, from_agent_id FROM chat_group_messages
             WHERE group_name = :group_name AND lead_id = :lead_id ORDER BY seq DESC LIMIT :limit)
     ORDER BY seq
""")


def find(tx: Tx, caller: Caller, name: str) -> Group:
    """A group that the caller may read. Raises NotFound, and Conflict for a human who must say which."""
    if caller.reads_all_crews:
        groups = tx.all(GROUPS_OF_PROJECT, name=name, project_id=caller.project_id, agent_id=caller.agent_id)
        if len(groups) > 1:
            raise Conflict(
                f"Several crews have a group {name}.",
                hint="Ask the lead of the crew.",
                kind="group",
                lead_ids=[group.lead_id for group in groups],
            )
        group = groups[0] if groups else None
    else:
        group = tx.one(GROUP, name=name, lead_id=caller.lead_id, agent_id=caller.agent_id)
    if group is not None and (group.is_member or is_above(caller)):
        return group
    near = text.nearest(name, _names(tx, caller))
    raise NotFound(
        f"You are in no group {name}.",
        hint=f"Did you mean {near[0]}?" if near else "See list_chat_groups.",
        kind="group",
        given=name,
        near=near or None,
    )


def find_open(tx: Tx, caller: Caller, name: str) -> Group:
    """A group that the caller may change. Raises GroupArchived, and as `find` does."""
    group = find(tx, caller, name)
    if group.archived:
        raise archived(group.name)
    return group


def archived(name: str) -> GroupArchived:
    return GroupArchived(
        f"The group {name} is archived.",
        hint="Its creator or the lead can call unarchive_chat_group.",
        group_name=name,
    )


def is_above(caller: Caller) -> bool:
    """Whether the caller sees the groups that it is not in."""
    return caller.kind == "lead" or caller.reads_all_crews


def _names(tx: Tx, caller: Caller) -> list[str]:
    rows = tx.all(
        NAMES,
        human=caller.reads_all_crews,
        all=is_above(caller),
        project_id=caller.project_id,
        lead_id=caller.lead_id,
        agent_id=caller.agent_id,
    )
    return [row.name for row in rows]


def members_of(tx: Tx, group: Group) -> list[str]:
    """Who sits in the group and has not left the crew, by id."""
    return [row.agent_id for row in tx.all(MEMBERS, **group.key)]


def join(tx: Tx, caller: Caller, group: Group, agent_ids: Iterable[str]) -> list[str]:
    """Add members; those who are new. All but the caller are told, with what was said last."""
    listed = json.dumps(list(dict.fromkeys(agent_ids)))
    rows = tx.all(JOIN, **group.key, agent_ids=listed, at=tx.at, added_by=caller.agent_id)
    joined = sorted(row.agent_id for row in rows)
    tx.run(WELCOME_BACK, **group.key, agent_ids=listed)
    if joined:
        told = [agent_id for agent_id in joined if agent_id != caller.agent_id]
        _welcome(tx, group, told, f"{caller.agent_id} has added you to the group {group.name}.")
        _tell(tx, group, "group_members_added", f"added {', '.join(joined)} to {group.name}", joined)
    return joined


def leave(tx: Tx, group: Group, agent_ids: Iterable[str]) -> list[str]:
    """Take members out, for good as far as the group's standing roles go; those who were in it."""
    listed = json.dumps(list(agent_ids))
    left = sorted(row.agent_id for row in tx.all(LEAVE, **group.key, agent_ids=listed))
    tx.run(STAY_OUT, **group.key, agent_ids=json.dumps(left))
    if left:
        _tell(tx, group, "group_members_removed", f"took {', '.join(left)} out of {group.name}", left)
    return left


def follow(tx: Tx) -> None:
    """Let agents that have signed in, or lead a crew from now on, into the groups that are theirs.

    What happened is read off the facts that the operation told: the roster knows nothing of groups.
    """
    for event in list(tx.events):
        if not isinstance(event, Event) or event.topic != "roster":
            continue
        if event.kind in ("agent_registered", "agent_resumed"):
            _admit(tx, event.subject)
        elif event.kind == "crew_handed_over" and (successor := event.details.get("to")) is not None:
            _admit(tx, str(successor))


def _admit(tx: Tx, agent_id: str) -> None:
    for row in tx.all(ADMIT, agent_id=agent_id, at=tx.at):
        group = tx.one(GROUP_OF_MEMBER, name=row.group_name, agent_id=agent_id)
        assert group is not None  # its member was inserted by the statement before
        _welcome(tx, group, [agent_id], f"You are now in the group {group.name}.")
        _tell(tx, group, "group_members_added", f"{agent_id} has joined {group.name}", [agent_id])


def _welcome(tx: Tx, group: Group, agent_ids: list[str], said: str) -> None:
    """Tell new members, and give them the latest posts of others: each as its own message, which refers to
    the stored text like any post. The server sends them, so that no author hears what becomes of them."""
    if not agent_ids:
        return
    posts = tx.all(LATEST, **group.key, limit=CATCH_UP)
    messages.enqueue(
        tx,
        targets=agent_ids,
        message_type="system",
        payload={
            "text": said + (" Its last messages follow." if posts else ""),
            "event": "group_joined",
            "group_name": group.name,
        },
        source=None,
        lead_id=group.lead_id,
        project_id=group.project_id,
    )
    for post in posts:
        targets = [agent_id for agent_id in agent_ids if agent_id != post.from_agent_id]
        messages.enqueue(
            tx,
            targets=targets,
            message_type="group_message",
            payload={"group_name": group.name, "seq": post.seq},
            source=None,
            lead_id=group.lead_id,
            project_id=group.project_id,
            group_message_id=post.id,
        )


def _tell(tx: Tx, group: Group, kind: str, said: str, agent_ids: list[str]) -> None:
    tx.tell(
        Event(
            "chat",
            kind,
            said,
            subject=group.subject,
            details={"group_name": group.name, "members": agent_ids},
            project_id=group.project_id,
            lead_id=group.lead_id,
        )
    )
