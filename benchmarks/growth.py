"""What a store's size costs: the same call on a small store and on a large one, by turns.

Both stores are filled through the calls that agents make, and are open at once.
"""

import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import tasks
from benchmarks.rows import Row, in_turn, repeated
from callboard.board import Board, Config, open_board

SMALL, QUICK, LARGE = 100, 2_000, 50_000
LIMIT = tasks.LIMIT
"""How much dearer a call may be on the large store."""

TIMES = 100
"""Calls of one turn."""

Fill = Callable[[Board, int], Awaitable[None]]
Call = Callable[[Board], Awaitable[object]]


async def call(board: Board, agent: str, tool: str, **arguments: Any) -> dict[str, Any]:
    return await board.call(tool, {"agent_id": agent, **arguments})


async def _locks(board: Board, size: int) -> None:
    """Leases of others, a thousand each, a hundred in a folder."""
    for first in range(0, size, 100):
        holder = f"holder-{first // 1_000}"
        if first % 1_000 == 0:
            await call(board, holder, "register_agent", role="developer")
        paths = [f"lib/{first}/{number}.py" for number in range(min(100, size - first))]
        await call(board, holder, "acquire_file_locks", file_paths=paths)


async def _messages(board: Board, size: int) -> None:
    """Messages that were received and acknowledged."""
    await call(board, "bob", "register_agent", role="developer")
    for first in range(0, size, 50):
        for number in range(min(50, size - first)):
            await call(board, "bench", "send_message", to="bob", content=f"message {first + number}")
        got = await call(board, "bob", "receive_messages", limit=200)
        receipts = [message["receipt"] for message in got["messages"]]
        await call(board, "bob", "ack_messages", receipts=receipts)


async def _exchange(board: Board) -> None:
    await call(board, "bench", "send_message", to="bob", content="a word")
    got = await call(board, "bob", "receive_messages")
    await call(board, "bob", "ack_messages", receipts=[message["receipt"] for message in got["messages"]])


_numbers = itertools.count()


async def _add(board: Board) -> None:
    number = next(_numbers)
    depends_on = [f"t{number % 20}", f"t{number % 30 + 30}", f"t{number % 40 + 60}"]
    await call(board, "planner", "add_dag_task", id=f"new{number}", role="developer", depends_on=depends_on)


async def grown(
    folder: Path, quick: bool, *, what: str, least: int, fill: Fill, calls: dict[str, Call]
) -> list[Row]:
    """One row for each call. The smaller store has at least `least` of what the other has many of."""
    large = QUICK if quick else LARGE
    async with AsyncExitStack() as stack:

        async def filled(size: int) -> Board:
            store = folder / f"{size}.db"
            config = Config(db=store, folder=folder, transport="http", durability="normal")
            board = await stack.enter_async_context(open_board(config))
            await call(board, "bench", "register_agent", role="developer")
            await fill(board, size)
            return board

        few, many = await filled(least), await filled(large)
        return [
            await in_turn(
                name,
                (f"among {large:,} {what}", repeated(partial(made, many), TIMES)),
                (f"among {least:,}", repeated(partial(made, few), TIMES)),
                at_most=LIMIT,
            )
            for name, made in calls.items()
        ]


GROWTH = {
    "locks": partial(
        grown,
        what="leases",
        least=SMALL,
        fill=_locks,
        calls={
            "taking a lock": lambda board: call(board, "bench", "acquire_file_lock", file_path="src/a.py"),
            "checking a lock": lambda board: call(board, "bench", "check_file_lock", file_path="lib/0/1.py"),
            "listing locks": lambda board: call(board, "bench", "list_file_locks", limit=20),
        },
    ),
    "messages": partial(
        grown,
        what="messages",
        least=SMALL,
        fill=_messages,
        calls={
            "sending, receiving, acknowledging": _exchange,
            "checking in": lambda board: call(board, "bench", "check_in"),
            "searching the crew": lambda board: call(board, "bench", "search_crew", query="message"),
        },
    ),
    # A graph so small that it runs out of tasks would measure something else.
    "tasks": partial(
        grown,
        what="tasks",
        least=1_000,
        fill=tasks.build,
        calls={
            "adding a task with three dependencies": _add,
            "listing tasks": lambda board: call(board, "planner", "list_dag_tasks", limit=20),
        },
    ),
}
