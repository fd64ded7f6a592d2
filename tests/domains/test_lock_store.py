"""What file locks leave in the store: over restarts, reboots and repeated calls; bounds; the ledger."""

import json
from typing import Any

import pytest
from apsw import Connection

from callboard.domains.locks import leases, tickets
from callboard.frames import RESULT_BYTES
from callboard.lockname import name_of, neighbourhood
from callboard.store import Query
from tests.conftest import Board, Boards, TurnedClock
from tests.domains.test_lock_queue import waits
from tests.domains.test_locks import LEASES, inbox, take
from tests.reliability.lock_history import replayed

# Processes, restarts, unknown outcomes


async def test_an_agent_whose_process_is_gone_keeps_its_locks_for_a_grace(boards: Boards) -> None:
    """L3"""
    async with boards() as board:
        boss, ben = await board.agent("boss", "lead"), await board.agent("ben")
        async with boards(transport="stdio") as pipe:
            ann = await pipe.agent("ann", lead_id="boss")
            await take(ann, "a.py")
            await pipe.settle()
        await board.turn(29.999)
        refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="a.py")
        assert refusal["code"] == "lock_held"
        await board.turn(0.001)
        assert (await take(ben, "a.py"))["agent_id"] == "ben"
        assert [told["event"] for told in await inbox(board, "ann")] == ["lock_expired"]
        assert [told["released"] for told in await inbox(board, boss.id)] == [["a.py"]]


async def test_an_agent_that_comes_back_within_the_grace_keeps_its_locks(boards: Boards) -> None:
    """L3"""
    async with boards() as board:
        async with boards(transport="stdio") as pipe:
            ann = await pipe.agent("ann")
            fence = (await take(ann, "a.py"))["fence"]
            await pipe.settle()
        await board.turn(20)
        async with boards(transport="stdio") as pipe:
            assert (await pipe.call("whoami", agent_id="ann"))["leases"][0]["fence"] == fence
            await pipe.settle()
            await board.turn(60)
            assert [row[3] for row in await board.rows(LEASES)] == [fence]


async def test_after_a_reboot_an_agent_of_a_pipe_holds_nothing_more(boards: Boards) -> None:
    """L3: the others keep their time on the wall clock and one lease's length."""
    async with boards(transport="stdio") as pipe:
        await take(await pipe.agent("ann"), "a.py")
        await pipe.settle()
    async with boards() as board:
        await take(await board.agent("ben"), "b.py", ttl_seconds=60)
        clock: TurnedClock = board.clock
    clock.boot_id = "boot-2"
    clock.step_wall(30)
    async with boards() as board:
        cat = await board.agent("cat")
        await take(cat, "a.py")
        refusal = await board.refusal("acquire_file_lock", agent_id="cat", file_path="b.py")
        assert (refusal["holder"], refusal["remaining_seconds"]) == ("ben", 90)
        await board.turn(90)
        await take(cat, "b.py")


async def test_a_repeated_request_is_the_same_grant(board: Board) -> None:
    """L15"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    first = await take(ann, "a.py", request_key="k1")
    again = await take(ann, "a.py", request_key="k1")
    assert again == first | {"replayed": True}
    refusal = await board.refusal("acquire_file_lock", agent_id="ann", file_path="b.py", request_key="k1")
    assert (refusal["code"], refusal["differing"]) == ("request_key_reused", ["file_path"])
    refusal = await board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py", request_key="k1")
    assert refusal["code"] == "lock_held"
    await ann.release_file_lock(file_path="a.py")
    assert (await take(ben, "a.py", request_key="k1"))["agent_id"] == "ben"
    assert len(await board.rows(LEASES)) == 1


async def test_a_lost_answer_to_a_wait_is_asked_for_again(board: Board) -> None:
    """L15"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "a.py")
    call = await waits(board, ben, "a.py", request_key="k1")
    await ann.release_file_lock(file_path="a.py")
    granted = await call
    again = await take(ben, "a.py", wait_seconds=50, request_key="k1")
    assert again == granted | {"replayed": True}


# Bounds


