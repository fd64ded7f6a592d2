"""Adding tasks to the graph, and changing what they say."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from callboard import text
from callboard.domains import projects
from callboard.domains.roster import roles
from callboard.domains.tasks import dependencies
from callboard.domains.tasks.dependencies import DECISION, circle, named, twice
from callboard.domains.tasks.deriving import Derived, derive
from callboard.domains.tasks.network import circle_within
from callboard.domains.tasks.task import COLUMNS, TASK, Task, TaskExists, enter, find, invalid, record, tell
from callboard.errors import Conflict, InvalidArguments, QuotaExceeded, TooLarge
from callboard.identity import Caller
from callboard.params import (
    DependsOn,
    Description,
    Model,
    Priority,
    RepoPath,
    RoleId,
    TaskFiles,
    TaskId,
    TeamId,
    Title,
    Version,
)
from callboard.store import Row, Tx
from callboard.tool import Result, tool

MOST_TASKS = 200_000
"""Tasks that one crew may have, archived ones included."""

FILES_BYTES = 24 * 1024

SHOWN = 100
"""Ids that one answer lists at most; beyond it a count says how many there are."""

ADD = Task.query(f"""
    INSERT INTO dag_tasks
           (id, lead_id, project_id, team_id, role, title, description, files, dag_status, priority, model,
            created_at, seq, search_words)
    VALUES (:id, :lead_id, :project_id, :team_id, :role, :title, :description, :files, 'pending', :priority,
            :model, :at, (SELECT coalesce(max(seq), 0) + 1 FROM dag_tasks), :search_words)
    RETURNING {COLUMNS}
""")
ANEW = Task.query(f"""
    UPDATE dag_tasks
       SET project_id = :project_id, team_id = :team_id, role = :role, title = :title,
           description = :description, files = :files, priority = :priority, model = :model,
           created_at = :at, seq = (SELECT max(seq) + 1 FROM dag_tasks), search_words = :search_words,
           version = version + 1
     WHERE id = :id AND lead_id = :lead_id AND archived_at IS NOT NULL
    RETURNING {COLUMNS}
""")
UPDATE = Task.query(f"""
    UPDATE dag_tasks
       SET title = :title, description = :description, files = :files, priority = :priority, role = :role,
           model = :model, search_words = :search_words, version = version + 1
     WHERE id = :id AND lead_id = :lead_id AND version = :version
    RETURNING {COLUMNS}
""")


class Counted(Row):
    number: int


NEWEST = Counted.query("SELECT coalesce(max(seq), 0) AS number FROM dag_tasks")
COUNT = Counted.query("SELECT count(*) AS number FROM dag_tasks WHERE lead_id = :lead_id")


class NewTask(BaseModel):
    """One task of a batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: TaskId
    role: RoleId
    title: Title | None = None
    description: Description = ""
    depends_on: DependsOn = []
    files: TaskFiles = []
    priority: Priority = 0
    model: Model | None = None
    team_id: TeamId = "default"


class Added(Result):
    task_id: str
    dag_status: str
    depends_on: list[str]


class AddedAll(Result):
    count: int
    ready: list[str] = Field(description="Those that can be claimed now")
    blocked: list[str] | None = None
    ready_count: int


class TaskText(Result):
    task_id: str
    dag_status: str
    version: int


@tool(writes=True, who="lead", profile="core")
def add_dag_task(
    tx: Tx,
    caller: Caller,
    id: TaskId,  # noqa: A002 - the column's and the catalogue's name
    role: RoleId,
    title: Title | None = None,
    description: Description = "",
    depends_on: DependsOn | None = None,
    files: TaskFiles | None = None,
    priority: Priority = 0,
    model: Model | None = None,
    team_id: TeamId = "default",
) -> Added:
    """Add a task to your crew's graph, ready once what it depends on is done.

    Name the files it will change, to keep others off them.
    """
    task = NewTask(
        id=id,
        role=role,
        title=title,
        description=description,
        depends_on=depends_on or [],
        files=files or [],
        priority=priority,
        model=model,
        team_id=team_id,
    )
    add_all(tx, caller, [task])
    added = find(tx, caller.lead_id, id)
    return Added(task_id=id, dag_status=added.dag_status, depends_on=added.names_its_dependencies)


