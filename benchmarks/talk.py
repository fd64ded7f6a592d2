"""What talk costs: a group of agents over HTTP, each sending while all wait; and how soon a waiter wakes.

    PYTHONPATH=server python benchmarks/talk.py [AGENTS MESSAGES]

Thirty agents in one group each post ten messages, while every one of them waits in receive_messages over a
connection of its own: 300 posts are stored and 8,700 copies delivered. The times are from the call that sends
to the answer that brings the message, all of them on this machine's clock. Then one agent sends to another
that waits, through the same server process and through another one on the same store. It fails where
anything is lost, comes again after it was acknowledged, or comes later than is promised.
"""

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx2

SERVER = Path(__file__).resolve().parents[1] / "server"
VERSION = "2026-07-28"
WAKE_UPS = 200
SAME_MS, ACROSS_MS = 20, 100
"""Within which a waiter is promised to wake, in the median: through one process, and through two."""

PAUSE_SECONDS = 0.02
"""Between two wake-ups, so that the receiver waits again."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server process over HTTP on a free port; its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "callboard", "serve", "--http", "127.0.0.1:0"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SERVER)},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(r"serving (http://[\d.]+:\d+)/mcp", said)
            if found is None:
                raise RuntimeError(f"the server did not start: {said}")
            yield f"{found[1]}/mcp"
        finally:
            process.terminate()
            process.communicate()


@dataclass
class Agent:
    """One agent with a connection of its own. The client is small, so that the server's time is measured."""

    name: str
    url: str
    http: httpx2.AsyncClient
    received: dict[int, float] = field(default_factory=dict)
    """When each message came, by its id."""
    said_by: dict[int, str] = field(default_factory=dict)
    """Of each message, the post."""
    again: Counter[int] = field(default_factory=Counter)
    """Messages that came again after they were acknowledged."""
    acknowledged: set[int] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": tool, "arguments": {"agent_id": self.name, **arguments}, "_meta": meta}
        asked = {"jsonrpc": "2.0", "id": next(self._numbers), "method": "tools/call", "params": params}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": VERSION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
        }
        answer = await self.http.post(self.url, json=asked, headers=headers)
        answer.raise_for_status()
        result = _body(answer)["result"]
        if result.get("isError"):
            raise RuntimeError(f"{tool}: {result['content'][0]['text']}")
        content: dict[str, Any] = result["structuredContent"]
        return content

    async def receive(self, expected: int) -> None:
        """Wait for messages, acknowledging each with the next wait, until all are acknowledged."""
        ack_ids: list[int] = []
        while len(self.received) < expected or ack_ids:
            last = len(self.received) >= expected
            answer = await self.call(
                "receive_messages", ack_ids=ack_ids, limit=200, wait_seconds=0 if last else 50
            )
            now = time.perf_counter()
            self.acknowledged.update(ack_ids)
            ack_ids = []
            for message in answer["messages"]:
                message_id = message["message_id"]
                self.again[message_id] += message_id in self.acknowledged
                if message["message_type"] == "group_message":
                    self.received.setdefault(message_id, now)
                    self.said_by[message_id] = message["text"].split("\n")[1]
                ack_ids.append(message_id)


def _body(answer: httpx2.Response) -> dict[str, Any]:
    """The message in an answer, which is JSON, or the last event of a stream when it took long."""
    text = answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        text = [line for line in text.splitlines() if line.startswith("data:")][-1].removeprefix("data:")
    found: dict[str, Any] = json.loads(text)
    return found


@asynccontextmanager
async def agent(name: str, url: str, role: str = "developer") -> AsyncIterator[Agent]:
    async with httpx2.AsyncClient(timeout=90) as http:
        found = Agent(name, url, http)
        await found.call("register_agent", role=role)
        yield found


@dataclass(frozen=True)
class Talk:
    """What came of a talk."""

    stored: int
    delivered: int
    acknowledged_again: int
    lost: int
    late_ms: list[float]
    seconds: float


