"""Leaving: an agent's end, and the duties towards agents that no call brings."""

from collections.abc import Iterable

from pydantic import Field

from callboard import identity
from callboard.domains import delegations, history, locks, messages, projects, roster, tasks, timers
from callboard.errors import AgentTerminated, Forbidden, UnknownAgent
from callboard.events import Event, Notice
from callboard.identity import Caller, Principal
from callboard.params import AgentId, Reason, Successor
from callboard.store import Row, Tx
from callboard.tool import Result, tool


class Leader(Row):
    led_by: str | None


class Connected(Row):
    agent_id: str


LEADER = Leader.query("SELECT led_by FROM _crews WHERE lead_id = :lead_id")
DUE_FOR_RENEWAL = Connected.query("""
    SELECT a.agent_id FROM _agent_processes AS p JOIN agent_roster AS a ON a.agent_id = p.agent_id
     WHERE p.process_id = :process_id AND a.status <> 'terminated'
       AND (a.last_seen_boot_ms <= :seen
            OR EXISTS (SELECT 1 FROM _leases AS l
                        WHERE l.agent_id = a.agent_id AND l.expires_boot_ms > :now
                          AND l.expires_boot_ms < :now + l.ttl_ms / 2
                          AND l.renew_until_boot_ms > l.expires_boot_ms))
""")


class Terminated(Result):
    agent_id: str
    terminated: bool = Field(description="False when it had left before")
    released: list[str]
    messages_expired: int
    crew_led_by: str | None = None


@tool(writes=True, idempotent=True, destructive=True, toolset="roster", profile="lead")
def terminate_agent(
    tx: Tx,
    caller: Caller,
    target_agent_id: AgentId | None = None,
    reason: Reason = "",
    successor_id: Successor | None = None,
) -> Terminated:
    """End an agent for good: yourself when your work is done, or one of your crew if you lead it.

    Its locks are released and waiters granted, its mail ends, its lead is told. A lead names
    successor_id, or leaves its crew leaderless. Only register_agent with revive brings it back.
    """
    agent = roster.get(tx, target_agent_id or caller.agent_id, project_id=caller.project_id)
    own = agent.agent_id == caller.agent_id
    leads_it = caller.kind == "lead" and agent.lead_id == caller.lead_id and agent.led_by != agent.agent_id
    if not own and caller.kind != "human" and not leads_it:
        raise Forbidden(
            f"Only {agent.agent_id} itself, its lead or a human may end it.",
            operation="terminate_agent",
            needs="the lead of its crew",
            caller_kind=caller.kind,
        )
    if successor_id is not None:
        _check_successor(tx, agent, successor_id)
    leader = tx.one(LEADER, lead_id=agent.lead_id)
    if not roster.terminate(tx, agent.agent_id, reason):
        return Terminated(agent_id=agent.agent_id, terminated=False, released=[], messages_expired=0)
    released = locks.end_all(tx, agent.agent_id)
    cancelled = timers.cancel_for(tx, agent.agent_id)
    settled = delegations.settle_for_agent(tx, agent.agent_id, by=caller.agent_id)
    expired = messages.expire_for(tx, agent.agent_id)
    led_by = leader.led_by if leader else None
    if successor_id is None:
        projects.end_sessions_of(tx, agent.agent_id)
    if roster.hand_over(tx, agent, successor_id):
        led_by = successor_id
        if successor_id is not None:
            _notify(
                tx,
                successor_id,
                f"{agent.agent_id} has left and you lead its crew now.",
                agent.agent_id,
                released,
            )
    elif led_by is not None and led_by != caller.agent_id:
        _notify(tx, led_by, f"{agent.agent_id} has left.", agent.agent_id, released)
    given_back = tasks.end_claims(tx, agent.agent_id, f"{agent.agent_id} has left")
    tx.tell(
        Event(
            "roster",
            "agent_terminated",
            f"{agent.agent_id} ({agent.role}) has left" + (f": {reason}" if reason else ""),
            subject=agent.agent_id,
            details={
                "reason": reason,
                "released": released,
                "delegations": settled,
                "timers": cancelled,
                "tasks": given_back,
                "messages_expired": expired,
            },
        )
    )
    return Terminated(
        agent_id=agent.agent_id,
        terminated=True,
        released=released,
        messages_expired=expired,
        crew_led_by=led_by,
    )


def _check_successor(tx: Tx, agent: roster.Agent, successor_id: str) -> None:
    successor = roster.get(tx, successor_id, project_id=agent.project_id or "")
    if successor.lead_id != agent.lead_id or successor_id == agent.agent_id:
        raise UnknownAgent(
            f"{successor_id} is not another member of this crew.",
            agent_id=successor_id,
            hint="See list_agents with your lead_id.",
        )
    if successor.status == "terminated":
        raise AgentTerminated(
            f"{successor_id} has left.",
            hint="See list_agents.",
            agent_id=successor_id,
            since=successor.terminated_at,
        )


def _notify(tx: Tx, target: str, said: str, agent_id: str, released: list[str]) -> None:
    held = (
        f" It held {', '.join(released[:10])}" + (" and more." if len(released) > 10 else ".")
        if released
        else ""
    )
    tx.notify(
        Notice(
            target,
            "system",
            {"text": said + held, "event": "agent_terminated", "agent_id": agent_id, "released": released},
            "high",
        )
    )


def due_for_renewal(tx: Tx, *, process_id: str) -> list[str]:
    """The agents of a connected client that need a sign of life: because the last one is old, or
    because half of one of their leases is over."""
    return [
        row.agent_id
        for row in tx.all(DUE_FOR_RENEWAL, process_id=process_id, seen=tx.now - roster.BEAT_MS, now=tx.now)
    ]


def renew(tx: Tx, *, agent_ids: Iterable[str], principal: Principal | None) -> None:
    """A sign of life of connected agents, unless the token of their process has ended."""
    if identity.is_valid(tx, principal):
        for agent_id in agent_ids:
            if roster.seen(tx, agent_id, through_pipe=True):
                locks.renew_leases(tx, agent_id, slack_ms=0)
                tasks.renew_claims(tx, agent_id, slack_ms=0)


def is_due(tx: Tx) -> bool:
    """Whether there is something to sweep."""
    dues = (locks.next_due(tx), tasks.next_due(tx), timers.next_due(tx), projects.next_due(tx))
    if any(due is not None and due <= tx.now for due in dues):
        return True
    return messages.is_due(tx) or bool(roster.orphans(tx)) or history.is_unindexed(tx)


def sweep(tx: Tx) -> None:
    """End what is over: leases and claims past their time, dead places in the queue, messages that waited
    too long, claims on sessions, and what agents hold whose process has been gone for the whole grace; their
    leads are told. Fire the timers that are due, and let searches find what happened."""
    history.index(tx)
    locks.reap(tx)
    tasks.reap(tx)
    messages.sweep(tx)
    timers.fire_due(tx)
    projects.lapse(tx)
    for agent_id in roster.orphans(tx):
        projects.end_sessions_of(tx, agent_id)
        released = locks.end_all(tx, agent_id, died=True)
        tasks.end_claims(tx, agent_id, f"the program of {agent_id} ended")
        agent = tx.one(roster.AGENT, agent_id=agent_id)
        if agent is not None and released and agent.led_by not in (None, agent_id):
            _notify(tx, str(agent.led_by), f"{agent_id} is gone: its program ended.", agent_id, released)
    roster.forget_processes(tx)