@tool(writes=True, who="lead", profile="lead")
def add_dag_tasks(
    tx: Tx,
    caller: Caller,
    tasks: Annotated[list[NewTask], Field(min_length=1, max_length=500, description="The tasks")],
) -> AddedAll:
    """Add up to 500 tasks with their dependencies on each other, in any order: all of them or none.

    Refused like add_dag_task; a cycle is named by its path.
    """
    return add_all(tx, caller, tasks)


def add_all(tx: Tx, caller: Caller, tasks: Sequence[NewTask]) -> AddedAll:
    """Add tasks in one go. Nobody depends on a new task yet, so only among themselves could they close a
    circle. Raises TaskExists, UnknownTask, Cycle, NotFound, InvalidArguments, QuotaExceeded."""
    _check(tx, caller, tasks)
    for task in tasks:
        _add(tx, caller, task)
    for task in tasks:
        dependencies.add_rows(tx, caller.lead_id, task.id, task.depends_on)
        dependencies.render(tx, caller.lead_id, task.id)
    found = derive(tx, caller.lead_id, [task.id for task in tasks], itself=True)
    for task in tasks:
        added = find(tx, caller.lead_id, task.id)
        tell(
            tx, added, "task_added", f"added {added.called}", role=added.role, depends_on=task.depends_on[:20]
        )
    return _added(found, len(tasks))


def _added(found: Derived, count: int) -> AddedAll:
    return AddedAll(
        count=count,
        ready=found.ready[:SHOWN],
        ready_count=len(found.ready),
        blocked=found.blocked[:SHOWN] or None,
    )


def _check(tx: Tx, caller: Caller, tasks: Sequence[NewTask]) -> None:
    lead_id = caller.lead_id
    edges: dict[str, list[str]] = {}
    for task in tasks:
        if task.id.startswith(DECISION):
            rule = f"must not begin with {DECISION}"
            raise InvalidArguments(f"id {rule}.", fields=[{"field": "id", "rule": rule}])
        if task.id in edges:
            raise TaskExists(f"The batch has two tasks {task.id}.", task_id=task.id)
        twice(task.depends_on, "depends_on")
        edges[task.id] = list(task.depends_on)
        existing = tx.one(TASK, id=task.id, lead_id=lead_id)
        if existing is not None and existing.archived_at is None:
            raise TaskExists(
                f"There is a task {task.id} already; it is {existing.dag_status}.",
                hint="Choose another id, or change it with update_dag_task.",
                task_id=task.id,
                status=existing.dag_status,
            )
    for role in dict.fromkeys(task.role for task in tasks):
        roles.get(tx, role)
    if (walk := circle_within(edges)) is not None:
        raise circle(walk)
    within = frozenset(edges)
    for task in tasks:
        named(tx, lead_id, task.depends_on, within=within)
    # Counting costs; while the whole store has fewer tasks than one crew may have, there is no need.
    newest = tx.one(NEWEST)
    if newest is not None and newest.number + len(tasks) > MOST_TASKS:
        count = tx.one(COUNT, lead_id=lead_id)
        if count is not None and count.number + len(tasks) > MOST_TASKS:
            raise QuotaExceeded(
                f"A crew has at most {MOST_TASKS} tasks.", quota="tasks", used=count.number, limit=MOST_TASKS
            )


