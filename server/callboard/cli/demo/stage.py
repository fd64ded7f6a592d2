"""The demo's stage: a small repository, and real servers with a real MCP client for each agent.

A client over stdio starts a server process of its own; those over HTTP share one. Whatever is started here
is ended here, by its own process id, however the play ends.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
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

from callboard.cli.demo.story import CAST, FILES

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
    """The cast at its clients, until the block ends.

    What the servers say on standard error goes into `logs`, a file for each. Raises NoServer, MCPError and
    OSError.
    """
    store = repository / ".callboard" / "board.db"
    # Named although it is the default: without git, a repository around the folder must not be found.
    serve = ["-m", "callboard", "serve", "--db", str(store)]
    taken: dict[str, Seat] = {}
    url: str | None = None
    async with AsyncExitStack() as stack:
        for agent_id, role in CAST.items():
            if role.transport == "stdio":
                log = stack.enter_context((logs / f"{agent_id}.log").open("w", encoding="utf-8"))
                program = StdioServerParameters(
                    command=sys.executable, args=serve, cwd=repository, env=_environment()
                )
                client = Client(stdio_client(program, errlog=log), read_timeout_seconds=ANSWER_SECONDS)
            else:
                if url is None:
                    command = [sys.executable, *serve, "--http", "127.0.0.1:0"]
                    url = await stack.enter_async_context(
                        _http_server(command, repository, logs / "http.log")
                    )
                # Without the environment's proxies: the way to this host leads through none.
                http = await stack.enter_async_context(
                    httpx2.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS)
                )
                client = Client(
                    streamable_http_client(url, http_client=http), read_timeout_seconds=ANSWER_SECONDS
                )
            taken[agent_id] = Seat(agent_id, await stack.enter_async_context(client))
        yield taken


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
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("CALLBOARD_", "GIT_"))
    }
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
