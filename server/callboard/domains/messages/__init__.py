"""Messages: one inbox for everything that an agent must be told.

Each message is one row per recipient, written in the transaction of its cause. It is handed out with a
receipt that lapses, and ends in one of two ways: acknowledged by its recipient, or expired with a reason
that its sender and its lead hear of. Nothing is dropped silently, and nothing is delivered twice to who
has acknowledged it.
"""

from callboard.domains.messages.digest import Told, take_digest
from callboard.domains.messages.endings import expire_for, is_due, sweep, withdraw
from callboard.domains.messages.queue import deliver, enqueue, post, unread
from callboard.domains.messages.quoting import Quotes
from callboard.domains.messages.receiving import (
    ack_messages,
    receive_messages,
    requeue_message,
    return_message,
)
from callboard.domains.messages.sending import broadcast_message, list_messages, send_message

TOOLS = (
    send_message,
    broadcast_message,
    receive_messages,
    ack_messages,
    return_message,
    list_messages,
    requeue_message,
)

__all__ = [
    "TOOLS",
    "Quotes",
    "Told",
    "deliver",
    "enqueue",
    "expire_for",
    "is_due",
    "post",
    "sweep",
    "take_digest",
    "unread",
    "withdraw",
]
