"""Replies that never arrive: a call that is repeated with its request key has had one effect
(L15, Q7, Q9, W4).

Every tool of the catalogue that writes is called with a key whose answer is thrown away, and once more; the
store then holds what the first call left, row by row. Over the wire the reply is lost as it is in life: the
server is killed, or the connection is dropped, before anybody read it.
"""

import json
import os
import random
import select
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from callboard.catalog import CATALOG
from callboard.identity import Principal
from tests.conftest import Board, Boards, check_result
from tests.filling import fill
from tests.serving import Place, call
from tests.undoing import undo

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))
DROPS = 100 if FULL else 1
"""How often the reply to each tool is lost."""
KILLS = 100 if FULL else 3

WRITING = frozenset(tool.name for tool in CATALOG if tool.writes)


class Forgetful(Board):
    """A board whose clients lose the first reply to each writing tool, and ask again."""

    def __init__(self, board: Board) -> None:
        super().__init__(board.opened, board.clock, board.folder)
        self.lost: dict[str, int] = {}

    async def call(self, tool: str, *, token: Principal | None = None, **arguments: Any) -> dict[str, Any]:
        if tool not in WRITING or tool in self.lost:
            return await super().call(tool, token=token, **arguments)
        arguments.setdefault("request_key", f"lost {tool}")
        first = await self.opened.call(tool, arguments, token=token)
        check_result(tool, first)
        before = await self.contents()
        for _ in range(DROPS):
            again = await super().call(tool, token=token, **arguments)
            told = {name: value for name, value in again.items() if name not in ("replayed", "unread")}
            assert told == {
                name: value for name, value in first.items() if name not in ("replayed", "unread")
            }
            assert again["replayed"], f"{tool} was carried out again"
        assert await self.contents() == before, f"{tool} had an effect when it was repeated"
        self.lost[tool] = DROPS
        return first


async def test_a_call_whose_reply_was_lost_is_repeated_without_a_second_effect(boards: Boards) -> None:
    """L15, Q7, Q9, W4"""
    async with boards(durability="normal") as opened:
        board = Forgetful(opened)
        await undo(await fill(board, lambda text, who: f"words of {who}"))
        assert board.lost.keys() == WRITING, WRITING - board.lost.keys()
        print(f"{sum(board.lost.values())} lost replies of {len(board.lost)} tools")


def asked(tool: str, **arguments: Any) -> bytes:
    """A call as it goes over the wire, without a handshake."""
    about = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": about}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


async def sent(place: Place, key: str) -> list[int]:
    """The ids of the message that `ann` sends under a key, told by a server of its own."""
    async with place.memory() as client:
        answer = await call(client, "send_message", agent_id="ann", to="ben", content="word", request_key=key)
        ids: list[int] = answer["message_ids"]
        return ids


async def crew(place: Place) -> None:
    async with place.memory() as client:
        await call(client, "register_agent", agent_id="ann", role="lead")
        await call(client, "register_agent", agent_id="ben", role="developer")


async def inbox(place: Place) -> list[int]:
    async with place.memory() as client:
        listed = await call(client, "list_messages", agent_id="ben", limit=200)
        return [message["message_id"] for message in listed["messages"]]


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_reply_lost_on_the_wire_costs_nothing_but_the_repeat(tmp_path: Path, transport: str) -> None:
    """The server is killed, or the connection dropped, at any moment around the commit."""
    place = Place(tmp_path)
    await crew(place)
    chance = random.Random(SEED)
    keys = [f"{transport} {number}" for number in range(KILLS)]
    if transport == "stdio":
        for key in keys:
            await anyio.to_thread.run_sync(_killed, place, key, chance.random() * 0.05)
    else:
        with place.http() as url:
            for key in keys:
                await anyio.to_thread.run_sync(_dropped, url, key, chance.random() * 0.02)
    arrived = len(await inbox(place))
    told = [await sent(place, key) for key in keys]
    assert sorted(await inbox(place)) == sorted(number for ids in told for number in ids), f"seed {SEED}"
    assert [await sent(place, key) for key in keys] == told, f"seed {SEED}"
    print(f"seed {SEED}: {KILLS} replies lost over {transport}, {arrived} of calls that were carried out")


def _killed(place: Place, key: str, seconds: float) -> None:
    with place.piped() as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(asked("whoami", agent_id="ann") + b"\n")
        process.stdin.flush()
        assert b'"result"' in process.stdout.readline()
        line = asked("send_message", agent_id="ann", to="ben", content="word", request_key=key)
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        with suppress(subprocess.TimeoutExpired):  # it serves on, as it should
            process.wait(timeout=seconds)
        process.kill()


def _dropped(url: str, key: str, seconds: float) -> None:
    body = asked("send_message", agent_id="ann", to="ben", content="word", request_key=key)
    host, _, port = url.removeprefix("http://").partition(":")
    head = [
        "POST /mcp HTTP/1.1",
        f"Host: {host}:{port}",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        "MCP-Protocol-Version: 2026-07-28",
        "Mcp-Method: tools/call",
        "Mcp-Name: send_message",
        f"Content-Length: {len(body)}",
    ]
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        select.select([connection], [], [], seconds)
