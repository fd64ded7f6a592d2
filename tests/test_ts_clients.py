"""The public TypeScript clients, of both generations, are told of what happens through another process.

They are programs of others and are not installed with the tests; `scripts/clients` does that.
"""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.text import TextReceiveStream

from tests.serving import PATIENCE, Place, call

ROOT = Path(__file__).resolve().parents[1]
WATCH = ROOT / "tests" / "clients" / "ts" / "watch.mjs"
MODULES = Path(os.environ.get("CALLBOARD_TS_CLIENTS", ROOT / ".clients"))
"""The folder whose node_modules has the clients."""

CLIENTS = (
    ("v2", "modern", "stdio"),
    ("v2", "legacy", "stdio"),
    ("v1", "legacy", "stdio"),
    ("v2", "modern", "http"),
    ("v2", "legacy", "http"),
    ("v1", "legacy", "http"),
)

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "node_modules" / "@modelcontextprotocol").exists(),
    reason="needs Node.js and the TypeScript clients: scripts/clients installs them",
)


class Lines:
    """What a program prints, line by line."""

    def __init__(self, printed: anyio.abc.ByteReceiveStream) -> None:
        self._printed = TextReceiveStream(printed)
        self._begun = ""

    async def next(self) -> dict[str, Any]:
        while "\n" not in self._begun:
            self._begun += await self._printed.receive()
        line, _, self._begun = self._begun.partition("\n")
        event: dict[str, Any] = json.loads(line)
        return event


@asynccontextmanager
async def watching(place: Place, generation: str, era: str, *target: str) -> AsyncIterator[Lines]:
    """A client that subscribes to ann's inbox."""
    command = ["node", str(WATCH), str(MODULES), generation, era]
    command += ["callboard://inbox/ann", "callboard://inbox/ben", *target]
    async with await anyio.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        cwd=place.folder,
        env=place.environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Lines(process.stdout)
        await process.stdin.aclose()
        assert await process.wait() == 0


@pytest.mark.parametrize(("generation", "era", "transport"), CLIENTS)
async def test_a_typescript_client_is_told_of_a_message_that_came_through_another_process(
    tmp_path: Path, generation: str, era: str, transport: str
) -> None:
    place = Place(tmp_path)
    with anyio.fail_after(PATIENCE):
        async with place.stdio() as sender:
            await call(sender, "register_agent", agent_id="ann", role="lead")
            await call(sender, "register_agent", agent_id="ben", role="developer", lead_id="ann")
            if transport == "stdio":
                command = place.command("serve", "--agent", "ann")
                await met(sender, place, generation, era, "stdio", *command)
            else:
                with place.http("--agent", "ann") as url:
                    await met(sender, place, generation, era, "http", f"{url}/mcp")


async def met(sender: Any, place: Place, generation: str, era: str, *target: str) -> None:
    async with watching(place, generation, era, *target) as said:
        connected = await said.next()
        assert (connected["event"], connected["read"]) == ("connected", {"messages": []})
        assert connected["capabilities"]["resources"] == {"subscribe": True, "listChanged": True}
        refused = await said.next()
        assert refused["event"] == "refused"
        assert refused["code"] == -32602
        assert (await said.next())["event"] == "subscribed"
        told: dict[str, Any] = {}
        while not told:
            # Over HTTP a client of the older era opens the stream of what it is told when it has already been
            # answered, and nothing says when; what is told before is lost.
            await call(sender, "send_message", agent_id="ben", to="ann", content="hello ann")
            with anyio.move_on_after(2):
                told = await said.next()
        assert (told["event"], told["uri"]) == ("told", "callboard://inbox/ann")
        assert "hello ann" in told["read"]["messages"][0]["text"]
