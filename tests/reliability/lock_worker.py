"""A process that does random lock calls on a store and logs each before it makes it and after its answer.

    python lock_worker.py FOLDER AGENT SEED CALLS LOG

The clock runs `SPEED` times as fast as the host's, the same in all workers, so that leases of seconds end
within the run. Nothing renews leases in the background. How long the process stood still without having been
stopped, as it does on a busy machine, is told in `LOG.stood`.
"""

import asyncio
import json
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import anyio

from callboard.board import Board, Config, open_board
from callboard.clock import HostClock
from callboard.errors import Refused
from tests.reliability.lock_history import CALL_LEASE

SPEED = 20

PATIENT = 50
"""Seconds of a wait that ends with a grant, unless its wake-up is lost."""

PATHS = ("src", "src/a.py", "src/b.py", "src/*.py", "docs/x.md")


class FastClock:
    """The host's boot clock, faster."""

    boot_id = "fast"
    coarse_ms = 0

    def __init__(self) -> None:
        self._host = HostClock()

    def boot_ms(self) -> int:
        return self._host.boot_ms() * SPEED

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, boot_ms: int) -> None:
        while (left := boot_ms - self.boot_ms()) > 0:
            await anyio.sleep(left / 1000 / SPEED)


class Worker:
    def __init__(self, board: Board, agent: str, random_: random.Random, log: IO[str]) -> None:
        self.board = board
        self.clock = board.clock
        self.agent = agent
        self.random = random_
        self.log = log
        self.fences: dict[str, list[int]] = {}
        """The fences that it was ever given, by path."""

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        self.write(agent=self.agent, tool=tool, arguments=arguments, invoked=self.clock.boot_ms())
        try:
            answer = await self.board.call(tool, {**arguments, "agent_id": self.agent})
        except Refused as refused:
            answer = dict(refused.as_data())
        # A clock of whole milliseconds lags behind the moment that it tells, by less than one of the host's.
        self.write(responded=self.clock.boot_ms() + SPEED, answer=answer)
        return answer

    def write(self, **entry: Any) -> None:
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()

    async def one(self) -> None:
        """One random call."""
        path = self.random.choice(PATHS)
        what = self.random.choices(
            ("take", "wait", "several", "queue", "release", "release all", "renew", "force", "hold", "look"),
            (25, 25, 8, 6, 22, 2, 8, 2 if self.agent == "w0" else 0, 12, 12),
        )[0]
        ttl = self.random.randint(5, 8)
        asked: dict[str, Any] = {
            "ttl_seconds": ttl,
            "mode": self.random.choice(("exclusive", "exclusive", "shared")),
        }
        if what == "take":
            self.took(await self.call("acquire_file_lock", file_path=path, **asked))
        elif what == "wait":
            waiting = {"wait_seconds": self.random.choice((1, 2, 3, 4, PATIENT))}
            self.took(await self.call("acquire_file_lock", file_path=path, **asked, **waiting))
        elif what == "several":
            paths = self.random.sample(PATHS, 2)
            self.took(await self.call("acquire_file_locks", file_paths=paths, **asked, wait_seconds=2))
        elif what == "queue":
            self.took(await self.call("acquire_file_lock", file_path=path, **asked, queue_seconds=4))
        elif what == "release":
            await self.call("release_file_lock", file_path=path, **self.fence(path))
        elif what == "release all":
            await self.call("release_file_locks")
        elif what == "renew":
            await self.call("renew_file_lock", file_path=path, ttl_seconds=ttl, **self.fence(path))
        elif what == "force":
            await self.call("force_release_file_lock", file_path=path, reason="a test")
        elif what == "look":
            await self.call("list_file_locks", include_waiters=True, limit=200)
        else:
            await self.clock.sleep_until(
                self.clock.boot_ms() + self.random.choice((100, 200, 300, 500, 1_000, 6_000))
            )

    def fence(self, path: str) -> dict[str, int]:
        """The newest fence that it was given, or an older one, or none."""
        known = self.fences.get(path, [])
        if not known or self.random.random() < 0.3:
            return {}
        return {"fence": known[-1] if self.random.random() < 0.8 else self.random.choice(known)}

    def took(self, answer: dict[str, Any]) -> None:
        for lease in answer.get("locks", [answer] if "fence" in answer else []):
            self.fences.setdefault(lease["file_path"], []).append(lease["fence"])


async def watch(board: Board, agent: str, log: IO[str]) -> None:
    """Note when a write, which is what keeps a place, was not done for half of that place's lease."""
    last = board.clock.boot_ms()
    while True:
        await board.clock.sleep_until(last + CALL_LEASE // 4)
        await board.store.write(lambda tx: None)
        now = board.clock.boot_ms()
        if now - last > CALL_LEASE // 2:
            log.write(json.dumps({"agent": agent, "since": last, "until": now + SPEED}) + "\n")
            log.flush()
        last = now


async def work(folder: Path, agent: str, seed: int, calls: int, log: IO[str], stood: IO[str]) -> None:
    config = Config(folder=folder, transport="stdio", durability="normal", renew=False)
    async with open_board(config, clock=FastClock()) as board, anyio.create_task_group() as tasks:
        tasks.start_soon(board.keep)
        tasks.start_soon(watch, board, agent, stood)
        worker = Worker(board, agent, random.Random(seed), log)
        crew = {"role": "lead"} if agent == "w0" else {"role": "developer", "lead_id": "w0"}
        await worker.call("register_agent", **crew)
        for _ in range(calls):
            await worker.one()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    _, folder, agent, seed, calls, log = sys.argv
    with Path(log).open("w", encoding="utf-8") as file, Path(f"{log}.stood").open("w") as stood:
        asyncio.run(work(Path(folder), agent, int(seed), int(calls), file, stood))
