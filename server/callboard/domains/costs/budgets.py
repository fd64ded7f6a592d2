"""Budgets: how much a crew, or one task or project of it, may use.

A budget carries what was used under it. Each report of cost adds to every budget that it falls under,
in its own transaction, so that a budget acts on the very report that reaches it.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard.domains import roster
from callboard.errors import InvalidArguments, NotFound, Refused, UnknownTask
from callboard.events import Event, Notice
from callboard.identity import Caller
from callboard.params import ProjectId, TaskId, Tokens, Usd
from callboard.store import Command, Row, Tx
from callboard.tool import Result, tool

MICRO = 1_000_000
"""Money is counted in millionths of a dollar."""

MARKS = (100, 90, 70)
"""The percentages of a budget that are announced, once each: two warnings and its end."""

BUDGETS_SHOWN = 20

OnExceed = Literal["warn", "block"]


class BudgetExceeded(Refused):
    """The budget for this work is used up."""


class Known(Row):
    id: str


TASK = Known.query("SELECT id FROM dag_tasks WHERE id = :task_id AND lead_id = :lead_id")


class BudgetRow(Row):
    dag_task_id: str
    project_id: str
    limit_micro_usd: int | None
    limit_tokens: int | None
    on_exceed: OnExceed
    warned_percent: int
    used_micro_usd: int
    used_tokens: int
    set_by: str

    @property
    def percent(self) -> int:
        """How much is used, of whichever limit is used most."""
        shares = ((self.limit_micro_usd, self.used_micro_usd), (self.limit_tokens, self.used_tokens))
        return max(used * 100 // limit if limit else 100 for limit, used in shares if limit is not None)

    @property
    def mark(self) -> int:
        """The highest mark that is reached; 0 below the first."""
        return next((mark for mark in MARKS if self.percent >= mark), 0)

    @property
    def scope(self) -> str:
        """What the budget is for, as people say it."""
        parts = [f"task {self.dag_task_id}"] if self.dag_task_id else []
        parts += [f"project {self.project_id}"] if self.project_id else []
        return " in ".join(parts) or "the crew"

    @property
    def state(self) -> str:
        """What is used of each limit, as people say it."""
        parts = []
        if self.limit_micro_usd is not None:
            parts.append(f"${self.used_micro_usd / MICRO:.2f} of ${self.limit_micro_usd / MICRO:.2f}")
        if self.limit_tokens is not None:
            parts.append(f"{self.used_tokens} of {self.limit_tokens} tokens")
        return " and ".join(parts)

    def facts(self) -> dict[str, Any]:
        """What is used and what the limit is, for a refusal, a notice or the ledger."""
        used: dict[str, float] = {}
        limit: dict[str, float] = {}
        if self.limit_micro_usd is not None:
            used["usd"], limit["usd"] = self.used_micro_usd / MICRO, self.limit_micro_usd / MICRO
        if self.limit_tokens is not None:
            used["tokens"], limit["tokens"] = self.used_tokens, self.limit_tokens
        return {"budget": self.scope, "used": used, "limit": limit, "on_exceed": self.on_exceed}


COLUMNS = ", ".join(BudgetRow.columns())
# The budgets that a report falls under, by their whole key.
COVERING = "lead_id = :lead_id AND dag_task_id IN ('', :task_id) AND project_id IN ('', :project_id)"

SET = BudgetRow.query(f"""
    INSERT INTO _cost_budgets
           (lead_id, dag_task_id, project_id, limit_micro_usd, limit_tokens, on_exceed, used_micro_usd,
            used_tokens, set_by, set_at)
    SELECT :lead_id, :task_id, :project_id, :limit_micro_usd, :limit_tokens, :on_exceed,
           coalesce(sum(cost_micro_usd), 0),
           coalesce(sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens), 0), :by, :at
      FROM task_cost_records
     WHERE lead_id = :lead_id AND :task_id IN ('', dag_task_id) AND :project_id IN ('', project_id)
    ON CONFLICT (lead_id, dag_task_id, project_id) DO UPDATE
       SET limit_micro_usd = excluded.limit_micro_usd, limit_tokens = excluded.limit_tokens,
           on_exceed = excluded.on_exceed, used_micro_usd = excluded.used_micro_usd,
           used_tokens = excluded.used_tokens, set_by = excluded.set_by, set_at = excluded.set_at
    RETURNING {COLUMNS}
""")
SPEND = BudgetRow.query(f"""
    UPDATE _cost_budgets
       SET used_micro_usd = used_micro_usd + :micro_usd, used_tokens = used_tokens + :tokens
     WHERE {COVERING}
    RETURNING {COLUMNS}
""")
ANNOUNCED = Command("""
    UPDATE _cost_budgets SET warned_percent = :percent
     WHERE lead_id = :lead_id AND dag_task_id = :task_id AND project_id = :project_id
""")
BLOCKING = BudgetRow.query(f"""
    SELECT {COLUMNS} FROM _cost_budgets
     WHERE {COVERING} AND on_exceed = 'block'
       AND (used_micro_usd >= limit_micro_usd OR used_tokens >= limit_tokens)
     ORDER BY dag_task_id, project_id LIMIT 1
""")
BUDGETS = BudgetRow.query(f"""
    SELECT {COLUMNS} FROM _cost_budgets WHERE lead_id = :lead_id
     ORDER BY warned_percent DESC, dag_task_id, project_id LIMIT :limit
