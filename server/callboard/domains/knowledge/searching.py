"""Searching what a project knows: one ranked answer over notes and lessons, within a budget."""

from typing import Annotated, Literal

from pydantic import Field

from callboard import search
from callboard.domains.knowledge.finding import SOURCES, Kind, Known, readable, shown, used
from callboard.domains.messages import Quotes
from callboard.identity import Caller
from callboard.params import MaxTokens, SearchText, Text
from callboard.store import Tx
from callboard.tool import Result, tool

WHOLE_BYTES = 1_200
"""Up to this length a hit's text is told whole; of a longer one, what stands around the words."""

TOKEN_BYTES = 4
"""Bytes that count as one token of a budget."""

AuthorOrSource = Annotated[str, Text("Author, or metadata.source", most=200, unit="characters")]
AnyCategory = Literal[
    "core", "episodic", "procedural", "semantic", "pattern", "decision", "expertise", "gotcha"
]


class Hit(Result):
    kind: Kind
    category: str
    key: str
    author: str = Field(serialization_alias="from", description="Who wrote it; set by the server")
    updated_at: str
    status: str
    partial: bool | None = Field(default=None, description="True for a part of it: read it by its key")
    text: str = Field(description="Between fences")


class Hits(Result):
    hits: list[Hit]
    left_out: int | None = Field(default=None, description="Hits that did not fit into max_tokens")
    mark: str | None = Field(default=None, description="What this reply's fences are made of")


@tool(profile="core")
def search_knowledge(
    tx: Tx,
    caller: Caller,
    query: SearchText,
    category: Annotated[AnyCategory | None, Field(description="Kind")] = None,
    source: AuthorOrSource | None = None,
    limit: Annotated[int, Field(description="At most this many", ge=1, le=50, strict=True)] = 5,
    max_tokens: MaxTokens = 2_000,
) -> Hits:
    """Search what your project knows, in plain words. Ask before you start.

    get_knowledge reads a partial hit whole.
    """
    rights = readable(tx, caller.project_id, category=category, source=source)
    found = shown(tx, search.run(tx, SOURCES, query, limit, **rights))
    quotes = Quotes(tx, [text for known, hit in found for text in (known.text, hit.snippet)])
    hits: list[Hit] = []
    room = max_tokens * TOKEN_BYTES
    for known, hit in found:
        told = _hit(known, hit, quotes)
        room -= len(told.model_dump_json(exclude_none=True).encode())
        if room < 0:
            break
        hits.append(told)
    if caller.kind != "observer":
        used(tx, [known for known, _ in found[: len(hits)]])
    return Hits(hits=hits, left_out=len(found) - len(hits) or None, mark=quotes.mark if hits else None)


def _hit(known: Known, hit: search.Hit, quotes: Quotes) -> Hit:
    whole = len(known.text.encode()) <= WHOLE_BYTES
    return Hit(
        kind=known.kind,
        category=known.category,
        key=known.key,
        author=known.by,
        updated_at=known.at,
        status=known.status,
        partial=None if whole else True,
        text=quotes.quote(known.text if whole else hit.snippet),
    )
