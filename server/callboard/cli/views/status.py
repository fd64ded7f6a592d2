"""`callboard status`: the board at one look, of every crew of the project or of one."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from callboard.cli.common import DbOption
from callboard.cli.views.asking import Answer, JsonOption, LeadOption, ProjectOption, ask
from callboard.cli.views.page import (
    ago,
    dollars,
    heading,
    lasting,
    number,
    section,
    show,
    state,
    table,
    words,
)
from callboard.domains.crew.words import counted


def status(
    lead: LeadOption = None,
    project: ProjectOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the board: agents, tasks, locks and who waits, decisions, alerts, costs.

    It reads the store itself, so it works whether or not a server runs.
    """
    found = ask(db, "get_crew_status", {"lead_id": lead}, project=project, lead=lead, as_json=as_json)
    show(found, board_page(found), as_json=as_json)


def board_page(found: Answer) -> list[RenderableType]:
    """The board from top to bottom: what needs a person first."""
    parts: list[RenderableType] = [summary(found)]
    if not found["agents"]:
        parts.append(Text("No agent is here. Connect a client with: callboard init"))
    for name, make in SECTIONS.items():
        columns, rows, count = make(found)
        if rows:
            shown: list[RenderableType] = [table(columns, rows)]
            if count > len(rows):
                shown.append(Text(f"… and {count - len(rows)} more: {ALL_OF[name]}"))
            parts.append(section(name, Group(*shown), count))
    return parts


def summary(found: Answer) -> Text:
    """One line of figures."""
    crews = {agent.get("lead_id") for agent in found["agents"]}
    live = sum(agent["liveness"] == "live" for agent in found["agents"])
    tasks = ", ".join(
        f"{count} {name.replace('_', ' ')}" for name, count in (found.get("tasks") or {}).items()
    )
    unread = sum(agent.get("unread_messages", 0) for agent in found["agents"])
    facts = [
        f"Project {found['project_id']}",
        f"{counted(found['agents_count'], 'agent')} ({live} live) in {counted(len(crews), 'crew')}",
        f"tasks: {tasks or 'none'}",
        counted(found["locks_count"], "lock"),
        counted(unread, "unread message"),
    ]
    if spent := found.get("costs"):
        tokens = number(spent["input_tokens"] + spent["output_tokens"])
        facts.append(f"{tokens} tokens" + (f", {dollars(spent)} USD" if "cost_usd" in spent else ""))
    return heading("; ".join(facts) + "\n")


Rows = tuple[tuple[str, ...], list[tuple[object, ...]], int]


def _decisions(found: Mapping[str, Any]) -> Rows:
    listed = found.get("decisions", ())
    rows: list[tuple[object, ...]] = [(one["decision_id"], one["agent_id"], one["title"]) for one in listed]
    return ("DECISION", "AGENT", "TITLE"), rows, found.get("decisions_count", 0)


def _alerts(found: Mapping[str, Any]) -> Rows:
    rows: list[tuple[object, ...]] = [
        (state(one["severity"]), ago(one.get("since")), one["cause"]) for one in found.get("alerts", ())
    ]
    return ("ALERT", "FOR", "CAUSE"), rows, found.get("alerts_count", 0)


def _agents(found: Mapping[str, Any]) -> Rows:
    rows: list[tuple[object, ...]] = [
        (
            one["agent_id"],
            state(one["liveness"]),
            one.get("task_id", ""),
            one.get("locks_held", 0),
            one.get("unread_messages", 0),
            one.get("lead_id", ""),
            one["role"],
        )
        for one in found["agents"]
    ]
    return ("AGENT", "LIFE", "TASK", "LOCKS", "UNREAD", "CREW", "ROLE"), rows, found["agents_count"]


def _tasks(found: Mapping[str, Any]) -> Rows:
    listed = [*found.get("in_hand", ()), *found.get("ready", ())]
    rows: list[tuple[object, ...]] = [
        (
            one["task_id"],
            state(one["dag_status"]),
            one.get("assigned_agent_id", one["role"]),
            ago(one.get("since")),
            one.get("title", ""),
        )
        for one in listed
    ]
    return ("TASK", "STATUS", "WHO", "FOR", "TITLE"), rows, len(rows)


def _locks(found: Mapping[str, Any]) -> Rows:
    waits: dict[str, list[str]] = {}
    for waiter in found.get("waiters", ()):
        waits.setdefault(waiter["file_path"], []).append(waiter["agent_id"])
    rows: list[tuple[object, ...]] = [
        (
            one["file_path"],
            one["agent_id"],
            lasting(one["remaining_seconds"]),
            words(", ".join(waits.get(one["file_path"], ()))),
        )
        for one in found["locks"]
    ]
    return ("LOCK", "AGENT", "LEFT", "WAITED FOR BY"), rows, found["locks_count"]


SECTIONS = {
    "Decisions that wait for a person": _decisions,
    "Alerts": _alerts,
    "Agents": _agents,
    "Tasks in hand and ready": _tasks,
    "Locks": _locks,
}

ALL_OF = {
    "Decisions that wait for a person": "callboard decisions",
    "Alerts": "callboard call list_alerts",
    "Agents": "callboard agents",
    "Tasks in hand and ready": "callboard tasks",
    "Locks": "callboard locks",
}
"""What lists all of a section."""
