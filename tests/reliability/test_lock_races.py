"""Processes that race for locks while they are stopped and killed, and the check of what they were told.

`CALLBOARD_PROOF=full` runs a release's number of calls.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from mcp import Client

from callboard.board import Config, open_board
from tests.reliability import lock_worker
from tests.reliability.lock_calls import Stop, read, stood_still
from tests.reliability.lock_history import History, replayed
from tests.reliability.lock_worker import SPEED, FastClock
from tests.serving import SERVER, Place, call

WORKERS = ("w0", "w1", "w2", "w3")
FULL = os.environ.get("CALLBOARD_PROOF") == "full"
CALLS = 12_500 if FULL else 350
KILLS = 100 if CALLS > 1_000 else 2

EXPECTED = {None, "lock_held", "wait_timeout", "deadlock", "not_owner", "lease_expired", "stale_fence"}
"""What a run must have met to have proven anything."""

WAIT_SLACK = SPEED * 2_000
"""How late a wait may be answered on a busy machine: two seconds of the host."""


WAKE = SPEED * 1_000
"""How long a wait may go on with nothing in its way, while no process is known to have stood still."""


class Crowd:
    """Workers on one store, and whoever stops and kills them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.clock = FastClock()
        self.seed = seed
        self.stops: list[Stop] = []
        self.logs: list[Path] = []
        self.living: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, agent: str, calls: int) -> None:
        log = self.folder / f"{len(self.logs)}.{agent}.log"
        log.touch()
        self.logs.append(log)
        command = [sys.executable, lock_worker.__file__, str(self.folder), agent]
        arguments = [str(self.seed * 1000 + len(self.logs)), str(calls), str(log)]
        self.living[agent] = subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": f"{SERVER}{os.pathsep}{SERVER.parent}"},
        )

    def run(self) -> None:
        """Let the workers do their calls. Every so often one of them stands still, for a part of a lease or
        for several leases' time; a few times one is killed and started again."""
        self.start("w0", CALLS)
        while not self.begun("w0"):
            self.ended("w0", 0.05)  # the others join the crew that it founds
        for agent in WORKERS[1:]:
            self.start(agent, CALLS)
        while self.living:
            agent = self.random.choice(sorted(self.living))
            if self.ended(agent, self.random.uniform(0.05, 0.3)) or not self.begun(agent):
                continue
            if len(self.logs) < len(WORKERS) + KILLS and self.random.random() < 0.2:
                self.kill(agent)
                self.start(agent, max(10, CALLS - self.done(agent)))
            else:
                self.stop(agent, self.random.choice((0.025, 0.1, 0.3, 0.5)))

    def kill(self, agent: str) -> None:
        since = self.clock.boot_ms()
        self.living[agent].kill()
        self.living[agent].wait()
        self.stops.append(Stop(agent, since, self.clock.boot_ms() + SPEED, killed=True))

    def stop(self, agent: str, seconds: float) -> None:
        worker, since = self.living[agent], self.clock.boot_ms()
        worker.send_signal(signal.SIGSTOP)
        self.ended(agent, seconds)
        worker.send_signal(signal.SIGCONT)
        self.stops.append(Stop(agent, since, self.clock.boot_ms() + SPEED))

    def begun(self, agent: str) -> bool:
        """Whether a worker has signed in, in its present life."""
        return answered(self.logs_of(agent)[-1]) > 0

    def done(self, agent: str) -> int:
        """How many calls a worker has had answered in all its lives."""
        return sum(answered(log) for log in self.logs_of(agent))

    def logs_of(self, agent: str) -> list[Path]:
        return [log for log in self.logs if log.stem.endswith(agent)]

    def ended(self, agent: str, seconds: float) -> bool:
        """Whether a worker ends its work within that time."""
        try:
            assert self.living[agent].wait(seconds) == 0, f"worker {agent} failed"
        except subprocess.TimeoutExpired:
            return False
        del self.living[agent]
        return True

    def close(self) -> None:
        for worker in self.living.values():
            worker.kill()
            worker.wait()


def answered(log: Path) -> int:
    return log.read_text(encoding="utf-8").count("\n") // 2


class LateClock(FastClock):
    """The workers' clock, put forward."""

    ahead = 0

    def boot_ms(self) -> int:
        return super().boot_ms() + self.ahead


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    folder = tmp_path / "repo"
    folder.mkdir()
    crowd = Crowd(folder, seed=int(os.environ.get("CALLBOARD_SEED", random.randrange(1_000_000))))
    try:
        yield crowd
    finally:
        crowd.close()