async def talk(url: str, agents: int, messages: int) -> Talk:
    """Let every agent post to one group while all of them wait."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(agent("lead-of-all", url, "lead"))
        names = [f"agent-{number}" for number in range(agents)]
        crew = [await stack.enter_async_context(agent(name, url)) for name in names]
        await crew[0].call("create_chat_group", name="everybody", members=names)
        # Being made a member is told as well; it is dealt with before the clock runs.
        for each in crew:
            notices = await each.call("receive_messages", limit=200)
            if notices["messages"]:
                await each.call("ack_messages", receipts=[one["receipt"] for one in notices["messages"]])
        sent: dict[str, float] = {}

        async def post(each: Agent) -> None:
            for number in range(messages):
                text = f"{each.name} says {number}"
                sent[text] = time.perf_counter()
                await each.call("send_group_message", group_name="everybody", content=text)

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for each in crew:
                tasks.create_task(each.receive((agents - 1) * messages))
                tasks.create_task(post(each))
        seconds = time.perf_counter() - begun
        stored: set[str] = set()
        after = 0
        while True:
            page = await crew[0].call(
                "read_group_messages", group_name="everybody", after_id=after, limit=200, mark_read=False
            )
            stored |= {message["text"].split("\n")[1] for message in page["messages"]}
            if (after := page.get("next_after_id", 0)) == 0:
                break
        lost = 0
        readers: dict[str, set[str]] = defaultdict(set)
        for each in crew:
            for message_id, text in each.said_by.items():
                if message_id in each.acknowledged:
                    readers[text].add(each.name)
        for text in sent:
            lost += agents - 1 - len(readers[text])
        return Talk(
            stored=len(stored & sent.keys()),
            delivered=sum(len(each.acknowledged & each.received.keys()) for each in crew),
            acknowledged_again=sum(sum(each.again.values()) for each in crew),
            lost=lost,
            late_ms=[
                1000 * (came - sent[each.said_by[message_id]])
                for each in crew
                for message_id, came in each.received.items()
            ],
            seconds=seconds,
        )


async def wake_ups(sender_url: str, receiver_url: str, count: int) -> list[float]:
    """How long after its sending each message reached an agent that waited for it, in milliseconds."""
    async with agent("caller", sender_url) as sender, agent("waiter", receiver_url) as receiver:
        late: list[float] = []
        ack_ids: list[int] = []
        for number in range(count):
            waiting = asyncio.create_task(receiver.call("receive_messages", wait_seconds=50, ack_ids=ack_ids))
            await asyncio.sleep(PAUSE_SECONDS)
            begun = time.perf_counter()
            sending = asyncio.create_task(sender.call("send_message", to="waiter", content=f"{number}"))
            came = await waiting
            late.append(1000 * (time.perf_counter() - begun))
            await sending
            ack_ids = [message["message_id"] for message in came["messages"]]
        return late


def told(name: str, times: list[float]) -> str:
    cuts = quantiles(times, n=100)
    return f"{name:<44} p50 {cuts[49]:7.1f} ms   p99 {cuts[98]:7.1f} ms   worst {max(times):7.1f} ms"


async def main(agents: int, messages: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repo"
        folder.mkdir()
        with serving(folder) as one, serving(folder) as other:
            came = await talk(one, agents, messages)
            same = await wake_ups(one, one, WAKE_UPS)
            across = await wake_ups(one, other, WAKE_UPS)
    copies = agents * messages * (agents - 1)
    print(
        f"{agents} agents, {came.stored} posts stored, {came.delivered} copies delivered and acknowledged in "
        f"{came.seconds:.1f} s; {came.lost} lost, {came.acknowledged_again} again after acknowledgement"
    )
    print(told("all at once, from send to waiting receiver", came.late_ms))
    print(told("one to one, through one process", same))
    print(told("one to one, through two processes", across))
    whole = (came.stored, came.delivered, came.lost, came.acknowledged_again) == (
        agents * messages,
        copies,
        0,
        0,
    )
    soon = median(same) <= SAME_MS and median(across) <= ACROSS_MS
    return int(not (whole and soon))


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:3]] or [30, 10]
    sys.exit(asyncio.run(main(*sizes)))
