"""`callboard tasks`: a crew's tasks as a tree, and the path that decides when it ends.

A graph is no tree: a task stands once, under the last of what it waits for, and names the others.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from callboard.board import Board
from callboard.cli.common import DbOption
from callboard.cli.views.asking import Answer, JsonOption, LeadOption, LimitOption, ProjectOption, answer
from callboard.cli.views.page import console, heading, more, show, state, words

ON_PATH = "*"
PATH_SHOWN = 20


def tasks(
    lead: LeadOption = None,
    project: ProjectOption = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only these, such as ready; repeat for more.")
    ] = None,
    limit: LimitOption = 200,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the tasks: what stands under a task waits for it. The critical path is starred."""

    async def work(board: Board) -> Answer:
        crews = [lead] if lead else await crews_of(board)
        given = {"limit": limit} | ({"dag_status": status} if status else {})
        found = {}
        for crew in crews:
            page = await board.call("list_dag_tasks", given, crew=crew)
            if page["tasks"] or crew == lead:
                found[crew] = page, await board.call("analyze_dag", {}, crew=crew)
        return found

    found = answer(db, work, project=project, as_json=as_json)
    if as_json:
        show(in_one({crew: page for crew, (page, _) in found.items()}), (), as_json=True)
        return
    if not found:
        console().print("There are no tasks.")
    for crew, (page, analysis) in found.items():
        show(page, [*crew_page(crew, page, analysis), *more(page), Text("")], as_json=False)


def in_one(pages: Mapping[str, Answer]) -> Answer:
    """The tasks of all crews in one result, each with its crew; whose are more than the limit is told."""
    whole = next(iter(pages.values())) if len(pages) == 1 else {}
    tasks = [{"lead_id": crew} | line for crew, page in pages.items() for line in page["tasks"]]
    longer = [crew for crew, page in pages.items() if "next_after_id" in page]
    return whole | {"tasks": tasks} | ({"more_of": longer} if longer else {})


async def crews_of(board: Board) -> list[str]:
    """The crews of the project."""
    status = await board.call("get_crew_status", {})
    return [crew["lead_id"] for crew in status["crews"]]


def crew_page(crew: str, page: Answer, analysis: Answer) -> list[RenderableType]:
    """A crew's tasks as a tree with its figures."""
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in analysis["counts"].items())
    done = f"{round(100 * analysis['progress'])} %"
    path = analysis["critical_path"]
    parts: list[RenderableType] = [heading(f"Crew {crew}: {done} done; {counts}")]
    parts += trees(page["tasks"], frozenset(path))
    if path:
        shown = " > ".join(path[:PATH_SHOWN]) + (
            " > …" if analysis["critical_path_count"] > PATH_SHOWN else ""
        )
        parts.append(Text(f"Critical path ({analysis['critical_path_count']}): {shown}"))
    return parts


def trees(lines: Iterable[Answer], path: frozenset[str]) -> list[Tree]:
    """The tasks that wait for none of the others, each with what waits for it."""
    known = {line["task_id"]: line for line in lines}
    depths: dict[str, int] = {}
    under: dict[str | None, list[str]] = defaultdict(list)
    for name in _from_the_first(known):
        missing = _missing(known[name])
        here = [one for one in missing if one in known]
        depths[name] = 1 + max((depths[one] for one in here), default=-1)
        under[max(here, key=lambda one: (depths[one], one in path)) if here else None].append(name)
    roots: list[Tree] = []
    made: dict[str, Tree] = {}
    for above, names in sorted(under.items(), key=lambda item: -1 if item[0] is None else depths[item[0]]):
        for name in names:
            label = _label(known[name], above, starred=name in path)
            if above is None:
                made[name] = Tree(label, guide_style="")
                roots.append(made[name])
            else:
                made[name] = made[above].add(label)
    return roots


def _missing(line: Answer) -> list[str]:
    return [one["task_id"] for one in line.get("blocked_by", ())]


def _from_the_first(known: Mapping[str, Answer]) -> list[str]:
    """The tasks with each behind what it waits for."""
    waiting = {name: sum(one in known for one in _missing(line)) for name, line in known.items()}
    behind: dict[str, list[str]] = defaultdict(list)
    for name, line in known.items():
        for one in _missing(line):
            behind[one].append(name)
    order = [name for name, count in waiting.items() if count == 0]
    for name in order:
        for other in behind[name]:
            waiting[other] -= 1
            if waiting[other] == 0:
                order.append(other)
    return order


def _label(line: Answer, above: str | None, *, starred: bool) -> Table:
    """A task's line, which goes on behind its star where it is longer than the terminal is wide."""
    label = Text.assemble((line["task_id"], "bold"), " ", state(line["dag_status"]))
    if who := line.get("assigned_agent_id"):
        label.append(f" {who}")
    if title := line.get("title"):
        label.append("  ").append_text(words(title))
    others = [one for one in _missing(line) if one != above]
    if others:
        label.append(f"  ({'also ' if above else ''}waits for {', '.join(others)})")
    if cause := line.get("root_cause"):
        label.append(f"  (because {cause['task_id']} is {cause['dag_status']})", "wrong")
    made = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    made.add_row(ON_PATH if starred else " ", label)
    return made
