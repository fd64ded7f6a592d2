"""Reading the graph: pages of tasks, and one task with everything about it."""

import json
from collections.abc import Iterator
from heapq import merge
from typing import Annotated, Literal

from pydantic import Field

from callboard import text
from callboard.domains import costs, delegations
from callboard.domains.costs import TaskCost
from callboard.domains.delegations import DelegationView
from callboard.domains.tasks.deriving import STUCK, TURNED_DOWN
from callboard.domains.tasks.task import Status, Task, find
from callboard.errors import InvalidArguments
from callboard.identity import Caller
from callboard.params import AfterName, AgentId, Limit, RoleId, SearchText, TaskId
from callboard.store import Query, Row, Tx
from callboard.tool import Result, fitted, tool

SHOWN = 20
"""Dependencies that one line of a page names at most."""

EDGES_SHOWN = 100
HISTORY_SHOWN = 50
HISTORY_BYTES = 12 * 1024
RESULTS_BYTES = 24 * 1024
"""Of what was handed in, the newest is always shown, and older texts as long as all fit into this."""

ROOT_STEPS = 1_000
"""How far the way from a blocked task to the cause is followed."""

STATUSES: tuple[Status, ...] = (
    "pending", "ready", "running", "in_review", "done", "failed", "blocked", "paused", "skipped", "cancelled",
)  # fmt: skip

BEHIND_CURSOR = "(t.priority < :priority OR (t.priority = :priority AND t.seq > :seq))"
FILTERS = """
    (:role IS NULL OR t.role = :role) AND (:agent_id IS NULL OR t.assigned_agent_id = :agent_id)
    AND t.dag_status IN (SELECT value FROM json_each(:statuses))
"""
T_COLUMNS = ", ".join(f"t.{column}" for column in Task.columns())


def _page(source: str, where: str) -> Query[Task]:
    return Task.query(f"""
        SELECT {T_COLUMNS} FROM {source}
         WHERE {where} AND t.lead_id = :lead_id AND {BEHIND_CURSOR} AND {FILTERS}
         ORDER BY t.priority DESC, t.seq LIMIT :limit
    """)


# A page is merged from one range of an index for each status, so it costs what it shows; with a holder or
# words to search for, from what these find.
OF_STATUS = _page("dag_tasks AS t", "t.dag_status = :status AND t.archived_at IS NULL")
OF_AGENT = _page("dag_tasks AS t", "t.assigned_agent_id = :agent_id AND (:archived OR t.archived_at IS NULL)")
FOUND = _page(
    "_fts_tasks AS f CROSS JOIN dag_tasks AS t ON t.seq = f.rowid",
    "f._fts_tasks MATCH :query AND (:archived OR t.archived_at IS NULL)",
)
EVERYTHING = _page("dag_tasks AS t", "t.lead_id = :lead_id")


class Edge(Row):
    id: str
    dag_status: str


class Handed(Row):
    id: int
    agent_id: str
    kind: Literal["submission", "completion", "late"]
    claim_epoch: int
    summary: str
    output: str
    created_at: str


class Transition(Row):
    id: int
    action: str
    from_status: str | None
    to_status: str
    actor: str | None
    assigned_agent_id: str | None
    claim_epoch: int
    cause_task_id: str | None
    reason: str | None
    created_at: str


