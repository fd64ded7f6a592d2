"""Firing: what makes a due timer a message.

Whichever process is there when a timer is due, or the next one that starts, claims its row and writes
the messages in one transaction. Times are those of the boot clock.
"""

from typing import Literal

from callboard.domains import messages
from callboard.errors import QuotaExceeded
from callboard.events import Event
from callboard.identity import Caller
from callboard.store import Command, Row, Tx

Status = Literal["pending", "fired", "cancelled"]


class Timer(Row):
    id: str
    agent_id: str
    agent_role: str
    lead_id: str
    project_id: str
    label: str
    message: str
    delay_seconds: int
    repeat: int
    status: Status
    fire_at: str
    fire_boot_ms: int
    target_agent_id: str | None
    fired_count: int
    verified: int

    @property
    def rank(self) -> int:
        """Pending timers come first in a list."""
        return 0 if self.status == "pending" else 1


class Due(Row):
    boot_ms: int | None


class Reached(Row):
    agent_id: str


class TimerName(Row):
    id: str


COLUMNS = """
    id, agent_id, agent_role, coalesce(lead_id, '') AS lead_id, coalesce(project_id, '') AS project_id, label,
    message, delay_seconds, repeat, status, fire_at, fire_boot_ms, target_agent_id, fired_count, verified
"""
NEXT_DUE = Due.query("SELECT min(fire_boot_ms) AS boot_ms FROM timers WHERE status = 'pending'")
# All of them: no agent has more than `MOST_PENDING`, and what a full inbox holds back stays among them.
DUE = Timer.query(f"""
    SELECT {COLUMNS} FROM timers WHERE status = 'pending' AND fire_boot_ms <= :now ORDER BY fire_boot_ms, id
""")
FIRE = Command("""
    UPDATE timers
       SET status = iif(repeat, 'pending', 'fired'), fired_count = fired_count + 1, claimed_by = :process_id,
           fire_boot_ms = :next, fire_at = :next_at, ended_at = iif(repeat, NULL, :at)
     WHERE id = :timer_id
""")
CANCEL_OF = TimerName.query("""
    UPDATE timers SET status = 'cancelled', ended_at = :at WHERE agent_id = :agent_id AND status = 'pending'
    RETURNING id
""")
# A timer's target is an agent, else a role. Who has left is reached by nothing.
REACHED = Reached.query("""
    SELECT agent_id FROM agent_roster WHERE agent_id = :target AND status <> 'terminated'
    UNION ALL
    SELECT agent_id FROM agent_roster
     WHERE role = :target AND lead_id = :lead_id AND status <> 'terminated'
       AND NOT EXISTS (SELECT 1 FROM agent_roster WHERE agent_id = :target)
     ORDER BY agent_id
""")


def next_due(tx: Tx) -> int | None:
    """When the next timer is due, on the boot clock."""
    due = tx.one(NEXT_DUE)
    return due.boot_ms if due else None


def fire_due(tx: Tx) -> None:
    """Fire every timer whose time has come.

    One that repeats keeps the rate of its first time; the periods that passed while nobody was there come
    as one message that says how many they were. A timer whose message meets a full inbox stays due.
    """
    for timer in tx.all(DUE, now=tx.now):
        period_ms = timer.delay_seconds * 1000
        late_ms = tx.now - timer.fire_boot_ms
        missed = late_ms // period_ms if timer.repeat else 0
        following = timer.fire_boot_ms + (missed + 1) * period_ms if timer.repeat else timer.fire_boot_ms
        try:
            reached = _remind(tx, timer, missed, following)
        except QuotaExceeded:
            continue
        tx.run(
            FIRE,
            timer_id=timer.id,
            process_id=tx.process_id,
            next=following,
            next_at=tx.at_boot(following) if timer.repeat else timer.fire_at,
            at=tx.at,
        )
        tell(tx, timer, "timer_fired", f"timer {timer.label} fired", reached=reached, missed=missed)


def cancel_for(tx: Tx, agent_id: str) -> list[str]:
    """Cancel the timers of an agent that has left; their ids."""
    return sorted(row.id for row in tx.all(CANCEL_OF, agent_id=agent_id, at=tx.at))


def _remind(tx: Tx, timer: Timer, missed: int, following: int) -> list[str]:
    """Queue what a timer says for those whom it reminds: its owner where nobody else is left. Raises
    QuotaExceeded."""
    target = timer.target_agent_id or timer.agent_id
    reached = [row.agent_id for row in tx.all(REACHED, target=target, lead_id=timer.lead_id)]
    about: dict[str, object] = {
        "text": timer.message,
        "event": "timer_fired",
        "timer_id": timer.id,
        "label": timer.label,
        "due_at": timer.fire_at,
    }
    if timer.repeat:
        about |= {"missed_periods": missed, "next_at": tx.at_boot(following)}
    if not reached and timer.target_agent_id is not None:
        about["not_reached"] = timer.target_agent_id
    messages.enqueue(
        tx,
        targets=reached or [timer.agent_id],
        message_type="timer",
        payload=about,
        source=Caller(
            timer.agent_id,
            timer.agent_role,
            timer.project_id,
            timer.lead_id,
            "worker",
            "token" if timer.verified else None,
        ),
        lead_id=timer.lead_id,
        project_id=timer.project_id,
    )
    return reached or [timer.agent_id]


def tell(tx: Tx, timer: Timer, kind: str, said: str, **details: object) -> None:
    """Tell a fact about a timer. That it fired is its owner's doing, whoever noticed the time."""
    tx.tell(
        Event(
            "timers",
            kind,
            said,
            subject=timer.id,
            details={"timer_id": timer.id, "label": timer.label} | details,
            agent_id=timer.agent_id if kind == "timer_fired" else None,
            agent_role=timer.agent_role if kind == "timer_fired" else None,
            project_id=timer.project_id,
            lead_id=timer.lead_id,
        )
    )
