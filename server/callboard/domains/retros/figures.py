"""The figures of a session: what the store itself can say of it, each with what it was counted from.

A session may have been resumed, so it is a list of spans of time, and only what happened within them counts.
What nobody told (tokens, for one) is absent rather than 0, and what has left the ledger is not counted.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from callboard.domains.tasks.network import schedule
from callboard.store import Row, Tx

PATH_SHOWN = 50
"""Tasks of a critical path that are named."""

PATH_TASKS = 10_000
"""Done tasks up to which the critical path is looked for: half a second, in which nobody else writes."""

Span = tuple[str, str]
"""A stretch of time by its first and last moment, as the store writes times."""

Piece = tuple[float, float]
"""A stretch of time in seconds of the Unix clock."""

SUMMED = (
    "tasks_done",
    "tasks_failed",
    "attempts",
    "review_rounds",
    "busy_seconds",
    "idle_seconds",
    "tokens",
    "cost_usd",
    "lock_waits",
    "lock_wait_seconds",
    "messages",
)
"""The figures of which the crew's is the sum of its agents'."""

NOTHING_COUNTED: Mapping[str, Any] = {
    "tasks_done": 0,
    "tasks_failed": 0,
    "attempts": 0,
    "review_rounds": 0,
    "lock_waits": 0,
    "messages": 0,
}
"""What the store counts itself, so that nothing counted is 0 and not unknown."""

BASIS: Mapping[str, str] = {
    "tasks_done": "tasks that became done with the agent as their holder, each once",
    "tasks_failed": "tasks that became failed with the agent as their holder, each once",
    "attempts": "claims of tasks and tasks given to the agent",
    "review_rounds": "times that the agent submitted work for review",
    "busy_seconds": "time with a running task, several at once counted once",
    "idle_seconds": "time without a running task between the agent's first and last one",
    "tokens": "the tokens that the agent reported, of all four kinds",
    "cost_usd": "what the agent reported of its costs",
    "lock_waits": "locks that were granted after a wait",
    "lock_wait_seconds": "the time that those waits took",
    "messages": "messages and group posts that the agent sent",
    "conflicts_avoided": "times that an agent queued for a lock that another held or waited for",
    "decisions": "decisions recorded in the session, by what they are now",
    "critical_path": "among the tasks done in the session, the longest chain of dependencies: planned by its"
    " number of tasks, actual by the time for which they were running",
}


class Moment(Row):
    action_type: str
    timestamp: str


class Work(Row):
    agent_id: str
    tasks_done: int
    tasks_failed: int
    attempts: int
    review_rounds: int


class Run(Row):
    task_id: str
    agent_id: str
    began: str
    ended: str


class Done(Row):
    id: str


class Edge(Row):
    task_id: str
    dep_id: str


class Use(Row):
    agent_id: str
    tokens: int
    micro_usd: int | None


class Told(Row):
    agent_id: str
    lock_waits: int
    waited_ms: int
    messages: int
    conflicts_avoided: int


class Outcome(Row):
    status: str
    number: int


def _within(column: str) -> str:
    """The condition that a time lies in one of the session's spans."""
    return f"""{column} BETWEEN :since AND :until
       AND EXISTS (SELECT 1 FROM json_each(:spans) AS span
                    WHERE {column} BETWEEN span.value ->> 0 AND span.value ->> 1)"""


