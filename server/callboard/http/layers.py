"""What a request passes before it reaches MCP: plain ASGI layers, each of which knows one rule.

The one idea is their order, from the cheapest rule to the dearest. What a layer refuses, the layers behind
it never see; a stranger's body is never read.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callboard.http.settings import HttpSettings, names
from callboard.stdio import Malformed, decode

COMPARED: Final = (b"host", b"origin", b"content-type")
METHODS: Final = ("GET", "POST", "DELETE", "OPTIONS")

AT_ONCE: Final = 16
"""Requests of one principal that may be open together. Waiting calls and event streams are open for long."""

HELD_SECONDS: Final = 0.1
"""How long a request over the rate waits for its refusal: ten a second for each connection of a flooder, and
each is as dear as a small call."""

FAILURES_A_MINUTE: Final = 10
"""Failed authentications of one address that are answered as such. They never hold back a good token."""

Headers = list[tuple[bytes, bytes]]


def refusal(status: int, code: str, message: str, *, headers: dict[str, str] | None = None) -> JSONResponse:
    """An HTTP error in the form in which tools refuse."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=headers)


def _slow_down(message: str, seconds: float) -> JSONResponse:
    """429 in the form of our refusals. `Retry-After` counts whole seconds (RFC 9110, section 10.2.3)."""
    error = {
        "code": "rate_limited",
        "message": message,
        "retryable": True,
        "retry_after_ms": math.ceil(seconds * 1000),
    }
    return JSONResponse({"error": error}, 429, headers={"Retry-After": str(math.ceil(seconds))})


def as_private(response: Response) -> Response:
    """A response from outside the door, with the headers that the door would give it."""
    response.raw_headers = _private_headers(response.raw_headers)
    return response


class Door:
    """Lets in what is addressed to this server, by a page of this server or by no page at all.

    Against DNS rebinding and cross-site requests, both comparisons are exact: one header, one spelling but
    for case. It also keeps browsers from storing, guessing at, or sharing what is answered.
    """

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def private(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _private_headers(message.get("headers", ()))}
            await send(message)

        refused = self._refuse(scope["method"], scope["headers"], scope["server"][1])
        if refused is not None:
            await refused(scope, receive, private)
            return
        # In one case, as the SDK compares again and minds it.
        headers = [(key, value.lower() if key in COMPARED else value) for key, value in scope["headers"]]
        await self._app({**scope, "headers": headers}, receive, private)

    def _refuse(self, method: str, headers: Headers, port: int) -> Response | None:
        known = names(self._settings, port)
        if _only(headers, b"host") not in known.hosts:
            return refusal(421, "unknown_host", "The Host header does not name this server.")
        if any(key == b"origin" for key, _ in headers) and _only(headers, b"origin") not in known.origins:
            return refusal(403, "unknown_origin", "The Origin header does not name a page of this server.")
        allow = {"Allow": ", ".join(METHODS)}
        if method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        if method not in METHODS:
            return refusal(405, "method_not_allowed", "This method is not served.", headers=allow)
        if method == "POST":
            media_type, _, _ = (_only(headers, b"content-type") or "").partition(";")
            if media_type.strip() != "application/json":
                return refusal(415, "unsupported_media_type", "The Content-Type must be application/json.")
        return None


def _only(headers: Headers, name: bytes) -> str | None:
    """The value of a header that occurs exactly once, in lower case."""
    values = [value for key, value in headers if key == name]
    return values[0].decode("latin-1").lower() if len(values) == 1 else None


def _private_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    kept = [
        (key, value)
        for key, value in headers
        if key.lower() not in (b"cache-control", b"x-content-type-options")
        and not key.lower().startswith(b"access-control-")
    ]
    streams = any(
        key.lower() == b"content-type" and value[:17] == b"text/event-stream" for key, value in kept
    )
    # A proxy that compresses an event stream would hold its events back.
    caching = b"no-store, no-transform" if streams else b"no-store"
    return [*kept, (b"cache-control", caching), (b"x-content-type-options", b"nosniff")]


