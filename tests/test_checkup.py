"""S15: the whole store is read through daily and after an unclean stop, and health tells what was found."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from callboard import checkup, integrity, storefile
from callboard.errors import StoreCorrupt
from tests.conftest import Board, Boards
from tests.rows import put
from tests.starting import NOW, connect, prepare

ROOT = Path(__file__).resolve().parents[1]

# A process on the store, on a clock that stands as the test's does at first.
PROCESS = """
import os, sys
from pathlib import Path
import anyio
from callboard import checkup, integrity
from callboard.board import Config, open_board
from tests.conftest import TurnedClock

async def main():
    config = Config(folder=Path(sys.argv[1]), transport="http")
    async with open_board(config, clock=TurnedClock()) as board:
        print("open", flush=True)
        sys.stdin.readline()
        await work(board)
"""
KILLED = "async def work(board): os.kill(os.getpid(), 9)\nanyio.run(main)"
STOPPED = "async def work(board): pass\nanyio.run(main)"
LOOKS = "async def work(board): print(await checkup.look(board.store), flush=True)\nanyio.run(main)"
KILLED_OVER_IT = (
    "integrity.examine = lambda db: os.kill(os.getpid(), 9)  # where the reading begins\n" + LOOKS
)


OVERWRITE = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    file.write(bytes.fromhex(sys.argv[3]))
"""
NOISE = b"\xff" * 4_096
EMPTY_INDEX = b"\x0a\0\0\0\0\x10\0\0".ljust(4_096, b"\0")


