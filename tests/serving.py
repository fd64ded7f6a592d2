"""The product as processes on one store, and real clients of every kind: what tests of the faces share."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from mcp import Client, StdioServerParameters, stdio_client, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from callboard.board import Config, open_board
from callboard.mcp_server import CallboardServer
from tests.conftest import check_result

SERVER = Path(__file__).resolve().parents[1] / "server"
PATIENCE = 60.0
"""Seconds after which a test gives up. When all is well nothing waits that long."""

KINDS = ("memory", "memory legacy", "stdio", "stdio legacy", "http", "http legacy", "sse")
"""How a client reaches a server: in memory, or a process of its own or a shared one; and in which era."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A folder with a store, on which any number of processes serve."""

    folder: Path

    @property
    def db(self) -> Path:
        return self.folder / "board.db"

    def environment(self, **more: str) -> dict[str, str]:
        """What a server process finds around it: nothing of ours but the sources."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("CALLBOARD_")}
        return own | {"PYTHONPATH": str(SERVER)} | more

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "callboard", *options, "--db", str(self.db)]

    def run(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            self.command(*options),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    @contextmanager
    def piped(self, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A stdio server, to be spoken to by hand."""
        process = subprocess.Popen(
            self.command("serve", *options),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def http(self, *options: str) -> Iterator[str]:
        """A server process over HTTP on a free port; its URL, without a path."""
        process = subprocess.Popen(
            self.command("serve", "--http", "127.0.0.1:0", *options),
            cwd=self.folder,
            env=self.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                assert process.stderr is not None
                said = process.stderr.readline()
                found = re.search(r"serving (http://[\d.]+:\d+)/mcp", said)
                assert found, said
                yield found[1]
            finally:
                process.terminate()
                process.communicate(timeout=PATIENCE)

    def stdio(
        self,
        *options: str,
        era: str = "auto",
        errors: TextIO | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Client:
        """A client with a server process of its own."""
        command, *arguments = self.command("serve", *options)
        parameters = StdioServerParameters(
            command=command, args=arguments, env=self.environment(**(environment or {})), cwd=self.folder
        )
        return Client(stdio_client(parameters, errlog=errors or sys.stderr), mode=mode(era), cache=None)

    @asynccontextmanager
    async def memory(self, era: str = "auto", **config: Any) -> AsyncIterator[Client]:
        """A client of a server in this process."""
        told = Config(folder=self.folder, db=self.db, transport="http", **config)
        async with (
            open_board(told) as board,
            Client(CallboardServer(board), mode=mode(era), cache=None) as client,
        ):
            yield client

    @asynccontextmanager
    async def client(self, kind: str, url: str) -> AsyncIterator[Client]:
        """A client of any of `KINDS`; those over HTTP share the server at `url`."""
        transport, _, era = kind.partition(" ")
        if transport == "memory":
            async with self.memory(era) as client:
                yield client
        elif transport == "stdio":
            async with self.stdio(era=era) as client:
                yield client
        elif transport == "http":
            async with Client(f"{url}/mcp", mode=mode(era), cache=None) as client:
                yield client
        else:
            async with Client(sse_client(f"{url}/sse"), cache=None) as client:
                yield client


def mode(era: str) -> Literal["auto", "legacy"]:
    return "legacy" if era == "legacy" else "auto"


@asynccontextmanager
async def bearing(url: str, token: str, era: str = "auto") -> AsyncIterator[Client]:
    """A client over HTTP that sends a bearer token."""
    async with create_mcp_http_client({"Authorization": f"Bearer {token}"}) as carrier:
        transport = streamable_http_client(f"{url}/mcp", http_client=carrier)
        async with Client(transport, mode=mode(era), cache=None) as client:
            yield client


async def call(client: Client, tool: str, **arguments: Any) -> Json:
    """Call a tool that must succeed; its result."""
    return checked(tool, await client.call_tool(tool, arguments))


def checked(tool: str, result: types.CallToolResult) -> Json:
    """A result, which is what its schema says, and the same in its text."""
    told = text(result)
    assert not result.is_error, told
    data: Json | None = result.structured_content
    assert data is not None
    check_result(tool, data)
    assert told == json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return data


async def refusal(client: Client, tool: str, **arguments: Any) -> Json:
    """Call a tool that must refuse; the refusal."""
    return refused(await client.call_tool(tool, arguments))


def refused(result: types.CallToolResult) -> Json:
    """A refusal, which is JSON text and nothing else."""
    assert result.is_error, text(result)
    assert result.structured_content is None
    answer: Json = json.loads(text(result))
    assert answer.keys() == {"error"}
    assert answer["error"].keys() >= {"code", "message", "retryable"}
    error: Json = answer["error"]
    return error


def text(result: types.CallToolResult) -> str:
    [content] = result.content
    assert isinstance(content, types.TextContent)
    return content.text


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]
