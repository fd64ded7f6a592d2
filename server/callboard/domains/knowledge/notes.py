"""Notes: what a project knows, by category and key, with every earlier value.

The one idea: nothing is cut and nothing is lost. A note that is too long is refused, a note that is
overwritten, deleted or evicted keeps its last value in the table of versions, and whoever writes one too
many is told which other one went.

Each category holds so many notes; `core` is people's, and full is full. Elsewhere the least useful note
goes, in the transaction of the one that comes. Less useful is, in this order: what is wrong, then what is
deprecated; what nobody wrote or used for a week; what was used less often; what its author was less sure
of (half sure where nothing is said); what was verified by nobody; what was written or used longer ago; the
older note. The new note itself stays.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard import text
from callboard.clock import utc_text
from callboard.domains.knowledge.finding import MOST_CORE, remembered_since
from callboard.domains.messages import Quotes
from callboard.domains.roster.agents import merged
from callboard.errors import Conflict, HumanRequired, InvalidArguments, NotFound, QuotaExceeded
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import MemoryText, NoteKey, Object, Version
from callboard.store import Command, Row, Tx
from callboard.tool import Result, tool

Category = Annotated[Literal["core", "episodic", "procedural", "semantic"], Field(description="Kind")]
MOST: Mapping[str, int] = {"core": MOST_CORE, "episodic": 100, "procedural": 200, "semantic": 500}
"""Notes of one project in each category."""

IDLE_DAYS = 7
METADATA_CHARACTERS = 1_000
STATUSES = ("unverified", "verified", "deprecated", "wrong")


class Note(Row):
    id: int
    category: str
    key: str
    content: str
    metadata: str | None
    author: str
    version: int
    created_at: str
    updated_at: str
    use_count: int


class Old(Row):
    category: str
    key: str
    content: str
    metadata: str | None
    author: str
    version: int
    replaced_at: str


class Number(Row):
    number: int


class Key(Row):
    key: str


COLUMNS = ", ".join(Note.columns())
OLD_COLUMNS = ", ".join(Old.columns())
NOTE = Note.query(f"""
    SELECT {COLUMNS} FROM knowledge
     WHERE project_id = :project_id AND category = :category AND key = :key
       AND (category <> 'episodic' OR updated_at >= :remembered_since)
""")
KEYS = Key.query("SELECT key FROM knowledge WHERE project_id = :project_id AND category = :category")
LAST_VERSION = Number.query("""
    SELECT coalesce(max(version), 0) AS number FROM _knowledge_versions
     WHERE project_id = :project_id AND category = :category AND key = :key
""")
EARLIER = Old.query(f"""
    SELECT {OLD_COLUMNS} FROM _knowledge_versions
     WHERE project_id = :project_id AND category = :category AND key = :key AND version = :version
""")
HISTORY = Old.query(f"""
    SELECT {OLD_COLUMNS} FROM _knowledge_versions
     WHERE project_id = :project_id AND category = :category AND key = :key ORDER BY version DESC LIMIT 20
""")
PUT = Note.query(f"""
    INSERT INTO knowledge
           (project_id, category, key, content, metadata, author, version, created_at, updated_at,
            search_words)
    VALUES (:project_id, :category, :key, :content, :metadata, :author, :version, :at, :at, :search_words)
    ON CONFLICT (project_id, category, key) DO UPDATE
       SET content = excluded.content, metadata = excluded.metadata, author = excluded.author,
           version = excluded.version, updated_at = excluded.updated_at, search_words = excluded.search_words
    RETURNING {COLUMNS}
""")
KEEP = Command("""
    INSERT INTO _knowledge_versions
           (project_id, category, key, version, content, metadata, author, replaced_at)
    SELECT project_id, category, key, version, content, metadata, author, :at FROM knowledge WHERE id = :id
""")
DELETE = Command("DELETE FROM knowledge WHERE id = :id")
FORGOTTEN = Note.query(f"""
    SELECT {COLUMNS} FROM knowledge
     WHERE project_id = :project_id AND category = 'episodic' AND updated_at < :remembered_since
""")
COUNT = Number.query("""
    SELECT count(*) AS number FROM knowledge WHERE project_id = :project_id AND category = :category
