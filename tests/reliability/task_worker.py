"""A process that works on the tasks of a store: it drains the graph, or ties edges on command.

    python task_worker.py FOLDER AGENT drain|tie

Draining, it claims what is next, completes it under the claim's epoch, and goes on until the crew has
nothing left. Tying, it reads `task dependency` lines, adds each edge and answers with `ok` or the refusal's
code. The clock runs `SPEED` times as fast as the host's, so that the claims of the killed lapse soon.
"""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import anyio

from callboard.board import Board, Config, open_board
from callboard.clock import HostClock
from callboard.errors import Refused

SPEED = 60

OPEN = ["pending", "ready", "running", "blocked"]


class FastClock:
    """The host's boot clock, faster: a claim lapses ten seconds after its holder's end."""

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


async def drain(board: Board, agent: str) -> None:
    print("ready", flush=True)
    while True:
        wait = {"agent_id": agent, "wait_seconds": 30}
        answer = await board.call("claim_next_dag_task", wait)
        if (task := answer.get("task")) is None:
            left = await board.call("list_dag_tasks", {"agent_id": agent, "dag_status": OPEN, "limit": 1})
            if not left["tasks"]:
                return
            continue
        print("claimed", task["task_id"], task["claim_epoch"], flush=True)
        done = {"agent_id": agent, "task_id": task["task_id"], "claim_epoch": task["claim_epoch"]}
        try:
            await board.call("complete_dag_task", done)
        except Refused as refused:
            print(refused.code, task["task_id"], task["claim_epoch"], flush=True)
        else:
            print("completed", task["task_id"], task["claim_epoch"], flush=True)


async def tie(board: Board, agent: str) -> None:
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        task_id, dependency = line.split()
        edge = {"agent_id": agent, "task_id": task_id, "depends_on": [dependency]}
        try:
            await board.call("add_task_dependencies", edge)
            print("ok", flush=True)
        except Refused as refused:
            print(refused.code, flush=True)


async def main(folder: Path, agent: str, what: str) -> None:
    config = Config(folder=folder, transport="http", durability="normal")
    async with open_board(config, clock=FastClock()) as board:
        await board.call("register_agent", {"agent_id": agent, "role": "developer"})
        async with asyncio.TaskGroup() as tasks:
            feed = tasks.create_task(board.feed.poll())
            await (drain if what == "drain" else tie)(board, agent)
            feed.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
