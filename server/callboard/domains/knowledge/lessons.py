"""Lessons: what crews learned on the way, shared by all of them.

A lesson is one row per category and key. Whoever knows better overwrites it and the earlier value stays
readable; whoever finds it confirmed, outdated or wrong marks it. Only what was returned because it matched
counts as used.
"""

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard import search, text
from callboard.domains.knowledge.finding import LESSONS, Known, readable, used
from callboard.domains.messages import Quotes
from callboard.errors import InvalidArguments, NotFound, NotOwner
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import AfterId, FilePath, LessonId, LessonKey, Limit, MemoryText, SearchText
from callboard.store import Command, Row, Tx
from callboard.tool import Result, fitted, tool

LessonCategory = Annotated[Literal["pattern", "decision", "expertise", "gotcha"], Field(description="Kind")]
Standing = Literal["unmarked", "confirmed", "outdated", "wrong"]
EARLIER_SHOWN = 5
MENTIONING = 500
"""Lessons with a path in their text that are looked at for it."""


class Lesson(Row):
    id: int
    category: str
    key: str
    value: str
    source: str
    project_id: str
    standing: Standing
    marked_by: str | None
    use_count: int
    version: int
    updated_at: str


class Old(Row):
    version: int
    value: str
    source: str
    replaced_at: str


class Number(Row):
    number: int


COLUMNS = """
    id, category, key, value, source, project_id, standing, marked_by, coalesce(use_count, 0) AS use_count,
    version, updated_at
"""
IN_PROJECT = "project_id IN (:project_id, '')"
LESSON = Lesson.query(f"""
    SELECT {COLUMNS} FROM collective_memory
     WHERE project_id = :project_id AND category = :category AND key = :key
""")
BY_ID = Lesson.query(f"SELECT {COLUMNS} FROM collective_memory WHERE id = :id AND {IN_PROJECT}")
LISTING = Lesson.query(f"""
    SELECT {COLUMNS} FROM collective_memory
     WHERE {IN_PROJECT} AND id > :after AND standing <> 'wrong'
       AND (:category IS NULL OR category = :category) AND (:key IS NULL OR key = :key)
     ORDER BY id LIMIT :limit
""")
# A path is compared as it is: no character of it is a wildcard.
ABOUT = Lesson.query(f"""
    SELECT {COLUMNS} FROM collective_memory
     WHERE {IN_PROJECT} AND standing <> 'wrong'
       AND (:category IS NULL OR category = :category) AND (:key IS NULL OR key = :key)
       AND (rtrim(key, '/') IN (SELECT value FROM json_each(:places)) OR instr(value, :file_path))
     ORDER BY id DESC LIMIT {MENTIONING}
""")
LAST_VERSION = Number.query("""
    SELECT coalesce(max(version), 0) AS number FROM _collective_memory_versions
     WHERE project_id = :project_id AND category = :category AND key = :key
""")
EARLIER = Old.query(f"""
    SELECT version, value, source, replaced_at FROM _collective_memory_versions
     WHERE project_id = :project_id AND category = :category AND key = :key
     ORDER BY version DESC LIMIT {EARLIER_SHOWN}
""")
ADD = Lesson.query(f"""
    INSERT INTO collective_memory
           (category, key, value, source, project_id, created_at, last_used_at, updated_at, version, standing,
            marked_by, search_words)
    VALUES (:category, :key, :value, :source, :project_id, :at, :at, :at, :version, :standing, :marked_by,
            :search_words)
    ON CONFLICT (category, key, project_id) DO UPDATE
       SET value = excluded.value, source = excluded.source, updated_at = excluded.updated_at,
           version = excluded.version, standing = excluded.standing, marked_by = excluded.marked_by,
           search_words = excluded.search_words
    RETURNING {COLUMNS}
""")
MARK = Lesson.query(f"""
    UPDATE collective_memory SET standing = :standing, marked_by = :marked_by WHERE id = :id
    RETURNING {COLUMNS}
""")
KEEP = Command("""
    INSERT INTO _collective_memory_versions (project_id, category, key, version, value, source, replaced_at)
    SELECT project_id, category, key, version, value, source, :at FROM collective_memory WHERE id = :id
""")
FORGET = Command("DELETE FROM collective_memory WHERE id = :id")


class LessonKept(Result):
    memory_id: int
    category: str
    key: str
    version: int
    standing: Standing
    marked_by: str | None = None


