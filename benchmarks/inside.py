"""What is measured within one process: writes that share a commit, and what an agent must read."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.rows import ROUNDS, Row, Side, in_turn, repeated, within
from benchmarks.transports import free_path
from callboard.board import Board, Config, open_board
from callboard.catalog import PROFILES, select
from callboard.manifests import tokens

TOKENS = {"core": 5_000, "all": 18_000}
"""What the tools of a profile may cost an agent to know."""

GROUP = 64
"""Writes that wait together: as many as one commit takes in."""


Write = Callable[[], Awaitable[None]]


@asynccontextmanager
async def board(folder: Path, durability: Any = "full") -> AsyncIterator[Board]:
    async with open_board(Config(folder=folder, transport="http", durability=durability)) as opened:
        await opened.call("register_agent", {"agent_id": "bench", "role": "developer"})
        yield opened


async def grouping(folder: Path, quick: bool) -> list[Row]:
    """Writes that wait together share a commit: 64 one after the other, beside 64 at once."""
    async with board(folder) as opened:

        async def take() -> None:
            await opened.call("acquire_file_lock", {"agent_id": "bench", "file_path": free_path()})

        async def give_back() -> None:
            await opened.call("release_file_locks", {"agent_id": "bench"})

        async def number() -> None:
            await opened.store.write(lambda tx: tx.next_fence())

        async def nothing() -> None:
            pass

        def together(write: Write, after: Write) -> Side:
            async def side() -> float:
                begun = time.perf_counter()
                await asyncio.gather(*(write() for _ in range(GROUP)))
                took = 1000 * (time.perf_counter() - begun) / GROUP
                await after()
                return took

            return side

        def alone(write: Write, after: Write) -> Side:
            async def side() -> float:
                took = await repeated(write, GROUP)()
                await after()
                return took

            return side

        return [
            await in_turn(
                f"in process: the store's smallest write, one by one beside {GROUP} at once",
                ("one after the other, each", alone(number, nothing)),
                (f"{GROUP} that wait together, each", together(number, nothing)),
                at_least=6.0,
                rounds=ROUNDS if quick else 3 * ROUNDS,
            ),
            await in_turn(
                f"in process: acquire_file_lock, one by one beside {GROUP} at once",
                ("one after the other, each", alone(take, give_back)),
                (f"{GROUP} that wait together, each", together(take, give_back)),
                at_least=6.0,
                rounds=ROUNDS if quick else 3 * ROUNDS,
            ),
        ]


async def knowing(_: Path, __: bool) -> list[Row]:
    """What an agent must read to know the tools of a profile, in tokens of four bytes."""
    rows = []
    for profile in PROFILES:
        known = select([profile]).values()
        cost = sum(map(tokens, known))
        limit = TOKENS.get(profile)
        name, measured = f"tools/list of the profile {profile}", f"{len(known)} tools"
        if limit is None:
            rows.append(
                Row(
                    name,
                    measured,
                    "those of all",
                    cost,
                    TOKENS["all"],
                    cost / TOKENS["all"],
                    unit="tokens",
                    rounds=1,
                )
            )
        else:
            rows.append(within(name, measured, [cost], limit, "tokens"))
    return rows
