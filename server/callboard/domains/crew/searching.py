"""Searching everything: one ranked answer over all that a crew has written and its project knows."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from callboard import search
from callboard.domains import knowledge
from callboard.domains.messages import Quotes
from callboard.identity import Caller
from callboard.params import Limit, SearchText
from callboard.search import Source
from callboard.store import Tx
from callboard.tool import Result, fitted, tool

Kind = Literal[
    "task",
    "decision",
    "message",
    "group_message",
    "conversation",
    "activity",
    "knowledge",
    "collective_memory",
]

# The words stand in every hit; a wrong one is told with all of them.
KindWord = Annotated[Kind, WithJsonSchema({"type": "string"})]

# What a crew owns, and for people whatever any crew of the project owns.
OF_CREW = "iif(:every_crew, {row}.project_id = :project_id, {row}.lead_id = :lead_id)"

TASKS = search.source(
    "task",
    index="_fts_tasks",
    weights=(3.0, 1.0, 0.5),
    rows="dag_tasks AS t ON t.seq = f.rowid",
    readable=OF_CREW.format(row="t"),
    id="t.id",
    title="t.title",
    body=1,
    at="t.created_at",
    by="''",
    favour="iif(t.archived_at IS NULL, 1.0, 0.6)",
)
DECISIONS = search.source(
    "decision",
    index="_fts_decisions",
    weights=(3.0, 1.0, 0.5),
    rows="decisions AS d ON d.seq = f.rowid",
    readable=OF_CREW.format(row="d"),
    id="d.id",
    title="d.title",
    body=1,
    at="d.created_at",
    by="d.agent_id",
)
# Mail is its two sides' own. A group post is found with its group.
MESSAGES = search.source(
    "message",
    index="_fts_queue",
    weights=(1.0, 0.5),
    rows="message_queue AS m ON m.id = f.rowid",
    readable="m.group_message_id IS NULL AND :agent_id IN (m.target_agent_id, m.source_agent_id)",
    id="m.id",
    title="''",
    body=0,
    at="m.created_at",
    by="m.source_agent_id",
)
GROUP_MESSAGES = search.source(
    "group_message",
    index="_fts_group_messages",
    weights=(1.0, 0.5),
    rows="chat_group_messages AS g ON g.seq = f.rowid",
    readable="""
        CASE WHEN :every_crew
             THEN :project_id = (SELECT r.project_id FROM chat_groups AS r
                                  WHERE r.name = g.group_name AND r.lead_id = g.lead_id)
             ELSE g.lead_id = :lead_id
                  AND (:leads OR EXISTS (SELECT 1 FROM chat_group_members AS x
                                          WHERE x.group_name = g.group_name AND x.lead_id = g.lead_id
                                            AND x.agent_id = :agent_id))
        END
    """,
    id="g.id",
    title="g.group_name",
    body=0,
    at="g.timestamp",
    by="g.from_agent_id",
)
CONVERSATIONS = search.source(
    "conversation",
    index="_fts_messages",
    weights=(1.0, 0.5),
    rows="messages AS l ON l.id = f.rowid CROSS JOIN conversations AS c ON c.id = l.conversation_id",
    readable=OF_CREW.format(row="c"),
    id="c.id",
    title="c.title",
    body=0,
    at="l.timestamp",
    by="c.agent_id",
)
# Much of the ledger says again what a task or a decision says itself.
ACTIVITY = search.source(
    "activity",
    index="_fts_activity",
    weights=(1.0, 0.3, 0.5),
    rows="activity_log AS a ON a.id = f.rowid",
    readable="a.project_id = :project_id AND (:every_crew OR a.lead_id IN ('', :lead_id))",
    id="a.id",
    title="''",
    body=0,
    at="a.timestamp",
    by="a.agent_id",
    favour="0.4",
)
SOURCES: Mapping[str, Source] = {
    one.kind: one
    for one in (TASKS, DECISIONS, MESSAGES, GROUP_MESSAGES, CONVERSATIONS, ACTIVITY, *knowledge.SOURCES)
}


class CrewHit(Result):
    kind: str
    id: str
    title: str | None = None
    by: str | None = Field(default=None, description="Who wrote it; set by the server")
    at: str
    text: str | None = Field(default=None, description="Around the words, between fences")


class CrewHits(Result):
    hits: list[CrewHit] = Field(description="Best first")
    mark: str | None = Field(default=None, description="What this reply's fences are made of")


@tool(searches="query")
def search_crew(
    tx: Tx,
    caller: Caller,
    query: SearchText,
    kinds: Annotated[
        list[KindWord] | None, Field(max_length=8, description="Only these, such as task or message")
    ] = None,
    limit: Limit = 10,
) -> CrewHits:
    """Search all that you may read: tasks, decisions, messages, talk, activity, knowledge.

    Best first. Read a hit whole with the tool of its kind.
    """
    wanted = set(kinds or SOURCES)
    found = search.run(
        tx,
        [source for kind, source in SOURCES.items() if kind in wanted],
        query,
        limit,
        agent_id=caller.agent_id,
        lead_id=caller.lead_id,
        every_crew=caller.reads_all_crews,
        leads=caller.kind in ("lead", "human"),
        **knowledge.readable(tx, caller.project_id),
    )
    quotes = Quotes(tx, [hit.snippet for hit in found])
    hits = [
        CrewHit(
            kind=hit.kind,
            id=hit.id,
            title=hit.title or None,
            by=hit.by or None,
            at=hit.at,
            text=quotes.quote(hit.snippet) if hit.snippet.strip() else None,
        )
        for hit in found
    ]
    shown, _ = fitted(hits, limit)
    return CrewHits(hits=shown, mark=quotes.mark if shown else None)