MOMENTS = Moment.query("""
    SELECT action_type, timestamp FROM activity_log
     WHERE lead_id = :lead_id AND origin = 'server' AND details ->> 'session_row_id' = :session_row_id
       AND action_type IN ('session_started', 'session_resumed', 'session_ended')
     ORDER BY id
""")
WORK = Work.query(f"""
    SELECT assigned_agent_id AS agent_id,
           count(DISTINCT iif(to_status = 'done', task_id, NULL)) AS tasks_done,
           count(DISTINCT iif(to_status = 'failed', task_id, NULL)) AS tasks_failed,
           sum(action IN ('claim', 'assign')) AS attempts, sum(action = 'submit') AS review_rounds
      FROM _task_transitions
     WHERE lead_id = :lead_id AND assigned_agent_id IS NOT NULL AND {_within("created_at")}
     GROUP BY assigned_agent_id
""")
RUNS = Run.query("""
    SELECT task_id, agent_id, began, coalesce(ended, :until) AS ended
      FROM (SELECT task_id, assigned_agent_id AS agent_id, to_status, created_at AS began,
                   lead(created_at) OVER (PARTITION BY task_id ORDER BY id) AS ended
              FROM _task_transitions WHERE lead_id = :lead_id)
     WHERE to_status = 'running' AND agent_id IS NOT NULL AND began <= :until
       AND (ended IS NULL OR ended >= :since)
     ORDER BY began
""")
DONE = Done.query(f"""
    SELECT DISTINCT task_id AS id FROM _task_transitions
     WHERE lead_id = :lead_id AND to_status = 'done' AND {_within("created_at")}
     ORDER BY task_id LIMIT {PATH_TASKS + 1}
""")
EDGES = Edge.query("SELECT task_id, dep_id FROM _task_edges WHERE lead_id = :lead_id")
USE = Use.query(f"""
    SELECT agent_id, sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens) AS tokens,
           sum(cost_micro_usd) AS micro_usd
      FROM _cost_calls WHERE lead_id = :lead_id AND {_within("recorded_at")} GROUP BY agent_id
""")
TOLD = Told.query(f"""
    SELECT l.agent_id,
           sum(l.action_type = 'lock_acquired' AND coalesce(l.details ->> 'waited_ms', 0) > 0) AS lock_waits,
           sum(iif(l.action_type = 'lock_acquired', coalesce(l.details ->> 'waited_ms', 0), 0)) AS waited_ms,
           sum(l.action_type IN ('message_sent', 'group_message')) AS messages,
           sum(l.action_type = 'lock_queued') AS conflicts_avoided
      FROM activity_log AS l JOIN agent_roster AS a ON a.agent_id = l.agent_id AND a.lead_id = :lead_id
     WHERE l.origin = 'server' AND {_within("l.timestamp")}
       AND l.action_type IN ('lock_acquired', 'lock_queued', 'message_sent', 'group_message')
     GROUP BY l.agent_id
""")
DECISIONS = Outcome.query(f"""
    SELECT status, count(*) AS number FROM decisions
     WHERE lead_id = :lead_id AND {_within("created_at")} GROUP BY status ORDER BY status
""")


def spans_of(tx: Tx, lead_id: str, session_row_id: int, started_at: str, ended_at: str | None) -> list[Span]:
    """When a session was active: from its start and each resume to the end that followed. What the ledger
    no longer has is taken from the session itself."""
    spans: list[Span] = []
    began: str | None = None
    for moment in tx.all(MOMENTS, lead_id=lead_id, session_row_id=session_row_id):
        if moment.action_type != "session_ended":
            began = moment.timestamp
        elif began is not None:
            spans.append((began, moment.timestamp))
            began = None
    if began is not None:
        spans.append((began, tx.at))
    return spans or [(started_at, ended_at or tx.at)]


