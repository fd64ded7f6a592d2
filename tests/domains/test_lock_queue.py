"""Waiting for locks through the tools: whose turn it is, how a wait ends, and that no circle closes."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from callboard.errors import Refused
from tests.conftest import Agent, Board, Boards
from tests.domains.test_locks import LEASES, inbox, take

Answer = dict[str, Any]
Call = asyncio.Task[Answer]

PATIENCE = 20.0
"""Seconds after which a test gives up. When all is well nothing waits that long."""


async def until(met: Callable[[], bool]) -> None:
    """Let the other tasks run until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not met():
            await asyncio.sleep(0)


async def asleep(board: Board, calls: int) -> None:
    """Let the other tasks run until so many calls sleep."""
    await until(lambda: board.clock.sleepers() == calls)


async def waits(board: Board, agent: Agent, path: str, **arguments: Any) -> Call:
    """A call that waits for a lock, once it is asleep. One that is never woken ends the test."""
    before = board.clock.sleepers()
    asked = take(agent, path, **{"wait_seconds": 50, **arguments})
    call = asyncio.create_task(asyncio.wait_for(asked, PATIENCE))
    await asleep(board, before + 1)
    return call


async def queues(board: Board, agent: Agent, path: str, **arguments: Any) -> Answer:
    """Keep a place in the queue for an hour, and hang up."""
    refusal = await board.refusal(
        "acquire_file_lock", agent_id=agent.id, file_path=path, **{"queue_seconds": 3600, **arguments}
    )
    assert refusal["code"] == "lock_held", refusal
    return refusal


async def refused(call: Call) -> Answer:
    with pytest.raises(Refused) as raised:
        await call
    return raised.value.as_data()


async def holders(board: Board) -> dict[str, str]:
    """Who holds what, as stored."""
    return {row[0].rpartition(":")[2]: row[1] for row in await board.rows(LEASES)}


async def tickets(board: Board) -> list[str]:
    """Whose places are in the queue and count, in order."""
    found = await board.rows("SELECT agent_id FROM _lock_waiters WHERE lapsed_boot_ms = 0 ORDER BY ticket")
    return [agent for (agent,) in found]


async def crew(board: Board, *names: str) -> list[Agent]:
    return [await board.agent(name) for name in names]


# Turns


async def test_a_waiting_call_is_granted_by_the_release(board: Board) -> None:
    """L10: at once, with no time passing."""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "a.py")
    call = await waits(board, ben, "a.py")
    board.clock.turn(0.5)
    await ann.release_file_lock(file_path="a.py")
    granted = await call
    assert (granted["agent_id"], granted["granted_after_ms"]) == ("ben", 500)
    assert await tickets(board) == []


async def test_a_waiting_call_is_granted_when_the_lease_ends(board: Board) -> None:
    """L10: it wakes by itself at that time, though nobody sweeps."""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "a.py", ttl_seconds=5)
    board.clock.turn(0.3)
    call = await waits(board, ben, "a.py")
    for _ in range(4):
        board.clock.turn(1)
        await asleep(board, 1)
    board.clock.turn(0.7)  # less than the second after which it shows a sign of life anyway
    granted = await call
    assert (granted["agent_id"], granted["granted_after_ms"]) == ("ben", 4700)


@pytest.mark.parametrize("ending", ["terminated", "died", "forced", "rested"])
async def test_a_waiting_call_is_granted_however_its_holder_ends(boards: Boards, ending: str) -> None:
    """L10, L17"""
    async with boards() as board:
        boss, ben = await board.agent("boss", "lead"), await board.agent("ben", "lead")
        async with boards(transport="stdio" if ending == "died" else "http") as pipe:
            ann = await pipe.agent("ann", lead_id="boss")
            await take(ann, "a.py", ttl_seconds=5 if ending == "rested" else 600)
            await pipe.settle()
            if ending == "rested":
                await board.opened.set_lock_delay(0.5)
        call = await waits(board, ben, "a.py")
        if ending == "terminated":
            await board.call("terminate_agent", agent_id=boss.id, target_agent_id="ann")
        elif ending == "forced":
            await boss.force_release_file_lock(file_path="a.py", reason="stuck")
        else:
            for seconds in [1] * 5 + [0.5] if ending == "rested" else [1] * 30:
                await board.turn(seconds)
                await until(lambda: call.done() or board.clock.sleepers() == 1)
        assert (await call)["agent_id"] == "ben"


