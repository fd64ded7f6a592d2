"""Key files: a person's signing key, kept in a file that only a passphrase opens.

The file stands in the person's own configuration, outside every repository and store, and says which key it
is to anybody who may read it; the private half is sealed. Whoever copies the file has a passphrase to guess,
so it is stretched by scrypt (RFC 7914), whose every guess costs time and memory. The library would write an
encrypted PEM as well, but with 2,048 rounds of PBKDF2, which a graphics card guesses by the million.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callboard import signing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORM = "callboard signing key 1"
"""What the file is; with it come the parameters below, which are therefore not read from it."""

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**17, 8, 1
"""128 MiB and most of a second for each guess, as OWASP's Password Storage Cheat Sheet advises."""

PASSPHRASE_LENGTH = 12
"""How many characters a passphrase has at least: whoever has the file guesses as fast as they can."""


class Unusable(Exception):
    """The key file cannot be used; the message says why, to the person at the terminal."""


class WrongPassphrase(Unusable):
    """The passphrase does not open the file."""


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A key in this process's memory."""

    public: bytes
    _private: "Ed25519PrivateKey"

    def sign(self, statement: bytes) -> bytes:
        return self._private.sign(statement)


def default_path() -> Path:
    """Where a person's key stands (XDG Base Directory Specification 0.8)."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return base / "callboard" / "signing-key.json"


def make(path: Path, passphrase: str) -> bytes:
    """Make a key and its file; the public half. An existing file is never touched. Raises Unusable."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    locked = ChaCha20Poly1305(_stretched(passphrase, salt)).encrypt(
        nonce, private.private_bytes_raw(), public
    )
    content = {
        "form": FORM,
        "key_id": signing.key_id_of(public),
        "public": public.hex(),
        "salt": salt.hex(),
        "nonce": nonce.hex(),
        "locked": locked.hex(),
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Unusable(f"There is a key at {path} already. Name another file with --key-file.") from None
    except OSError as error:
        raise Unusable(f"No key can be made at {path}: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(json.dumps(content, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key would stand in the way of a whole one
        raise Unusable(f"No key can be made at {path}: {error.strerror}.") from None
    return public


def public_of(path: Path) -> bytes:
    """The public half of the key in a file, which needs no passphrase. Raises Unusable."""
    return bytes.fromhex(_read(path)["public"])


def unlock(path: Path, passphrase: str) -> Unlocked:
    """The key in a file, opened. Raises Unusable, and WrongPassphrase."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    content = _read(path)
    public, salt, nonce, locked = (
        bytes.fromhex(content[part]) for part in ("public", "salt", "nonce", "locked")
    )
    try:
        seed = ChaCha20Poly1305(_stretched(passphrase, salt)).decrypt(nonce, locked, public)
        private = Ed25519PrivateKey.from_private_bytes(seed)
    except (InvalidTag, ValueError):
        raise WrongPassphrase(f"The passphrase does not open {path}.") from None
    return Unlocked(public, private)


def _stretched(passphrase: str, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase.encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_mode & 0o077:
            raise Unusable(f"Others may read the key at {path}. Take that from them: chmod 600.")
        content = json.loads(path.read_text(encoding="ascii"))
        public = bytes.fromhex(content["public"])
        parts = [bytes.fromhex(content[part]) for part in ("salt", "nonce", "locked")]
        if content["form"] != FORM or [len(public), *map(len, parts)] != [signing.PUBLIC_BYTES, 16, 12, 48]:
            raise ValueError
    except FileNotFoundError:
        raise Unusable(f"There is no key at {path}. Make one with: callboard key create") from None
    except OSError as error:
        raise Unusable(f"The key at {path} cannot be read: {error.strerror}.") from None
    except (KeyError, TypeError, ValueError):
        raise Unusable(f"{path} is not a signing key of callboard.") from None
    return dict(content)
