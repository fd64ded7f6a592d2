"""The board: a crew at one look, for whoever steers it."""

import json
from collections.abc import Sequence
from functools import partial

from pydantic import Field

from callboard.domains import decisions, roster
from callboard.domains.costs import TaskCost, of_crews
from callboard.domains.costs.budgets import Budget, of_crew
from callboard.domains.crew import alerts
from callboard.domains.crew.alerts import Alert, members
from callboard.domains.crew.holding import OpenDecision, open_decision, titled
from callboard.domains.crew.surroundings import COUNTS, LEASES
from callboard.domains.locks.answers import Waiter, waiters_of
from callboard.domains.locks.leases import IN_PROJECT, Lease
from callboard.domains.locks.tickets import waiting_near
from callboard.domains.tasks import Task
from callboard.domains.tasks.task import COLUMNS
from callboard.errors import NotFound
from callboard.identity import Caller
from callboard.lockname import name_of
from callboard.params import LeadId, ProjectId
from callboard.store import Row, Tx
from callboard.tool import Result, tool

AGENTS = 100
ACTIVE = 30
READY = 10
LOCKS = 30
WAITERS = 20
DECISIONS = 10
ALERTS = 10
"""How many of each the board shows; what it leaves out is counted."""


class CrewRow(Row):
    lead_id: str
    led_by: str | None


CREW = CrewRow.query("""
    SELECT lead_id, led_by FROM _crews WHERE lead_id = :lead_id AND project_id = :project_id
""")
CREWS = CrewRow.query("""
    SELECT lead_id, led_by FROM _crews WHERE project_id = :project_id ORDER BY lead_id LIMIT 100
""")
IN_HAND = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE lead_id IN (SELECT value FROM json_each(:crews)) AND archived_at IS NULL
       AND dag_status IN ('running', 'in_review', 'paused')
     ORDER BY priority DESC, seq LIMIT :limit
""")
NEXT_UP = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE lead_id IN (SELECT value FROM json_each(:crews)) AND archived_at IS NULL AND dag_status = 'ready'
     ORDER BY priority DESC, dependents DESC, seq LIMIT :limit
""")


class CrewName(Result):
    lead_id: str
    led_by: str | None = None


class Member(Result):
    agent_id: str
    role: str
    liveness: str
    status: str
    lead_id: str | None = Field(default=None, description="Where several crews are shown")
    task_id: str | None = None
    locks_held: int | None = None
    unread_messages: int | None = None


class BoardTask(Result):
    task_id: str
    dag_status: str
    title: str | None = None
    role: str
    lead_id: str | None = Field(default=None, description="Where several crews are shown")
    assigned_agent_id: str | None = None
    since: str | None = None


class BoardLock(Result):
    file_path: str
    agent_id: str
    remaining_seconds: int
    mode: str | None = Field(default=None, description="Absent: exclusive")


class CrewStatus(Result):
    project_id: str
    crews: list[CrewName]
    agents: list[Member]
    agents_count: int
    tasks: dict[str, int] | None = Field(default=None, description="By status")
    in_hand: list[BoardTask] | None = None
    ready: list[BoardTask] | None = None
    locks: list[BoardLock]
    locks_count: int
    waiters: list[Waiter] | None = None
    decisions: list[OpenDecision] | None = Field(default=None, description="That wait for a human")
    decisions_count: int | None = None
    alerts: list[Alert] | None = None
    alerts_count: int | None = None
    costs: TaskCost | None = None
    budgets: list[Budget] | None = None


