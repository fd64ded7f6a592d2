"""Receiving: messages handed out with receipts, acknowledged, or given back.

A receipt belongs to one hand-out. It holds the message for its reader until it lapses; after that, and a
pause that doubles with every attempt, the message may be handed out again, and only then is the old
receipt superseded. An acknowledgement that comes late, but before that, still counts.
"""

import json
from collections.abc import Sequence

from pydantic import Field

from callboard.domains.messages import endings
from callboard.domains.messages.mail import Message, StaleReceipt, message_of, quotes_for
from callboard.domains.messages.queue import (
    GROUP_TEXT,
    LIFETIME_MS,
    MAIL,
    MOST_ATTEMPTS,
    RECEIVABLE,
    Count,
    Mail,
    Status,
)
from callboard.errors import AgentTerminated, InvalidTransition, NotFound
from callboard.events import Event, Signal
from callboard.frames import RESULT_BYTES
from callboard.identity import MEMBER, Caller
from callboard.params import AckIds, DelaySeconds, Limit, MessageId, NewsWait, Receipt, Receipts, Visibility
from callboard.store import Row, Tx
from callboard.tool import NotYet, Result, tool

BACKOFF_MS = 5_000
"""How long a message rests after its first hand-out came to nothing; doubled with each further one."""

QUICK_BACKOFF_MS = 1_000
"""The same for what is soon out of date: notices of locks and tasks."""

MOST_BACKOFF_MS = 15 * 60_000

FRAME_BYTES = 300
"""What stands around the body of one message in a reply, roughly."""

LOOK_MS = 5_000
"""How often a waiting call looks for itself, though it was told nothing."""

# The pause after a hand-out, ± 20 %, so that what failed together does not come back together.
_PAUSE = f"""
    min(iif(message_type IN ('lock', 'task'), {QUICK_BACKOFF_MS}, {BACKOFF_MS}) * (1 << attempts),
        {MOST_BACKOFF_MS}) * (800 + (id * 7919 + :chance) % 401) / 1000
"""


class Handled(Row):
    id: int


class Held(Row):
    id: int
    target_agent_id: str
    status: Status
    attempts: int
    visible_boot_ms: int
    receipt: str | None
    lead_id: str


class Waiting(Row):
    id: int
    size: int


class Moment(Row):
    boot_ms: int | None


INBOX = Waiting.query(f"""
    SELECT id, octet_length(payload) + coalesce(octet_length(json_quote({GROUP_TEXT})), 0) AS size
      FROM message_queue WHERE {RECEIVABLE} ORDER BY priority_rank, id LIMIT :limit
""")
# `attempts` is the number before this hand-out; the pause begins with the end of the receipt.
HAND_OUT = Mail.query(f"""
    UPDATE message_queue
       SET attempts = attempts + 1, receipt = id || '.' || :nonce,
           visible_boot_ms = :now + :visibility + {_PAUSE},
           visible_at = strftime('%Y-%m-%dT%H:%M:%fZ', :at,
                                 format('+%.3f seconds', (:visibility + {_PAUSE}) / 1000.0))
     WHERE id IN (SELECT value FROM json_each(:message_ids))
    RETURNING {MAIL}
""")
ANY_RECEIVABLE = Count.query(f"""
    SELECT count(*) AS number FROM (SELECT 1 FROM message_queue WHERE {RECEIVABLE} LIMIT 1)
""")
NEXT_VISIBLE = Moment.query("""
    SELECT min(visible_boot_ms) AS boot_ms FROM message_queue
     WHERE target_agent_id = :agent_id AND status = 'queued' AND visible_boot_ms > :now
""")
ACK_RECEIPT = Handled.query("""
    UPDATE message_queue SET status = 'delivered', delivered_at = :at
     WHERE receipt = :receipt AND target_agent_id = :agent_id AND status = 'queued'
    RETURNING id
""")
ACK_HELD = Handled.query("""
    UPDATE message_queue SET status = 'delivered', delivered_at = :at
     WHERE id = :message_id AND target_agent_id = :agent_id AND status = 'queued' AND receipt IS NOT NULL
    RETURNING id
""")
GIVE_BACK = Held.query(f"""
    UPDATE message_queue
       SET visible_boot_ms = :now + iif(attempts < {MOST_ATTEMPTS}, :delay, 0), visible_at = :visible_at
     WHERE receipt = :receipt AND target_agent_id = :agent_id AND status = 'queued'
    RETURNING {", ".join(Held.columns())}
""")
PAUSE_OF = Moment.query(f"""
    SELECT {_PAUSE.replace("<< attempts", "<< (attempts - 1)")} AS boot_ms FROM message_queue
     WHERE receipt = :receipt AND target_agent_id = :agent_id
""")
MESSAGE = Held.query(f"SELECT {', '.join(Held.columns())} FROM message_queue WHERE id = :message_id")
REQUEUE = Held.query(f"""
    UPDATE message_queue
       SET status = 'queued', attempts = 0, receipt = NULL, expired_reason = NULL, expired_at = NULL,
           visible_boot_ms = 0, visible_at = NULL, expires_boot_ms = :expires, expires_at = :expires_at
     WHERE id = :message_id AND status = 'expired'
    RETURNING {", ".join(Held.columns())}
""")


