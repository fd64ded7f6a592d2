"""The HTTP transport as clients and browsers meet it: over real connections to a listening server."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from queue import SimpleQueue
from typing import Any, Literal

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from mcp import Client, types
from mcp.client.sse import sse_client
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl
from starlette.applications import Starlette

from callboard.http import HttpSettings, build_app, check_bind, serve
from callboard.http.layers import AT_ONCE, FAILURES_A_MINUTE, HELD_SECONDS, Budget
from tests.rawhttp import ACCEPT, HOST, JSON, PATIENCE, Json, Reply, send

SOON = 3.0
"""Seconds in which the server must have ended: within one, and what a busy machine adds to that."""


class EveryoneButNobody:
    """A verifier to which every name is its own token."""

    async def verify_token(self, token: str) -> AccessToken | None:
        if token == "nobody":
            return None
        return AccessToken(token=token, client_id=token, subject=token, scopes=["callboard"])


@dataclass
class Site:
    """A small server behind the transport, and what a test may learn of its calls."""

    settings: HttpSettings
    url: str = ""
    health: dict[str, object] = field(default_factory=lambda: {"ok": True})
    waiting: SimpleQueue[str] = field(default_factory=SimpleQueue)
    cancelled: SimpleQueue[str] = field(default_factory=SimpleQueue)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def app(self) -> Starlette:
        auth = AuthSettings(
            issuer_url=AnyHttpUrl("https://board.example"),
            resource_server_url=AnyHttpUrl("https://board.example/mcp"),
            required_scopes=["callboard"],
            validate_token_resource=False,
        )
        guarded: Json = {"auth": auth, "token_verifier": EveryoneButNobody()} if self.settings.auth else {}
        server: MCPServer[Any] = MCPServer("transport", log_level="CRITICAL", **guarded)

        @server.tool()
        async def echo(text: str) -> str:
            return text

        @server.tool()
        async def flood() -> str:
            return "x" * (8 << 20)

        @server.tool()
        async def wait(name: str) -> str:
            self.waiting.put(name)
            try:
                await anyio.sleep_forever()
            finally:
                self.cancelled.put(name)
            return name

        async def report() -> dict[str, object]:
            if not self.health:
                raise RuntimeError("a secret of the server")
            return self.health

        return build_app(server, self.settings, health=report)

    @contextmanager
    def open(self) -> Iterator["Site"]:
        """Serve in another thread, and stop as the program does: by cancelling."""
        urls: SimpleQueue[str] = SimpleQueue()

        async def run() -> None:
            await serve(self.app(), self.settings, ready=urls.put)

        with anyio.from_thread.start_blocking_portal() as portal:
            serving = portal.start_task_soon(run)
            self.url = urls.get(timeout=PATIENCE)
            try:
                yield self
            finally:
                serving.cancel()

    def send(self, *lines: str, body: bytes = b"", version: str = "1.1") -> socket.socket:
        return send(self.port, *lines, body=body, version=version)

    def ask(self, *lines: str, body: bytes = b"", version: str = "1.1") -> "Reply":
        with self.send(*lines, body=body, version=version) as connection:
            return Reply.read(connection, lines[0].split()[0])

    def post(self, body: bytes | Json, *lines: str, path: str = "/mcp", length: int | None = None) -> "Reply":
        with self.posted(body, *lines, path=path, length=length) as connection:
            return Reply.read(connection)

    def posted(
        self, body: bytes | Json, *lines: str, path: str = "/mcp", length: int | None = None
    ) -> socket.socket:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        size = f"Content-Length: {len(data) if length is None else length}"
        return self.send(f"POST {path}", HOST, JSON, ACCEPT, size, *lines, body=data)


INITIALIZE: Json = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


def modern(tool: str, **arguments: object) -> tuple[Json, str, str, str]:
    """A tool call of the 2026-07-28 protocol, whole: its body, and the headers it needs."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return body, "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", f"Mcp-Name: {tool}"


KNOWN = HttpSettings(
    "127.0.0.1",
    0,
    public_url="https://Board.example/",
    extra_hosts=("tunnel.internal:9000",),
    extra_origins=("https://ide.example",),
    body_limit=100_000,
)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(KNOWN).open() as opened:
        yield opened


