"""The tools by which timers are set, cancelled and listed."""

import math
from datetime import datetime
from typing import Annotated

from pydantic import Field

from callboard import text
from callboard.domains import roster
from callboard.domains.messages import Quotes
from callboard.domains.roster import roles
from callboard.domains.timers.firing import COLUMNS, Status, Timer, tell
from callboard.errors import (
    AgentTerminated,
    Conflict,
    Forbidden,
    InvalidArguments,
    NotFound,
    NotOwner,
    QuotaExceeded,
    UnknownAgent,
)
from callboard.identity import Caller
from callboard.params import AfterName, AgentId, Delay, Label, Limit, Reminder, Since, TimerId, TimerTarget
from callboard.store import Command, Query, Row, Tx
from callboard.tool import Result, fitted, tool

MOST_PENDING = 100
"""Timers of one agent that have not fired."""

LONGEST_MS = 30 * 24 * 3600 * 1000


class Count(Row):
    number: int


TIMER = Timer.query(f"SELECT {COLUMNS} FROM timers WHERE id = :timer_id")
PENDING_OF = Count.query("""
    SELECT count(*) AS number FROM timers WHERE agent_id = :agent_id AND +status = 'pending'
""")
SET = Command("""
    INSERT INTO timers (id, agent_id, agent_role, lead_id, project_id, label, message, delay_seconds, fire_at,
                        created_at, status, repeat, fire_boot_ms, target_agent_id, verified)
    VALUES (:id, :agent_id, :role, :lead_id, :project_id, :label, :message, :delay_seconds, :fire_at, :at,
            'pending', :repeat, :fire, :target, :verified)
""")
CANCEL = Command("""
    UPDATE timers SET status = 'cancelled', ended_at = :at WHERE id = :timer_id AND status = 'pending'
""")
BY_LABEL = Timer.query(f"""
    SELECT {COLUMNS} FROM timers
     WHERE label = :label AND (agent_id = :agent_id OR (:all AND lead_id = :lead_id))
     ORDER BY status <> 'pending', ended_at DESC, fire_boot_ms, id LIMIT {MOST_PENDING + 1}
""")


def _listing(whose: str) -> Query[Timer]:
    """One way to page through timers: pending ones first, each kind by its time."""
    return Timer.query(f"""
        SELECT {COLUMNS} FROM timers
         WHERE {whose} AND (:status IS NULL OR status = :status)
           AND (:of IS NULL OR agent_id = :of OR target_agent_id = :of)
           AND (status <> 'pending', fire_boot_ms, id) > (:rank, :fire, :after)
         ORDER BY status <> 'pending', fire_boot_ms, id LIMIT :limit
    """)


LISTINGS = {
    "own": _listing("lead_id = :lead_id AND :agent_id IN (agent_id, target_agent_id)"),
    "crew": _listing("lead_id = :lead_id"),
    # A human reads those of every crew of the project, and of its agents without a lead.
    "project": _listing(
        "lead_id IN (SELECT lead_id FROM _crews WHERE project_id = :project_id UNION SELECT :project_id)"
    ),
}


class TimerView(Result):
    timer_id: str
    label: str
    status: Status
    fire_at: str = Field(description="When it fires next, or fired last")
    seconds_left: int | None = None
    repeat_seconds: int | None = Field(default=None, description="Its period, if it repeats")
    sender: str = Field(serialization_alias="from", description="Who set it")
    target_agent_id: str | None = Field(default=None, description="Whom it reminds, if not who set it")
    fired_count: int | None = None


class ListedTimer(TimerView):
    text: str = Field(description="Between fences")


class TimerPage(Result):
    timers: list[ListedTimer]
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    next_after_id: str | None = None


class Cancelled(Result):
    timer_id: str
    label: str
    cancelled: bool = Field(description="False when it had fired or been cancelled before")
    status: Status


