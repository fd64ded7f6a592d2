"""The HTTP transport: Streamable HTTP of both protocol eras on /mcp, HTTP+SSE for older clients, and /health.

Its one idea: a request is nobody's until it was let in. The SDK's two transports stand behind the layers of
`layers.py`, which say who may address this server, how often, and with what. Here they are put together,
and served in a way that ends when it is told to.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from email.utils import formatdate
from typing import Any, Final

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callboard.http.layers import Bodies, Door, Turnstile, as_private, refusal
from callboard.http.settings import HttpSettings, check_bind, names

__all__ = ["HttpSettings", "build_app", "check_bind", "serve"]

SHUTDOWN_SECONDS: Final = 0.5
"""How long connections may take to close once the server stops."""


def build_app(
    server: MCPServer[Any],
    settings: HttpSettings,
    *,
    health: Callable[[], Awaitable[dict[str, object]]],
    more: Sequence[Route] = (),
) -> Starlette:
    """The whole HTTP face of a server, as one application. Build it once for a server object.

    With authentication on, the principal that requests are counted for is the `client_id` that the server's
    own token verifier found. Requests are counted, not tool calls: a call costs one on /mcp and one on
    /messages/. Without authentication nothing is counted.

    Args:
        server: What /mcp and /sse serve. It brings its token verifier and any further routes itself.
        settings: See `HttpSettings`.
        health: What /health answers, with status 200 while its "ok" is true and else 503.
        more: Further routes behind the same layers. Each asks for authentication by itself.

    Raises:
        ValueError: `settings.auth` and the server disagree on whether callers must authenticate.
    """
    if settings.auth != (server.settings.auth is not None):
        raise ValueError("The settings and the server disagree on authentication.")

    async def answer_health(_: Request) -> Response:
        report = await health()
        return JSONResponse(report, 200 if report.get("ok") else 503)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with (manager := server.session_manager).run():
            try:
                yield
            finally:
                # A session that is merely cancelled waits a second for somebody to read its last words.
                with anyio.CancelScope(shield=True):
                    for session in tuple(manager._server_instances.values()):
                        await session.terminate()

    # The SDK's own comparison takes any port, as it is made before the port is known. Ours is exact.
    known = names(settings, None)
    security = TransportSecuritySettings(
        allowed_hosts=sorted(known.hosts), allowed_origins=sorted(known.origins)
    )
    streamable = server.streamable_http_app(
        transport_security=security, max_request_body_size=settings.body_limit
    )
    sse = server.sse_app(transport_security=security, max_request_body_size=settings.body_limit)
    routes: dict[str | None, BaseRoute] = {"/health": Route("/health", answer_health, methods=["GET"])}
    for route in (*more, *streamable.routes, *sse.routes):
        routes.setdefault(getattr(route, "path", None), route)
    app = Starlette(
        routes=list(routes.values()),
        lifespan=lifespan,
        exception_handlers={HTTPException: _answer_http_error, Exception: _answer_crash},
        middleware=[
            Middleware(Door, settings),
            *streamable.user_middleware,  # reads the bearer token
            Middleware(Turnstile, settings),
            Middleware(Bodies, settings),
        ],
    )
    app.router.redirect_slashes = False
    return app


async def _answer_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return refusal(404, "not_found", "There is nothing at this path.")
    allow = dict(error.headers or {})
    return refusal(error.status_code, "method_not_allowed", "This path has no such method.", headers=allow)


async def _answer_crash(_: Request, error: Exception) -> Response:
    """What a client is told of an error of ours; Starlette logs it, and answers outside all layers."""
    return as_private(refusal(500, "internal_error", "The request failed."))


class _Requests:
    """All requests in flight. When the server stops, each is told that its client has left.

    That is what every request has to be ready for at any moment, so each ends by the path that is walked
    every day: calls that wait are cancelled, streams are closed, and what needs no more than a moment is
    still answered. A request without an answer then gets 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._listening: set[anyio.CancelScope] = set()
        self._stopped = False

    def stop(self) -> None:
        """Sends the requests in flight home and takes nothing more."""
        self._stopped = True
        for scope in self._listening:
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = self._stopped
        started = finished = False

        async def listen() -> Message:
            nonlocal left
            with anyio.CancelScope() as listening:
                self._listening.add(listening)
                try:
                    if not self._stopped:
                        return await receive()
                finally:
                    self._listening.discard(listening)
            left = True
            return {"type": "http.disconnect"}

        async def answer(message: Message) -> None:
            nonlocal started, finished
            if left:
                return
            started = True
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)
            await dated(message)

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = (b"date", formatdate(usegmt=True).encode())
                message = {**message, "headers": [date, *message.get("headers", ())]}
            await send(message)

        if not left:
            await self._app(scope, listen, answer)
        if left and not started:
            response = as_private(refusal(503, "shutting_down", "The server is shutting down."))
            await response(scope, receive, dated)
        elif left and not finished:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Uvicorn(uvicorn.Server):
    """Uvicorn without its signal handlers, which are the caller's affair, and without its looking ten times a
    second whether it is to end, and what time it is, which is more than half of what an idle server does: it
    is told when to end, and `_Requests` dates the answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._ending = anyio.Event()

    def end(self) -> None:
        """Take nothing more, and close what is open."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        await self._ending.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def _listen(settings: HttpSettings) -> socket.socket:
    """A listening socket on the first address that the host of the settings stands for."""
    host, kind, flags = settings.host or None, socket.SOCK_STREAM, socket.AI_PASSIVE
    family, _, _, _, address = socket.getaddrinfo(host, settings.port, type=kind, flags=flags)[0]
    return socket.create_server(address[:2], family=family, backlog=1024)


async def serve(
    app: Starlette,
    settings: HttpSettings,
    *,
    ready: Callable[[str], None] | None = None,
    listener: socket.socket | None = None,
) -> None:
    """Serves an application of `build_app` until it is cancelled, and then ends within a second.

    On cancellation no more connections are taken, requests in flight are cancelled (503 for a call that
    waits, the end of the stream for an event stream), and the application's lifespan is left last.

    Args:
        app: What `build_app` made of the same settings.
        settings: See `HttpSettings`.
        ready: Is told the URL of the server, without a path, once it listens.
        listener: A bound TCP socket to take connections from, in the place of one that the settings describe.

    Raises:
        ValueError: The address is one that `check_bind` refuses.
        OSError: The address cannot be listened on.
    """
    check_bind(settings)
    with listener or _listen(settings) as bound:
        # Connections inherit it. Without it a reply waits 40 ms for a delayed acknowledgement: asyncio sets
        # it by itself only on sockets that were made with their protocol named.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address, port = bound.getsockname()[:2]
        check_bind(replace(settings, host=address))
        url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
        requests = _Requests(app)
        config = uvicorn.Config(
            requests,
            lifespan="off",
            ws="none",
            # The parser that refuses a doubled Host and a foreign authority; httptools takes both.
            http="h11",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        web = _Uvicorn(config, lambda: ready(url) if ready is not None else None)
        ended = anyio.Event()

        async def run() -> None:
            # Cancelled, uvicorn would leave its connections open. So it is not; it is asked.
            with anyio.CancelScope(shield=True):
                await web.serve(sockets=[bound])
            ended.set()

        async with app.router.lifespan_context(app), anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            try:
                await anyio.sleep_forever()
            finally:
                web.end()
                requests.stop()
                with anyio.move_on_after(SHUTDOWN_SECONDS, shield=True):
                    await ended.wait()
                # What is still open belongs to a client that does not take what it asked for.
                for connection in web.server_state.connections:
                    connection.transport.abort()
