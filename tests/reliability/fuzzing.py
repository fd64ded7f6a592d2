"""Calls of every kind, good and bad, made from the published schemas by one seed.

A quarter are good as far as a schema can say, the rest have one thing wrong: a field of another type, a
bound passed by one, a name that is not there, somebody else's identity, or an envelope that is no call.
"""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from callboard.catalog import CATALOG

TOOLS: Mapping[str, Mapping[str, Any]] = {tool.name: tool.input_schema for tool in CATALOG}
AGENTS = ("ann", "ben", "dan")
WORDS = (
    "ann", "ben", "t1", "t2", "src/a.py", "src/**/*.py", "5m", "2026-01-02T00:00:00Z", "developer", "general",
    "word", "👍", "#3fb950", "1.0badf00d", "hem", "a" * 64,
)  # fmt: skip
HOSTILE = (
    "", " ", "\x00", "\ud800", "\u202e\u200b", "'; DROP TABLE dag_tasks; --",
    '" OR 1=1 --', "x' UNION SELECT 1--",
    "../../etc/passwd", "/etc/passwd", "{{7*7}}", "$(id)", "%s%n", "\x1b[31m", "NEAR(", '"',
    "*", "a" * 70_000,
    "\uff41nn", "\u0430nn", "ANN", "human", "human:maria", "root",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 2**31, 2**63, 2**64, -(2**70), 1e308, [], {}, [[]], {"a": {"b": []}}, [None], "7",
)  # fmt: skip
FRAMES = (
    b"", b"{", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"{}", b'{"jsonrpc":"2.0"}', b"[" * 5_000,
    b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call"}',
    b'{"jsonrpc":"1.0","id":3,"method":"tools/list"}',
    b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}', b'{"jsonrpc":"2.0","id":4,"method":7}',
    b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":[]}', b'{"a":1e999}', b'{"a":NaN}',
)  # fmt: skip
"""Lines that are no calls."""


class Fuzz:
    """A stream of calls, all of whose choices come from one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)

    def call(self) -> tuple[str, dict[str, Any]]:
        """A tool and its arguments."""
        chance = self.chance
        tool = chance.choice(sorted(TOOLS))
        schema = TOOLS[tool]
        properties: Mapping[str, Any] = schema["properties"]
        given = {
            name: self.value(described)
            for name, described in properties.items()
            if name in schema.get("required", ()) or chance.random() < 0.2
        }
        given["agent_id"] = chance.choice(AGENTS)
        kind = chance.random()
        if kind < 0.25:
            pass
        elif kind < 0.5:
            given[chance.choice(sorted(properties))] = chance.choice(HOSTILE)
        elif kind < 0.65:
            given[chance.choice(sorted(properties))] = chance.choice(ODD)
        elif kind < 0.85:
            given |= self.bound(properties)
        elif kind < 0.92:
            given["agent_id"] = chance.choice((*HOSTILE, "nobody"))
        else:
            given[chance.choice(("ttl", "agentId", "x" * 300, ""))] = 1
        for name in ("wait_seconds", "queue_seconds"):
            if isinstance(given.get(name), int) and 0 <= given[name] <= 3_600:
                given[name] = 0  # nobody else acts meanwhile
        return tool, given

    def bound(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        """One argument at a bound of its own, or one beyond it."""
        bounded = [
            (name, described[key] + step)
            for name, described in properties.items()
            for key in ("minimum", "maximum")
            if key in described
            for step in (-1, 0, 1)
        ]
        bounded += [
            (name, "x" * (described["maxLength"] + step))
            for name, described in properties.items()
            if "maxLength" in described
            for step in (0, 1)
        ]
        bounded += [
            (name, [self.value(described["items"])] * (described["maxItems"] + step))
            for name, described in properties.items()
            if "maxItems" in described
            for step in (0, 1)
        ]
        return dict([self.chance.choice(bounded)]) if bounded else {}

    def value(self, described: Mapping[str, Any]) -> Any:
        """Something that fits a schema."""
        chance = self.chance
        if "enum" in described:
            return chance.choice(described["enum"])
        match described["type"]:
            case "boolean":
                return chance.random() < 0.5
            case "integer":
                least = int(described.get("minimum", 0))
                return chance.randint(least, min(int(described.get("maximum", least + 50)), least + 50))
            case "number":
                return chance.choice([0, 0.5, 3])
            case "array":
                return [self.value(described["items"]) for _ in range(chance.randint(1, 3))]
            case "object":
                required = described.get("required", ())
                inside = described.get("properties", {})
                return {name: self.value(item) for name, item in inside.items() if name in required}
        return chance.choice(WORDS)

    def frame(self) -> bytes:
        """A line that is no call, or a call with a byte of it changed or cut off."""
        chance = self.chance
        if chance.random() < 0.5:
            return chance.choice(FRAMES)
        tool, given = self.call()
        line = bytearray(wire(tool, given, 1))
        place = chance.randrange(len(line))
        if chance.random() < 0.5:
            return bytes(line[:place])
        line[place] = chance.choice(b'\x00\x7f\xff{}[]",:')
        return bytes(line)


def wire(tool: str, given: Mapping[str, Any], number: int) -> bytes:
    """A call as it goes over the wire, without a handshake."""
    about = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "fuzz", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": given, "_meta": about}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()
