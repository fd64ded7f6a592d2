"""The author's side: a decision is recorded once, and may be taken back while nobody has resolved it.

Whether it needs confirmation is settled when it is recorded, and nothing changes that later. An agent may
ask for confirmation and can never be spared it: the project's oversight adds to what it asks for, and what
takes the place of a decision that needed confirmation needs it too.
"""

import json
from typing import Annotated

from pydantic import Field

from callboard import text
from callboard.domains import projects
from callboard.domains.decisions.decision import (
    COLUMNS,
    Category,
    Decision,
    Status,
    announce,
    category_of,
    digest_of,
    find,
)
from callboard.errors import Conflict, NotOwner, TooLarge
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import TEXT_BYTES, DecisionId, Options, Reason, Title, WhyNeeded
from callboard.store import Tx
from callboard.tool import Result, tool

RECORD = Decision.query(f"""
    INSERT INTO decisions
           (id, seq, agent_id, agent_role, lead_id, project_id, title, rationale, options, category,
            needs_confirmation, status, auto_approved, created_at, confirmed_at, reason, digest, supersedes,
            search_words)
    VALUES (:id, (SELECT coalesce(max(seq), 0) + 1 FROM decisions), :agent_id, :role, :lead_id, :project_id,
            :title, :rationale, :options, :category, :needs, iif(:approved, 'confirmed', 'recorded'),
            :approved, :at, iif(:approved, :at, NULL), :reason, :digest, :supersedes, :search_words)
    RETURNING {COLUMNS}
""")
WITHDRAW = Decision.query(f"""
    UPDATE decisions
       SET status = 'withdrawn', confirmed_by = :agent_id, confirmed_at = :at, reason = :reason
     WHERE id = :decision_id AND agent_id = :agent_id AND status = 'recorded'
    RETURNING {COLUMNS}
""")


class Recorded(Result):
    decision_id: str
    status: Status
    needs_confirmation: bool = Field(
        description="True also where the project's oversight, or what it supersedes, asks for it"
    )
    auto_approved: bool | None = None
    category: Category
    digest: str
    supersedes: str | None = None


class Withdrawn(Result):
    decision_id: str
    status: Status
    withdrawn: bool = Field(description="False when you had withdrawn it before")


@tool(writes=True, profile="core")
def record_decision(
    tx: Tx,
    caller: Caller,
    title: Title,
    rationale: Reason = "",
    needs_confirmation: Annotated[bool, Field(description="By a human")] = False,
    options: Options | None = None,
    category: Annotated[Category | None, Field(description="Guessed if absent")] = None,
    supersedes: Annotated[DecisionId | None, Field(description="Decision id")] = None,
) -> Recorded:
    """Record what was decided, or what a human must confirm; the text is final.

    Tasks may depend on decision:<id>. The outcome comes to your inbox.
    """
    choices = options or []
    if (size := len(json.dumps(choices, ensure_ascii=False).encode())) > TEXT_BYTES:
        raise TooLarge(
            f"options have {size} bytes; at most {TEXT_BYTES} are taken.",
            field="options",
            size=size,
            limit=TEXT_BYTES,
            unit="bytes",
        )
    replaced = find(tx, caller, supersedes) if supersedes is not None else None
    guessed = category_of(title)
    chosen = category or guessed
    needs = needs_confirmation or _is_gated(tx, caller, replaced, {chosen, guessed})
    approved = not needs and chosen in projects.setting(tx, "decisions.auto_approve")
    decision = tx.one(
        RECORD,
        id=f"d-{tx.ids(6)}",
        agent_id=caller.agent_id,
        role=caller.role,
        # A human's decision is about the crew whose decision it replaces, else about the whole project.
        lead_id=replaced.lead_id if replaced and caller.kind == "human" else caller.lead_id,
        project_id=caller.project_id,
        title=title,
        rationale=rationale,
        options=json.dumps(choices, ensure_ascii=False),
        category=chosen,
        needs=needs,
        approved=approved,
        at=tx.at,
        reason="The project's settings approve decisions of this category." if approved else None,
        digest=digest_of(title, rationale, choices, caller.project_id),
        supersedes=supersedes,
        search_words=text.index_words(f"{title} {rationale}", beside=" ".join(choices)),
    )
    assert decision is not None
    details = {
        "decision_id": decision.id,
        "category": chosen,
        "needs_confirmation": needs,
        "status": decision.status,
        "digest": decision.digest.hex(),
        "supersedes": supersedes,
    }
    tx.tell(
        Event(
            "decisions",
            "decision_made",
            f"{'asks a human to confirm' if needs else 'decided'}: {title}",
            subject=decision.id,
            details={name: value for name, value in details.items() if value is not None},
            project_id=decision.project_id,
            lead_id=decision.lead_id,
        )
    )
    return Recorded(
        decision_id=decision.id,
        status=decision.status,
        needs_confirmation=needs,
        auto_approved=approved or None,
        category=chosen,
        digest=decision.digest.hex(),
        supersedes=supersedes,
    )


def _is_gated(tx: Tx, caller: Caller, replaced: Decision | None, categories: set[Category]) -> bool:
    """Whether a decision needs confirmation though its author does not ask for it. People set the rules,
    and theirs are decisions of agents; the category that the title suggests counts beside the given one, so
    that no label leads past a rule."""
    if caller.kind == "human":
        return False
    if replaced is not None and replaced.needs_confirmation:
        return True
    level = projects.oversight_of(tx, caller.project_id)
    if level == "autonomous":
        return not categories.isdisjoint(projects.setting(tx, "decisions.confirm_categories"))
    return level == "supervised"


@tool(writes=True, idempotent=True)
def withdraw_decision(tx: Tx, caller: Caller, decision_id: DecisionId, reason: WhyNeeded) -> Withdrawn:
    """Take back a decision of yours; tasks that wait for it are blocked.

    conflict tells how somebody has resolved it.
    """
    withdrawn = tx.one(WITHDRAW, decision_id=decision_id, agent_id=caller.agent_id, at=tx.at, reason=reason)
    if withdrawn is not None:
        announce(tx, withdrawn, caller.agent_id)
        return Withdrawn(decision_id=decision_id, status=withdrawn.status, withdrawn=True)
    decision = find(tx, caller, decision_id)
    if decision.agent_id != caller.agent_id:
        raise NotOwner(
            f"{decision.agent_id} has recorded the decision {decision_id}.",
            hint="Ask its author, or record a decision that supersedes it.",
            object=decision_id,
            owner=decision.agent_id,
        )
    if decision.status != "withdrawn":
        raise already_resolved(decision)
    return Withdrawn(decision_id=decision_id, status=decision.status, withdrawn=False)


def already_resolved(decision: Decision) -> Conflict:
    """What a later one is answered: how the first one resolved the decision."""
    return Conflict(
        f"The decision {decision.id} is {decision.status} already.",
        hint="Nothing changed. Record a new decision that supersedes it.",
        kind="decision",
        given=decision.id,
        status=decision.status,
        resolved_by=decision.confirmed_by,
        resolved_at=decision.confirmed_at,
        reason=decision.reason,
    )
