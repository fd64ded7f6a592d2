"""The feed: who waits is woken by what is committed, here and in other processes, and by nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from callboard.errors import Refused
from callboard.feed import Listener
from tests.conftest import Board, Boards

FAR = 2**53
SOON = 5.0
"""Real seconds within which a wake-up must have come. When all is well it takes milliseconds."""


async def woken(news: Listener) -> None:
    """Wait for news, with no help from the boot clock."""
    with anyio.fail_after(SOON):
        await news.wait(FAR)


@asynccontextmanager
async def polling(board: Board) -> AsyncIterator[None]:
    """Look for other processes' commits, as every serving process does."""
    polls = asyncio.create_task(board.opened.feed.poll())
    try:
        yield
    finally:
        polls.cancel()
        await asyncio.gather(polls, return_exceptions=True)


def was_told(news: Listener) -> bool:
    return news._news.is_set()


async def test_a_commit_of_this_process_wakes_its_waiters_at_once(board: Board) -> None:
    """S10: without any polling."""
    ann = await board.agent("ann")
    with board.opened.feed.listen("locks") as news:
        waiting = asyncio.create_task(woken(news))
        await ann.acquire_file_lock(file_path="a.py")
        await waiting


async def test_who_is_woken_finds_what_woke_it(board: Board) -> None:
    """Nothing is announced before it is committed."""
    ann = await board.agent("ann")

    async def look() -> int:
        with board.opened.feed.listen("locks") as news:
            await woken(news)
            return len((await ann.list_file_locks())["locks"])

    looking = asyncio.create_task(look())
    await anyio.wait_all_tasks_blocked()
    await ann.acquire_file_lock(file_path="a.py")
    assert await looking == 1


async def test_a_commit_of_another_process_wakes_waiters_here(boards: Boards) -> None:
    """S10, L10: within the poll's few ms and some."""
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        with here.opened.feed.listen("locks") as news:
            await ann.acquire_file_lock(file_path="a.py")
            await woken(news)


async def test_what_is_committed_between_the_look_and_the_sleep_is_not_missed(boards: Boards) -> None:
    """L10: who listens first and looks then cannot lose a wake-up, whichever process writes."""
    async with boards() as here, boards() as there, polling(here):
        ann, ben = await here.agent("ann"), await there.agent("ben")
        for agent in (ann, ben):
            with here.opened.feed.listen("locks") as news:
                news.clear()
                await agent.acquire_file_lock(file_path=f"{agent.id}.py")
                await woken(news)


async def test_a_fact_of_another_topic_wakes_nobody(boards: Boards) -> None:
    async with boards() as here, boards() as there, polling(here):
        ann, ben = await here.agent("ann"), await there.agent("ben")
        with here.opened.feed.listen("locks") as locks, here.opened.feed.listen("history") as history:
            await ann.log_activity(action_type="note", summary="here")
            await woken(history)
            history.clear()
            await ben.log_activity(action_type="note", summary="there")
            await woken(history)
            assert not was_told(locks)


async def test_a_refused_operation_wakes_nobody(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.acquire_file_lock(file_path="a.py")
    with board.opened.feed.listen("locks") as news:
        await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="a.py")
        await board.settle()
        assert not was_told(news)


async def test_what_was_told_before_is_no_news(boards: Boards) -> None:
    async with boards() as here, boards() as there, polling(here):
        ann = await there.agent("ann")
        with here.opened.feed.listen("locks"):
            pass  # so that the feed has looked before
        await ann.acquire_file_lock(file_path="a.py")
        with here.opened.feed.listen("locks") as news, here.opened.feed.listen("history") as later:
            await ann.log_activity(action_type="note", summary="later")
            await woken(later)
            assert not was_told(news)


async def test_ones_own_commit_is_not_news_a_second_time(boards: Boards) -> None:
    """The outbox names its writer, which has told its own waiters already."""
    async with boards() as here, boards() as there, polling(here):
        ann, ben = await here.agent("ann"), await there.agent("ben")
        with here.opened.feed.listen("locks") as locks, here.opened.feed.listen("history") as history:
            await ann.acquire_file_lock(file_path="a.py")
            await woken(locks)
            locks.clear()
            await ben.log_activity(action_type="note", summary="makes the poll look")
            await woken(history)
            assert not was_told(locks)


async def test_all_waiters_of_a_topic_are_woken(board: Board) -> None:
    ann = await board.agent("ann")
    feed = board.opened.feed
    with feed.listen("locks") as first, feed.listen("locks") as second:
        await ann.acquire_file_lock(file_path="a.py")
        await woken(first)
        await woken(second)


async def test_who_waits_for_one_subject_hears_of_that_one_only(board: Board) -> None:
    ann = await board.agent("ann")
    feed = board.opened.feed
    with feed.listen("roster", "ann") as of_ann, feed.listen("roster", "ben") as of_ben:
        await ann.update_agent(model="m-2")
        await woken(of_ann)
        assert not was_told(of_ben)


async def test_without_news_a_wait_ends_with_the_boot_clock(board: Board) -> None:
    with board.opened.feed.listen("locks") as news:
        until = board.clock.boot_ms() + 500
        waiting = asyncio.create_task(news.wait(until))
        await anyio.wait_all_tasks_blocked()
        board.clock.turn(0.499)
        await anyio.wait_all_tasks_blocked()
        assert not waiting.done()
        board.clock.turn(0.001)
        with anyio.fail_after(SOON):
            await waiting
    assert board.clock.sleepers() == 0


async def test_nobody_is_looked_for_while_nobody_waits(boards: Boards) -> None:
    """S10: the poll sleeps until somebody listens, and sleeps again when the last one has gone."""
    async with boards() as here, boards() as there, polling(here):
        feed = here.opened.feed
        ann = await there.agent("ann")
        with feed.listen("locks") as news:
            await ann.acquire_file_lock(file_path="a.py")
            await woken(news)
        # The round that was under way ends; then the poll waits for a listener instead of for time.
        with anyio.fail_after(SOON):
            while feed._wanted.is_set():
                await asyncio.sleep(0.001)
        seen = feed._seen_id
        await ann.acquire_file_lock(file_path="b.py")
        await anyio.wait_all_tasks_blocked()
        assert feed._seen_id == seen
        with feed.listen("locks") as news:
            await ann.acquire_file_lock(file_path="c.py")
            await woken(news)


async def test_listening_to_a_store_that_cannot_be_opened_is_refused_in_its_own_words(boards: Boards) -> None:
    async with boards() as board:
        ann = await board.agent("ann")
        path = board.opened.store.info.path
        aside = path.rename(path.with_suffix(".aside"))
        with pytest.raises(Refused) as caught, board.opened.feed.listen("locks"):
            pass
        assert caught.value.code == "store_unavailable"
        aside.rename(path)
        with board.opened.feed.listen("locks") as news:
            await ann.acquire_file_lock(file_path="a.py")
            await woken(news)
