"""The crew: what touches many domains at once, such as an agent's end, and the views over all of them."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from callboard import globs, identity
from callboard.domains import delegations, history, locks, messages, roster, tasks, timers
from callboard.domains.locks.answers import Lock, lock_of
from callboard.domains.locks.leases import HELD_BY
from callboard.errors import AgentTerminated, Forbidden, UnknownAgent
from callboard.events import Event, Notice
from callboard.identity import Caller, Principal
from callboard.params import AgentId, Capability, FilePath, Keyword, Limit, Reason, RoleId, Successor
from callboard.store import Row, Tx
from callboard.tool import Result, tool

MOST_LEASES_SHOWN = 20
CANDIDATES = 200
TOUCHES_CONSIDERED = 2_000
"""Matching looks at the project's latest touches, up to this many: older ones say little of who knows a
file, and the cost must not grow with the history."""


class Leader(Row):
    led_by: str | None


class TaskLine(Row):
    id: str
    title: str | None
    dag_status: str


class DelegationLine(Row):
    delegation_id: str
    task: str


class PlanLine(Row):
    plan_json: str


class Connected(Row):
    agent_id: str


class Touch(Row):
    agent_id: str
    file_path: str
    work: int
    last_seq: int


class Outcome(Row):
    agent_id: str
    done: int
    failed: int


LEADER = Leader.query("SELECT led_by FROM _crews WHERE lead_id = :lead_id")
TASKS_OF = TaskLine.query("""
    SELECT id, title, dag_status FROM dag_tasks
     WHERE assigned_agent_id = :agent_id AND lead_id = :lead_id AND archived_at IS NULL
       AND dag_status IN ('running', 'in_review', 'paused')
     ORDER BY id LIMIT 20
""")
DELEGATIONS_OF = DelegationLine.query("""
    SELECT delegation_id, task FROM active_delegations
     WHERE agent_id = :agent_id AND status = 'active' ORDER BY delegation_id LIMIT 20
""")
PLAN_OF = PlanLine.query("SELECT plan_json FROM agent_plans WHERE agent_id = :agent_id")
DUE_FOR_RENEWAL = Connected.query("""
    SELECT a.agent_id FROM _agent_processes AS p JOIN agent_roster AS a ON a.agent_id = p.agent_id
     WHERE p.process_id = :process_id AND a.status <> 'terminated'
       AND (a.last_seen_boot_ms <= :seen
            OR EXISTS (SELECT 1 FROM _leases AS l
                        WHERE l.agent_id = a.agent_id AND l.expires_boot_ms > :now
                          AND l.expires_boot_ms < :now + l.ttl_ms / 2
                          AND l.renew_until_boot_ms > l.expires_boot_ms))
""")
TOUCHES = Touch.query("""
    SELECT agent_id, file_path, edit_count + commit_count AS work, last_seq FROM agent_file_history
     WHERE project_id = :project_id ORDER BY last_seq DESC LIMIT :limit
""")
OUTCOMES = Outcome.query("""
    SELECT assigned_agent_id AS agent_id, sum(dag_status = 'done') AS done,
           sum(dag_status = 'failed') AS failed
      FROM dag_tasks
     WHERE project_id = :project_id AND assigned_agent_id IS NOT NULL GROUP BY assigned_agent_id
