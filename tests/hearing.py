"""What a client is told of, in either protocol era: what tests of resources and subscriptions share."""

import warnings
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import Client, types
from mcp.client.subscriptions import ResourceUpdated, Subscription, ToolsListChanged
from mcp.shared.exceptions import MCPDeprecationWarning

from callboard.mcp_server import CallboardServer
from tests.conftest import Board
from tests.serving import mode

SOON = 20.0
"""Real seconds within which a client must have been told. When all is well it takes milliseconds."""

ERAS = ("modern", "legacy")


class Ears:
    """What a client was told, in order: URIs, and the names of lists."""

    def __init__(self) -> None:
        self._heard: deque[str] = deque()
        self._something = anyio.Event()

    def hear(self, what: str) -> None:
        self._heard.append(what)
        self._something.set()

    async def __call__(self, message: Any) -> None:
        """The message handler of a client of the older era."""
        if isinstance(message, types.ResourceUpdatedNotification):
            self.hear(str(message.params.uri))
        elif isinstance(message, types.ToolListChangedNotification):
            self.hear("tools")
        elif isinstance(message, types.ResourceListChangedNotification):
            self.hear("resources")

    async def next(self) -> str:
        """What the client is told next."""
        with anyio.fail_after(SOON):
            while not self._heard:
                self._something = anyio.Event()
                await self._something.wait()
        return self._heard.popleft()

    def nothing(self) -> bool:
        """Whether all that was told so far has been heard."""
        return not self._heard


@asynccontextmanager
async def subscribed(client: Client, era: str, *uris: str, lists: bool = False) -> AsyncIterator[Ears]:
    """A client that subscribes to resources, and to its lists if it says so; what it is then told. The client
    of the older era hears of the lists that it has fetched."""
    if era == "legacy":
        ears = client.message_handler
        assert isinstance(ears, Ears)
        for uri in uris:
            await subscribe(client, uri)
        if lists:
            await client.list_tools()
            await client.list_resources()
        yield ears
        return
    ears = Ears()
    async with (
        client.listen(
            resource_subscriptions=uris, tools_list_changed=lists, resources_list_changed=lists
        ) as stream,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_pass_on, stream, ears)
        yield ears
        tasks.cancel_scope.cancel()


async def subscribe(client: Client, uri: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)  # the old way is what is meant
        await client.subscribe_resource(uri)


async def unsubscribe(client: Client, uri: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        await client.unsubscribe_resource(uri)


async def _pass_on(stream: Subscription, ears: Ears) -> None:
    async for event in stream:
        if isinstance(event, ResourceUpdated):
            ears.hear(event.uri)
        else:
            ears.hear("tools" if isinstance(event, ToolsListChanged) else "resources")
    ears.hear("the end")


@asynccontextmanager
async def client_of(board: Board, era: str = "modern") -> AsyncIterator[Client]:
    """A client of a board in this process, with ears."""
    ears = Ears()
    server = CallboardServer(board.opened)
    async with Client(server, mode=mode(era), cache=None, message_handler=ears) as client:
        yield client
