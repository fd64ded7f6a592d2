"""Integrity: whether a store is whole, and says in every place what it says in another.

SQLite looks after pages, indices and references. What follows from other rows, and is kept beside them to be
found quickly, is computed anew here and compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import apsw

from callboard import audit, globs, schema

SHOWN = 10
"""Findings of one rule that are listed; damage in one place often shows in thousands."""

PAGES = "pages and indices"
"""The rule that SQLite itself holds the file to: where it is broken, nothing more is to be written."""

_DECIDED = "(r.status = 'confirmed' OR (r.status = 'recorded' AND r.needs_confirmation = 0))"

RULES: Mapping[str, str] = {
    "a task counts its unmet dependencies": f"""
        SELECT t.lead_id || ' ' || t.id FROM dag_tasks AS t
         WHERE t.unmet <>
               (SELECT count(*) FROM _task_edges AS e
                  JOIN dag_tasks AS d ON d.lead_id = e.lead_id AND d.id = e.dep_id
                 WHERE e.lead_id = t.lead_id AND e.task_id = t.id
                   AND d.dag_status NOT IN ('done', 'skipped') AND d.archived_at IS NULL)
             + (SELECT count(*) FROM _task_decisions AS e JOIN decisions AS r ON r.id = e.decision_id
                 WHERE e.lead_id = t.lead_id AND e.task_id = t.id AND NOT {_DECIDED})
    """,
    "a task counts its dependents": """
        SELECT t.lead_id || ' ' || t.id FROM dag_tasks AS t
         WHERE t.dependents <> (SELECT count(*) FROM _task_edges AS e
                                 WHERE e.lead_id = t.lead_id AND e.dep_id = t.id)
    """,
    "a task's status follows from its dependencies": """
        SELECT lead_id || ' ' || id FROM dag_tasks
         WHERE archived_at IS NULL
           AND (dag_status IN ('pending', 'blocked') AND unmet = 0
                OR dag_status = 'ready' AND unmet > 0 AND overridden_by IS NULL)
    """,
    "a task lists the dependencies that it has": """
        SELECT t.lead_id || ' ' || t.id FROM dag_tasks AS t
         WHERE t.depends_on <>
               (SELECT json_group_array(name)
                  FROM (SELECT dep_id AS name FROM _task_edges WHERE lead_id = t.lead_id AND task_id = t.id
                        UNION ALL
                        SELECT 'decision:' || decision_id FROM _task_decisions
                         WHERE lead_id = t.lead_id AND task_id = t.id
                        ORDER BY name))
    """,
    "the fence is not behind what was granted": """
        SELECT fence || ' of ' || file_path FROM _leases
         WHERE fence > (SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'store.fence')
        UNION ALL
        SELECT claim_epoch || ' of task ' || id FROM dag_tasks
         WHERE claim_epoch > (SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'store.fence')
    """,
}
"""Each rule with the statement that finds what breaks it."""

LEASES = "SELECT file_path, agent_id, mode FROM _leases"


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that does not hold, and where."""

    rule: str
    found: str


def examine(db: apsw.Connection, *, anchors: list[audit.Anchor] | None = None) -> list[Broken]:
    """Everything in a store that is not as it should be; at most a few places of each rule.

    It reads the whole store. Raises apsw errors for a store that cannot be read on.
    """
    try:
        pages = [str(line) for (line,) in db.execute(f"PRAGMA integrity_check({SHOWN})")]
    except apsw.SQLError as error:
        pages = [str(error)]  # the schema in the file is not one that SQLite can follow
    if pages != ["ok"]:
        return [Broken(PAGES, line) for line in pages]
    broken = [
        Broken("references", f"row {row} of {table} names none of {parent}")
        for table, row, parent, _ in db.execute("SELECT * FROM pragma_foreign_key_check LIMIT 10")
    ]
    if odd := schema.drift(db):
        return [*broken, *(Broken("schema", name) for name in odd[:SHOWN])]
    for rule, statement in RULES.items():
        broken += [Broken(rule, str(row[0])) for row in db.execute(f"{statement} LIMIT {SHOWN}")]
    broken += _overlaps(db)
    verdict = audit.verify(db, anchors or ())
    if verdict.problem is not None:
        broken.append(Broken("the ledger's chain", verdict.problem))
    return broken


def counts(db: apsw.Connection) -> dict[str, int]:
    """How many rows each table has."""
    return {table: int(db.execute(f'SELECT count(*) FROM "{table}"').get) for table in tables(db)}


def tables(db: apsw.Connection) -> list[str]:
    """The tables of the data model, without what full-text search and SQLite keep for themselves."""
    names = [str(name) for (name,) in db.execute("SELECT name FROM pragma_table_list WHERE type = 'table'")]
    return sorted(name for name in names if not name.startswith(("sqlite_", "_fts_")))


def _overlaps(db: apsw.Connection) -> list[Broken]:
    """Leases that meet another agent's, one of them exclusive. In the order of their prefixes, what a lease
    may meet stands in one line of prefixes of each other."""
    leases = []
    for path, agent, mode in db.execute(LEASES):
        project, _, pattern = str(path).partition(":")
        leases.append((project, globs.literal_prefix(pattern), pattern, str(agent), str(mode)))
    line: list[tuple[str, str, str, str, str]] = []
    found: list[Broken] = []
    for lease in sorted(leases):
        project, prefix, pattern, agent, mode = lease
        line = [above for above in line if above[0] == project and prefix.startswith(above[1])]
        for _, _, other, holder, kind in line:
            if "exclusive" in (mode, kind) and holder != agent and globs.overlaps(pattern, other):
                found.append(Broken("leases do not overlap", f"{other} of {holder}, {pattern} of {agent}"))
        line.append(lease)
    return found[:SHOWN]