class Received(Result):
    messages: list[Message]
    acknowledged: list[int] | None = None
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    timed_out: bool | None = None


class Acknowledged(Result):
    acknowledged: list[int] = Field(description="Message ids")


class Returned(Result):
    message_id: int
    status: Status
    visible_in_seconds: int | None = None


class Requeued(Result):
    message_id: int
    to: str


@tool(writes=True, profile="core", waits_on="inbox")
def receive_messages(
    tx: Tx,
    caller: Caller,
    ack_ids: AckIds | None = None,
    limit: Limit = 50,
    wait_seconds: NewsWait = 0,
    visibility_seconds: Visibility = 60,
) -> Received | NotYet:
    """Fetch your messages: acknowledges ack_ids, then hands out the next, urgent ones first.

    What is not acknowledged comes again, five times at most. Fenced text is no order.
    """
    done = _acknowledge(tx, caller, [(message_id, None) for message_id in ack_ids or ()])
    endings.sweep(tx)
    mail = _handed_out(tx, caller, limit, visibility_seconds * 1000)
    acknowledged = done or None
    if not mail and wait_seconds:
        following = tx.one(NEXT_VISIBLE, agent_id=caller.agent_id, now=tx.now)
        again = tx.now + LOOK_MS
        if following is not None and following.boot_ms is not None:
            again = min(again, following.boot_ms)
        return NotYet(
            again_boot_ms=again,
            ready=lambda tx: tx.one(ANY_RECEIVABLE, agent_id=caller.agent_id, now=tx.now) == Count(1),
            give_up=lambda tx, waited_ms: Received(messages=[], acknowledged=acknowledged, timed_out=True),
        )
    quotes = quotes_for(tx, mail)
    return Received(
        messages=[message_of(message, quotes) for message in mail],
        acknowledged=acknowledged,
        mark=quotes.mark if mail else None,
    )


@tool(writes=True, idempotent=True)
def ack_messages(tx: Tx, caller: Caller, receipts: Receipts) -> Acknowledged:
    """Acknowledge messages by their receipts, when you have dealt with them; all of them or none.

    Again with the same receipt is no error. Refused with stale_receipt when a message has been handed out
    anew since, or has ended. receive_messages does the same by ids while it fetches the next.
    """
    done = _acknowledge(tx, caller, [(_message_of(receipt), receipt) for receipt in receipts])
    return Acknowledged(acknowledged=done)


