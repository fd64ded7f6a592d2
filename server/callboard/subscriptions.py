"""Subscriptions: which client is told of which change, in both protocol eras.

Telling is a hint to read again, so there is nothing to queue: a watch keeps the set of what has changed
since its client was told last. It can never grow beyond what the client asked for, a slow client is told
once of many changes, and one that is gone costs nothing but its entry. Before each hint the client's right
to read is looked at again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import anyio
from mcp import types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    SUBSCRIPTION_ID_META_KEY,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import event_to_notification
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from callboard.board import Board
from callboard.errors import QuotaExceeded, Refused, Unauthenticated
from callboard.feed import Follower, News
from callboard.identity import Principal
from callboard.resources import Resources, Touch
from callboard.store import REFUSALS

Call = ServerRequestContext[Any, Any]
Send = Callable[[ServerEvent], Awaitable[None]]
List = Literal["tools", "resources"]

PUSH_SECONDS = 0.05
"""How late changes by other processes may be seen while somebody subscribes to a resource."""

LISTS_SECONDS = 1.0
"""The same while a client only asks for changes of lists, as some do for as long as they run."""

QUIET_SECONDS = 0.1
"""After telling: what changes meanwhile is told together."""

RETRY_SECONDS = 1.0
"""After how long rights are looked at again when the store could not be read."""

MOST_URIS = 256
"""Resources that one connection, or one stream, may subscribe to."""

MOST_WATCHES = 1024
"""Connections and streams that one process tells of changes."""

_KEY = "callboard.watch"
_CHANGED: Mapping[List, ServerEvent] = {"tools": ToolsListChanged(), "resources": ResourcesListChanged()}
_LISTING: Mapping[str, List] = {"tools/list": "tools", "resources/list": "resources"}

log = logging.getLogger(__name__)


class Watch:
    """What one client wants to be told, and what of it has changed since it was told last."""

    def __init__(self, board: Board, resources: Resources, token: Principal | None) -> None:
        self._board = board
        self._resources = resources
        self._token = token
        self._uris: dict[str, tuple[Touch, ...]] = {}
        self._lists: dict[List, list[str]] = {}
        self._standing: tuple[Touch, ...] = ()
        self._touched: dict[str, None] = {}
        self._to_review = False
        self._news = anyio.Event()
        self._follower: Follower | None = None

    @contextmanager
    def following(self) -> Iterator[None]:
        """Hear of what is committed. Raises the store's refusals."""
        with self._board.feed.follow(self._told) as self._follower:
            yield

    async def add(self, uri: str) -> None:
        """Tell of changes of a resource from now on. Raises as reading it does, and MCPError for one too
        many."""
        if uri not in self._uris and len(self._uris) >= MOST_URIS:
            raise _too_many("resources", MOST_URIS)
        touches = await self._resources.admit(self._token, uri)
        await self._stand()
        self._uris[uri] = touches
        self._set_pace()

    def drop(self, uri: str) -> None:
        self._uris.pop(uri, None)
        self._touched.pop(uri, None)
        self._set_pace()

    async def add_list(self, kind: List) -> None:
        """Tell from now on when the client's list of tools or of resources is another than it is now."""
        await self._stand()
        self._lists[kind] = await self._listed(kind)
        self._set_pace()

    async def run(self, send: Send) -> None:
        """Tell of changes until the client's token has come to its end, or until there is nothing left that
        it asked for and may read: an agent that was terminated reads nothing."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            touched, self._touched = self._touched, {}
            reviewed, self._to_review = self._to_review, False
            try:
                events = await self._due(touched, all_of_them=reviewed)
            except Unauthenticated:
                return
            except Refused as refusal:
                if refusal.code not in REFUSALS:
                    raise
                log.warning("who may be told of changes cannot be looked up now: %s", refusal.message)
                self._touched = touched | self._touched
                self._to_review = self._to_review or reviewed
                self._news.set()
                await anyio.sleep(RETRY_SECONDS)
                continue
            for event in events:
                await send(event)
            if not self._uris and not self._lists:
                return
            await anyio.sleep(QUIET_SECONDS)

    async def _due(self, touched: Mapping[str, None], *, all_of_them: bool) -> list[ServerEvent]:
        """What the client is to be told. What it may not read any more is dropped."""
        events: list[ServerEvent] = []
        if all_of_them:
            await self._stand()
            for kind, before in self._lists.items():
                self._lists[kind] = await self._listed(kind)
                if self._lists[kind] != before:
                    events.append(_CHANGED[kind])
        for uri in list(self._uris) if all_of_them else list(touched):
            try:
                touches = await self._resources.admit(self._token, uri)
            except MCPError:
                self.drop(uri)
                continue
            if uri in self._uris:  # not unsubscribed meanwhile
                self._uris[uri] = touches
                if uri in touched:
                    events.append(ResourceUpdated(uri))
        return events

    async def _stand(self) -> None:
        """What has the client's rights and lists looked at again: news of its agent, its token, its crew."""
        named = self._board.named(self._token)
        if named is None:
            # Who reads depends on who has signed in through this pipe; over HTTP it never changes.
            self._standing = (Touch("roster"),) if self._board.config.transport == "stdio" else ()
            return
        about = {named} if (key := self._token or self._board.principal) is None else {named, key.key_id}
        try:
            about.add((await self._board.caller(self._token)).lead_id)
        except Refused as refusal:  # not signed in yet, or gone: then the lists are nobody's in particular
            if refusal.code in REFUSALS:
                raise
        self._standing = tuple(Touch("roster", subject=each) for each in sorted(about))

    async def _listed(self, kind: List) -> list[str]:
        if kind == "tools":
            return [tool.name for tool in await self._board.visible_tools(self._token)]
        return [resource.uri for resource in await self._resources.of_caller(self._token)]

    def _set_pace(self) -> None:
        assert self._follower is not None
        lists = LISTS_SECONDS if self._lists and self._standing else float("inf")
        self._follower.within(PUSH_SECONDS if self._uris else lists)

    def _told(self, news: Sequence[News]) -> None:
        for each in news:
            for uri, touches in self._uris.items():
                if uri not in self._touched and any(touch.matches(each) for touch in touches):
                    self._touched[uri] = None
            self._to_review = self._to_review or any(touch.matches(each) for touch in self._standing)
        if self._touched or self._to_review:
            self._news.set()


