"""A process that writes to a store while it is copied, and logs each call before it makes it and after it was
answered.

    python backup_worker.py FOLDER AGENT SEED LOG

It signs in, waits for the file `GO` in the folder, and ends once that is gone.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import IO, Any

from callboard.board import Board, Config, open_board

GO = "go"
STORE = "board.db"
PAUSE_SECONDS = 0.02


class Worker:
    def __init__(self, board: Board, agent: str, random_: random.Random, log: IO[str]) -> None:
        self.board = board
        self.agent = agent
        self.random = random_
        self.log = log

    async def call(self, tool: str, key: str, **arguments: Any) -> dict[str, Any]:
        self.write(key=key, invoked=time.monotonic_ns())
        answer = await self.board.call(tool, {**arguments, "agent_id": self.agent})
        self.write(key=key, responded=time.monotonic_ns(), fence=max(fences(answer), default=0))
        return answer

    def write(self, **entry: Any) -> None:
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()

    async def step(self, number: int) -> None:
        """One write that has one row, and two whose rows belong together."""
        key = f"{self.agent}-{number}"
        await self.call("log_activity", f"note-{key}", action_type="note", summary=f"note-{key}")
        await self.call("send_message", f"word-{key}", to="developer", content=f"word-{key}")
        paths = [f"{key}/{name}.py" for name in ("a", "b", "c")]
        await self.call("acquire_file_locks", f"lock-{key}", file_paths=paths)
        if self.random.random() < 0.7:
            await self.call("release_file_locks", f"free-{key}")
        ids = [message["message_id"] for message in (await self.fetch())["messages"]]
        while ids:
            ids = [message["message_id"] for message in (await self.fetch(ack_ids=ids))["messages"]]

    async def fetch(self, **arguments: Any) -> dict[str, Any]:
        return await self.board.call("receive_messages", {**arguments, "agent_id": self.agent, "limit": 200})


def fences(answer: dict[str, Any]) -> list[int]:
    return [int(lock["fence"]) for lock in answer.get("locks", ()) if "fence" in lock]


async def work(folder: Path, agent: str, seed: int, log: IO[str]) -> None:
    config = Config(folder=folder, db=folder / STORE, transport="stdio")
    async with open_board(config) as board:
        await board.call("register_agent", {"agent_id": agent, "role": "developer"})
        worker, number = Worker(board, agent, random.Random(seed), log), 0
        worker.write(ready=True)
        while not (folder / GO).exists():
            await asyncio.sleep(PAUSE_SECONDS)
        while (folder / GO).exists():
            await worker.step(number)
            number += 1
            await asyncio.sleep(worker.random.uniform(0, 2 * PAUSE_SECONDS))


if __name__ == "__main__":
    _, folder, agent, seed, log = sys.argv
    with Path(log).open("w", encoding="utf-8") as file:
        asyncio.run(work(Path(folder), agent, int(seed), file))
