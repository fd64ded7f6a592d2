"""Bells: who waits is woken by who commits, and no bell is ever in anybody's way."""

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from callboard import bells
from callboard.bells import Bell, Bells, folder_of
from tests.conftest import Board, Boards
from tests.starting import SERVER
from tests.test_feed import polling, woken


@pytest.fixture(autouse=True)
def only_bells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by the time, so that what wakes is a bell."""
    monkeypatch.setattr(bells, "LOOK_SECONDS", 3600.0)


def hanging(board: Board) -> list[Path]:
    folder = folder_of(board.opened.store.info.path)
    return sorted(folder.iterdir()) if folder.exists() else []


async def rounds(number: int = 20) -> None:
    """Let the loop come round, and deal with whatever it is told."""
    for _ in range(number):
        await asyncio.sleep(0)


@contextmanager
def hung(folder: Path, name: str = "own") -> Iterator[Bell]:
    bell = Bell(folder, name)
    yield bell
    bell.close()


@contextmanager
def ringing(bell: Path) -> Iterator[int]:
    end = os.open(bell, os.O_WRONLY | os.O_NONBLOCK)
    yield end
    os.close(end)


async def has_bell(board: Board) -> Path:
    """The one bell of the store, once it hangs."""
    with anyio.fail_after(5):
        while not (there := hanging(board)):
            await asyncio.sleep(0.001)
    (bell,) = there
    return bell


async def test_a_commit_rings_for_the_waiters_of_other_processes(boards: Boards) -> None:
    """S10"""
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        for number in range(3):
            with here.opened.feed.listen("locks") as news:
                await has_bell(here)
                await ann.acquire_file_lock(file_path=f"{number}.py")
                await woken(news)


async def test_a_ring_between_two_waits_is_heard_by_the_second(boards: Boards) -> None:
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        with here.opened.feed.listen("locks"), here.opened.feed.listen("history") as history:
            await has_bell(here)
            await ann.log_activity(action_type="note", summary="so that the feed has heard its bell")
            await woken(history)
        await ann.acquire_file_lock(file_path="a.py")
        with here.opened.feed.listen("locks") as news:
            await ann.acquire_file_lock(file_path="b.py")
            await woken(news)


async def test_a_store_in_which_nobody_waits_has_no_bells(boards: Boards) -> None:
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        await ann.acquire_file_lock(file_path="a.py")
        assert not folder_of(here.opened.store.info.path).exists()
        with here.opened.feed.listen("locks"):
            await has_bell(here)
    assert not folder_of(here.opened.store.info.path).exists()


async def test_a_commit_takes_down_the_bell_of_a_killed_process(board: Board) -> None:
    ann = await board.agent("ann")
    program = "import os, sys, time; from pathlib import Path; from callboard.bells import Bell\n"
    program += "bell = Bell(Path(sys.argv[1]), 'killed'); bell._hang(); print(flush=True); time.sleep(60)"
    folder = folder_of(board.opened.store.info.path)
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()
        await ann.acquire_file_lock(file_path="a.py")
        await ann.acquire_file_lock(file_path="b.py")
        assert [bell.name for bell in hanging(board)] == ["killed"]
        other.send_signal(signal.SIGKILL)
        other.wait(30)
    await ann.acquire_file_lock(file_path="c.py")
    assert hanging(board) == []


async def test_a_bell_that_was_deleted_is_hung_anew(boards: Boards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "LOOK_SECONDS", 0.01)
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        with here.opened.feed.listen("locks") as news:
            shutil.rmtree((await has_bell(here)).parent)
            await has_bell(here)
            monkeypatch.setattr(bells, "LOOK_SECONDS", 3600.0)
            await ann.acquire_file_lock(file_path="a.py")
            await woken(news)
    assert not folder_of(here.opened.store.info.path).exists()


async def test_a_folder_that_others_may_write_to_is_left_alone(boards: Boards) -> None:
    """What is opened there could be another's link to any file."""
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        folder = folder_of(here.opened.store.info.path)
        folder.mkdir()
        folder.chmod(0o777)
        os.mkfifo(folder / "other")
        heard = os.open(folder / "other", os.O_RDONLY | os.O_NONBLOCK)
        with here.opened.feed.listen("locks") as news:
            await rounds()
            await ann.acquire_file_lock(file_path="a.py")
            await woken(news)  # by looking
        assert os.read(heard, 1) == b""
        os.close(heard)
        assert [file.name for file in hanging(here)] == ["other"]


async def test_a_server_ends_in_order_whatever_became_of_its_bell(boards: Boards) -> None:
    async with boards() as here, polling(here):
        with here.opened.feed.listen("locks"):
            folder = (await has_bell(here)).parent
            shutil.rmtree(folder)
            folder.write_text("no folder")
    assert folder.read_text() == "no folder"


async def test_a_bell_that_nobody_has_ever_heard_is_taken_down(board: Board) -> None:
    ann = await board.agent("ann")
    folder = folder_of(board.opened.store.info.path)
    folder.mkdir()
    os.mkfifo(folder / "left")
    await ann.acquire_file_lock(file_path="a.py")
    assert hanging(board) == []


async def test_nothing_but_bells_is_touched(board: Board) -> None:
    """S3: were a link to the store among them, closing it would end the store's locks."""
    ann = await board.agent("ann")
    folder = folder_of(board.opened.store.info.path)
    folder.mkdir()
    (folder / "text").write_text("kept")
    (folder / "hard").hardlink_to(folder / "text")
    (folder / "soft").symlink_to(folder / "text")
    await ann.acquire_file_lock(file_path="a.py")
    assert [file.name for file in hanging(board)] == ["hard", "soft", "text"]
    assert (folder / "text").read_text() == "kept"