@tool(profile="lead")
def get_crew_status(
    tx: Tx, caller: Caller, lead_id: LeadId | None = None, project_id: ProjectId | None = None
) -> CrewStatus:
    """See your crew at one look: agents, tasks, locks and who waits, decisions, alerts, costs.

    Of another crew only its agents and locks. not_found if it is not there.
    """
    crews = _crews(tx, caller, lead_id, project_id)
    names = [crew.lead_id for crew in crews]
    own = caller.reads_all_crews or names == [caller.lead_id]
    agents = [agent for name in names for agent in members(tx, name, caller.project_id)]
    here = {agent.agent_id for agent in agents}
    leases = [
        lease
        for lease in tx.all(
            IN_PROJECT,
            project_id=caller.project_id,
            agent_id=None,
            prefix=None,
            at="",
            beyond="",
            after=0,
            limit=LEASES,
            now=tx.now,
        )
        if lease.agent_id in here
    ]
    waiting = [
        place for place in waiting_near(tx, name_of(caller.project_id, "**")) if place.agent_id in here
    ]
    shared = CrewStatus(
        project_id=caller.project_id,
        crews=[CrewName(lead_id=crew.lead_id, led_by=crew.led_by) for crew in crews],
        agents=[_member(tx, agent, caller, several=len(names) > 1) for agent in agents[:AGENTS]],
        agents_count=len(agents),
        locks=[_lock(tx, lease) for lease in leases[:LOCKS]],
        locks_count=len(leases),
        waiters=waiters_of(tx, waiting[:WAITERS]) or None,
    )
    return shared.model_copy(update=_own(tx, caller, names)) if own else shared


def _own(tx: Tx, caller: Caller, crews: Sequence[str]) -> dict[str, object]:
    """What crews do not share."""
    asked = json.dumps(list(crews))
    task_of = partial(_task, several=len(crews) > 1)
    pending = [decision for crew in crews for decision in decisions.pending(tx, crew, alerts.MOST)]
    found = alerts.of_caller(tx, caller, crews)
    return {
        "tasks": {row.dag_status: row.number for row in tx.all(COUNTS, crews=asked)},
        "in_hand": [task_of(task) for task in tx.all(IN_HAND, crews=asked, limit=ACTIVE)] or None,
        "ready": [task_of(task) for task in tx.all(NEXT_UP, crews=asked, limit=READY)] or None,
        "decisions": [open_decision(decision) for decision in pending[:DECISIONS]] or None,
        "decisions_count": len(pending) or None,
        "alerts": found[:ALERTS] or None,
        "alerts_count": len(found) or None,
        "costs": of_crews(tx, crews),
        "budgets": [budget for crew in crews for budget in of_crew(tx, crew)][:ALERTS] or None,
    }


def _crews(tx: Tx, caller: Caller, lead_id: str | None, project_id: str | None) -> list[CrewRow]:
    """The crews that are asked for. Raises NotFound, also for those of another project."""
    if project_id not in (None, caller.project_id):
        raise NotFound(f"There is no project {project_id} here.", kind="project", given=project_id)
    if lead_id is None and caller.reads_all_crews:
        return tx.all(CREWS, project_id=caller.project_id)
    wanted = lead_id or caller.lead_id
    crew = tx.one(CREW, lead_id=wanted, project_id=caller.project_id)
    if crew is None:
        raise NotFound(
            f"There is no crew {wanted} in your project.",
            hint="See list_agents for the crews.",
            kind="crew",
            given=wanted,
        )
    return [crew]


def _member(tx: Tx, agent: roster.Agent, caller: Caller, *, several: bool) -> Member:
    listed = roster.listed(tx, agent, caller)
    return Member(
        agent_id=listed.agent_id,
        role=listed.role,
        liveness=listed.liveness,
        status=listed.status,
        lead_id=listed.lead_id if several else None,
        task_id=listed.current_task,
        locks_held=listed.locks_held or None,
        unread_messages=listed.unread_messages or None,
    )


def _task(task: Task, *, several: bool) -> BoardTask:
    return BoardTask(
        task_id=task.id,
        dag_status=task.dag_status,
        title=titled(task),
        role=task.role,
        lead_id=task.lead_id if several else None,
        assigned_agent_id=task.assigned_agent_id,
        since=task.started_at if task.assigned_agent_id else None,
    )


def _lock(tx: Tx, lease: Lease) -> BoardLock:
    return BoardLock(
        file_path=lease.path,
        agent_id=lease.agent_id,
        remaining_seconds=max(0, lease.expires_boot_ms - tx.now) // 1000,
        mode="shared" if lease.mode == "shared" else None,
    )
