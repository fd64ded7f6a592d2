"""Duties: done once in each period, and never twice in a hurry."""

import asyncio

import anyio

from tests.conftest import Board

PERIOD_MS = 1_000


async def test_duties_fall_together_and_a_late_one_leaves_out_what_is_near(board: Board) -> None:
    """An idle process wakes once for all of them; two looks that are told apart by time are never close."""
    clock, start = board.clock, board.clock.boot_ms()
    done: list[int] = []
    lasts = anyio.Event()

    async def duty() -> None:
        done.append(clock.boot_ms() - start)
        if len(done) == 2:
            await lasts.wait()

    async def turn(seconds: float) -> None:
        clock.turn(seconds)
        await anyio.wait_all_tasks_blocked()

    keeping = asyncio.create_task(board.opened.duties._every(PERIOD_MS, duty))
    await anyio.wait_all_tasks_blocked()
    await turn(0.999)
    assert done == []
    await turn(0.001)
    await turn(1.0)
    assert done == [1_000, 2_000]
    await turn(1.7)
    lasts.set()  # the second, at 3.7 s: 4 s would be near, so it is left out
    await anyio.wait_all_tasks_blocked()
    await turn(0.3)
    await turn(0.9)
    assert done == [1_000, 2_000]
    await turn(0.1)
    assert done == [1_000, 2_000, 5_000]
    await turn(3600.4)  # the machine slept
    assert done == [1_000, 2_000, 5_000, 3_605_400]
    await turn(0.6)
    assert done[4:] == [3_606_000]
    keeping.cancel()
