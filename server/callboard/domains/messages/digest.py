"""The digest: what a client's hook tells an agent that has not looked into its inbox.

Each message is told once. To be told is not to receive: the message stays in the inbox as it was, without a
receipt, until its reader fetches and acknowledges it.
"""

import json
from typing import Literal, NamedTuple

from callboard import text
from callboard.domains.messages.mail import SERVER
from callboard.domains.messages.queue import GROUP_TEXT, RECEIVABLE, Priority, Type
from callboard.store import Command, Row, Tx

MOST_TOLD = 20
"""Messages that one digest tells of; the others are told by the next."""

OPENING = 160
"""Characters that a digest shows of a message."""


class Untold(Row):
    id: int
    source_agent_id: str | None
    source_role: str | None
    message_type: Type
    priority: Priority
    created_at: str
    payload: str
    group_text: str | None


UNTOLD = Untold.query(f"""
    SELECT id, source_agent_id, source_role, message_type, priority, created_at, payload,
           {GROUP_TEXT} AS group_text
      FROM message_queue WHERE {RECEIVABLE} AND told = 0 ORDER BY priority_rank, id LIMIT :limit
""")
TELL = Command("UPDATE message_queue SET told = 1 WHERE id IN (SELECT value FROM json_each(:message_ids))")


class Told(NamedTuple):
    """One message of a digest. `opening` is the beginning of its sender's words, on one line."""

    message_id: int
    sender: str
    sender_role: str | None
    message_type: Type
    priority: Literal["normal", "high", "urgent"]
    created_at: str
    opening: str


def take_digest(tx: Tx, agent_id: str) -> list[Told]:
    """What waits for an agent and was in no digest before, the most urgent first; it is marked as told."""
    found = tx.all(UNTOLD, agent_id=agent_id, now=tx.now, limit=MOST_TOLD)
    if found:
        tx.run(TELL, message_ids=json.dumps([message.id for message in found]))
    return [
        Told(
            message.id,
            message.source_agent_id or SERVER,
            message.source_role,
            message.message_type,
            message.priority,
            message.created_at,
            _opening(message),
        )
        for message in found
    ]


def _opening(message: Untold) -> str:
    body = message.group_text
    if body is None:
        body = str(json.loads(message.payload).get("text", ""))
    line = " ".join(text.neutralise(body)[0].split())
    return line if len(line) <= OPENING else f"{line[: OPENING - 1]}…"
