"""The tools by which a session is looked back on, and its retro read again."""

import json
from typing import Annotated, Any

from pydantic import Field

from callboard.domains import projects
from callboard.domains.knowledge.notes import put_knowledge
from callboard.domains.messages import Quotes
from callboard.domains.retros import figures
from callboard.errors import InvalidArguments, NotFound, TooLarge
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import (
    NAME_CHARACTERS,
    NOTE_KEY,
    TEXT_BYTES,
    AfterId,
    LeadId,
    Limit,
    Object,
    SessionRowId,
)
from callboard.store import Row, Tx
from callboard.tool import Result, fitted, tool

LESSONS = "lessons"
"""The part of a retro's words that is kept as knowledge too: names with what was learned."""


class Retro(Row):
    id: int
    lead_id: str
    data: str
    created_at: str
    session_row_id: int | None
    author: str


COLUMNS = ", ".join(Retro.columns())
RECORD = Retro.query(f"""
    INSERT INTO session_retros (lead_id, data, created_at, session_row_id, author)
    VALUES (:lead_id, :data, :at, :session_row_id, :author)
    RETURNING {COLUMNS}
""")
RETROS = Retro.query(f"""
    SELECT {COLUMNS} FROM session_retros
     WHERE lead_id = :lead_id AND id > :after ORDER BY id LIMIT :limit
""")
LATEST = Retro.query(f"""
    SELECT {COLUMNS} FROM session_retros WHERE lead_id = :lead_id ORDER BY id DESC LIMIT 1
""")


class CrewStart(Row):
    created_at: str


CREW_START = CrewStart.query("SELECT created_at FROM _crews WHERE lead_id = :lead_id")


class RetroView(Result):
    retro_id: int
    lead_id: str
    session_row_id: int | None = None
    author: str = Field(serialization_alias="from", description="Who looked back; set by the server")
    created_at: str
    data: dict[str, Any] = Field(description="The lead's words, between fences")
    figures: dict[str, Any] = Field(description="Per agent and for the crew; what nobody told is absent")


class Recorded(Result):
    retro_id: int
    session_row_id: int | None = None
    figures: dict[str, Any] = Field(
        description="Per agent and for the crew, with the basis of each; what nobody told is absent"
    )
    lessons_kept: list[str] | None = Field(
        default=None, description="Keys of procedural knowledge, from data.lessons"
    )


class RetroPage(Result):
    retros: list[RetroView]
    basis: dict[str, str] | None = Field(default=None, description="What the figures were counted from")
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    next_after_id: int | None = None


@tool(writes=True, who="lead", toolset="knowledge")
def record_session_retro(
    tx: Tx,
    caller: Caller,
    data: Annotated[Object, Field(description="Your words; lessons (name to text) become knowledge")],
    session_row_id: SessionRowId | None = None,
) -> Recorded:
    """Look back on your crew's latest session: your words beside computed figures.

    The next briefing has your words.
    """
    session = _session(tx, caller, session_row_id)
    lead_id = session.lead_id if session else caller.lead_id
    _check_size(data)
    lessons = _lessons(data)
    if session is not None:
        spans = figures.spans_of(tx, lead_id, session.id, session.started_at, session.ended_at)
    else:
        crew = tx.one(CREW_START, lead_id=lead_id)
        spans = [(crew.created_at if crew else tx.at, tx.at)]
    computed = figures.compute(tx, lead_id, spans)
    retro = tx.one(
        RECORD,
        lead_id=lead_id,
        data=json.dumps({"data": data, "figures": computed}, ensure_ascii=False),
        at=tx.at,
        session_row_id=session.id if session else None,
        author=caller.agent_id,
    )
    assert retro is not None  # an INSERT … RETURNING returns what it inserted
    for key, learned in lessons.items():
        put_knowledge(
            tx,
            caller,
            category="procedural",
            key=key,
            content=learned,
            metadata={"source": f"retro {retro.id}"},
        )
    tx.tell(
        Event(
            "projects",
            "retro_recorded",
            f"looked back on session {session.id}" if session else "looked back on the crew's work",
            subject=str(retro.id),
            details={"retro_id": retro.id, "session_row_id": retro.session_row_id},
            lead_id=lead_id,
        )
    )
    return Recorded(
        retro_id=retro.id,
        session_row_id=retro.session_row_id,
        figures=computed,
        lessons_kept=sorted(lessons) or None,
    )