async def test_who_came_first_is_served_first(board: Board) -> None:
    """L9"""
    ann, ben, cat, dan = await crew(board, "ann", "ben", "cat", "dan")
    await take(ann, "src/a.py")
    calls = [await waits(board, agent, "src/a.py") for agent in (ben, cat, dan)]
    state = await ann.check_file_lock(file_path="src/a.py")
    assert [(each["agent_id"], each["queue_place"]) for each in state["waiters"]] == [
        ("ben", 1), ("cat", 2), ("dan", 3),
    ]  # fmt: skip
    for holder, agent, call in zip((ann, ben, cat), (ben, cat, dan), calls, strict=True):
        await board.turn(1)
        await asleep(board, len(calls) - calls.index(call))
        await holder.release_file_lock(file_path="src/a.py")
        assert (await call)["agent_id"] == agent.id
        assert await holders(board) == {"src/a.py": agent.id}


async def test_a_place_in_line_is_told_the_same_by_a_refusal_and_by_every_list(board: Board) -> None:
    """L9: who waits for something else is not in the way."""
    ann, ben, cat, dan = await crew(board, "ann", "ben", "cat", "dan")
    await take(ann, "src/a.py")
    await take(ann, "src/b.py")
    places = {}
    for agent, path in ((ben, "src/a.py"), (cat, "src/b.py"), (dan, "src/b.py")):
        refusal = await board.refusal(
            "acquire_file_lock", agent_id=agent.id, file_path=path, queue_seconds=60
        )
        places[agent.id] = refusal["queue_place"]
    assert places == {"ben": 1, "cat": 1, "dan": 2}
    for told in (
        await ann.list_file_locks(include_waiters=True),
        await ann.check_file_lock(file_path="src/"),
        await ann.get_crew_status(),
    ):
        assert {each["agent_id"]: each["queue_place"] for each in told["waiters"]} == places


async def test_single_files_do_not_starve_a_waiting_tree(board: Board) -> None:
    """L9, L6: later requests inside the tree stand behind it; others pass."""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "src/a.py")
    call = await waits(board, ben, "src/")
    refusal = await board.refusal("acquire_file_lock", agent_id="cat", file_path="src/b.py")
    assert (refusal["code"], refusal["blocked_by"], refusal["holder"]) == ("lock_held", "waiter", "ben")
    assert refusal["queue_place"] == 2
    await take(cat, "docs/b.md")
    await take(ann, "src/a.py")  # its own lock again is no new request
    await ann.release_file_lock(file_path="src/a.py")
    assert (await call)["file_path"] == "src"


async def test_the_covering_lock_of_its_own_lets_an_agent_pass_who_waits(board: Board) -> None:
    """L8: in at least that mode."""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "src/", mode="shared")
    await queues(board, ben, "src/a.py")
    await take(ann, "src/a.py", mode="shared")
    refusal = await board.refusal("acquire_file_lock", agent_id="ann", file_path="src/a.py")
    assert (refusal["blocked_by"], refusal["holder"]) == ("waiter", "ben")


async def test_readers_that_wait_are_let_in_together(board: Board) -> None:
    """L9"""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "a.py")
    calls = [await waits(board, agent, "a.py", mode="shared") for agent in (ben, cat)]
    await ann.release_file_lock(file_path="a.py")
    assert [(await call)["mode"] for call in calls] == ["shared", "shared"]


