"""How server processes begin and end: many at once on no store; at any moment, also amid a waiting call."""

import asyncio
import re
import signal
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import apsw
import pytest
from mcp import Client

from tests.piping import Pipe
from tests.serving import PATIENCE, Place, call

AT_ONCE = 16

BOUND = 3.0
"""Seconds in which a server must end on a busy machine; one is what it promises."""


def stored(place: Place, sql: str) -> list[tuple[Any, ...]]:
    with closing(apsw.Connection(str(place.db), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return list(db.execute(sql))


def nothing_half_done(place: Place) -> None:
    """What a server leaves that had one agent hold a lock and another wait for it."""
    assert stored(place, "SELECT agent_id, file_path LIKE '%:a.py' FROM file_locks") == [("ann", 1)]
    assert stored(place, "SELECT * FROM _lock_waiters") == []
    assert stored(place, "SELECT count(*) FROM _processes WHERE gone_boot_ms IS NULL") == [(0,)]
    assert stored(place, "PRAGMA integrity_check") == [("ok",)]


def test_sixteen_servers_that_start_at_once_make_one_store(tmp_path: Path) -> None:
    """T9, S6"""
    place = Place(tmp_path)
    with ExitStack() as stack:
        pipes = [Pipe(stack.enter_context(place.piped())) for _ in range(AT_ONCE)]
        for pipe in pipes:
            pipe.open()
        signed = [
            pipe.ask("register_agent", agent_id=f"agent-{n}", role="developer")
            for n, pipe in enumerate(pipes)
        ]
        for pipe, asked in zip(pipes, signed, strict=True):
            assert not pipe.reply(asked).get("isError")
        seen = {pipe.call("whoami", agent_id=f"agent-{n}")["store_id"] for n, pipe in enumerate(pipes)}
        assert len(seen) == 1
        assert len(pipes[0].call("list_agents", agent_id="agent-0")["agents"]) == AT_ONCE
    assert stored(place, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("how", ["closed input", "SIGINT", "SIGTERM"])
def test_a_server_at_a_pipe_ends_at_once_though_a_call_waits(
    tmp_path: Path, how: Literal["closed input", "SIGINT", "SIGTERM"]
) -> None:
    """L11"""
    place = Place(tmp_path)
    with place.piped() as process:
        pipe = Pipe(process)
        pipe.open()
        for agent in ("ann", "ben"):
            pipe.call("register_agent", agent_id=agent, role="developer")
        pipe.call("acquire_file_lock", agent_id="ann", file_path="a.py")
        pipe.ask("acquire_file_lock", agent_id="ben", file_path="a.py", wait_seconds=50)
        while "waiters" not in pipe.call("check_file_lock", agent_id="ann", file_path="a.py"):
            pass
        began = time.monotonic()
        if how == "closed input":
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[how])
        assert process.wait(PATIENCE) == 0
        taken = time.monotonic() - began
    print(f"{how}: ended after {1000 * taken:.0f} ms")
    assert taken < BOUND
    nothing_half_done(place)


async def test_a_server_on_the_web_ends_at_once_though_a_call_waits(tmp_path: Path) -> None:
    """L11"""
    place = Place(tmp_path)
    command = place.command("serve", "--http", "127.0.0.1:0")
    with subprocess.Popen(
        command, cwd=place.folder, env=place.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"serving (http://[\d.]+:\d+/mcp)", process.stderr.readline())
            assert found
            async with Client(found[1], cache=None) as client:
                for agent in ("ann", "ben"):
                    await call(client, "register_agent", agent_id=agent, role="developer")
                await call(client, "acquire_file_lock", agent_id="ann", file_path="a.py")
                asked = {"agent_id": "ben", "file_path": "a.py", "wait_seconds": 50}
                answer = asyncio.create_task(client.call_tool("acquire_file_lock", asked))
                while "waiters" not in await call(client, "check_file_lock", file_path="a.py"):
                    pass
                began = time.monotonic()
                process.terminate()
                assert await anyio.to_thread.run_sync(process.wait, PATIENCE) == 0
                taken = time.monotonic() - began
                [outcome] = await asyncio.gather(answer, return_exceptions=True)
                assert isinstance(outcome, Exception)
        finally:
            process.kill()
    print(f"SIGTERM over HTTP: ended after {1000 * taken:.0f} ms")
    assert taken < BOUND
    nothing_half_done(place)
