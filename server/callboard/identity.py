"""Who calls, and what they may do.

A caller is named by its bearer token, else by the binding of its process, else by the `agent_id`
argument; two of these that differ are refused. A person at the terminal of a command is one who has just
typed a confirmation there, which only the command line can say of itself. Role, crew and project are then
read from the roster, inside the transaction of the call. Only rights that `RIGHTS` gives exist.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from callboard import text
from callboard.errors import (
    AgentTerminated,
    Forbidden,
    HumanRequired,
    IdentityMismatch,
    NotFound,
    Unauthenticated,
    UnknownAgent,
    UnknownCaller,
)
from callboard.signing import Signer
from callboard.store import Command, Row, Tx

Kind = Literal["worker", "lead", "observer", "human"]
Scope = Literal["worker", "lead", "observer", "human"]
Source = Literal["token", "terminal", "binding", "argument"]

# Which kinds of caller a tool's `who` stands for. An observer only ever reads.
RIGHTS: Mapping[str, frozenset[Kind]] = {
    "anyone": frozenset({"worker", "lead", "observer", "human"}),
    "any": frozenset({"worker", "lead", "observer", "human"}),
    "lead": frozenset({"lead", "human"}),
    "human": frozenset({"human"}),
}

RESERVED_NAMES = frozenset(
    [
        "human",
        "user",
        "operator",
        "admin",
        "administrator",
        "root",
        "system",
        "server",
        "lead",
        "owner",
        "callboard",
        "anyone",
        "all",
        "crew",
        "none",
        "null",
    ]
)
"""Ids that no agent can have: each reads like somebody else."""

RESERVED_LOOKS = frozenset(text.fold_name(name) for name in RESERVED_NAMES)
"""The reserved ids as they look: `0perator` is one too."""

OPERATOR = "operator"
"""Who reads at the command line without being an agent or having a token. A reserved id."""

TOKEN_PREFIX = "cb1"


def human_id(name: str) -> str:
    """The id under which a person acts."""
    return f"human:{name}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a token stands for. `scope` caps what its holder may do, whatever the roster says."""

    kind: Literal["agent", "human"]
    name: str
    scope: Scope
    key_id: str

    @property
    def agent_id(self) -> str:
        """The id under which this principal acts; a human's can never be an agent's."""
        return self.name if self.kind == "agent" else human_id(self.name)


class Claim(NamedTuple):
    """What one call brings with it to say who is calling. `stdio` is whether it came over the pipe
    of a client that lives as long as this process."""

    token: Principal | None = None
    binding: str | None = None
    argument: str | None = None
    stdio: bool = False
    operator: bool = False
    """Whether it came from the command line, whose user may read without being anybody."""
    person: str | None = None
    """Who has typed a confirmation at the terminal of the command that calls."""
    signer: Signer | None = None
    """The signing key that a person has unlocked for the command that calls."""
    crew: str | None = None
    """The crew that a person or the operator, who belong to none, has in mind."""

    @property
    def scope(self) -> Scope | None:
        """What the claim caps its caller to; None where nothing but the roster says what it may do."""
        if self.person is not None:
            return "human"
        return self.token.scope if self.token else None

    def named(self) -> tuple[str, Source] | None:
        """The caller's id and where it comes from, without asking whether it exists.

        Raises IdentityMismatch when two sources differ.
        """
        sources: list[tuple[str, Source]] = []
        if self.token is not None:
            sources.append((self.token.agent_id, "token"))
        if self.person is not None:
            sources.append((human_id(self.person), "terminal"))
        if self.binding is not None:
            sources.append((self.binding, "binding"))
        if self.argument is not None:
            sources.append((self.argument, "argument"))
        if self.operator and not sources:
            return OPERATOR, "binding"
        for other in sources[1:]:
            if other[0] != sources[0][0]:
                raise IdentityMismatch(
                    f"The {sources[0][1]} says {sources[0][0]}, the {other[1]} says {other[0]}.",
                    hint=f"Leave {'agent_id' if other[1] == 'argument' else 'one of them'} out.",
                    sources={source: name for name, source in (sources[0], other)},
                )
        return sources[0] if sources else None


