"""`callboard agents`, `locks`, `groups`, `costs`, `knowledge` and `search`: what is there, as tables."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import typer
from rich.console import RenderableType
from rich.text import Text

from callboard.cli.common import DbOption
from callboard.cli.views.asking import Answer, JsonOption, LeadOption, LimitOption, ProjectOption, ask
from callboard.cli.views.page import (
    ago,
    behind_bars,
    dollars,
    lasting,
    more,
    number,
    quoted,
    section,
    show,
    state,
    table,
    words,
)

QueryArgument = Annotated[str, typer.Argument(help="Words to look for.")]


def agents(
    lead: LeadOption = None,
    project: ProjectOption = None,
    limit: LimitOption = 200,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the agents: who is live, what they hold, what waits for them."""
    page = ask(db, "list_agents", {"lead_id": lead, "limit": limit}, project=project, as_json=as_json)
    rows = [
        (
            agent["agent_id"],
            agent["role"],
            state(agent["liveness"]),
            agent["status"],
            agent["lead_id"],
            agent.get("current_task", ""),
            agent.get("locks_held", 0),
            agent.get("unread_messages", 0),
            ago(agent.get("last_seen_at")),
        )
        for agent in page["agents"]
    ]
    names = ("AGENT", "ROLE", "LIFE", "STATUS", "CREW", "TASK", "LOCKS", "UNREAD", "SEEN")
    body: RenderableType = table(names, rows) if rows else Text("No agent is here.")
    show(page, [body, *more(page)], as_json=as_json)


def locks(
    lead: LeadOption = None,
    project: ProjectOption = None,
    limit: LimitOption = 200,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the file locks: who holds them, for how long, and who waits."""
    given = {"include_waiters": True, "limit": limit}
    page = ask(db, "list_file_locks", given, project=project, lead=lead, as_json=as_json)
    if not as_json and lead is not None:
        page = _of_crew(
            page, ask(db, "list_agents", {"lead_id": lead, "limit": 200}, project=project, as_json=False)
        )
    show(page, locks_page(page), as_json=as_json)


def _of_crew(page: Answer, members: Answer) -> Answer:
    """The locks of some agents and who waits among them."""
    here = {agent["agent_id"] for agent in members["agents"]}
    return page | {
        name: [line for line in page.get(name, ()) if line["agent_id"] in here]
        for name in ("locks", "waiters")
    }


def locks_page(page: Answer) -> list[RenderableType]:
    held = [
        (
            lock["file_path"],
            lock["agent_id"],
            lock["mode"],
            lasting(lock["remaining_seconds"]),
            lock.get("reason", ""),
        )
        for lock in page["locks"]
    ]
    waiting = [
        (
            waiter["file_path"],
            waiter["queue_place"],
            waiter["agent_id"],
            waiter["mode"],
            lasting(waiter["waiting_seconds"]),
        )
        for waiter in page.get("waiters", ())
    ]
    parts: list[RenderableType] = [
        section("Held", table(("PATH", "AGENT", "MODE", "LEFT", "REASON"), held), len(held))
        if held
        else Text("No file is locked.")
    ]
    if waiting:
        names = ("PATH", "PLACE", "AGENT", "MODE", "WAITS")
        parts.append(section("Waiting", table(names, waiting), len(waiting)))
    return [*parts, *more(page)]


def groups(
    project: ProjectOption = None,
    lead: LeadOption = None,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: LimitOption = 50,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the chat groups with their members and the last that was said."""
    given = {"include_archived": archived, "limit": limit}
    page = ask(db, "list_chat_groups", given, project=project, lead=lead, as_json=as_json)
    rows = []
    for group in page["groups"]:
        last = group.get("last_message")
        said = words(f"{last['from']}: {quoted(last['text'], page['mark'])}") if last else ""
        if lead is None or group["lead_id"] == lead:
            members = ", ".join(group["members"])
            rows.append((group["group_name"], group["lead_id"], len(group["members"]), members, said))
    names = ("GROUP", "CREW", "SIZE", "MEMBERS", "LAST")
    body: RenderableType = table(names, rows) if rows else Text("There is no group.")
    show(page, [body, *more(page)], as_json=as_json)


def costs(
    by: Annotated[
        Literal["agent", "task", "project", "model", "day"], typer.Option(help="One line for each.")
    ] = "agent",
    since: Annotated[
        str | None, typer.Option(help="Only from this time on, as 2026-01-31T12:00:00Z.")
    ] = None,
    lead: LeadOption = None,
    project: ProjectOption = None,
    limit: LimitOption = 50,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sum up tokens and money, with the budgets of a crew."""
    given = {"group_by": by, "lead_id": lead, "since": since, "limit": limit}
    report = ask(db, "report_task_costs", given, project=project, as_json=as_json)
    lines = [*report["costs"], report["total"] | {"key": "total"}]
    rows = [
        (
            line["key"],
            number(line["input_tokens"]),
            number(line["output_tokens"]),
            number(line["cache_read_tokens"]),
            number(line["cache_write_tokens"]),
            dollars(line),
        )
        for line in lines
    ]
    names = (by.upper(), "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITTEN", "USD")
    budgets = [words(f"Budget: {budget['used_percent']} % used") for budget in report["budgets"]]
    show(report, [table(names, rows), *budgets, *more(report)], as_json=as_json)


def knowledge(
    query: QueryArgument,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    project: ProjectOption = None,
    limit: LimitOption = 20,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search what the project's agents know: notes and lessons, best first."""
    given = {"query": query, "category": category, "limit": limit}
    found = ask(db, "search_knowledge", given, project=project, as_json=as_json)
    show(found, _hits(found, lambda hit: f"{hit['category']}/{hit['key']}"), as_json=as_json)


def search(
    query: QueryArgument,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind, such as task or decision; repeat for more.")
    ] = None,
    project: ProjectOption = None,
    limit: LimitOption = 20,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search everything: tasks, decisions, talk, activity, knowledge; best first."""
    given = {"query": query, "kinds": kind or None, "limit": limit}
    found = ask(db, "search_crew", given, project=project, as_json=as_json)
    show(found, _hits(found, lambda hit: hit.get("title") or hit["id"]), as_json=as_json)


def _hits(found: Answer, title: Callable[[Mapping[str, Any]], str]) -> list[RenderableType]:
    if not found["hits"]:
        return [Text("Nothing was found. Fewer or other words may help.")]
    lines: list[RenderableType] = []
    for hit in found["hits"]:
        at = ago(hit.get("at") or hit.get("updated_at"))
        by = hit.get("by") or hit.get("from") or ""
        lines.append(words(title(hit), "bold"))
        lines.append(words(f"  {hit['kind']} {hit.get('id', '')}  {by}  {at} ago"))
        lines += behind_bars(hit.get("text", ""), found.get("mark"))
    return lines
