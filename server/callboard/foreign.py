"""Foreign plans: task lists and notes that other programs keep, read into the words of this one.

Each reader takes the text of a file in its documented form and gives what can be kept here, together with a
sentence for each thing that cannot. It imports nothing of ours.

* beads: `issues.jsonl`, one issue a line (https://github.com/gastownhall/beads, docs on issues and
  dependencies). Its priorities run from 0, most urgent, to 4; a dependency stands with the issue that waits.
* Task Master: `tasks.json`, plain or by tags (https://docs.task-master.dev/capabilities/task-structure). A
  task's subtasks are numbered within it.
* The reference memory server: entities and relations, one a line
  (https://github.com/modelcontextprotocol/servers/tree/main/src/memory).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Standing = Literal["open", "done", "paused", "cancelled"]


class BadPlan(ValueError):
    """The file is not in the form that it was said to have."""


@dataclass(slots=True)
class Work:
    """A task of another program."""

    id: str
    title: str
    description: str
    priority: int
    standing: Standing
    depends_on: list[str]


@dataclass(slots=True)
class Plan:
    """What a file of tasks holds, those first that others wait for; and what of it has no place here."""

    tasks: list[Work] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Known:
    """A note of another program."""

    key: str
    content: str
    tags: tuple[str, ...]


BEADS: dict[str, Standing] = {
    "open": "open",
    "in_progress": "open",
    "hooked": "open",
    "blocked": "open",
    "deferred": "paused",
    "pinned": "paused",
    "closed": "done",
}
TASK_MASTER: dict[str, Standing] = {
    "pending": "open",
    "in-progress": "open",
    "review": "open",
    "blocked": "open",
    "deferred": "paused",
    "done": "done",
    "completed": "done",
    "cancelled": "cancelled",
}
IN_HAND = frozenset(["in_progress", "hooked", "in-progress", "review"])
"""Somebody works on these there; here nobody has claimed them."""
TASK_MASTER_PRIORITIES = {"critical": 3, "high": 2, "medium": 1, "low": 0}


def beads(text: str) -> Plan:
    """The issues of beads. Raises BadPlan."""
    plan = Plan()
    for number, issue in _objects(text):
        if issue.get("_type", "issue") != "issue":
            plan.left_out.append(f"line {number}: a {issue['_type']} is no task")
            continue
        own = _id(issue, number)
        status = issue.get("status", "open")
        if status == "tombstone":
            plan.left_out.append(f"{own}: deleted there")
            continue
        waits = []
        for edge in issue.get("dependencies") or ():
            kind, other = edge.get("type", "blocks"), str(edge.get("depends_on_id", ""))
            if kind == "blocks":
                waits.append(other)
            else:
                plan.left_out.append(f"{own}: {kind} {other} is no dependency here")
        parts = [("", "description"), ("Design", "design"), ("Acceptance", "acceptance_criteria")]
        priority = issue.get("priority", 2)
        plan.tasks.append(
            Work(
                id=own,
                title=str(issue.get("title", "")),
                description=_joined(issue, [*parts, ("Notes", "notes")]),
                priority=4 - priority if isinstance(priority, int) else 2,
                standing=_standing(plan, own, status, BEADS),
                depends_on=waits,
            )
        )
        for name in ("assignee", "labels", "comments"):
            if issue.get(name):
                plan.left_out.append(f"{own}: {name}")
    return _ordered(plan)


def task_master(text: str, tag: str = "master") -> Plan:
    """The tasks of Task Master under one tag. A subtask waits for what its task waits for, and the task for
    its subtasks. Raises BadPlan."""
    content = _json(text)
    if isinstance(content, dict) and "tasks" not in content:
        if tag not in content:
            raise BadPlan(f"The file has no tag {tag}; it has {', '.join(map(str, content)) or 'none'}.")
        content = content[tag]
    if not isinstance(content, dict) or not isinstance(content.get("tasks"), list):
        raise BadPlan("The file is no tasks.json of Task Master: it has no list of tasks.")
    plan = Plan()
    for number, task in enumerate(content["tasks"], 1):
        own = _id(task, number)
        above = [str(other) for other in task.get("dependencies") or ()]
        waits = list(above)
        for place, part in enumerate(task.get("subtasks") or (), 1):
            name = f"{own}.{_id(part, place)}"
            # A number names a sibling; a text with a dot names any subtask, and one without a sibling too.
            siblings = [str(other) for other in part.get("dependencies") or ()]
            inner = [other if "." in other else f"{own}.{other}" for other in siblings]
            plan.tasks.append(_of_task_master(plan, name, part, [*inner, *above], task.get("priority")))
            waits.append(name)
        plan.tasks.append(_of_task_master(plan, own, task, waits, None))
    return _ordered(plan)


def memory(text: str) -> tuple[list[Known], list[str]]:
    """The entities of the reference memory server as notes, each with its observations and relations; and
    what has no place. Raises BadPlan."""
    entities: dict[str, tuple[str, list[str]]] = {}
    relations: dict[str, list[str]] = {}
    left_out: list[str] = []
    for number, item in _objects(text):
        match item.get("type"):
            case "entity":
                name, kind = str(item.get("name", "")), str(item.get("entityType", ""))
                seen = entities.setdefault(name, (kind, []))[1]
                seen += [str(words) for words in item.get("observations") or () if words not in seen]
            case "relation":
                ends = f"{item.get('relationType')} {item.get('to')}"
                relations.setdefault(str(item.get("from")), []).append(ends)
            case other:
                left_out.append(f"line {number}: {other!r} is neither an entity nor a relation")
    for name in [name for name in relations if name not in entities]:
        left_out += [f"{name} {ends}: there is no such entity" for ends in relations[name]]
    notes: dict[str, Known] = {}
    for name, (kind, observations) in entities.items():
        key = re.sub(r"[^A-Za-z0-9_. -]", "-", name).strip(" .-_")[:200].rstrip()
        if not key or key in notes:
            left_out.append(f"{name}: no key can be made of its name")
            continue
        lines = [f"{name} ({kind})" if kind else name, *(f"- {words}" for words in observations)]
        lines += [f"- {ends}" for ends in relations.get(name, ())]
        notes[key] = Known(key, "\n".join(lines), (kind,) if kind else ())
    return list(notes.values()), left_out


def _of_task_master(
    plan: Plan, name: str, task: dict[str, Any], waits: Sequence[str], inherited: str | None
) -> Work:
    parts = [("", "description"), ("Details", "details"), ("Test strategy", "testStrategy")]
    return Work(
        id=name,
        title=str(task.get("title", "")),
        description=_joined(task, parts),
        priority=TASK_MASTER_PRIORITIES.get(str(task.get("priority") or inherited or "medium"), 1),
        standing=_standing(plan, name, task.get("status", "pending"), TASK_MASTER),
        depends_on=list(waits),
    )


def _standing(plan: Plan, name: str, status: object, known: dict[str, Standing]) -> Standing:
    if status in IN_HAND:
        plan.left_out.append(f"{name}: {status} there; here it waits to be claimed")
    elif status not in known:
        plan.left_out.append(f"{name}: the status {status} is not known and counts as open")
    return known.get(str(status), "open")


def _joined(task: dict[str, Any], parts: Iterable[tuple[str, str]]) -> str:
    found = [(heading, str(task[name]).strip()) for heading, name in parts if task.get(name)]
    return "\n\n".join(f"{heading}: {words}" if heading else words for heading, words in found)


def _ordered(plan: Plan) -> Plan:
    """The plan with its dependencies on what it holds, each named once, those first that others wait for
    (A. B. Kahn: Topological Sorting of Large Networks, 1962). Raises BadPlan for a circle."""
    known = {work.id: work for work in plan.tasks}
    if len(known) < len(plan.tasks):
        raise BadPlan("The file has two tasks of one id.")
    for work in plan.tasks:
        missing = [other for other in work.depends_on if other not in known]
        plan.left_out += [f"{work.id}: waits for {other}, which is not in the file" for other in missing]
        work.depends_on = [other for other in dict.fromkeys(work.depends_on) if other in known]
    unmet = {work.id: len(work.depends_on) for work in plan.tasks}
    behind: dict[str, list[str]] = {name: [] for name in known}
    for work in plan.tasks:
        for other in work.depends_on:
            behind[other].append(work.id)
    ready = [name for name, count in unmet.items() if not count]
    for name in ready:
        for other in behind[name]:
            unmet[other] -= 1
            if not unmet[other]:
                ready.append(other)
    if len(ready) < len(known):
        circle = sorted(set(known) - set(ready))
        raise BadPlan(f"These tasks wait for each other in a circle: {', '.join(circle[:10])}.")
    plan.tasks = [known[name] for name in ready]
    return plan


def _id(task: Any, number: int) -> str:
    if not isinstance(task, dict) or not str(task.get("id", "")).strip():
        raise BadPlan(f"Entry {number} has no id.")
    return str(task["id"])


def _objects(text: str) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a file of lines, or of one list."""
    if text.lstrip().startswith("["):
        found = list(enumerate(_json(text), 1))
    else:
        lines = enumerate(text.split("\n"), 1)
        found = [(number, _json(line, number)) for number, line in lines if line.strip()]
    if any(not isinstance(item, dict) for _, item in found):
        raise BadPlan("The file holds something else than objects.")
    return found


def _json(text: str, number: int = 1) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise BadPlan(f"Line {number} is not JSON.") from None
