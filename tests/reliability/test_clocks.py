"""Clocks that go wrong: a wall clock set to any time ends nothing early and keeps nothing, and time slept
through counts (L3, L4, T2, T12, Q4, G4).

The last tests are of whole processes on the host's own clock, each in a time zone of its own, one stopped for
longer than its lease, and one whose wall clock is set while it serves.
"""

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Board
from tests.piping import Pipe
from tests.serving import Place, call, refusal

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365.25 * 86_400.0

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""A library that sets the wall clock of one process, where Debian's package `faketime` is installed."""

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
async def test_a_step_of_the_wall_clock_makes_no_repeated_call_a_second_one(
    board: Board, step: float
) -> None:
    """Q7, L15"""
    ann = await board.agent("ann")
    note = {"action_type": "note", "summary": "said once", "request_key": "k"}
    await ann.log_activity(**note)
    for back in (1, -2):
        board.clock.step_wall(back * step)
        await board.opened.duties.tidy()
        assert (await ann.log_activity(**note))["replayed"] is True


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


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_of_the_wall_clock_gives_no_task_back_early_and_keeps_none(
    board: Board, step: float
) -> None:
    """T2, T3"""
    lea, ann = await board.agent("lea", role="lead"), await board.agent("ann")
    await lea.add_dag_task(id="t", role="developer")
    claim = (await ann.claim_next_dag_task())["task"]
    board.clock.step_wall(step)
    await board.turn(599)
    assert (await lea.get_dag_task(task_id="t"))["dag_status"] == "running"
    board.clock.step_wall(-2 * step)
    await board.turn(2)
    assert (await lea.get_dag_task(task_id="t"))["dag_status"] == "ready"
    named = {"agent_id": ann.id, "task_id": "t", "claim_epoch": claim["claim_epoch"]}
    late = await board.refusal("complete_dag_task", **named)
    assert late["code"] == "stale_claim"


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_of_the_wall_clock_confirms_nothing_that_waits_for_a_person(
    board: Board, step: float
) -> None:
    """G4"""
    ann = await board.agent("ann")
    asked = await ann.record_decision(title="drop it", rationale="old", needs_confirmation=True)
    for _ in range(3):
        board.clock.step_wall(step)
        await board.turn(DAY)
    status = "SELECT status, auto_approved, confirmed_by FROM decisions WHERE id = :id"
    assert await board.rows(status, id=asked["decision_id"]) == [(asked["status"], 0, None)]


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


async def test_processes_in_different_time_zones_agree_on_what_is_over(tmp_path: Path) -> None:
    """L3, T12: the zones are a day apart, and both have a summer time now or in half a year."""
    place = Place(tmp_path)
    async with (
        place.stdio("--agent", "ann", environment={"TZ": "Pacific/Auckland"}) as ann,
        place.stdio("--agent", "ben", environment={"TZ": "America/Adak"}) as ben,
    ):
        for client in (ann, ben):
            await call(client, "register_agent", role="developer")
        held = await call(ann, "acquire_file_lock", file_path="a.py", ttl_seconds=30)
        blocked = await refusal(ben, "acquire_file_lock", file_path="a.py")
        assert blocked["code"] == "lock_held" and 0 < blocked["remaining_seconds"] <= 30
        seen = await call(ben, "check_file_lock", file_path="a.py")
        assert seen["locks"][0]["expires_at"] == held["expires_at"]
        timer = await call(ann, "set_timer", label="tea", message="tea is ready", delay="5s")
        told = (await call(ann, "receive_messages", wait_seconds=20))["messages"]
        assert [message["about"]["label"] for message in told] == ["tea"]
        assert told[0]["created_at"] >= timer["fire_at"]


async def test_a_server_that_was_stopped_for_longer_than_its_lease_cannot_go_on_with_it(
    tmp_path: Path,
) -> None:
    """L3, L4: as when the machine of an agent sleeps, and the store's does not."""
    place = Place(tmp_path)
    with place.piped("--agent", "ann") as server:
        async with place.stdio("--agent", "ben") as ben:
            ann = Pipe(server)
            ann.open()
            ann.call("register_agent", role="developer")
            await call(ben, "register_agent", role="developer")
            held = ann.call("acquire_file_lock", file_path="a.py", ttl_seconds=5)
            server.send_signal(signal.SIGSTOP)
            taken = await call(ben, "acquire_file_lock", file_path="a.py", wait_seconds=30)
            server.send_signal(signal.SIGCONT)
            assert taken["fence"] > held["fence"]
            assert taken["acquired_at"] >= held["expires_at"]
            late = ann.refusal("renew_file_lock", file_path="a.py", fence=held["fence"])
            assert late["code"] in {"lease_expired", "stale_fence"}
            assert (await call(ben, "check_file_lock", file_path="a.py"))["state"] == "yours"


@pytest.mark.skipif(FAKETIME is None, reason="Debian's package faketime is not installed")
@pytest.mark.parametrize("days", [1, -3_650])
async def test_a_server_whose_wall_clock_is_set_while_it_serves_ends_no_lease_early_and_keeps_none(
    tmp_path: Path, days: int
) -> None:
    """L3"""
    place, offset = Place(tmp_path), tmp_path / "offset"
    offset.write_text("+0")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    async with place.stdio("--no-renew", environment=faked) as client:
        for agent in ("ann", "ben"):
            await call(client, "register_agent", agent_id=agent, role="developer")
        began = time.monotonic()
        held = await call(client, "acquire_file_lock", agent_id="ann", file_path="a.py", ttl_seconds=5)
        offset.write_text(f"{days:+}d")
        blocked = await refusal(client, "acquire_file_lock", agent_id="ben", file_path="a.py")
        assert (blocked["code"], blocked["holder"]) == ("lock_held", "ann")
        taken = await call(client, "acquire_file_lock", agent_id="ben", file_path="a.py", wait_seconds=40)
        assert time.monotonic() - began >= 5
        assert taken["fence"] > held["fence"]
        stepped = datetime.fromisoformat(taken["acquired_at"]) - datetime.now(UTC)
        assert abs(stepped - timedelta(days=days)) < timedelta(minutes=5)
