"""A decision as the store keeps it: its text, its digest, its category, and who may read it."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Literal

from callboard.domains.tasks import settle_decision
from callboard.errors import NotFound, Refused
from callboard.events import Event, Notice
from callboard.identity import Caller
from callboard.store import Query, Row, Tx

Status = Literal["recorded", "confirmed", "rejected", "dismissed", "withdrawn"]
Category = Literal["style", "architecture", "tool_access", "dependency", "testing", "general"]
Assurance = Literal["strong", "client"]

# What a title's words begin with, the first that is met counts: "Reformat the tests" is about style.
_STEMS: Sequence[tuple[Category, str]] = (
    ("style", "format|lint|prettier|eslint"),
    ("architecture", "refactor|design|pattern|structur"),
    ("tool_access", "permission|tool|access|execut|command"),
    ("dependency", "package|install|upgrad|version"),
    ("testing", "test|pytest|unittest|coverage|assertion|specs?\\b"),
)
_CATEGORIES = tuple((name, re.compile(rf"\b(?:re)?(?:{stems})", re.IGNORECASE)) for name, stems in _STEMS)


class Decision(Row):
    id: str
    seq: int
    agent_id: str
    agent_role: str
    lead_id: str
    project_id: str
    title: str
    rationale: str
    options: str
    category: Category
    needs_confirmation: int
    status: Status
    auto_approved: int
    created_at: str
    digest: bytes
    supersedes: str | None
    confirmed_by: str | None
    confirmed_at: str | None
    reason: str | None
    assurance: Assurance | None
    signature: bytes | None
    superseded_by: str | None

    @property
    def choices(self) -> list[str]:
        """The options that were weighed."""
        return list(json.loads(self.options))

    @property
    def waits(self) -> bool:
        """Whether it waits for a human."""
        return self.status == "recorded" and bool(self.needs_confirmation)


class DigestMismatch(Refused):
    """The digest is not that of this decision."""


class Member(Row):
    agent_id: str
    leads: int


class Waiting(Row):
    task_id: str


# Only a decision that is in force takes the place of an earlier one in what is shown.
COLUMNS = (
    ", ".join(Decision.columns()[:-1])
    + """,
    (SELECT later.id FROM decisions AS later
      WHERE later.supersedes = decisions.id
        AND (later.status = 'confirmed' OR (later.status = 'recorded' AND later.needs_confirmation = 0))
      ORDER BY later.seq DESC LIMIT 1) AS superseded_by"""
)
READABLE = "iif(:all_crews, project_id = :project_id, lead_id = :lead_id)"
"""What a caller may read: its crew's decisions; a human and the command line, all of the project's."""

READ = Decision.query(f"SELECT {COLUMNS} FROM decisions WHERE id = :decision_id AND {READABLE}")
PENDING = Decision.query(f"""
    SELECT {COLUMNS} FROM decisions
     WHERE lead_id = :lead_id AND +status = 'recorded' AND +needs_confirmation = 1 ORDER BY seq LIMIT :limit
""")
RECENT = Decision.query(f"""
    SELECT {COLUMNS} FROM decisions WHERE lead_id = :lead_id ORDER BY seq DESC LIMIT :limit
""")
CREW = Member.query("""
    SELECT a.agent_id, c.led_by IS a.agent_id AS leads
      FROM agent_roster AS a LEFT JOIN _crews AS c ON c.lead_id = a.lead_id
     WHERE a.lead_id = :lead_id AND a.status <> 'terminated' ORDER BY a.agent_id
""")
WAITING_TASKS: Query[Waiting] = Waiting.query("""
    SELECT task_id FROM _task_decisions WHERE decision_id = :decision_id ORDER BY task_id LIMIT :limit
""")


def digest_of(title: str, rationale: str, options: Sequence[str], project_id: str) -> bytes:
    """What an approval names: the SHA-256 of what is approved, so that nothing else ever is (G2).

    The canonical form is the UTF-8 text of one JSON object with the keys `options` (a list of texts, in
    their order), `project`, `rationale` and `title`, in this order, without white space between its parts,
    and with every character but the quote, the backslash and control characters as itself.
    """
    content = {"options": list(options), "project": project_id, "rationale": rationale, "title": title}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).digest()


def category_of(title: str) -> Category:
    """The category that a title suggests."""
    return next((name for name, stems in _CATEGORIES if stems.search(title)), "general")


def check_text(decision: Decision) -> None:
    """Hold a decision to its digest: whoever reads it and then names the digest must have read what the
    digest stands for. Raises DigestMismatch for a text that was changed behind the server's back."""
    try:
        own = digest_of(decision.title, decision.rationale, decision.choices, decision.project_id)
    except (TypeError, ValueError, RecursionError):
        own = b""
    if own != decision.digest:
        raise DigestMismatch(
            f"The text of the decision {decision.id} was changed after it was recorded.",
            hint="A human runs: callboard decisions verify",
            given=own.hex(),
            current=decision.digest.hex(),
        )


def find(tx: Tx, caller: Caller, decision_id: str) -> Decision:
    """A decision that the caller may read. Raises NotFound, also for another crew's, and DigestMismatch."""
    found = tx.one(READ, decision_id=decision_id, **scope_of(caller))
    if found is None:
        raise NotFound(
            f"There is no decision {decision_id} that you may read.",
            hint="See list_decisions.",
            kind="decision",
            given=decision_id,
        )
    check_text(found)
    return found


def scope_of(caller: Caller) -> dict[str, str | bool]:
    """The values of `READABLE`."""
    return {
        "all_crews": caller.reads_all_crews,
        "project_id": caller.project_id,
        "lead_id": caller.lead_id,
    }


def pending(tx: Tx, lead_id: str, limit: int) -> list[Decision]:
    """A crew's decisions that wait for a human, oldest first."""
    return tx.all(PENDING, lead_id=lead_id, limit=limit)


def recent(tx: Tx, lead_id: str, limit: int) -> list[Decision]:
    """A crew's latest decisions, newest first."""
    return tx.all(RECENT, lead_id=lead_id, limit=limit)


def announce(tx: Tx, decision: Decision, by: str) -> list[str]:
    """Make known how a decision ended: to the ledger, to its author, to its crew, and to the tasks that
    wait for it, all in the transaction that ended it. Returns the tasks that became ready."""
    ready = settle_decision(tx, decision.id, outcome=decision.status)
    said = f"{by} has {decision.status} the decision: {decision.title}"
    facts: dict[str, object] = {"decision_id": decision.id, "status": decision.status}
    facts |= {"newly_ready": ready[:20]} if ready else {}
    kept: dict[str, object] = {
        "author": decision.agent_id,
        "digest": decision.digest.hex(),
        "reason": decision.reason or "",
    }
    kept |= {"assurance": decision.assurance} if decision.assurance else {}
    tx.tell(
        Event(
            "decisions",
            f"decision_{decision.status}",
            said,
            subject=decision.id,
            details=facts | kept,
            project_id=decision.project_id,
            lead_id=decision.lead_id,
        )
    )
    if decision.reason:
        said += f"\n\n{decision.reason}"
    payload = {"text": said, "event": f"decision_{decision.status}", **facts}
    told = {member.agent_id: bool(member.leads) for member in tx.all(CREW, lead_id=decision.lead_id)}
    told[decision.agent_id] = True
    for agent_id, concerned in told.items():
        if agent_id != by:
            tx.notify(Notice(agent_id, "decision", payload, "high" if concerned else "normal"))
    return ready
