"""Mail: messages as agents read them.

What the server knows of a message (who sent it, in which role, whether a token vouches for that) stands
in fields of its own; what the sender wrote stands between the fences of the reply.
"""

import json
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from callboard.domains.messages.queue import Ending, Mail, Priority, Status, Type
from callboard.domains.messages.quoting import Quotes
from callboard.errors import Refused
from callboard.store import Tx
from callboard.tool import Result

SERVER = "callboard"
"""The sender of what the server itself tells. No agent can have this id."""


class UnknownRecipient(Refused):
    """No agent of your project has that id, and no member of your crew that role."""


class StaleReceipt(Refused):
    """The receipt is not that of the latest hand-out, or the message has ended."""


class Message(Result):
    message_id: int
    receipt: str | None = Field(default=None, description="Acknowledges it")
    sender: str = Field(serialization_alias="from", description="Set by the server")
    from_role: str | None = None
    origin: Literal["agent", "human", "server"]
    verified: bool = Field(description="Whether the sender was identified by a token")
    untrusted: bool | None = Field(default=None, description="True unless a verified human wrote it")
    message_type: Type
    priority: Priority | None = None
    reply_to: int | None = None
    group_message_id: str | None = None
    attempts: int | None = Field(default=None, description="How often it was handed out, if not once")
    created_at: str
    text: str = Field(description="Between fences")
    about: dict[str, Any] | None = Field(default=None, description="What it is about: ids, paths, numbers")


class Listed(Message):
    to: str
    status: Status
    delivered_at: str | None = None
    expired_reason: Ending | None = None


def quotes_for(tx: Tx, mail: Iterable[Mail]) -> Quotes:
    """The fence of a reply that quotes these messages."""
    return Quotes(tx, [f"{message.payload}{message.group_text or ''}" for message in mail])


def message_of(message: Mail, quotes: Quotes) -> Message:
    """A message that is handed out."""
    once = message.attempts == 1
    return Message(
        receipt=message.receipt, attempts=None if once else message.attempts, **_facts(message, quotes)
    )


def listed_of(message: Mail, quotes: Quotes) -> Listed:
    """A message in a list, with what became of it."""
    return Listed(
        to=message.target_agent_id,
        status=message.status,
        attempts=message.attempts,
        delivered_at=message.delivered_at,
        expired_reason=message.expired_reason,
        **_facts(message, quotes),
    )


def _facts(message: Mail, quotes: Quotes) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(message.payload)
    body = message.group_text if message.group_text is not None else str(payload.pop("text", ""))
    about = {key: value for key, value in payload.items() if not _is_told(value, body)}
    sender = message.source_agent_id or SERVER
    origin = "server" if sender == SERVER else "human" if sender.startswith("human:") else "agent"
    return {
        "message_id": message.id,
        "sender": sender,
        "from_role": message.source_role,
        "origin": origin,
        "verified": message.source_agent_id is None or bool(message.verified),
        "untrusted": None if origin == "human" and message.verified else True,
        "message_type": message.message_type,
        "priority": None if message.priority == "normal" else message.priority,
        "reply_to": message.reply_to,
        "group_message_id": message.group_message_id,
        "created_at": message.created_at,
        "text": quotes.quote(body),
        "about": quotes.prose(about) or None,
    }


def _is_told(value: object, body: str) -> bool:
    """Whether the text says a fact already: it is the text, or a passage of it and no mere name."""
    return value == body or (isinstance(value, str) and any(map(str.isspace, value)) and value in body)
