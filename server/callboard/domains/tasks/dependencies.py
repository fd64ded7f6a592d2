"""Dependencies: which task waits for which, without a circle.

An edge is a row; `depends_on` is its rendering. A new edge could only close a circle if the task is
already above what it is to wait for, so both ends are searched towards each other, the smaller frontier
first, inside the transaction that writes the edge. Archived tasks are left out, of edges and of circles.
"""

import json
from collections.abc import Iterable, Sequence

from callboard import graph
from callboard.domains.tasks.deriving import Derived, derive
from callboard.domains.tasks.task import (
    DERIVED,
    ENDED,
    TASK,
    Cycle,
    Task,
    find,
    invalid,
    is_lead,
    leader_of,
    notify,
    tell,
    unknown,
)
from callboard.errors import Forbidden, InvalidArguments, NotFound
from callboard.identity import Caller
from callboard.params import Dependencies, TaskId
from callboard.store import Command, Row, Tx
from callboard.tool import Result, tool

DECISION = "decision:"
"""How a dependency on a decision begins."""


class Id(Row):
    id: str


class Known(Row):
    id: str
    satisfied: int


ADD_EDGE = Command("INSERT INTO _task_edges (lead_id, task_id, dep_id) VALUES (:lead_id, :task_id, :dep_id)")
ADD_DECISION = Command("""
    INSERT INTO _task_decisions (lead_id, task_id, decision_id) VALUES (:lead_id, :task_id, :decision_id)
""")
DROP_EDGES = Command("""
    DELETE FROM _task_edges
     WHERE lead_id = :lead_id AND task_id = :task_id AND dep_id IN (SELECT value FROM json_each(:ids))
""")
DROP_DECISIONS = Command("""
    DELETE FROM _task_decisions
     WHERE lead_id = :lead_id AND task_id = :task_id AND decision_id IN (SELECT value FROM json_each(:ids))
""")
DROP_ALL_EDGES = Command("DELETE FROM _task_edges WHERE lead_id = :lead_id AND task_id = :task_id")
DROP_ALL_DECISIONS = Command("DELETE FROM _task_decisions WHERE lead_id = :lead_id AND task_id = :task_id")
DROP_EDGES_ONTO = Command("DELETE FROM _task_edges WHERE lead_id = :lead_id AND dep_id = :dep_id")
END_OVERRIDE = Command("UPDATE dag_tasks SET overridden_by = NULL WHERE id = :id AND lead_id = :lead_id")
RENDER = Command("""
    UPDATE dag_tasks
       SET depends_on = (
           SELECT json_group_array(name)
             FROM (SELECT dep_id AS name FROM _task_edges WHERE lead_id = :lead_id AND task_id = :id
                   UNION ALL
                   SELECT 'decision:' || decision_id FROM _task_decisions
                    WHERE lead_id = :lead_id AND task_id = :id
                   ORDER BY name))
     WHERE id = :id AND lead_id = :lead_id
""")
LIVE_AMONG = Known.query("""
    SELECT d.id, d.dag_status IN ('done', 'skipped') AS satisfied
      FROM json_each(:ids) AS c CROSS JOIN dag_tasks AS d ON d.id = c.value
     WHERE d.lead_id = :lead_id AND d.archived_at IS NULL
""")
DECISIONS_AMONG = Known.query("""
    SELECT r.id, r.status = 'confirmed' OR (r.status = 'recorded' AND r.needs_confirmation = 0) AS satisfied
      FROM json_each(:ids) AS c CROSS JOIN decisions AS r ON r.id = c.value
     WHERE r.lead_id = :lead_id
""")
ABOVE = Id.query("""
    SELECT DISTINCT d.id
      FROM json_each(:ids) AS c
           CROSS JOIN _task_edges AS e ON e.lead_id = :lead_id AND e.task_id = c.value
           CROSS JOIN dag_tasks AS d ON d.id = e.dep_id AND d.lead_id = :lead_id
     WHERE d.archived_at IS NULL
""")
BELOW = Id.query("""
    SELECT DISTINCT d.id
      FROM json_each(:ids) AS c
           CROSS JOIN _task_edges AS e ON e.lead_id = :lead_id AND e.dep_id = c.value
           CROSS JOIN dag_tasks AS d ON d.id = e.task_id AND d.lead_id = :lead_id
     WHERE d.archived_at IS NULL
""")
ONTO = Id.query("SELECT task_id AS id FROM _task_edges WHERE lead_id = :lead_id AND dep_id = :dep_id")