MISSING = Edge.query("""
    SELECT d.id, d.dag_status
      FROM _task_edges AS e CROSS JOIN dag_tasks AS d ON d.id = e.dep_id AND d.lead_id = e.lead_id
     WHERE e.lead_id = :lead_id AND e.task_id = :task_id AND d.archived_at IS NULL
       AND d.dag_status NOT IN ('done', 'skipped')
     ORDER BY d.id LIMIT :limit
""")
UNRESOLVED = Edge.query("""
    SELECT 'decision:' || r.id AS id, r.status AS dag_status
      FROM _task_decisions AS w CROSS JOIN decisions AS r ON r.id = w.decision_id
     WHERE w.lead_id = :lead_id AND w.task_id = :task_id AND r.status <> 'confirmed'
       AND (r.status <> 'recorded' OR r.needs_confirmation = 1)
     ORDER BY r.id LIMIT :limit
""")
STUCK_ABOVE = Edge.query(f"""
    SELECT d.id, iif(d.dag_status = 'paused', 'blocked', d.dag_status) AS dag_status
      FROM _task_edges AS e CROSS JOIN dag_tasks AS d ON d.id = e.dep_id AND d.lead_id = e.lead_id
     WHERE e.lead_id = :lead_id AND e.task_id = :task_id AND d.archived_at IS NULL
       AND {STUCK}
     ORDER BY d.dag_status = 'blocked', d.id LIMIT 1
""")
REFUSING = Edge.query(f"""
    SELECT 'decision:' || r.id AS id, r.status AS dag_status
      FROM _task_decisions AS w CROSS JOIN decisions AS r ON r.id = w.decision_id
     WHERE w.lead_id = :lead_id AND w.task_id = :task_id AND {TURNED_DOWN}
     ORDER BY r.id LIMIT 1
""")
WAITED_FOR = Edge.query("""
    SELECT d.id, iif(d.archived_at IS NULL, d.dag_status, 'archived') AS dag_status
      FROM _task_edges AS e CROSS JOIN dag_tasks AS d ON d.id = e.dep_id AND d.lead_id = e.lead_id
     WHERE e.lead_id = :lead_id AND e.task_id = :task_id ORDER BY d.seq LIMIT :limit
""")
WAITING = Edge.query("""
    SELECT d.id, iif(d.archived_at IS NULL, d.dag_status, 'archived') AS dag_status
      FROM _task_edges AS e CROSS JOIN dag_tasks AS d ON d.id = e.task_id AND d.lead_id = e.lead_id
     WHERE e.lead_id = :lead_id AND e.dep_id = :task_id ORDER BY d.seq LIMIT :limit
""")
RESULTS = Handed.query("""
    SELECT id, agent_id, kind, claim_epoch, summary, output, created_at FROM _task_results
     WHERE lead_id = :lead_id AND task_id = :task_id ORDER BY id DESC LIMIT 50
""")
HISTORY = Transition.query("""
    SELECT id, action, from_status, to_status, actor, assigned_agent_id, claim_epoch, cause_task_id, reason,
           created_at
      FROM _task_transitions
     WHERE lead_id = :lead_id AND task_id = :task_id ORDER BY id DESC LIMIT :limit
""")


class Dependency(Result):
    task_id: str
    dag_status: str


class TaskLine(Result):
    task_id: str
    dag_status: str
    role: str
    title: str | None = None
    priority: int
    assigned_agent_id: str | None = None
    files: list[str] | None = None
    blocked_by: list[Dependency] | None = Field(default=None, description="What it still waits for")
    root_cause: Dependency | None = Field(default=None, description="What keeps it from ever being ready")
    attempts: int | None = None
    overridden_by: str | None = None
    archived_at: str | None = None


class TaskPage(Result):
    tasks: list[TaskLine]
    next_after_id: str | None = None


class HistoryLine(Result):
    at: str
    action: str
    from_status: str | None = None
    to_status: str
    actor: str | None = Field(default=None, description="Absent: the server")
    assigned_agent_id: str | None = None
    claim_epoch: int | None = None
    cause_task_id: str | None = None
    reason: str | None = None


class HandedIn(Result):
    at: str
    agent_id: str
    kind: str
    claim_epoch: int
    summary: str
    output: str


class TaskDetail(TaskLine):
    description: str
    model: str | None = None
    team_id: str
    depends_on: list[Dependency]
    dependents: list[Dependency]
    dependents_count: int
    version: int
    created_at: str
    started_at: str | None = None
    completed_at: str | None = None
    failure_reason: str | None = None
    paused_from: str | None = None
    reviewer_id: str | None = None
    claim_epoch: int | None = None
    lease_expires_at: str | None = None
    history: list[HistoryLine] = Field(description="Oldest first, the latest of it")
    results: list[HandedIn] = Field(description="What was handed in, newest first")
    delegations: list[DelegationView]
    cost: TaskCost