async def test_a_full_bell_holds_nobody_up_and_still_rings(boards: Boards) -> None:
    async with boards() as here, boards() as there:
        ann = await there.agent("ann")
        with here.opened.feed.listen("locks") as news:
            async with polling(here):
                bell = await has_bell(here)
            with ringing(bell) as end:
                with pytest.raises(BlockingIOError):
                    while True:
                        os.write(end, b"\0" * 4096)
                await rounds()
                with pytest.raises(BlockingIOError):
                    os.write(end, b"\0")  # nobody hears it just now
            with anyio.fail_after(5):
                await ann.acquire_file_lock(file_path="a.py")
            async with polling(here):
                await woken(news)


async def test_without_bells_commits_are_looked_for(boards: Boards, monkeypatch: pytest.MonkeyPatch) -> None:
    """S10: on a file system that has no named pipes."""

    def refused(path: Path, mode: int) -> None:
        raise OSError(errno.EPERM, "no named pipes here", str(path))

    monkeypatch.setattr(os, "mkfifo", refused)
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        with here.opened.feed.listen("locks") as news:
            await asyncio.sleep(0)
            await ann.acquire_file_lock(file_path="a.py")
            await woken(news)
            assert hanging(here) == []


KILLED_BEFORE_IT_RINGS = """
import os, signal
import anyio
from callboard.bells import Bells
from callboard.board import Config, open_board

async def main():
    async with open_board(Config(transport="http")) as board:
        Bells.ring = lambda self: os.kill(os.getpid(), signal.SIGKILL)
        await board.call("log_activity", {"agent_id": "ann", "action_type": "note", "summary": "my last"})

anyio.run(main)
"""


async def test_a_commit_whose_process_was_killed_before_it_rang_is_looked_for(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S10, L10"""
    monkeypatch.setattr(bells, "LOOK_SECONDS", 0.05)
    async with boards() as here, polling(here):
        await here.agent("ann")
        with here.opened.feed.listen("history") as news:
            await has_bell(here)
            killed = await anyio.run_process(
                [sys.executable, "-c", KILLED_BEFORE_IT_RINGS],
                cwd=here.folder,
                env=os.environ | {"PYTHONPATH": str(SERVER)},
                check=False,
                stderr=None,
            )
            assert killed.returncode == -signal.SIGKILL
            await woken(news)
        noted = await here.rows("SELECT summary FROM activity_log WHERE action_type = 'note'")
        assert noted == [("my last",)]


async def test_who_waits_for_the_first_time_looks_at_once(tmp_path: Path) -> None:
    """What was committed before the bell hung did not ring it."""
    with hung(tmp_path / "bells") as bell:
        with anyio.fail_after(5):
            await bell.wait()
        second = asyncio.create_task(bell.wait())
        await rounds()
        assert not second.done()
        second.cancel()


async def test_many_rings_are_one(tmp_path: Path) -> None:
    with hung(tmp_path / "bells") as bell:
        await bell.wait()
        others = Bells(tmp_path / "bells", "other")
        for _ in range(3):
            others.ring()
        with anyio.fail_after(5):
            await bell.wait()
        again = asyncio.create_task(bell.wait())
        await asyncio.sleep(bells.BREATH_SECONDS)
        await rounds()
        assert not again.done()
        others.ring()
        with anyio.fail_after(5):
            await again
        others.close()


async def test_nobody_rings_its_own_bell(tmp_path: Path) -> None:
    with hung(tmp_path / "bells") as bell:
        await bell.wait()
        waiting = asyncio.create_task(bell.wait())
        Bells(tmp_path / "bells", "own").ring()
        await rounds()
        assert not waiting.done()
        waiting.cancel()


async def test_who_does_not_wait_sleeps_through_the_rings_and_hears_of_them_later(tmp_path: Path) -> None:
    with hung(tmp_path / "bells") as bell:
        others = Bells(tmp_path / "bells", "other")
        await bell.wait()
        others.ring()
        await bell.wait()
        bell.ignore()
        others.ring()
        await rounds()
        assert not bell._rung.is_set()
        with anyio.fail_after(5):
            await bell.wait()
        others.close()


async def test_a_process_in_which_nobody_waits_any_longer_is_not_woken(boards: Boards) -> None:
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        with here.opened.feed.listen("locks") as news:
            await has_bell(here)
            await ann.acquire_file_lock(file_path="a.py")
            await woken(news)
            await rounds()
        await ann.acquire_file_lock(file_path="b.py")  # which ends the wait that was under way
        with anyio.fail_after(5):
            while here.opened.feed._bell._loop is not None:
                await asyncio.sleep(0.001)


async def test_a_bell_is_hung_though_the_last_to_leave_takes_the_folder_down_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mkfifo

    def taken_down_first(path: Path, mode: int) -> None:
        monkeypatch.setattr(os, "mkfifo", make)
        path.parent.rmdir()
        make(path, mode)

    monkeypatch.setattr(os, "mkfifo", taken_down_first)
    with hung(tmp_path / "bells") as bell:
        await bell.wait()
        assert (tmp_path / "bells" / "own").is_fifo()


async def test_who_has_closed_rings_nobody_and_opens_nothing(tmp_path: Path) -> None:
    with hung(tmp_path / "bells") as bell:
        await bell.wait()
        waiting = asyncio.create_task(bell.wait())
        others = Bells(tmp_path / "bells", "other")
        others.close()
        others.ring()
        await rounds()
        assert not others._open
        assert not waiting.done()
        waiting.cancel()
