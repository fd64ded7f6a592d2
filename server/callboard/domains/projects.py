"""Projects: a repository under coordination.

A project comes into being when a server first runs in its repository, so that nothing has to be set
up by hand.
"""

import json
from pathlib import Path
from typing import Any

from callboard.events import Event
from callboard.store import Command, Row, Tx

ENSURE = Command("""
    INSERT INTO projects (id, name, cwd, created_at, updated_at)
    VALUES (:project_id, :name, :cwd, :at, :at)
    ON CONFLICT (id) DO NOTHING
""")


SET = Command("""
    INSERT INTO settings (key, value, updated_at, updated_by) VALUES (:key, :value, :at, :by)
    ON CONFLICT (key) DO UPDATE
       SET value = excluded.value, version = settings.version + 1, updated_at = excluded.updated_at,
           updated_by = excluded.updated_by
""")


class Folder(Row):
    cwd: str | None


FOLDER = Folder.query("SELECT cwd FROM projects WHERE id = :project_id")


def ensure_project(tx: Tx, *, project_id: str, name: str, root: Path) -> None:
    """The project of a repository, made on its first use."""
    if tx.run(ENSURE, project_id=project_id, name=name, cwd=str(root), at=tx.at):
        tx.tell(
            Event(
                "roster",
                "project_created",
                f"project {name} came into being",
                subject=project_id,
                project_id=project_id,
            )
        )


def set_setting(tx: Tx, key: str, value: object, *, by: str | None = None) -> None:
    """Store one value of the configuration."""
    tx.run(SET, key=key, value=json.dumps(value), at=tx.at, by=by)
    tx.tell(
        Event("settings", "setting_changed", f"set {key} to {value}", subject=key, details={"value": value})
    )


def folder_of(tx: Tx, project_id: str) -> Path | None:
    """Where the project's repository lies; None when that is not known."""
    found = tx.one(FOLDER, project_id=project_id)
    return Path(found.cwd) if found and found.cwd else None


TOOLS: tuple[Any, ...] = ()
