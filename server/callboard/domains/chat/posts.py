"""What is said in a group: posts in one order, read by cursor, with reactions.

A post is stored once. Its copies in the members' inboxes, written in the same transaction, refer to it.
"""

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from callboard import text
from callboard.domains import messages
from callboard.domains.chat import groups
from callboard.domains.chat.groups import Group
from callboard.domains.messages import Quotes
from callboard.domains.messages.mail import UnknownRecipient
from callboard.domains.messages.queue import Priority
from callboard.errors import NotFound, QuotaExceeded
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import AfterId, Emoji, GroupMessageId, GroupName, Limit, Mentions, MessageText
from callboard.store import Command, Query, Row, Tx
from callboard.tool import Result, fitted, tool

MOST_EMOJI = 50
"""Different emoji on one message."""


class Seq(Row):
    seq: int


class Reactions(Row):
    reactions: str


class Post(Row):
    id: str
    seq: int
    from_agent_id: str
    from_role: str
    verified: int
    content: str
    timestamp: str
    reply_to: str | None
    mentions: str
    reactions: str


POST = Seq.query("""
    INSERT INTO chat_group_messages
           (id, group_name, lead_id, from_agent_id, from_role, content, timestamp, seq, verified, reply_to,
            mentions, search_words)
    VALUES (:id, :group_name, :lead_id, :agent_id, :role, :content, :at,
            (SELECT coalesce(max(seq), 0) + 1 FROM chat_group_messages), :verified, :reply_to,
            :mentions, :words)
    RETURNING seq
""")
REACTIONS = Reactions.query("""
    SELECT reactions FROM chat_group_messages
     WHERE id = :message_id AND group_name = :group_name AND lead_id = :lead_id
""")
# One statement adds or takes away one agent under one emoji, so that no reaction is lost to another.
REACT = Reactions.query("""
    UPDATE chat_group_messages
       SET reactions = json_set(reactions, :path,
                                json_insert(coalesce(json_extract(reactions, :path), '[]'),
                                            '$[#]', :agent_id))
     WHERE id = :message_id AND group_name = :group_name AND lead_id = :lead_id
       AND :agent_id NOT IN (SELECT value FROM json_each(reactions, :path))
    RETURNING reactions
""")
TAKE_BACK = Reactions.query("""
    UPDATE chat_group_messages
       SET reactions = iif(json_array_length(reactions, :path) = 1, json_remove(reactions, :path),
                           json_set(reactions, :path,
                                    json((SELECT json_group_array(value) FROM json_each(reactions, :path)
                                           WHERE value <> :agent_id))))
     WHERE id = :message_id AND group_name = :group_name AND lead_id = :lead_id
       AND :agent_id IN (SELECT value FROM json_each(reactions, :path))
    RETURNING reactions
""")
READ_TO = Command("""
    UPDATE chat_group_members SET read_seq = :seq
     WHERE group_name = :group_name AND lead_id = :lead_id AND agent_id = :agent_id AND read_seq < :seq
""")


def _reading(beyond: str, order: str) -> Query[Post]:
    return Post.query(f"""
        SELECT id, seq, from_agent_id, from_role, verified, content, timestamp, reply_to, mentions, reactions
          FROM chat_group_messages
         WHERE group_name = :group_name AND lead_id = :lead_id AND seq {beyond} :after
         ORDER BY seq {order} LIMIT :limit
    """)


OLDEST_FIRST = _reading(">", "ASC")
NEWEST_FIRST = _reading("<", "DESC")


class Posted(Result):
    message_id: str
    group_name: str
    seq: int
    recipients: int = Field(description="Members in whose inbox it is")
    warning: str | None = None


class GroupMessage(Result):
    message_id: str
    seq: int
    sender: str = Field(serialization_alias="from", description="Set by the server")
    from_role: str
    verified: bool = Field(description="Whether the sender was identified by a token")
    timestamp: str
    reply_to: str | None = None
    mentions: list[str] | None = None
    reactions: dict[str, list[str]] | None = Field(default=None, description="By emoji, who gave it")
    text: str = Field(description="Between fences")


class GroupMessages(Result):
    group_name: str
    untrusted: bool = True
    messages: list[GroupMessage]
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    next_after_id: int | None = None


class Reacted(Result):
    message_id: str
    changed: bool = Field(description="False: it was so before")
    reactions: dict[str, list[str]]


