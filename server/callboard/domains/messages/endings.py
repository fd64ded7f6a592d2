"""Endings: messages that nobody will acknowledge any more.

A message ends because it waited too long, because it was handed out too often, because its recipient has
left, or because its cause was called off. It stays readable with its reason, and its sender and the lead
of its recipient are told once.
"""

from collections import defaultdict
from collections.abc import Iterable

from callboard.domains.messages.queue import MOST_ATTEMPTS, Count, Ending
from callboard.events import Event, Notice
from callboard.store import Row, Tx

MOST_NAMED = 20
"""Messages that one notice of their end names by id."""

WHY: dict[Ending, str] = {
    "max_attempts": f"was handed out {MOST_ATTEMPTS} times and never acknowledged",
    "ttl": "was not acknowledged in time",
    "target_gone": "was not acknowledged before its recipient left",
    "cancelled": "was called off",
}


class Ended(Row):
    id: int
    target_agent_id: str
    source_agent_id: str | None
    expired_reason: Ending
    project_id: str | None
    lead_id: str


class Withdrawn(Row):
    attempts: int


class Leader(Row):
    led_by: str | None


# A message whose receipt is in force is its holder's until that lapses. Each half has an index of its own.
OVER = f"""
    SELECT id FROM message_queue
     WHERE status = 'queued' AND expires_boot_ms <= :now AND visible_boot_ms <= :now
     UNION ALL
    SELECT id FROM message_queue
     WHERE status = 'queued' AND attempts >= {MOST_ATTEMPTS} AND visible_boot_ms <= :now
"""
ENDED = "id, target_agent_id, source_agent_id, expired_reason, project_id, lead_id"
DUE = Count.query(f"SELECT count(*) AS number FROM ({OVER} LIMIT 1)")
END_OVER = Ended.query(f"""
    UPDATE message_queue
       SET status = 'expired', expired_at = :at,
           expired_reason = iif(attempts >= {MOST_ATTEMPTS}, 'max_attempts', 'ttl')
     WHERE id IN ({OVER})
    RETURNING {ENDED}
""")
END_OF_TARGET = Ended.query(f"""
    UPDATE message_queue SET status = 'expired', expired_at = :at, expired_reason = 'target_gone'
     WHERE target_agent_id = :agent_id AND status = 'queued'
    RETURNING {ENDED}
""")
WITHDRAW = Withdrawn.query("""
    UPDATE message_queue SET status = 'expired', expired_at = :at, expired_reason = 'cancelled'
     WHERE id = :message_id AND status = 'queued'
    RETURNING attempts
""")
LEADER = Leader.query("""
    SELECT c.led_by FROM agent_roster AS a JOIN _crews AS c ON c.lead_id = a.lead_id
     WHERE a.agent_id = :agent_id
""")


def is_due(tx: Tx) -> bool:
    """Whether there are messages to end."""
    return tx.one(DUE, now=tx.now) == Count(1)


def sweep(tx: Tx) -> None:
    """End the messages that waited too long or were handed out too often."""
    _told(tx, tx.all(END_OVER, now=tx.now, at=tx.at))


def expire_for(tx: Tx, agent_id: str) -> int:
    """End the messages of an agent that has left; how many there were."""
    ended = tx.all(END_OF_TARGET, agent_id=agent_id, at=tx.at)
    _told(tx, ended)
    return len(ended)


def withdraw(tx: Tx, message_id: int) -> bool:
    """End a message whose cause was called off, unless it is acknowledged. True when nobody ever saw it."""
    withdrawn = tx.one(WITHDRAW, message_id=message_id, at=tx.at)
    return withdrawn is not None and withdrawn.attempts == 0


def _told(tx: Tx, ended: Iterable[Ended]) -> None:
    """Tell of ended messages: one notice for each that must know, however many they are. What the server
    itself had sent is not told, so that no notice ever leads to another. The lead of an agent that has
    left hears of that anyway."""
    groups: dict[tuple[str, Ending], list[Ended]] = defaultdict(list)
    for message in ended:
        groups[message.target_agent_id, message.expired_reason].append(message)
    for (target, reason), messages in groups.items():
        ids = [message.id for message in messages]
        tx.tell(
            Event(
                "messages",
                "message_expired",
                f"{_counted(ids)} to {target} {WHY[reason]}",
                subject=target,
                details={"message_ids": ids[:MOST_NAMED], "count": len(ids), "reason": reason},
                agent_id="callboard",
                agent_role="system",
                project_id=messages[0].project_id,
                lead_id=messages[0].lead_id,
            )
        )
        sent = [message for message in messages if message.source_agent_id is not None]
        readers: dict[str, list[int]] = defaultdict(list)
        leader = tx.one(LEADER, agent_id=target) if reason != "target_gone" else None
        for message in sent:
            for reader in {message.source_agent_id, leader.led_by if leader else None} - {None, target}:
                readers[str(reader)].append(message.id)
        for reader, own in sorted(readers.items()):
            tx.notify(
                Notice(
                    reader,
                    "system",
                    {
                        "text": f"{_counted(own)} to {target} {WHY[reason]}.",
                        "event": "message_expired",
                        "message_ids": own[:MOST_NAMED],
                        "count": len(own),
                        "target_agent_id": target,
                        "expired_reason": reason,
                    },
                )
            )


def _counted(ids: list[int]) -> str:
    return f"Message {ids[0]}" if len(ids) == 1 else f"Each of {len(ids)} messages"
