"""Circles of waiting: the request that would close one is refused, and told which."""

from typing import Any

from tests.conftest import Agent, Board, Boards
from tests.domains.test_lock_queue import asleep, crew, holders, queues, refused, tickets, waits
from tests.domains.test_locks import take


async def test_two_agents_that_would_wait_for_each_other_are_told_the_circle(board: Board) -> None:
    """L12"""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "a.py")
    await take(ben, "b.py")
    call = await waits(board, ann, "b.py")
    waits_either_way: list[dict[str, Any]] = [{"wait_seconds": 5}, {"queue_seconds": 5}]
    for how in waits_either_way:
        refusal = await board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py", **how)
        assert refusal["code"] == "deadlock"
        assert [(each["agent_id"], each["waits_for"], each["holder"]) for each in refusal["cycle"]] == [
            ("ben", "a.py", "ann"), ("ann", "b.py", "ben"),
        ]  # fmt: skip
        assert "Release b.py first" in refusal["hint"]
    refusal = await board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py")
    assert refusal["code"] == "lock_held"  # without waiting there is no circle
    await ben.release_file_lock(file_path="b.py")
    assert (await call)["file_path"] == "b.py"


async def test_a_circle_of_three_is_refused(board: Board) -> None:
    """L12"""
    ann, ben, _ = agents = await crew(board, "ann", "ben", "cat")
    for agent in agents:
        await take(agent, f"{agent.id}.py")
    await queues(board, ann, "ben.py")
    await queues(board, ben, "cat.py")
    refusal = await board.refusal("acquire_file_lock", agent_id="cat", file_path="ann.py", queue_seconds=60)
    assert refusal["code"] == "deadlock"
    assert [each["agent_id"] for each in refusal["cycle"]] == ["cat", "ann", "ben"]
    assert await tickets(board) == ["ann", "ben"]


async def test_a_circle_through_an_earlier_waiter_is_refused(board: Board) -> None:
    """L12: ben waits for cat's file only because ann came before it."""
    ann, ben, cat = await crew(board, "ann", "ben", "cat")
    await take(cat, "src/a.py")
    await take(ben, "docs/x.md")
    await queues(board, ann, "src/")
    await queues(board, cat, "docs/")
    refusal = await board.refusal("acquire_file_lock", agent_id="ben", file_path="src/b.py", queue_seconds=60)
    assert refusal["code"] == "deadlock"
    assert [(each["agent_id"], each["holder"]) for each in refusal["cycle"]] == [
        ("ben", "ann"), ("ann", "cat"), ("cat", "ben"),
    ]  # fmt: skip


async def test_a_circle_that_a_stalled_call_would_close_is_refused(boards: Boards) -> None:
    """L12: who came behind it while it was silent waits for it again once it takes its place up."""
    async with boards() as board, boards() as stalled:
        ann, ben, cat = await crew(board, "ann", "ben", "cat")
        await take(cat, "a.py")
        call = await waits(stalled, Agent(stalled, "ann"), "a.py")
        await stalled.settle()
        await stalled.opened.store.read(lambda tx: None)  # it has looked once more, for its own place's sake
        await asleep(board, 1)
        board.clock.slip(3)
        await take(ben, "docs/")
        await queues(board, ben, "a.py")
        await queues(board, ann, "docs/")
        board.clock.turn(0)
        refusal = await refused(call)
        assert refusal["code"] == "deadlock"
        assert [(each["agent_id"], each["holder"]) for each in refusal["cycle"]] == [
            ("ann", "ben"), ("ben", "ann"),
        ]  # fmt: skip
        await cat.release_file_lock(file_path="a.py")
        assert await holders(board) == {"a.py": "ben", "docs": "ben"}


async def test_two_readers_that_would_both_become_the_writer_are_refused(board: Board) -> None:
    """L12"""
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "a.py", mode="shared")
    await take(ben, "a.py", mode="shared")
    call = await waits(board, ann, "a.py")
    refusal = await board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py", wait_seconds=5)
    assert refusal["code"] == "deadlock"
    await ben.release_file_lock(file_path="a.py")
    assert (await call)["mode"] == "exclusive"


async def test_an_agent_waits_with_a_hundred_requests_at_most(board: Board) -> None:
    ann, ben = await crew(board, "ann", "ben")
    await take(ann, "src/")
    for number in range(100):
        await queues(board, ben, f"src/{number}.py")
    refusal = await board.refusal(
        "acquire_file_lock", agent_id="ben", file_path="src/more.py", queue_seconds=60
    )
    assert (refusal["code"], refusal["limit"]) == ("quota_exceeded", 100)
    assert (await queues(board, ben, "src/0.py"))["queue_place"] == 1
