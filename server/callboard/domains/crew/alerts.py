"""Alerts: what somebody should look at, as queries over the store.

Nothing of an alert is stored. It is there while its cause is, right at once after a restart, under an id made
of its rule and its object, so that whoever sees it again knows it. How long a cause may last is a setting.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from callboard.clock import utc_text
from callboard.domains import decisions, projects, roster
from callboard.domains.costs import budgets
from callboard.domains.crew.holding import crews_of, free_for
from callboard.domains.crew.words import counted, named, shortened
from callboard.domains.locks import queue, tickets
from callboard.domains.locks.leases import HELD_BY
from callboard.domains.locks.tickets import Ticket
from callboard.domains.tasks import analysis
from callboard.domains.tasks.reading import Causes
from callboard.identity import MEMBER, Caller
from callboard.lockname import shown
from callboard.store import Row, Tx
from callboard.tool import Result, fitted, tool

Severity = Literal["critical", "warning", "info"]
RANK: Mapping[str, int] = {"critical": 0, "warning": 1, "info": 2}

MOST = 200
"""Objects that one rule looks at in one crew, and alerts that are shown."""

MAIL_HOURS = 24
"""How long an alert about a message lasts: one that ended unread, or that holds what nobody can see."""

MAIL_LOOKED_AT = 1_000
"""The latest messages of the store, and of its groups, that are searched for what nobody can see."""


class RunningTask(Row):
    id: str
    agent_id: str
    started_at: str
    last_at: str | None


class ReadyRole(Row):
    role: str
    number: int
    since: str


class Work(Row):
    running: int
    ended_at: str | None


class Blocked(Row):
    id: str
    since: str


class Active(Row):
    id: str
    files: str
    agent_id: str
    started_at: str


class Expired(Row):
    target_agent_id: str
    number: int
    since: str
    first_id: int


class Hidden(Row):
    name: str
    agent_id: str
    since: str


class Reached(Row):
    timestamp: str


RUNNING = RunningTask.query("""
    SELECT t.id, t.assigned_agent_id AS agent_id, t.started_at,
           (SELECT a.timestamp FROM activity_log AS a WHERE a.agent_id = t.assigned_agent_id
             ORDER BY a.id DESC LIMIT 1) AS last_at
      FROM dag_tasks AS t
     WHERE t.lead_id = :lead_id AND t.dag_status = 'running' AND t.archived_at IS NULL
     ORDER BY t.priority DESC, t.seq LIMIT :limit
""")
READY_ROLES = ReadyRole.query("""
    SELECT role, count(*) AS number, min(since) AS since
      FROM (SELECT t.role,
                   (SELECT h.created_at FROM _task_transitions AS h
                     WHERE h.lead_id = t.lead_id AND h.task_id = t.id AND h.to_status = 'ready'
                     ORDER BY h.id DESC LIMIT 1) AS since
              FROM dag_tasks AS t
             WHERE t.lead_id = :lead_id AND t.dag_status = 'ready' AND t.archived_at IS NULL
             ORDER BY t.priority DESC, t.seq LIMIT :limit)
     WHERE since IS NOT NULL GROUP BY role ORDER BY role
""")
WORK = Work.query("""
    SELECT coalesce(sum(dag_status = 'running'), 0) AS running, max(completed_at) AS ended_at
      FROM dag_tasks WHERE assigned_agent_id = :agent_id AND +lead_id = :lead_id
""")
BLOCKED = Blocked.query("""
    SELECT t.id, coalesce((SELECT h.created_at FROM _task_transitions AS h
                            WHERE h.lead_id = t.lead_id AND h.task_id = t.id AND h.to_status = 'blocked'
                            ORDER BY h.id DESC LIMIT 1), t.created_at) AS since
      FROM dag_tasks AS t
     WHERE t.lead_id = :lead_id AND t.dag_status = 'blocked' AND t.archived_at IS NULL
     ORDER BY t.priority DESC, t.seq LIMIT :limit
""")
LONG_WAITS = Ticket.query(f"""
    SELECT {tickets.COLUMNS} FROM _lock_waiters
     WHERE lead_id = :lead_id AND enqueued_boot_ms <= :before
       AND (call_until_boot_ms > :now OR queue_until_boot_ms > :now)
     ORDER BY ticket LIMIT :limit