async def test_several_paths_are_waited_for_without_holding_any(board: Board) -> None:
    """L7, L9"""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "a.py")
    await take(cat, "b.py")
    call = asyncio.create_task(ben.acquire_file_locks(file_paths=["a.py", "b.py", "c.py"], wait_seconds=50))
    await asleep(board, 1)
    await ann.release_file_lock(file_path="a.py")
    await board.turn(1)
    await asleep(board, 1)
    assert await holders(board) == {"b.py": "cat"}
    await cat.release_file_lock(file_path="b.py")
    assert [lock["agent_id"] for lock in (await call)["locks"]] == ["ben"] * 3


async def test_who_waits_in_another_process_is_woken_too(boards: Boards) -> None:
    """L10: the clock stands still; only the feed can have woken the call."""
    async with boards() as here, boards() as there:
        ann, ben = await here.agent("ann"), await here.agent("ben")
        await take(ann, "a.py")
        polling = asyncio.create_task(there.opened.feed.poll())
        call = await waits(there, Agent(there, ben.id), "a.py")
        await ann.release_file_lock(file_path="a.py")
        assert (await call)["agent_id"] == "ben"
        polling.cancel()


# Ends of a wait


async def test_a_wait_that_ends_tells_the_same_facts_as_a_refusal(board: Board) -> None:
    """L11"""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "a.py", reason="refactor")
    call = await waits(board, ben, "./a.py", wait_seconds=2)
    for _ in range(2):
        await asleep(board, 1)
        board.clock.turn(1)
    refusal = await refused(call)
    known = ("code", "waited_ms", "holder", "held_path", "reason", "blocked_by", "remaining_seconds")
    assert [refusal[name] for name in known] == [
        "wait_timeout",
        2000,
        "ann",
        "a.py",
        "refactor",
        "holder",
        598,
    ]
    assert await tickets(board) == []


async def test_a_cancelled_wait_leaves_nothing_and_lets_others_pass(board: Board) -> None:
    """L11"""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "src/a.py")
    first = await waits(board, ben, "src/")
    second = await waits(board, cat, "src/b.py")
    first.cancel()
    assert (await second)["agent_id"] == "cat"
    assert await tickets(board) == []
    with pytest.raises(asyncio.CancelledError):
        await first


async def killed(board: Board, call: Call) -> None:
    """End a call as its process's end does: with no word to the store."""
    board.opened.store.close()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_the_place_of_a_killed_caller_lapses(boards: Boards) -> None:
    """L11, L10: within the two seconds of its ticket, and whoever is behind it is granted then."""
    async with boards() as board, boards() as other:
        ann, _, cat = await crew(board, "ann", "ben", "cat")
        await take(ann, "src/a.py")
        dead = await waits(other, Agent(other, "ben"), "src/")
        board.clock.turn(0.7)
        call = await waits(board, cat, "src/b.py")
        await killed(other, dead)
        await asleep(board, 1)
        board.clock.turn(1)
        await asleep(board, 1)
        assert not call.done()
        board.clock.turn(0.3)
        assert (await call)["granted_after_ms"] == 1300
        assert await tickets(board) == []


async def test_a_path_that_becomes_free_is_not_granted_to_a_caller_that_was_killed(boards: Boards) -> None:
    """L11: its place is still there for a call that was only stalled, and blocks nobody meanwhile."""
    async with boards() as board, boards() as other:
        ann, _, cat = await crew(board, "ann", "ben", "cat")
        await take(ann, "a.py")
        dead = await waits(other, Agent(other, "ben"), "a.py")
        await killed(other, dead)
        await board.turn(3)
        await ann.release_file_lock(file_path="a.py")
        assert await holders(board) == {}
        assert (await take(cat, "a.py"))["agent_id"] == "cat"


