"""What a store's size costs: the same call on stores of several sizes, by turns.

All of them are open at once, without waiting for the disk at each commit, which would hide what grows. Every
call is the product's; large stores are poured (`pouring.py`), and the smallest, poured in the same way, is
examined for integrity.
"""

import itertools
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import pouring, tasks
from benchmarks.rows import ROUNDS, Row, Side, turns
from callboard.board import Board, Config, open_board

LIMIT, SEARCH_LIMIT = 1.5, 10.0
"""How much dearer a call may be on the largest store; a search ranks what it finds."""

TIMES = 60
"""Calls of one turn."""

Fill = Callable[[Board, int], Awaitable[None]]
Pour = Callable[[Path, int], None]
Steps = Callable[[Board], Awaitable[object]]

_numbers = itertools.count()


async def call(board: Board, agent: str, tool: str, **arguments: Any) -> dict[str, Any]:
    return await board.call(tool, {"agent_id": agent, **arguments})


@dataclass(frozen=True)
class Measured:
    """One call, with what must be before it and after it, off the clock."""

    call: Callable[[Board, Any], Awaitable[Any]]
    before: Callable[[Board, int], Awaitable[Any]] | None = None
    """Is told the number of the call within its turn; the call gets its answer."""
    after: Callable[[Board, Any], Awaitable[object]] | None = None
    at_most: float = LIMIT

    def on(self, board: Board) -> Side:
        async def side() -> float:
            took = 0.0
            for number in range(TIMES):
                given = None if self.before is None else await self.before(board, number)
                begun = time.perf_counter()
                answer = await self.call(board, given)
                took += time.perf_counter() - begun
                if self.after is not None:
                    await self.after(board, answer)
            return 1000 * took / TIMES

        return side


@dataclass(frozen=True)
class Grown:
    """What there are many of, how a store comes to have them, and the calls that should not notice."""

    what: str
    sizes: tuple[int, ...]
    calls: dict[str, Measured]
    fill: Fill
    """Through calls: all of them, or the one that `pour` then repeats."""
    pour: Pour | None = None

    async def __call__(self, folder: Path, quick: bool) -> list[Row]:
        sizes = self.sizes[:2] if quick else self.sizes
        async with AsyncExitStack() as stack:
            boards: list[Board] = []
            for size in sizes:
                store = folder / f"{size}.db"
                config = Config(db=store, folder=folder, transport="http", durability="normal")
                async with open_board(config) as board:
                    await call(board, "bench", "register_agent", role="developer")
                    await self.fill(board, size)
                if self.pour is not None:
                    self.pour(store, size - 1)
                if size == sizes[0]:
                    pouring.whole(store)
                boards.append(await stack.enter_async_context(open_board(config)))
            return [await self._row(name, made, sizes, boards) for name, made in self.calls.items()]

    async def _row(self, name: str, made: Measured, sizes: tuple[int, ...], boards: list[Board]) -> Row:
        took = await turns([made.on(board) for board in boards], 2 * ROUNDS)
        ratios = [most / least for least, most in zip(took[0], took[-1], strict=True)]
        return Row(
            name,
            f"among {sizes[-1]:,} {self.what}",
            f"among {sizes[0]:,}",
            median(took[-1]),
            median(took[0]),
            median(ratios),
            f"at most {made.at_most:g} times",
            made.at_most,
            rounds=2 * ROUNDS,
            spread=(min(ratios), max(ratios)),
            curve=tuple(zip(sizes, map(median, took), strict=True)),
            curve_of=self.what,
        )


# Locks: leases of others, a thousand each, a hundred in a folder.


async def _locks(board: Board, size: int) -> None:
    for first in range(0, size, 100):
        holder = f"holder-{first // 1_000}"
        if first % 1_000 == 0:
            await call(board, holder, "register_agent", role="developer")
        paths = [f"lib/{first}/{number}.py" for number in range(min(100, size - first))]
        await call(board, holder, "acquire_file_locks", file_paths=paths)


async def _take(board: Board, _: object) -> dict[str, Any]:
    return await call(board, "bench", "acquire_file_lock", file_path=f"src/{next(_numbers)}.py")


async def _give_back(board: Board, taken: dict[str, Any]) -> None:
    await call(board, "bench", "release_file_lock", file_path=taken["file_path"])


# The inbox: messages that were received and acknowledged.


async def _message(board: Board, _: int) -> None:
    await call(board, "bob", "register_agent", role="developer")
    await _send(board, 0)
    await _acknowledge(board, await _receive(board, None))


async def _send(board: Board, _: int) -> None:
    await call(board, "bench", "send_message", to="bob", content="a word")


