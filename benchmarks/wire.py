"""Servers as processes, and clients so small that the server's time is what is measured.

A wire is one connection: bytes that are made by hand, written and read without a loop or a thread between.
`drive` lets many agents, each a generator of calls, work over many wires from one thread.
"""

import itertools
import json
import os
import select
import selectors
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
BARE = (str(ROOT / "benchmarks" / "bare.py"), "stdio")
BARE_HTTP = (str(ROOT / "benchmarks" / "bare.py"), "http")
OURS = ("-m", "callboard", "serve")
OURS_HTTP = (*OURS, "--http", "127.0.0.1:0")
HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "0"},
}
VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
}
PATIENCE_SECONDS = 120

KEPT_SECONDS = 4
"""How long a connection is kept on which nothing is asked: uvicorn hangs up after five seconds."""

Answer = dict[str, Any]
Script = Generator[tuple[str, Mapping[str, Any]], Answer, None]
"""What an agent does: it yields a tool and its arguments, and is sent the result."""


def environment() -> dict[str, str]:
    """What a server finds around it as its users start it: its byte code compiled, and nothing of ours."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("CALLBOARD_") and key != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | {"PYTHONPATH": str(ROOT / "server")}


class Wire(ABC):
    """One connection to a server."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    @abstractmethod
    def fileno(self) -> int:
        """What to wait on for an answer."""

    @abstractmethod
    def send(self, method: str, params: Mapping[str, Any]) -> int:
        """Send a request; its id."""

    @abstractmethod
    def answers(self) -> Iterator[tuple[int, Answer]]:
        """Read once, and give what is answered by now, by the id of its request."""

    def ask(self, method: str, **params: Any) -> Answer:
        return self.wait(self.send(method, params))

    def begin(self, tool: str, **arguments: Any) -> int:
        return self.send("tools/call", {"name": tool, "arguments": arguments})

    def call(self, tool: str, **arguments: Any) -> Answer:
        return self.wait(self.begin(tool, **arguments))

    def wait(self, asked: int) -> Answer:
        """The answer to a request that was sent; there is no other on its way."""
        while True:
            for number, answer in self.answers():
                if number == asked:
                    return answer


def _result(message: dict[str, Any]) -> Answer:
    if "error" in message or message["result"].get("isError"):
        raise RuntimeError(f"a call failed: {message}")
    result: Answer = message["result"]
    content: Answer = result.get("structuredContent", result)
    return content


class Pipe(Wire):
    """A server over its pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__()
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        self._rest = b""
        self.ask("initialize", **HELLO)
        self._write({"method": "notifications/initialized"})

    def fileno(self) -> int:
        return self._out

    def send(self, method: str, params: Mapping[str, Any]) -> int:
        number = next(self._ids)
        self._write({"id": number, "method": method, "params": params})
        return number

    def _write(self, message: Mapping[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        while data:
            data = data[os.write(self._in, data) :]

    def answers(self) -> Iterator[tuple[int, Answer]]:
        data = os.read(self._out, 1 << 18)
        if not data:
            raise RuntimeError("the server ended")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "id" in message:
                yield message["id"], _result(message)


class Web(Wire):
    """One connection over HTTP that is kept; one request at a time."""

    def __init__(self, url: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        self._address = parts.hostname, parts.port
        self._connect()
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {VERSION}\r\n"
        )

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, timeout=PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._used = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, method: str, params: Mapping[str, Any]) -> int:
        if time.monotonic() - self._used > KEPT_SECONDS:
            self._socket.close()
            self._connect()
        number = next(self._ids)
        asked = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": META}}
        body = json.dumps(asked).encode()
        named = f"Mcp-Name: {params['name']}\r\n" if "name" in params else ""
        head = f"{self._head}Mcp-Method: {method}\r\n{named}Content-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        return number

    def answers(self) -> Iterator[tuple[int, Answer]]:
        data = self._socket.recv(1 << 18)
        if not data:
            raise RuntimeError("the server hung up")
        self._rest += data
        self._used = time.monotonic()
        while (body := self._whole()) is not None:
            # An answer is JSON, or the last event of a stream.
            told = [line[5:] for line in body.splitlines() if line.startswith(b"data:")]
            message = json.loads(told[-1] if told else body)
            yield message["id"], _result(message)

    def _whole(self) -> bytes | None:
        """The body of the first response in what was read, once all of it is there."""
        end = self._rest.find(b"\r\n\r\n")
        if end < 0:
            return None
        head, rest = self._rest[:end].lower(), self._rest[end + 4 :]
        if b"\r\ntransfer-encoding: chunked" in head:
            body = b""
            while True:
                size, found, rest = rest.partition(b"\r\n")
                if not found or len(rest) < (length := int(size, 16)) + 2:
                    return None
                body, rest = body + rest[:length], rest[length + 2 :]
                if not length:
                    break
        else:
            at = head.index(b"\r\ncontent-length:") + 17
            length = int(head[at:].split(b"\r\n", 1)[0])
            if len(rest) < length:
                return None
            body, rest = rest[:length], rest[length:]
        self._rest = rest
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"the server answered {head.decode()}: {body.decode()}")
        return body


@contextmanager
def piped(folder: Path, command: tuple[str, ...] = OURS) -> Iterator[Pipe]:
    """A server over a pipe, from its first answer on."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    with process:
        try:
            yield Pipe(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_SECONDS)


@contextmanager
def serving(folder: Path, command: tuple[str, ...] = OURS_HTTP) -> Iterator[tuple[str, int]]:
    """A server over HTTP on a free port: its URL, and the id of its process."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = next((word for word in said.split() if word.startswith("http://")), None)
            if found is None:
                raise RuntimeError(f"the server did not start: {said}{process.stderr.read()}")
            yield found.rstrip(","), process.pid
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_SECONDS)


def drive(agents: Iterable[tuple[Wire, Script]]) -> list[float]:
    """Let every agent do what it does, all at once; how long each call took, in milliseconds."""
    took: list[float] = []
    waiting: dict[tuple[int, int], tuple[Script, float]] = {}
    with selectors.DefaultSelector() as ready:

        def go_on(wire: Wire, script: Script, answer: Answer | None) -> None:
            try:
                tool, arguments = next(script) if answer is None else script.send(answer)
            except StopIteration:
                return
            begun = time.perf_counter()
            asked = wire.begin(tool, **arguments)
            waiting[wire.fileno(), asked] = script, begun

        for wire, script in agents:
            go_on(wire, script, None)
            if wire.fileno() not in ready.get_map():
                ready.register(wire.fileno(), selectors.EVENT_READ, wire)
        while waiting:
            if not (events := ready.select(PATIENCE_SECONDS)):
                raise RuntimeError(f"{len(waiting)} calls were not answered")
            for key, _ in events:
                for number, answer in key.data.answers():
                    script, begun = waiting.pop((key.fd, number))
                    took.append(1000 * (time.perf_counter() - begun))
                    go_on(key.data, script, answer)
    return took


def awaited(*asked: tuple[Wire, int]) -> list[tuple[float, Answer]]:
    """The answers to requests that were sent, each with the moment at which it had been read."""
    came: dict[tuple[Wire, int], tuple[float, Answer]] = {}
    wires = {wire for wire, _ in asked}
    while len(came) < len(asked):
        ready, _, _ = select.select(wires, [], [], PATIENCE_SECONDS)
        if not ready:
            raise RuntimeError("nothing was answered")
        for wire in ready:
            for number, answer in wire.answers():
                came[wire, number] = time.perf_counter(), answer
    return [came[request] for request in asked]
