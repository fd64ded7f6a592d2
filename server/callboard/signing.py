"""Signing: what a person's key signs, and whether a signature is that key's.

Only the bytes of a statement are signed, in one canonical form, so that anybody can make them again from what
the store holds. A signature is kept together with the id of its key, which is derived from the key itself.
The library is imported where it is used: hardly any start signs anything.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

KEY_ID_BYTES = 10
SIGNATURE_BYTES = 64
PUBLIC_BYTES = 32


class Signer(Protocol):
    """A person's key, unlocked for as long as a command runs."""

    @property
    def public(self) -> bytes: ...

    def sign(self, statement: bytes) -> bytes:
        """The 64 bytes of a signature, which follow from the key and the statement alone."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a person resolved a decision: everything of it that the store keeps."""

    decision: str
    digest: str
    """In hexadecimal digits: what was resolved."""
    verdict: str
    by: str
    at: str
    reason: str

    def statement(self) -> bytes:
        """What is signed: the UTF-8 text of one JSON object with the fields by their names and, as `signed`,
        what it is; keys in order, without white space between the parts, and with every character but the
        quote, the backslash and control characters as itself."""
        content = asdict(self) | {"signed": "callboard decision 1"}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Envelope(NamedTuple):
    """A signature as the store keeps it."""

    key_id: str
    signature: bytes

    @classmethod
    def read(cls, stored: bytes) -> "Envelope":
        """Raises ValueError for bytes that are none."""
        if len(stored) != KEY_ID_BYTES + SIGNATURE_BYTES:
            raise ValueError("not a signature with the id of its key")
        return cls(stored[:KEY_ID_BYTES].hex(), stored[KEY_ID_BYTES:])

    def stored(self) -> bytes:
        return bytes.fromhex(self.key_id) + self.signature


def key_id_of(public: bytes) -> str:
    """The name of a key: the beginning of its digest, so that no other key can go by it."""
    return hashlib.sha256(public).digest()[:KEY_ID_BYTES].hex()


def sealed(outcome: Outcome, signer: Signer) -> bytes:
    """The signature of an outcome, as the store keeps it."""
    return Envelope(key_id_of(signer.public), signer.sign(outcome.statement())).stored()


def is_by(public: bytes, signature: bytes, outcome: Outcome) -> bool:
    """Whether a signature of this outcome was made with the private half of this key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, outcome.statement())
    except (InvalidSignature, ValueError):
        return False
    return True
