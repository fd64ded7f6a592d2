"""Matching: who is best for a piece of work, with the reasons."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from callboard import globs
from callboard.domains import history, roster
from callboard.domains.locks.leases import HELD_BY
from callboard.identity import Caller
from callboard.params import Capability, FilePath, Keyword, Limit, RoleId
from callboard.store import Row, Tx
from callboard.tool import Result, tool

CANDIDATES = 200
TOUCHES_CONSIDERED = 2_000
"""Matching looks at the project's latest touches, up to this many: older ones say little of who knows a
file, and the cost must not grow with the history."""


class Touch(Row):
    agent_id: str
    file_path: str
    work: int
    last_seq: int


class Outcome(Row):
    agent_id: str
    done: int
    failed: int


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


class Match(Result):
    agent_id: str
    role: str
    liveness: str
    score: float
    reasons: list[str]


class Matches(Result):
    agents: list[Match]


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
