"""A project as the store keeps it: the repository it stands for, who oversees it, which models it takes."""

import json
from pathlib import Path
from typing import Literal

from callboard import text
from callboard.domains.projects.settings import setting
from callboard.errors import Forbidden, NotFound
from callboard.events import Event
from callboard.store import Command, Row, Tx

Oversight = Literal["supervised", "balanced", "autonomous"]
Status = Literal["active", "completed", "archived"]


class Project(Row):
    id: str
    name: str
    description: str
    cwd: str | None
    status: Status
    model_rules: str
    oversight_level: Oversight | None
    created_at: str
    updated_at: str
    version: int


COLUMNS = """
    id, name, coalesce(description, '') AS description, cwd, status,
    coalesce(model_config, '{}') AS model_rules, oversight_level, created_at, updated_at, version
"""
PROJECT = Project.query(f"SELECT {COLUMNS} FROM projects WHERE id = :project_id")
IN_FOLDER = Project.query(f"SELECT {COLUMNS} FROM projects WHERE cwd = :cwd AND status <> 'archived'")


class Known(Row):
    id: str


NAMES = Known.query("SELECT id FROM projects ORDER BY id LIMIT 1000")
ENSURE = Command("""
    INSERT INTO projects (id, name, cwd, created_at, updated_at)
    VALUES (:project_id, :name, :cwd, :at, :at)
    ON CONFLICT (id) DO NOTHING
""")


def ensure_project(tx: Tx, *, project_id: str, name: str, root: Path) -> str:
    """The id of the project that works in a repository: one that was set up there or moved there, else the
    one that the repository stands for by itself, made on its first use."""
    if (there := tx.one(IN_FOLDER, cwd=str(root))) is not None:
        return there.id
    if tx.run(ENSURE, project_id=project_id, name=name, cwd=str(root), at=tx.at):
        tx.tell(
            Event(
                "projects",
                "project_created",
                f"project {name} came into being",
                subject=project_id,
                project_id=project_id,
            )
        )
    return project_id


def get(tx: Tx, project_id: str) -> Project:
    """A project. Raises NotFound with near names."""
    project = tx.one(PROJECT, project_id=project_id)
    if project is None:
        near = text.nearest(project_id, [row.id for row in tx.all(NAMES)])
        raise NotFound(
            f"There is no project {project_id}.",
            hint=f"Did you mean {near[0]}?" if near else "See list_projects.",
            kind="project",
            given=project_id,
            near=near or None,
        )
    return project


def folder_of(tx: Tx, project_id: str) -> Path | None:
    """Where the project's repository lies; None when that is not known."""
    found = tx.one(PROJECT, project_id=project_id)
    return Path(found.cwd) if found and found.cwd else None


def oversight_of(tx: Tx, project_id: str) -> Oversight:
    """Who confirms the decisions of a project: what a human set for it, else what the store's setting is."""
    found = tx.one(PROJECT, project_id=project_id)
    own = found.oversight_level if found else None
    level: Oversight = own or setting(tx, "oversight.level")
    return level


def models_of(tx: Tx, project_id: str, role: str) -> list[str] | None:
    """The models that a role may use in a project; None where the project does not limit them."""
    found = tx.one(PROJECT, project_id=project_id)
    rules: dict[str, list[str]] = json.loads(found.model_rules) if found else {}
    return rules.get(role)


def check_model(tx: Tx, project_id: str, role: str, model: str, *, operation: str) -> None:
    """Refuse a model that the project does not take for a role. Raises Forbidden."""
    models = models_of(tx, project_id, role)
    if models is not None and model not in models:
        raise Forbidden(
            f"A {role} of this project works with {' or '.join(models)}, not with {model}.",
            operation=operation,
            needs="one of these models",
            models=models,
            hint="Pass the model that you are, or take another role; people set these rules.",
        )
