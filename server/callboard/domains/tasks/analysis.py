"""Looking at the graph as a whole: what can run side by side, what decides the end, what stands still.

Everything is read in two statements and computed in memory; what a list leaves out is counted.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from callboard import globs
from callboard.domains.tasks.network import behind_each, in_order, schedule
from callboard.domains.tasks.task import ENDED, unknown
from callboard.identity import Caller
from callboard.params import TaskIds
from callboard.store import Row, Tx
from callboard.tool import Result, tool

SHOWN = 20
"""Entries that each list of an analysis has at most."""

OVERLAPS_LOOKED_AT = 500
"""Ready tasks whose files are compared, the best ones first."""

SATISFIED = frozenset({"done", "skipped"})


class Node(Row):
    id: str
    dag_status: str
    paused_from: str | None
    role: str
    priority: int
    dependents: int
    seq: int
    overridden_by: str | None
    assigned_agent_id: str | None
    started_at: str | None
    completed_at: str | None


class Edge(Row):
    task_id: str
    dep_id: str


class Files(Row):
    id: str
    files: str


class Refusing(Row):
    task_id: str
    decision_id: str
    turned_down: int


NODES = Node.query("""
    SELECT id, dag_status, paused_from, role, priority, dependents, seq, overridden_by, assigned_agent_id,
           started_at, completed_at
      FROM dag_tasks WHERE lead_id = :lead_id AND archived_at IS NULL
""")
EDGES = Edge.query("SELECT task_id, dep_id FROM _task_edges WHERE lead_id = :lead_id")
READY_FILES = Files.query("""
    SELECT id, files FROM dag_tasks
     WHERE lead_id = :lead_id AND dag_status = 'ready' AND archived_at IS NULL AND files <> '[]'
     ORDER BY priority DESC, dependents DESC, seq LIMIT :limit
""")
DECISIONS = Refusing.query("""
    SELECT w.task_id, w.decision_id, r.status IN ('rejected', 'dismissed', 'withdrawn') AS turned_down
      FROM _task_decisions AS w CROSS JOIN decisions AS r ON r.id = w.decision_id
     WHERE w.lead_id = :lead_id AND r.status <> 'confirmed'
       AND (r.status <> 'recorded' OR r.needs_confirmation = 1)
""")


class WhatIf(BaseModel):
    """A change that is only thought of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    done: TaskIds = []
    failed: TaskIds = []


class Level(Result):
    level: int
    count: int
    tasks: list[str]


class Bottleneck(Result):
    task_id: str
    dag_status: str
    dependents: int


class Overlap(Result):
    tasks: list[str]
    file_path: str


class RootCause(Result):
    cause: str
    status: str
    blocked_count: int
    blocked: list[str]


class Slack(Result):
    task_id: str
    slack: float


class Consequences(Result):
    newly_ready: list[str]
    newly_blocked: list[str]
    newly_ready_count: int
    newly_blocked_count: int


class Estimate(Result):
    remaining: float
    unit: str
    basis: str


class Analysis(Result):
    counts: dict[str, int]
    progress: float = Field(description="Part of the tasks that is done or skipped, 0 to 1")
    levels: list[Level] = Field(description="What can run side by side, of what is not finished")
    levels_count: int
    widest: int
    critical_path: list[str]
    critical_path_count: int
    slack: list[Slack] = Field(description="How long ready and running tasks may slip without delay")
    bottlenecks: list[Bottleneck]
    overlaps: list[Overlap] = Field(description="Ready tasks that would touch the same files")
    root_causes: list[RootCause]
    estimate: Estimate | None = None
    what_if: Consequences | None = None


