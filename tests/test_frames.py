"""How large answers may be: lists stop, a message is whole, and no frame ends a client's connection."""

import json
from typing import Any

import pytest
from mcp import Client, types

from callboard.frames import AROUND_BYTES, FRAME_BYTES, compact
from callboard.mcp_server import CallboardServer
from callboard.params import MESSAGE_BYTES, Body, Text
from tests.conftest import Board
from tests.filling import READS, TOOLS, Filled, fill, read
from tests.serving import Place

LIST_BYTES = 64 * 1024
MOST_BYTES = 4 * 20_000
"""20,000 tokens."""

HEAVIEST = 240_000
"""Quotes of which the heaviest message consists: each is two bytes in JSON."""


def heavy(text: Text, who: str) -> str:
    """As much as a text may hold, of what takes the most bytes in JSON."""
    if isinstance(text, Body):
        return '"' * HEAVIEST
    return "\U0001d4b3" * text.most if text.unit == "characters" else '"' * text.most


@pytest.fixture
async def filled(board: Board) -> Filled:
    return await fill(board, heavy, full=True)


async def test_no_result_is_over_20000_tokens_but_for_one_message_that_is_given_whole(
    filled: Filled,
) -> None:
    for tool in READS:
        for page in await read(filled, tool):
            size = len(compact(page).encode())
            entries = [len(value) for value in page.values() if isinstance(value, list)]
            if len(page.get("messages", ())) == 1:
                assert size <= FRAME_BYTES - AROUND_BYTES, tool
            elif "next_after_id" in page and max(entries) > 1:
                assert size <= LIST_BYTES, tool
            else:
                assert size <= MOST_BYTES, tool


def test_every_tool_that_only_reads_is_asked() -> None:
    assert {tool.name for tool in TOOLS.values() if not tool.writes} - READS.keys() == set()


# On the wire.

PROSE = ("All the world's a stage,\nand all the men and women merely players. " * 5_000)[:200_000]
MESSAGES = {
    "prose": PROSE,
    "as long as may be": "x" * MESSAGE_BYTES,
    "of four bytes each": "\U0001d4b3" * (MESSAGE_BYTES // 4),
    "escapes alone": '"\n' * (HEAVIEST // 2),
    "what is taken out": "x" + "\x1b\u202e" * 60_000,
}


def exchanged(process: Any, *calls: tuple[str, dict[str, Any]]) -> list[bytes]:
    """The frames in which a server process answers calls, one after the other."""
    opening = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    asked = [("initialize", opening)]
    asked += [("tools/call", {"name": tool, "arguments": arguments}) for tool, arguments in calls]
    frames = []
    for number, (method, params) in enumerate(asked):
        line = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        process.stdin.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        process.stdin.flush()
        frames.append(process.stdout.readline())
    return frames[1:]


def test_a_message_comes_whole_in_a_frame_that_clients_take(tmp_path: Any) -> None:
    place = Place(tmp_path)
    with place.piped("--durability", "normal") as process:
        exchanged(
            process,
            ("register_agent", {"agent_id": "ann", "role": "developer"}),
            ("register_agent", {"agent_id": "ben", "role": "developer"}),
        )
    for name, content in MESSAGES.items():
        with place.piped("--durability", "normal") as process:
            sent, received, listed = exchanged(
                process,
                ("send_message", {"agent_id": "ann", "to": "ben", "content": content}),
                ("receive_messages", {"agent_id": "ben"}),
                ("list_messages", {"agent_id": "ben", "with_agent_id": "ann", "status": "queued"}),
            )
            assert not json.loads(sent)["result"].get("isError"), name
            [message] = json.loads(received)["result"]["structuredContent"]["messages"]
            exchanged(process, ("ack_messages", {"agent_id": "ben", "receipts": [message["receipt"]]}))
        for frame in (received, listed):
            assert len(frame) <= FRAME_BYTES, name
            result = json.loads(frame)["result"]
            [whole] = result["structuredContent"]["messages"]
            mark = result["structuredContent"]["mark"]
            shown = content.replace("\x1b", "").replace("\u202e", "")
            assert whole["text"] == f"<{mark}>\n{shown}\n</{mark}>", name
            [told] = json.loads(result["content"][0]["text"])["messages"]
            if name == "prose":
                assert told == whole
            assert told["text"].startswith(f"<{mark}>\n{shown[:1000]}"), name
            assert told["text"].endswith(f"\n</{mark}>"), name
            left_out = told | {"text": ""} == whole | {"text": ""} and told["text"] != whole["text"]
            assert left_out is ("structured content" in told["text"]), name


async def test_a_message_that_no_frame_can_hold_is_refused_at_once(board: Board) -> None:
    ann = await board.agent("ann")
    await board.agent("ben")
    refused = await board.refusal("send_message", agent_id="ann", to="ben", content='"' * MESSAGE_BYTES)
    assert (refused["code"], refused["field"], refused["unit"]) == ("too_large", "content", "bytes as JSON")
    refused = await board.refusal("send_message", agent_id="ann", to="ben", content="x" * (MESSAGE_BYTES + 1))
    assert (refused["code"], refused["limit"], refused["unit"]) == ("too_large", MESSAGE_BYTES, "bytes")
    # What is taken out of it anyway does not count.
    assert await ann.send_message(to="ben", content="x" + "\x1b" * (MESSAGE_BYTES - 1))


async def test_many_messages_come_in_pages_of_which_each_is_whole(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.create_chat_group(name="sewing", members=["ben"])
    sent = [('"' * 12_000 if number % 2 else "x" * 30_000) + str(number) for number in range(8)]
    for content in sent:
        await ann.send_group_message(group_name="sewing", content=content)
    received: list[str] = []
    pages = 0
    while page := (answer := await ben.receive_messages())["messages"]:
        assert len(compact(answer).encode()) <= LIST_BYTES
        received += [message["text"].split("\n")[1] for message in page if message["from"] == "ann"]
        pages += 1
        await ben.ack_messages(receipts=[message["receipt"] for message in page])
    assert pages > 2
    assert received == sent


async def test_a_refusal_of_many_faults_fits_into_a_frame(board: Board) -> None:
    """The largest refusal: each of 500 tasks is wrong in every argument, and its names are long."""
    async with Client(CallboardServer(board.opened)) as client:
        await client.call_tool("register_agent", {"agent_id": "ann", "role": "lead"})
        tasks = [{"x" * 400 + str(fault): 1 for fault in range(5)} for _ in range(500)]
        result = await client.call_tool("add_dag_tasks", {"agent_id": "ann", "tasks": tasks})
    assert result.is_error
    [content] = result.content
    assert isinstance(content, types.TextContent)
    assert len(content.text.encode()) <= MOST_BYTES
    assert json.loads(content.text)["error"]["code"] == "invalid_arguments"