""")
ACTIVE = Active.query("""
    SELECT id, files, assigned_agent_id AS agent_id, coalesce(started_at, created_at) AS started_at
      FROM dag_tasks
     WHERE lead_id = :lead_id AND dag_status IN ('running', 'in_review', 'paused')
       AND assigned_agent_id IS NOT NULL AND archived_at IS NULL AND files <> '[]'
     ORDER BY priority DESC, seq LIMIT :limit
""")
EXPIRED = Expired.query("""
    SELECT target_agent_id, count(*) AS number, min(expired_at) AS since, min(id) AS first_id
      FROM message_queue
     WHERE lead_id = :lead_id AND status = 'expired' AND expired_reason IN ('max_attempts', 'ttl')
       AND source_agent_id IS NOT NULL AND expired_at >= :since
     GROUP BY target_agent_id ORDER BY target_agent_id LIMIT :limit
""")
# What an escape sequence or a text of invisible letters is for is to be read by a machine and not by people.
_UNSEEN = "(instr({text}, char(27)) > 0 OR {text} GLOB '*[\U000e0000-\U000e007f]*')"
HIDDEN = Hidden.query(f"""
    SELECT 'message ' || id AS name, source_agent_id AS agent_id, created_at AS since FROM message_queue
     WHERE id > (SELECT max(id) FROM message_queue) - :latest AND +lead_id = :lead_id
       AND created_at >= :since AND source_agent_id IS NOT NULL AND {_UNSEEN.format(text="text")}
    UNION ALL
    SELECT 'group message ' || id AS name, from_agent_id AS agent_id, timestamp AS since
      FROM chat_group_messages
     WHERE seq > (SELECT max(seq) FROM chat_group_messages) - :latest AND +lead_id = :lead_id
       AND timestamp >= :since AND {_UNSEEN.format(text="content")}
     LIMIT :limit
""")
BUDGET_REACHED = Reached.query("""
    SELECT timestamp FROM activity_log
     WHERE action_type = 'budget_reached' AND lead_id = :lead_id
       AND json_extract(details, '$.budget') = :scope AND json_extract(details, '$.mark') = :mark
     ORDER BY id DESC LIMIT 1
""")


class Alert(Result):
    alert_id: str = Field(description="The rule and its object: the same as long as the cause is")
    severity: Severity
    since: str | None = None
    cause: str
    next: str


class Alerts(Result):
    alerts: list[Alert] = Field(description="The worst first, then the oldest")
    left_out: int | None = None


def of_caller(tx: Tx, caller: Caller, crews: Iterable[str]) -> list[Alert]:
    """The alerts of some crews of the caller's project and of its store, the worst first."""
    found = list(_stores(tx))
    for lead_id in crews:
        for rule in RULES:
            found += rule(tx, lead_id, caller.project_id)
    return sorted(found, key=lambda alert: (RANK[alert.severity], alert.since or "", alert.alert_id))


