"""Sending, and what became of it.

A send names an agent, a role or a person; sender and role come from the roster. Both sides of a message
can read it later, and its sender sees its fate.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from callboard import text
from callboard.domains.messages import addresses
from callboard.domains.messages.mail import SERVER, Listed, listed_of, quotes_for
from callboard.domains.messages.queue import MAIL, Mail, Priority, Status, Type, enqueue, sent_before
from callboard.errors import NotFound
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import (
    AfterId,
    AgentId,
    Limit,
    MessageId,
    MessageLifetime,
    MessageText,
    Recipient,
    RequestKey,
    SearchText,
)
from callboard.store import Query, Row, Tx
from callboard.tool import Result, fitted, tool

NAMED = 5
"""Recipients that the ledger's line of a message names; its details hold all."""

Urgency = Annotated[Priority, Field(description="Read first if high")]
SentType = Annotated[Literal["agent_message", "delegation_result"], Field(description="Kind")]
Direction = Annotated[Literal["received", "sent"], Field(description="Only what you received or sent")]
StatusFilter = Annotated[Status, Field(description="queued: not acknowledged; expired: ended with a reason")]


class Party(Row):
    target_agent_id: str
    source_agent_id: str | None


PARTIES = Party.query("SELECT target_agent_id, source_agent_id FROM message_queue WHERE id = :message_id")


def _listing(source: str, whose: str) -> Query[Mail]:
    """One way to page through mail. `whose` begins with what an index serves."""
    return Mail.query(f"""
        SELECT {MAIL} FROM {source}
         WHERE {whose} AND message_queue.id > :after
           AND (:status IS NULL OR status = :status)
           AND (:other IS NULL
                OR (target_agent_id = :owner AND coalesce(source_agent_id, '{SERVER}') = :other)
                OR (source_agent_id = :owner AND target_agent_id = :other))
         ORDER BY message_queue.id LIMIT :limit
    """)


LISTINGS: Mapping[str, Query[Mail]] = {
    "received": _listing("message_queue", "target_agent_id = :owner AND status = :in_status"),
    "sent": _listing("message_queue", "source_agent_id = :owner"),
    "query": _listing(
        "_fts_queue CROSS JOIN message_queue ON message_queue.id = _fts_queue.rowid",
        """_fts_queue MATCH :query AND ((:received AND target_agent_id = :owner)
                                        OR (:sent AND source_agent_id = :owner))""",
    ),
}


class Sent(Result):
    message_ids: list[int] = Field(description="One for each recipient")
    recipients: list[str]
    warning: str | None = None
    replayed: bool | None = None


class MessagePage(Result):
    messages: list[Listed]
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    next_after_id: int | None = None


@tool(writes=True, profile="core")
def send_message(
    tx: Tx,
    caller: Caller,
    to: Recipient,
    content: MessageText,
    message_type: SentType = "agent_message",
    reply_to: MessageId | None = None,
    priority: Urgency = "normal",
    expires_in: MessageLifetime | None = None,
    request_key: RequestKey | None = None,
) -> Sent:
    """Send a message to an agent, or to all of your crew with a role.

    Answer with reply_to. list_messages tells what became of it.
    """
    if reply_to is not None:
        _check_own(tx, caller, reply_to)
    return _send(
        tx,
        caller,
        addresses.recipients(tx, caller, to),
        message_type,
        content,
        priority=priority,
        reply_to=reply_to,
        expires_ms=1000 * text.duration_seconds(expires_in) if expires_in is not None else None,
        dedup_key=None if request_key is None else f"send_message:{request_key}",
    )


@tool(writes=True, profile="lead")
def broadcast_message(
    tx: Tx,
    caller: Caller,
    content: MessageText,
    priority: Urgency = "normal",
    request_key: RequestKey | None = None,
) -> Sent:
    """Send a message to everyone else in your crew, its lead included.

    For what everybody has to know; each recipient has to read it, so prefer send_message where one or a
    role is enough. unknown_recipient when you are alone.
    """
    return _send(
        tx,
        caller,
        addresses.crew(tx, caller),
        "broadcast",
        content,
        priority=priority,
        dedup_key=None if request_key is None else f"broadcast_message:{request_key}",
    )