class Earlier(Result):
    version: int
    author: str = Field(serialization_alias="from")
    replaced_at: str
    text: str = Field(description="Between fences")


class LessonView(LessonKept):
    author: str = Field(serialization_alias="from", description="Who wrote it; set by the server")
    updated_at: str
    use_count: int
    text: str = Field(description="Between fences")
    earlier: list[Earlier] | None = Field(default=None, description="Earlier values, newest first")


class LessonPage(Result):
    memories: list[LessonView]
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    next_after_id: int | None = None


class Forgotten(Result):
    memory_id: int
    forgotten: bool = Field(description="False when there was none")


@tool(writes=True)
def add_collective_memory(
    tx: Tx,
    caller: Caller,
    category: LessonCategory,
    key: LessonKey,
    value: MemoryText | None = None,
    standing: Annotated[Standing | None, Field(description="Your mark on it")] = None,
) -> LessonKept:
    """Share a lesson with all crews of the project, or mark one by its standing alone.

    Wrong ones are not recalled, outdated ones come last. Earlier values are kept.
    """
    where = {"project_id": caller.project_id, "category": category, "key": key}
    lesson = tx.one(LESSON, **where)
    mark = {"standing": standing or "unmarked", "marked_by": caller.agent_id if standing else None}
    if value is None:
        if standing is None:
            rule = "or standing is required"
            raise InvalidArguments(f"value {rule}.", fields=[{"field": "value", "rule": rule}])
        if lesson is None:
            raise NotFound(
                f"There is no {category}/{key}.",
                hint="Give its value to add it, or look for it with recall_collective_memory.",
                kind="collective_memory",
                given=key,
            )
        marked = tx.one(MARK, id=lesson.id, **mark)
        assert marked is not None  # it was read in this transaction
        _tell(tx, "lesson_marked", f"marked {category}/{key} {standing}", marked)
        return _kept(marked)
    if lesson is not None:
        tx.run(KEEP, id=lesson.id, at=tx.at)
    last = tx.one(LAST_VERSION, **where)
    added = tx.one(
        ADD,
        **where,
        **mark,
        value=value,
        source=caller.agent_id,
        at=tx.at,
        version=1 + (last.number if last else 0),
        search_words=text.index_words(f"{key} {value}"),
    )
    assert added is not None  # an INSERT … RETURNING returns what it inserted
    _tell(tx, "lesson_added", f"shared {category}/{key}", added)
    return _kept(added)


@tool()
def recall_collective_memory(
    tx: Tx,
    caller: Caller,
    query: SearchText | None = None,
    category: LessonCategory | None = None,
    key: LessonKey | None = None,
    file_path: FilePath | None = None,
    limit: Limit = 50,
    after_id: AfterId | None = None,
) -> LessonPage:
    """Recall lessons: by words, about a file and its directories, or as a list.

    Ask before you change a file. With key, earlier values too.
    """
    earlier: dict[int, list[Old]] = {}
    more = False
    if query is not None:
        lessons = _found(tx, caller, query, category, key, limit)
    elif file_path is not None:
        lessons = _about(tx, caller, file_path, category, key)[:limit]
    else:
        lessons = tx.all(
            LISTING,
            project_id=caller.project_id,
            category=category,
            key=key,
            after=after_id or 0,
            limit=limit + 1,
        )
        if key is not None:
            earlier = {lesson.id: _earlier(tx, lesson) for lesson in lessons[:limit]}
    quotes = Quotes(
        tx, [lesson.value for lesson in lessons] + [old.value for olds in earlier.values() for old in olds]
    )
    views = [_view(lesson, earlier.get(lesson.id, ()), quotes) for lesson in lessons]
    shown, more = fitted(views, limit)
    matched = query is not None or file_path is not None
    if matched and caller.kind != "observer":
        used(tx, [_known(lesson) for lesson in lessons[: len(shown)]])
    return LessonPage(
        memories=shown,
        mark=quotes.mark if shown else None,
        next_after_id=shown[-1].memory_id if more and not matched else None,
    )


