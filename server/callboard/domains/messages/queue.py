"""The queue: how a message comes into an inbox, and what may be handed out of it.

One statement writes the rows of all recipients, so that a fan-out exists whole or not at all. Ids are
given under the store's write lock: their order is the order of the commits.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from callboard import text
from callboard.errors import QuotaExceeded, RequestKeyReused
from callboard.events import Notice, Signal
from callboard.identity import Caller
from callboard.store import Row, Tx

Type = Literal[
    "agent_message",
    "broadcast",
    "group_message",
    "delegation",
    "delegation_result",
    "task",
    "lock",
    "decision",
    "timer",
    "system",
]
Priority = Literal["normal", "high", "urgent"]
Status = Literal["queued", "delivered", "expired"]
Ending = Literal["max_attempts", "ttl", "target_gone", "cancelled"]

LIFETIME_MS = 3 * 24 * 3600 * 1000
"""A message that nobody acknowledged ends after three days, unless its sender says otherwise."""

MOST_ATTEMPTS = 5
"""How often a message is handed out at most. Receives are counted, not failures, so that a reader that
dies of a message is counted too."""

MOST_QUEUED = 10_000
"""Messages that wait for one agent at most, and `MOST_FROM_ONE` of them from one sender."""

MOST_FROM_ONE = 1_000

UNREAD_COUNTED = 100
"""Unread messages are counted up to this many; beyond it the exact number helps nobody."""


class Mail(Row):
    """One message as one of its two sides sees it."""

    id: int
    target_agent_id: str
    source_agent_id: str | None
    source_role: str | None
    verified: int
    message_type: Type
    payload: str
    status: Status
    attempts: int
    created_at: str
    delivered_at: str | None
    lead_id: str
    priority: Priority
    priority_rank: int
    reply_to: int | None
    group_message_id: str | None
    receipt: str | None
    expired_reason: Ending | None
    group_text: str | None


def _of_post(column: str) -> str:
    return f"(SELECT {column} FROM chat_group_messages AS g WHERE g.id = message_queue.group_message_id)"


# A group post is stored once, with its group; its copies in the inboxes refer to it. Its author is the
# post's, also where the server hands it to a later member.
GROUP_TEXT = _of_post("content")
AUTHOR: Mapping[str, str] = {
    "source_agent_id": f"coalesce({_of_post('from_agent_id')}, source_agent_id) AS source_agent_id",
    "source_role": f"coalesce({_of_post('from_role')}, source_role) AS source_role",
    "verified": f"coalesce({_of_post('verified')}, verified) AS verified",
}
MAIL = ", ".join(AUTHOR.get(name, name) for name in Mail.columns()[:-1]) + f", {GROUP_TEXT} AS group_text"

# What can be handed out now. A row with an `ordered_key` waits for the earlier ones of its key.
RECEIVABLE = f"""
    message_queue.target_agent_id = :agent_id AND message_queue.status = 'queued'
    AND message_queue.visible_boot_ms <= :now AND message_queue.attempts < {MOST_ATTEMPTS}
    AND (message_queue.expires_boot_ms IS NULL OR message_queue.expires_boot_ms > :now)
    AND (message_queue.ordered_key IS NULL
         OR NOT EXISTS (SELECT 1 FROM message_queue AS earlier
                         WHERE earlier.target_agent_id = message_queue.target_agent_id
                           AND earlier.ordered_key = message_queue.ordered_key
                           AND earlier.status = 'queued' AND earlier.id < message_queue.id))
"""


class Queued(Row):
    id: int
    target_agent_id: str


class SentBefore(Row):
    id: int
    target_agent_id: str
    payload_hash: bytes
    created_at: str


class Waiting(Row):
    agent_id: str
    total: int
    from_source: int


class Home(Row):
    lead_id: str
    project_id: str | None
    status: str


class Count(Row):
    number: int


ENQUEUE = Queued.query("""
    INSERT INTO message_queue
           (target_agent_id, source_agent_id, source_role, verified, message_type, payload, created_at,
            project_id, lead_id, priority, reply_to, group_message_id, dedup_key, payload_hash,
            expires_boot_ms, expires_at, ordered_key, search_words)
    SELECT value, :source, :source_role, :verified, :message_type, :payload, :at,
           :project_id, :lead_id, :priority, :reply_to, :group_message_id, :dedup_key, :payload_hash,
           :expires, :expires_at, :ordered_key, :search_words
      FROM json_each(:targets) WHERE true ORDER BY key
    RETURNING id, target_agent_id
""")
SENT_BEFORE = SentBefore.query("""
    SELECT id, target_agent_id, payload_hash, created_at FROM message_queue
     WHERE source_agent_id = :source AND dedup_key = :dedup_key ORDER BY +id
""")
WAITING = Waiting.query("""
    SELECT target.value AS agent_id,
           (SELECT count(*) FROM (SELECT 1 FROM message_queue
                                   WHERE target_agent_id = target.value AND status = 'queued'
                                   LIMIT :most)) AS total,
           (SELECT count(*) FROM (SELECT 1 FROM message_queue
                                   WHERE target_agent_id = target.value AND source_agent_id = :source
                                     AND status = 'queued' LIMIT :most_from_one)) AS from_source
      FROM json_each(:targets) AS target
""")
HOME = Home.query("SELECT lead_id, project_id, status FROM agent_roster WHERE agent_id = :agent_id")
UNREAD = Count.query(f"""
    SELECT count(*) AS number FROM (SELECT 1 FROM message_queue WHERE {RECEIVABLE} LIMIT :most)
