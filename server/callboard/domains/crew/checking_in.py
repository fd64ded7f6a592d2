"""Checking in: the one call with which an agent begins its turn."""

from collections.abc import Iterable
from itertools import islice

from pydantic import Field

from callboard.domains import locks, messages, roster, tasks
from callboard.domains.crew.catching_up import (
    Change,
    Told,
    changes,
    cursor_of,
    latest,
    move_cursor,
    newest_entries,
    subject,
)
from callboard.domains.crew.holding import (
    HeldLock,
    OpenDecision,
    OpenTask,
    OwnTask,
    claims_of,
    held_locks,
    open_decision,
    open_task,
    own_task,
    ready_for,
    to_review,
    undecided,
)
from callboard.domains.messages.mail import Message
from callboard.domains.messages.receiving import Received, receive_messages
from callboard.identity import Caller
from callboard.params import NewsWait
from callboard.store import Tx
from callboard.tool import NotYet, Result, tool

MESSAGES = 20
LOCKS = 10
CLAIMS = 5
READY = 3
DECISIONS = 3
CHANGES = 5

LOOK_MS = 5_000
"""How often a waiting call looks for work, of which its inbox tells nothing."""


class CheckedIn(Result):
    agent_id: str
    messages: list[Message] = Field(description="As from receive_messages: acknowledge them")
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    locks: list[HeldLock] = Field(description="Yours, those that end first")
    locks_held: int
    tasks: list[OwnTask] = Field(description="That you have in hand")
    to_review: list[OpenTask] | None = Field(default=None, description="Wait for your judgement")
    ready: list[OpenTask] = Field(description="That you could claim, best first")
    decisions: list[OpenDecision] | None = Field(
        default=None, description="Wait for a human, and concern you"
    )
    changes: list[Change] = Field(
        description="By others since your last check-in, but what messages here tell"
    )
    changes_left_out: int | None = Field(default=None, description="See catch_up with this since_id")
    since_id: int
    next: str | None = None
    timed_out: bool | None = None


@tool(writes=True, profile="core", waits_on="inbox")
def check_in(tx: Tx, caller: Caller, wait_seconds: NewsWait = 0) -> CheckedIn | NotYet:
    """Begin a turn: renews what you hold, hands out messages, tells what is yours and what changed.

    Acknowledge as in receive_messages.
    """
    if caller.role and caller.kind != "human":
        roster.seen(tx, caller.agent_id, through_pipe=caller.stdio)
        locks.renew_leases(tx, caller.agent_id, slack_ms=0)
        tasks.renew_claims(tx, caller.agent_id, slack_ms=0)
    received = receive_messages(tx, caller, limit=MESSAGES)
    assert isinstance(received, Received)  # it was not asked to wait
    if wait_seconds and not received.messages and not _has_work(tx, caller):
        return NotYet(
            again_boot_ms=tx.now + LOOK_MS,
            ready=lambda tx: messages.unread(tx, caller.agent_id) > 0 or _has_work(tx, caller),
            # A call that is cancelled before its time tells nobody anything: its reader stays where it was.
            give_up=lambda tx, waited_ms: (
                _answer(tx, caller, received, timed_out=True) if waited_ms >= 1000 * wait_seconds else None
            ),
        )
    return _answer(tx, caller, received)


def _has_work(tx: Tx, caller: Caller) -> bool:
    """Whether there is something for the caller to do."""
    running = [task for task in claims_of(tx, caller, 1) if task.dag_status == "running"]
    return bool(running or to_review(tx, caller, 1)) or next(ready_for(tx, caller), None) is not None


def _told_by(handed_out: Iterable[Message]) -> set[Told]:
    """What the messages of this answer tell of the ledger's entries."""
    facts = [message.about for message in handed_out if message.origin == "server" and message.about]
    return {(fact["event"], about) for fact in facts if "event" in fact and (about := subject(fact))}


def _answer(tx: Tx, caller: Caller, received: Received, *, timed_out: bool | None = None) -> CheckedIn:
    """All that there is to say now; the reader's place in the ledger moves on."""
    upto = latest(tx)
    since = cursor_of(tx, caller.agent_id)
    entries, older = newest_entries(tx, caller, upto if since is None else since, upto)
    ranked = changes(tx, caller, entries, _told_by(received.messages))
    move_cursor(tx, caller.agent_id, upto)
    held = held_locks(tx, caller.agent_id)
    pending = undecided(tx, caller)
    return CheckedIn(
        agent_id=caller.agent_id,
        messages=received.messages,
        mark=received.mark,
        locks=held[:LOCKS],
        locks_held=len(held),
        tasks=[own_task(tx, task) for task in claims_of(tx, caller, CLAIMS)],
        to_review=[open_task(task) for task in to_review(tx, caller, CLAIMS)] or None,
        ready=[open_task(task) for task in islice(ready_for(tx, caller), READY)],
        decisions=[open_decision(decision) for decision in pending[:DECISIONS]] or None,
        changes=[
            Change(**change.model_dump(include=set(Change.model_fields))) for change in ranked[:CHANGES]
        ],
        changes_left_out=max(0, len(ranked) - CHANGES) + older or None,
        since_id=upto if since is None else since,
        next="This is your first check-in: get_briefing tells what you must know." if since is None else None,
        timed_out=timed_out,
    )
