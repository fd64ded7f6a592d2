"""Decisions: what was decided or asked, and what people said to it.

A decision's text never changes once it is recorded, and an approval names its digest. What needs
confirmation waits for a human for as long as it takes: no agent, lead, setting or passing of time ever
confirms it. The tasks that wait for a decision move in the transaction that ends it.
"""

from callboard.domains.decisions.decision import Decision, digest_of, pending, recent
from callboard.domains.decisions.reading import get_decision, list_decisions, wait_for_decision
from callboard.domains.decisions.recording import record_decision, withdraw_decision
from callboard.domains.decisions.resolving import confirm_decision, dismiss_decision, reject_decision

TOOLS = (
    record_decision,
    list_decisions,
    get_decision,
    wait_for_decision,
    withdraw_decision,
    confirm_decision,
    reject_decision,
    dismiss_decision,
)

__all__ = ["TOOLS", "Decision", "digest_of", "pending", "recent"]