class Caller(NamedTuple):
    """Who is calling, as the roster knows them. Without an identity (`agent_id` empty) only what is
    open to anyone may be called."""

    agent_id: str
    role: str
    project_id: str
    lead_id: str
    kind: Kind
    source: Source | None
    scope: Scope | None = None
    stdio: bool = False
    here: str = ""
    """The project that the server stands in, which may be another than the caller's."""
    signer: Signer | None = None
    """The key that a person signs with; nobody else has one."""

    @property
    def reads_all_crews(self) -> bool:
        """Whether it reads what belongs to any crew of the project: a human does, and the command line."""
        return self.kind == "human" or (self.kind == "observer" and self.agent_id == OPERATOR)

    @property
    def trust(self) -> str:
        """How far the identity can be trusted: L1 behind a token, else L0."""
        return "L1" if self.source == "token" else "L0"


class Member(Row):
    """An agent's line of the roster, with who leads its crew."""

    agent_id: str
    role: str
    project_id: str | None
    lead_id: str
    status: str
    terminated_at: str | None
    led_by: str | None


class Crew(Row):
    lead_id: str


CREW_OF_PROJECT = Crew.query("""
    SELECT lead_id FROM _crews WHERE project_id = :project_id AND lead_id = :lead_id
""")
CREWS_OF_PROJECT = Crew.query("""
    SELECT lead_id FROM _crews WHERE project_id = :project_id ORDER BY lead_id LIMIT 1000
""")
MEMBER = Member.query("""
    SELECT a.agent_id, a.role, a.project_id, a.lead_id, a.status, a.terminated_at, c.led_by
      FROM agent_roster AS a LEFT JOIN _crews AS c ON c.lead_id = a.lead_id
     WHERE a.agent_id = :agent_id
""")


def kind_of(member: Member, scope: Scope | None) -> Kind:
    """Whoever leads the crew and its sub-leads are leads, and so is every member of a leaderless crew.
    A token's scope only takes away: one for workers makes nobody the lead of others."""
    if scope == "observer":
        return "observer"
    leads = scope != "worker" and (member.led_by == member.agent_id or member.role == "lead")
    return "lead" if leads or member.led_by is None else "worker"


def identify(tx: Tx, claim: Claim, *, project_id: str) -> Caller:
    """The caller as the roster knows it now; `project_id` is where those belong who are not on it.

    Raises UnknownCaller, UnknownAgent, AgentTerminated, IdentityMismatch, NotFound.
    """
    if (named := claim.named()) is None:
        raise UnknownCaller(
            hint="Call register_agent first, then pass the agent_id that it returns.",
            tried=["token", "binding", "agent_id"],
        )
    agent_id, source = named
    scope = claim.scope
    if claim.token is not None:
        _check_valid(tx, tx.one(CREDENTIAL, key_id=claim.token.key_id))
    if scope == "human":
        crew = _crew_in_mind(tx, claim, project_id)
        return Caller(
            agent_id,
            "human",
            project_id,
            crew,
            "human",
            source,
            scope,
            claim.stdio,
            project_id,
            claim.signer,
        )
    member = tx.one(MEMBER, agent_id=agent_id)
    if member is None:
        if scope == "observer" or (agent_id == OPERATOR and claim.operator):
            crew = _crew_in_mind(tx, claim, project_id)
            observer = nobody(claim, project_id=project_id)
            return observer._replace(lead_id=crew, role="observer", kind="observer")
        raise UnknownAgent(
            f"No agent {agent_id} is on the roster.",
            agent_id=agent_id,
            hint="Call register_agent first.",
        )
    if member.status == "terminated":
        raise AgentTerminated(
            f"Agent {agent_id} has left.",
            agent_id=agent_id,
            since=member.terminated_at,
            hint="Call register_agent with revive=true to come back, or without agent_id for a new id.",
        )
    return Caller(
        agent_id,
        member.role,
        member.project_id or project_id,
        member.lead_id,
        kind_of(member, scope),
        source,
        scope,
        claim.stdio,
        project_id,
    )