def compute(tx: Tx, lead_id: str, spans: list[Span]) -> dict[str, Any]:
    """What the store says of a crew within some spans of time: `agents`, `crew`, and the `basis` of each
    figure that is there."""
    session = {"lead_id": lead_id, "since": spans[0][0], "until": spans[-1][1], "spans": json.dumps(spans)}
    agents: dict[str, dict[str, Any]] = defaultdict(lambda: dict(NOTHING_COUNTED))
    for work in tx.all(WORK, **session):
        agents[work.agent_id] |= {
            "tasks_done": work.tasks_done,
            "tasks_failed": work.tasks_failed,
            "attempts": work.attempts,
            "review_rounds": work.review_rounds,
        }
    runs = [
        (run.task_id, run.agent_id, piece)
        for run in tx.all(RUNS, lead_id=lead_id, since=session["since"], until=session["until"])
        for piece in _clipped(run, spans)
    ]
    by_agent: dict[str, list[Piece]] = defaultdict(list)
    for _, agent_id, piece in runs:
        by_agent[agent_id].append(piece)
    for agent_id, pieces in by_agent.items():
        busy, idle = _busy_and_idle(pieces, spans)
        agents[agent_id] |= {"busy_seconds": round(busy, 1), "idle_seconds": round(idle, 1)}
    for use in tx.all(USE, **session):
        agents[use.agent_id]["tokens"] = use.tokens
        if use.micro_usd is not None:
            agents[use.agent_id]["cost_usd"] = use.micro_usd / 1_000_000
    conflicts = 0
    for told in tx.all(TOLD, **session):
        conflicts += told.conflicts_avoided
        agents[told.agent_id] |= {"lock_waits": told.lock_waits, "messages": told.messages}
        if told.lock_waits:
            agents[told.agent_id]["lock_wait_seconds"] = told.waited_ms / 1000
    crew: dict[str, Any] = {
        name: round(sum(found), 6) if name == "cost_usd" else round(sum(found), 1)
        for name in SUMMED
        if (found := [figures[name] for figures in agents.values() if name in figures])
    }
    crew["conflicts_avoided"] = conflicts
    if outcomes := tx.all(DECISIONS, **session):
        crew["decisions"] = {outcome.status: outcome.number for outcome in outcomes}
    if (path := _critical_path(tx, session, runs)) is not None:
        crew["critical_path"] = path
    there = set(chain(crew, *agents.values()))
    return {
        "spans": [list(span) for span in spans],
        "agents": [{"agent_id": agent_id} | agents[agent_id] for agent_id in sorted(agents)],
        "crew": crew,
        "basis": {name: basis for name, basis in BASIS.items() if name in there},
    }


def _clipped(run: Run, spans: Iterable[Span]) -> list[Piece]:
    """The parts of a run that lie within the session."""
    pieces = ((max(run.began, since), min(run.ended, until)) for since, until in spans)
    return [(_seconds(begin), _seconds(end)) for begin, end in pieces if begin <= end]


def _busy_and_idle(pieces: list[Piece], spans: Iterable[Span]) -> tuple[float, float]:
    """How long an agent had a running task, and how long it had none between its first and its last."""
    merged: list[Piece] = []
    for begin, end in sorted(pieces):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    busy = sum(end - begin for begin, end in merged)
    first, last = merged[0][0], merged[-1][1]
    there = sum(max(0.0, min(_seconds(until), last) - max(_seconds(since), first)) for since, until in spans)
    return busy, max(0.0, there - busy)


def _critical_path(
    tx: Tx, session: Mapping[str, Any], runs: Iterable[tuple[str, str, Piece]]
) -> dict[str, Any] | None:
    """The longest chain among the tasks done, by number and by time; None for none, and for too many."""
    deps: dict[str, list[str]] = {row.id: [] for row in tx.all(DONE, **session)}
    if not 0 < len(deps) <= PATH_TASKS:
        return None
    for edge in tx.all(EDGES, lead_id=session["lead_id"]):
        if edge.task_id in deps and edge.dep_id in deps:
            deps[edge.task_id].append(edge.dep_id)
    took = dict.fromkeys(deps, 0.0)
    for task_id, _, (begin, end) in runs:
        if task_id in took:
            took[task_id] += end - begin
    planned = schedule(deps, dict.fromkeys(deps, 1.0)).critical_path
    actual = schedule(deps, took)
    return {
        "planned": list(planned[:PATH_SHOWN]),
        "planned_tasks": len(planned),
        "actual": list(actual.critical_path[:PATH_SHOWN]),
        "actual_seconds": round(actual.length, 1),
    }


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