@tool(writes=True, profile="core")
def send_group_message(
    tx: Tx,
    caller: Caller,
    group_name: GroupName,
    content: MessageText,
    reply_to: GroupMessageId | None = None,
    mentions: Mentions | None = None,
) -> Posted:
    """Say something in a group: it reaches each member's inbox.

    Those mentioned get it first.
    """
    group = groups.find_open(tx, caller, group_name)
    if reply_to is not None:
        _reactions(tx, group, reply_to)
    if caller.kind == "lead" and not group.is_member:
        # A lead may speak everywhere in its crew; it also hears the answers.
        groups.join(tx, caller, group, [caller.agent_id])
    mentioned = list(dict.fromkeys(mentions or []))
    members = groups.members_of(tx, group)
    _check_mentions(group, members, mentioned)
    message_id = f"gmsg-{tx.ids(6)}"
    verified = caller.trust == "L1"
    post = tx.one(
        POST,
        **group.key,
        id=message_id,
        agent_id=caller.agent_id,
        role=caller.role,
        content=content,
        at=tx.at,
        verified=verified,
        reply_to=reply_to,
        mentions=json.dumps(mentioned),
        words=text.index_words(content),
    )
    assert post is not None  # an INSERT … RETURNING returns what it inserted
    others = [agent_id for agent_id in members if agent_id != caller.agent_id]
    # Those who are mentioned are told first.
    urgencies: tuple[Priority, ...] = ("high", "normal")
    for priority in urgencies:
        targets = [agent_id for agent_id in others if (agent_id in mentioned) == (priority == "high")]
        messages.enqueue(
            tx,
            targets=targets,
            message_type="group_message",
            payload={"group_name": group.name, "seq": post.seq}
            | ({"mentioned": True} if priority == "high" else {})
            | ({"reply_to": reply_to} if reply_to is not None else {}),
            source=caller,
            lead_id=group.lead_id,
            project_id=group.project_id,
            priority=priority,
            group_message_id=message_id,
        )
    tx.tell(
        Event(
            "chat",
            "group_message",
            f"posted in {group.name}",
            subject=group.subject,
            details={
                "group_name": group.name,
                "message_id": message_id,
                "seq": post.seq,
                "bytes": len(content.encode()),
                "mentions": mentioned,
            }
            | ({"reply_to": reply_to} if reply_to is not None else {}),
            lead_id=group.lead_id,
        )
    )
    secrets = text.redact(content)[1]
    return Posted(
        message_id=message_id,
        group_name=group.name,
        seq=post.seq,
        recipients=len(others),
        warning="The text looks as if it held a secret; it was posted as it is." if secrets else None,
    )


def _check_mentions(group: Group, members: list[str], mentioned: list[str]) -> None:
    for agent_id in mentioned:
        if agent_id not in members:
            near = text.nearest(agent_id, members)
            raise UnknownRecipient(
                f"{agent_id} is not in the group {group.name}.",
                hint=f"Did you mean {near[0]}?" if near else "Add it with add_group_members.",
                given=agent_id,
                near=near or None,
            )


@tool(writes=True, idempotent=True, profile="core")
def read_group_messages(
    tx: Tx,
    caller: Caller,
    group_name: GroupName,
    after_id: AfterId | None = None,
    limit: Limit = 50,
    newest_first: Annotated[bool, Field(description="Newest first")] = False,
    mark_read: Annotated[bool, Field(description="Mark as read")] = True,
) -> GroupMessages:
    """Read what was said in a group, with reactions.

    after_id is a seq: last_read_id of list_chat_groups for what is new.
    """
    group = groups.find(tx, caller, group_name)
    posts = tx.all(
        NEWEST_FIRST if newest_first else OLDEST_FIRST,
        **group.key,
        after=after_id if after_id is not None else 2**62 if newest_first else 0,
        limit=limit + 1,
    )
    quotes = Quotes(tx, [post.content for post in posts])
    shown, more = fitted([_message(post, quotes) for post in posts], limit)
    if mark_read and shown:
        newest = max(message.seq for message in shown)
        tx.run(READ_TO, **group.key, agent_id=caller.agent_id, seq=newest)
    return GroupMessages(
        group_name=group.name,
        messages=shown,
        mark=quotes.mark if shown else None,
        next_after_id=shown[-1].seq if more else None,
    )


def _message(post: Post, quotes: Quotes) -> GroupMessage:
    return GroupMessage(
        message_id=post.id,
        seq=post.seq,
        sender=post.from_agent_id,
        from_role=post.from_role,
        verified=bool(post.verified),
        timestamp=post.timestamp,
        reply_to=post.reply_to,
        mentions=json.loads(post.mentions) or None,
        reactions=json.loads(post.reactions) or None,
        text=quotes.quote(post.content),
    )


@tool(writes=True, idempotent=True)
def react_to_group_message(
    tx: Tx,
    caller: Caller,
    group_name: GroupName,
    message_id: GroupMessageId,
    emoji: Emoji,
    remove: Annotated[bool, Field(description="Take your reaction back")] = False,
) -> Reacted:
    """Answer a message of a group with an emoji, for instance to agree; nobody's inbox gets it.

    Twice, or taking back what is not there, changes nothing. not_found for a message of another group.
    """
    group = groups.find_open(tx, caller, group_name)
    present: Mapping[str, list[str]] = _reactions(tx, group, message_id)
    if not remove and emoji not in present and len(present) >= MOST_EMOJI:
        raise QuotaExceeded(
            f"{message_id} has {MOST_EMOJI} different emoji.",
            quota="emoji",
            used=len(present),
            limit=MOST_EMOJI,
        )
    changed = tx.one(
        TAKE_BACK if remove else REACT,
        **group.key,
        message_id=message_id,
        agent_id=caller.agent_id,
        path=f'$."{emoji}"',
    )
    if changed is None:
        return Reacted(message_id=message_id, changed=False, reactions=dict(present))
    tx.tell(
        Event(
            "chat",
            "group_reaction",
            f"{'took back' if remove else 'gave'} {emoji} in {group.name}",
            subject=group.subject,
            details={"group_name": group.name, "message_id": message_id, "emoji": emoji, "remove": remove},
            lead_id=group.lead_id,
        )
    )
    return Reacted(message_id=message_id, changed=True, reactions=json.loads(changed.reactions))


def _reactions(tx: Tx, group: Group, message_id: str) -> dict[str, list[str]]:
    """The reactions to a message of the group. Raises NotFound for any other message."""
    row = tx.one(REACTIONS, **group.key, message_id=message_id)
    if row is None:
        raise NotFound(
            f"There is no message {message_id} in {group.name}.",
            hint="See read_group_messages.",
            kind="message",
            given=message_id,
        )
    reactions: dict[str, list[str]] = json.loads(row.reactions)
    return reactions