@tool(toolset="knowledge")
def list_session_retros(
    tx: Tx, caller: Caller, lead_id: LeadId | None = None, limit: Limit = 50, after_id: AfterId = 0
) -> RetroPage:
    """List your crew's retros, oldest first: the lead's words and the figures.

    Read the last one before you plan.
    """
    if lead_id is not None and lead_id != caller.lead_id and not caller.reads_all_crews:
        return RetroPage(retros=[])
    rows = tx.all(RETROS, lead_id=lead_id or caller.lead_id, after=after_id, limit=limit + 1)
    quotes = Quotes(tx, [row.data for row in rows])
    shown, more = fitted([_view(row, quotes) for row in rows], limit)
    # Each retro says the same of its figures: the page says it once.
    basis: dict[str, str] = {}
    for row in rows[: len(shown)]:
        basis |= json.loads(row.data)["figures"]["basis"]
    return RetroPage(
        retros=shown,
        basis=basis or None,
        mark=quotes.mark if shown else None,
        next_after_id=shown[-1].retro_id if more else None,
    )


def latest(tx: Tx, lead_id: str) -> Retro | None:
    """The crew's newest retro: its `data` is JSON with the lead's words as `data` and the `figures`."""
    return tx.one(LATEST, lead_id=lead_id)


def _session(tx: Tx, caller: Caller, session_row_id: int | None) -> projects.Session | None:
    """The session that is looked back on, by default the crew's latest; None where it never had one.

    Raises NotFound, also for another crew's.
    """
    if session_row_id is None:
        return projects.session_of(tx, caller.project_id, caller.lead_id)
    session = projects.find_session(tx, session_row_id)
    if session is None or (session.lead_id != caller.lead_id and caller.kind != "human"):
        raise NotFound(
            f"There is no session {session_row_id}.",
            hint="See list_project_sessions.",
            kind="session",
            given=str(session_row_id),
        )
    return session


def _check_size(data: dict[str, Any]) -> None:
    """Refuse words that are too long to be read with others. Raises TooLarge."""
    size = len(json.dumps(data, ensure_ascii=False).encode())
    if size > TEXT_BYTES:
        raise TooLarge(
            f"data has {size} bytes; at most {TEXT_BYTES} are taken.",
            field="data",
            size=size,
            limit=TEXT_BYTES,
            unit="bytes",
        )


def _lessons(data: dict[str, Any]) -> dict[str, str]:
    """What of the words becomes knowledge. Raises InvalidArguments."""
    lessons = data.get(LESSONS, {})
    if not isinstance(lessons, dict):
        raise _invalid("data.lessons", "must be an object of names with what was learned")
    for key, learned in lessons.items():
        if not NOTE_KEY.fullmatch(key) or len(key) > NAME_CHARACTERS:
            raise _invalid("data.lessons", "must have names of letters, digits, '_', '.', '-' and spaces")
        if not isinstance(learned, str) or not learned.strip():
            raise _invalid("data.lessons", "must have a text for each name")
    return lessons


def _invalid(field: str, rule: str) -> InvalidArguments:
    return InvalidArguments(f"{field} {rule}", fields=[{"field": field, "rule": rule}])


def _view(retro: Retro, quotes: Quotes) -> RetroView:
    stored = json.loads(retro.data)
    return RetroView(
        retro_id=retro.id,
        lead_id=retro.lead_id,
        session_row_id=retro.session_row_id,
        author=retro.author,
        created_at=retro.created_at,
        data=quotes.prose(stored["data"]),
        figures={name: found for name, found in stored["figures"].items() if name != "basis"},
    )
