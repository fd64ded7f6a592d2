"""Tasks: the dependency graph of a crew's work.

A task is ready when everything it waits for is done; agents claim ready tasks, one claimant each, and a
claim is a lease that comes back when its holder is gone. What is ready, pending or blocked is derived from
the edges in the transaction of every change; all other statuses are entered by an operation, and every
step leaves a row of history. See `task.ALLOWED` for the table of transitions.
"""

from callboard.domains.tasks.adding import add_dag_task, add_dag_tasks, update_dag_task
from callboard.domains.tasks.analysis import analyze_dag
from callboard.domains.tasks.claiming import (
    assign_dag_task,
    claim_dag_task,
    claim_next_dag_task,
    release_dag_task,
)
from callboard.domains.tasks.claims import assign, end_claims, next_due, reap, renew_claims
from callboard.domains.tasks.delegating import delegate_task
from callboard.domains.tasks.dependencies import add_task_dependencies, remove_task_dependencies
from callboard.domains.tasks.deriving import settle_decision
from callboard.domains.tasks.finishing import (
    complete_dag_task,
    fail_dag_task,
    review_dag_task,
    submit_dag_task,
)
from callboard.domains.tasks.reading import get_dag_task, list_dag_tasks
from callboard.domains.tasks.shelving import archive_dag_tasks, reset_dag, unarchive_dag_task
from callboard.domains.tasks.steering import (
    cancel_dag_task,
    force_ready_dag_task,
    pause_dag_task,
    reopen_dag_task,
    resume_dag_task,
    retry_dag_task,
    skip_dag_task,
)
from callboard.domains.tasks.task import Task
from callboard.domains.tasks.templates import apply_task_template, list_task_templates

TOOLS = (
    add_dag_task,
    add_dag_tasks,
    update_dag_task,
    add_task_dependencies,
    remove_task_dependencies,
    list_dag_tasks,
    get_dag_task,
    claim_next_dag_task,
    claim_dag_task,
    assign_dag_task,
    release_dag_task,
    submit_dag_task,
    review_dag_task,
    complete_dag_task,
    fail_dag_task,
    pause_dag_task,
    resume_dag_task,
    retry_dag_task,
    reopen_dag_task,
    skip_dag_task,
    cancel_dag_task,
    force_ready_dag_task,
    archive_dag_tasks,
    unarchive_dag_task,
    reset_dag,
    analyze_dag,
    list_task_templates,
    apply_task_template,
    delegate_task,
)

__all__ = [
    "TOOLS",
    "Task",
    "assign",
    "end_claims",
    "next_due",
    "reap",
    "renew_claims",
    "settle_decision",
]