@tool(writes=True, idempotent=True, destructive=True)
def forget_collective_memory(
    tx: Tx,
    caller: Caller,
    memory_id: LessonId,
) -> Forgotten:
    """Forget a lesson of yours, or any if you lead.

    not_owner for another's: mark it wrong instead.
    """
    lesson = tx.one(BY_ID, id=memory_id, project_id=caller.project_id)
    if lesson is None:
        return Forgotten(memory_id=memory_id, forgotten=False)
    leads = caller.kind in ("lead", "human")
    if lesson.source != caller.agent_id and not leads:
        raise NotOwner(
            f"{lesson.source} has written {lesson.category}/{lesson.key}.",
            hint="Mark it with add_collective_memory and standing=wrong.",
            object=f"{lesson.category}/{lesson.key}",
            owner=lesson.source,
        )
    tx.run(KEEP, id=memory_id, at=tx.at)
    tx.run(FORGET, id=memory_id)
    _tell(tx, "lesson_forgotten", f"forgot {lesson.category}/{lesson.key}", lesson)
    return Forgotten(memory_id=memory_id, forgotten=True)


def _found(
    tx: Tx, caller: Caller, query: str, category: str | None, key: str | None, limit: int
) -> list[Lesson]:
    rights = readable(tx, caller.project_id, category=category, key=key)
    hits = search.run(tx, (LESSONS,), query, limit, **rights)
    found = (tx.one(BY_ID, id=int(hit.id), project_id=caller.project_id) for hit in hits)
    return [lesson for lesson in found if lesson is not None]


def _about(tx: Tx, caller: Caller, file_path: str, category: str | None, key: str | None) -> list[Lesson]:
    """The lessons about a path: those under its name, under its directories from near to far, and those
    whose text names it; within each the standing ones first, then the newer ones."""
    path = PurePosixPath(file_path)
    places = [str(path), *(str(parent) for parent in path.parents if str(parent) != ".")]
    found = tx.all(
        ABOUT,
        project_id=caller.project_id,
        category=category,
        key=key,
        places=json.dumps(places, ensure_ascii=False),
        file_path=str(path),
    )
    ranked: list[tuple[int, bool, int, Lesson]] = []
    for lesson in found:
        name = lesson.key.rstrip("/")
        if name in places:
            ranked.append((places.index(name), lesson.standing == "outdated", -lesson.id, lesson))
        elif _names(lesson.value, str(path)):
            ranked.append((len(places), lesson.standing == "outdated", -lesson.id, lesson))
    return [lesson for *_, lesson in sorted(ranked, key=lambda entry: entry[:3])]


def _names(value: str, path: str) -> bool:
    """Whether a text names a path, and not a longer one that it is a part of."""
    at = value.find(path)
    while at >= 0:
        before, behind = value[at - 1 : at] if at else "", value[at + len(path) : at + len(path) + 2]
        begins = not (before.isalnum() or before in ("_", "-", ".", "/"))
        ends = not (behind[:1].isalnum() or behind[:1] in ("_", "-"))
        if begins and ends and not (behind[:1] in (".", "/") and behind[1:].isalnum()):
            return True
        at = value.find(path, at + 1)
    return False


def _earlier(tx: Tx, lesson: Lesson) -> list[Old]:
    return tx.all(EARLIER, project_id=lesson.project_id, category=lesson.category, key=lesson.key)


def _kept(lesson: Lesson) -> LessonKept:
    return LessonKept(
        memory_id=lesson.id,
        category=lesson.category,
        key=lesson.key,
        version=lesson.version,
        standing=lesson.standing,
        marked_by=lesson.marked_by,
    )


def _view(lesson: Lesson, earlier: Iterable[Old], quotes: Quotes) -> LessonView:
    return LessonView(
        **_kept(lesson).model_dump(),
        author=lesson.source,
        updated_at=lesson.updated_at,
        use_count=lesson.use_count,
        text=quotes.quote(lesson.value),
        earlier=[
            Earlier(
                version=old.version,
                author=old.source,
                replaced_at=old.replaced_at,
                text=quotes.quote(old.value),
            )
            for old in earlier
        ]
        or None,
    )


def _known(lesson: Lesson) -> Known:
    return Known(
        "collective_memory",
        lesson.id,
        lesson.category,
        lesson.key,
        lesson.value,
        lesson.source,
        lesson.updated_at,
        lesson.standing,
    )


def _tell(tx: Tx, kind: str, summary: str, lesson: Lesson) -> None:
    details: dict[str, Any] = {
        "memory_id": lesson.id,
        "category": lesson.category,
        "key": lesson.key,
        "version": lesson.version,
    }
    tx.tell(Event("knowledge", kind, summary, subject=f"{lesson.category}/{lesson.key}", details=details))
