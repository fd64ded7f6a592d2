"""What is measured within one process: writes that share a commit, and what an agent must read."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.rows import ROUNDS, Row, in_turn, within
from benchmarks.transports import free_path
from callboard.board import Board, Config, open_board
from callboard.catalog import PROFILES, select
from callboard.manifests import tokens

TOKENS = {"core": 5_000, "all": 18_000}
"""What the tools of a profile may cost an agent to know."""

GROUP = 64
"""Writes that wait together: as many as one commit takes in."""


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

        async def together() -> float:
            begun = time.perf_counter()
            await asyncio.gather(*(take() for _ in range(GROUP)))
            took = 1000 * (time.perf_counter() - begun) / GROUP
            await give_back()
            return took

        async def alone() -> float:
            begun = time.perf_counter()
            for _ in range(GROUP):
                await take()
            took = 1000 * (time.perf_counter() - begun) / GROUP
            await give_back()
            return took

        async def number() -> None:
            await opened.store.write(lambda tx: tx.next_fence())

        async def numbers_together() -> float:
            begun = time.perf_counter()
            await asyncio.gather(*(number() for _ in range(GROUP)))
            return 1000 * (time.perf_counter() - begun) / GROUP

        async def numbers_alone() -> float:
            begun = time.perf_counter()
            for _ in range(GROUP):
                await number()
            return 1000 * (time.perf_counter() - begun) / GROUP

        return [
            await in_turn(
                f"in process: the store's smallest write, one by one beside {GROUP} at once",
                ("one after the other, each", numbers_alone),
                (f"{GROUP} that wait together, each", numbers_together),
                at_least=6.0,
                rounds=ROUNDS if quick else 3 * ROUNDS,
            ),
            await in_turn(
                f"in process: acquire_file_lock, one by one beside {GROUP} at once",
                ("one after the other, each", alone),
                (f"{GROUP} that wait together, each", together),
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
