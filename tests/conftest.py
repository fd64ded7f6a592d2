"""The whole product on a throwaway store, with a clock that the test turns.

A test calls tools as an agent does and reads the answers as an agent does. Nothing of the product is
replaced but the host's clock and its source of chance.
"""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # has no types
from mcp import Client
from mcp.types import TextContent

from callboard import board as product
from callboard.board import Config, open_board
from callboard.catalog import CATALOG
from callboard.errors import Refused
from callboard.identity import Principal
from callboard.mcp_server import CallboardServer
from tests.starting import connect, prepare


class TurnedClock:
    """A host's clock that stands still until a test turns it."""

    coarse_ms = 0

    def __init__(self, boot_id: str = "boot-1") -> None:
        self.boot_id = boot_id
        self._boot_ms = 1_000_000
        self._wall = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self._sleepers: list[tuple[int, anyio.Event]] = []

    def boot_ms(self) -> int:
        return self._boot_ms

    def now(self) -> datetime:
        return self._wall

    def turn(self, seconds: float) -> None:
        """Let time pass, for leases and for people."""
        self._boot_ms += round(seconds * 1000)
        self.step_wall(seconds)
        for deadline, woken in self._sleepers:
            if deadline <= self._boot_ms:
                woken.set()
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._boot_ms]

    def slip(self, seconds: float) -> None:
        """Let time pass that nobody who sleeps has noticed yet."""
        self._boot_ms += round(seconds * 1000)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back; no time passes."""
        self._wall += timedelta(seconds=seconds)

    async def sleep_until(self, boot_ms: int) -> None:
        if boot_ms > self._boot_ms:
            sleeper = (boot_ms, anyio.Event())
            self._sleepers.append(sleeper)
            try:
                await sleeper[1].wait()
            finally:
                self._sleepers = [other for other in self._sleepers if other is not sleeper]

    def sleepers(self) -> int:
        """How many tasks sleep on this clock."""
        return len(self._sleepers)


class Counted:
    """Ids that differ and come out the same in every run."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self, size: int) -> str:
        return f"{next(self._numbers) * 2654435761 % 256**size:0{2 * size}x}"


class Agent:
    """One agent as a test plays it: `await ann.acquire_file_lock(file_path="a.py")`."""

    def __init__(self, board: "Board", agent_id: str) -> None:
        self.board = board
        self.id = agent_id

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.board.call(tool, agent_id=self.id, **arguments)

    def __getattr__(self, tool: str) -> Callable[..., Any]:
        async def call(**arguments: Any) -> dict[str, Any]:
            return await self.call(tool, **arguments)

        return call


@cache
def _schema_of(tool: str) -> Draft202012Validator:
    found = {tool.name: tool for tool in CATALOG}[tool]
    return Draft202012Validator(dict(found.output_schema))


def check_result(tool: str, answer: dict[str, Any]) -> None:
    """Hold a result to the schema that its tool publishes; clients throw away what is not so."""
    _schema_of(tool).validate(answer)


def is_json(arguments: dict[str, Any]) -> bool:
    """Whether a client can send these arguments as they are."""
    try:
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


class Board:
    """The product under test."""

    def __init__(self, opened: product.Board, clock: TurnedClock, folder: Path) -> None:
        self.opened = opened
        self.clock = clock
        self.folder = folder

    async def call(self, tool: str, *, token: Principal | None = None, **arguments: Any) -> dict[str, Any]:
        """Call a tool as its result; a refusal is raised."""
        answer = await self.opened.call(tool, arguments, token=token)
        check_result(tool, answer)
        return answer

    async def refusal(self, tool: str, *, token: Principal | None = None, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must refuse; the refusal as agents read it. It goes through a real MCP client,
        but for what only HTTP carries (a token) and what no client can write down (NaN, lone surrogates)."""
        if token is None and is_json(arguments):
            async with Client(CallboardServer(self.opened)) as client:
                result = await client.call_tool(tool, arguments)
            assert result.is_error and result.structured_content is None, f"{tool} was not refused: {result}"
            [content] = result.content
            assert isinstance(content, TextContent)
            refused: dict[str, Any] = json.loads(content.text)["error"]
            return refused
        try:
            answer = await self.opened.call(tool, arguments, token=token)
        except Refused as refused:
            return refused.as_data()
        raise AssertionError(f"{tool} was not refused: {answer}")

    async def agent(self, agent_id: str | None = None, role: str = "developer", **arguments: Any) -> Agent:
        """Sign an agent in."""
        if agent_id is not None:
            arguments["agent_id"] = agent_id
        registered = await self.call("register_agent", role=role, **arguments)
        return Agent(self, registered["agent_id"])

    async def human(self, name: str = "maria") -> Principal:
        """A person who has authenticated with a token."""
        return await self.principal(human=name)

    async def principal(
        self, *, agent: str | None = None, human: str | None = None, scope: str = "worker"
    ) -> Principal:
        """Whom a fresh token stands for."""
        token = await self.token(agent=agent, human=human, scope=scope)
        return await self.opened.authenticate(token)

    async def token(
        self, *, agent: str | None = None, human: str | None = None, scope: str = "worker"
    ) -> str:
        """A fresh token, issued as `callboard token create` does."""
        return await self.opened.issue_token(
            kind="human" if human else "agent",
            name=human or agent or "",
            scope="human" if human else scope,  # type: ignore[arg-type]  # a test's own word
        )

    async def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Look into the store by its own reader."""
        db = self.opened.store.connect()
        try:
            return list(db.execute(sql, values))
        finally:
            db.close()

    async def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, to show that something changed nothing."""
        await self.settle()
        db = self.opened.store.connect()
        try:
            tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            return {str(name): list(db.execute(f'SELECT * FROM "{name}"')) for (name,) in tables}
        finally:
            db.close()

    async def settle(self) -> None:
        """Wait until every write that was submitted is done, also those that nobody waits for."""
        await self.opened.store.write(lambda tx: None)

    async def turn(self, seconds: float) -> None:
        """Let time pass, and end what is over, as every serving process does."""
        self.clock.turn(seconds)
        await self.opened.sweep()


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the product keeps outside its store, anchors and receipts, lands in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


# The store's file alone, for the tests of what stands under the board.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board.db"


@pytest.fixture
def store(path: Path) -> Path:
    prepare(path)
    return path


@pytest.fixture
def db(store: Path) -> Iterator[apsw.Connection]:
    with closing(connect(store)) as connection:
        yield connection


Boards = Callable[..., AbstractAsyncContextManager[Board]]


@pytest.fixture
def boards(tmp_path: Path) -> Boards:
    """Opens boards on one store; further ones are other processes as far as the store can tell."""
    folder = tmp_path / "repo"
    folder.mkdir()
    clock = TurnedClock()
    ids = Counted()

    @asynccontextmanager
    async def opened(config: Config | None = None, **changes: Any) -> AsyncIterator[Board]:
        told = replace(config or Config(folder=folder, transport="http"), **changes)
        async with open_board(told, clock=clock, ids=ids) as board:
            yield Board(board, clock, folder)

    return opened


@pytest.fixture
async def board(boards: Boards) -> AsyncIterator[Board]:
    async with boards() as opened:
        yield opened