def _crew_in_mind(tx: Tx, claim: Claim, project_id: str) -> str:
    """The crew that somebody without one looks at; without any in mind, that of no lead. Raises NotFound."""
    if claim.crew is None:
        return project_id
    if tx.one(CREW_OF_PROJECT, project_id=project_id, lead_id=claim.crew) is not None:
        return claim.crew
    crews = [crew.lead_id for crew in tx.all(CREWS_OF_PROJECT, project_id=project_id)]
    near = text.nearest(claim.crew, crews)
    raise NotFound(
        f"There is no crew {claim.crew} in this project.",
        hint=f"Did you mean {near[0]}?" if near else "See callboard status for the crews.",
        kind="crew",
        given=claim.crew,
        near=near or None,
    )


def nobody(claim: Claim, *, project_id: str) -> Caller:
    """The caller of what is open to anyone, while it is not on the roster."""
    named = claim.named()
    agent_id, source = named if named else ("", None)
    scope = claim.scope
    kind: Kind = "human" if scope == "human" else "observer" if scope == "observer" else "worker"
    return Caller(agent_id, "", project_id, project_id, kind, source, scope, claim.stdio, project_id)


def expected(tx: Tx, claim: Claim, *, project_id: str) -> Caller:
    """The caller, who need not be on the roster yet. Raises Unauthenticated, IdentityMismatch."""
    if claim.token is not None:
        _check_valid(tx, tx.one(CREDENTIAL, key_id=claim.token.key_id))
    named = claim.named()
    member = tx.one(MEMBER, agent_id=named[0]) if named else None
    if member is not None and member.status != "terminated":
        return identify(tx, claim, project_id=project_id)
    return nobody(claim, project_id=project_id)


def kinds_to_come(caller: Caller) -> set[Kind]:
    """What a caller may be: what it is, or, while it is not on the roster, what it may sign in as."""
    if caller.role or caller.kind in ("human", "observer"):
        return {caller.kind}
    return {"worker"} if caller.scope == "worker" else {"worker", "lead"}


def may(kind: Kind, *, who: str, writes: bool) -> bool:
    """Whether a kind of caller may call what is open to `who`."""
    return kind in RIGHTS[who] and not (kind == "observer" and writes)


def authorize(caller: Caller, *, operation: str, who: str, writes: bool) -> None:
    """Refuse what the caller's kind may not do. Raises HumanRequired, Forbidden."""
    if may(caller.kind, who=who, writes=writes):
        return
    if who == "human":
        raise HumanRequired(
            f"Only a human may {operation.replace('_', ' ')}.",
            operation=operation,
            hint=f"A human runs: callboard call {operation} --token-file FILE",
        )
    if caller.kind == "observer" and writes:
        raise Forbidden(
            "An observer only reads.", operation=operation, needs="worker", caller_kind="observer"
        )
    raise Forbidden(
        f"Only the lead of your crew may {operation.replace('_', ' ')}.",
        operation=operation,
        needs=who,
        caller_kind=caller.kind,
        hint="Ask your lead.",
    )


# Tokens: `cb1.<store>.<key id>.<secret>`. The store keeps the SHA-256 of the secret only.


class Credential(Row):
    key_id: str
    kind: Literal["agent", "human"]
    principal: str
    scope: Scope
    sha256: bytes
    created_at: str
    expires_unix_ms: int | None
    revoked_at: str | None


CREDENTIAL = Credential.query("""
    SELECT key_id, kind, principal, scope, sha256, created_at, expires_unix_ms, revoked_at
      FROM _credentials WHERE key_id = :key_id
""")
CREDENTIALS = Credential.query("""
    SELECT key_id, kind, principal, scope, sha256, created_at, expires_unix_ms, revoked_at
      FROM _credentials ORDER BY created_at, key_id
""")
ISSUE = Command("""
    INSERT INTO _credentials (key_id, kind, principal, scope, sha256, created_at, expires_unix_ms)
    VALUES (:key_id, :kind, :principal, :scope, :sha256, :at, :expires_unix_ms)
""")
REVOKE = Command("UPDATE _credentials SET revoked_at = :at WHERE key_id = :key_id AND revoked_at IS NULL")


