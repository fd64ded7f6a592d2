"""Timers among server processes that end and are killed: each fires once, through whoever is there.

The processes are real and so is their time. `CALLBOARD_PROOF=full` runs a release's number of kills.
"""

import os
import random
import subprocess
from collections import Counter
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import apsw
from mcp import Client

from callboard.clock import utc_text
from tests.serving import PATIENCE, Place, call

ROUNDS = 40 if os.environ.get("CALLBOARD_PROOF") == "full" else 2
KEEPERS = 3
"""Processes that are alive together, and are killed together."""

TIMERS = 30
"""Set in each round; they fall due over some seconds, so that a kill comes before, between or after them."""


def soon(seconds: float) -> str:
    return utc_text(datetime.now(UTC) + timedelta(seconds=seconds))


async def reminded(client: Client, count: int) -> list[dict[str, Any]]:
    """What an agent is reminded of, until it is so much, and whatever waits then."""
    found: list[dict[str, Any]] = []
    with anyio.fail_after(PATIENCE):
        while True:
            held = [message["message_id"] for message in found[-200:]]
            wait = 0 if len(found) >= count else 10
            answer = await call(client, "receive_messages", ack_ids=held, wait_seconds=wait, limit=200)
            if not answer["messages"] and len(found) >= count:
                return found
            found += answer["messages"]


def not_early(message: dict[str, Any]) -> bool:
    return bool(message["created_at"] >= message["about"]["due_at"])


async def test_a_timer_of_a_process_that_has_ended_fires_through_the_next_one(tmp_path: Path) -> None:
    """T12"""
    place = Place(tmp_path)
    async with place.stdio("--agent", "ann") as ann:
        await call(ann, "register_agent", role="developer")
        for label, seconds in (("before", 2.0), ("after", 6.0)):
            await call(ann, "set_timer", label=label, message="now", fire_at=soon(seconds))
    async with place.stdio("--agent", "ann") as ann:
        found = await reminded(ann, 2)
    assert [message["about"]["label"] for message in found] == ["before", "after"]
    assert all(map(not_early, found))


def begun(keeper: "subprocess.Popen[bytes]") -> None:
    """Return when a server process has answered, and so is at work."""
    assert keeper.stdin is not None and keeper.stdout is not None
    keeper.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    keeper.stdin.flush()
    assert keeper.stdout.readline()


async def test_a_timer_fires_once_though_the_processes_that_fire_it_are_killed(tmp_path: Path) -> None:
    """T12: some fall due while there are several processes, some while there is none."""
    place = Place(tmp_path)
    chance = random.Random(7)
    labels: list[str] = []
    found: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        with ExitStack() as alive:
            for keeper in [alive.enter_context(place.piped()) for _ in range(KEEPERS)]:
                await anyio.to_thread.run_sync(begun, keeper)
            async with place.stdio("--agent", "ann") as ann:
                await call(ann, "register_agent", role="developer")
                found += await reminded(ann, 0)  # a timer that meets a full inbox would stay due
                for _ in range(TIMERS):
                    labels.append(f"t{len(labels)}")
                    fire_at = soon(chance.uniform(1.0, 3.0))
                    await call(ann, "set_timer", label=labels[-1], message="now", fire_at=fire_at)
            await anyio.to_thread.run_sync(Event().wait, chance.uniform(1.0, 2.5))
    async with place.stdio("--agent", "ann") as ann:
        found += await reminded(ann, len(labels) - len(found))
    assert Counter(message["about"]["label"] for message in found) == Counter(labels)
    assert all(map(not_early, found))
    with closing(apsw.Connection(str(place.db), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        once, by = db.execute(
            "SELECT count(*), count(DISTINCT claimed_by) FROM timers WHERE fired_count = 1"
        ).get
    print(f"{len(labels)} timers fired through {by} of {(KEEPERS + 1) * ROUNDS + 1} processes")
    assert once == len(labels)
    assert by > 1