class DependenciesChanged(Result):
    task_id: str
    dag_status: str
    depends_on: list[str]
    changed: list[str]


def named(
    tx: Tx, lead_id: str, depends_on: Iterable[str], *, within: frozenset[str] = frozenset()
) -> list[str]:
    """Check that every dependency exists, or is one of `within`; those of the store that are not satisfied.

    Raises UnknownTask, also for archived ones, and NotFound for a decision.
    """
    tasks = [name for name in depends_on if not name.startswith(DECISION) and name not in within]
    known = {row.id: row.satisfied for row in tx.all(LIVE_AMONG, lead_id=lead_id, ids=json.dumps(tasks))}
    for name in tasks:
        if name not in known:
            raise unknown(tx, lead_id, name)
    decisions = [name.removeprefix(DECISION) for name in depends_on if name.startswith(DECISION)]
    rows = tx.all(DECISIONS_AMONG, lead_id=lead_id, ids=json.dumps(decisions))
    known |= {DECISION + row.id: row.satisfied for row in rows}
    for decision in decisions:
        if DECISION + decision not in known:
            raise NotFound(
                f"There is no decision {decision} in your crew.",
                hint="See list_decisions.",
                kind="decision",
                given=decision,
            )
    return [name for name, satisfied in known.items() if not satisfied]


def add_rows(tx: Tx, lead_id: str, task_id: str, depends_on: Iterable[str]) -> None:
    """Write edges that were checked; `render` follows."""
    for name in depends_on:
        if name.startswith(DECISION):
            tx.run(ADD_DECISION, lead_id=lead_id, task_id=task_id, decision_id=name.removeprefix(DECISION))
        else:
            tx.run(ADD_EDGE, lead_id=lead_id, task_id=task_id, dep_id=name)


def render(tx: Tx, lead_id: str, task_id: str) -> None:
    """Bring the readable list of a task's dependencies up to date with its edges."""
    tx.run(RENDER, lead_id=lead_id, id=task_id)


def forget(tx: Tx, lead_id: str, task_id: str) -> None:
    """Cut an archived task off from the graph, before its id begins anew."""
    tx.run(DROP_ALL_EDGES, lead_id=lead_id, task_id=task_id)
    tx.run(DROP_ALL_DECISIONS, lead_id=lead_id, task_id=task_id)
    behind = tx.all(ONTO, lead_id=lead_id, dep_id=task_id)
    tx.run(DROP_EDGES_ONTO, lead_id=lead_id, dep_id=task_id)
    for row in behind:
        render(tx, lead_id, row.id)


def refuse_cycle(tx: Tx, lead_id: str, task_id: str, depends_on: Sequence[str]) -> None:
    """Refuse dependencies of a task that wait for it themselves. Raises Cycle with the shortest circle."""
    goals = [name for name in depends_on if not name.startswith(DECISION)]
    if not _meet(tx, lead_id, task_id, goals):
        return

    walks = [graph.find_path(goal, task_id, lambda name: above(tx, lead_id, name)) for goal in goals]
    raise circle([task_id, *min((walk for walk in walks if walk is not None), key=len)])


def above(tx: Tx, lead_id: str, task_id: str) -> list[str]:
    """The tasks for which one waits."""
    return [row.id for row in tx.all(ABOVE, lead_id=lead_id, ids=json.dumps([task_id]))]


def _meet(tx: Tx, lead_id: str, task_id: str, goals: list[str]) -> bool:
    """Whether one of the goals is the task or lies behind it. Two breadth-first searches towards each
    other cost what the cheaper direction costs, up to a factor of two."""
    below, above = {task_id}, set(goals)
    if task_id in above:
        return True
    down, up = [task_id], goals
    while down and up:
        going_down = len(down) <= len(up)
        query, frontier, seen, other = (
            (BELOW, down, below, above) if going_down else (ABOVE, up, above, below)
        )
        found = [row.id for row in tx.all(query, lead_id=lead_id, ids=json.dumps(frontier))]
        found = [name for name in found if name not in seen]
        if any(name in other for name in found):
            return True
        seen.update(found)
        down, up = (found, up) if going_down else (down, found)
    return False


def circle(walk: list[str]) -> Cycle:
    shown = walk if len(walk) <= 20 else [*walk[:10], "…", *walk[-9:]]
    return Cycle(
        f"{walk[0]} would wait for itself: {' → '.join(shown)}.",
        hint="Leave out one of these dependencies.",
        cycle=shown,
    )


