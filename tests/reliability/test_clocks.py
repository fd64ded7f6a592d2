"""Clocks that go wrong: a wall clock set to any time ends nothing early and keeps nothing, and time slept
through counts (L3, L4, T2, Q4)."""

import pytest

from tests.conftest import Board

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365.25 * 86_400.0

STEPS = [sign * size for size in (1.0, HOUR, DAY, 10 * YEAR) for sign in (1, -1)]
"""Seconds: a correction, a summer time that a program took for UTC, a wrong day, an empty battery."""


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_of_the_wall_clock_ends_no_lease_early_and_keeps_none(board: Board, step: float) -> None:
    """L3, L4"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    granted = await ann.acquire_file_lock(file_path="a.py", ttl_seconds=600)
    board.clock.step_wall(step)
    await board.turn(599)
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="a.py")
    assert (refusal["code"], refusal["holder"]) == ("lock_held", ann.id)
    board.clock.step_wall(-2 * step)
    await board.turn(2)
    late = await board.refusal("renew_file_lock", agent_id=ann.id, file_path="a.py", fence=granted["fence"])
    assert late["code"] in {"lease_expired", "stale_fence"}
    assert (await ben.acquire_file_lock(file_path="a.py"))["fence"] > granted["fence"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_of_the_wall_clock_hands_no_message_out_twice(board: Board, step: float) -> None:
    """Q4"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.send_message(to=ben.id, content="word")
    [first] = (await ben.receive_messages(visibility_seconds=60))["messages"]
    board.clock.step_wall(step)
    await board.turn(59)
    assert (await ben.receive_messages())["messages"] == []
    await board.turn(HOUR)  # its time is over, and what it then rests before it comes again
    [again] = (await ben.receive_messages())["messages"]
    assert again["message_id"] == first["message_id"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_timer_that_counts_seconds_fires_once_whatever_the_wall_clock_says(
    board: Board, step: float
) -> None:
    """T12"""
    ann = await board.agent("ann")
    await ann.set_timer(label="tea", message="tea is ready", delay="60s")
    board.clock.step_wall(step)
    await board.turn(59)
    assert (await ann.receive_messages())["messages"] == []
    await board.turn(2)
    assert len((await ann.receive_messages())["messages"]) == 1
    board.clock.step_wall(-step)
    await board.turn(HOUR)
    fired = await board.rows("SELECT count(*) FROM timers WHERE status = 'fired'")
    assert fired == [(1,)]


async def test_an_hour_of_suspend_ends_what_was_shorter_and_nothing_else(board: Board) -> None:
    """L3, T2"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    short = await ann.acquire_file_lock(file_path="short.py", ttl_seconds=600)
    await ann.acquire_file_lock(file_path="long.py", ttl_seconds=7_200)
    board.clock.slip(HOUR)  # nobody has slept through it: the machine was off
    board.clock.step_wall(HOUR)
    late = await board.refusal("renew_file_lock", agent_id=ann.id, file_path="short.py", fence=short["fence"])
    assert late["code"] == "lease_expired"
    held = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="long.py")
    assert held["code"] == "lock_held"
    await ben.acquire_file_lock(file_path="short.py")