""")


class Budget(Result):
    dag_task_id: str | None = None
    project_id: str | None = None
    limit_usd: float | None = None
    limit_tokens: int | None = None
    on_exceed: OnExceed
    used_usd: float
    used_tokens: int
    used_percent: int
    set_by: str


def check_task(tx: Tx, lead_id: str, task_id: str) -> None:
    """Refuse a task that the crew does not have. Raises UnknownTask."""
    if tx.one(TASK, task_id=task_id, lead_id=lead_id) is None:
        raise UnknownTask(
            f"There is no task {task_id} in your crew.", hint="See list_dag_tasks.", task_id=task_id
        )


def micro_usd(dollars: float) -> int:
    """Dollars in whole millionths, exactly as they are written: half a millionth goes to the even one."""
    return int((Decimal(repr(dollars)) * MICRO).to_integral_value(ROUND_HALF_EVEN))


def spend(tx: Tx, caller: Caller, task_id: str, *, tokens: int, micro_usd: int) -> int | None:
    """Add to every budget that this use falls under, and announce the marks that it reaches; the largest
    percentage now used of any of them, None where there is no budget."""
    budgets = tx.all(
        SPEND,
        lead_id=caller.lead_id,
        task_id=task_id,
        project_id=caller.project_id,
        tokens=tokens,
        micro_usd=micro_usd,
    )
    for budget in budgets:
        if budget.mark > budget.warned_percent:
            _remember_mark(tx, caller, budget)
            _announce(tx, caller, budget)
    return max((budget.percent for budget in budgets), default=None)


def _remember_mark(tx: Tx, caller: Caller, budget: BudgetRow) -> None:
    tx.run(
        ANNOUNCED,
        lead_id=caller.lead_id,
        task_id=budget.dag_task_id,
        project_id=budget.project_id,
        percent=budget.mark,
    )


def _announce(tx: Tx, caller: Caller, budget: BudgetRow) -> None:
    """Tell the lead and the agent that a mark is reached."""
    said = f"{budget.percent} % of the budget for {budget.scope} is used: {budget.state}."
    if budget.mark == MARKS[0] and budget.on_exceed == "block":
        said += " No more of its tasks can be claimed."
    agent = roster.get(tx, caller.agent_id, project_id=caller.project_id)
    details = budget.facts() | {"percent": budget.percent, "mark": budget.mark}
    for target in dict.fromkeys((agent.led_by or budget.set_by, caller.agent_id)):
        tx.notify(
            Notice(
                target,
                "system",
                {"text": said, "event": "budget_reached", **details},
                "high" if budget.mark == MARKS[0] else "normal",
            )
        )
    tx.tell(
        Event("costs", "budget_reached", said, subject=budget.scope, details=details, lead_id=caller.lead_id)
    )


def blocked_budget(tx: Tx, *, lead_id: str, project_id: str, task_id: str) -> Refused | None:
    """The refusal that a claim of this task meets because a blocking budget is used up, if one is."""
    budget = tx.one(BLOCKING, lead_id=lead_id, project_id=project_id, task_id=task_id)
    if budget is None:
        return None
    return BudgetExceeded(
        f"The budget for {budget.scope} is used up: {budget.state}.",
        hint="Ask your lead to raise it with set_cost_budget.",
        **budget.facts(),
    )


def of_crew(tx: Tx, lead_id: str) -> list[Budget]:
    """The budgets of a crew, those nearest to their end first, up to `BUDGETS_SHOWN`."""
    return [_shown(row) for row in tx.all(BUDGETS, lead_id=lead_id, limit=BUDGETS_SHOWN)]


def _shown(row: BudgetRow) -> Budget:
    return Budget(
        dag_task_id=row.dag_task_id or None,
        project_id=row.project_id or None,
        limit_usd=None if row.limit_micro_usd is None else row.limit_micro_usd / MICRO,
        limit_tokens=row.limit_tokens,
        on_exceed=row.on_exceed,
        used_usd=row.used_micro_usd / MICRO,
        used_tokens=row.used_tokens,
        used_percent=row.percent,
        set_by=row.set_by,
    )


@tool(writes=True, idempotent=True, who="lead")
def set_cost_budget(
    tx: Tx,
    caller: Caller,
    limit_usd: Usd | None = None,
    limit_tokens: Tokens | None = None,
    dag_task_id: TaskId | None = None,
    project_id: ProjectId | None = None,
    on_exceed: Annotated[OnExceed, Field(description="block: claims are refused")] = "warn",
) -> Budget:
    """Limit what your crew, or one task or project of it, may use.

    You and the agent are told at 70, 90 and 100 percent. It replaces the budget for the same work and
    counts what was used before.
    """
    if limit_usd is None and limit_tokens is None:
        rule = "or limit_tokens is required"
        raise InvalidArguments(f"limit_usd {rule}", fields=[{"field": "limit_usd", "rule": rule}])
    if project_id is not None and project_id != caller.project_id:
        raise NotFound(f"Your crew has no project {project_id}.", kind="project", given=project_id)
    if dag_task_id is not None:
        check_task(tx, caller.lead_id, dag_task_id)
    budget = tx.one(
        SET,
        lead_id=caller.lead_id,
        task_id=dag_task_id or "",
        project_id=project_id or "",
        limit_micro_usd=None if limit_usd is None else micro_usd(limit_usd),
        limit_tokens=limit_tokens,
        on_exceed=on_exceed,
        by=caller.agent_id,
        at=tx.at,
    )
    assert budget is not None
    _remember_mark(tx, caller, budget)  # whoever sets it reads in the result what is used already
    tx.tell(
        Event(
            "costs",
            "budget_set",
            f"set the budget for {budget.scope}: {budget.state} used",
            subject=budget.scope,
            details=budget.facts(),
            lead_id=caller.lead_id,
        )
    )
    return _shown(budget)