async def test_an_agent_holds_a_thousand_locks_and_may_refresh_each(board: Board) -> None:
    ann = await board.agent("ann")
    for tens in range(10):
        await ann.acquire_file_locks(file_paths=[f"src/{tens}/{file}.py" for file in range(100)])
    refusal = await board.refusal("acquire_file_lock", agent_id="ann", file_path="one/more.py")
    assert (refusal["code"], refusal["limit"]) == ("quota_exceeded", 1000)
    assert (await take(ann, "src/0/0.py"))["refreshed"] is True
    assert len(await board.rows(LEASES)) == 1000
    await ann.release_file_lock(file_path="src/0/0.py")
    await take(ann, "one/more.py")


async def test_a_list_of_locks_is_read_in_pages(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.acquire_file_locks(file_paths=[f"{'x' * 900}/{file}.py" for file in range(100)])
    await take(ben, "docs/")
    seen: list[str] = []
    page = await ann.list_file_locks(limit=200)
    while True:
        assert len(json.dumps(page)) < RESULT_BYTES * 1.1
        seen += [lock["file_path"] for lock in page["locks"]]
        if "next_after_id" not in page:
            break
        page = await ann.list_file_locks(limit=200, after_id=page["next_after_id"])
    assert len(seen) == len(set(seen)) == 101
    assert [lock["agent_id"] for lock in (await ann.list_file_locks(path_prefix="docs"))["locks"]] == ["ben"]
    assert len((await ann.list_file_locks(target_agent_id="ben"))["locks"]) == 1


def steps(db: Connection, query: Query[Any], name: str) -> int:
    """How many instructions of SQLite's machine it takes to look around a name."""
    counted = 0

    def count() -> bool:
        nonlocal counted
        counted += 1
        return False

    db.set_progress_handler(count, 1)
    list(db.execute(query.sql, {"now": 0, "but": "", "agent_id": "ann", **neighbourhood(name)}))
    db.set_progress_handler(None)
    return counted


@pytest.mark.parametrize(
    "query", [leases.NEAR, leases.OWN_ABOVE, tickets.WAITING_NEAR, tickets.KEPT_NEAR, tickets.RESTING_NEAR]
)
async def test_the_cost_of_a_check_does_not_grow_with_what_is_held(board: Board, query: Query[Any]) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await board.opened.set_lock_delay(5)
    name = name_of(board.opened.repository.project_id, "src/callboard/domains/main.py")
    measured = []
    for round_ in range(2):
        for number in range(10 if round_ else 1):
            paths = [f"busy/{round_}/{number}/{file}.py" for file in range(20)]
            await ann.acquire_file_locks(file_paths=paths, ttl_seconds=86_400)
            await ann.acquire_file_locks(file_paths=[f"rest/{path}" for path in paths], ttl_seconds=5)
            refusal = await board.refusal(
                "acquire_file_locks", agent_id=ben.id, file_paths=paths, queue_seconds=3600
            )
            assert refusal["code"] == "lock_held"
        await board.turn(30)
        db = board.opened.store.connect()
        try:
            measured.append(steps(db, query, name))
        finally:
            db.close()
    assert measured[1] <= measured[0] + 5, measured


# L16


async def test_who_held_what_when_is_rebuilt_from_the_ledger_alone(board: Board) -> None:
    """L16"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    boss = await board.agent("boss", "lead")
    await take(ann, "a.py", ttl_seconds=5)
    await take(ann, "b.py", mode="shared")
    await take(ben, "b.py", mode="shared")
    await ann.release_file_lock(file_path="b.py")
    await board.turn(5)
    await take(ben, "b.py")
    await take(boss, "c.py")
    await ben.acquire_file_locks(file_paths=["d.py", "e.py"])
    await boss.force_release_file_lock(file_path="c.py", reason="a test")
    await take(ben, "d.py", ttl_seconds=3600)
    await board.agent("cat")
    await board.call("terminate_agent", agent_id="cat")
    entries = await board.rows(
        "SELECT action_type, details FROM activity_log WHERE action_type LIKE 'lock%' ORDER BY id"
    )
    stored = {(row[0].rpartition(":")[2], row[1]): row[3] for row in await board.rows(LEASES)}
    assert stored == {("b.py", "ben"): 4, ("d.py", "ben"): 6, ("e.py", "ben"): 7}
    assert replayed(entries) == stored
