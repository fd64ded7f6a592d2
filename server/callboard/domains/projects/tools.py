"""The tools by which projects are made, listed and changed.

Anybody may set up a project; who oversees its decisions and which models it takes are people's to say, at
its making too.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard.domains.projects import sessions
from callboard.domains.projects.project import COLUMNS, IN_FOLDER, Project, get, oversight_of
from callboard.domains.projects.sessions import SessionView
from callboard.errors import (
    Conflict,
    Forbidden,
    HumanRequired,
    InvalidArguments,
    InvalidTransition,
    TooLarge,
)
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import (
    KEBAB_CASE,
    NAME_CHARACTERS,
    AfterName,
    Description,
    Folder,
    Limit,
    Object,
    ProjectFolder,
    ProjectId,
    ProjectName,
    Version,
)
from callboard.repository import slug
from callboard.store import Command, Row, Tx
from callboard.tool import Result, fitted, tool

Status = Literal["active", "completed", "archived"]
Oversight = Literal["supervised", "balanced", "autonomous"]

ALLOWED: Mapping[Status, frozenset[Status]] = {
    "active": frozenset({"completed", "archived"}),
    "completed": frozenset({"active", "archived"}),
    "archived": frozenset({"active"}),
}
"""Where each status leads."""

SHORT_IDS = 5
"""So many ids with six hexadecimal digits are tried before one gets twelve."""

RULES_BYTES = 8 * 1024
SESSIONS_SHOWN = 20

# A pydantic model cannot have a field of this name; the wire has it, as the column does.
ModelRules = Annotated[Object | None, Field(alias="model_config", description="Role to list of models")]
OversightLevel = Annotated[Oversight, Field(description="Oversight")]


class Taken(Row):
    id: str


class StatusCount(Row):
    status: str
    tasks: int


TAKEN = Taken.query("""
    SELECT id FROM projects WHERE id = :id
    UNION ALL SELECT agent_id FROM agent_roster WHERE agent_id = :id LIMIT 1
""")
CREATE = Command("""
    INSERT INTO projects (id, name, description, cwd, model_config, oversight_level, created_at, updated_at)
    VALUES (:id, :name, :description, :cwd, :model_rules, :oversight_level, :at, :at)
""")
UPDATE = Command("""
    UPDATE projects
       SET name = :name, description = :description, cwd = :cwd, status = :status,
           model_config = :model_rules, oversight_level = :oversight_level, updated_at = :at,
           version = version + 1
     WHERE id = :id
""")
PROJECTS = Project.query(f"""
    SELECT {COLUMNS} FROM projects
     WHERE id > :after AND (:status IS NULL OR status = :status) ORDER BY id LIMIT :limit
""")
TASKS = StatusCount.query("""
    SELECT dag_status AS status, count(*) AS tasks FROM dag_tasks
     WHERE project_id = :project_id AND archived_at IS NULL AND (:every_crew OR lead_id = :lead_id)
     GROUP BY dag_status ORDER BY dag_status
