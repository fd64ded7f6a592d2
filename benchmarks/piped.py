"""A server over its pipe, and a client so small that the server's time is what is measured."""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BARE = ("benchmarks/bare.py", "stdio")
OURS = ("-m", "callboard", "serve")
HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "0"},
}


def environment() -> dict[str, str]:
    """What a server finds around it as its users start it: its byte code compiled, and nothing of ours."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("CALLBOARD_") and key != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | {"PYTHONPATH": str(ROOT / "server")}


class Piped:
    """One server process, spoken to in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self._in, self._out = process.stdin, process.stdout
        self._ids = itertools.count(1)

    def _send(self, **message: Any) -> None:
        self._in.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        asked = next(self._ids)
        self._send(id=asked, method=method, params=params)
        while line := await self._out.readline():
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == asked:
                if "error" in answer or answer["result"].get("isError"):
                    raise RuntimeError(f"{method} failed: {line.decode()}")
                result: dict[str, Any] = answer["result"]
                return result
        raise RuntimeError(f"the server ended at {method}")

    async def begin(self) -> None:
        await self.ask("initialize", **HELLO)
        self._send(method="notifications/initialized")

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.ask("tools/call", name=tool, arguments=arguments)


@asynccontextmanager
async def piped(folder: Path, command: tuple[str, ...]) -> AsyncIterator[Piped]:
    """A server that has answered its first request."""
    script = str(ROOT / command[0]) if command[0].endswith(".py") else command[0]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        *command[1:],
        cwd=folder,
        env=environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 22,
    )
    server = Piped(process)
    try:
        await server.begin()
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def started(folder: Path, command: tuple[str, ...], tool: str | None) -> float:
    """Milliseconds from the start of a process to its first answer, or to that of its first call."""
    begun = time.perf_counter()
    async with piped(folder, command) as server:
        if tool is not None:
            await server.call(tool, agent_id="bench")
        return 1000 * (time.perf_counter() - begun)
