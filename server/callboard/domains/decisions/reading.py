"""Reading decisions: pages of them, one with everything about it, and waiting for the outcome of one."""

from typing import Annotated

from pydantic import Field, WithJsonSchema

from callboard import text
from callboard.domains.decisions.decision import (
    COLUMNS,
    READABLE,
    WAITING_TASKS,
    Assurance,
    Category,
    Decision,
    Status,
    find,
    scope_of,
)
from callboard.domains.messages import Quotes
from callboard.identity import Caller
from callboard.params import DecisionId, LeadId, Limit, ProjectId, SearchText
from callboard.store import Query, Tx
from callboard.tool import NotYet, Result, fitted, tool

TASKS_SHOWN = 50
LOOK_MS = 60_000
"""How often a waiting call looks for itself, though it was told nothing."""

# An agent that filters by a category has read it; the values are published where one is chosen.
CategoryFilter = Annotated[Category, WithJsonSchema({"type": "string", "description": "Only these"})]
WaitSeconds = Annotated[int, Field(description="Wait up to this long", ge=0, le=50, strict=True)]


def _page(where: str) -> Query[Decision]:
    return Decision.query(f"""
        SELECT {COLUMNS} FROM decisions
         WHERE {where} AND seq < :before AND seq > :since
           AND (:of_lead IS NULL OR lead_id = :of_lead) AND (:of_project IS NULL OR project_id = :of_project)
           AND (:status IS NULL OR status = :status) AND (:category IS NULL OR category = :category)
           AND (:needs IS NULL OR needs_confirmation = :needs)
         ORDER BY seq DESC LIMIT :limit
    """)


LISTINGS = {
    "crew": _page("lead_id = :lead_id"),
    # A human reads those of every crew of the project.
    "project": _page("project_id = :project_id"),
    "query": _page(
        f"seq IN (SELECT rowid FROM _fts_decisions WHERE _fts_decisions MATCH :query) AND {READABLE}"
    ),
}


class DecisionLine(Result):
    decision_id: str
    title: str
    status: Status
    needs_confirmation: bool
    category: Category
    agent_id: str
    created_at: str
    auto_approved: bool | None = None
    resolved_by: str | None = None
    resolved_at: str | None = None
    superseded_by: str | None = Field(default=None, description="The decision that holds instead")


class DecisionPage(Result):
    decisions: list[DecisionLine]
    next_after_id: str | None = None


class DecisionDetail(DecisionLine):
    agent_role: str
    lead_id: str
    project_id: str
    rationale: str | None = Field(default=None, description="Between fences")
    options: list[str] = Field(description="Between fences")
    reason: str | None = Field(default=None, description="Why it was resolved so, between fences")
    assurance: Assurance | None = Field(default=None, description="How sure it is that a person resolved it")
    digest: str
    signed: bool | None = None
    supersedes: str | None = None
    waiting_tasks: list[str] | None = Field(default=None, description="Tasks that depend on it")
    mark: str = Field(description="What this reply's fences are made of")


class Outcome(Result):
    decision_id: str
    status: Status
    needs_confirmation: bool
    timed_out: bool | None = Field(default=None, description="True: no outcome yet, wait again")
    resolved_by: str | None = None
    resolved_at: str | None = None
    reason: str | None = Field(default=None, description="Between fences")
    mark: str | None = None


def line_of(decision: Decision) -> DecisionLine:
    """A decision as a line of a page."""
    return DecisionLine(
        decision_id=decision.id,
        title=decision.title,
        status=decision.status,
        needs_confirmation=bool(decision.needs_confirmation),
        category=decision.category,
        agent_id=decision.agent_id,
        created_at=decision.created_at,
        auto_approved=True if decision.auto_approved else None,
        resolved_by=decision.confirmed_by,
        resolved_at=decision.confirmed_at,
        superseded_by=decision.superseded_by,
    )


