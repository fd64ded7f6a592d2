"""Request keys: a call that is repeated has one effect.

A client that loses an answer cannot know whether its call was carried out, and the protocol gives it
nothing to ask with. It calls again with the key of the first call, and gets the first call's result.
Only results are kept: after a refusal, which changed nothing, the key is free.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from callboard.errors import RequestKeyReused
from callboard.store import Command, Row, Tx

KEPT_MS = 24 * 3600 * 1000
"""How long a result is kept at least, whatever the wall clock says meanwhile."""


class StoredResult(Row):
    arguments: str
    result: str
    created_at: str


STORED = StoredResult.query("""
    SELECT arguments, result, created_at FROM _request_keys
     WHERE principal = :principal AND tool = :tool AND request_key = :request_key
""")
KEEP = Command("""
    INSERT INTO _request_keys
           (principal, tool, request_key, args_hash, arguments, result, created_at, created_boot_ms)
    VALUES (:principal, :tool, :request_key, :args_hash, :arguments, :result, :at, :now)
""")
FORGET = Command("DELETE FROM _request_keys WHERE created_boot_ms <= :before")


def digests(arguments: Mapping[str, Any]) -> dict[str, str]:
    """What each argument was, without keeping it: a SHA-256 of its canonical JSON."""
    return {
        name: hashlib.sha256(
            json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()
        ).hexdigest()
        for name, value in sorted(arguments.items())
    }


def recall(
    tx: Tx, principal: str, tool: str, request_key: str, given: Mapping[str, str]
) -> dict[str, Any] | None:
    """The result of the first call with this key, if there was one. Raises RequestKeyReused."""
    stored = tx.one(STORED, principal=principal, tool=tool, request_key=request_key)
    if stored is None:
        return None
    first: dict[str, str] = json.loads(stored.arguments)
    differing = sorted(name for name in first.keys() | given.keys() if first.get(name) != given.get(name))
    if differing:
        raise RequestKeyReused(
            hint="Use a new key for another call.",
            request_key=request_key,
            first_used_at=stored.created_at,
            differing=differing,
        )
    result: dict[str, Any] = json.loads(stored.result)
    return result


def remember(
    tx: Tx, principal: str, tool: str, request_key: str, given: Mapping[str, str], result: Mapping[str, Any]
) -> None:
    """Keep the result of a call, in the call's own transaction."""
    arguments = json.dumps(given, separators=(",", ":"))
    tx.run(
        KEEP,
        principal=principal,
        tool=tool,
        request_key=request_key,
        args_hash=hashlib.sha256(arguments.encode()).digest(),
        arguments=arguments,
        result=json.dumps(result, separators=(",", ":"), ensure_ascii=False),
        at=tx.at,
        now=tx.now,
    )


def forget_old(tx: Tx) -> int:
    """Drop the results that need not be kept any longer; how many there were."""
    return tx.run(FORGET, before=tx.now - KEPT_MS)
