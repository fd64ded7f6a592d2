"""The inbox: one row per recipient, written in the transaction of its cause.

Whatever an agent must be told, a lock it was granted or lost, ends up here and waits until the agent
has acknowledged it.
"""

import json
from typing import Any

from callboard.store import Command, Row, Tx

LIFETIME_MS = 3 * 24 * 3600 * 1000
"""A message that nobody fetched ends after three days."""

UNREAD_COUNTED = 100
"""Unread messages are counted up to this many; beyond it the exact number helps nobody."""

ENQUEUE = Command("""
    INSERT INTO message_queue
           (target_agent_id, source_agent_id, message_type, payload, created_at, project_id, priority,
            visible_boot_ms, expires_boot_ms)
    VALUES (:target, NULL, :message_type, :payload, :at, :project_id, :priority, :now, :expires)
""")
EXPIRE = Command("""
    UPDATE message_queue SET status = 'expired', expired_reason = 'target_gone'
     WHERE target_agent_id = :agent_id AND status = 'queued'
""")


class Unread(Row):
    count: int


UNREAD = Unread.query("""
    SELECT count(*) AS count
      FROM (SELECT 1 FROM message_queue WHERE target_agent_id = :agent_id AND status = 'queued' LIMIT :most)
""")


def deliver(tx: Tx, project_id: str) -> None:
    """Queue what the operation has to tell, each notice for its agent."""
    for notice in tx.notices:
        tx.run(
            ENQUEUE,
            target=notice.target_agent_id,
            message_type=notice.message_type,
            payload=json.dumps(notice.payload, separators=(",", ":"), ensure_ascii=False),
            at=tx.at,
            project_id=project_id,
            priority=notice.priority,
            now=tx.now,
            expires=tx.now + LIFETIME_MS,
        )


def expire_for(tx: Tx, agent_id: str) -> int:
    """End the messages of an agent that has left; how many there were."""
    return tx.run(EXPIRE, agent_id=agent_id)


def unread(tx: Tx, agent_id: str) -> int:
    """How many messages wait for an agent, counted up to `UNREAD_COUNTED`."""
    found = tx.one(UNREAD, agent_id=agent_id, most=UNREAD_COUNTED)
    return found.count if found else 0


TOOLS: tuple[Any, ...] = ()