def _silent(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    for agent in members(tx, lead_id, project_id):
        if agent.liveness(tx.now) != "stale":
            continue
        held = [lease.path for lease in tx.all(HELD_BY, agent_id=agent.agent_id, now=tx.now)]
        work = tx.one(WORK, agent_id=agent.agent_id, lead_id=lead_id)
        running = work.running if work else 0
        if held or running:
            has = [f"the lock on {named(held)}"] if held else []
            has += [counted(running, "running task")] if running else []
            yield Alert(
                alert_id=f"silent_agent:{agent.agent_id}",
                severity="warning",
                since=agent.last_seen_at,
                cause=f"{agent.agent_id} is silent and has {' and '.join(has)}.",
                next="Its leases end by themselves; terminate_agent ends them now.",
            )


def _stuck(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    for task in tx.all(RUNNING, lead_id=lead_id, limit=MOST):
        since = max(task.started_at, task.last_at or "")
        if _lasts(tx, since, "alerts.claim_minutes"):
            yield Alert(
                alert_id=f"stuck_claim:{task.id}",
                severity="warning",
                since=since,
                cause=f"{task.agent_id} works on {task.id} and has done nothing that is seen here.",
                next=f"Ask {task.agent_id} with send_message, or give it to another with assign_dag_task.",
            )


def _idle(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    idle: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for agent in members(tx, lead_id, project_id):
        if agent.liveness(tx.now) == "live":
            work = tx.one(WORK, agent_id=agent.agent_id, lead_id=lead_id)
            if work is not None and not work.running:
                idle[agent.role].append((agent.agent_id, work.ended_at or agent.created_at))
    for ready in tx.all(READY_ROLES, lead_id=lead_id, limit=MOST):
        waiting = [
            (agent_id, max(ready.since, idle_since))
            for agent_id, idle_since in idle[ready.role]
            if _lasts(tx, max(ready.since, idle_since), "alerts.idle_minutes")
        ]
        if not waiting or not _can_be_taken(tx, waiting[0][0], project_id):
            continue
        names = [agent_id for agent_id, _ in waiting]
        yield Alert(
            alert_id=f"idle_agents:{lead_id}:{ready.role}",
            severity="info",
            since=min(since for _, since in waiting),
            cause=f"{counted(ready.number, 'task')} for {ready.role} can be taken, and {named(names)} "
            f"{'does' if len(names) == 1 else 'do'} nothing.",
            next="They take work with claim_next_dag_task; assign_dag_task gives it to them.",
        )


def _can_be_taken(tx: Tx, agent_id: str, project_id: str) -> bool:
    """Whether a ready task of the agent's role has files that are free."""
    member = tx.one(MEMBER, agent_id=agent_id)
    return member is not None and next(free_for(tx, member, project_id), None) is not None


def _undecided(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    for decision in decisions.pending(tx, lead_id, MOST):
        if _lasts(tx, decision.created_at, "alerts.decision_minutes"):
            yield Alert(
                alert_id=f"pending_decision:{decision.id}",
                severity="warning",
                since=decision.created_at,
                cause=f"A decision of {decision.agent_id} waits for a human: {shortened(decision.title, 80)}",
                next=f"A human runs: callboard decisions show {decision.id}",
            )


def _blocked(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    causes = Causes(tx, lead_id)
    behind: dict[tuple[str, str], list[Blocked]] = defaultdict(list)
    for task in tx.all(BLOCKED, lead_id=lead_id, limit=MOST):
        if (cause := causes.of(task.id)) is not None:
            behind[cause.task_id, cause.dag_status].append(task)
    for (cause_id, status), blocked in behind.items():
        since = min(task.since for task in blocked)
        if _lasts(tx, since, "alerts.blocked_minutes"):
            way = "remove_task_dependencies frees them from it"
            if status == "failed":
                way = f"retry_dag_task or skip_dag_task {cause_id}"
            yield Alert(
                alert_id=f"blocked:{lead_id}:{cause_id}",
                severity="critical" if status == "failed" else "warning",
                since=since,
                cause=f"{named([task.id for task in blocked])} cannot begin: {cause_id} is {status}.",
                next=f"{way[0].upper()}{way[1:]}.",
            )


def _long_waits(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    minutes = projects.setting(tx, "alerts.lock_wait_minutes")
    before = tx.now - minutes * 60_000
    for ticket in tx.all(LONG_WAITS, lead_id=lead_id, before=before, now=tx.now, limit=MOST):
        request = tickets.request_of(tx, ticket)
        blocker = next(queue.blockers(tx, request, ticket.ticket), None)
        paths = [shown(name) for name in request.names]
        holder = f", which {blocker.agent_id} has" if blocker and blocker.by == "holder" else ""
        yield Alert(
            alert_id=f"lock_wait:{ticket.agent_id}:{paths[0]}",
            severity="warning",
            since=tx.at_boot(ticket.enqueued_boot_ms),
            cause=f"{ticket.agent_id} waits for {named(paths)}{holder}.",
            next=f"Ask {blocker.agent_id if blocker else ticket.agent_id} with send_message; a lead can use "
            "force_release_file_lock.",
        )


def _overlapping(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    active = {task.id: task for task in tx.all(ACTIVE, lead_id=lead_id, limit=MOST)}
    files = [analysis.Files(task.id, task.files) for task in active.values()]
    for overlap in analysis.overlaps(files):
        one, other = sorted((active[name] for name in overlap.tasks), key=lambda task: task.id)
        if one.agent_id != other.agent_id:
            yield Alert(
                alert_id=f"overlap:{one.id}+{other.id}",
                severity="warning",
                since=max(one.started_at, other.started_at),
                cause=f"{one.agent_id} ({one.id}) and {other.agent_id} ({other.id}) both work on "
                f"{overlap.file_path}.",
                next="Let them agree with send_message, or take one back with release_dag_task.",
            )


def _undelivered(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    for expired in tx.all(EXPIRED, lead_id=lead_id, since=_a_day_ago(tx), limit=MOST):
        yield Alert(
            alert_id=f"undelivered:{expired.target_agent_id}",
            severity="warning",
            since=expired.since,
            cause=f"{counted(expired.number, 'message')} to {expired.target_agent_id} ended unread, "
            f"the first is {expired.first_id}.",
            next="Find out why; requeue_message puts a message back.",
        )


def _hidden(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    found = tx.all(HIDDEN, lead_id=lead_id, since=_a_day_ago(tx), latest=MAIL_LOOKED_AT, limit=MOST)
    for hidden in found:
        yield Alert(
            alert_id=f"hidden_text:{hidden.name.replace(' ', '_')}",
            severity="warning",
            since=hidden.since,
            cause=f"{hidden.agent_id} wrote escape sequences or invisible letters: {hidden.name}.",
            next=f"Nobody was shown them; find out what {hidden.agent_id} has read.",
        )


def _a_day_ago(tx: Tx) -> str:
    return utc_text(tx.wall - timedelta(hours=MAIL_HOURS))


def _budgets(tx: Tx, lead_id: str, project_id: str) -> Iterator[Alert]:
    for budget in tx.all(budgets.BUDGETS, lead_id=lead_id, limit=MOST):
        if not budget.mark:
            continue
        reached = tx.one(BUDGET_REACHED, lead_id=lead_id, scope=budget.scope, mark=budget.mark)
        severities: Mapping[int, Severity] = {100: "critical", 90: "warning", 70: "info"}
        yield Alert(
            alert_id=f"budget:{lead_id}:{budget.dag_task_id}:{budget.project_id}",
            severity=severities[budget.mark],
            since=reached.timestamp if reached else None,
            cause=f"{budget.percent} % of the budget for {budget.scope} is used: {budget.state}.",
            next="set_cost_budget raises it; report_task_costs tells what used it.",
        )


def _stores(tx: Tx) -> Iterator[Alert]:
    """One repository must have one store: who is on another is not seen here."""
    for other in tx.about().serving.other_stores:
        yield Alert(
            alert_id=f"other_store:{other}",
            severity="warning",
            cause=f"There is another store for this repository: {other}",
            next="Let all servers use one, with --db or CALLBOARD_DB; compare store_id in get_server_info.",
        )


Rule = Callable[[Tx, str, str], Iterator[Alert]]
RULES: tuple[Rule, ...] = (
    _silent,
    _stuck,
    _idle,
    _undecided,
    _blocked,
    _long_waits,
    _overlapping,
    _undelivered,
    _hidden,
    _budgets,
)


def members(tx: Tx, lead_id: str | None, project_id: str) -> list[roster.Agent]:
    """The agents of a crew, or of the whole project, that have not left."""
    return tx.all(
        roster.PROJECT_AGENTS,
        project_id=project_id,
        lead_id=lead_id,
        team_id=None,
        role=None,
        status=None,
        terminated=False,
        after="",
        limit=MOST,
    )


def _lasts(tx: Tx, since: str, setting: str) -> bool:
    """Whether something has lasted for as long as the setting says, by the wall clock that people see."""
    return tx.wall - datetime.fromisoformat(since) >= timedelta(minutes=projects.setting(tx, setting))


@tool()
def list_alerts(tx: Tx, caller: Caller) -> Alerts:
    """List what somebody in your crew should look at: what is stuck, silent, blocked, idle, overlapping.

    Each says what to do next.
    """
    found = of_caller(tx, caller, crews_of(tx, caller))
    shown_alerts, _ = fitted(found[: MOST + 1], MOST)
    return Alerts(alerts=shown_alerts, left_out=len(found) - len(shown_alerts) or None)
