"""`callboard serve`: who may call it and is shown what, what it offers, and where it listens."""

import http.client
import json
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp.shared.exceptions import MCPError

from callboard import __version__, cli
from callboard.board import Board, Config, open_board
from callboard.catalog import CATALOG, select
from callboard.http import HttpSettings
from callboard.http.settings import check_bind
from tests.serving import PATIENCE, Json, Place, bearing, call, names, refusal

AGENT_SCOPES = ("worker", "lead", "observer")
OPEN = [tool.name for tool in CATALOG if tool.who in ("any", "anyone")]
LEADS = [tool.name for tool in CATALOG if tool.who != "human"]
READING = [tool.name for tool in CATALOG if not tool.writes and tool.who in ("any", "anyone")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with a crew that lea leads."""
    place = Place(tmp_path_factory.mktemp("repository"))

    async def found() -> None:
        async with opened(place) as board:
            await board.call("register_agent", {"agent_id": "lea", "role": "lead"})

    anyio.run(found)
    return place


@pytest.fixture(scope="module")
def guarded(place: Place) -> Iterator[str]:
    """A server process that asks everybody for a token."""
    with place.http("--auth") as url:
        yield url


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Board]:
    """The same store as a person's command has it open."""
    async with open_board(Config(folder=place.folder, db=place.db, transport="cli")) as board:
        yield board


async def token(place: Place, name: str, scope: str, lifetime: timedelta | None = None) -> str:
    async with opened(place) as board:
        kind: Literal["human", "agent"] = "human" if scope == "human" else "agent"
        return await board.issue_token(kind=kind, name=name, scope=scope, lifetime=lifetime)  # type: ignore[arg-type]  # words of a table


async def revoke(place: Place, secret: str) -> None:
    async with opened(place) as board:
        assert await board.revoke_token(secret.split(".")[2])


# Who is shown what.


async def test_each_principal_is_shown_what_it_may_call_and_is_refused_the_rest(
    place: Place, guarded: str
) -> None:
    """G1"""
    lead = await token(place, "lea", "lead")
    async with bearing(guarded, lead) as client:
        assert await names(client) == LEADS
        await call(client, "register_agent", role="lead")
        assert await names(client) == LEADS
        human_only = await refusal(client, "define_role", id="critic", name="Critic")
        assert human_only["code"] == "human_required"
    async with bearing(guarded, await token(place, "wes", "worker")) as client:
        assert await names(client) == OPEN
        await call(client, "register_agent", role="developer", lead_id="lea")
        assert await names(client) == OPEN
        held = await call(client, "acquire_file_lock", file_path="a.py")
        assert held["agent_id"] == "wes"
        leads_only = await refusal(client, "force_release_file_lock", file_path="a.py", reason="mine")
        assert leads_only["code"] == "forbidden"
        other = await refusal(client, "whoami", agent_id="lea")
        assert other["code"] == "identity_mismatch"
    async with bearing(guarded, await token(place, "olga", "observer")) as client:
        assert await names(client) == READING
        assert (await call(client, "check_file_lock", file_path="a.py"))["state"] == "held"
        assert (await refusal(client, "register_agent", role="developer"))["code"] == "forbidden"


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
async def test_processes_on_either_event_loop_wait_for_each_other_and_end(tmp_path: Path, loop: str) -> None:
    place = Place(tmp_path)
    async with place.stdio("--loop", loop) as one, place.stdio("--loop", loop) as other:
        for client, agent_id in ((one, "ann"), (other, "ben")):
            await call(client, "register_agent", role="developer", agent_id=agent_id)
        fence = (await call(one, "acquire_file_lock", agent_id="ann", file_path="a.py"))["fence"]
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                told = {"agent_id": "ben", "file_path": "a.py", "wait_seconds": 50}
                assert (await call(other, "acquire_file_lock", **told))["fence"] == fence + 1

            tasks.start_soon(wait)
            waiting: list[Json] = []
            while not waiting:
                state = await call(one, "check_file_lock", agent_id="ann", file_path="a.py")
                waiting = state.get("waiters", [])
            await call(one, "release_file_lock", agent_id="ann", file_path="a.py", fence=fence)


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_human_is_shown_every_tool_and_may_use_those_of_humans(
    place: Place, guarded: str, era: str
) -> None:
    async with bearing(guarded, await token(place, "maria", "human"), era) as client:
        assert await names(client) == [tool.name for tool in CATALOG]
        defined = await call(client, "define_role", id="critic", name="Critic", icon="🎭")
        assert defined["name"] == "Critic"
        await call(client, "delete_role", id="critic")


async def test_a_process_that_is_bound_to_an_agent_needs_no_name_and_takes_no_other(place: Place) -> None:
    """ID4"""
    async with place.stdio("--agent", "bo") as client:
        registered = await call(client, "register_agent", role="developer", lead_id="lea")
        assert registered["agent_id"] == "bo"
        assert await names(client) == OPEN
        assert (await call(client, "whoami"))["identified_by"] == "binding"
        assert (await refusal(client, "whoami", agent_id="wes"))["code"] == "identity_mismatch"


async def test_a_stdio_process_may_act_for_a_token_until_it_is_revoked(place: Place) -> None:
    """ID3, ID4"""
    secret = await token(place, "ann", "worker")
    async with place.stdio(environment={"CALLBOARD_TOKEN": secret}) as client:
        await call(client, "register_agent", role="developer", lead_id="lea")
        assert (await call(client, "whoami"))["identified_by"] == "token"
        await revoke(place, secret)
        assert (await refusal(client, "whoami"))["code"] == "unauthenticated"
        with pytest.raises(MCPError) as unlisted:
            await client.list_tools()
        assert unlisted.value.data["code"] == "unauthenticated"


# Tokens.


def ask(url: str, path: str, bearer: str | None = None, **headers: str) -> tuple[int, Any]:
    """A request of the 2026-07-28 protocol by hand; its status and body."""
    meta = {f"io.modelcontextprotocol/{key}": value for key, value in META.items()}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    given = HEADERS | headers | ({"Authorization": f"Bearer {bearer}"} if bearer is not None else {})
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request("POST" if path.startswith("/mcp") else "GET", path, json.dumps(body), given)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


REVISION = "2026-07-28"
META: Json = {"protocolVersion": REVISION, "clientCapabilities": {}}
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": REVISION,
    "Mcp-Method": "tools/list",
}


