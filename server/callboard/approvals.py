"""Approvals: whether decisions are what was recorded, and their signed outcomes what people signed.

Everything is computed from the rows as they stand: a text that no longer has its digest was changed, and an
outcome that no longer has its signature was changed or never signed. Which keys count is the question that
the store cannot answer for itself, as whoever can write it can add a key; so a list that a person has kept
elsewhere goes before the store's own.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import apsw

from callboard.domains.decisions import digest_of
from callboard.identity import human_id
from callboard.signing import Envelope, Outcome, is_by, key_id_of

Kind = Literal["changed", "unsigned", "forged", "unknown_key", "revoked_key", "other_person"]

COLUMNS = (
    "id",
    "project_id",
    "title",
    "rationale",
    "options",
    "digest",
    "status",
    "confirmed_by",
    "confirmed_at",
    "reason",
    "assurance",
    "signature",
)
# As bytes: what is no text was not written by us, and must not hide the decisions behind it.
DECISIONS = f"SELECT {', '.join(f'CAST({column} AS BLOB)' for column in COLUMNS)} FROM decisions ORDER BY seq"
BYTES = frozenset({"digest", "signature"})
KEYS = "SELECT key_id, principal, public_key, revoked_at FROM _signing_keys"


class Key(NamedTuple):
    """Whose key it is, and since when it counts no more."""

    principal: str
    public: bytes
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A decision that is not what it says."""

    decision_id: str
    kind: Kind
    problem: str


@dataclass(frozen=True, slots=True)
class Verdict:
    decisions: int
    signed: int
    keys: int
    """How many keys there were to compare with."""
    findings: list[Finding]

    @property
    def sound(self) -> bool:
        return not self.findings


def verify(db: apsw.Connection, kept: Mapping[str, Key] | None = None) -> Verdict:
    """Look through all decisions. `kept` are the keys that a person vouches for; without them those count
    that the store names, and a revocation that the store knows counts in any case. Raises apsw errors."""
    known = {
        key_id: Key(principal, public, revoked_at)
        for key_id, principal, public, revoked_at in db.execute(KEYS)
    }
    keys = known if kept is None else {name: _revoked(key, known.get(name)) for name, key in kept.items()}
    count = signed = 0
    findings: list[Finding] = []
    for row in db.execute(DECISIONS):
        count += 1
        stored = dict(zip(COLUMNS, row, strict=True))
        signed += stored["signature"] is not None
        name = str(stored["id"], "utf-8", "replace")
        try:
            decision = {
                column: value if value is None or column in BYTES else str(value, "utf-8")
                for column, value in stored.items()
            }
        except UnicodeDecodeError:
            findings.append(Finding(name, "changed", "it holds what is no text"))
            continue
        findings += (Finding(name, kind, problem) for kind, problem in _faults(decision, keys))
    return Verdict(count, signed, len(keys), findings)


def _revoked(kept: Key, known: Key | None) -> Key:
    return kept if known is None else kept._replace(revoked_at=kept.revoked_at or known.revoked_at)


def _faults(decision: dict[str, Any], keys: Mapping[str, Key]) -> Iterator[tuple[Kind, str]]:
    try:
        digest = digest_of(
            decision["title"], decision["rationale"], json.loads(decision["options"]), decision["project_id"]
        )
    except (TypeError, ValueError, RecursionError):
        digest = b""
    if digest != decision["digest"]:
        yield "changed", "its text is not the one that its digest names"
    if decision["signature"] is None:
        if decision["assurance"] == "strong":
            yield "unsigned", "it is said to be signed, and is not"
        return
    try:
        envelope = Envelope.read(decision["signature"])
    except ValueError:
        yield "forged", "what stands for its signature is none"
        return
    key = keys.get(envelope.key_id)
    if key is None:
        yield "unknown_key", f"nobody is known to have the key {envelope.key_id}"
        return
    outcome = Outcome(
        decision=decision["id"],
        digest=decision["digest"].hex(),
        verdict=decision["status"],
        by=decision["confirmed_by"] or "",
        at=decision["confirmed_at"] or "",
        reason=decision["reason"] or "",
    )
    if not is_by(key.public, envelope.signature, outcome):
        yield "forged", f"its outcome was changed, or never signed with the key {envelope.key_id}"
    elif outcome.by != human_id(key.principal):
        yield "other_person", f"{outcome.by} is named, and {key.principal} has signed"
    if key.revoked_at is not None:
        yield "revoked_key", f"the key {envelope.key_id} was revoked at {key.revoked_at}"


def read_keys(listed: Any) -> dict[str, Key]:
    """Keys as `callboard key list --json` prints them, by their id. Raises ValueError for anything else."""
    try:
        keys = [
            Key(str(entry["principal"]), bytes.fromhex(entry["public_key"]), entry["revoked_at"])
            for entry in listed
        ]
    except (KeyError, TypeError, ValueError):
        raise ValueError("it is no list of signing keys.") from None
    return {key_id_of(key.public): key for key in keys}