# What is let in. By which names and from which pages is in tests/reliability/test_web_matrix.py.


@pytest.mark.parametrize("path", ["/mcp", "/messages/?session_id=00000000000000000000000000000000"])
@pytest.mark.parametrize(
    ("body", "code", "request_id"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b'{"jsonrpc":"2.0","id":7,"method":"\xff"}', -32700, None),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":NaN}}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":"x","method":"ping","params":{"a":1,"a":2}}', -32600, "x"),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":"\\ud800"}}', -32600, 7),
        (b'[{"jsonrpc":"2.0","id":7,"method":"ping"}]', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
    ],
)
def test_a_body_that_is_not_one_message_is_refused_in_our_words(
    site: Site, path: str, body: bytes, code: int, request_id: object
) -> None:
    reply = site.post(body, path=path)
    assert reply.status == 400
    assert (reply.json["error"]["code"], reply.json["id"]) == (code, request_id)
    assert reply.json["error"]["message"].startswith(("The message", "The id"))


def test_a_body_at_the_limit_is_served_and_one_over_it_is_not(site: Site) -> None:
    """W3, X5"""
    body = json.dumps(INITIALIZE).encode().ljust(KNOWN.body_limit)
    assert site.post(body).status == 200
    assert site.post(body + b" ").status == 413


def test_a_declared_length_over_the_limit_is_refused_before_the_body_comes(site: Site) -> None:
    assert site.post(b"", length=KNOWN.body_limit + 1).json["error"]["code"] == "body_too_large"


def test_a_body_without_a_length_is_counted_as_it_comes(site: Site) -> None:
    def chunked(size: int) -> Reply:
        body = json.dumps(INITIALIZE).encode().ljust(size)
        parts = [body[start : start + 9000] for start in range(0, size, 9000)]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        return site.ask("POST /mcp", HOST, JSON, ACCEPT, "Transfer-Encoding: chunked", body=framed)

    assert chunked(KNOWN.body_limit).status == 200
    assert chunked(KNOWN.body_limit + 1).json["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("PUT /mcp", 405),
        ("PATCH /mcp", 405),
        ("HEAD /health", 405),
        ("TRACE /mcp", 405),
        ("DELETE /health", 405),
        ("DELETE /sse", 405),
        ("OPTIONS /mcp", 204),
        ("OPTIONS /nowhere", 204),
        ("GET /", 404),
        ("GET /mcp/", 404),
        ("GET /health/", 404),
        ("GET /nowhere", 404),
        ("GET http://evil.example/health", 404),
    ],
)
def test_other_methods_and_paths_are_refused_in_json(site: Site, request_line: str, status: int) -> None:
    """W1"""
    reply = site.ask(request_line, HOST)
    assert reply.status == status
    if status in (204, 405):
        assert "GET" in reply.headers["Allow"]
    if reply.body:
        assert reply.json["error"]["code"] in ("method_not_allowed", "not_found")


def test_every_reply_is_kept_from_caches_guesses_and_other_pages(site: Site) -> None:
    own = "Origin: http://127.0.0.1:{port}"
    asking = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
    replies = [
        site.ask("GET /health", HOST, own),
        site.ask("GET /health", "Host: evil.example"),
        site.ask("OPTIONS /mcp", HOST, own, *asking),
        site.ask("GET /nowhere", HOST),
        site.post(b"{"),
        site.post(INITIALIZE, own),
    ]
    assert [reply.status for reply in replies] == [200, 421, 204, 404, 400, 200]
    for reply in replies:
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"].startswith("no-store")
        assert len(reply.headers.get_all("Cache-Control", [])) == 1
        assert "Server" not in reply.headers
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def test_every_reply_bears_the_second_in_which_it_was_given(site: Site) -> None:
    for request_line in ("GET /health", "GET /nowhere", "OPTIONS /mcp"):
        before = int(time.time())
        reply = site.ask(request_line, HOST)
        (date,) = reply.headers.get_all("Date", [])
        assert before <= parsedate_to_datetime(date).timestamp() <= time.time()


