"""What a hook costs an edit: a whole process, from its start to its end, beside one that only loads SQLite.

    PYTHONPATH=server python benchmarks/hooks.py [ROUNDS [LEASES]]

All kinds take turns in one run, so that whatever else the machine does falls on each alike; what matters is
the ratio to `python -c "import apsw"`, below which no hook can be. The store holds 10,000 leases, two of them
near the file that is edited.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from callboard.board import Board, Config, open_board

MOST_MS = 100.0
"""What a hook before an edit may take, from the start of its process."""

MOST_TIMES = 3.0
"""How many times as long as loading SQLite it may take."""

SERVER = Path(__file__).resolve().parents[1] / "server"


async def filled(folder: Path, leases: int) -> None:
    """A store in which ann and bob hold a file each, and others so many more."""

    async def call(board: Board, agent: str, tool: str, **arguments: object) -> None:
        await board.call(tool, {"agent_id": agent, **arguments})

    async with open_board(Config(folder=folder, transport="http", durability="normal")) as board:
        for name in ("ann", "bob"):
            await call(board, name, "register_agent", role="developer")
            await call(board, name, "acquire_file_lock", file_path=f"src/{name}.py")
        for number in range(0, leases, 1_000):
            agent = f"agent-{number // 1_000}"
            await call(board, agent, "register_agent", role="developer")
            for first in range(number, min(number + 1_000, leases), 100):
                paths = [f"lib/{path // 100}/{path}.py" for path in range(first, first + 100)]
                await call(board, agent, "acquire_file_locks", file_paths=paths)


def edit(folder: Path, path: str) -> str:
    given = {"tool_name": "Edit", "tool_input": {"file_path": str(folder / path)}}
    return json.dumps({"session_id": "s", "cwd": str(folder), "hook_event_name": "PreToolUse"} | given)


def main(rounds: int, leases: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repo"
        folder.mkdir()
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        asyncio.run(filled(folder, leases))
        hook = ["-m", "callboard", "hook", "claude-code"]
        kinds: dict[str, tuple[list[str], str]] = {
            "import apsw": (["-c", "import apsw"], ""),
            "edit of a free file": ([*hook, "pre-tool-use"], edit(folder, "src/free.py")),
            "edit of one's own": ([*hook, "pre-tool-use"], edit(folder, "src/ann.py")),
            "edit that is refused": ([*hook, "pre-tool-use"], edit(folder, "src/bob.py")),
            "prompt without mail": ([*hook, "user-prompt-submit"], edit(folder, "src/ann.py")),
            "commit": (["-m", "callboard", "guard", "check", "pre-commit"], ""),
        }
        environment = os.environ | {"CALLBOARD_AGENT": "ann", "PYTHONPATH": str(SERVER)}
        took: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, (command, told) in kinds.items():
                begun = time.perf_counter()
                subprocess.run(
                    [sys.executable, *command],
                    cwd=folder,
                    env=environment,
                    input=told.encode(),
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                took[kind].append(1000 * (time.perf_counter() - begun))
    base = median(took["import apsw"])
    broken = False
    for kind, times in took.items():
        ratio, worst = median(times) / base, quantiles(times, n=20)[-1]
        print(f"{kind:<22} p50 {median(times):6.1f} ms   p95 {worst:6.1f} ms   x {ratio:.2f}")
        if kind.startswith("edit"):
            broken |= median(times) > MOST_MS or ratio > MOST_TIMES
    print(f"before an edit at most {MOST_MS:.0f} ms and {MOST_TIMES:.0f} times loading SQLite are promised")
    return int(broken)


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:3]]
    sys.exit(main(*(sizes + [40, 10_000][len(sizes) :])))
