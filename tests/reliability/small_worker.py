"""A process whose agents all call at once on a few small objects, and log each call before and after it.

    python small_worker.py FOLDER NAME SEED ROUNDS LOG

The objects are tasks, inboxes, request keys, and the one counter that fences and epochs come from. No lease
and no receipt runs out within a run, so that only calls change anything.
"""

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import IO, Any

import anyio

from callboard.board import Board, Config, open_board
from callboard.clock import HostClock
from callboard.errors import Refused

AGENTS = ("ann", "ben", "cat", "dan")
INBOXES = ("in0", "in1")
TASKS = tuple(f"t{number}" for number in range(40))
KEYS = tuple(f"k{number}" for number in range(30))
VISIBILITY = 3_600


class Worker:
    def __init__(self, board: Board, name: str, random_: random.Random, log: IO[str]) -> None:
        self.board = board
        self.name = name
        self.random = random_
        self.log = log
        self.calls = 0

    async def call(self, tool: str, agent: str, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        number = self.calls
        self.write(number=number, tool=tool, by=agent, given=arguments, invoked=HostClock().boot_ms())
        try:
            answer = await self.board.call(tool, {**arguments, "agent_id": agent})
        except Refused as refused:
            answer = dict(refused.as_data())
        # A clock of whole milliseconds lags behind the moment that it tells.
        self.write(number=number, answer=answer, over=HostClock().boot_ms() + 1)
        return answer

    def write(self, **entry: Any) -> None:
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()

    async def claims(self) -> None:
        agent, task = self.random.choice(AGENTS), self.random.choice(TASKS)
        claim = await self.call("claim_dag_task", agent, task_id=task)
        if "claim_epoch" in claim:
            end = self.random.choice(("complete_dag_task", "release_dag_task", None))
            if end == "complete_dag_task":
                text = {"summary": "done"}
                await self.call(end, agent, task_id=task, claim_epoch=claim["claim_epoch"], **text)
            elif end is not None:
                await self.call(end, agent, task_id=task)

    async def sends(self) -> None:
        to = self.random.choice(INBOXES)
        await self.call(
            "send_message", self.random.choice(AGENTS), to=to, content=f"{self.name} {self.calls}"
        )

    async def receives(self) -> None:
        inbox = self.random.choice(INBOXES)
        asked = {"limit": 2, "visibility_seconds": VISIBILITY}
        for message in (await self.call("receive_messages", inbox, **asked))["messages"]:
            if self.random.random() < 0.7:
                await self.call("ack_messages", inbox, receipts=[message["receipt"]])

    async def repeats(self) -> None:
        key, words = self.random.choice(KEYS), self.random.choice(("one", "two"))
        arguments = {"action_type": "note", "summary": words, "request_key": key}
        await self.call("log_activity", "ann", **arguments)

    async def locks(self) -> None:
        path = f"{self.name}/{self.random.randrange(10)}.py"
        await self.call("acquire_file_lock", self.random.choice(AGENTS), file_path=path, ttl_seconds=80_000)
        if self.random.random() < 0.5:
            await self.call("release_file_locks", self.random.choice(AGENTS))


async def prepare(folder: Path) -> None:
    """Sign everybody in, and plan the tasks."""
    async with open_board(Config(folder=folder, transport="http", durability="normal")) as board:
        await board.call("register_agent", {"agent_id": "lea", "role": "lead"})
        for agent in (*AGENTS, *INBOXES):
            await board.call("register_agent", {"agent_id": agent, "role": "developer", "lead_id": "lea"})
        tasks = [{"id": task, "role": "developer", "title": task} for task in TASKS]
        await board.call("add_dag_tasks", {"agent_id": "lea", "tasks": tasks})


async def work(folder: Path, name: str, seed: int, rounds: int, log: IO[str]) -> None:
    config = Config(folder=folder, transport="http", durability="normal", renew=False)
    async with open_board(config) as board:
        worker = Worker(board, name, random.Random(seed), log)
        kinds = (worker.claims, worker.sends, worker.receives, worker.repeats, worker.locks)
        for _ in range(rounds):
            async with anyio.create_task_group() as together:
                for kind in worker.random.sample(kinds, 3):
                    together.start_soon(kind)


if __name__ == "__main__":
    _, folder, name, seed, rounds, log = sys.argv
    with Path(log).open("w", encoding="utf-8") as file:
        asyncio.run(work(Path(folder), name, int(seed), int(rounds), file))