def test_health_is_a_status_and_a_crash_keeps_its_secrets() -> None:
    with Site(HttpSettings("127.0.0.1", 0)).open() as site:
        site.health = {"ok": True, "agents": 3}
        assert site.ask("GET /health", HOST).json == {"ok": True, "agents": 3}
        site.health = {"ok": False, "reason": "the disk is full"}
        assert site.ask("GET /health", HOST).status == 503
        site.health = {}
        crashed = site.ask("GET /health", HOST)
        assert crashed.status == 500
        assert crashed.json == {"error": {"code": "internal_error", "message": "The request failed."}}
        assert crashed.headers["Cache-Control"] == "no-store"


# What MCP clients do.


def client_of(site: Site, kind: str) -> Client:
    if kind == "sse":
        return Client(sse_client(f"{site.url}/sse"))
    mode: Literal["auto", "legacy"] = "legacy" if kind == "legacy" else "auto"
    return Client(f"{site.url}/mcp", mode=mode)


@pytest.mark.parametrize("kind", ["modern", "legacy", "sse"])
async def test_the_sdk_client_is_served_on_every_transport_and_era(site: Site, kind: str) -> None:
    async with client_of(site, kind) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["echo", "flood", "wait"]
        result = await client.call_tool("echo", {"text": "Grüße \r\n\u2028 🎭"})
    assert isinstance(result.content[0], types.TextContent)
    assert result.content[0].text == "Grüße \r\n\u2028 🎭"


@pytest.mark.parametrize("kind", ["modern", "legacy", "sse"])
async def test_a_call_that_the_client_gives_up_is_cancelled(site: Site, kind: str) -> None:
    """W4"""
    async with client_of(site, kind) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.call_tool, "wait", {"name": kind})
        assert await anyio.to_thread.run_sync(site.waiting.get, True, PATIENCE) == kind
        tasks.cancel_scope.cancel()
    assert site.cancelled.get(timeout=PATIENCE) == kind


def test_a_call_whose_connection_is_dropped_is_cancelled(site: Site) -> None:
    with site.posted(*modern("wait", name="dropped")):
        assert site.waiting.get(timeout=PATIENCE) == "dropped"
    assert site.cancelled.get(timeout=PATIENCE) == "dropped"


def test_a_legacy_session_ends_when_it_is_deleted(site: Site) -> None:
    session = f"Mcp-Session-Id: {site.post(INITIALIZE).headers['Mcp-Session-Id']}"
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    assert site.post(ping, session).status == 200
    assert site.ask("DELETE /mcp", HOST, session).status == 200
    assert site.post(ping, session).status == 404


def test_replies_on_a_kept_connection_are_not_held_back(site: Site) -> None:
    body, *lines = modern("echo", text="hello")
    headers = dict(line.split(": ", 1) for line in (JSON, ACCEPT, *lines))
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE)
    times = []
    for _ in range(30):
        before = time.monotonic()
        connection.request("POST", "/mcp", json.dumps(body), headers)
        assert connection.getresponse().read()
        times.append(time.monotonic() - before)
    connection.close()
    # A kernel acknowledges the first packets of a connection at once, and then begins to wait 40 ms.
    assert min(times[-5:]) < 0.03


# Who calls, and how often.


@pytest.fixture
def guarded() -> Iterator[Site]:
    with Site(HttpSettings("127.0.0.1", 0, auth=True, rate=0.001, burst=5)).open() as opened:
        yield opened


def bearer(name: str) -> str:
    return f"Authorization: Bearer {name}"


def test_a_stranger_is_answered_before_its_body_is_read(guarded: Site) -> None:
    assert guarded.post(b"not JSON").status == 401
    assert guarded.post(b"", bearer("nobody"), length=1 << 19).status == 401
    assert guarded.post(b"not JSON", bearer("ann")).status == 400
    assert guarded.ask("GET /sse", HOST).status == 401
    assert guarded.post(b"{}", path="/messages/").status == 401
    assert guarded.ask("GET /health", HOST).status == 200
    assert guarded.post(b"", "Origin: null").status == 403