async def test_without_a_valid_token_there_is_nothing_but_401(place: Place, guarded: str) -> None:
    """ID3"""
    good = await token(place, "gus", "worker")
    revoked = await token(place, "gus", "worker")
    expired = await token(place, "gus", "worker", timedelta(milliseconds=1))
    async with opened(place) as board:
        elsewhere = good.replace(good.split(".")[1], "0" * 8, 1)
        await board.revoke_token(revoked.split(".")[2])
    bad = [None, "", "x", good[:-1], good + "x", elsewhere, revoked, expired]
    assert [ask(guarded, "/mcp", secret)[0] for secret in bad] == [401] * len(bad)
    assert ask(guarded, "/mcp", good)[0] == 200
    # A secret in the address would be written into logs, so it is none there.
    assert ask(guarded, f"/mcp?access_token={good}")[0] == 401
    assert ask(guarded, "/health")[0] == 200


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_revoked_token_ends_at_once_in_an_open_session_too(
    place: Place, guarded: str, era: str
) -> None:
    """ID3"""
    secret = await token(place, f"rex-{era}", "worker")
    with pytest.RaisesGroup(MCPError, flatten_subgroups=True, allow_unwrapped=True):
        async with bearing(guarded, secret, era) as client:
            await call(client, "register_agent", role="developer", lead_id="lea")
            await revoke(place, secret)
            with anyio.fail_after(PATIENCE):
                await client.call_tool("whoami", {})


# What is offered.

OFFERS: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "a profile": (["--toolsets", "core"], {}, list(select(["core"]))),
    "a profile and a toolset": (
        [],
        {"CALLBOARD_TOOLSETS": "core, history"},
        list(select(["core", "history"])),
    ),
    "nothing that writes": (["--read-only"], {}, list(select(["all"], read_only=True))),
    "a toolset, nothing that writes": (
        ["--toolsets", "locks"],
        {"CALLBOARD_READ_ONLY": "1"},
        list(select(["locks"], read_only=True)),
    ),
}


@pytest.mark.parametrize(("options", "environment", "expected"), OFFERS.values(), ids=OFFERS)
async def test_only_what_was_asked_for_is_offered(
    place: Place, options: list[str], environment: dict[str, str], expected: list[str]
) -> None:
    async with place.stdio(*options, environment=environment) as client:
        offered = await names(client)
        assert offered == [name for name in expected if name in LEADS]
        assert 0 < len(offered) < len(LEADS)
        left_out = next(tool.name for tool in CATALOG if tool.name not in expected)
        assert (await refusal(client, left_out))["code"] == "not_found"


def test_a_toolset_that_is_none_ends_the_start(place: Place) -> None:
    ended = place.run("serve", "--toolsets", "lcoks")
    assert ended.returncode == 1
    assert ended.stderr.startswith("callboard: There is no profile or toolset 'lcoks'")
    assert "Traceback" not in ended.stderr


# Where it listens.


def test_the_default_address_is_loopback() -> None:
    host, _, port = cli.DEFAULT_HTTP.rpartition(":")
    check_bind(HttpSettings(host, int(port)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--http", "0.0.0.0:0"], "authentication"),
        (["--http", "[::]:0"], "authentication"),
        (["--http", "board.example:0", "--auth"], "TLS"),
        (["--http", "nowhere"], "HOST:PORT"),
    ],
)
def test_another_address_is_refused_without_authentication(
    place: Place, options: list[str], says: str
) -> None:
    ended = place.run("serve", *options)
    assert ended.returncode == 1
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_health_is_told_without_a_token_and_is_the_store_as_it_is_now(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.http("--auth") as url:
        status, report = ask(url, "/health")
        assert (status, report["ok"], report["version"]) == (200, True, __version__)
        place.db.rename(tmp_path / "elsewhere.db")
        status, report = ask(url, "/health")
        assert (status, report["ok"]) == (503, False)
        assert report["error"]["code"] == "store_unavailable"
        assert str(tmp_path) not in json.dumps(report)