""")


class ProjectView(Result):
    project_id: str
    name: str
    description: str | None = None
    cwd: str | None = Field(default=None, description="Its repository's main worktree")
    status: Status
    oversight_level: Oversight = Field(description="As it applies: its own, else the store's setting")
    model_rules: dict[str, list[str]] | None = Field(
        default=None, serialization_alias="model_config", description="Role to the models it may use"
    )
    version: int
    created_at: str
    updated_at: str


class ProjectDetails(ProjectView):
    tasks: dict[str, int] = Field(description="Your crew's, by status; every crew's for a human")
    sessions: list[SessionView] = Field(description="Live ones by their start")


class ProjectPage(Result):
    projects: list[ProjectView]
    next_after_id: str | None = None


@tool(writes=True)
def create_project(
    tx: Tx,
    caller: Caller,
    name: ProjectName,
    description: Description = "",
    cwd: ProjectFolder | None = None,
    model_rules: ModelRules = None,
    oversight_level: OversightLevel | None = None,
) -> ProjectView:
    """Set up a project; the server's own repository has one already.

    conflict names the one in cwd. model_config, oversight_level: human_required.
    """
    _check_human(caller, "create_project", model_rules, oversight_level)
    rendered = _rendered(tx, model_rules or {})
    _check_folder(tx, cwd, None)
    project_id = _new_id(tx, name, cwd)
    tx.run(
        CREATE,
        id=project_id,
        name=name,
        description=description,
        cwd=cwd,
        model_rules=rendered,
        oversight_level=oversight_level,
        at=tx.at,
    )
    details = _told({"cwd": cwd, "model_config": model_rules, "oversight_level": oversight_level})
    _tell(tx, "project_created", f"set up project {name}", project_id, {"name": name} | details)
    return _view(tx, get(tx, project_id))


@tool()
def list_projects(
    tx: Tx,
    caller: Caller,
    status: Annotated[Status | None, Field(description="Only these")] = None,
    limit: Limit = 50,
    after_id: AfterName | None = None,
) -> ProjectPage:
    """List the store's projects, to find the project_id to register with.

    get_project tells more of one.
    """
    rows = tx.all(PROJECTS, status=status, after=after_id or "", limit=limit + 1)
    shown, more = fitted([_view(tx, row) for row in rows], limit)
    return ProjectPage(projects=shown, next_after_id=shown[-1].project_id if more else None)


@tool()
def get_project(tx: Tx, caller: Caller, project_id: ProjectId | None = None) -> ProjectDetails:
    """Look at a project: status, oversight, models, tasks by status, live sessions.

    Other projects show no tasks and sessions.
    """
    found = get(tx, project_id or caller.project_id)
    whole = caller.reads_all_crews
    inside = caller.kind == "human" or found.id == caller.project_id
    counts = tx.all(TASKS, project_id=found.id, lead_id=caller.lead_id, every_crew=whole) if inside else []
    return ProjectDetails(
        **_view(tx, found).model_dump(),
        tasks={row.status: row.tasks for row in counts},
        sessions=sessions.live_in(tx, found.id, SESSIONS_SHOWN) if inside else [],
    )


@tool(writes=True, idempotent=True, who="lead")
def update_project(
    tx: Tx,
    caller: Caller,
    project_id: ProjectId | None = None,
    name: ProjectName | None = None,
    description: Description | None = None,
    cwd: ProjectFolder | None = None,
    status: Annotated[Status | None, Field(description="New status")] = None,
    model_rules: ModelRules = None,
    oversight_level: OversightLevel | None = None,
    expected_version: Version | None = None,
) -> ProjectView:
    """Change, archive or reopen a project; what you leave out stays.

    invalid_transition: a session is live. model_config, oversight_level: human_required.
    """
    _check_human(caller, "update_project", model_rules, oversight_level)
    found = get(tx, project_id or caller.project_id)
    if caller.kind != "human" and found.id != caller.project_id:
        raise Forbidden(
            f"{found.id} is not your project.",
            operation="update_project",
            needs="a lead of that project",
            caller_kind=caller.kind,
        )
    if expected_version is not None and expected_version != found.version:
        raise Conflict(
            f"{found.id} has version {found.version}.",
            hint="Read it again with get_project.",
            kind="project",
            expected=expected_version,
            current=found.version,
        )
    if status is not None and status != found.status:
        _check_transition(tx, found, status)
    if status == "active" or cwd is not None:
        _check_folder(tx, cwd or found.cwd, found.id)
    before = {
        "name": found.name,
        "description": found.description,
        "cwd": found.cwd,
        "status": found.status,
        "model_config": json.loads(found.model_rules),
        "oversight_level": found.oversight_level,
    }
    given = {
        "name": name,
        "description": description,
        "cwd": str(cwd) if cwd else None,
        "status": status,
        "model_config": model_rules,
        "oversight_level": oversight_level,
    }
    changes = {key: value for key, value in given.items() if value is not None and value != before[key]}
    if changes:
        after = before | changes
        tx.run(
            UPDATE,
            id=found.id,
            name=after["name"],
            description=after["description"],
            cwd=after["cwd"],
            status=after["status"],
            model_rules=_rendered(tx, after["model_config"]),
            oversight_level=after["oversight_level"],
            at=tx.at,
        )
        _tell(
            tx,
            "project_updated",
            f"changed {', '.join(changes)} of project {after['name']}",
            found.id,
            {"old": {key: before[key] for key in changes}, "new": changes},
        )
    return _view(tx, get(tx, found.id))


def _check_human(caller: Caller, operation: str, *human_only: object) -> None:
    """Refuse an agent what people set. Raises HumanRequired."""
    if caller.kind != "human" and any(value is not None for value in human_only):
        raise HumanRequired(
            "Only a human sets model_config and oversight_level.",
            operation=operation,
            hint="Leave them out, and ask a human.",
        )


def _check_transition(tx: Tx, found: Project, status: Status) -> None:
    """Refuse a status that the present one does not lead to. Raises InvalidTransition."""
    if status not in ALLOWED[found.status]:
        raise InvalidTransition(
            f"{found.id} is {found.status}; it cannot become {status}.",
            status=found.status,
            action=status,
            allowed=sorted(ALLOWED[found.status]),
        )
    if status == "active":
        return
    sessions.lapse(tx)
    if live := sessions.live_in(tx, found.id, SESSIONS_SHOWN):
        raise InvalidTransition(
            f"{found.id} has live sessions; it cannot become {status}.",
            hint="end_project_session first.",
            status=found.status,
            action=status,
            session_row_ids=[session.session_row_id for session in live],
        )


def _check_folder(tx: Tx, cwd: str | None, own: str | None) -> None:
    """Refuse a folder in which another project works. Raises Conflict."""
    other = tx.one(IN_FOLDER, cwd=cwd) if cwd is not None else None
    if other is not None and other.id != own:
        raise Conflict(
            f"The project {other.id} works in {cwd}.",
            hint="Use that one, or archive it first.",
            kind="project",
            project_id=other.id,
        )


def _rendered(tx: Tx, rules: Mapping[str, Any]) -> str:
    """Model rules as they are stored. Raises InvalidArguments, TooLarge."""
    for role, models in rules.items():
        if not KEBAB_CASE.fullmatch(role):
            raise _invalid(f"model_config.{role}"[:NAME_CHARACTERS], "must be a role id")
        if not (isinstance(models, list) and models and all(_is_name(model) for model in models)):
            raise _invalid(f"model_config.{role}", "must be a list of model names")
    rendered = json.dumps(rules, ensure_ascii=False, sort_keys=True)
    if (size := len(rendered.encode())) > RULES_BYTES:
        raise TooLarge(
            f"model_config has {size} bytes; at most {RULES_BYTES} are taken.",
            field="model_config",
            size=size,
            limit=RULES_BYTES,
            unit="bytes",
        )
    return rendered


def _is_name(model: object) -> bool:
    return isinstance(model, str) and bool(model.strip()) and len(model) <= NAME_CHARACTERS


def _invalid(field: str, rule: str) -> InvalidArguments:
    return InvalidArguments(f"{field} {rule}", fields=[{"field": field, "rule": rule}])


def _new_id(tx: Tx, name: str, cwd: Folder | None) -> str:
    """The id of a new project: its folder's own, so that a server there finds it; else one of its name.

    A crew without a lead has its project's id, so no project has the id of an agent either.
    """
    if cwd is not None and tx.one(TAKEN, id=cwd.project_id) is None:
        return cwd.project_id
    for size in (3,) * SHORT_IDS + (6, 12):
        project_id = f"{slug(name)}-{tx.ids(size)}"
        if tx.one(TAKEN, id=project_id) is None:
            return project_id
    raise RuntimeError("no free project id was found")


def _told(values: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _tell(tx: Tx, kind: str, said: str, project_id: str, details: Mapping[str, object]) -> None:
    tx.tell(Event("projects", kind, said, subject=project_id, details=details, project_id=project_id))


def _view(tx: Tx, project: Project) -> ProjectView:
    return ProjectView(
        project_id=project.id,
        name=project.name,
        description=project.description or None,
        cwd=project.cwd,
        status=project.status,
        oversight_level=project.oversight_level or oversight_of(tx, project.id),
        model_rules=json.loads(project.model_rules) or None,
        version=project.version,
        created_at=project.created_at,
        updated_at=project.updated_at,
    )
