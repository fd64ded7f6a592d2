"""What a project knows, found: by words, and by use for those who have no words yet.

Notes and lessons are two tables and one search. What is wrong is never found, what is outdated comes later,
and what was returned because it matched counts as used.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from callboard import search
from callboard.clock import utc_text
from callboard.domains import projects
from callboard.store import Command, Row, Tx

Kind = Literal["knowledge", "collective_memory"]

MOST_CORE = 20
"""Core notes of a project."""

NOTES = search.source(
    "knowledge",
    index="_fts_knowledge",
    weights=(3.0, 1.0, 0.5),
    rows="knowledge AS k ON k.id = f.rowid",
    readable="""
        k.project_id = :project_id AND (:category IS NULL OR k.category = :category)
        AND (:source IS NULL OR :source IN (k.author, json_extract(k.metadata, '$.source')))
        AND (k.category <> 'episodic' OR k.updated_at >= :remembered_since)
        AND json_extract(k.metadata, '$.status') IS NOT 'wrong'
    """,
    id="k.id",
    title="k.key",
    body=1,
    at="k.updated_at",
    by="k.author",
    favour="""
        CASE json_extract(k.metadata, '$.status')
        WHEN 'deprecated' THEN 0.4 WHEN 'verified' THEN 1.1 ELSE 1.0 END
    """,
)
LESSONS = search.source(
    "collective_memory",
    index="_fts_collective_memory",
    weights=(3.0, 1.0, 0.5),
    rows="collective_memory AS c ON c.id = f.rowid",
    readable="""
        c.project_id IN (:project_id, '') AND (:category IS NULL OR c.category = :category)
        AND (:source IS NULL OR c.source = :source) AND (:key IS NULL OR c.key = :key)
        AND c.standing <> 'wrong'
    """,
    id="c.id",
    title="c.key",
    body=1,
    at="c.updated_at",
    by="c.source",
    favour="CASE c.standing WHEN 'outdated' THEN 0.4 WHEN 'confirmed' THEN 1.1 ELSE 1.0 END",
)
SOURCES = (NOTES, LESSONS)
"""Everything that a project knows, for a search over it; `readable` gives the parameters."""


def remembered_since(tx: Tx) -> str:
    """Since when what happened is still remembered; what is known stays."""
    return utc_text(tx.wall - timedelta(days=projects.setting(tx, "retention.episodic_days")))


def readable(
    tx: Tx,
    project_id: str,
    *,
    category: str | None = None,
    source: str | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """The parameters of `SOURCES` for who may read what this project knows."""
    return {
        "project_id": project_id,
        "category": category,
        "source": source,
        "key": key,
        "remembered_since": remembered_since(tx),
    }


class KnownRow(Row):
    """One thing that is known, from either table."""

    kind: Kind
    id: int
    category: str
    key: str
    text: str
    by: str
    at: str
    status: str
    use_count: int


KNOWN = """
    SELECT 'knowledge' AS kind, id, category, key, content AS text, author AS by, updated_at AS at,
           coalesce(json_extract(metadata, '$.status'), 'unverified') AS status, use_count
      FROM knowledge
"""
LEARNED = """
    SELECT 'collective_memory' AS kind, id, category, key, value AS text, source AS by, updated_at AS at,
           standing AS status, coalesce(use_count, 0) AS use_count
      FROM collective_memory
"""
SHOWN = {
    "knowledge": KnownRow.query(f"{KNOWN} WHERE id = :id"),
    "collective_memory": KnownRow.query(f"{LEARNED} WHERE id = :id"),
}
CORE = KnownRow.query(f"{KNOWN} WHERE project_id = :project_id AND category = 'core' ORDER BY id")
# What stood the test comes first, then what was of use most often, then the newest.
BEST = KnownRow.query(f"""
    SELECT * FROM ({KNOWN} WHERE project_id = :project_id AND category <> 'core'
                     AND (category <> 'episodic' OR updated_at >= :remembered_since)
                   UNION ALL
                   {LEARNED} WHERE project_id IN (:project_id, ''))
     WHERE status NOT IN ('wrong', 'deprecated', 'outdated')
     ORDER BY status IN ('verified', 'confirmed') DESC, use_count DESC, at DESC, kind, id DESC LIMIT :limit
""")
USED: Mapping[Kind, Command] = {
    "knowledge": Command("""
        UPDATE knowledge SET use_count = use_count + 1, last_used_at = :at
         WHERE id IN (SELECT value FROM json_each(:ids))
    """),
    "collective_memory": Command("""
        UPDATE collective_memory SET use_count = coalesce(use_count, 0) + 1, last_used_at = :at
         WHERE id IN (SELECT value FROM json_each(:ids))
    """),
}


class Known(NamedTuple):
    """Something that a project knows. `status` is the note's or, of a lesson, its standing."""

    kind: Kind
    id: int
    category: str
    key: str
    text: str
    by: str
    at: str
    status: str


def core_of(tx: Tx, project_id: str) -> list[Known]:
    """What people have told every agent of the project to know, in the order in which it was told."""
    return [_known(row) for row in tx.all(CORE, project_id=project_id)]


def best_for(tx: Tx, project_id: str, topic: str | None, limit: int) -> list[Known]:
    """The best that the project knows about a topic; without one, what was of use most. Core knowledge is
    not among it. Being told here does not count as use."""
    if topic is None:
        rows = tx.all(BEST, project_id=project_id, limit=limit, remembered_since=remembered_since(tx))
        return [_known(row) for row in rows]
    hits = search.run(tx, SOURCES, topic, limit + MOST_CORE, **readable(tx, project_id))
    return [known for known, _ in shown(tx, hits) if known.category != "core"][:limit]


def shown(tx: Tx, hits: Iterable[search.Hit]) -> list[tuple[Known, search.Hit]]:
    """What some hits stand for, in their order."""
    found = ((tx.one(SHOWN[hit.kind], id=int(hit.id)), hit) for hit in hits)
    return [(_known(row), hit) for row, hit in found if row is not None]


def used(tx: Tx, known: Iterable[Known]) -> None:
    """Count what was returned because it matched, in a transaction of its own: reading waits for no writer.
    What is lost with a crash is a count, and nothing else."""
    ids: dict[Kind, list[int]] = {}
    for one in known:
        ids.setdefault(one.kind, []).append(one.id)

    def count(tx: Tx) -> None:
        for kind, counted in ids.items():
            tx.run(USED[kind], ids=json.dumps(counted), at=tx.at)

    if ids:
        tx.afterwards(count)


def _known(row: KnownRow) -> Known:
    return Known(row.kind, row.id, row.category, row.key, row.text, row.by, row.at, row.status)
