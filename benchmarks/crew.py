"""Mixed work of a crew of 60 agents: through nine servers on one store beside one server, and 100,000 events
of it as they lie in the store.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import anyio

from benchmarks.rows import Row, in_turn, within
from benchmarks.wire import Script, Web, Wire, drive, piped, serving
from callboard.board import Board, Config, open_board

AGENTS, TEAM = 60, 6
PIPES = 8

STORE_MB = 40
LOG_MB = 64
"""To what the write-ahead log is cut back when it has grown beyond: `journal_size_limit` of the schema."""

NAMES = [f"agent-{number}" for number in range(AGENTS)]
REASON = (
    "The parser keeps its place between two reads, so that a line which comes in halves is one line. "
    "Tried with pieces of every length; the slow path is taken once in a thousand reads."
)


def work(number: int, cycles: int) -> Script:
    """What one agent does, over and over: a task is added and taken, a file locked, touched and given back,
    mail goes round, and now and then something is decided, learned, or said to the team."""
    name, neighbour = NAMES[number], NAMES[(number + 1) % AGENTS]
    me = {"agent_id": name}
    for cycle in range(cycles):
        path = f"src/{name}/module{cycle % 50}.py"
        yield "check_in", me
        yield (
            "add_dag_task",
            {**me, "id": f"{name}-{cycle}-{next(_numbers)}", "role": "developer", "title": REASON[:60]},
        )
        claimed = yield "claim_next_dag_task", me
        yield "acquire_file_lock", {**me, "file_path": path, "reason": "the task at hand"}
        yield "check_file_lock", {**me, "file_path": f"src/{neighbour}/module{cycle % 50}.py"}
        yield "record_file_touch", {**me, "file_paths": [path]}
        yield "log_activity", {**me, "action_type": "progress", "summary": REASON[:100]}
        yield "send_message", {**me, "to": neighbour, "content": f"{REASON} See {path}."}
        got = yield "receive_messages", me
        if got["messages"]:
            yield "ack_messages", {**me, "receipts": [message["receipt"] for message in got["messages"]]}
        if cycle % 5 == number % 5:
            yield "record_decision", {**me, "title": f"Keep {path} as it is", "rationale": REASON}
            yield (
                "put_knowledge",
                {**me, "category": "semantic", "key": f"{name}-{cycle % 8}", "content": REASON},
            )
        if cycle % 10 == number % 10:
            yield "send_group_message", {**me, "group_name": f"team-{number // TEAM}", "content": REASON}
        yield "list_dag_tasks", {**me, "dag_status": ["running"], "limit": 10}
        if (task := claimed.get("task")) is not None:
            yield "complete_dag_task", {**me, "task_id": task["task_id"], "summary": REASON}
        yield "release_file_lock", {**me, "file_path": path}


_numbers = itertools.count()


def gather_crew() -> Script:
    """Everybody signs in, and each team gets its room."""
    for name in NAMES:
        yield "register_agent", {"agent_id": name, "role": "developer"}
    for first in range(0, AGENTS, TEAM):
        members = NAMES[first : first + TEAM]
        yield (
            "create_chat_group",
            {"agent_id": NAMES[first], "name": f"team-{first // TEAM}", "members": members},
        )


async def servers(folder: Path, quick: bool) -> list[Row]:
    """Eight servers over stdio and one over HTTP on one store, beside one server that has a store for itself
    and answers all 60 over one connection, which is the cheapest way there is."""
    cycles = 1 if quick else 3
    alone = folder.parent / "alone"
    alone.mkdir()
    with ExitStack() as stack:
        pipes = [stack.enter_context(piped(folder)) for _ in range(PIPES)]
        url, _ = stack.enter_context(serving(folder))
        lone = stack.enter_context(piped(alone))
        share = AGENTS // (PIPES + 1)
        wires: list[Wire] = [pipes[number % PIPES] for number in range(PIPES * share)]
        wires += [stack.enter_context(Web(url)) for _ in range(AGENTS - len(wires))]
        for wire in (pipes[0], lone):
            drive([(wire, gather_crew())])
        tails: list[tuple[float, float]] = []

        def side(
            through: Sequence[Wire], told: list[tuple[float, float]] | None
        ) -> Callable[[], Awaitable[float]]:
            async def worked() -> float:
                begun = asyncio.get_running_loop().time()
                took = drive((wire, work(number, cycles)) for number, wire in enumerate(through))
                seconds = asyncio.get_running_loop().time() - begun
                if told is not None:
                    told.append((median(took), quantiles(took, n=100)[98]))
                return len(took) / seconds

            return worked

        rows = [
            await in_turn(
                f"throughput of {AGENTS} agents through {PIPES + 1} servers",
                (f"{PIPES} over stdio and 1 over HTTP, on one store", side(wires, tails)),
                ("1 server over stdio, on a store of its own", side([lone] * AGENTS, None)),
                at_least=0.8,
                unit="calls/s",
            )
        ]
    tails = tails[1:]
    ratios = [worst / middle for middle, worst in tails]
    rows.append(
        Row(
            f"the slowest calls of {AGENTS} agents through {PIPES + 1} servers",
            "p99",
            "p50",
            median(worst for _, worst in tails),
            median(middle for middle, _ in tails),
            median(ratios),
            "at most 10 times",
            10.0,
            rounds=len(tails),
            spread=(min(ratios), max(ratios)),
        )
    )
    return rows


class HurriedClock:
    """A clock on which each look at the time is a little later: a day's work in a minute, and the time for
    which things are kept passes as it would."""

    coarse_ms = 1
    boot_id = "hurried"

    def __init__(self, step_ms: int) -> None:
        self._now = 1_000_000
        self._step = step_ms

    def boot_ms(self) -> int:
        self._now += self._step
        return self._now

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self._now)

    async def sleep_until(self, boot_ms: int) -> None:
        await anyio.sleep_forever()


async def size(folder: Path, quick: bool) -> list[Row]:
    """The store and its log after so many entries of the ledger that come of mixed work."""
    wanted = 5_000 if quick else 100_000
    store = folder / "size.db"
    log = folder / "size.db-wal"
    config = Config(db=store, folder=folder, transport="http", durability="normal")
    largest = 0
    async with open_board(config, clock=HurriedClock(50)) as board:
        await _perform(board, gather_crew())
        with closing(board.store.connect()) as db:
            while (entries := int(db.execute("SELECT coalesce(max(id), 0) FROM activity_log").get)) < wanted:
                await asyncio.gather(*(_perform(board, work(number, 5)) for number in range(AGENTS)))
                await board.duties.tidy()
                largest = max(largest, log.stat().st_size)
    megabyte = 1_000_000
    return [
        within(
            f"the store after {wanted:,} mixed events",
            f"{entries:,} entries of the ledger, closed",
            [store.stat().st_size / megabyte],
            STORE_MB if not quick else STORE_MB * wanted / 100_000,
            "MB",
        ),
        within("its log at the largest", "of the same run", [largest / megabyte], LOG_MB, "MB"),
    ]


async def _perform(board: Board, script: Script) -> None:
    """Do what a script says, in process."""
    answer: dict[str, Any] | None = None
    while True:
        try:
            tool, arguments = next(script) if answer is None else script.send(answer)
        except StopIteration:
            return
        answer = await board.call(tool, arguments)
