"""Costs: the tokens and the money that agents say they used, and the limits on both.

Each report is kept as what it added, so that sums by day and by model come from the same rows as the
total of a task. Money is counted in whole millionths of a dollar; what nobody told is unknown, not zero.
"""

from callboard.domains.costs.budgets import BudgetExceeded, blocked_budget, set_cost_budget
from callboard.domains.costs.reports import TaskCost, of_crews, of_task, report_task_costs
from callboard.domains.costs.usage import UNATTRIBUTED, record_task_cost

TOOLS = (record_task_cost, report_task_costs, set_cost_budget)

__all__ = ["TOOLS", "UNATTRIBUTED", "BudgetExceeded", "TaskCost", "blocked_budget", "of_crews", "of_task"]