""")


def enqueue(
    tx: Tx,
    *,
    targets: Sequence[str],
    message_type: Type,
    payload: Mapping[str, object],
    source: Caller | None,
    lead_id: str,
    project_id: str,
    priority: Priority = "normal",
    reply_to: int | None = None,
    dedup_key: str | None = None,
    expires_ms: int | None = None,
    ordered_key: str | None = None,
    group_message_id: str | None = None,
) -> list[int]:
    """Queue a message for each target, all or none; their ids, in the order of the targets.

    The payload is the message's body: `text` for its reader, and beside it what it is about (ids, paths).
    `source` is who sends it, None the server itself, which no quota holds. `expires_ms` is how long it may
    wait, three days unless given. Rows of one `ordered_key` are handed out one after the other.

    Raises QuotaExceeded.
    """
    if source is not None:
        _check_quota(tx, targets, source.agent_id)
    return _queued(
        tx,
        targets,
        message_type,
        payload,
        source_agent_id=source.agent_id if source else None,
        source_role=source.role if source else None,
        verified=source is not None and source.trust == "L1",
        lead_id=lead_id,
        project_id=project_id,
        priority=priority,
        reply_to=reply_to,
        dedup_key=dedup_key,
        expires_ms=expires_ms,
        ordered_key=ordered_key,
        group_message_id=group_message_id,
    )


def post(tx: Tx, notice: Notice, caller: Caller) -> int:
    """Queue one notice at once; the id of its message, by which its cause can withdraw it. Its sender, if
    it has one, is as sure as the caller in whose call it is sent."""
    home = tx.one(HOME, agent_id=notice.target_agent_id)
    by_caller = notice.source_agent_id is not None and notice.source_agent_id == caller.agent_id
    [message_id] = _queued(
        tx,
        [notice.target_agent_id],
        notice.message_type,
        notice.payload,
        source_agent_id=notice.source_agent_id,
        source_role=notice.source_role or (caller.role if by_caller else None),
        verified=by_caller and caller.trust == "L1",
        lead_id=home.lead_id if home else caller.lead_id,
        project_id=(home.project_id if home else None) or caller.project_id,
        priority=notice.priority,
    )
    return message_id


def deliver(tx: Tx, caller: Caller) -> None:
    """Queue what the operation has to tell, each notice for its agent. Whoever has left is told nothing."""
    for notice in tx.notices:
        home = tx.one(HOME, agent_id=notice.target_agent_id)
        if home is None or home.status != "terminated":
            post(tx, notice, caller)


def _queued(
    tx: Tx,
    targets: Sequence[str],
    message_type: Type,
    payload: Mapping[str, object],
    *,
    source_agent_id: str | None,
    source_role: str | None,
    verified: bool,
    lead_id: str,
    project_id: str,
    priority: Priority,
    reply_to: int | None = None,
    dedup_key: str | None = None,
    expires_ms: int | None = None,
    ordered_key: str | None = None,
    group_message_id: str | None = None,
) -> list[int]:
    expires = tx.now + (LIFETIME_MS if expires_ms is None else expires_ms)
    rows = tx.all(
        ENQUEUE,
        targets=json.dumps(list(targets)),
        source=source_agent_id,
        source_role=source_role,
        verified=verified,
        message_type=message_type,
        payload=_rendered(payload),
        at=tx.at,
        project_id=project_id,
        lead_id=lead_id,
        priority=priority,
        reply_to=reply_to,
        group_message_id=group_message_id,
        dedup_key=dedup_key,
        payload_hash=digest(payload) if dedup_key is not None else None,
        expires=expires,
        expires_at=tx.at_boot(expires),
        ordered_key=ordered_key,
        search_words=text.index_words(str(payload.get("text", ""))),
    )
    for row in rows:
        tx.tell(Signal("inbox", "message_queued", row.target_agent_id))
    return [row.id for row in rows]


def _rendered(payload: Mapping[str, object]) -> str:
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)


def digest(payload: Mapping[str, object]) -> bytes:
    """What tells a repeated message from another one under the same key: the SHA-256 of its body."""
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).digest()


def sent_before(tx: Tx, source: str, dedup_key: str, payload: Mapping[str, object]) -> list[SentBefore]:
    """The rows of an earlier send under this key, for as long as they live; none for a first one. Raises
    RequestKeyReused."""
    rows = tx.all(SENT_BEFORE, source=source, dedup_key=dedup_key)
    if rows and rows[0].payload_hash != digest(payload):
        raise RequestKeyReused(
            hint="Use a new key for another message.",
            request_key=dedup_key.partition(":")[2],
            first_used_at=rows[0].created_at,
        )
    return rows


def _check_quota(tx: Tx, targets: Sequence[str], source: str) -> None:
    for waiting in tx.all(
        WAITING,
        targets=json.dumps(list(targets)),
        source=source,
        most=MOST_QUEUED,
        most_from_one=MOST_FROM_ONE,
    ):
        own = waiting.from_source >= MOST_FROM_ONE
        if own or waiting.total >= MOST_QUEUED:
            limit = MOST_FROM_ONE if own else MOST_QUEUED
            raise QuotaExceeded(
                f"{waiting.agent_id} has {limit} messages{' of yours' if own else ''} waiting.",
                quota="messages_from_sender" if own else "messages_of_target",
                used=limit,
                limit=limit,
                target_agent_id=waiting.agent_id,
                hint="Wait until it has read some of them.",
            )


def unread(tx: Tx, agent_id: str) -> int:
    """How many messages an agent could receive now, counted up to `UNREAD_COUNTED`. What it holds a
    receipt for does not wait."""
    found = tx.one(UNREAD, agent_id=agent_id, now=tx.now, most=UNREAD_COUNTED)
    return found.number if found else 0