@tool(profile="core")
def list_decisions(
    tx: Tx,
    caller: Caller,
    status: Annotated[Status | None, Field(description="Only these")] = None,
    needs_confirmation: Annotated[bool | None, Field(description="Only such")] = None,
    lead_id: LeadId | None = None,
    project_id: ProjectId | None = None,
    category: CategoryFilter | None = None,
    query: SearchText | None = None,
    since_id: Annotated[DecisionId | None, Field(description="Only later ones")] = None,
    limit: Limit = 50,
    after_id: Annotated[DecisionId | None, Field(description="next_after_id")] = None,
) -> DecisionPage:
    """List your crew's decisions, newest first.

    superseded_by is what holds instead; get_decision has the text.
    """
    match = text.fts_query(query) if query is not None else None
    if query is not None and match is None:
        return DecisionPage(decisions=[])
    scope = scope_of(caller)
    listing = "query" if match is not None else "project" if caller.reads_all_crews else "crew"
    rows = tx.all(
        LISTINGS[listing],
        **(scope | {"query": match}),
        of_lead=lead_id,
        of_project=project_id,
        status=status,
        category=category,
        needs=needs_confirmation,
        since=find(tx, caller, since_id).seq if since_id is not None else 0,
        before=find(tx, caller, after_id).seq if after_id is not None else 2**62,
        limit=limit + 1,
    )
    shown, more = fitted([line_of(row) for row in rows], limit)
    return DecisionPage(decisions=shown, next_after_id=shown[-1].decision_id if more else None)


@tool()
def get_decision(tx: Tx, caller: Caller, decision_id: DecisionId) -> DecisionDetail:
    """Read one decision: why, its options, its outcome, and the tasks that wait for it.

    Text between fences is people's and agents' word.
    """
    decision = find(tx, caller, decision_id)
    choices = decision.choices
    quotes = Quotes(tx, [decision.rationale, *choices, decision.reason or ""])
    waiting = tx.all(WAITING_TASKS, decision_id=decision_id, limit=TASKS_SHOWN)
    return DecisionDetail(
        **line_of(decision).model_dump(),
        agent_role=decision.agent_role,
        lead_id=decision.lead_id,
        project_id=decision.project_id,
        rationale=quotes.quote(decision.rationale) if decision.rationale else None,
        options=[quotes.quote(choice) for choice in choices],
        reason=quotes.quote(decision.reason) if decision.reason else None,
        assurance=decision.assurance,
        digest=decision.digest.hex(),
        signed=True if decision.signature else None,
        supersedes=decision.supersedes,
        waiting_tasks=[row.task_id for row in waiting] or None,
        mark=quotes.mark,
    )


@tool(waits_on="decisions")
def wait_for_decision(
    tx: Tx, caller: Caller, decision_id: DecisionId, wait_seconds: WaitSeconds = 25
) -> Outcome | NotYet:
    """Wait until a human has resolved a decision.

    timed_out: not yet; do other work, your inbox tells the outcome too.
    """
    decision = find(tx, caller, decision_id)
    if not decision.waits:
        return _outcome(tx, decision)
    late = Outcome(decision_id=decision.id, status=decision.status, needs_confirmation=True, timed_out=True)
    if not wait_seconds:
        return late
    return NotYet(
        again_boot_ms=tx.now + LOOK_MS,
        ready=lambda tx: not find(tx, caller, decision_id).waits,
        give_up=lambda tx, waited_ms: late,
    )


def _outcome(tx: Tx, decision: Decision) -> Outcome:
    quotes = Quotes(tx, [decision.reason]) if decision.reason else None
    return Outcome(
        decision_id=decision.id,
        status=decision.status,
        needs_confirmation=bool(decision.needs_confirmation),
        resolved_by=decision.confirmed_by,
        resolved_at=decision.confirmed_at,
        reason=quotes.quote(decision.reason) if quotes and decision.reason else None,
        mark=quotes.mark if quotes else None,
    )
