"""Upkeep: the ledger is anchored, an idle log is folded, and the store is read through once a day."""

import logging
from contextlib import closing
from pathlib import Path

import pytest

from callboard import audit, upkeep
from tests.conftest import Board


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


async def test_one_process_reads_the_store_through_each_day_and_health_tells(board: Board) -> None:
    """S15"""
    store = board.opened.store
    assert await upkeep.check_daily(store) == []
    assert await upkeep.check_daily(store) is None
    board.clock.turn(3_600)
    health = await board.opened.health()
    assert (health["integrity_check_age_seconds"], health["integrity_broken"], health["ok"]) == (
        3_600,
        [],
        True,
    )
    board.clock.turn(86_400)
    lead = await board.agent("lee", role="lead")
    await lead.add_dag_task(id="a", role="developer")
    await board.settle()
    with closing(store.connect(readonly=False)) as db:
        db.execute("UPDATE dag_tasks SET dependents = 3")
    broken = await upkeep.check_daily(store)
    assert broken is not None and [one.rule for one in broken] == ["a task counts its dependents"]
    assert (await board.opened.health())["ok"] is False
