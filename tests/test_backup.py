"""Backups and restores: a copy that can be trusted, and an earlier store that knows it is one."""

import asyncio
import stat
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from callboard import audit, backup, integrity
from callboard.board import Board as Product
from callboard.unusable import Busy, Damaged, Unusable
from tests.conftest import Board, Boards, TurnedClock


def fence_of(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as db:
        return int(db.execute("SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'store.fence'").get)


def path_of(board: Board) -> Path:
    return board.opened.store.info.path


async def test_a_backup_made_under_writers_is_one_moment_of_the_store(board: Board, tmp_path: Path) -> None:
    """S13"""
    ann = await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py")

    async def work() -> None:
        for number in range(100):
            await ann.log_activity(action_type="note", summary=f"step {number}")

    writing = asyncio.create_task(work())
    copied = await asyncio.to_thread(backup.back_up, path_of(board), tmp_path / "copy.db")
    await writing

    with closing(apsw.Connection(str(copied.path))) as db:
        assert integrity.examine(db) == []
        assert sum(integrity.counts(db).values()) == copied.rows
        assert db.execute("SELECT max(id) FROM activity_log").get == copied.last_seq
    assert stat.S_IMODE(copied.path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".copy")] == []


async def test_a_backup_replaces_nothing(board: Board, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(FileExistsError):
        backup.back_up(path_of(board), tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


async def test_a_store_that_breaks_a_rule_is_not_called_a_backup(board: Board, tmp_path: Path) -> None:
    """S13"""
    lead = await board.agent("lee", role="lead")
    await lead.add_dag_task(id="a", role="developer")
    with closing(board.opened.store.connect(readonly=False)) as db:
        db.execute("UPDATE dag_tasks SET unmet = 3")
    with pytest.raises(Damaged, match="unmet dependencies"):
        backup.back_up(path_of(board), tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


async def test_a_restored_store_is_as_it_was_with_its_fences_far_ahead(
    boards: Boards, tmp_path: Path
) -> None:
    """L2, S13"""
    async with boards() as board:
        path, clock = path_of(board), board.clock
        ann = await board.agent("ann")
        first = await ann.acquire_file_lock(file_path="a.py")
        backup.back_up(path, tmp_path / "copy.db")
        later = await ann.acquire_file_lock(file_path="b.py")

    restored = backup.restore(tmp_path / "copy.db", path, clock=clock)

    assert restored.replaced is not None
    assert fence_of(restored.replaced) == later["fence"]
    async with boards() as board:
        held = await board.call("list_file_locks", agent_id="ann")
        assert [lock["file_path"] for lock in held["locks"]] == ["a.py"]
        bob = await board.agent("bob")
        anew = await bob.acquire_file_lock(file_path="b.py")
        assert anew["fence"] > first["fence"] + 1_000_000


async def test_the_leases_of_a_process_that_is_gone_end_with_a_restore(
    boards: Boards, tmp_path: Path
) -> None:
    async with boards(transport="stdio") as board:
        path, clock = path_of(board), board.clock
        ann = await board.agent("ann")
        await ann.acquire_file_lock(file_path="a.py")
        backup.back_up(path, tmp_path / "copy.db")
    backup.restore(tmp_path / "copy.db", path, clock=clock)
    async with boards() as board:
        bob = await board.agent("bob")
        assert (await bob.acquire_file_lock(file_path="a.py"))["agent_id"] == "bob"


async def test_nothing_is_restored_while_a_server_runs(board: Board, tmp_path: Path) -> None:
    ann = await board.agent("ann")
    backup.back_up(path_of(board), tmp_path / "copy.db")
    before = sorted(path_of(board).parent.iterdir())
    with pytest.raises(Busy, match="A server is running"):
        backup.restore(tmp_path / "copy.db", path_of(board), clock=board.clock)
    assert sorted(path_of(board).parent.iterdir()) == before
    assert (await ann.acquire_file_lock(file_path="a.py"))["agent_id"] == "ann"


async def test_a_damaged_backup_leaves_the_store_as_it_is(boards: Boards, tmp_path: Path) -> None:
    async with boards() as board:
        path, clock = path_of(board), board.clock
        await board.agent("ann")
        copy = backup.back_up(path, tmp_path / "copy.db").path
    before = path.read_bytes()
    content = bytearray(copy.read_bytes())
    content[4096 * 3 + 8 : 4096 * 3 + 300] = bytes(292)
    copy.write_bytes(content)
    with pytest.raises(Unusable):
        backup.restore(copy, path, clock=clock)
    assert path.read_bytes() == before


async def test_a_restore_takes_the_place_of_a_store_that_is_damaged(boards: Boards, tmp_path: Path) -> None:
    async with boards() as board:
        path, clock = path_of(board), board.clock
        await board.agent("ann")
        backup.back_up(path, tmp_path / "copy.db")
    path.write_bytes(b"no database at all" * 500)
    restored = backup.restore(tmp_path / "copy.db", path, clock=clock)
    assert restored.replaced is not None and restored.replaced.read_bytes().startswith(b"no database")
    async with boards() as board:
        assert (await board.call("get_agent", agent_id="ann", target_agent_id="ann"))["agent_id"] == "ann"


@pytest.mark.parametrize("content", [b"", b"words", b"SQLite format 3\0" + bytes(4080)])
def test_what_is_no_store_is_not_restored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(Unusable):
        backup.restore(tmp_path / "other", tmp_path / "board.db", clock=TurnedClock())
    assert not (tmp_path / "board.db").exists()


async def test_a_restore_is_told_to_the_anchors_which_then_agree(boards: Boards, tmp_path: Path) -> None:
    file = tmp_path / "anchors.jsonl"
    async with boards() as board:
        path, clock = path_of(board), board.clock
        ann = await board.agent("ann")
        backup.back_up(path, tmp_path / "copy.db")
        await ann.log_activity(action_type="note", summary="after the backup")
        await anchored(board.opened, file)
    backup.restore(tmp_path / "copy.db", path, clock=clock)
    with closing(apsw.Connection(str(path))) as db:
        assert not audit.verify(db, audit.read_anchors(file)).sound
        backup.anchor_restored(file, path, clock.now())
        assert audit.verify(db, audit.read_anchors(file)).sound


async def anchored(board: Product, file: Path) -> None:
    tail = await board.store.read(audit.tail_of)
    assert tail is not None
    audit.write_anchor(file, tail)