class Graph:
    """The tasks of a crew that are not archived, in memory."""

    def __init__(self, tx: Tx, lead_id: str) -> None:
        self.nodes = {node.id: node for node in tx.all(NODES, lead_id=lead_id)}
        self.deps: dict[str, list[str]] = {name: [] for name in self.nodes}
        for edge in tx.all(EDGES, lead_id=lead_id):
            if edge.task_id in self.nodes and edge.dep_id in self.nodes:
                self.deps[edge.task_id].append(edge.dep_id)
        self.decisions: dict[str, list[Refusing]] = defaultdict(list)
        for row in tx.all(DECISIONS, lead_id=lead_id):
            self.decisions[row.task_id].append(row)
        self.order = in_order(self.deps)

    def unfinished(self) -> dict[str, list[str]]:
        """What is still to be done, with what it waits for of it."""
        left = {name for name, node in self.nodes.items() if node.dag_status not in ENDED}
        return {name: [dep for dep in self.deps[name] if dep in left] for name in self.order if name in left}

    def derived(self, given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, set[str]]]:
        """What each task would be if the `given` ones had these statuses, and from which causes it would be
        blocked: the rule of `deriving`, from the first task to the last."""
        status: dict[str, str] = {}
        causes: dict[str, set[str]] = {}
        for name in self.order:
            node = self.nodes[name]
            was = given.get(name, node.dag_status)
            own = was if was != "paused" else node.paused_from or "pending"
            causes[name] = set()
            if own not in ("pending", "ready", "blocked"):
                status[name] = was
                continue
            missing = [dep for dep in self.deps[name] if status[dep] not in SATISFIED]
            waiting = self.decisions.get(name, ())
            found = {f"decision:{row.decision_id}" for row in waiting if row.turned_down}
            for dep in missing:
                found |= {dep} if status[dep] in ("failed", "cancelled") else causes[dep]
            if node.overridden_by or not (missing or waiting):
                now = "ready"
            else:
                causes[name] = set(sorted(found)[:SHOWN])
                now = "blocked" if found else "pending"
            status[name] = "paused" if was == "paused" else now
        return status, causes


@tool(profile="lead")
def analyze_dag(
    tx: Tx,
    caller: Caller,
    what_if: Annotated[WhatIf | None, Field(description="Suppose these were done or failed")] = None,
) -> Analysis:
    """Look at the whole graph: levels, critical path, bottlenecks, overlapping files, root causes, progress.

    Use it to plan who does what. With what_if it says what would become ready or blocked; nothing is
    changed.
    """
    graph = Graph(tx, caller.lead_id)
    counts: dict[str, int] = defaultdict(int)
    for node in graph.nodes.values():
        counts[node.dag_status] += 1
    left = graph.unfinished()
    weight, unit, basis = _weights(graph, left)
    plan = schedule(left, weight)
    by_level: dict[int, list[str]] = defaultdict(list)
    for name in sorted(left, key=lambda name: graph.nodes[name].seq):
        by_level[plan.level[name]].append(name)
    _, causes = graph.derived({})
    finished = counts.get("done", 0) + counts.get("skipped", 0)
    total = len(graph.nodes)
    return Analysis(
        counts=dict(counts),
        progress=round(finished / total, 4) if total else 0.0,
        levels=[
            Level(level=level, count=len(names), tasks=names[:SHOWN])
            for level, names in sorted(by_level.items())[:SHOWN]
        ],
        levels_count=len(by_level),
        widest=max((len(names) for names in by_level.values()), default=0),
        critical_path=list(plan.critical_path[: 5 * SHOWN]),
        critical_path_count=len(plan.critical_path),
        slack=_slack(graph, plan.slack),
        bottlenecks=_bottlenecks(graph, left),
        overlaps=overlaps(tx.all(READY_FILES, lead_id=caller.lead_id, limit=OVERLAPS_LOOKED_AT)),
        root_causes=_root_causes(graph, causes),
        estimate=Estimate(remaining=round(plan.length, 1), unit=unit, basis=basis) if left else None,
        what_if=_what_if(tx, caller, graph, what_if) if what_if else None,
    )


