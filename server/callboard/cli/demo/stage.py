"""The demo's stage: a small repository, and real servers with a real MCP client for each agent.

Every agent has a client and a server process of its own; what they share is the store. Whatever is started
here is ended here, by its own process id, however the play ends.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
from anyio.abc import ByteReceiveStream, TaskStatus
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent

from callboard.cli.demo.story import CAST, FILES, Transport

ANSWER_SECONDS: Final = 45
"""How long a client waits for an answer: longer than the longest wait of the story."""

END_SECONDS: Final = 3
"""How long the HTTP server may take to end when it is asked to."""

START_LINE: Final = re.compile(rb"serving (http://\S+),")


class NoServer(Exception):
    """A server did not start."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What an agent was answered: the fields of a result, or of a refusal."""

    refused: bool
    data: Mapping[str, Any]


class Seat:
    """An agent at its client."""

    def __init__(self, agent_id: str, client: Client) -> None:
        self._agent_id = agent_id
        self._client = client

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Answered:
        """Call a tool as this agent. Raises MCPError when the connection fails."""
        answer = await self._client.call_tool(tool, {**arguments, "agent_id": self._agent_id})
        if not answer.is_error:
            return Answered(False, answer.structured_content or {})
        [said] = answer.content
        assert isinstance(said, TextContent)
        return Answered(True, json.loads(said.text)["error"])


@contextmanager
def throwaway(*, keep: bool) -> Iterator[Path]:
    """A new temporary folder, removed at the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-demo-")).resolve()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder)


async def make_repository(folder: Path) -> bool:
    """Make the folder that the story plays in. False when it is no git repository, as there is no git.

    Raises CalledProcessError.
    """
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if shutil.which("git") is None:
        return False
    await anyio.run_process(["git", "init", "--quiet"], cwd=folder, env=_environment())
    return True


@asynccontextmanager
async def seats(repository: Path, logs: Path) -> AsyncIterator[Mapping[str, Seat]]:
    """The cast at its clients, until the block ends. All start at once, on a store that is not there yet.

    What the servers say on standard error goes into `logs`, a file for each. Raises NoServer, MCPError and
    OSError, in groups.
    """
    taken: dict[str, Seat] = {}
    over = anyio.Event()

    async def take(agent_id: str, transport: Transport, *, task_status: TaskStatus[None]) -> None:
        async with CONNECTIONS[transport](repository, logs / f"{agent_id}.log") as client:
            taken[agent_id] = Seat(agent_id, client)
            task_status.started()
            await over.wait()

    async with anyio.create_task_group() as sitting:
        async with anyio.create_task_group() as starting:
            for agent_id, transport in CAST.items():
                starting.start_soon(sitting.start, take, agent_id, transport)
        yield taken
        over.set()


@asynccontextmanager
async def _over_stdio(repository: Path, log: Path) -> AsyncIterator[Client]:
    """A client with a server at the other end of its pipes."""
    command, *arguments = _serve(repository)
    program = StdioServerParameters(command=command, args=arguments, cwd=repository, env=_environment())
    with log.open("w", encoding="utf-8") as said:
        async with Client(stdio_client(program, errlog=said), read_timeout_seconds=ANSWER_SECONDS) as client:
            yield client


@asynccontextmanager
async def _over_http(repository: Path, log: Path) -> AsyncIterator[Client]:
    """A client of a server over HTTP."""
    command = [*_serve(repository), "--http", "127.0.0.1:0"]
    async with (
        _http_server(command, repository, log) as url,
        # Without the environment's proxies: the way to this host leads through none.
        httpx2.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as http,
        Client(streamable_http_client(url, http_client=http), read_timeout_seconds=ANSWER_SECONDS) as client,
    ):
        yield client


CONNECTIONS: Final[Mapping[Transport, Callable[[Path, Path], AbstractAsyncContextManager[Client]]]] = {
    "stdio": _over_stdio,
    "http": _over_http,
}


def _serve(repository: Path) -> list[str]:
    """The command that serves the story's store. It is named, although in its default place: without git, a
    repository that the temporary folder stands in must not be taken for the story's."""
    store = repository / ".callboard" / "board.db"
    return [sys.executable, "-m", "callboard", "serve", "--db", str(store)]


@asynccontextmanager
async def _http_server(command: list[str], folder: Path, log: Path) -> AsyncIterator[str]:
    """A server over HTTP until the block ends; the URL at which it listens, from its start line."""
    async with (
        await anyio.open_process(
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C reaches the demo alone, which then ends its servers
        ) as process,
        anyio.create_task_group() as tasks,
    ):
        assert process.stderr is not None
        try:
            url = await tasks.start(_listen, process.stderr, log)
            yield url
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                with anyio.move_on_after(END_SECONDS):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _listen(
    said: ByteReceiveStream, log: Path, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Write what a server says into its log. Has started, with the URL, once that was said."""
    start, found = b"", None
    with log.open("wb", buffering=0) as file:
        async for chunk in said:
            file.write(chunk)
            if found is None:
                start += chunk
                if (found := START_LINE.search(start)) is not None:
                    task_status.started(found[1].decode())
    if found is None:
        raise NoServer("the HTTP server ended before it listened")


def _environment() -> dict[str, str]:
    """The environment of what is started here: it imports from where this process does, and nothing that
    the user set for a server or a repository of their own applies."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CALLBOARD_", "GIT_"))}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
