"""What a graph's size costs: adding, claiming, completing and listing among 1,000 and among 100,000 tasks.

    PYTHONPATH=server python benchmarks/tasks.py [SMALL LARGE]

Both graphs are built and measured in one run, with some 300,000 dependencies in the larger, through the same
calls that agents make; what matters is the ratio, which a slower machine shares.
"""

import asyncio
import random
import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from callboard.board import Board, Config, open_board

ROUNDS = 200
LIMIT = 1.5
"""How much dearer a call may be in the large graph."""


async def call(board: Board, tool: str, **arguments: Any) -> dict[str, Any]:
    return await board.call(tool, {"agent_id": "planner", **arguments})


async def build(board: Board, size: int) -> None:
    """A graph of that many tasks with a little over three dependencies each; a hundredth wait for nothing."""
    draw = random.Random(size)
    await call(board, "register_agent", role="developer")
    roots = max(size // 100, 4)

    def waits_for(number: int) -> list[str]:
        if number < roots:
            return []
        return [f"t{dep}" for dep in draw.sample(range(number), 3 + (number % 10 == 0))]

    for first in range(0, size, 500):
        tasks = [
            {
                "id": f"t{number}",
                "role": "developer",
                "priority": draw.randrange(5),
                "depends_on": waits_for(number),
            }
            for number in range(first, min(first + 500, size))
        ]
        await call(board, "add_dag_tasks", tasks=tasks)


async def measure(board: Board, size: int) -> dict[str, float]:
    """The median of each call, in milliseconds."""
    took: dict[str, list[float]] = defaultdict(list)
    draw = random.Random(0)

    async def timed(tool: str, **arguments: Any) -> dict[str, Any]:
        begun = time.perf_counter()
        answer = await call(board, tool, **arguments)
        took[tool].append(1000 * (time.perf_counter() - begun))
        return answer

    for number in range(ROUNDS):
        deps = [f"t{dep}" for dep in draw.sample(range(size), 3)]
        await timed("add_dag_task", id=f"new{number}", role="developer", depends_on=deps)
        task = (await timed("claim_next_dag_task"))["task"]
        await timed("complete_dag_task", task_id=task["task_id"], claim_epoch=task["claim_epoch"])
        await timed("list_dag_tasks", limit=20)
    return {tool: median(times) for tool, times in took.items()}


async def at(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repo"
        folder.mkdir()
        async with open_board(Config(folder=folder, transport="http", durability="normal")) as board:
            begun = time.perf_counter()
            await build(board, size)
            seconds = time.perf_counter() - begun
            times = await measure(board, size)
            begun = time.perf_counter()
            await call(board, "analyze_dag")
            times["analyze_dag"] = 1000 * (time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{size:>7} tasks built in {seconds:.1f} s; peak memory so far {peak} MiB")
    return times


async def main(small: int, large: int) -> int:
    few, many = await at(small), await at(large)
    worst = 0.0
    for tool in few:
        ratio = many[tool] / few[tool]
        if tool != "analyze_dag":
            worst = max(worst, ratio)
        print(f"{tool:<20} {few[tool]:8.2f} ms {many[tool]:8.2f} ms  x {ratio:.2f}")
    print(f"the dearest call costs {worst:.2f} times as much; at most {LIMIT} is promised")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:3]] or [1_000, 100_000]
    sys.exit(asyncio.run(main(*sizes)))
