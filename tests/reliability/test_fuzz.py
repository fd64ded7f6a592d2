"""Whatever is sent, over stdio and HTTP: one reply for each call, in our words, from a server that goes on.

After each call: there is one reply, of its id, not too large; a refusal's code is of the closed set; nothing
tells of paths, statements, stack traces or tokens. After each hundred: the store keeps every rule of its own
(`callboard.integrity`). `CALLBOARD_PROOF=full` makes 25,000 calls; `CALLBOARD_SEED` repeats a run.
"""

import http.client
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callboard import integrity
from callboard.errors import CODES
from callboard.frames import FRAME_BYTES
from tests.reliability.fuzzing import AGENTS, Fuzz, wire
from tests.serving import Place
from tests.starting import connect

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
CALLS = 12_500 if FULL else 500
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))

TELLTALE = re.compile(
    r"Traceback|File \"|\.py\", line|apsw|sqlite_|\bSELECT \w+|INSERT INTO|UPDATE \w+ SET|site-packages|"
    r"cb1\.[0-9a-f]{8}\.|pydantic"
)
"""What no reply may hold but a text that was sent."""

PROTOCOL_CODES = frozenset({-32700, -32600, -32601, -32602, -32603, -32022})
"""JSON-RPC's own, and MCP's for a protocol version that the server does not speak."""

Send = Callable[[bytes], bytes]
"""Sends one line and returns the reply, none as b""."""


def judged(reply: bytes, number: int | None, outcomes: Counter[str], secret: str) -> None:
    """Hold one reply to what every reply must be; count what it was."""
    assert reply, "no reply"
    assert len(reply) <= FRAME_BYTES + 1, f"a reply of {len(reply)} bytes"
    told = json.loads(reply)
    assert told["jsonrpc"] == "2.0"
    if number is not None:
        assert told["id"] == number
    text = json.dumps(told, ensure_ascii=False)
    if "error" in told or told["result"].get("isError"):
        assert secret not in text, f"tells where the store is: {text[:500]}"
    if "error" in told:
        assert told["error"]["code"] in PROTOCOL_CODES, text[:500]
        assert not TELLTALE.search(text), text[:500]
        outcomes[str(told["error"]["code"])] += 1
    elif told["result"].get("isError"):
        error = json.loads(told["result"]["content"][0]["text"])["error"]
        assert error["code"] in CODES, text[:500]
        assert error["code"] != "internal_error", text[:500]
        assert not TELLTALE.search(text.replace("DROP TABLE", "").replace("UNION SELECT 1", "")), text[:500]
        outcomes[error["code"]] += 1
    else:
        outcomes["done"] += 1


def fuzz(place: Place, send: Send, broken: Send, calls: int) -> Counter[str]:
    """Send calls and what is none; what came of them."""
    stream = Fuzz(SEED)
    outcomes: Counter[str] = Counter()
    for number in range(1, calls + 1):
        for agent in AGENTS if number % 40 == 1 else ():  # also whoever was sent away meanwhile
            role = "lead" if agent == "ann" else "developer"
            given: dict[str, Any] = {"agent_id": agent, "role": role, "revive": True}
            judged(send(wire("register_agent", given, 1)), 1, outcomes, str(place.db))
        if number % 7 == 0:
            judged(broken(stream.frame()), None, outcomes, str(place.db))
        tool, given = stream.call()
        try:
            judged(send(wire(tool, given, number)), number, outcomes, str(place.db))
        except AssertionError as found:
            raise AssertionError(
                f"seed {SEED}, call {number}: {tool}({str(given)[:500]}): {found}"
            ) from found
        if number % 100 == 0:
            with closing(connect(place.db, readonly=True)) as db:
                assert not integrity.examine(db), f"seed {SEED}, call {number}"
    assert outcomes["done"] > calls / 10
    return outcomes


def is_request(line: bytes) -> bool:
    """Whether a line is a call that is surely answered."""
    try:
        told = json.loads(line)
    except ValueError:
        return False
    return (
        isinstance(told, dict) and isinstance(told.get("method"), str) and type(told.get("id")) in (int, str)
    )


def test_a_server_on_a_pipe_answers_whatever_is_sent(tmp_path: Path) -> None:
    """W3, X1 to X5, X8"""
    place = Place(tmp_path)
    with place.piped("--durability", "normal") as process:
        assert process.stdin is not None and process.stdout is not None
        source, sink = process.stdout, process.stdin

        def send(line: bytes) -> bytes:
            sink.write(line.replace(b"\n", b" ") + b"\n")
            sink.flush()
            return source.readline()

        def broken(line: bytes) -> bytes:
            # Blank lines and what reads as a notification have no reply; what comes next does. A request
            # that is none the worse for it has one, which may come after that of the next.
            line = line.replace(b"\n", b" ").replace(b"\r", b" ")
            sink.write(line + b"\n")
            sink.write(wire("whoami", {"agent_id": "ann"}, 999_999) + b"\n")
            sink.flush()
            said = [source.readline()]
            while json.loads(said[-1]).get("id") != 999_999:
                said.append(source.readline())
            if len(said) == 1 and is_request(line):
                said.append(source.readline())
            return said[0] if json.loads(said[0]).get("id") != 999_999 else said[-1]

        outcomes = fuzz(place, send, broken, CALLS)
        assert process.poll() is None
    print(f"seed {SEED}: {sum(outcomes.values())} replies over stdio: {dict(outcomes.most_common())}")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_over_http_answers_whatever_is_posted(tmp_path: Path) -> None:
    """W3, X1 to X5, X8"""
    place = Place(tmp_path)
    with place.http("--durability", "normal") as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

        def post(body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
            about = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
            connection.request("POST", "/mcp", body, about | headers)
            response = connection.getresponse()
            return response.status, response.read()

        def send(line: bytes) -> bytes:
            tool = json.loads(line)["params"]["name"]
            headers = {
                "MCP-Protocol-Version": "2026-07-28",
                "Mcp-Method": "tools/call",
                "Mcp-Name": tool,
            }
            status, said = post(line, headers)
            assert status in (200, 400), f"{status} {said[:500]!r}"
            return unwrapped(said)

        def broken(line: bytes) -> bytes:
            status, said = post(line, {})
            assert 200 <= status < 500, f"{status} {said[:500]!r} for {line[:200]!r}"
            return unwrapped(said) if b"jsonrpc" in said else b'{"jsonrpc":"2.0","error":{"code":-32600}}'

        outcomes = fuzz(place, send, broken, CALLS)
        connection.close()
    print(f"seed {SEED}: {sum(outcomes.values())} replies over HTTP: {dict(outcomes.most_common())}")


def unwrapped(body: bytes) -> bytes:
    """The JSON of a reply, which may have come as an event; the last one is the reply."""
    events: list[Any] = re.findall(rb"^data: (.+)$", body, re.MULTILINE)
    return bytes(events[-1]) if events else body