def issue_token(
    tx: Tx,
    *,
    kind: Literal["agent", "human"],
    name: str,
    scope: Scope,
    store_id: str,
    expires_unix_ms: int | None,
) -> str:
    """A new token for an agent or a human. It is shown once: only its digest is kept."""
    key_id = tx.ids(6)
    secret = base64.urlsafe_b64encode(bytes.fromhex(tx.ids(32))).rstrip(b"=").decode()
    tx.run(
        ISSUE,
        key_id=key_id,
        kind=kind,
        principal=name,
        scope=scope,
        sha256=hashlib.sha256(secret.encode()).digest(),
        at=tx.at,
        expires_unix_ms=expires_unix_ms,
    )
    return f"{TOKEN_PREFIX}.{store_id[:8]}.{key_id}.{secret}"


def revoke_token(tx: Tx, key_id: str) -> bool:
    """End a token at once. False when it had been revoked before. Raises NotFound."""
    if tx.one(CREDENTIAL, key_id=key_id) is None:
        raise NotFound(f"There is no token {key_id}.", kind="token", given=key_id)
    return tx.run(REVOKE, key_id=key_id, at=tx.at) == 1


def rotate_token(tx: Tx, key_id: str, *, store_id: str, by: Principal | None) -> str:
    """A new token in the place of a valid one, for the same principal with the same scope and end. The old
    one ends in the same transaction. A person's is rotated by a person. Raises NotFound, HumanRequired, and
    Unauthenticated for one that has ended."""
    old = tx.one(CREDENTIAL, key_id=key_id)
    if old is None:
        raise NotFound(f"There is no token {key_id}.", kind="token", given=key_id)
    _check_valid(tx, old)
    if old.kind == "human" and (by is None or by.kind != "human"):
        raise HumanRequired("A person's token is rotated with a person's token (--token-file).")
    tx.run(REVOKE, key_id=key_id, at=tx.at)
    return issue_token(
        tx,
        kind=old.kind,
        name=old.principal,
        scope=old.scope,
        store_id=store_id,
        expires_unix_ms=old.expires_unix_ms,
    )


def authenticate(tx: Tx, token: str, *, store_id: str) -> Principal:
    """Whom a token stands for. Raises Unauthenticated, with its reason and nothing of the token."""
    parts = token.split(".")
    if len(parts) != 4 or parts[0] != TOKEN_PREFIX:
        raise Unauthenticated("This is not a token of callboard.", reason="malformed")
    if parts[1] != store_id[:8]:
        raise Unauthenticated("This token belongs to another store.", reason="wrong store")
    row = tx.one(CREDENTIAL, key_id=parts[2])
    given = hashlib.sha256(parts[3].encode(errors="replace")).digest()
    if row is None or not hmac.compare_digest(row.sha256, given):
        raise Unauthenticated("This token is not known.", reason="unknown")
    _check_valid(tx, row)
    return Principal(row.kind, row.principal, row.scope, row.key_id)


def is_valid(tx: Tx, token: Principal | None) -> bool:
    """Whether the token of a caller, if it has one, is still valid."""
    try:
        if token is not None:
            _check_valid(tx, tx.one(CREDENTIAL, key_id=token.key_id))
    except Unauthenticated:
        return False
    return True


def _check_valid(tx: Tx, row: Credential | None) -> None:
    """A token that was valid at sign-in may have ended since: each call asks again."""
    if row is None or row.revoked_at is not None:
        raise Unauthenticated("This token was revoked.", reason="revoked")
    if row.expires_unix_ms is not None and row.expires_unix_ms <= unix_ms(tx.wall):
        raise Unauthenticated("This token has expired.", reason="expired")


def unix_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def from_unix_ms(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1000, UTC)
