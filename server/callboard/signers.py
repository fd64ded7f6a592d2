"""Signers: which signing keys the store knows, and whose they are.

The store has public halves only. A person puts one there and takes it back; a key that was taken back stays
known as such, so that what it signed is told from what nobody signed.
"""

from typing import Any

from callboard import signing
from callboard.errors import Conflict, Forbidden, NotFound
from callboard.events import Event
from callboard.identity import Caller, human_id
from callboard.store import Command, Row, Tx


class SigningKey(Row):
    key_id: str
    principal: str
    public_key: bytes
    created_at: str
    revoked_at: str | None

    def as_data(self) -> dict[str, Any]:
        """The key as it is listed, and as `decisions verify --keys` reads it."""
        return {
            "key_id": self.key_id,
            "principal": self.principal,
            "public_key": self.public_key.hex(),
            "created_at": self.created_at,
            "revoked_at": self.revoked_at,
        }


KEY = SigningKey.query("""
    SELECT key_id, principal, public_key, created_at, revoked_at FROM _signing_keys WHERE key_id = :key_id
""")
KEYS = SigningKey.query("""
    SELECT key_id, principal, public_key, created_at, revoked_at FROM _signing_keys
     ORDER BY created_at, key_id
""")
REGISTER = Command("""
    INSERT INTO _signing_keys (key_id, principal, public_key, created_at)
    VALUES (:key_id, :principal, :public_key, :at) ON CONFLICT (key_id) DO NOTHING
""")
REVOKE = Command("""
    UPDATE _signing_keys SET revoked_at = :at WHERE key_id = :key_id AND revoked_at IS NULL
""")


def register(tx: Tx, caller: Caller, public: bytes) -> SigningKey:
    """Make a person's key known; one that is theirs already stays as it is. Raises Conflict for a key that
    was revoked or is another's."""
    key_id, principal = signing.key_id_of(public), caller.agent_id.removeprefix(human_id(""))
    added = tx.run(REGISTER, key_id=key_id, principal=principal, public_key=public, at=tx.at)
    known = tx.one(KEY, key_id=key_id)
    assert known is not None
    if known.revoked_at is not None or (known.principal, known.public_key) != (principal, public):
        why = "was revoked" if known.revoked_at is not None else f"is {known.principal}'s"
        raise Conflict(
            f"The key {key_id} {why}.", hint="Make another: callboard key create.", kind="key", given=key_id
        )
    if added:
        tx.tell(
            Event(
                "roster",
                "key_registered",
                f"registered the signing key {key_id} of {principal}",
                subject=key_id,
                details={"principal": principal, "public_key": public.hex()},
            )
        )
    return known


def revoke(tx: Tx, key_id: str) -> bool:
    """End a key at once. False when it had been revoked before. Raises NotFound."""
    if tx.one(KEY, key_id=key_id) is None:
        raise NotFound(f"There is no signing key {key_id}.", kind="key", given=key_id)
    ended = tx.run(REVOKE, key_id=key_id, at=tx.at) == 1
    if ended:
        tx.tell(Event("roster", "key_revoked", f"revoked the signing key {key_id}", subject=key_id))
    return ended


def check(tx: Tx, person: str, public: bytes) -> None:
    """Refuse a key that the store does not know as this person's own. Raises Forbidden."""
    key_id = signing.key_id_of(public)
    known = tx.one(KEY, key_id=key_id)
    if known is None or known.public_key != public:
        why, hint = "is not known here", "Register it: callboard key register."
    elif known.revoked_at is not None:
        why, hint = f"was revoked at {known.revoked_at}", "Make another: callboard key create."
    elif human_id(known.principal) != person:
        why, hint = f"is {known.principal}'s", "Everybody signs with a key of their own."
    else:
        return
    raise Forbidden(f"The signing key {key_id} {why}; nothing was changed.", operation="sign", hint=hint)