def twice(names: Sequence[str], field: str) -> None:
    """Refuse a list that names something twice. Raises InvalidArguments."""
    for name in names:
        if names.count(name) > 1:
            rule = f"names {name} twice"
            raise InvalidArguments(f"{field} {rule}.", fields=[{"field": field, "rule": rule}])


def _changeable(tx: Tx, caller: Caller, task_id: str, action: str) -> Task:
    """The task whose edges the caller may change. Raises UnknownTask, Forbidden, InvalidTransition."""
    task = find(tx, caller.lead_id, task_id)
    if not is_lead(caller) and task.assigned_agent_id != caller.agent_id:
        raise Forbidden(
            f"Only the lead or who works on {task_id} may change its dependencies.",
            operation=action,
            needs="lead",
            caller_kind=caller.kind,
            hint="Ask your lead.",
        )
    if task.archived_at is not None or task.dag_status in ENDED:
        raise invalid(task, action, hint="Only what is not finished can wait for something.")
    return task


@tool(writes=True)
def add_task_dependencies(
    tx: Tx, caller: Caller, task_id: TaskId, depends_on: Dependencies
) -> DependenciesChanged:
    """Make a task wait for others. For its lead, or for who works on it.

    A task not yet started becomes pending or blocked; one being worked on goes on, and its holder and lead
    are told. Refused: cycle with the circle, unknown_task, invalid_transition when finished.
    """
    task = _changeable(tx, caller, task_id, "add_task_dependencies")
    twice(depends_on, "depends_on")
    for name in depends_on:
        if name in task.names_its_dependencies:
            rule = f"names {name}, for which {task_id} waits already"
            raise InvalidArguments(f"depends_on {rule}.", fields=[{"field": "depends_on", "rule": rule}])
    if task_id in depends_on:
        raise circle([task_id, task_id])
    unsatisfied = named(tx, caller.lead_id, depends_on)
    refuse_cycle(tx, caller.lead_id, task_id, depends_on)
    add_rows(tx, caller.lead_id, task_id, depends_on)
    if unsatisfied:
        tx.run(END_OVERRIDE, id=task_id, lead_id=caller.lead_id)
    return _changed(tx, caller, task, list(depends_on), "waits for", unsatisfied)


@tool(writes=True, idempotent=True)
def remove_task_dependencies(
    tx: Tx, caller: Caller, task_id: TaskId, depends_on: Dependencies
) -> DependenciesChanged:
    """Make a task no longer wait for others; that also frees it from a failed or cancelled one.

    It becomes ready when nothing else is missing. What it did not wait for is left out of changed;
    invalid_transition when it is finished.
    """
    task = _changeable(tx, caller, task_id, "remove_task_dependencies")
    gone = [name for name in dict.fromkeys(depends_on) if name in task.names_its_dependencies]
    tasks = [name for name in gone if not name.startswith(DECISION)]
    decisions = [name.removeprefix(DECISION) for name in gone if name.startswith(DECISION)]
    tx.run(DROP_EDGES, lead_id=caller.lead_id, task_id=task_id, ids=json.dumps(tasks))
    tx.run(DROP_DECISIONS, lead_id=caller.lead_id, task_id=task_id, ids=json.dumps(decisions))
    return _changed(tx, caller, task, gone, "no longer waits for", [])


def _changed(
    tx: Tx, caller: Caller, task: Task, names: list[str], verb: str, unsatisfied: list[str]
) -> DependenciesChanged:
    render(tx, task.lead_id, task.id)
    found: Derived = derive(tx, task.lead_id, [task.id], itself=True, reason=f"{verb} {', '.join(names[:5])}")
    after = tx.one(TASK, id=task.id, lead_id=task.lead_id)
    assert after is not None
    if names:
        said = f"{task.called} {verb} {', '.join(names[:5])}" + (" and more" if len(names) > 5 else "")
        tell(tx, after, "task_dependencies_changed", said, names=names[:100], newly_ready=found.ready[:20])
        if unsatisfied and task.dag_status not in DERIVED:
            for agent_id in dict.fromkeys([task.assigned_agent_id, leader_of(tx, task.lead_id)]):
                notify(tx, agent_id, after, "task_dependencies_changed", f"{said}.", by=caller.agent_id)
    return DependenciesChanged(
        task_id=task.id, dag_status=after.dag_status, depends_on=after.names_its_dependencies, changed=names
    )