async def test_no_two_processes_are_ever_told_what_cannot_be(crowd: Crowd) -> None:
    """L1, L2, L4 to L7, L9 to L11, L16: C1 to C9."""
    print(f"CALLBOARD_SEED={crowd.seed}")
    crowd.run()
    calls, stops = read(crowd.logs, crowd.stops), [*crowd.stops, *stood_still(crowd.logs)]
    history = History(calls, stops, slack=WAIT_SLACK, wake=WAKE)
    violations = history.violations()
    print(
        f"{len(history.calls)} calls, {len(history.grants)} grants, {len(crowd.stops)} stops, "
        f"{sum(stop.killed for stop in crowd.stops)} of them kills, {len(violations)} violations; "
        f"{len(history.witnessed)} waits that somebody saw, {history.looks} looks at them"
    )
    assert violations == []
    assert not FULL or (history.witnessed and history.looks), "C6 and C9 were held to nothing"
    assert len(history.calls) >= 0.5 * CALLS * len(WORKERS)
    assert {each.code for each in history.calls} >= EXPECTED

    clock = LateClock()
    config = Config(folder=crowd.folder, transport="http", durability="normal")
    async with open_board(config, clock=clock) as board:

        async def look(sql: str) -> list[tuple[Any, ...]]:
            db = board.store.connect()
            try:
                return list(db.execute(sql))
            finally:
                db.close()

        held = await look("SELECT file_path, agent_id, fence FROM _leases")
        entries = await look(
            "SELECT action_type, details FROM activity_log WHERE action_type LIKE 'lock%' ORDER BY id"
        )
        assert replayed(entries) == {(path.partition(":")[2], agent): fence for path, agent, fence in held}
        clock.ahead = 3_000
        await board.sweep()
        assert (
            await look("SELECT * FROM _lock_waiters WHERE queue_until_boot_ms = 0 AND lapsed_boot_ms = 0")
            == []
        )
        clock.ahead = 3_600_000
        await board.sweep()
        for table in ("_lock_waiters", "_lock_waiter_paths", "_leases"):
            assert await look(f"SELECT * FROM {table}") == []


# Servers as clients meet them


async def waiting(client: Client, path: str) -> None:
    """Ask until somebody waits for a path."""
    while "waiters" not in await call(client, "check_file_lock", file_path=path):
        pass


async def test_who_waits_at_another_server_is_granted_with_the_release(tmp_path: Path) -> None:
    """L10: within a tenth of a second on an idle machine; the bound is for a busy one."""
    place = Place(tmp_path)
    taken = []
    async with place.stdio("--agent", "ann") as ann, place.stdio("--agent", "ben") as ben:
        for client in (ann, ben):
            await call(client, "register_agent", role="developer")
        for _ in range(7):
            await call(ann, "acquire_file_lock", file_path="a.py")
            asked = call(ben, "acquire_file_lock", file_path="a.py", wait_seconds=50)
            answer = asyncio.create_task(asked)
            await waiting(ann, "a.py")
            began = time.monotonic()
            await call(ann, "release_file_lock", file_path="a.py")
            assert (await answer)["agent_id"] == "ben"
            taken.append(time.monotonic() - began)
            await call(ben, "release_file_lock", file_path="a.py")
    print(f"granted after {1000 * median(taken):.1f} ms, {1000 * max(taken):.1f} ms at most")
    assert median(taken) < 2


async def test_servers_of_every_kind_let_one_agent_in_at_a_time(tmp_path: Path) -> None:
    """L1"""
    place = Place(tmp_path)
    inside: list[str] = []
    entered = []

    async def work(client: Client, agent: str) -> None:
        await call(client, "register_agent", agent_id=agent, role="developer")
        for _ in range(8):
            lease = await call(client, "acquire_file_lock", agent_id=agent, file_path="src/", wait_seconds=50)
            inside.append(agent)
            state = await call(
                client, "check_file_lock", agent_id=agent, file_path="src/a.py", fence=lease["fence"]
            )
            assert state["fence_stands"] is True
            assert inside == [agent]
            inside.remove(agent)
            entered.append(lease["fence"])
            await call(client, "release_file_lock", agent_id=agent, file_path="src/")

    with place.http() as url:
        async with place.stdio() as one, place.stdio() as two, Client(f"{url}/mcp", cache=None) as three:
            await asyncio.gather(work(one, "ann"), work(two, "ben"), work(three, "cat"), work(three, "dan"))
    assert entered == sorted(set(entered))
    assert len(entered) == 32
