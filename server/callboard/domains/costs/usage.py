"""Usage: what an agent reports, as what it adds.

A report is an amount, or the present state of counters that only rise. Counters are compared with the
last ones of the same agent, session and task, which are stored: neither a restart nor a repeated report
counts anything twice.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from callboard.domains import roster
from callboard.domains.costs import budgets
from callboard.domains.costs.budgets import MICRO
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import CallId, TaskId, Tokens, Usd
from callboard.store import Command, Row, Tx
from callboard.tool import Result, tool

UNATTRIBUTED = "_unattributed"
"""Where costs are kept that belong to no task."""

TOKEN_KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
MONEY = "cost_micro_usd"
COUNTERS = (*TOKEN_KINDS, MONEY)

Usage = Mapping[str, int | None]
"""An amount of each counter; None where it was not told."""


class Running(Row):
    id: str


class Counted(Row):
    id: int


class Baseline(Row):
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_micro_usd: int


# Two are enough to know that there is not one.
RUNNING = Running.query("""
    SELECT id FROM dag_tasks
     WHERE assigned_agent_id = :agent_id AND dag_status = 'running' AND lead_id = :lead_id
       AND archived_at IS NULL
     LIMIT 2
""")
CALL = Counted.query("SELECT id FROM _cost_calls WHERE agent_id = :agent_id AND call_id = :call_id")
BASELINE = Baseline.query(f"""
    SELECT {", ".join(COUNTERS)} FROM _cost_baselines
     WHERE agent_id = :agent_id AND session_id = :session_id AND dag_task_id = :task_id
""")
SET_BASELINE = Command("""
    INSERT INTO _cost_baselines
           (agent_id, session_id, dag_task_id, input_tokens, output_tokens, cache_read_tokens,
            cache_write_tokens, cost_micro_usd)
    VALUES (:agent_id, :session_id, :task_id, :input_tokens, :output_tokens, :cache_read_tokens,
            :cache_write_tokens, :cost_micro_usd)
    ON CONFLICT (agent_id, session_id, dag_task_id) DO UPDATE
       SET input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
           cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
           cost_micro_usd = excluded.cost_micro_usd
""")
ADD_CALL = Command("""
    INSERT INTO _cost_calls
           (agent_id, dag_task_id, lead_id, project_id, model, session_id, call_id, input_tokens,
            output_tokens, cache_read_tokens, cache_write_tokens, cost_micro_usd, recorded_at)
    VALUES (:agent_id, :task_id, :lead_id, :project_id, :model, :session_id, :call_id, :input_tokens,
            :output_tokens, :cache_read_tokens, :cache_write_tokens, :cost_micro_usd, :at)
""")
# Unknown money plus known money is what is known; the column in dollars is its rendering.
ADD = Command(f"""
    INSERT INTO task_cost_records AS r
           (agent_id, dag_task_id, lead_id, project_id, input_tokens, output_tokens, cache_read_tokens,
            cache_write_tokens, cost_usd, cost_micro_usd, created_at, updated_at)
    VALUES (:agent_id, :task_id, :lead_id, :project_id, :input_tokens, :output_tokens, :cache_read_tokens,
            :cache_write_tokens, coalesce(:cost_micro_usd, 0) / {MICRO}.0, :cost_micro_usd, :at, :at)
    ON CONFLICT (agent_id, dag_task_id, lead_id) DO UPDATE
       SET input_tokens = r.input_tokens + excluded.input_tokens,
           output_tokens = r.output_tokens + excluded.output_tokens,
           cache_read_tokens = r.cache_read_tokens + excluded.cache_read_tokens,
           cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
           cost_usd = (coalesce(r.cost_micro_usd, 0) + coalesce(excluded.cost_micro_usd, 0)) / {MICRO}.0,
           cost_micro_usd = coalesce(r.cost_micro_usd + excluded.cost_micro_usd, r.cost_micro_usd,
                                     excluded.cost_micro_usd),
           updated_at = excluded.updated_at
