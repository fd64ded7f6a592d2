"""A process that sends or receives messages on a store and logs each step before it takes the next.

    python queue_worker.py FOLDER NAME AGENT SEED

`NAME` begins with `send` or `receive`. Every life of a worker appends to the same log, and a sender first
repeats what its last life may not have been answered. The clock is that of `lock_worker`.
"""

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import IO, Any

import anyio

from callboard.board import Board, Config, open_board
from tests.reliability.lock_worker import FastClock

VISIBILITY_SECONDS = 10
INBOXES = ("ben", "cat")
POISON_EVERY = 20

SENT_ALL = "sent-all"
DRAINED = "drained"
"""Files in the folder of the run: senders end at the first, receivers at the second."""


def log_of(folder: Path, name: str) -> Path:
    return folder.with_name(f"{name}.log")


def entries(log: Path) -> list[dict[str, Any]]:
    """The steps that a worker has logged; a line that a kill has cut off was not logged."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


class Worker:
    def __init__(self, board: Board, folder: Path, agent: str, random_: random.Random, log: IO[str]) -> None:
        self.board = board
        self.folder = folder
        self.agent = agent
        self.random = random_
        self.log = log

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.board.call(tool, {**arguments, "agent_id": self.agent})

    def write(self, **entry: Any) -> None:
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()

    async def send(self, before: list[dict[str, Any]]) -> None:
        answered = {entry["key"] for entry in before if "message_id" in entry}
        intents = [entry for entry in before if "to" in entry]
        for entry in intents:
            if entry["key"] not in answered:
                await self.send_one(entry["key"], entry["to"])
        number = len(intents)
        while not (self.folder / SENT_ALL).exists():
            kind = "poison" if number % POISON_EVERY == POISON_EVERY // 2 else "food"
            key, to = f"{kind}-{self.agent}-{number}", self.random.choice(INBOXES)
            self.write(key=key, to=to)
            await self.send_one(key, to)
            number += 1
            await anyio.sleep(self.random.uniform(0, 0.08))

    async def send_one(self, key: str, to: str) -> None:
        sent = await self.call("send_message", to=to, content=key, request_key=key)
        self.write(key=key, message_id=sent["message_ids"][0])

    async def receive(self) -> None:
        while not (self.folder / DRAINED).exists():
            invoked = self.board.clock.boot_ms()
            answer = await self.call(
                "receive_messages", limit=5, wait_seconds=5, visibility_seconds=VISIBILITY_SECONDS
            )
            responded = self.board.clock.boot_ms()
            for message in answer["messages"]:
                self.write(
                    message_id=message["message_id"],
                    attempts=message.get("attempts", 1),
                    invoked=invoked,
                    responded=responded,
                )
            for message in answer["messages"]:
                if "poison" in message["text"]:
                    continue
                await anyio.sleep(self.random.uniform(0, 0.02))
                try:
                    await self.call("ack_messages", receipts=[message["receipt"]])
                except Exception as refused:
                    if getattr(refused, "code", None) != "stale_receipt":
                        raise
                else:
                    self.write(acknowledged=message["message_id"], responded=self.board.clock.boot_ms())


async def work(folder: Path, name: str, agent: str, seed: int) -> None:
    before = entries(log_of(folder, name))
    config = Config(folder=folder, transport="stdio", durability="normal", renew=False)
    async with open_board(config, clock=FastClock()) as board, anyio.create_task_group() as tasks:
        with log_of(folder, name).open("a", encoding="utf-8") as log:
            worker = Worker(board, folder, agent, random.Random(seed), log)
            tasks.start_soon(board.keep)
            await worker.call("register_agent", role="developer")
            worker.write(began=True)
            await (worker.send(before) if name.startswith("send") else worker.receive())
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    _, folder, name, agent, seed = sys.argv
    asyncio.run(work(Path(folder), name, agent, int(seed)))