@tool(writes=True, profile="core")
def set_timer(
    tx: Tx,
    caller: Caller,
    label: Label,
    message: Reminder,
    delay: Delay | None = None,
    fire_at: Since | None = None,
    repeat: Annotated[bool, Field(description="Repeat each delay")] = False,
    target_agent_id: TimerTarget | None = None,
) -> TimerView:
    """Be reminded through your inbox: after delay or at fire_at, within 30 days.

    Only a lead reminds others. quota_exceeded at 100: cancel_timer.
    """
    fire = _first_time(tx, delay, fire_at, repeat=repeat)
    lead_id = _lead_of_target(tx, caller, target_agent_id)
    pending = tx.one(PENDING_OF, agent_id=caller.agent_id)
    if pending is not None and pending.number >= MOST_PENDING:
        raise QuotaExceeded(
            f"You have {pending.number} pending timers.",
            hint="Cancel one with cancel_timer.",
            quota="timers",
            used=pending.number,
            limit=MOST_PENDING,
        )
    timer_id = f"timer-{tx.ids(6)}"
    tx.run(
        SET,
        id=timer_id,
        agent_id=caller.agent_id,
        role=caller.role,
        lead_id=lead_id,
        project_id=caller.project_id,
        label=label,
        message=message,
        delay_seconds=math.ceil((fire - tx.now) / 1000),
        fire_at=tx.at_boot(fire),
        at=tx.at,
        repeat=repeat,
        fire=fire,
        target=target_agent_id if target_agent_id != caller.agent_id else None,
        verified=caller.trust == "L1",
    )
    timer = tx.one(TIMER, timer_id=timer_id)
    assert timer is not None  # it was inserted by the statement before
    tell(tx, timer, "timer_set", f"set the timer {label}", fire_at=timer.fire_at)
    return _view(tx, timer)


def _first_time(tx: Tx, delay: str | None, fire_at: str | None, *, repeat: bool) -> int:
    """When a timer is due first, on the boot clock. Raises InvalidArguments."""
    if (delay is None) == (fire_at is None):
        raise _invalid("delay", "or fire_at, one of them, is required")
    if delay is not None:
        return tx.now + 1000 * text.duration_seconds(delay)
    if repeat:
        raise _invalid("repeat", "needs delay, which is the period")
    try:
        moment = datetime.fromisoformat(str(fire_at))
    except ValueError:
        raise _invalid("fire_at", "must be a date and time that there is") from None
    ahead_ms = math.ceil((moment - tx.wall).total_seconds() * 1000)
    if not 0 < ahead_ms <= LONGEST_MS:
        raise _invalid("fire_at", f"must be after now, {tx.at}, and at most 30 days ahead")
    return tx.now + ahead_ms


def _invalid(field: str, rule: str) -> InvalidArguments:
    return InvalidArguments(f"{field} {rule}", fields=[{"field": field, "rule": rule}])


def _lead_of_target(tx: Tx, caller: Caller, target: str | None) -> str:
    """The crew of a new timer. Refuses a target that the caller may not remind, or that there is not.

    Raises Forbidden, UnknownAgent, NotFound, AgentTerminated.
    """
    if target is None or target == caller.agent_id:
        return caller.lead_id
    if not _is_above(caller):
        raise Forbidden(
            "Only a lead sets timers for others.",
            operation="set_timer",
            needs="lead",
            caller_kind=caller.kind,
            hint="Send a message, or ask your lead.",
        )
    agent = tx.one(roster.AGENT, agent_id=target)
    if agent is None:
        roles.get(tx, target)
        return caller.lead_id
    if agent.project_id != caller.project_id or (caller.kind != "human" and agent.lead_id != caller.lead_id):
        raise UnknownAgent(
            f"No agent {target} is in your crew.", agent_id=target, hint="See list_agents with lead_id."
        )
    if agent.status == "terminated":
        raise AgentTerminated(
            f"{target} has left.", hint="See list_agents.", agent_id=target, since=agent.terminated_at
        )
    return agent.lead_id


def _is_above(caller: Caller) -> bool:
    return caller.kind in ("lead", "human")


@tool(writes=True, idempotent=True)
def cancel_timer(
    tx: Tx, caller: Caller, timer_id: TimerId | None = None, label: Label | None = None
) -> Cancelled:
    """Cancel a timer of yours, or of your crew if you lead it, by its id or its label.

    conflict names the ids when several have the label. One that has fired is not cancelled: its status
    tells.
    """
    if (timer_id is None) == (label is None):
        raise _invalid("timer_id", "or label, one of them, is required")
    timer = _by_id(tx, caller, timer_id) if timer_id is not None else _by_label(tx, caller, str(label))
    cancelled = tx.run(CANCEL, timer_id=timer.id, at=tx.at) == 1
    if cancelled:
        tell(tx, timer, "timer_cancelled", f"cancelled the timer {timer.label}", owner=timer.agent_id)
    return Cancelled(
        timer_id=timer.id,
        label=timer.label,
        cancelled=cancelled,
        status="cancelled" if cancelled else timer.status,
    )