def _add(tx: Tx, caller: Caller, task: NewTask) -> None:
    """Write one task without its edges, in the row of an archived one of the same id if there is one."""
    if task.model is not None:
        projects.check_model(tx, caller.project_id, task.role, task.model, operation="add_dag_task")
    values: dict[str, Any] = {
        "id": task.id,
        "lead_id": caller.lead_id,
        "project_id": caller.project_id,
        "team_id": task.team_id,
        "role": task.role,
        "title": task.title,
        "description": task.description,
        "files": _rendered(task.files),
        "priority": task.priority,
        "model": task.model,
        "search_words": _words(task.id, task.title, task.description, task.files),
        "at": tx.at,
    }
    archived = tx.one(TASK, id=task.id, lead_id=caller.lead_id)
    if archived is None:
        added = tx.one(ADD, **values)
        assert added is not None
        record(tx, added, "add", None, actor=caller.agent_id)
        return
    dependencies.forget(tx, caller.lead_id, task.id)
    anew = tx.one(ANEW, **values)
    assert anew is not None
    fresh = dict.fromkeys(
        (
            "assigned_agent_id", "failure_reason", "started_at", "completed_at", "archived_at",
            "overridden_by", "reviewer_id", "result_digest",
        )
    )  # fmt: skip
    enter(tx, anew, "add", "pending", actor=caller.agent_id, reason="its id begins anew", **fresh, attempts=0)


def _rendered(files: Sequence[RepoPath]) -> str:
    """A task's files as they are stored. Raises TooLarge: whoever claims the task is told all of them."""
    rendered = json.dumps(list(dict.fromkeys(str(path) for path in files)), ensure_ascii=False)
    if (size := len(rendered.encode())) > FILES_BYTES:
        raise TooLarge(
            f"files has {size} bytes; at most {FILES_BYTES} are taken.",
            hint="Name directories or globs instead of their files.",
            field="files",
            size=size,
            limit=FILES_BYTES,
            unit="bytes",
        )
    return rendered


def _words(task_id: str, title: str | None, description: str, files: Sequence[str]) -> str:
    return text.index_words(f"{title or ''} {description}", beside=" ".join([task_id, *files]))


@tool(writes=True, who="lead", profile="lead")
def update_dag_task(
    tx: Tx,
    caller: Caller,
    task_id: TaskId,
    title: Title | None = None,
    description: Description | None = None,
    files: TaskFiles | None = None,
    priority: Priority | None = None,
    role: RoleId | None = None,
    model: Model | None = None,
    expected_version: Version | None = None,
) -> TaskText:
    """Change a task's title, description, files, priority, role or model; what you leave out stays.

    With expected_version it is refused with conflict when somebody changed the task since you read it.
    """
    task = find(tx, caller.lead_id, task_id)
    if task.archived_at is not None:
        raise invalid(task, "update_dag_task")
    if expected_version is not None and expected_version != task.version:
        raise Conflict(
            f"{task_id} has version {task.version} now.",
            hint="Read it again with get_dag_task.",
            kind="task",
            expected=expected_version,
            current=task.version,
        )
    if role is not None:
        roles.get(tx, role)
    changed: dict[str, Any] = {
        "title": title if title is not None else task.title,
        "description": description if description is not None else task.description,
        "files": _rendered(files) if files is not None else task.files,
        "priority": priority if priority is not None else task.priority,
        "role": role or task.role,
        "model": model or task.model,
    }
    if changed["model"] is not None and (role is not None or model is not None):
        projects.check_model(
            tx, caller.project_id, changed["role"], changed["model"], operation="update_dag_task"
        )
    words = _words(task_id, changed["title"], changed["description"], json.loads(changed["files"]))
    updated = tx.one(
        UPDATE, **changed, search_words=words, id=task_id, lead_id=task.lead_id, version=task.version
    )
    assert updated is not None
    fields = [name for name, value in changed.items() if value != getattr(task, name)]
    tell(
        tx,
        updated,
        "task_updated",
        f"changed {updated.called}: {', '.join(fields) or 'nothing'}",
        fields=fields,
    )
    return TaskText(task_id=task_id, dag_status=updated.dag_status, version=updated.version)