class Subscriptions:
    """The watches of one server: of its 2026 streams, and of its connections of the older era."""

    def __init__(self, board: Board, resources: Resources, who: Callable[[], Principal | None]) -> None:
        self._board = board
        self._resources = resources
        self._who = who
        self._watches = 0

    @contextmanager
    def _watching(self) -> Iterator[Watch]:
        if self._watches >= MOST_WATCHES:
            raise _too_many("streams", MOST_WATCHES)
        watch = Watch(self._board, self._resources, self._who())
        self._watches += 1
        try:
            with watch.following():
                yield watch
        finally:
            self._watches -= 1

    # 2026: the answer to one request is the stream of what its sender wants to be told.

    async def listen(
        self, ctx: Call, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one `subscriptions/listen` stream. A resource that the caller may not read refuses it."""
        if ctx.request_id is None:
            raise MCPError(types.INVALID_REQUEST, "subscriptions/listen is a request.")
        request_id = ctx.request_id
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: request_id}
        asked = params.notifications
        uris = list(dict.fromkeys(asked.resource_subscriptions or ()))
        honoured = types.SubscriptionFilter(
            tools_list_changed=asked.tools_list_changed or None,
            resources_list_changed=asked.resources_list_changed or None,
            resource_subscriptions=uris or None,
        )

        async def send(event: ServerEvent) -> None:
            await ctx.session.send_notification(event_to_notification(event, meta), request_id)

        with self._watching() as watch:
            for uri in uris:
                await watch.add(uri)
            if honoured.tools_list_changed:
                await watch.add_list("tools")
            if honoured.resources_list_changed:
                await watch.add_list("resources")
            acknowledged = types.SubscriptionsAcknowledgedNotificationParams(
                notifications=honoured, _meta=meta
            )
            await ctx.session.send_notification(
                types.SubscriptionsAcknowledgedNotification(params=acknowledged), request_id
            )
            await watch.run(send)
        return types.SubscriptionsListenResult(_meta=meta)

    # The older era: a connection subscribes to resources one by one, and hears of lists unasked.

    async def subscribe(self, ctx: Call, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """Serve `resources/subscribe`. A resource that the caller may not read is refused."""
        await self._of_connection(ctx).add(params.uri)
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Call, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """Serve `resources/unsubscribe`, which undoes what may not have been done."""
        watch = ctx.session._connection.state.get(_KEY)
        if watch is not None:
            watch.drop(params.uri)
        return types.EmptyResult()

    async def note_lists(self, ctx: Call, call_next: CallNext) -> HandlerResult:
        """A middleware: a client of the older era that has fetched a list is told when it is another one."""
        result = await call_next(ctx)
        kind = _LISTING.get(ctx.method)
        if kind is None or ctx.protocol_version in MODERN_PROTOCOL_VERSIONS or not self._may_change():
            return result
        if self._watches < MOST_WATCHES or _KEY in ctx.session._connection.state:
            await self._of_connection(ctx).add_list(kind)
        return result

    def _may_change(self) -> bool:
        """Whether the caller's lists can become others: whom only arguments name always sees the same."""
        return self._board.named(self._who()) is not None or self._board.config.transport == "stdio"

    def _of_connection(self, ctx: Call) -> Watch:
        """The watch of a connection, which ends with it. The SDK has no public door from a request to the
        connection that it came over."""
        connection = ctx.session._connection
        watch: Watch | None = connection.state.get(_KEY)
        if watch is None:
            held = ExitStack()
            connection.state[_KEY] = watch = held.enter_context(self._watching())
            held.callback(connection.state.pop, _KEY)
            # A task beside the requests, which end; the SDK runs none for a connection.
            telling = asyncio.create_task(self._tell(watch, ctx.session))
            telling.add_done_callback(lambda _: held.close())
            connection.exit_stack.callback(telling.cancel)
        return watch

    async def _tell(self, watch: Watch, session: ServerSession) -> None:
        async def send(event: ServerEvent) -> None:
            if isinstance(event, ResourceUpdated):
                await session.send_resource_updated(event.uri)
            elif isinstance(event, ToolsListChanged):
                await session.send_tool_list_changed()
            else:
                await session.send_resource_list_changed()

        try:
            await watch.run(send)
        except Exception:
            log.exception("a client is told of no more changes")


def _too_many(what: str, limit: int) -> MCPError:
    refusal = QuotaExceeded(f"At most {limit} {what} can be subscribed to.", quota=what, limit=limit)
    return MCPError(types.INVALID_PARAMS, refusal.message, refusal.as_data())