class Budget:
    """A bucket of `burst` for each key, refilled at `rate` a second.

    The generic cell rate algorithm (ITU-T I.371): one number is kept for a key, the moment at which its
    bucket will be full again. Keys whose buckets are full are forgotten.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = round(1e9 / rate)
        self._depth = self._interval * burst
        self._full_at: dict[str, int] = {}
        self._sweep_at = 1024

    def spend(self, key: str, now: int) -> float:
        """Takes one from the key's bucket and returns 0, or the seconds until there will be one to take.

        Args:
            key: Whose bucket.
            now: Nanoseconds of a clock that never steps back.
        """
        full_at = max(self._full_at.get(key, now), now) + self._interval
        if full_at - now > self._depth:
            return (full_at - now - self._depth) / 1e9
        self._full_at[key] = full_at
        if len(self._full_at) > self._sweep_at:
            self._full_at = {key: moment for key, moment in self._full_at.items() if moment > now}
            # Next when it has doubled, so that sweeping costs a call the same however many keys are live.
            self._sweep_at = max(1024, 2 * len(self._full_at))
        return 0.0


class Turnstile:
    """Counts the requests of each principal, and the failed authentications of each address."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._requests = Budget(settings.rate, settings.burst)
        self._failures = Budget(FAILURES_A_MINUTE / 60, FAILURES_A_MINUTE)
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        if user is None:  # nobody is asked who they are
            await self._app(scope, receive, send)
        elif isinstance(user, AuthenticatedUser):
            await self._admit(user.access_token.client_id, scope, receive, send)
        else:
            await self._app(scope, receive, self._counting_failures(scope, send))

    async def _admit(self, principal: str, scope: Scope, receive: Receive, send: Send) -> None:
        if seconds := self._requests.spend(principal, time.monotonic_ns()):
            # Else who does not wait is refused as fast as it asks, and that alone keeps the others waiting.
            await anyio.sleep(HELD_SECONDS)
            await _slow_down("Too many requests: wait, then go on.", seconds)(scope, receive, send)
            return
        if self._open[principal] >= AT_ONCE:
            await _slow_down("Too many requests are open: end one first.", 1)(scope, receive, send)
            return
        self._open[principal] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[principal] -= 1
            if not self._open[principal]:
                del self._open[principal]

    def _counting_failures(self, scope: Scope, send: Send) -> Send:
        """Puts 429 in the place of a 401, once the address has had its share of those."""
        address = scope["client"][0] if scope.get("client") else ""
        replaced = False

        async def counting(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 401:
                seconds = self._failures.spend(address, time.monotonic_ns())
                if seconds:
                    replaced = True
                    response = _slow_down("Too many failed authentications from this address.", seconds)
                    await response(scope, _nothing, send)
            if not replaced:
                await send(message)

        return counting


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


class Bodies:
    """Lets a POST through once its whole body is known to be one JSON-RPC message within the limit."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._limit = settings.body_limit
        self._auth = settings.auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stranger = self._auth and not isinstance(scope.get("user"), AuthenticatedUser)
        if scope["type"] != "http" or scope["method"] != "POST" or stranger:
            # A stranger is answered 401 further in. Nothing of what it sends is read.
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except ClientDisconnect:
            return
        if body is None:
            too_large = refusal(413, "body_too_large", f"The body is over {self._limit} bytes.")
            await too_large(scope, receive, send)
            return
        try:
            decode(body)
        except Malformed as malformed:
            reply = malformed.reply.model_dump(mode="json", exclude_unset=True)
            await JSONResponse(reply, 400)(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body, or None as soon as it is known to be over the limit."""
        declared = _only(scope["headers"], b"content-length")
        if declared is not None and declared.isdecimal() and int(declared) > self._limit:
            return None
        body = bytearray()
        async for chunk in Request(scope, receive).stream():
            body += chunk
            if len(body) > self._limit:
                return None
        return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Receives a body that was read before, and after it what the client does next."""
    messages: Iterator[Message] = iter(({"type": "http.request", "body": body, "more_body": False},))

    async def replay() -> Message:
        return next(messages, None) or await receive()

    return replay