@tool(audited=True)
def list_messages(
    tx: Tx,
    caller: Caller,
    status: StatusFilter | None = None,
    with_agent_id: AgentId | None = None,
    direction: Direction | None = None,
    query: SearchText | None = None,
    limit: Limit = 50,
    after_id: AfterId | None = None,
) -> MessagePage:
    """Read what you sent and received, oldest first, with what became of each; takes nothing.

    Filter by status, by the other side, or by words (query). Expired messages carry their reason. Fetch
    new ones with receive_messages instead. Go on with after_id = next_after_id.
    """
    owner, other = caller.agent_id, with_agent_id
    if caller.kind == "human" and with_agent_id is not None:
        owner, other = with_agent_id, None
        tx.tell(
            Event(
                "messages",
                "messages_read",
                f"read the messages of {with_agent_id}",
                subject=with_agent_id,
                details={"after_id": after_id, "query": query},
            )
        )
    match = text.fts_query(query) if query is not None else None
    if query is not None and match is None:
        return MessagePage(messages=[])
    values = {"owner": owner, "other": other, "status": status, "after": after_id or 0, "limit": limit + 1}
    both = direction is None
    found: list[Mail] = []
    if match is not None:
        sides = {"received": both or direction == "received", "sent": both or direction == "sent"}
        found = tx.all(LISTINGS["query"], query=match, **sides, **values)
    else:
        if both or direction == "received":
            for each in (status,) if status else ("queued", "delivered", "expired"):
                found += tx.all(LISTINGS["received"], in_status=each, **values)
        if both or direction == "sent":
            found += tx.all(LISTINGS["sent"], **values)
    mail = [message for _, message in sorted({message.id: message for message in found}.items())]
    mail = mail[: limit + 1]
    quotes = quotes_for(tx, mail)
    shown, more = fitted([listed_of(message, quotes) for message in mail], limit)
    return MessagePage(
        messages=shown,
        mark=quotes.mark if shown else None,
        next_after_id=shown[-1].message_id if more else None,
    )


def _check_own(tx: Tx, caller: Caller, message_id: int) -> None:
    """Refuse an answer to a message that the caller neither sent nor received: it does not exist for it."""
    parties = tx.one(PARTIES, message_id=message_id)
    if parties is None or caller.agent_id not in (parties.target_agent_id, parties.source_agent_id):
        raise NotFound(
            f"There is no message {message_id}.", hint="See list_messages.", kind="message", given=message_id
        )


def _send(
    tx: Tx,
    caller: Caller,
    targets: Sequence[str],
    message_type: Type,
    content: str,
    *,
    priority: Priority,
    dedup_key: str | None,
    reply_to: int | None = None,
    expires_ms: int | None = None,
) -> Sent:
    payload = {"text": content}
    if dedup_key is not None and (known := sent_before(tx, caller.agent_id, dedup_key, payload)):
        return Sent(
            message_ids=[row.id for row in known],
            recipients=[row.target_agent_id for row in known],
            replayed=True,
        )
    ids = enqueue(
        tx,
        targets=targets,
        message_type=message_type,
        payload=payload,
        source=caller,
        lead_id=caller.lead_id,
        project_id=caller.project_id,
        priority=priority,
        reply_to=reply_to,
        dedup_key=dedup_key,
        expires_ms=expires_ms,
    )
    more = f" and {len(targets) - NAMED} more" if len(targets) > NAMED else ""
    tx.tell(
        Event(
            "messages",
            "message_sent",
            f"sent a message to {', '.join(targets[:NAMED])}{more}",
            subject=targets[0],
            details={
                "message_ids": ids,
                "recipients": list(targets),
                "message_type": message_type,
                "bytes": len(content.encode()),
            }
            | ({"reply_to": reply_to} if reply_to is not None else {}),
            lead_id=caller.lead_id,
        )
    )
    secrets = text.redact(content)[1]
    return Sent(
        message_ids=ids,
        recipients=list(targets),
        warning=f"The text looks as if it held {secrets} secret{'s' if secrets > 1 else ''}; "
        "it was sent as it is."
        if secrets
        else None,
    )