def test_each_principal_has_a_rate_of_its_own(guarded: Site) -> None:
    """W3"""
    call, *headers = modern("echo", text="hello")
    assert [guarded.post(call, *headers, bearer("ann")).status for _ in range(6)] == [200] * 5 + [429]
    began = time.monotonic()
    slow = guarded.post(call, *headers, bearer("ann"))
    assert time.monotonic() - began >= HELD_SECONDS, "it was refused as fast as it asked"
    error = slow.json["error"]
    assert (error["code"], error["retryable"]) == ("rate_limited", True)
    assert 0 < error["retry_after_ms"] <= 1000_000
    assert int(slow.headers["Retry-After"]) * 1000 >= error["retry_after_ms"]
    assert guarded.post(call, *headers, bearer("bob")).status == 200


def test_failed_authentications_are_limited_and_good_ones_still_pass(guarded: Site) -> None:
    """ID3"""
    call, *headers = modern("echo", text="hello")
    statuses = [guarded.post(call, *headers, bearer("nobody")).status for _ in range(FAILURES_A_MINUTE + 2)]
    assert statuses == [401] * FAILURES_A_MINUTE + [429] * 2
    limited = guarded.post(call, *headers, bearer("nobody"))
    assert limited.json["error"]["code"] == "rate_limited"
    assert int(limited.headers["Retry-After"]) <= 6
    assert guarded.post(call, *headers, bearer("ann")).status == 200
    assert guarded.ask("GET /health", HOST).status == 200


def test_a_principal_holds_a_bounded_number_of_open_requests() -> None:
    """W3"""
    call, *headers = modern("wait", name="open")
    with Site(HttpSettings("127.0.0.1", 0, auth=True)).open() as site, ExitStack() as connections:
        held = [connections.enter_context(site.posted(call, *headers, bearer("ann"))) for _ in range(AT_ONCE)]
        for _ in held:
            site.waiting.get(timeout=PATIENCE)
        assert site.post(call, *headers, bearer("ann")).json["error"]["code"] == "rate_limited"
        echo, *echo_headers = modern("echo", text="hello")
        assert site.post(echo, *echo_headers, bearer("bob")).status == 200
        held[0].close()
        site.cancelled.get(timeout=PATIENCE)
        assert site.post(echo, *echo_headers, bearer("ann")).status == 200


def test_the_public_metadata_names_the_server_and_shares_nothing_across_origins(guarded: Site) -> None:
    unknown = guarded.post(b"{}")
    assert "/.well-known/oauth-protected-resource/mcp" in unknown.headers["WWW-Authenticate"]
    metadata = guarded.ask(
        "GET /.well-known/oauth-protected-resource/mcp", HOST, "Origin: http://localhost:{port}"
    )
    assert metadata.json["resource"] == "https://board.example/mcp"
    assert not [name for name in metadata.headers if name.lower().startswith("access-control")]


def test_settings_and_server_must_agree_on_authentication() -> None:
    async def health() -> dict[str, object]:
        return {"ok": True}

    with pytest.raises(ValueError, match="authentication"):
        build_app(MCPServer("open"), HttpSettings("127.0.0.1", 0, auth=True), health=health)


SECOND = 1_000_000_000