class Causes:
    """Why tasks are blocked. The ways that several of them share are gone once."""

    def __init__(self, tx: Tx, lead_id: str) -> None:
        self._tx = tx
        self._lead_id = lead_id
        self._known: dict[str, Dependency] = {}

    def of(self, task_id: str) -> Dependency | None:
        """What failed, was cancelled or was turned down, from which a task is blocked."""
        way = [task_id]
        while way[-1] not in self._known and len(way) <= ROOT_STEPS:
            here = {"lead_id": self._lead_id, "task_id": way[-1]}
            above = self._tx.one(REFUSING, **here) or self._tx.one(STUCK_ABOVE, **here)
            if above is None:
                return None
            if above.dag_status != "blocked":
                self._known[way[-1]] = Dependency(task_id=above.id, dag_status=above.dag_status)
            else:
                way.append(above.id)
        cause = self._known.get(way[-1])
        if cause is not None:
            self._known.update(dict.fromkeys(way, cause))
        return cause


def line_of(tx: Tx, task: Task, causes: Causes) -> TaskLine:
    """A task as a line of a page."""
    missing: list[Edge] = []
    if task.unmet and task.archived_at is None:
        missing = waits_for(tx, task)
    blocked = task.archived_at is None and "blocked" in (task.dag_status, task.paused_from)
    return TaskLine(
        task_id=task.id,
        dag_status=task.dag_status,
        role=task.role,
        title=task.title,
        priority=task.priority,
        assigned_agent_id=task.assigned_agent_id,
        files=task.file_paths or None,
        blocked_by=[Dependency(task_id=row.id, dag_status=row.dag_status) for row in missing] or None,
        root_cause=causes.of(task.id) if blocked else None,
        attempts=task.attempts or None,
        overridden_by=task.overridden_by,
        archived_at=task.archived_at,
    )


def waits_for(tx: Tx, task: Task) -> list[Edge]:
    """What a task still waits for, up to `SHOWN` of it."""
    ids = {"lead_id": task.lead_id, "task_id": task.id}
    found = tx.all(MISSING, **ids, limit=SHOWN)
    return [*found, *tx.all(UNRESOLVED, **ids, limit=SHOWN - len(found))]


@tool(profile="core")
def list_dag_tasks(
    tx: Tx,
    caller: Caller,
    dag_status: Annotated[
        list[Status] | None, Field(min_length=1, max_length=10, description="Only these")
    ] = None,
    role: RoleId | None = None,
    assigned_agent_id: AgentId | None = None,
    ready_for: Annotated[RoleId | None, Field(description="Ready for this role")] = None,
    include_archived: Annotated[bool, Field(description="Archived too")] = False,
    query: SearchText | None = None,
    limit: Limit = 50,
    after_id: AfterName | None = None,
) -> TaskPage:
    """List your crew's tasks, highest priority first, with what they wait for.

    root_cause: why a blocked one will never be ready.
    """
    match = text.fts_query(query) if query is not None else None
    if query is not None and match is None:
        return TaskPage(tasks=[])
    statuses: list[Status] = ["ready"] if ready_for else list(dict.fromkeys(dag_status or STATUSES))
    priority, seq = _cursor(after_id)
    values = {
        "lead_id": caller.lead_id,
        "role": ready_for or role,
        "agent_id": assigned_agent_id,
        "statuses": json.dumps(statuses),
        "priority": priority,
        "seq": seq,
        "limit": limit + 1,
        "archived": include_archived,
    }
    rows: Iterator[Task]
    if match is not None:
        rows = iter(tx.all(FOUND, **values, query=match))
    elif assigned_agent_id is not None:
        rows = iter(tx.all(OF_AGENT, **values))
    elif include_archived:
        rows = iter(tx.all(EVERYTHING, **values))
    else:
        ranges = [tx.all(OF_STATUS, **values, status=status) for status in statuses]
        rows = merge(*ranges, key=lambda task: (-task.priority, task.seq))
    tasks = [task for task, _ in zip(rows, range(limit + 1), strict=False)]
    causes = Causes(tx, caller.lead_id)
    shown, more = fitted([line_of(tx, task, causes) for task in tasks], limit)
    last = tasks[len(shown) - 1] if more else None
    return TaskPage(tasks=shown, next_after_id=f"{last.priority}:{last.seq}" if last else None)