def _by_id(tx: Tx, caller: Caller, timer_id: str) -> Timer:
    """A timer that the caller may cancel. Raises NotFound, NotOwner."""
    timer = tx.one(TIMER, timer_id=timer_id)
    within = timer is not None and (
        timer.project_id == caller.project_id if caller.kind == "human" else timer.lead_id == caller.lead_id
    )
    if timer is None or not within:
        raise NotFound(
            f"There is no timer {timer_id}.", hint="See list_timers.", kind="timer", given=timer_id
        )
    if timer.agent_id != caller.agent_id and not _is_above(caller):
        raise NotOwner(
            f"{timer.agent_id} has set the timer {timer_id}.", object=timer_id, owner=timer.agent_id
        )
    return timer


def _by_label(tx: Tx, caller: Caller, label: str) -> Timer:
    """The one pending timer of this label that the caller may cancel, else the one that ended last.

    Raises NotFound, and Conflict when there are several.
    """
    found = tx.all(
        BY_LABEL, label=label, agent_id=caller.agent_id, lead_id=caller.lead_id, all=_is_above(caller)
    )
    pending = [timer for timer in found if timer.status == "pending"]
    if len(pending) > 1:
        raise Conflict(
            f"{len(pending)} pending timers have the label {label}.",
            hint="Pass the timer_id of one.",
            kind="timer",
            timer_ids=[timer.id for timer in pending],
        )
    if not found:
        raise NotFound(f"No timer has the label {label}.", hint="See list_timers.", kind="timer", given=label)
    return found[0]


@tool()
def list_timers(
    tx: Tx,
    caller: Caller,
    target_agent_id: AgentId | None = None,
    status: Annotated[Status | None, Field(description="Only these")] = None,
    limit: Limit = 50,
    after_id: AfterName | None = None,
) -> TimerPage:
    """List the timers that you set or that remind you; a lead sees its crew's. Pending ones come first.

    target_agent_id is who set it or is reminded. Go on with after_id = next_after_id.
    """
    rank, fire, after = _cursor(after_id)
    rows = tx.all(
        LISTINGS["project" if caller.kind == "human" else "crew" if caller.kind == "lead" else "own"],
        lead_id=caller.lead_id,
        project_id=caller.project_id,
        agent_id=caller.agent_id,
        of=target_agent_id,
        status=status,
        rank=rank,
        fire=fire,
        after=after,
        limit=limit + 1,
    )
    quotes = Quotes(tx, [row.message for row in rows])
    listed = [ListedTimer(**_view(tx, row).model_dump(), text=quotes.quote(row.message)) for row in rows]
    shown, more = fitted(listed, limit)
    last = rows[len(shown) - 1] if more else None
    return TimerPage(
        timers=shown,
        mark=quotes.mark if shown else None,
        next_after_id=f"{last.rank}:{last.fire_boot_ms}:{last.id}" if last else None,
    )


def _cursor(after_id: str | None) -> tuple[int, int, str]:
    """Where a page of timers begins. Raises InvalidArguments for what no page has given."""
    if after_id is None:
        return -1, 0, ""
    rank, _, rest = after_id.partition(":")
    fire, _, timer_id = rest.partition(":")
    if not (rank in ("0", "1") and fire.isascii() and fire.isdigit() and len(fire) < 17 and timer_id):
        raise _invalid("after_id", "must be the next_after_id of a page before")
    return int(rank), int(fire), timer_id


def _view(tx: Tx, timer: Timer) -> TimerView:
    pending = timer.status == "pending"
    return TimerView(
        timer_id=timer.id,
        label=timer.label,
        status=timer.status,
        fire_at=timer.fire_at,
        seconds_left=max(0, math.ceil((timer.fire_boot_ms - tx.now) / 1000)) if pending else None,
        repeat_seconds=timer.delay_seconds if timer.repeat else None,
        sender=timer.agent_id,
        target_agent_id=timer.target_agent_id,
        fired_count=timer.fired_count or None,
    )