async def test_a_call_that_was_stalled_takes_its_place_up_again(board: Board) -> None:
    """L9: a process that stood still for longer than its calls' tickets live keeps their order."""
    ann, ben, cat, dan = await crew(board, "ann", "ben", "cat", "dan")
    await take(ann, "src/a.py")
    first, second = await waits(board, ben, "src/"), await waits(board, cat, "src/")
    board.clock.turn(5)
    last: Call = asyncio.create_task(take(dan, "src/", wait_seconds=40))
    await asleep(board, 3)
    assert await tickets(board) == ["ben", "cat", "dan"]
    await ann.release_file_lock(file_path="src/a.py")
    assert (await first)["agent_id"] == "ben"
    await ben.release_file_lock(file_path="src/")
    assert (await second)["agent_id"] == "cat"
    await cat.release_file_lock(file_path="src/")
    assert (await last)["agent_id"] == "dan"


async def test_a_place_that_nobody_took_up_again_is_forgotten(boards: Boards) -> None:
    async with boards() as board, boards() as other:
        ann, ben = await crew(board, "ann", "ben")
        await take(ann, "a.py")
        dead = await waits(other, Agent(other, "ben"), "a.py")
        await killed(other, dead)
        for seconds in (3, 11):
            await board.turn(seconds)
        assert await board.rows("SELECT * FROM _lock_waiters") == []
        assert ben.id == "ben"


async def test_who_was_ended_while_it_waited_is_granted_nothing(board: Board) -> None:
    """L11"""
    ann, ben = await crew(board, "ann", "ben")
    await board.agent("boss", "lead")
    await take(ann, "a.py")
    call = await waits(board, ben, "a.py")
    human = await board.human()
    await board.call("terminate_agent", token=human, target_agent_id="ben")
    assert await tickets(board) == []
    await ann.release_file_lock(file_path="a.py")
    assert (await refused(call))["code"] == "agent_terminated"
    assert await holders(board) == {}


# Kept places


async def test_a_kept_place_is_granted_and_told(board: Board) -> None:
    """L11: also to an agent that does not call meanwhile."""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "a.py")
    refusal = await queues(board, ben, "a.py", ttl_seconds=60)
    assert refusal["queue_place"] == 1
    assert (await queues(board, cat, "a.py"))["queue_place"] == 2
    await ann.release_file_lock(file_path="a.py")
    assert await holders(board) == {"a.py": "ben"}
    [told] = await inbox(board, "ben")
    [(fence,)] = await board.rows("SELECT fence FROM file_locks")
    assert (told["event"], told["file_path"], told["fence"]) == ("lock_acquired", "a.py", fence)
    assert await tickets(board) == ["cat"]
    assert (await take(ben, "a.py"))["refreshed"] is True


async def test_a_place_that_the_server_grants_counts_as_its_agents_own_touch(board: Board) -> None:
    """L16: in the crew of the agent that waited, not of whoever freed the path."""
    ann = await board.agent("ann")
    await board.agent("boss", "lead")
    ben = await board.agent("ben", lead_id="boss")
    for number, path in enumerate(("a.py", "b.py")):
        await take(ann, path, ttl_seconds=5)
        await queues(board, ben, path)
        if number:
            await board.turn(5)
        else:
            await ann.release_file_lock(file_path=path)
        history = await ben.list_file_history(file_path=path, target_agent_id="ben")
        assert [touched["lock_count"] for touched in history["files"]] == [1]
    rows = await board.rows("SELECT DISTINCT lead_id FROM agent_file_history WHERE agent_id = 'ben'")
    assert rows == [("boss",)]


async def test_a_later_call_resumes_the_kept_place(board: Board) -> None:
    """L9, L11"""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "a.py")
    await queues(board, ben, "a.py")
    await queues(board, cat, "a.py")
    board.clock.turn(5)
    call = await waits(board, ben, "a.py")
    assert await tickets(board) == ["ben", "cat"]
    await ann.release_file_lock(file_path="a.py")
    assert (await call)["granted_after_ms"] == 5000
    assert await inbox(board, "ben") == []


