"""Removal: a project leaves the store with everything under it, in one transaction or not at all.

It is the one operation that takes rows of every domain, so it stands above them. Children go before what
they refer to. What happened is not undone: the ledger keeps its rows, and the removal adds its own.
"""

from collections.abc import Mapping

from callboard.domains import projects, roster
from callboard.errors import Conflict, InvalidTransition
from callboard.events import Event
from callboard.store import Command, Row, Tx

_CREWS = "(SELECT lead_id FROM _crews WHERE project_id = :project_id UNION ALL SELECT :project_id)"
_AGENTS = "(SELECT agent_id FROM agent_roster WHERE project_id = :project_id)"


def _delete(table: str, whose: str) -> Command:
    return Command(f"DELETE FROM {table} WHERE {whose}")


_OF_PROJECT = "project_id = :project_id"
_OF_CREW = f"lead_id IN {_CREWS}"
_OF_AGENT = f"agent_id IN {_AGENTS}"

REMOVE: Mapping[str, Command] = {
    table: _delete(table, whose)
    for table, whose in {
        "message_queue": f"{_OF_PROJECT} OR {_OF_CREW} OR target_agent_id IN {_AGENTS}",
        "chat_group_messages": _OF_CREW,
        "_chat_group_leavers": _OF_CREW,
        "chat_group_members": _OF_CREW,
        "chat_groups": _OF_CREW,
        "messages": f"conversation_id IN (SELECT id FROM conversations WHERE {_OF_AGENT})",
        "conversations": _OF_AGENT,
        "timers": f"{_OF_PROJECT} OR {_OF_AGENT}",
        "_task_results": _OF_CREW,
        "_task_transitions": _OF_CREW,
        "_task_decisions": _OF_CREW,
        "_task_edges": _OF_CREW,
        "active_delegations": f"{_OF_CREW} OR {_OF_AGENT}",
        "dag_tasks": _OF_CREW,
        "decisions": f"{_OF_PROJECT} OR {_OF_CREW}",
        "agent_memory": f"{_OF_CREW} OR {_OF_AGENT}",
        "agent_plans": _OF_AGENT,
        "_agent_plan_versions": _OF_AGENT,
        "collective_memory": _OF_PROJECT,
        "_collective_memory_versions": _OF_PROJECT,
        "knowledge": _OF_PROJECT,
        "_knowledge_versions": _OF_PROJECT,
        "session_retros": _OF_CREW,
        "task_cost_records": _OF_CREW,
        "_cost_calls": _OF_CREW,
        "_cost_baselines": _OF_AGENT,
        "_cost_budgets": _OF_CREW,
        "file_locks": _OF_PROJECT,
        "_lock_holders": _OF_PROJECT,
        "_lock_waiter_paths": f"ticket IN (SELECT ticket FROM _lock_waiters WHERE {_OF_PROJECT})",
        "_lock_waiters": _OF_PROJECT,
        "_lock_delays": "file_path >= :project_id || ':' AND file_path < :project_id || ';'",
        "agent_file_history": _OF_PROJECT,
        "_activity_cursors": f"reader IN {_AGENTS}",
        "_request_keys": f"principal IN {_AGENTS}",
        "_credentials": f"kind = 'agent' AND principal IN {_AGENTS}",
        "project_sessions": _OF_PROJECT,
        "_agent_processes": _OF_AGENT,
        "_crews": _OF_PROJECT,
        "agent_roster": _OF_PROJECT,
        "projects": "id = :project_id",
    }.items()
}
"""What is deleted of each table, in this order."""

KEPT: Mapping[str, str] = {
    "roles": "the store's",
    "_role_overrides": "the store's",
    "settings": "the store's",
    "_processes": "the store's",
    "_signing_keys": "people's",
    "activity_log": "a ledger: what happened stays",
    "_activity_seals": "the ledger's",
    "_activity_days": "the ledger's",
    "_events": "the outbox: read at once and soon swept",
}
"""The tables of which nothing is deleted, and why."""


class Present(Row):
    agent_id: str


PRESENT = Present.query("""
    SELECT agent_id FROM agent_roster
     WHERE project_id = :project_id AND status <> 'terminated' AND last_seen_boot_ms > :seen_after
     ORDER BY agent_id LIMIT 10
""")


def remove_project(tx: Tx, project_id: str) -> dict[str, int]:
    """Delete an archived project with everything under it; how many rows of each table went.

    Raises NotFound, InvalidTransition for one that is not archived, Conflict while agents of it are live.
    """
    project = projects.get(tx, project_id)
    if project.status != "archived":
        raise InvalidTransition(
            f"{project_id} is {project.status}; only an archived project is removed.",
            hint="Archive it first.",
            status=project.status,
            action="remove",
        )
    if present := tx.all(PRESENT, project_id=project_id, seen_after=max(0, tx.now - roster.LIVE_MS - 1)):
        names = [agent.agent_id for agent in present]
        raise Conflict(
            f"{', '.join(names)} of this project are live.",
            hint="End them first, or wait until they are silent.",
            kind="project",
            agent_ids=names,
        )
    removed = {table: tx.run(command, project_id=project_id) for table, command in REMOVE.items()}
    gone = {table: count for table, count in removed.items() if count}
    tx.tell(
        Event(
            "projects",
            "project_removed",
            f"removed project {project.name} with all that was under it",
            subject=project_id,
            details={"name": project.name, "cwd": project.cwd, "rows": gone},
            project_id=project_id,
        )
    )
    return gone
