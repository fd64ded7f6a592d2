"""Upkeep: the ledger is anchored, and an idle log is folded."""

import logging
import signal
from contextlib import closing
from pathlib import Path

import pytest

from callboard import audit, upkeep
from callboard.store import FOLDED_PAGES
from tests.conftest import Board, Boards
from tests.test_checkup import goes_on, process


async def test_the_ledgers_end_is_anchored_and_told_to_the_log(
    board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """H3"""
    caplog.set_level(logging.INFO)
    file, store = tmp_path / "anchors.jsonl", board.opened.store
    await board.agent("ann")
    first = await upkeep.anchor(store, file)
    assert first is not None and first.hash in caplog.text
    ben = await board.agent("ben")
    assert await upkeep.anchor(store, file) is None, "nothing is due yet"
    board.clock.turn(audit.ANCHOR_SECONDS)
    second = await upkeep.anchor(store, file)
    assert second is not None and second.seq > first.seq
    await ben.log_activity(action_type="note", summary="more")
    assert audit.read_anchors(file) == [first, second]
    with closing(store.connect()) as db:
        assert audit.verify(db, [first, second]).sound


async def test_a_ledger_that_ends_before_its_anchor_is_told_and_not_anchored(
    board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "anchors.jsonl"
    far = audit.Anchor(10_000, "aa", "2026-01-01T00:00:00.000Z")
    audit.write_anchor(file, far)
    assert await upkeep.anchor(board.opened.store, file) is None
    assert "10000 was anchored" in caplog.text
    assert audit.read_anchors(file) == [far]


async def test_a_log_is_cut_once_nobody_has_written_between_two_looks(board: Board) -> None:
    """S9"""
    store = board.opened.store
    log = store.info.path.with_name("board.db-wal")
    idle = upkeep.IdleLog(store)
    ann = await board.agent("ann")
    await board.settle()
    assert not await idle.fold(), "it may just have been written"
    await ann.acquire_file_lock(file_path="a.py")
    await board.settle()
    assert not await idle.fold(), "it was written between the looks"
    assert log.stat().st_size > 0
    assert await idle.fold()
    assert log.stat().st_size == 0
    held = await ann.list_file_locks()
    assert [lock["file_path"] for lock in held["locks"]] == ["a.py"]


async def test_a_reader_keeps_its_moment_and_the_log_is_cut_later(board: Board) -> None:
    """S9"""
    store = board.opened.store
    await board.settle()
    with closing(store.connect()) as reader:
        reader.execute("BEGIN; SELECT count(*) FROM settings")
        await board.agent("ann")
        await board.settle()
        idle = upkeep.IdleLog(store)
        await idle.fold()
        assert not await idle.fold()
    assert await idle.fold()


WRITES = """
async def work(board):
    await board.call("register_agent", {"agent_id": "eve", "role": "developer"})
    os.kill(os.getpid(), 9)
anyio.run(main)
"""


async def test_a_log_that_a_killed_process_left_is_cut_by_another(board: Board) -> None:
    """S9: SQLite's lock on folding ends with whoever had it."""
    idle, log = upkeep.IdleLog(board.opened.store), board.opened.store.info.path.with_name("board.db-wal")
    goes_on(process(board, WRITES), -signal.SIGKILL)
    assert log.stat().st_size > 0
    assert not await idle.fold()
    assert await idle.fold()
    assert log.stat().st_size == 0
    assert [agent["agent_id"] for agent in (await board.call("list_agents", agent_id="eve"))["agents"]] == [
        "eve"
    ]


async def test_a_log_under_steady_writing_of_two_processes_stays_small(boards: Boards) -> None:
    """S9: whoever commits folds, so nobody need be idle."""
    async with boards() as board, boards() as other:
        ann, ben = await board.agent("ann"), await other.agent("ben")
        most = 0
        for number in range(700):
            for one in (ann, ben):
                await one.log_activity(action_type="note", summary=f"note {number} " + "x" * 1_500)
            most = max(most, board.opened.store.about().wal_bytes)
        assert 1_000_000 < most < 3 * FOLDED_PAGES * 4_096