async def _receive(board: Board, _: object) -> dict[str, Any]:
    return await call(board, "bob", "receive_messages")


async def _acknowledge(board: Board, got: dict[str, Any]) -> None:
    await call(board, "bob", "ack_messages", receipts=[message["receipt"] for message in got["messages"]])


def _pour_messages(store: Path, count: int) -> None:
    payload = f"json_set(model.payload, '$.text', {pouring.words(8)})"
    differs = {"id": "n", "receipt": "'poured-' || n", "payload": payload, "payload_hash": "randomblob(32)"}
    pouring.pour(store, "message_queue", count, differs)


# A room: posts that everybody has read but the last few.


async def _room(board: Board, _: int) -> None:
    await call(board, "bob", "register_agent", role="developer")
    await call(board, "bench", "create_chat_group", name="all", members=["bench", "bob"])
    await call(board, "bob", "send_group_message", group_name="all", content="a word")


def _pour_posts(store: Path, count: int) -> None:
    differs = {"id": "printf('%032x', n)", "seq": "n", "content": pouring.words(8)}
    pouring.pour(store, "chat_group_messages", count, differs)


async def _newest(board: Board, _: int) -> int:
    """Where the newest posts begin, and everything before them read."""
    page = await call(board, "bench", "read_group_messages", group_name="all", newest_first=True, limit=50)
    return min(int(message["seq"]) for message in page["messages"])


# The ledger.


async def _nothing(board: Board, _: int) -> None:
    pass


async def _near_the_end(board: Board, _: int) -> int:
    page = await call(board, "bench", "list_activity", newest_first=True, limit=50)
    return min(int(entry["activity_id"]) for entry in page["entries"])


# What the project knows.


async def _lesson(board: Board, _: int) -> None:
    await call(board, "bench", "add_collective_memory", category="gotcha", key="first", value="w1 w2")


def _pour_lessons(store: Path, count: int) -> None:
    differs = {"id": "n", "key": "'lesson-' || n", "value": pouring.words(20)}
    pouring.pour(store, "collective_memory", count, differs)


async def _query(_: Board, number: int) -> str:
    """Three words, common and rare ones; the same ones on every store."""
    draw = random.Random(number)
    return " ".join(f"w{draw.randrange(pouring.WORDS // 2)}" for _ in range(3))


GROWTH = {
    "locks": Grown(
        "held locks",
        (10, 100, 1_000, 10_000),
        {
            "checking a lock": Measured(
                lambda board, _: call(board, "bench", "check_file_lock", file_path="lib/0/1.py")
            ),
            "taking a lock": Measured(_take, after=_give_back),
        },
        _locks,
    ),
    "tasks": Grown(
        "tasks",
        (1_000, 10_000, 100_000),
        {
            "claiming the next task": Measured(
                lambda board, _: call(board, "planner", "claim_next_dag_task"),
                after=lambda board, got: call(
                    board, "planner", "release_dag_task", task_id=got["task"]["task_id"]
                ),
            ),
        },
        tasks.build,
    ),
    "inbox": Grown(
        "delivered messages",
        (1_000, 10_000, 100_000, 1_000_000),
        {
            "receiving a message": Measured(_receive, before=_send, after=_acknowledge),
            "checking in": Measured(lambda board, _: call(board, "bench", "check_in")),
        },
        _message,
        _pour_messages,
    ),
    "group": Grown(
        "posts in a group",
        (1_000, 10_000, 100_000, 1_000_000),
        {
            "reading the newest posts of a group": Measured(
                lambda board, after: call(
                    board, "bench", "read_group_messages", group_name="all", after_id=after
                ),
                before=_newest,
            ),
        },
        _room,
        _pour_posts,
    ),
    "search": Grown(
        "notes",
        (1_000, 10_000, 100_000),
        {
            "searching what the project knows": Measured(
                lambda board, query: call(board, "bench", "search_knowledge", query=query),
                before=_query,
                at_most=SEARCH_LIMIT,
            ),
        },
        _lesson,
        _pour_lessons,
    ),
    "activity": Grown(
        "entries of the ledger",
        (1_000, 10_000, 100_000, 1_000_000),
        {
            "activity from a cursor on": Measured(
                lambda board, after: call(board, "bench", "list_activity", after_id=after),
                before=_near_the_end,
            ),
            "what is rare in the ledger": Measured(
                lambda board, _: call(board, "bench", "list_activity", action_type="project_created")
            ),
            "catching up": Measured(
                lambda board, after: call(board, "bench", "catch_up", since_id=after), before=_near_the_end
            ),
        },
        _nothing,
        pouring.pour_ledger,
    ),
}
