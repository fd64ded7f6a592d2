"""Every benchmark in one run: a table for people, JSON for comparing, and docs/performance.md from the JSON.

    scripts/bench [--quick] [--json FILE] [--write] [ROW …]

ROW is a word of the names of the rows that are wanted. With --write the page of the documentation is written
from the figures of this run. The exit status is 1 where a ratio is over what is promised.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import page, talk
from benchmarks.growth import GROWTH
from benchmarks.piped import BARE, OURS, ROOT, environment, piped, started
from benchmarks.rows import ROUNDS, Row, in_turn, machine, repeated
from callboard.board import Board, Config, open_board
from callboard.catalog import PROFILES, select
from callboard.manifests import tokens

TOKENS = 18_000
"""What the tools of all profiles may cost an agent to know."""

GROUP = 64
"""Writes that wait together: as many as one commit takes in."""

Bench = Callable[[Path, bool], Awaitable[list[Row]]]


@asynccontextmanager
async def board(folder: Path, durability: Any = "full") -> AsyncIterator[Board]:
    async with open_board(Config(folder=folder, transport="http", durability=durability)) as opened:
        await opened.call("register_agent", {"agent_id": "bench", "role": "developer"})
        yield opened


async def start(folder: Path, quick: bool) -> list[Row]:
    """From the start of the process to its first answer, and to the answer of its first call."""
    ours, bare = partial(started, folder, OURS), partial(started, folder, BARE)
    rounds = ROUNDS if quick else 3 * ROUNDS
    return [
        await in_turn(
            "start to the first answer",
            ("callboard, on a store that is there", partial(ours, None)),
            ("a bare server", partial(bare, None)),
            rounds=rounds,
        ),
        await in_turn(
            "start to the first call's answer",
            ("callboard: heartbeat", partial(ours, "heartbeat")),
            ("a bare server: nothing", partial(bare, "nothing")),
            rounds=rounds,
        ),
    ]


async def stdio(folder: Path, quick: bool) -> list[Row]:
    """One call after the other over a pipe."""
    times = 100 if quick else 500
    async with piped(folder, OURS) as ours, piped(folder, BARE) as bare:
        beside = ("a bare server: nothing", repeated(lambda: bare.call("nothing", agent_id="bench"), times))
        read = lambda: ours.call("check_file_lock", agent_id="bench", file_path="a.py")  # noqa: E731
        write = lambda: ours.call("acquire_file_lock", agent_id="bench", file_path="a.py")  # noqa: E731
        return [
            await in_turn("stdio, a read", ("check_file_lock", repeated(read, times)), beside),
            await in_turn("stdio, a durable write", ("acquire_file_lock", repeated(write, times)), beside),
        ]


@asynccontextmanager
async def bare_http() -> AsyncIterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / BARE[0]), "http"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stderr is not None
            yield process.stderr.readline().removeprefix("serving ").strip()
        finally:
            process.terminate()


async def http(folder: Path, quick: bool) -> list[Row]:
    """One call after the other over HTTP."""
    times = 50 if quick else 300
    async with AsyncExitStack() as stack:
        url = stack.enter_context(talk.serving(folder))
        bare_url = await stack.enter_async_context(bare_http())
        ours = await stack.enter_async_context(talk.agent("bench", url))
        carrier = await stack.enter_async_context(talk.httpx2.AsyncClient(timeout=90))
        bare = talk.Agent("bench", bare_url, carrier)
        beside = ("a bare server: nothing", repeated(lambda: bare.call("nothing"), times))
        return [
            await in_turn(
                "HTTP, a read",
                ("check_file_lock", repeated(lambda: ours.call("check_file_lock", file_path="a.py"), times)),
                beside,
            ),
            await in_turn(
                "HTTP, a durable write",
                (
                    "acquire_file_lock",
                    repeated(lambda: ours.call("acquire_file_lock", file_path="a.py"), times),
                ),
                beside,
            ),
        ]


async def grouping(folder: Path, quick: bool) -> list[Row]:
    """Writes that wait together share a commit: each of 64 at once, beside one alone."""
    rounds = ROUNDS if quick else 3 * ROUNDS
    async with board(folder) as opened:

        async def write(number: int) -> None:
            path = f"lib/{number}.py"
            await opened.call("acquire_file_lock", {"agent_id": "bench", "file_path": path})

        async def together() -> float:
            begun = time.perf_counter()
            await asyncio.gather(*map(write, range(GROUP)))
            return 1000 * (time.perf_counter() - begun) / GROUP

        async def alone() -> float:
            begun = time.perf_counter()
            for number in range(GROUP):
                await write(number)
            return 1000 * (time.perf_counter() - begun) / GROUP

        return [
            await in_turn(
                "a write among 64 that wait",
                ("64 at once, each", together),
                ("one after the other, each", alone),
                rounds=rounds,
            )
        ]


async def waking(folder: Path, quick: bool) -> list[Row]:
    """From the call that sends to the answer that brings the message to one who waits, beside a read."""
    count = 20 if quick else 100
    async with AsyncExitStack() as stack:
        one = stack.enter_context(talk.serving(folder))
        other = stack.enter_context(talk.serving(folder))
        reader = await stack.enter_async_context(talk.agent("reader", one))

        async def woken(receiver: str) -> float:
            return median(await talk.wake_ups(one, receiver, count))

        beside = ("a read over HTTP", repeated(lambda: reader.call("list_file_locks"), count))
        return [
            await in_turn(
                "wake-up through one process",
                ("send to waiting receiver", partial(woken, one)),
                beside,
            ),
            await in_turn(
                "wake-up through two processes",
                ("send to waiting receiver", partial(woken, other)),
                beside,
            ),
        ]


async def hooks(folder: Path, quick: bool) -> list[Row]:
    """A hook before an edit, from the start of its process to its end."""
    told = {"session_id": "s", "cwd": str(folder), "hook_event_name": "PreToolUse", "tool_name": "Edit"}
    told |= {"tool_input": {"file_path": str(folder / "free.py")}}  # type: ignore[dict-item]

    async def ended(*command: str) -> float:
        begun = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=folder,
            env=environment() | {"CALLBOARD_AGENT": "bench"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        await process.communicate(json.dumps(told).encode())
        return 1000 * (time.perf_counter() - begun)

    return [
        await in_turn(
            "a hook before an edit",
            ("callboard hook", partial(ended, "-m", "callboard", "hook", "claude-code", "pre-tool-use")),
            ("a process that only loads SQLite", partial(ended, "-c", "import apsw")),
            at_most=3.0,
            rounds=ROUNDS if quick else 3 * ROUNDS,
        )
    ]


async def knowing(_: Path, __: bool) -> list[Row]:
    """What an agent must read to know the tools of a profile, in tokens of four bytes."""
    rows = []
    for profile in PROFILES:
        known = select([profile]).values()
        cost = sum(map(tokens, known))
        rows.append(
            Row(
                f"tokens of the profile {profile}",
                f"{len(known)} tools",
                "the budget of all",
                cost,
                TOKENS,
                cost / TOKENS,
                1.0 if profile == "all" else None,
                1,
                "tokens",
            )
        )
    return rows


BENCHES: dict[str, Bench] = {
    "start": start,
    "stdio": stdio,
    "http": http,
    "grouping": grouping,
    "wake-up": waking,
    "hooks": hooks,
    "tokens": knowing,
    **GROWTH,
}


async def measured(wanted: list[str], quick: bool) -> list[Row]:
    rows: list[Row] = []
    for name in wanted:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "repo"
            folder.mkdir()
            if (git := shutil.which("git")) is not None:
                subprocess.run([git, "init", "--quiet"], cwd=folder, check=True)
            async with board(folder):
                pass
            for row in await BENCHES[name](folder, quick):
                print(page.line(row), flush=True)
                rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    told = parser.parse_args()
    if unknown := set(told.rows) - BENCHES.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    rows = asyncio.run(measured(told.rows or list(BENCHES), told.quick))
    figures = {
        "machine": machine(),
        "quick": told.quick,
        "rows": [asdict(row) | {"kept": row.kept} for row in rows],
    }
    if told.json is not None:
        told.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if told.write:
        (ROOT / "docs" / "performance.md").write_text(page.written(figures), encoding="utf-8")
    return int(not all(row.kept for row in rows))


if __name__ == "__main__":
    sys.exit(main())
