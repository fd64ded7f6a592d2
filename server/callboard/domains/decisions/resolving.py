"""The human's side: a decision is confirmed, rejected or dismissed once, by a person who is not its author.

One statement decides: it changes the row only while the decision is recorded, under the digest that was
read, and for another than its author. Whoever comes later changes nothing and is told the outcome.

A person with a signing key signs the outcome, at the very time that it is stored with, so that the row tells
all that was signed (G5, G6).
"""

from typing import Literal

from pydantic import Field

from callboard import signers
from callboard.domains.decisions.decision import (
    COLUMNS,
    Assurance,
    Decision,
    DigestMismatch,
    Status,
    announce,
    check_text,
    find,
)
from callboard.domains.decisions.recording import already_resolved
from callboard.errors import Forbidden
from callboard.identity import Caller
from callboard.params import DecisionId, Digest, Reason
from callboard.signing import Outcome, sealed
from callboard.store import Tx
from callboard.tool import Result, tool

Verdict = Literal["confirmed", "rejected", "dismissed"]

RESOLVE = Decision.query(f"""
    UPDATE decisions
       SET status = :status, confirmed_by = :caller, confirmed_at = :at, reason = :reason,
           assurance = :assurance, signature = :signature
     WHERE id = :decision_id AND project_id = :project_id AND status = 'recorded' AND digest = :digest
       AND agent_id <> :caller
    RETURNING {COLUMNS}
""")


class Resolved(Result):
    decision_id: str
    status: Status
    resolved: bool = Field(description="False when it had been resolved so before")
    resolved_by: str | None = None
    resolved_at: str | None = None
    assurance: Assurance | None = None
    newly_ready: list[str] | None = Field(default=None, description="Tasks that can be claimed now")


@tool(writes=True, idempotent=True, who="human")
def confirm_decision(
    tx: Tx, caller: Caller, decision_id: DecisionId, digest: Digest, reason: Reason = ""
) -> Resolved:
    """Confirm a decision: tasks that wait for it become ready.

    conflict tells an earlier outcome.
    """
    return _resolve(tx, caller, decision_id, digest, reason, "confirmed")


@tool(writes=True, idempotent=True, who="human")
def reject_decision(
    tx: Tx, caller: Caller, decision_id: DecisionId, digest: Digest, reason: Reason = ""
) -> Resolved:
    """Reject a decision: tasks that wait for it are blocked.

    conflict tells an earlier outcome.
    """
    return _resolve(tx, caller, decision_id, digest, reason, "rejected")


@tool(writes=True, idempotent=True, who="human")
def dismiss_decision(
    tx: Tx, caller: Caller, decision_id: DecisionId, digest: Digest, reason: Reason = ""
) -> Resolved:
    """Dismiss a decision without an answer: tasks that wait for it are blocked.

    conflict tells an earlier outcome.
    """
    return _resolve(tx, caller, decision_id, digest, reason, "dismissed")


def _resolve(
    tx: Tx, caller: Caller, decision_id: str, digest: str, reason: str, verdict: Verdict
) -> Resolved:
    signature = _signature(tx, caller, decision_id, digest, reason, verdict)
    resolved = tx.one(
        RESOLVE,
        decision_id=decision_id,
        project_id=caller.project_id,
        caller=caller.agent_id,
        digest=bytes.fromhex(digest),
        status=verdict,
        reason=reason or None,
        assurance="strong" if signature else "client",
        signature=signature,
        at=tx.at,
    )
    if resolved is not None:
        check_text(resolved)
        ready = announce(tx, resolved, caller.agent_id)
        return _view(resolved, resolved=True, newly_ready=ready[:50] or None)
    decision = find(tx, caller, decision_id)
    if decision.digest.hex() != digest:
        raise DigestMismatch(
            f"The digest is not that of the decision {decision_id}.",
            hint="Read it with get_decision, and approve what you read.",
            given=digest,
            current=decision.digest.hex(),
        )
    if decision.status == verdict:
        return _view(decision, resolved=False)
    if decision.status != "recorded":
        raise already_resolved(decision)
    raise Forbidden(
        "Nobody resolves a decision of their own.",
        operation=f"{verdict} {decision_id}",
        needs="another human",
        caller_kind=caller.kind,
        hint="Withdraw it with withdraw_decision, or ask another human.",
    )


def _signature(
    tx: Tx, caller: Caller, decision_id: str, digest: str, reason: str, verdict: Verdict
) -> bytes | None:
    """What a person's key says to this outcome; None of a person without one, whose token or typed code shows
    only that somebody held the token, or read the digest where it was shown. Raises Forbidden."""
    if caller.signer is None:
        return None
    signers.check(tx, caller.agent_id, caller.signer.public)
    outcome = Outcome(
        decision=decision_id, digest=digest, verdict=verdict, by=caller.agent_id, at=tx.at, reason=reason
    )
    return sealed(outcome, caller.signer)


def _view(decision: Decision, *, resolved: bool, newly_ready: list[str] | None = None) -> Resolved:
    return Resolved(
        decision_id=decision.id,
        status=decision.status,
        resolved=resolved,
        resolved_by=decision.confirmed_by,
        resolved_at=decision.confirmed_at,
        assurance=decision.assurance,
        newly_ready=newly_ready,
    )
