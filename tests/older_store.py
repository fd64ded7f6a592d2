"""A store of a version before the first, and the step from it: what the machinery of migrations is tried with
while no other version was ever released.

Its notes have a column that was given up, so that the step makes the table anew and takes every row over, as
SQLite asks of a change of a table's form.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from callboard import schema
from tests.rows import put
from tests.starting import connect, prepare

VERSION = -1
NOTES = "SELECT id, lead_id, agent_id, key, value, created_at, updated_at FROM agent_memory ORDER BY id"
LOCKS = "SELECT file_path, agent_id, fence FROM file_locks ORDER BY file_path"
COUNT = 400


def make(path: Path) -> None:
    """A store of that version at `path`, with many notes and a lock."""
    prepare(path)
    with closing(connect(path)) as db:
        db.execute("BEGIN")
        for number in range(COUNT):
            put(db, "agent_memory", key=f"key {number}", value="what I know " * 20)
        put(db, "file_locks", file_path="root:a.py", fence=7)
        db.execute("UPDATE settings SET value = '7' WHERE key = 'store.fence'")
        db.execute("ALTER TABLE agent_memory ADD COLUMN shelf TEXT NOT NULL DEFAULT 'none'")
        db.execute("DROP INDEX idx_agent_memory_lead")
        db.pragma("user_version", VERSION)
        db.execute("COMMIT")


def forward(db: apsw.Connection) -> None:
    """The step to the version after it."""
    db.execute("ALTER TABLE agent_memory RENAME TO old_memory")
    for name in ("idx_agent_memory_agent", "idx_agent_memory_unique"):
        db.execute(f"DROP INDEX {name}")
    for statement in schema.statements():
        if " agent_memory " in statement.split("(")[0] + " " or "ON agent_memory (" in statement:
            db.execute(statement)
    db.execute(f"INSERT INTO agent_memory {NOTES.replace('agent_memory', 'old_memory')}")
    db.execute("DROP TABLE old_memory")
    db.pragma("user_version", schema.VERSION)


def contents(path: Path) -> tuple[list[Any], ...]:
    """What must outlive the step."""
    with closing(apsw.Connection(str(path))) as db:
        return tuple(list(db.execute(sql)) for sql in (NOTES, LOCKS))