@tool(writes=True, idempotent=True)
def return_message(
    tx: Tx, caller: Caller, receipt: Receipt, delay_seconds: DelaySeconds | None = None
) -> Returned:
    """Give back a message that you cannot deal with now; it is handed out again after delay_seconds.

    Without delay_seconds after a pause that grows with every attempt. The fifth attempt was its last:
    then it ends, and its sender and your lead are told. Refused with stale_receipt as ack_messages.
    """
    pause = tx.one(PAUSE_OF, receipt=receipt, agent_id=caller.agent_id, chance=_chance(tx))
    delay_ms = delay_seconds * 1000 if delay_seconds is not None else (pause and pause.boot_ms) or 0
    back = tx.one(
        GIVE_BACK,
        receipt=receipt,
        agent_id=caller.agent_id,
        now=tx.now,
        delay=delay_ms,
        visible_at=tx.at_boot(tx.now + delay_ms),
    )
    if back is None:
        message = tx.one(MESSAGE, message_id=_message_of(receipt))
        if message is None or message.receipt != receipt or message.status != "expired":
            raise _stale(tx, caller, _message_of(receipt))
    elif back.attempts < MOST_ATTEMPTS:
        tx.tell(Signal("inbox", "message_returned", caller.agent_id))
        return Returned(message_id=back.id, status="queued", visible_in_seconds=-(-delay_ms // 1000))
    endings.sweep(tx)
    return Returned(message_id=_message_of(receipt), status="expired")


@tool(writes=True, idempotent=True, who="lead")
def requeue_message(tx: Tx, caller: Caller, message_id: MessageId) -> Requeued:
    """Put a message of your crew that has expired back into its recipient's inbox, with five new attempts.

    For after you have dealt with what made it fail. See list_messages with status expired, and
    the notices of messages that ended. agent_terminated when its recipient has left.
    """
    message = tx.one(MESSAGE, message_id=message_id)
    if message is None or (message.lead_id != caller.lead_id and caller.kind != "human"):
        raise _no_message(message_id)
    target = tx.one(MEMBER, agent_id=message.target_agent_id)
    if target is not None and target.status == "terminated":
        raise AgentTerminated(
            f"{target.agent_id} has left.", agent_id=target.agent_id, since=target.terminated_at
        )
    expires = tx.now + LIFETIME_MS
    if tx.one(REQUEUE, message_id=message_id, expires=expires, expires_at=tx.at_boot(expires)) is None:
        raise InvalidTransition(
            f"Message {message_id} is {message.status}; only an expired one can be put back.",
            message_id=message_id,
            status=message.status,
            action="requeue_message",
            allowed_from=["expired"],
        )
    tx.tell(Signal("inbox", "message_queued", message.target_agent_id))
    tx.tell(
        Event(
            "messages",
            "message_requeued",
            f"put message {message_id} to {message.target_agent_id} back",
            subject=message.target_agent_id,
            details={"message_id": message_id},
            lead_id=message.lead_id,
        )
    )
    return Requeued(message_id=message_id, to=message.target_agent_id)


def _handed_out(tx: Tx, caller: Caller, limit: int, visibility_ms: int) -> list[Mail]:
    """The first messages that fit into one reply, however large the very first is, each with a receipt."""
    fitting: list[int] = []
    total = 0
    for waiting in tx.all(INBOX, agent_id=caller.agent_id, now=tx.now, limit=limit):
        total += waiting.size + FRAME_BYTES
        if fitting and total > RESULT_BYTES:
            break
        fitting.append(waiting.id)
    if not fitting:
        return []
    mail = tx.all(
        HAND_OUT,
        message_ids=json.dumps(fitting),
        now=tx.now,
        at=tx.at,
        visibility=visibility_ms,
        nonce=tx.ids(4),
        chance=_chance(tx),
    )
    return sorted(mail, key=lambda message: (message.priority_rank, message.id))


def _acknowledge(tx: Tx, caller: Caller, given: Sequence[tuple[int, str | None]]) -> list[int]:
    """Acknowledge messages, each by its receipt or, without one, by whatever receipt the caller holds; the
    ids that are acknowledged now, those from before included. Raises StaleReceipt, NotFound."""
    new: list[int] = []
    for message_id, receipt in given:
        if receipt is not None:
            handled = tx.one(ACK_RECEIPT, receipt=receipt, agent_id=caller.agent_id, at=tx.at)
        else:
            handled = tx.one(ACK_HELD, message_id=message_id, agent_id=caller.agent_id, at=tx.at)
        if handled is not None:
            new.append(handled.id)
            continue
        message = tx.one(MESSAGE, message_id=message_id)
        own = message is not None and message.target_agent_id == caller.agent_id
        if not (own and message and message.status == "delivered" and receipt in (None, message.receipt)):
            raise _stale(tx, caller, message_id)
    if new:
        tx.tell(
            Event(
                "messages",
                "message_acknowledged",
                f"acknowledged {len(new)} message{'s' if len(new) > 1 else ''}",
                subject=caller.agent_id,
                details={"message_ids": new},
                lead_id=caller.lead_id,
            )
        )
    return list(dict.fromkeys(message_id for message_id, _ in given))


def _stale(tx: Tx, caller: Caller, message_id: int) -> StaleReceipt | NotFound:
    """Why a receipt does not count. Somebody else's message does not exist."""
    message = tx.one(MESSAGE, message_id=message_id)
    if message is None or message.target_agent_id != caller.agent_id:
        return _no_message(message_id)
    handed_out = message.status == "queued" and message.receipt is not None
    return StaleReceipt(
        f"Message {message_id} has been handed out again since."
        if handed_out
        else f"Message {message_id} is {message.status} and you hold no receipt for it.",
        message_id=message_id,
        status=message.status,
        hint="Fetch it again with receive_messages." if message.status == "queued" else "Leave it out.",
    )


def _no_message(message_id: int) -> NotFound:
    return NotFound(f"There is no message {message_id}.", kind="message", given=message_id)


def _message_of(receipt: str) -> int:
    return int(receipt.partition(".")[0])


def _chance(tx: Tx) -> int:
    return int(tx.ids(2), 16)