async def test_a_kept_place_ends_with_its_time(board: Board) -> None:
    """L11"""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "src/a.py")
    await queues(board, ben, "src/", queue_seconds=10)
    await queues(board, cat, "src/b.py")
    await board.turn(9.999)
    assert await holders(board) == {"src/a.py": "ann"}
    await board.turn(0.001)
    assert await holders(board) == {"src/a.py": "ann", "src/b.py": "cat"}


async def test_a_kept_place_ends_with_its_agent(board: Board) -> None:
    """L11"""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "a.py")
    await queues(board, ben, "a.py")
    await ben.terminate_agent()
    assert await tickets(board) == []
    await ann.release_file_lock(file_path="a.py")
    assert await holders(board) == {}


async def test_a_wait_with_a_kept_place_goes_on_after_its_call(board: Board) -> None:
    """L11"""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "a.py")
    call = await waits(board, ben, "a.py", wait_seconds=1, queue_seconds=60)
    board.clock.turn(1)
    assert (await refused(call))["code"] == "wait_timeout"
    assert await tickets(board) == ["ben"]
    await ann.release_file_lock(file_path="a.py")
    assert await holders(board) == {"a.py": "ben"}


async def test_a_wait_in_a_kept_place_leaves_it_as_it_was(board: Board) -> None:
    """L11: the place ends with the time that was asked for, not with a later call that did not ask."""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "a.py")
    await queues(board, ben, "a.py", queue_seconds=60)
    await queues(board, cat, "a.py")
    for ending in ("timed out", "cancelled"):
        call = await waits(board, ben, "a.py", wait_seconds=1)
        if ending == "cancelled":
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            board.clock.turn(1)
            assert "kept for 59 s" in (await refused(call))["hint"]
        assert await tickets(board) == ["ben", "cat"]
    await board.turn(59)
    assert await tickets(board) == ["cat"]


async def test_a_kept_place_is_granted_though_its_waiting_call_was_killed(boards: Boards) -> None:
    """L10, L11: the path became free while the call still seemed to live."""
    async with boards() as board, boards() as other:
        ann, _ = await crew(board, "ann", "ben")
        await take(ann, "a.py")
        dead = await waits(other, Agent(other, "ben"), "a.py", queue_seconds=60)
        await killed(other, dead)
        await ann.release_file_lock(file_path="a.py")
        await board.turn(1)
        assert await holders(board) == {}
        board.clock.turn(1)
        await board.opened.duties.sweep_if_due()
        assert await holders(board) == {"a.py": "ben"}
        assert [told["event"] for told in await inbox(board, "ben")] == ["lock_acquired"]


async def test_a_call_cancelled_as_its_turn_comes_leaves_the_grant_to_its_kept_place(board: Board) -> None:
    """L10, L11: the release woke the call, which was cancelled before it could look."""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "a.py", ttl_seconds=5)
    call = await waits(board, ben, "a.py", queue_seconds=60)
    board.clock.slip(5)  # the lease is over, and nothing has woken yet
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await holders(board) == {"a.py": "ben"}


@pytest.mark.parametrize("ending", ["cancelled", "terminated"])
async def test_a_place_moves_up_to_a_lapsed_lease_that_nobody_swept(board: Board, ending: str) -> None:
    """L10"""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(ann, "a.py", ttl_seconds=5)
    await queues(board, ben, "a.py") if ending == "terminated" else None
    call = await waits(board, ben, "a.py", mode="shared") if ending == "cancelled" else None
    await queues(board, cat, "a.py")
    board.clock.slip(5)  # the lease is over, and nothing has woken yet
    if call is not None:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        await ben.terminate_agent()
    assert await holders(board) == {"a.py": "cat"}
    assert [told["event"] for told in await inbox(board, "ann")] == ["lock_expired"]