def process(board: Board, work: str) -> "subprocess.Popen[str]":
    """Another process that has the store open, and goes on with the next line that it is sent."""
    started = subprocess.Popen(
        [sys.executable, "-c", PROCESS + work, str(board.folder)],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'server'}:{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None and started.stdout.readline() == "open\n"
    return started


def goes_on(started: "subprocess.Popen[str]", code: int = 0) -> str:
    said, _ = started.communicate("\n", timeout=60)
    assert started.returncode == code
    return said.strip()


MANY = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
    INSERT INTO _events (source, topic, kind, subject, created_boot_ms) SELECT 's', 't', 'k', i, 0 FROM n
"""


async def test_a_checkup_is_given_up_when_its_process_stops_and_leaves_no_lease(board: Board) -> None:
    """S15"""
    store = board.opened.store
    with closing(store.connect(readonly=False)) as db:
        db.execute(MANY)
    lease = "SELECT count(*) FROM settings WHERE key = 'store.checkup'"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(checkup.look, store)
        while await board.rows(lease) == [(0,)]:
            await board.settle()
        tasks.cancel_scope.cancel()
    await board.settle()
    assert await board.rows(lease) == [(0,)]
    assert (await health(board)).get("integrity_check_age_seconds") is None
    assert await checkup.look(store) == []


async def health(board: Board) -> dict[str, Any]:
    return await board.opened.health()


async def spoil_counts(board: Board) -> None:
    lead = await board.agent("lee", role="lead")
    await lead.add_dag_task(id="a", role="developer")
    await board.settle()
    with closing(board.opened.store.connect(readonly=False)) as db:
        db.execute("UPDATE dag_tasks SET dependents = 3")


async def test_one_process_reads_the_store_through_each_day_and_health_tells(boards: Boards) -> None:
    async with boards() as board, boards() as other:
        assert "integrity_check_age_seconds" not in await health(board), "nothing is made up"
        assert await checkup.look(board.opened.store) == []
        assert await checkup.look(other.opened.store) is None
        board.clock.turn(3_600)
        for one in (board, other):
            found = await health(one)
            assert (found["integrity_check_age_seconds"], found["integrity_broken"]) == (3_600, [])
            assert found["ok"] is True
        board.clock.turn(86_400)
        await spoil_counts(board)
        broken = await checkup.look(other.opened.store)
        assert broken is not None and [one.rule for one in broken] == ["a task counts its dependents"]
        for one in (board, other):
            found = await health(one)
            assert (found["ok"], len(found["integrity_broken"])) == (False, 1)
            info = await one.call("get_server_info")
            assert (info["healthy"], info["integrity_check_age_seconds"]) == (False, 0)
            assert info["integrity_broken"] == found["integrity_broken"]


async def test_a_clock_that_is_set_back_does_not_put_the_checkup_off(board: Board) -> None:
    assert await checkup.look(board.opened.store) == []
    board.clock.step_wall(-30 * 86_400)
    assert await checkup.look(board.opened.store) == []
    assert await checkup.look(board.opened.store) is None


async def test_a_process_that_was_killed_brings_a_checkup_and_one_that_stopped_does_not(
    boards: Boards,
) -> None:
    async with boards() as board, boards() as other:
        assert await checkup.look(board.opened.store) == []
        board.clock.turn(checkup.REST_SECONDS)
        goes_on(process(board, STOPPED))
        await board.opened.duties.look_for_processes()
        assert "unclean_stop_at" not in await health(board)
        assert await checkup.look(board.opened.store) is None

        goes_on(process(board, KILLED), -signal.SIGKILL)
        await board.opened.duties.look_for_processes()
        for one in (board, other):
            assert (await health(one))["unclean_stop_at"] == "2026-01-01T12:10:00.000Z"
            assert (await one.call("get_server_info"))["unclean_stop_at"] == "2026-01-01T12:10:00.000Z"
        assert await checkup.look(other.opened.store) == []
        await other.opened.duties.look_for_processes()
        assert "unclean_stop_at" not in await health(board), "it was dealt with, and is not found anew"
        assert await checkup.look(board.opened.store) is None


async def test_a_host_full_of_kills_rests_between_two_checkups(board: Board) -> None:
    assert await checkup.look(board.opened.store) == []
    goes_on(process(board, KILLED), -signal.SIGKILL)
    await board.opened.duties.look_for_processes()
    board.clock.turn(checkup.REST_SECONDS - 1)
    assert await checkup.look(board.opened.store) is None
    assert "unclean_stop_at" in await health(board), "it is not forgotten"
    board.clock.turn(1)
    assert await checkup.look(board.opened.store) == []


async def test_of_processes_that_look_at_once_one_reads(board: Board) -> None:
    others = [process(board, LOOKS) for _ in range(3)]
    for other in others:
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
    assert sorted(other.communicate(timeout=60)[0].strip() for other in others) == ["None", "None", "[]"]


async def test_a_checkup_whose_process_is_killed_is_done_by_another_and_the_last_result_stands(
    board: Board,
) -> None:
    store = board.opened.store
    await spoil_counts(board)
    assert await checkup.look(store)
    with closing(store.connect(readonly=False)) as db:
        db.execute("UPDATE dag_tasks SET dependents = 0")
        # As it was a day ago: the other process's clock stands where this one's began.
        db.execute(
            "UPDATE settings SET updated_at = '2025-12-31T12:00:00.000Z' WHERE key = 'store.integrity'"
        )
    goes_on(process(board, KILLED_OVER_IT), -signal.SIGKILL)
    assert await checkup.look(store) is None, "the killed one still has the lease"
    assert (await health(board))["ok"] is False, "no checkup that has only begun makes the store sound"
    board.clock.turn(checkup.LEASE_MS / 1000)
    assert await checkup.look(store) == []
    assert (await health(board))["ok"] is True


@pytest.mark.parametrize(
    ("name", "page"), [("session_retros", NOISE), ("idx_activity_type", EMPTY_INDEX)], ids=["table", "index"]
)
async def test_damage_that_a_checkup_finds_ends_all_writing_and_nothing_more_is_written(
    boards: Boards, name: str, page: bytes
) -> None:
    """S14: also where SQLite can read on, and finds only that an index lacks what its table has."""
    async with boards() as board:
        await board.agent("ann")
        store = await spoiled(board, name, page)
        if page is NOISE:
            with pytest.raises(StoreCorrupt):
                await checkup.look(store)
        else:
            broken = await checkup.look(store)
            assert broken is not None and {one.rule for one in broken} == {integrity.PAGES}
        found = files(store)
        refusal = await board.refusal("register_agent", role="developer")
        assert refusal["code"] == "store_corrupt"
        assert (await health(board))["ok"] is False
        assert (await board.call("get_server_info"))["healthy"] is False
        assert files(store) == found
        assert await board.rows("SELECT 1 FROM settings WHERE key = 'store.integrity'") == []


async def test_whoever_asks_for_health_learns_of_damage_that_no_call_has_met(boards: Boards) -> None:
    async with boards() as board:
        await spoiled(board, "session_retros", NOISE)
        board.clock.turn(61)
        found = await health(board)
        assert (found["ok"], found["error"]["code"]) == (False, "store_corrupt")


async def spoiled(board: Board, name: str, page: bytes) -> Any:
    """A store in which the root page of a table or an index was overwritten that no call here reads."""
    store = board.opened.store
    await board.settle()
    with closing(store.connect(readonly=False)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        root = int(db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get)
    # From a process of its own: closing a file here would drop this process's locks on it.
    place = str((root - 1) * 4_096)
    subprocess.run([sys.executable, "-c", OVERWRITE, str(store.info.path), place, page.hex()], check=True)
    return store


def files(store: Any) -> bytes:
    return subprocess.check_output(["cat", store.info.path, f"{store.info.path}-wal"])


async def test_a_store_that_is_too_large_for_a_look_at_the_start_is_not_said_to_be_looked_at(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storefile, "CHECK_LIMIT", 4_096)
    async with boards() as board:
        assert "quick_check_age_seconds" not in await board.call("get_server_info")
        assert (await health(board))["quick_check_age_seconds"] is None
        assert await checkup.look(board.opened.store) == []
        assert (await health(board))["integrity_check_age_seconds"] == 0


@pytest.mark.parametrize("ended", [None, "2026-11-23T06:00:00.000Z"])
def test_a_reboot_under_a_serving_process_is_an_unclean_stop(store: Path, ended: str | None) -> None:
    with closing(connect(store)) as db:
        put(db, "_processes", process_id="p-1", transport="http", ended_at=ended)
        put(db, "settings", key="store.checkup", value=json.dumps({"until_boot_ms": 9_000_000}))
    prepare(store, boot_id="boot-2", boot_ms=5_000, now=NOW + timedelta(seconds=60))
    with closing(connect(store)) as db:
        found = dict(db.execute("SELECT key, value FROM settings WHERE key LIKE 'store.%'"))
    assert "store.checkup" not in found, "who was at it is gone with the boot"
    assert ("store.unclean" in found) is (ended is None)