def test_a_budget_allows_a_burst_and_then_its_rate() -> None:
    budget = Budget(rate=2, burst=3)
    assert [budget.spend("ann", 0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert [budget.spend("ann", SECOND // 2) for _ in range(2)] == [0, 0.5]
    assert budget.spend("bob", SECOND // 2) == 0
    assert [budget.spend("ann", 60 * SECOND) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_budget_forgets_keys_that_are_whole_again() -> None:
    budget = Budget(rate=1, burst=1)
    for moment in range(10_000):
        assert budget.spend(f"address {moment}", moment * SECOND) == 0
    assert len(budget._full_at) <= 1025


# How it listens, and how it ends.

PUBLIC = "https://board.example"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_nothing(host: str) -> None:
    """ID1"""
    check_bind(HttpSettings(host, 0))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "::",
        "192.168.1.5",
        "10.0.0.1",
        "fe80::1",
        "board.example",
        "localhost.",
        "127.1",
        "[::1]",
        "0",
    ],
)
def test_another_address_needs_authentication_and_tls_in_front(host: str) -> None:
    """ID1"""
    with pytest.raises(ValueError, match="authentication"):
        check_bind(HttpSettings(host, 0, public_url=PUBLIC))
    with pytest.raises(ValueError, match="TLS"):
        check_bind(HttpSettings(host, 0, auth=True))
    with pytest.raises(ValueError, match="TLS"):
        check_bind(HttpSettings(host, 0, auth=True, public_url="http://board.example"))
    check_bind(HttpSettings(host, 0, auth=True, public_url=PUBLIC))


@pytest.mark.parametrize(
    "url",
    ["", "board.example", "ftp://board.example", "https://", "https://a@b", "https://a/path", "https://a:b"],
)
def test_a_public_url_is_a_scheme_and_a_name(url: str) -> None:
    with pytest.raises(ValueError, match="public URL"):
        check_bind(HttpSettings("127.0.0.1", 0, public_url=url))


async def test_a_listener_on_every_address_is_refused_whatever_the_settings_say() -> None:
    site = Site(HttpSettings("127.0.0.1", 0))
    with anyio.fail_after(PATIENCE), pytest.raises(ValueError, match="reachable from other machines"):
        await serve(site.app(), site.settings, listener=socket.create_server(("0.0.0.0", 0)))


async def test_a_listener_may_be_handed_over_and_signals_stay_with_the_caller() -> None:
    site = Site(HttpSettings("127.0.0.1", 0))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    listener = socket.create_server(("127.0.0.1", 0))
    urls: list[str] = []
    ready = anyio.Event()

    def note(url: str) -> None:
        urls.append(url)
        ready.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(site.app(), site.settings, ready=note, listener=listener))
        await ready.wait()
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
        assert urls == [f"http://127.0.0.1:{listener.getsockname()[1]}"]
        tasks.cancel_scope.cancel()


async def test_a_port_in_use_is_an_error_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site = Site(HttpSettings("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(OSError, match="in use"):
            await serve(site.app(), site.settings)


@pytest.mark.parametrize("kind", ["modern", "legacy", "sse"])
async def test_shutting_down_ends_waiting_calls_within_a_second(kind: str) -> None:
    site = Site(HttpSettings("127.0.0.1", 0))
    ready = anyio.Event()

    def note(url: str) -> None:
        site.url = url
        ready.set()

    async def call() -> None:
        with pytest.raises(BaseException):  # noqa: B017 - how a client notices is its own affair
            async with client_of(site, kind) as client:
                await client.call_tool("wait", {"name": kind})

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as server:
            server.start_soon(lambda: serve(site.app(), site.settings, ready=note))
            await ready.wait()
            tasks.start_soon(call)
            assert await anyio.to_thread.run_sync(site.waiting.get, True, PATIENCE) == kind
            before = time.monotonic()
            server.cancel_scope.cancel()
        assert time.monotonic() - before < SOON
        assert site.cancelled.get(timeout=0) == kind
        tasks.cancel_scope.cancel()


def test_a_waiting_call_is_told_that_the_server_shuts_down() -> None:
    with Site(HttpSettings("127.0.0.1", 0)).open() as site:
        connection = site.posted(*modern("wait", name="last"))
        assert site.waiting.get(timeout=PATIENCE) == "last"
    with connection:
        reply = Reply.read(connection)
    assert (reply.status, reply.json["error"]["code"]) == (503, "shutting_down")
    assert reply.headers["Cache-Control"] == "no-store"
    assert len(reply.headers.get_all("Date", [])) == 1


def test_a_client_that_reads_nothing_does_not_hold_up_the_end() -> None:
    with ExitStack() as connections:
        with Site(HttpSettings("127.0.0.1", 0)).open() as site:
            deaf = connections.enter_context(site.posted(*modern("flood")))
            assert deaf.recv(1, socket.MSG_PEEK)
            before = time.monotonic()
        assert time.monotonic() - before < SOON