def _weights(graph: Graph, left: Iterable[str]) -> tuple[dict[str, float], str, str]:
    """How long each task is taken to last: what finished tasks of its role took in the middle, else what
    all took, else one step each."""
    took: dict[str, list[float]] = defaultdict(list)
    for node in graph.nodes.values():
        if node.dag_status == "done" and node.started_at and node.completed_at:
            seconds = datetime.fromisoformat(node.completed_at) - datetime.fromisoformat(node.started_at)
            took[node.role].append(max(0.0, seconds.total_seconds()))
    every = [seconds for of_role in took.values() for seconds in of_role]
    if not every:
        return dict.fromkeys(left, 1.0), "steps", "no task has finished yet: one step for each task"
    # Imported here: a server seldom needs it, and with it come fractions, decimals and random numbers.
    from statistics import median

    middle = median(every)
    of_role = {role: median(seconds) for role, seconds in took.items()}
    weight = {name: of_role.get(graph.nodes[name].role, middle) for name in left}
    basis = f"the critical path, by the median of {len(every)} finished tasks, by role where it is known"
    return weight, "seconds", basis


def _slack(graph: Graph, slack: Mapping[str, float]) -> list[Slack]:
    going = [name for name in slack if graph.nodes[name].dag_status in ("ready", "running", "in_review")]
    going.sort(key=lambda name: (slack[name], graph.nodes[name].seq))
    return [Slack(task_id=name, slack=round(slack[name], 1)) for name in going[:SHOWN]]


def _bottlenecks(graph: Graph, left: Mapping[str, list[str]]) -> list[Bottleneck]:
    """The unfinished tasks for which most others wait directly, two at least."""
    behind = {name: len(others) for name, others in behind_each(left).items() if len(others) >= 2}
    worst = sorted(behind, key=lambda name: (-behind[name], graph.nodes[name].seq))[:5]
    return [
        Bottleneck(task_id=name, dag_status=graph.nodes[name].dag_status, dependents=behind[name])
        for name in worst
    ]


def overlaps(ready: list[Files]) -> list[Overlap]:
    """Pairs of tasks with a common file, one for each pair. Equal names are found by a table; only
    patterns and directories are compared one by one."""
    users: dict[str, list[str]] = defaultdict(list)
    for task in ready:
        for path in json.loads(task.files):
            users[path].append(task.id)
    found: dict[tuple[str, str], str] = {}
    for path, names in users.items():
        for one, other in pairwise(names):
            found.setdefault((one, other), path)
            if len(found) >= SHOWN:
                break
    patterns = [path for path in users if not globs.is_literal(path) or "." not in path.rpartition("/")[2]]
    for pattern in patterns[:SHOWN]:
        for path, names in users.items():
            if len(found) >= SHOWN:
                break
            if path != pattern and globs.overlaps(pattern, path):
                for one in users[pattern]:
                    pair = next(((one, other) for other in names if other != one), None)
                    if pair is not None and pair[::-1] not in found:
                        found.setdefault(pair, path)
    return [Overlap(tasks=list(pair), file_path=path) for pair, path in list(found.items())[:SHOWN]]


def _root_causes(graph: Graph, causes: Mapping[str, set[str]]) -> list[RootCause]:
    blocked: dict[str, list[str]] = defaultdict(list)
    for name in graph.order:
        for cause in causes[name]:
            blocked[cause].append(name)
    worst = sorted(blocked, key=lambda cause: (-len(blocked[cause]), cause))[:SHOWN]
    return [
        RootCause(
            cause=cause,
            status=graph.nodes[cause].dag_status if cause in graph.nodes else "turned down",
            blocked_count=len(blocked[cause]),
            blocked=blocked[cause][:SHOWN],
        )
        for cause in worst
    ]


def _what_if(tx: Tx, caller: Caller, graph: Graph, suppose: WhatIf) -> Consequences:
    """What would change. Raises UnknownTask."""
    given = dict.fromkeys(suppose.failed, "failed") | dict.fromkeys(suppose.done, "done")
    for name in given:
        if name not in graph.nodes:
            raise unknown(tx, caller.lead_id, name)
    now, _ = graph.derived({})
    then, _ = graph.derived(given)
    changed = [name for name in graph.order if now[name] != then[name] and name not in given]
    changed.sort(key=lambda name: graph.nodes[name].seq)
    ready = [name for name in changed if then[name] == "ready"]
    blocked = [name for name in changed if then[name] == "blocked"]
    return Consequences(
        newly_ready=ready[: 5 * SHOWN],
        newly_blocked=blocked[: 5 * SHOWN],
        newly_ready_count=len(ready),
        newly_blocked_count=len(blocked),
    )