def _cursor(after_id: str | None) -> tuple[int, int]:
    """Behind which priority and age a page begins. Raises InvalidArguments for what no page has given."""
    if after_id is None:
        return 2**63 - 1, -1
    priority, _, seq = after_id.partition(":")
    try:
        cursor = int(priority), int(seq)
    except ValueError:
        cursor = (2**63, 0)
    if not all(-(2**63) <= part < 2**63 for part in cursor):
        rule = "must be the next_after_id of a page before"
        raise InvalidArguments(f"after_id {rule}.", fields=[{"field": "after_id", "rule": rule}])
    return cursor


@tool(profile="core")
def get_dag_task(tx: Tx, caller: Caller, task_id: TaskId) -> TaskDetail:
    """Read one task: text, dependencies, history, results, cost.

    Read it before you start.
    """
    task = find(tx, caller.lead_id, task_id)
    ids = {"lead_id": task.lead_id, "task_id": task_id}
    line = line_of(tx, task, Causes(tx, task.lead_id))
    decisions = [name for name in task.names_its_dependencies if name.startswith("decision:")]
    pending = {row.id: row.dag_status for row in tx.all(UNRESOLVED, **ids, limit=EDGES_SHOWN)}
    return TaskDetail(
        **line.model_dump(),
        description=task.description,
        model=task.model,
        team_id=task.team_id,
        depends_on=[
            *_edges(tx.all(WAITED_FOR, **ids, limit=EDGES_SHOWN)),
            *(Dependency(task_id=name, dag_status=pending.get(name, "confirmed")) for name in decisions),
        ],
        dependents=_edges(tx.all(WAITING, **ids, limit=EDGES_SHOWN)),
        dependents_count=task.dependents,
        version=task.version,
        created_at=task.created_at,
        started_at=task.started_at,
        completed_at=task.completed_at,
        failure_reason=task.failure_reason,
        paused_from=task.paused_from,
        reviewer_id=task.reviewer_id,
        claim_epoch=task.claim_epoch or None,
        lease_expires_at=task.lease_expires_at,
        history=_history(tx, task),
        results=_results(tx, task),
        delegations=delegations.of_task(tx, lead_id=task.lead_id, task_id=task_id),
        cost=costs.of_task(tx, lead_id=task.lead_id, task_id=task_id),
    )


def _edges(rows: list[Edge]) -> list[Dependency]:
    return [Dependency(task_id=row.id, dag_status=row.dag_status) for row in rows]


def _history(tx: Tx, task: Task) -> list[HistoryLine]:
    """The latest of a task's history, oldest first, as much as fits beside the rest."""
    lines: list[HistoryLine] = []
    size = 0
    for row in tx.iterate(HISTORY, lead_id=task.lead_id, task_id=task.id, limit=HISTORY_SHOWN):
        line = HistoryLine(
            at=row.created_at,
            action=row.action,
            from_status=row.from_status,
            to_status=row.to_status,
            actor=row.actor,
            assigned_agent_id=row.assigned_agent_id,
            claim_epoch=row.claim_epoch or None,
            cause_task_id=row.cause_task_id,
            reason=row.reason,
        )
        size += len(line.model_dump_json(exclude_none=True))
        if lines and size > HISTORY_BYTES:
            break
        lines.append(line)
    lines.reverse()
    return lines


def _results(tx: Tx, task: Task) -> list[HandedIn]:
    """What was handed in, newest first, as much as fits beside the rest."""
    shown: list[HandedIn] = []
    size = 0
    for row in tx.iterate(RESULTS, lead_id=task.lead_id, task_id=task.id):
        size += len(row.summary.encode()) + len(row.output.encode())
        if shown and size > RESULTS_BYTES:
            break
        shown.append(
            HandedIn(
                at=row.created_at,
                agent_id=row.agent_id,
                kind=row.kind,
                claim_epoch=row.claim_epoch,
                summary=row.summary,
                output=row.output,
            )
        )
    return shown