""")
# The order is that of the module's docstring.
LEAST_USEFUL = Note.query(f"""
    SELECT {COLUMNS} FROM knowledge
     WHERE project_id = :project_id AND category = :category AND key <> :key
     ORDER BY CASE json_extract(metadata, '$.status') WHEN 'wrong' THEN 0 WHEN 'deprecated' THEN 1 ELSE 2 END,
              max(updated_at, coalesce(last_used_at, '')) >= :lately, use_count,
              coalesce(json_extract(metadata, '$.confidence'), 0.5),
              json_extract(metadata, '$.status') IS 'verified',
              max(updated_at, coalesce(last_used_at, '')), id
     LIMIT 1
""")


class Evicted(Result):
    category: str
    key: str
    version: int


class NotePut(Result):
    category: str
    key: str
    version: int
    updated_at: str
    evicted: Evicted | None = Field(default=None, description="The least useful one, which made room")


class NoteView(Result):
    category: str
    key: str
    version: int
    author: str = Field(serialization_alias="from", description="Who wrote it; set by the server")
    updated_at: str
    use_count: int | None = None
    metadata: dict[str, Any] | None = Field(default=None, description="Sentences between fences")
    current: bool = Field(description="False for an earlier value")
    earlier_versions: list[int] | None = None
    text: str = Field(description="Between fences")
    mark: str = Field(description="What this reply's fences are made of")


class NoteDeleted(Result):
    category: str
    key: str
    deleted: bool = Field(description="False when there was none")


@tool(writes=True, profile="core")
def put_knowledge(
    tx: Tx,
    caller: Caller,
    category: Category,
    key: NoteKey,
    content: MemoryText,
    metadata: Annotated[Object | None, Field(description="source, confidence 0-1, tags, status")] = None,
    expected_version: Version | None = None,
) -> NotePut:
    """Write down what your project should know. Earlier values are kept.

    core: human_required. episodic fades in 30 days. evicted made room.
    """
    _check_core(caller, category, "put knowledge")
    where = {"project_id": caller.project_id, "category": category, "key": key}
    if category == "episodic":
        _forget_old(tx, caller)
    note = tx.one(NOTE, **where, remembered_since="")
    if expected_version is not None and (note is None or note.version != expected_version):
        raise Conflict(
            f"{category}/{key} is at version {note.version}." if note else f"There is no {category}/{key}.",
            hint="Read it with get_knowledge and put your change on top of it.",
            expected_version=expected_version,
            version=note.version if note else None,
        )
    kept = merged(note.metadata if note else None, _checked(metadata or {}))
    if note is not None:
        tx.run(KEEP, id=note.id, at=tx.at)
    evicted = None if note is not None else _room_for(tx, caller, category, key)
    last = tx.one(LAST_VERSION, **where)
    tags = " ".join(json.loads(kept).get("tags", ()))
    put = tx.one(
        PUT,
        **where,
        content=content,
        metadata=kept if kept != "{}" else None,
        author=caller.agent_id,
        version=1 + (last.number if last else 0),
        at=tx.at,
        search_words=f"{text.index_words(f'{key} {content}')} {tags}".strip(),
    )
    assert put is not None  # an INSERT … RETURNING returns what it inserted
    _tell(tx, "knowledge_put", f"wrote {category}/{key}", category, key, put.version)
    return NotePut(
        category=category, key=key, version=put.version, updated_at=put.updated_at, evicted=evicted
    )


@tool(profile="core")
def get_knowledge(
    tx: Tx, caller: Caller, category: Category, key: NoteKey, version: Version | None = None
) -> NoteView:
    """Read a note whole, or an earlier version, also of one that is gone.

    not_found names near keys.
    """
    where = {"project_id": caller.project_id, "category": category, "key": key}
    note: Note | Old | None = tx.one(NOTE, **where, remembered_since=remembered_since(tx))
    earlier = [old.version for old in tx.all(HISTORY, **where)]
    current = note is not None and version in (None, note.version)
    if not current and version is not None:
        note = tx.one(EARLIER, **where, version=version)
    if note is None:
        keys = [row.key for row in tx.all(KEYS, project_id=caller.project_id, category=category)]
        raise NotFound(
            f"There is no {category}/{key}" + (f" of version {version}." if version else "."),
            hint="Look for it with search_knowledge.",
            kind="knowledge",
            given=key,
            near=text.nearest(key, keys) or None,
            earlier_versions=earlier or None,
        )
    quotes = Quotes(tx, [note.content, note.metadata or ""])
    return NoteView(
        category=category,
        key=key,
        version=note.version,
        author=note.author,
        updated_at=note.updated_at if isinstance(note, Note) else note.replaced_at,
        use_count=note.use_count if isinstance(note, Note) else None,
        metadata=quotes.prose(json.loads(note.metadata)) if note.metadata else None,
        current=current,
        earlier_versions=earlier or None,
        text=quotes.quote(note.content),
        mark=quotes.mark,
    )


@tool(writes=True, idempotent=True, profile="core")
def delete_knowledge(tx: Tx, caller: Caller, category: Category, key: NoteKey) -> NoteDeleted:
    """Take a note away; get_knowledge still reads it by version.

    core: human_required.
    """
    _check_core(caller, category, "delete knowledge")
    note = tx.one(
        NOTE, project_id=caller.project_id, category=category, key=key, remembered_since=remembered_since(tx)
    )
    if note is not None:
        _remove(tx, note, "knowledge_deleted", f"deleted {category}/{key}")
    return NoteDeleted(category=category, key=key, deleted=note is not None)


def _check_core(caller: Caller, category: str, operation: str) -> None:
    """Core knowledge is what people tell all agents; no agent writes it. Raises HumanRequired."""
    if category == "core" and caller.kind != "human":
        raise HumanRequired(
            f"Only a human may {operation} in core.",
            operation=operation.replace(" ", "_"),
            hint="Use another category, or ask a human with record_decision.",
        )


def _room_for(tx: Tx, caller: Caller, category: str, key: str) -> Evicted | None:
    """Make room for a new note. Raises QuotaExceeded where nothing may go."""
    where = {"project_id": caller.project_id, "category": category}
    count = tx.one(COUNT, **where)
    if count is None or count.number < MOST[category]:
        return None
    if category == "core":
        raise QuotaExceeded(
            f"There are {count.number} core notes.",
            hint="Delete one with delete_knowledge, or merge two.",
            quota="core",
            used=count.number,
            limit=MOST[category],
        )
    lately = utc_text(tx.wall - timedelta(days=IDLE_DAYS))
    least = tx.one(LEAST_USEFUL, **where, key=key, lately=lately)
    assert least is not None  # as many as fill the category are there
    _remove(tx, least, "knowledge_evicted", f"{category} is full: {least.key} made room")
    return Evicted(category=category, key=least.key, version=least.version)


def _forget_old(tx: Tx, caller: Caller) -> None:
    """What happened too long ago goes with the next note of what happened; until then nothing shows it."""
    for note in tx.all(FORGOTTEN, project_id=caller.project_id, remembered_since=remembered_since(tx)):
        _remove(tx, note, "knowledge_evicted", f"{note.key} has faded: it is too old")


def _remove(tx: Tx, note: Note, kind: str, summary: str) -> None:
    tx.run(KEEP, id=note.id, at=tx.at)
    tx.run(DELETE, id=note.id)
    _tell(tx, kind, summary, note.category, note.key, note.version)


def _tell(tx: Tx, kind: str, summary: str, category: str, key: str, version: int) -> None:
    details = {"category": category, "key": key, "version": version}
    tx.tell(Event("knowledge", kind, summary, subject=f"{category}/{key}", details=details))


def _checked(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata, if what has a meaning here has its form; other keys are the writer's own.

    Raises InvalidArguments.
    """
    for name, value in metadata.items():
        rule = None if value is None else _RULES[name](value) if name in _RULES else _long(value)
        if rule is not None:
            field = f"metadata.{text.neutralise(name[:64])[0]}"
            raise InvalidArguments(f"{field} {rule}.", fields=[{"field": field, "rule": rule}])
    return metadata


def _text(value: Any) -> str | None:
    return _long(value) if isinstance(value, str) and value.strip() else "must be text"


def _share(value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if number and 0 <= value <= 1 else "must be a number from 0 to 1"


def _list(value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        return "must be a list of texts"
    return _long(value)


def _status(value: Any) -> str | None:
    return None if value in STATUSES else f"must be one of {', '.join(STATUSES)}"


def _moment(value: Any) -> str | None:
    try:
        return None if datetime.fromisoformat(value).tzinfo is not None else "must be a UTC time"
    except (TypeError, ValueError):
        return "must be a UTC time like 2026-01-31T12:00:00Z"


def _long(value: Any) -> str | None:
    """The rule that a value breaks which holds too long a text, however deep."""
    if isinstance(value, str):
        within = len(value) <= METADATA_CHARACTERS
        return None if within else f"takes at most {METADATA_CHARACTERS} characters"
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((rule for item in inside if (rule := _long(item)) is not None), None)


_RULES = {
    "source": _text,
    "confidence": _share,
    "tags": _list,
    "status": _status,
    "verified_at": _moment,
    "supersedes": _text,
}
