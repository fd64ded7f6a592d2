"""Reports: what was used, summed by agent, task, project, model or day."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from callboard.domains.costs.budgets import MICRO, Budget, of_crew
from callboard.domains.history import padded
from callboard.identity import Caller
from callboard.params import AfterName, LeadId, Limit, ProjectId, Since
from callboard.store import Query, Row, Tx
from callboard.tool import Result, fitted, tool

GroupBy = Literal["agent", "task", "project", "model", "day"]


class Sum(Row):
    key: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_micro_usd: int | None


SUMS = """
    coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
    coalesce(sum(cache_read_tokens), 0) AS cache_read_tokens,
    coalesce(sum(cache_write_tokens), 0) AS cache_write_tokens, sum(cost_micro_usd) AS cost_micro_usd
"""
# An agent reads its own crew; a human without a crew in mind reads all crews of the project.
SCOPE = """
    lead_id IN (SELECT lead_id FROM _crews WHERE project_id = :crews_of UNION SELECT :lead_id)
    AND (:project_id IS NULL OR project_id = :project_id)
"""
KEYS: Mapping[GroupBy, str] = {
    "agent": "agent_id",
    "task": "dag_task_id",
    "project": "project_id",
    "model": "model",
    "day": "substr(recorded_at, 1, 10)",
}


def _from(group_by: GroupBy, since: bool) -> str:
    """Where a report reads: the totals, which are few, wherever they can tell."""
    if since or group_by in ("model", "day"):
        return f"_cost_calls WHERE {SCOPE} AND (:since IS NULL OR recorded_at >= :since)"
    return f"task_cost_records WHERE {SCOPE}"


GROUPS: Mapping[tuple[GroupBy, bool], Query[Sum]] = {
    (group_by, since): Sum.query(f"""
        SELECT {key} AS key, {SUMS} FROM {_from(group_by, since)} AND {key} > :after
         GROUP BY {key} ORDER BY {key} LIMIT :limit
    """)
    for group_by, key in KEYS.items()
    for since in (False, True)
}
TOTALS: Mapping[bool, Query[Sum]] = {
    since: Sum.query(f"SELECT '' AS key, {SUMS} FROM {_from('task', since)}") for since in (False, True)
}
OF_TASK = Sum.query(f"""
    SELECT '' AS key, {SUMS} FROM task_cost_records
     WHERE dag_task_id = :task_id AND lead_id = :lead_id
""")


OF_CREWS = Sum.query(f"""
    SELECT '' AS key, {SUMS} FROM task_cost_records
     WHERE lead_id IN (SELECT value FROM json_each(:crews))
""")


class TaskCost(Result):
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float | None = Field(default=None, description="Absent where nobody told it")


class CostLine(TaskCost):
    key: str


class CostReport(Result):
    group_by: GroupBy
    costs: list[CostLine]
    total: TaskCost
    budgets: list[Budget]
    next_after_id: str | None = None


def _facts(row: Sum) -> dict[str, int | float | None]:
    return {
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cache_read_tokens": row.cache_read_tokens,
        "cache_write_tokens": row.cache_write_tokens,
        "cost_usd": None if row.cost_micro_usd is None else row.cost_micro_usd / MICRO,
    }


def of_task(tx: Tx, *, lead_id: str, task_id: str) -> TaskCost:
    """What all agents together used on a task."""
    total = tx.one(OF_TASK, lead_id=lead_id, task_id=task_id)
    assert total is not None  # a sum without groups is one row
    return TaskCost.model_validate(_facts(total))


def of_crews(tx: Tx, lead_ids: Sequence[str]) -> TaskCost:
    """What some crews together used."""
    total = tx.one(OF_CREWS, crews=json.dumps(list(lead_ids)))
    assert total is not None  # a sum without groups is one row
    return TaskCost.model_validate(_facts(total))


@tool()
def report_task_costs(
    tx: Tx,
    caller: Caller,
    group_by: Annotated[GroupBy, Field(description="One line for each")] = "task",
    lead_id: LeadId | None = None,
    project_id: ProjectId | None = None,
    since: Since | None = None,
    limit: Limit = 50,
    after_id: AfterName | None = None,
) -> CostReport:
    """Sum up what your crew used, with the total and the budgets.

    Costs of no task stand under _unattributed. A cost_usd that is absent is unknown, not zero.
    """
    human = caller.reads_all_crews
    crew = lead_id or caller.lead_id
    if not human and crew != caller.lead_id:
        crew = ""  # another crew's costs read like those of no crew
    values = {
        "lead_id": crew,
        "crews_of": caller.project_id if human and lead_id is None else "",
        "project_id": project_id,
        "since": padded(since),
    }
    rows = tx.all(GROUPS[group_by, since is not None], after=after_id or "", limit=limit + 1, **values)
    total = tx.one(TOTALS[since is not None], **values)
    assert total is not None  # a sum without groups is one row
    shown, more = fitted([CostLine.model_validate({"key": row.key} | _facts(row)) for row in rows], limit)
    return CostReport(
        group_by=group_by,
        costs=shown,
        total=TaskCost.model_validate(_facts(total)),
        budgets=of_crew(tx, crew),
        next_after_id=shown[-1].key if more else None,
    )
