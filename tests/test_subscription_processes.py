"""Subscriptions between real processes: a client of one is told of what came through another."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError

from tests.hearing import Ears, subscribed
from tests.serving import PATIENCE, Place, call, mode

INBOX = "callboard://inbox/ann"
KINDS = ("stdio modern", "stdio legacy", "http modern", "http legacy", "sse legacy")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@asynccontextmanager
async def listener(place: Place, kind: str) -> AsyncIterator[Client]:
    """A client of a process that is bound to ann, of any kind."""
    transport, era = kind.split()
    if transport == "stdio":
        async with hearing(place.stdio("--agent", "ann", era=era)) as client:
            yield client
        return
    with place.http("--agent", "ann") as url:
        target = f"{url}/mcp" if transport == "http" else sse_client(f"{url}/sse")
        async with hearing(Client(target, mode=mode(era), cache=None)) as client:
            yield client


@asynccontextmanager
async def hearing(client: Client) -> AsyncIterator[Client]:
    client.message_handler = Ears()
    async with client:
        yield client


async def sent_until_heard(sender: Client, ears: Ears, to: str) -> str:
    """Send messages until one is told. Over HTTP a client of the older era opens the stream of what it is
    told when it has already been answered, and nothing says when; what is told before is lost."""
    while True:
        await call(sender, "send_message", to=to, content="hello")
        with anyio.move_on_after(2):
            return await ears.next()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_is_told_of_a_message_that_came_through_another_process(
    place: Place, kind: str
) -> None:
    """And finds it when it reads again. On every transport, in both eras."""
    era = kind.split()[1]
    with anyio.fail_after(PATIENCE):
        async with place.stdio("--agent", "ben") as sender, listener(place, kind) as client:
            await call(client, "register_agent", role="lead")
            await call(sender, "register_agent", role="developer", lead_id="ann")
            async with subscribed(client, era, INBOX) as ears:
                assert await sent_until_heard(sender, ears, "ann") == INBOX
            [content] = (await client.read_resource(INBOX)).contents
            assert isinstance(content, types.TextResourceContents)
            assert json.loads(content.text)["messages"][0]["from"] == "ben"


@asynccontextmanager
async def bearing(url: str, token: str, era: str) -> AsyncIterator[Client]:
    async with create_mcp_http_client({"Authorization": f"Bearer {token}"}) as carrier:
        transport = streamable_http_client(f"{url}/mcp", http_client=carrier)
        async with hearing(Client(transport, mode=mode(era), cache=None)) as client:
            yield client


def token_of(place: Place, agent_id: str) -> str:
    made = place.run("token", "create", "--agent", agent_id)
    assert made.returncode == 0, made.stderr
    [token] = [word for word in made.stdout.split() if word.startswith("cb1.")]
    return token


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_who_bears_a_token_is_told_of_its_own_until_the_token_is_revoked(
    place: Place, era: str
) -> None:
    with anyio.fail_after(PATIENCE):
        async with place.stdio() as sender:
            for agent, role in (("ann", "lead"), ("ben", "developer"), ("cleo", "developer")):
                await call(sender, "register_agent", agent_id=agent, role=role)
        tokens = {agent: token_of(place, agent) for agent in ("ann", "cleo")}
        with place.http("--auth") as url:
            async with (
                place.stdio("--agent", "ben") as sender,
                bearing(url, tokens["ann"], era) as client,
                bearing(url, tokens["cleo"], era) as other,
                subscribed(client, era, INBOX) as ears,
                subscribed(other, era, "callboard://inbox/cleo") as others,
            ):
                with pytest.raises(MCPError) as refused:
                    async with subscribed(other, era, INBOX):
                        pass
                assert refused.value.error.data == {"uri": INBOX}
                assert await sent_until_heard(sender, ears, "ann") == INBOX
                key_id = tokens["ann"].split(".")[2]
                assert place.run("token", "revoke", key_id).returncode == 0
                if era == "modern":
                    heard = await ears.next()
                    while heard == INBOX:  # of a second message, if the first was slow
                        heard = await ears.next()
                    assert heard == "the end"
                await call(sender, "send_message", to="ann", content="too late")
                assert await sent_until_heard(sender, others, "cleo") == "callboard://inbox/cleo"
                assert ears.nothing()
