"""The MCP face as clients meet it: in memory, over stdio, Streamable HTTP and HTTP+SSE, in both eras."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError

from callboard.catalog import CATALOG
from callboard.mcp_server import INSTRUCTIONS, LIST_TTL_MS, CallboardServer
from tests.conftest import Board
from tests.serving import KINDS, PATIENCE, Json, Place, call, checked, names, refusal, refused, text

FOR_AGENTS = [tool.name for tool in CATALOG if tool.who != "human"]
FOR_HUMANS = [tool.name for tool in CATALOG if tool.who == "human"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One store for the tests that do not mind each other."""
    return Place(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def url(place: Place) -> Iterator[str]:
    with place.http() as served:
        yield served


@pytest.fixture
def own(tmp_path: Path) -> Place:
    """A store of the test's own."""
    return Place(tmp_path)


# Every tool, on every transport.


def story(mark: str) -> Iterator[tuple[str, Json]]:
    """Calls of the tools of a crew at work, in an order in which each has something to answer."""
    ann, ben, folder = f"ann-{mark}", f"ben-{mark}", f"src/{mark}"
    own = {"agent_id": ann}
    yield "register_agent", {**own, "role": "lead", "capabilities": ["python"], "metadata": {"seat": 1}}
    yield "register_agent", {"agent_id": ben, "role": "developer", "lead_id": ann, "model": "m"}
    yield "heartbeat", {**own, "status": "running", "last_task_summary": "reads the parser"}
    yield "update_agent", {**own, "metadata": {"seat": None}, "session_id": "s"}
    yield "list_roles", own
    yield "acquire_file_lock", {**own, "file_path": f"{folder}/a.py", "reason": "split\x1b[31m it 🎭"}
    yield "acquire_file_lock", {**own, "file_path": f"{folder}/a.py"}
    yield "renew_file_lock", {**own, "file_path": f"{folder}/a.py", "ttl_seconds": 900}
    yield "acquire_file_locks", {"agent_id": ben, "file_paths": [f"{folder}/b.py", f"{folder}/docs/"]}
    yield "check_file_lock", {"file_path": f"{folder}/a.py", "fence": 1}
    yield "list_file_locks", {**own, "include_waiters": True}
    yield "record_file_touch", {**own, "file_paths": [f"{folder}/c.py"], "action": "edit"}
    yield "list_file_history", {**own, "file_path": f"{folder}/c.py"}
    yield "log_activity", {**own, "action_type": "note", "summary": "begun", "request_key": "once"}
    yield "log_activity", {**own, "action_type": "note", "summary": "begun", "request_key": "once"}
    yield "list_activity", {**own, "query": "begun", "newest_first": True}
    yield "match_agents", {**own, "file_path": f"{folder}/c.py", "keyword": "parser"}
    yield "list_agents", {**own, "limit": 1}
    yield "force_release_file_lock", {**own, "file_path": f"{folder}/b.py", "reason": "it is needed"}
    yield "release_file_lock", {**own, "file_path": f"{folder}/a.py"}
    yield "release_file_lock", {**own, "file_path": f"{folder}/a.py"}
    yield "get_agent", {**own, "target_agent_id": ben}
    yield "whoami", {"agent_id": ben}
    yield "release_file_locks", {"agent_id": ben}
    yield "terminate_agent", {**own, "target_agent_id": ben, "reason": "done"}


def sample(schema: Json) -> Any:
    """The least that a schema asks for."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            needed = schema.get("required", ())
            return {name: sample(schema["properties"][name]) for name in needed}
        case "array":
            return [sample(schema["items"])] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
    return "x"


@pytest.mark.parametrize("kind", KINDS)
async def test_every_tool_answers_as_its_schema_says_on_every_transport_in_both_eras(
    place: Place, url: str, kind: str
) -> None:
    envelope: set[str] = set()
    mark = kind.replace(" ", "-")
    with anyio.fail_after(PATIENCE):
        async with place.client(kind, url) as client:
            assert await names(client) == FOR_AGENTS
            for tool, arguments in story(mark):
                envelope |= (await call(client, tool, **arguments)).keys()
            assert (await refusal(client, "whoami"))["code"] == "unknown_caller"
            told = {tool for tool, _ in story(mark)}
            for published in (await client.list_tools()).tools:
                if published.name not in told:
                    arguments = sample(published.input_schema) | {"agent_id": f"ann-{mark}"}
                    result = await client.call_tool(published.name, arguments)
                    if not result.is_error:
                        checked(published.name, result)
                    else:
                        assert refused(result)["code"] != "internal_error", published.name
    # What any result may carry has been seen, and so has been held to the schemas.
    assert {"unread", "replayed"} <= envelope


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_the_list_says_all_that_clients_decide_by(board: Board, era: str) -> None:
    async with client_of(board, era) as client:
        listed = await client.list_tools()
        again = await client.list_tools()
        assert client.server_info is not None
        assert client.server_info.name == "callboard"
        assert client.instructions == INSTRUCTIONS
    assert [tool.name for tool in listed.tools] == FOR_AGENTS
    assert again == listed
    for tool in listed.tools:
        published = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
        hints = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
        assert published["annotations"].keys() == {"title", *hints}
        assert published["title"] == published["annotations"]["title"]
        assert published["description"]
        assert published["inputSchema"]["type"] == published["outputSchema"]["type"] == "object"
    # One event of more than a megabyte ends a client; a quarter of it leaves room for the tools to come.
    assert len(listed.model_dump_json(by_alias=True)) < 1 << 18
    if era == "modern":
        # The list is each caller's own, so nothing between them may share it.
        assert (listed.ttl_ms, listed.cache_scope) == (LIST_TTL_MS, "private")


def client_of(board: Board, era: str = "modern", **options: Any) -> Client:
    legacy = era == "legacy"
    return Client(CallboardServer(board.opened), mode="legacy" if legacy else "auto", cache=None, **options)


# What arguments are taken.

FAULTS: dict[str, tuple[Json, Json]] = {
    "a short name": ({"ttl": 60}, {"field": "ttl", "did_you_mean": "ttl_seconds"}),
    "a misspelt name": ({"ttl_secnds": 60}, {"field": "ttl_secnds", "did_you_mean": "ttl_seconds"}),
    "a number as text": ({"ttl_seconds": "60"}, {"field": "ttl_seconds", "rule": "must be a whole number"}),
    "a fraction": ({"ttl_seconds": 60.0}, {"field": "ttl_seconds", "rule": "must be a whole number"}),
    "a truth value": ({"ttl_seconds": True}, {"field": "ttl_seconds", "rule": "must be a whole number"}),
    "too small a number": ({"ttl_seconds": 4}, {"field": "ttl_seconds", "rule": "must be at least 5"}),
    "over 64 bits": ({"fence": 2**64}, {"field": "fence"}),
    "a number for text": ({"reason": 5}, {"field": "reason", "rule": "must be text"}),
    "an unknown word": ({"mode": "exclsive"}, {"field": "mode"}),
    "a list for text": ({"task_id": ["a"]}, {"field": "task_id", "rule": "must be text"}),
    "a null byte": ({"reason": "a\0b"}, {"field": "reason"}),
    "blank text": ({"agent_id": " "}, {"field": "agent_id"}),
    "nothing at all": ({"file_path": None}, {"field": "file_path", "rule": "must be text"}),
}


@pytest.mark.parametrize(("given", "expected"), FAULTS.values(), ids=FAULTS)
async def test_a_faulty_argument_is_refused_by_its_name(board: Board, given: Json, expected: Json) -> None:
    tool = "renew_file_lock" if "fence" in given else "acquire_file_lock"
    async with client_of(board) as client:
        await call(client, "register_agent", agent_id="ann", role="developer")
        error = await refusal(client, tool, **({"agent_id": "ann", "file_path": "a.py"} | given))
        assert error["code"] == "invalid_arguments"
        [fault] = error["fields"]
        assert fault.items() >= expected.items()
        assert fault["field"] in error["message"]
        assert (await call(client, "check_file_lock", file_path="a.py"))["state"] == "free"


async def test_every_faulty_argument_is_named_at_once_and_no_value_is_repeated(board: Board) -> None:
    async with client_of(board) as client:
        error = await refusal(client, "acquire_file_lock", ttl_seconds="a secret", reasn="another secret")
    assert [fault["field"] for fault in error["fields"]] == ["file_path", "ttl_seconds", "reasn"]
    assert "secret" not in json.dumps(error)


async def test_a_list_may_come_as_its_text_and_text_that_looks_like_json_stays_text(board: Board) -> None:
    async with client_of(board) as client:
        await call(client, "register_agent", agent_id="ann", role="developer", session_id="null")
        locks = await call(client, "acquire_file_locks", agent_id="ann", file_paths='["a.py", "b.py"]')
        assert [lock["file_path"] for lock in locks["locks"]] == ["a.py", "b.py"]
        held = await call(client, "acquire_file_lock", agent_id="ann", file_path="c.py", reason='["d.py"]')
        assert held["reason"] == '["d.py"]'
        error = await refusal(client, "acquire_file_locks", agent_id="ann", file_paths="a.py")
        assert error["fields"] == [{"field": "file_paths", "rule": "must be a list"}]
        kept = await call(client, "update_agent", agent_id="ann")
        assert kept["session_id"] == "null"


async def test_an_unknown_tool_is_refused_with_the_nearest_name(board: Board) -> None:
    async with client_of(board) as client:
        error = await refusal(client, "aquire_file_lock", file_path="a.py")
    assert error["code"] == "not_found"
    assert error["near"][0] == "acquire_file_lock"


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_what_is_not_there_is_a_protocol_error(board: Board, era: str) -> None:
    async with client_of(board, era) as client:
        with pytest.raises(MCPError) as unknown_prompt:
            await client.get_prompt("nothing")
        with pytest.raises(MCPError) as unknown_resource:
            await client.read_resource("callboard://nothing")
    assert unknown_prompt.value.code == unknown_resource.value.code == types.INVALID_PARAMS


def test_what_is_no_message_is_answered_by_the_server_process_and_the_next_is_served(own: Place) -> None:
    half_a_character = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"\\ud800"}}'
    repeated = b'{"jsonrpc":"2.0","id":8,"method":"ping","method":"tools/list"}'
    too_long = b'{"jsonrpc":"2.0","id":9,"method":"' + b"x" * (1 << 20) + b'"}'
    lines = [b"hello", b'{"jsonrpc":"2.0","id":6}', half_a_character, repeated, too_long]
    opening = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    with own.piped() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        replies: list[Json] = []
        last = {"jsonrpc": "2.0", "id": 10, "method": "initialize", "params": opening}
        for line in [*lines, json.dumps(last).encode()]:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            replies.append(json.loads(process.stdout.readline()))
    assert [reply.get("error", {}).get("code") for reply in replies] == [-32700, *[-32600] * 4, None]
    assert [reply["id"] for reply in replies] == [None, 6, 7, 8, None, 10]
    assert replies[-1]["result"]["serverInfo"]["name"] == "callboard"


def test_state_that_a_client_sends_along_is_nobodys_and_none_is_given_out(own: Place) -> None:
    """X7: no call depends on a key that dies with its process."""
    told = {
        "protocolVersion": "2026-07-28",
        "clientInfo": {"name": "t", "version": "1"},
        "clientCapabilities": {},
    }
    about = {f"io.modelcontextprotocol/{key}": value for key, value in told.items()}
    given: Json = {"name": "list_roles", "arguments": {"agent_id": "ann"}, "_meta": about}
    forged = given | {
        "requestState": "eyJhbGciOiJub25lIn0",
        "inputResponses": {"confirm": {"action": "accept"}},
    }
    with own.piped() as process:
        assert process.stdin is not None and process.stdout is not None
        replies = []
        arrive = given | {"name": "register_agent", "arguments": {"agent_id": "ann", "role": "developer"}}
        for params in (arrive, given, forged):
            line = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            process.stdin.write(json.dumps(line).encode() + b"\n")
            process.stdin.flush()
            replies.append(json.loads(process.stdout.readline()))
    assert replies[1]["result"]["structuredContent"]["roles"]
    assert "requestState" not in json.dumps(replies[:2])
    assert replies[2]["error"]["data"]["reason"] == "invalid_request_state"


# Several processes on one store.


async def test_a_lock_taken_through_one_process_is_refused_in_the_others(place: Place, url: str) -> None:
    async with place.stdio() as one, place.stdio(era="legacy") as two, place.client("sse", url) as three:
        clients = {"ann": one, "ben": two, "cleo": three}
        for agent, client in clients.items():
            await call(client, "register_agent", agent_id=agent, role="qa-tester")
        for holder, client in clients.items():
            path = f"lib/{holder}.py"
            await call(client, "acquire_file_lock", agent_id=holder, file_path=path, ttl_seconds=600)
            for other in clients.keys() - {holder}:
                asked = {"agent_id": other, "file_path": f"./lib/../{path}"}
                error = await refusal(clients[other], "acquire_file_lock", **asked)
                assert (error["code"], error["retryable"]) == ("lock_held", True)
                assert (error["holder"], error["holder_role"]) == (holder, "qa-tester")
                assert 570 < error["remaining_seconds"] <= 600
                error = await refusal(clients[other], "acquire_file_lock", **asked | {"file_path": "l*/*.py"})
                assert error["holder"] in clients.keys() - {other}


@pytest.mark.parametrize("kind", ["stdio legacy", "http"])
async def test_a_wait_ends_when_another_process_releases(place: Place, url: str, kind: str) -> None:
    mark = kind.replace(" ", "-")
    dan, eve, path = f"dan-{mark}", f"eve-{mark}", f"{mark}.py"
    with anyio.fail_after(PATIENCE):
        async with place.stdio() as one, place.client(kind, url) as two:
            await call(one, "register_agent", agent_id=dan, role="developer")
            await call(two, "register_agent", agent_id=eve, role="developer")
            first = await call(one, "acquire_file_lock", agent_id=dan, file_path=path)
            granted: list[Json] = []

            async def wait() -> None:
                waited = {"agent_id": eve, "file_path": path, "wait_seconds": 50}
                granted.append(await call(two, "acquire_file_lock", **waited))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await until_waiting(one, path, 1)
                await call(one, "release_file_lock", agent_id=dan, file_path=path)
    assert granted[0]["fence"] > first["fence"]


async def until_waiting(client: Client, path: str, count: int) -> None:
    """Ask until so many wait for a path, as any agent could."""
    while len((await call(client, "check_file_lock", file_path=path)).get("waiters", ())) != count:
        await anyio.lowlevel.checkpoint()


# Waiting, and giving up.


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_the_client_gives_up_leaves_nothing_behind(
    place: Place, url: str, kind: str
) -> None:
    """The call ends with its client: one that went on would give signs of life, and keep its place."""
    ann, ben = (f"{name}-gives-up-{kind.replace(' ', '-')}" for name in ("ann", "ben"))
    path = f"{ann}.py"
    with anyio.fail_after(PATIENCE):
        async with place.client(kind, url) as client, place.client("http", url) as other:
            await call(other, "register_agent", agent_id=ann, role="developer")
            await call(client, "register_agent", agent_id=ben, role="developer")
            await call(other, "acquire_file_lock", agent_id=ann, file_path=path)
            waited = {"agent_id": ben, "file_path": path, "wait_seconds": 50}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "acquire_file_lock", waited)
                await until_waiting(other, path, 1)
                tasks.cancel_scope.cancel()
            await until_waiting(other, path, 0)
            await call(other, "release_file_lock", agent_id=ann, file_path=path)
            assert (await call(client, "check_file_lock", file_path=path))["state"] == "free"


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_sixty_waiting_calls_keep_nobody_from_an_answer(board: Board, era: str) -> None:
    """They would, were they threads: the SDK has forty."""
    ann = await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py")
    waiting = [await board.agent(f"ben-{number}") for number in range(60)]
    with anyio.fail_after(PATIENCE):
        async with client_of(board, era) as client, anyio.create_task_group() as tasks:
            for agent in waiting:
                waited = {"agent_id": agent.id, "file_path": "a.py", "wait_seconds": 50}
                tasks.start_soon(client.call_tool, "acquire_file_lock", waited)
            while board.clock.sleepers() < len(waiting):
                await anyio.lowlevel.checkpoint()
            assert (await call(client, "check_file_lock", file_path="a.py"))["state"] == "held"
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_waiting_call_reports_progress_that_grows(board: Board, era: str) -> None:
    reported: list[float] = []
    news = anyio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        nonlocal news
        reported.append(progress)
        news.set()
        news = anyio.Event()

    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.acquire_file_lock(file_path="a.py")
    with anyio.fail_after(PATIENCE):
        async with client_of(board, era) as client, anyio.create_task_group() as tasks:
            waited = {"agent_id": ben.id, "file_path": "a.py", "wait_seconds": 50}
            tasks.start_soon(lambda: client.call_tool("acquire_file_lock", waited, progress_callback=note))
            while len(reported) < 3:
                told = news
                while not board.clock.sleepers():
                    await anyio.lowlevel.checkpoint()
                board.clock.turn(11)
                await ann.heartbeat()
                await told.wait()
            tasks.cancel_scope.cancel()
    assert reported == sorted(set(reported))


# What goes wrong inside.


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_crash_says_nothing_of_itself_but_where_it_is_written(own: Place, era: str) -> None:
    log = own.folder / "stderr"
    with log.open("w+", encoding="utf-8") as errors, anyio.fail_after(PATIENCE):
        async with own.stdio("--agent", "ann", era=era, errors=errors) as client:
            await call(client, "register_agent", role="developer")
            with_apsw(own, "DROP VIEW _leases")
            crashed = await client.call_tool("list_file_locks", {})
            with_apsw(own, "DROP TABLE agent_roster")
            with pytest.raises(MCPError) as unlisted:
                await client.list_tools()
    told = [text(crashed), unlisted.value.error.model_dump_json()]
    written = log.read_text(encoding="utf-8")
    assert crashed.is_error
    assert unlisted.value.code == types.INTERNAL_ERROR
    for answer in told:
        assert not [word for word in ("SQL", "table", "_leases", "roster", str(own.folder)) if word in answer]
    for error in (json.loads(told[0])["error"], unlisted.value.data):
        assert (error["code"], error["retryable"]) == ("internal_error", False)
        assert f"reference {error['ref']}" in written
    assert "Traceback" in written
    assert "no such table: _leases" in written


def with_apsw(place: Place, sql: str) -> None:
    db = apsw.Connection(str(place.db))
    try:
        db.set_busy_timeout(5000)
        db.pragma("foreign_keys", False)
        db.execute(sql)
    finally:
        db.close()