""")


class WhoAmI(Result):
    agent_id: str
    role: str
    kind: str = Field(description="worker, lead, observer or human: what you may do")
    identified_by: str
    trust_level: str = Field(description="L0: you said so yourself; L1: by a token")
    lead_id: str
    led_by: str | None = None
    project_id: str
    leases: list[Lock]
    store_id: str
    store_path: str
    schema_version: int


class TaskView(Result):
    task_id: str
    dag_status: str
    title: str | None = None


class DelegationView(Result):
    delegation_id: str
    task: str


class Profile(roster.Listed):
    project_id: str
    created_at: str
    provider: str | None = None
    session_id: str | None = None
    capabilities: list[str]
    metadata: dict[str, Any]
    terminated_at: str | None = None
    termination_reason: str | None = None
    locks: list[Lock]
    tasks: list[TaskView]
    delegations: list[DelegationView]
    plan: list[dict[str, Any]] | None = None
    recent_activity: list[history.Activity]


class Match(Result):
    agent_id: str
    role: str
    liveness: str
    score: float
    reasons: list[str]


class Matches(Result):
    agents: list[Match]


class Terminated(Result):
    agent_id: str
    terminated: bool = Field(description="False when it had left before")
    released: list[str]
    messages_expired: int
    crew_led_by: str | None = None


@tool(toolset="roster")
def whoami(tx: Tx, caller: Caller) -> WhoAmI:
    """Say who you are to callboard: how you were identified, your rights, your crew, what you hold.

    Call it when you are unsure whether a call went out under your name, or after a restart. Agents that
    see another store_id are on another store.
    """
    leader = tx.one(LEADER, lead_id=caller.lead_id)
    held = tx.all(HELD_BY, agent_id=caller.agent_id, now=tx.now)
    return WhoAmI(
        agent_id=caller.agent_id,
        role=caller.role,
        kind=caller.kind,
        identified_by=caller.source or "nothing",
        trust_level=caller.trust,
        lead_id=caller.lead_id,
        led_by=leader.led_by if leader else None,
        project_id=caller.project_id,
        leases=[lock_of(tx, lease) for lease in held[:MOST_LEASES_SHOWN]],
        store_id=tx.info.store_id,
        store_path=str(tx.info.path),
        schema_version=tx.info.schema_version,
    )


@tool(toolset="roster")
def get_agent(tx: Tx, caller: Caller, target_agent_id: AgentId) -> Profile:
    """Look at one agent: its locks, tasks, delegations, plan and latest activity.

    Read it before you hand work over to an agent or take work over from it.
    """
    agent = roster.get(tx, target_agent_id, project_id=caller.project_id)
    same_crew = agent.lead_id == caller.lead_id or caller.kind == "human"
    plan = tx.one(PLAN_OF, agent_id=agent.agent_id) if same_crew else None
    tasks = tx.all(TASKS_OF, agent_id=agent.agent_id, lead_id=agent.lead_id) if same_crew else []
    delegations = tx.all(DELEGATIONS_OF, agent_id=agent.agent_id) if same_crew else []
    return Profile(
        **roster.listed(tx, agent, caller).model_dump(),
        project_id=agent.project_id or "",
        created_at=agent.created_at,
        provider=agent.provider,
        session_id=agent.session_id,
        capabilities=json.loads(agent.capabilities),
        metadata=json.loads(agent.metadata or "{}"),
        terminated_at=agent.terminated_at,
        termination_reason=agent.termination_reason,
        locks=[
            lock_of(tx, lease)
            for lease in tx.all(HELD_BY, agent_id=agent.agent_id, now=tx.now)[:MOST_LEASES_SHOWN]
        ],
        tasks=[TaskView(task_id=task.id, dag_status=task.dag_status, title=task.title) for task in tasks],
        delegations=[DelegationView(delegation_id=row.delegation_id, task=row.task) for row in delegations],
        plan=json.loads(plan.plan_json) if plan else None,
        recent_activity=history.latest_of(tx, caller, agent.agent_id, 10),
    )


@tool(toolset="roster")
def match_agents(
    tx: Tx,
    caller: Caller,
    file_path: FilePath | None = None,
    technology: Keyword | None = None,
    keyword: Keyword | None = None,
    role: RoleId | None = None,
    capability: Capability | None = None,
    available_only: Annotated[bool, Field(description="Only live, idle agents")] = False,
    limit: Limit = 10,
) -> Matches:
    """Find who is best for a piece of work: agents ranked with a score from 0 to 1 and its reasons.

    Counts who worked on the file and near it, who holds it now, capability, technology, role, keyword,
    idleness and a clean record. Give what you know of the work.
    """
    agents = [
        agent
        for agent in tx.all(
            roster.PROJECT_AGENTS,
            project_id=caller.project_id,
            lead_id=None,
            team_id=None,
            role=None,
            status=None,
            terminated=False,
            after="",
            limit=CANDIDATES,
        )
        if not available_only or (agent.status == "idle" and agent.liveness(tx.now) == "live")
    ]
    touches: dict[str, list[Touch]] = defaultdict(list)
    for touch in tx.all(TOUCHES, project_id=caller.project_id, limit=TOUCHES_CONSIDERED):
        touches[touch.agent_id].append(touch)
    outcomes = {row.agent_id: row for row in tx.all(OUTCOMES, project_id=caller.project_id)}
    newest = max((touch.last_seq for group in touches.values() for touch in group), default=0)
    matches = []
    for agent in agents:
        found: dict[str, float] = {}
        if file_path is not None:
            found |= _file_reasons(file_path, touches[agent.agent_id], newest)
            held = tx.all(HELD_BY, agent_id=agent.agent_id, now=tx.now)
            if any(globs.overlaps(lease.path, file_path) for lease in held):
                found[f"holds {file_path} now"] = 0.2
        if technology is not None:
            share = _technology_share(technology, touches[agent.agent_id])
            if share:
                found[f"works with {technology}"] = 0.1 + 0.1 * share
        if capability is not None and capability.lower() in agent.capabilities.lower():
            found[f"says it can do {capability}"] = 0.25
        if role is not None and agent.role == role:
            found[f"is a {role}"] = 0.25
        if (
            keyword is not None
            and keyword.lower() in f"{agent.last_task_summary} {agent.capabilities}".lower()
        ):
            found[f"mentions {keyword}"] = 0.1
        if not found and (file_path or technology or capability or role or keyword):
            continue
        if agent.status == "idle" and agent.liveness(tx.now) == "live":
            found["is idle"] = 0.05
        if (record := outcomes.get(agent.agent_id)) is not None and record.done + record.failed:
            clean = not record.failed
            found["no failed task" if clean else f"{record.failed} failed tasks"] = 0.1 if clean else -0.05
        matches.append(
            Match(
                agent_id=agent.agent_id,
                role=agent.role,
                liveness=agent.liveness(tx.now),
                score=round(min(1.0, max(0.0, sum(found.values()))), 3),
                reasons=[f"{reason} ({weight:+.2f})" for reason, weight in found.items()],
            )
        )
    matches.sort(key=lambda match: (-match.score, match.agent_id))
    return Matches(agents=matches[:limit])


def _file_reasons(path: str, touches: Iterable[Touch], newest: int) -> dict[str, float]:
    """What an agent's touches say of a file: having worked on it weighs most, more when it is recent;
    then the nearest directory it worked in."""
    reasons: dict[str, float] = {}
    nearest = 0.0
    segments = path.split("/")
    for touch in touches:
        recent = 0.5 ** ((newest - touch.last_seq) / TOUCHES_CONSIDERED)
        other = touch.file_path.partition(":")[2].split("/")
        if other == segments:
            done = "worked on" if touch.work else "locked or read"
            reasons[f"{done} {path}"] = (0.35 if touch.work else 0.2) * recent
        else:
            common = sum(1 for _ in _while_equal(segments[:-1], other[:-1]))
            if common:
                nearest = max(nearest, 0.15 * recent * common / max(len(segments), len(other)))
    if nearest > 0.01:
        reasons["worked nearby"] = nearest
    return reasons


def _while_equal(one: Iterable[str], other: Iterable[str]) -> Iterable[str]:
    for left, right in zip(one, other, strict=False):
        if left != right:
            return
        yield left


def _technology_share(technology: str, touches: Iterable[Touch]) -> float:
    known = [history.technology(touch.file_path) for touch in touches]
    hits = sum(1 for name in known if name == technology.lower())
    return min(1.0, math.log1p(hits) / math.log1p(20))


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
            f"{successor_id} has left.", agent_id=successor_id, since=successor.terminated_at
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
    dues = (locks.next_due(tx), tasks.next_due(tx), timers.next_due(tx))
    if any(due is not None and due <= tx.now for due in dues):
        return True
    return messages.is_due(tx) or bool(roster.orphans(tx))


def sweep(tx: Tx) -> None:
    """End what is over: leases and claims past their time, dead places in the queue, messages that waited
    too long, and what agents hold whose process has been gone for the whole grace; their leads are told.
    Fire the timers that are due."""
    locks.reap(tx)
    tasks.reap(tx)
    messages.sweep(tx)
    timers.fire_due(tx)
    for agent_id in roster.orphans(tx):
        released = locks.end_all(tx, agent_id, died=True)
        tasks.end_claims(tx, agent_id, f"the program of {agent_id} ended")
        agent = tx.one(roster.AGENT, agent_id=agent_id)
        if agent is not None and released and agent.led_by not in (None, agent_id):
            _notify(tx, str(agent.led_by), f"{agent_id} is gone: its program ended.", agent_id, released)
    roster.forget_processes(tx)


TOOLS = (whoami, get_agent, match_agents, terminate_agent)