""")


class Recorded(Result):
    dag_task_id: str
    counted: bool = Field(description="False when the report added nothing")
    note: str | None = Field(default=None, description="Why it added nothing, or why to no task")
    input_tokens: int = Field(description="What was added, like the fields below")
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float | None = None
    budget_used_percent: int | None = None


@tool(writes=True, profile="core")
def record_task_cost(
    tx: Tx,
    caller: Caller,
    dag_task_id: TaskId | None = None,
    input_tokens: Tokens | None = None,
    output_tokens: Tokens | None = None,
    cache_read_tokens: Tokens | None = None,
    cache_write_tokens: Tokens | None = None,
    cost_usd: Usd | None = None,
    mode: Annotated[
        Literal["delta", "cumulative"], Field(description="cumulative: counters so far")
    ] = "delta",
    call_id: CallId | None = None,
) -> Recorded:
    """Report the tokens and dollars that you used.

    For the named task, else yours. Leave out what you do not know.
    """
    agent = roster.get(tx, caller.agent_id, project_id=caller.project_id)
    task_id, note = _attributed(tx, caller, dag_task_id)
    told: Usage = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cache_read_tokens,
        "cache_write_tokens": cache_write_tokens,
        MONEY: None if cost_usd is None else budgets.micro_usd(cost_usd),
    }
    if call_id is not None and tx.one(CALL, agent_id=caller.agent_id, call_id=call_id) is not None:
        return _recorded(task_id, {}, counted=False, note="this call_id was counted before")
    added = told
    if mode == "cumulative":
        added = _risen(tx, caller.agent_id, agent.session_id or "", task_id, told)
    if not any(added.values()):
        return _recorded(task_id, {}, counted=False, note="nothing was used since the last report")
    amounts = {kind: added[kind] or 0 for kind in TOKEN_KINDS}
    row = {
        "agent_id": caller.agent_id,
        "task_id": task_id,
        "lead_id": caller.lead_id,
        "project_id": caller.project_id,
        "at": tx.at,
        MONEY: added[MONEY],
        **amounts,
    }
    tx.run(ADD_CALL, model=agent.model, session_id=agent.session_id, call_id=call_id, **row)
    tx.run(ADD, **row)
    tokens, money = sum(amounts.values()), added[MONEY]
    percent = budgets.spend(tx, caller, task_id, tokens=tokens, micro_usd=money or 0)
    said = f"used {tokens} tokens" + ("" if money is None else f" and ${money / MICRO:.6f}")
    tx.tell(
        Event(
            "costs",
            "cost_recorded",
            f"{said} on {task_id}",
            subject=task_id,
            details={"dag_task_id": task_id, "mode": mode, **amounts, MONEY: money},
            lead_id=caller.lead_id,
        )
    )
    return _recorded(task_id, added, counted=True, note=note, percent=percent)


def _attributed(tx: Tx, caller: Caller, named: str | None) -> tuple[str, str | None]:
    """The task that a report counts for, and a note where no task could be told. Raises UnknownTask."""
    if named is not None:
        budgets.check_task(tx, caller.lead_id, named)
        return named, None
    running = tx.all(RUNNING, agent_id=caller.agent_id, lead_id=caller.lead_id)
    if len(running) == 1:
        return running[0].id, None
    how_many = "several tasks" if running else "no task"
    return UNATTRIBUTED, f"you run {how_many}, so it counts for none: name one with dag_task_id"


def _risen(tx: Tx, agent_id: str, session_id: str, task_id: str, told: Usage) -> Usage:
    """What counters have risen by since their last report, which this one replaces. One that has fallen
    shows that the program counts anew: all that it tells then counts in full."""
    key = {"agent_id": agent_id, "session_id": session_id, "task_id": task_id}
    row = tx.one(BASELINE, **key)
    last = {name: getattr(row, name) if row else 0 for name in COUNTERS}
    if any(value is not None and value < last[name] for name, value in told.items()):
        last = dict.fromkeys(COUNTERS, 0)
    tx.run(
        SET_BASELINE, **key, **{name: last[name] if told[name] is None else told[name] for name in COUNTERS}
    )
    return {name: None if value is None else value - last[name] for name, value in told.items()}


def _recorded(
    task_id: str, added: Usage, *, counted: bool, note: str | None, percent: int | None = None
) -> Recorded:
    money = added.get(MONEY)
    return Recorded(
        dag_task_id=task_id,
        counted=counted,
        note=note,
        input_tokens=added.get("input_tokens") or 0,
        output_tokens=added.get("output_tokens") or 0,
        cache_read_tokens=added.get("cache_read_tokens") or 0,
        cache_write_tokens=added.get("cache_write_tokens") or 0,
        cost_usd=None if money is None else money / MICRO,
        budget_used_percent=percent,
    )
