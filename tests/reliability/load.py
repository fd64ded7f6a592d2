"""Agents at work, for the proofs of load: clients so small that the machine's time is the servers', what they
do at random, what they check of each answer, and what they note of each call; and what a server process
holds of its host's memory, descriptors and threads.
"""

import asyncio
import itertools
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

VERSION = "2026-07-28"
LONGEST_LINE = 1 << 20

EXPECTED = frozenset({"lock_held", "wait_timeout"})
"""Refusals that are part of the work: others hold what is asked for."""

Json = dict[str, Any]


class Wire(Protocol):
    """A connection of one agent, which makes one call at a time."""

    async def ask(self, tool: str, arguments: Json) -> Json:
        """The result of a tool call, or its refusal under `error`."""
        ...


def request(number: int, tool: str, arguments: Json) -> bytes:
    """A tool call of the newer protocol, which needs no handshake."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


def answered(message: Json) -> Json:
    """What a reply says: the result, or the refusal."""
    if "result" not in message:
        return {"error": {"code": f"protocol error: {message}"}}
    result = message["result"]
    answer: Json = json.loads(result["content"][0]["text"])
    return answer


class Web:
    """A kept connection to a server over HTTP."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        self._numbers = itertools.count(1)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, tool: str, arguments: Json) -> Json:
        if self._streams is None or self._streams[0].at_eof():  # the server closes what is idle for long
            self.close()
            self._streams = await asyncio.open_connection(self._host, self._port, limit=LONGEST_LINE)
        reader, writer = self._streams
        body = request(next(self._numbers), tool, arguments)
        writer.write(
            (
                f"POST /mcp HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{self._bearer}"
                "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
                f"MCP-Protocol-Version: {VERSION}\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if "transfer-encoding: chunked" in head:
            data = b"".join([chunk async for chunk in _chunks(reader)])
        else:
            data = await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
        if "content-type: text/event-stream" in head:
            events = [line for line in data.splitlines() if line.startswith(b"data:")]
            data = events[-1].removeprefix(b"data:")
        if (status := head.split(" ", 2)[1]) != "200":
            refused: Json = json.loads(data)
            return refused if status == "429" else {"error": {"code": f"status {status}: {refused}"}}
        return answered(json.loads(data))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> Any:
    """The parts of a body that comes without its length."""
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


class Pipe:
    """A stdio server of one's own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._numbers = itertools.count(1)

    async def ask(self, tool: str, arguments: Json) -> Json:
        assert self.process.stdin is not None and self.process.stdout is not None
        number = next(self._numbers)
        self.process.stdin.write(request(number, tool, arguments) + b"\n")
        await self.process.stdin.drain()
        while True:
            message: Json = json.loads(await self.process.stdout.readline())
            if message.get("id") == number:
                return answered(message)


def percentile(seconds: list[float], percent: int) -> float:
    """What so many of a hundred are not above; of few, the greatest."""
    return sorted(seconds)[min(len(seconds) - 1, len(seconds) * percent // 100)]


@dataclass
class Book:
    """What all agents of a run have seen."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of each kind of call, how long each took."""
    refusals: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """What must not be: an error that is no part of the work, or two that hold one file."""
    holders: dict[str, str] = field(default_factory=dict)
    """Who was told that it holds a file, and has not asked to give it back."""
    sent: set[int] = field(default_factory=set)
    received: set[int] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    """How often each task was accepted as done."""

    def calls(self) -> int:
        return sum(map(len, self.seconds.values()))

    def unwaited(self) -> list[float]:
        """How long each call took that did not wait by choice."""
        return [one for kind, some in self.seconds.items() if not kind.startswith("wait ") for one in some]

    def table(self) -> Iterator[str]:
        """p50 and p99 of each kind of call. A call that waits by choice takes as long as it was told to."""
        for kind, seconds in sorted(self.seconds.items()):
            p50, p99 = (1000 * percentile(seconds, percent) for percent in (50, 99))
            yield f"{kind}: {len(seconds)} calls, p50 {p50:.1f} ms, p99 {p99:.1f} ms"


class Worker:
    """One agent and its day: it holds one file at a time, and thinks between its calls."""

    def __init__(
        self, name: str, crew: list[str], files: list[str], wire: Wire, book: Book, seed: int
    ) -> None:
        self.name = name
        self._crew = crew
        self._files = files
        self._wire = wire
        self._book = book
        self._seed = seed
        self._chance = random.Random(seed)
        self._unread: list[int] = []
        """Messages that were handed out, to be acknowledged with the next fetching."""
        self._made = 0
        self._think = (0.0, 0.0)

    async def call(self, tool: str, kind: str = "", **arguments: Any) -> Json:
        """Make a call and note it; {} where it was refused as it may be."""
        began = time.perf_counter()
        answer = await self._wire.ask(tool, {"agent_id": self.name, **arguments})
        self._book.seconds[kind or tool].append(time.perf_counter() - began)
        if "error" in answer:
            code = answer["error"]["code"]
            self._book.refusals[code] += 1
            if code not in EXPECTED:
                self._book.faults.append(f"{self.name}: {tool}: {answer['error']}")
            return {}
        return answer

    async def sign_in(self, role: str = "developer") -> None:
        await self.call("register_agent", role=role)

    async def work(self, until: float, think: tuple[float, float]) -> None:
        """Work until a moment of the loop's clock, thinking that many seconds between calls."""
        self._think = think
        acts = (self.edit, self.do_task, self.write, self.read, self.decide, self.remember, self.look)
        weights = (24, 14, 14, 20, 3, 10, 15)
        await self.pause()
        while asyncio.get_running_loop().time() < until:
            await self._chance.choices(acts, weights)[0]()
            await self.pause()

    async def pause(self) -> None:
        """Think, as agents do."""
        await asyncio.sleep(self._chance.uniform(*self._think))

    async def edit(self) -> None:
        path = self._chance.choice(self._files)
        if wait := self._chance.choice((0, 0, 1, 3)):
            granted = await self.call(
                "acquire_file_lock", "wait for a lock", file_path=path, wait_seconds=wait
            )
        else:
            granted = await self.call("acquire_file_lock", file_path=path)
        if not granted:
            return
        if (other := self._book.holders.setdefault(path, self.name)) != self.name:
            self._book.faults.append(f"{self.name} was given {path}, which {other} holds")
        await self.pause()
        if self._chance.random() < 0.5:
            await self.call("renew_file_lock", file_path=path, fence=granted["fence"])
            await self.pause()
        del self._book.holders[path]
        released = await self.call("release_file_lock", file_path=path, fence=granted["fence"])
        if not released.get("released"):
            self._book.faults.append(f"{self.name} had lost {path}")

    async def do_task(self) -> None:
        wait = self._chance.choice((0, 1))
        kind = "wait for a task" if wait else "claim_next_dag_task"
        task = (await self.call("claim_next_dag_task", kind, wait_seconds=wait)).get("task")
        if task:
            await self.pause()
            named = {"task_id": task["task_id"], "claim_epoch": task["claim_epoch"]}
            if await self.call("complete_dag_task", **named, summary="done"):
                self._book.done[task["task_id"]] += 1

    async def write(self) -> None:
        self._made += 1
        other = self._chance.choice(self._crew)
        answer = await self.call("send_message", to=other, content=f"word {self._made} of {self.name}")
        self._book.sent.update(answer.get("message_ids", ()))

    async def read(self, wait: int | None = None) -> bool:
        """Fetch messages and acknowledge the ones before; whether there were any."""
        wait = self._chance.choice((0, 0, 2)) if wait is None else wait
        kind = "wait for messages" if wait else "receive_messages"
        acknowledged, self._unread = self._unread, []
        answer = await self.call("receive_messages", kind, ack_ids=acknowledged, wait_seconds=wait, limit=200)
        return self._handed(answer)

    def _handed(self, answer: Json) -> bool:
        ids = [message["message_id"] for message in answer.get("messages", ())]
        self._unread += ids
        self._book.received.update(ids)
        return bool(ids)

    async def decide(self) -> None:
        self._made += 1
        await self.call(
            "record_decision", title=f"choice {self._made} of {self.name}", rationale="it is simple"
        )

    async def remember(self) -> None:
        key = f"note {self._chance.randrange(10)}"
        if await self.call("set_agent_memory", key=key, value="what I know " * 20):
            await self.pause()
            await self.call("get_agent_memory", key=key)

    async def look(self) -> None:
        if self._chance.random() < 0.5:
            self._handed(await self.call("check_in"))
        else:
            await self.call("check_file_lock", file_path=self._chance.choice(self._files))

    async def lead(self, until: float, every: float) -> None:
        """What a lead does: give its crew something to do each so many seconds, and hear what it says."""
        while asyncio.get_running_loop().time() < until:
            self._made += 1
            task = f"task-{self._seed}-{self._made}"
            await self.call("add_dag_task", id=task, role="developer", title="a piece of work")
            await self.read(wait=0)
            await asyncio.sleep(every)

    async def finish(self) -> None:
        """Read what is left to read."""
        while await self.read(wait=0) or self._unread:
            pass


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process holds of its host."""

    resident_kib: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "Vitals":
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return cls(int(status["VmRSS"].split()[0]), int(status["Threads"]), descriptors)

    def __str__(self) -> str:
        return f"{self.resident_kib / 1024:.1f} MiB, {self.threads} threads, {self.descriptors} descriptors"


@dataclass
class Watch:
    """Server processes and their store, looked at each second while they work."""

    pids: list[int]
    db: Path
    wal_bytes: int = 0
    """The most that the log had."""
    grown_bytes: int = 0
    """By how much the store has grown while they were warm."""
    warm: list[Vitals] = field(default_factory=list)
    last: list[Vitals] = field(default_factory=list)

    async def look(self, warm_at: float, until: float) -> None:
        """Note the log's size all the time, and the processes' figures at the two moments."""
        loop = asyncio.get_running_loop()
        log = self.db.with_name(self.db.name + "-wal")
        begun = 0
        while loop.time() < until:
            self.wal_bytes = max(self.wal_bytes, log.stat().st_size)
            if not self.warm and loop.time() >= warm_at:
                self.warm = [Vitals.of(pid) for pid in self.pids]
                begun = self.db.stat().st_size
            self.last = [Vitals.of(pid) for pid in self.pids]
            self.grown_bytes = self.db.stat().st_size - begun
            await asyncio.sleep(min(1.0, max(0.05, until - loop.time())))
