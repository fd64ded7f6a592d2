"""File locks through the tools: who holds what, and how a lease begins, lives and ends.

Waiting and the queue have their own file, `test_lock_queue.py`; so has what is left in the store,
`test_lock_store.py`. A docstring names the promise that its test proves.
"""

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Agent, Board, Boards

LEASES = "SELECT file_path, agent_id, mode, fence, expires_boot_ms FROM _leases ORDER BY fence"


async def take(agent: Agent, path: str, **arguments: Any) -> dict[str, Any]:
    granted: dict[str, Any] = await agent.acquire_file_lock(file_path=path, **arguments)
    return granted


async def inbox(board: Board, agent_id: str) -> list[dict[str, Any]]:
    """What the server has told an agent, in order."""
    rows = await board.rows(
        "SELECT payload FROM message_queue WHERE target_agent_id = :id ORDER BY id", id=agent_id
    )
    return [json.loads(payload) for (payload,) in rows]


async def ledger(board: Board, path: str) -> list[str]:
    """What the ledger says of the leases on a path, in order."""
    rows = await board.rows(
        "SELECT action_type FROM activity_log WHERE json_extract(details, '$.file_path') = :path"
        " ORDER BY seq",
        path=path,
    )
    return [str(kind) for (kind,) in rows]


# Who may hold what


async def test_a_held_file_is_refused_to_others_with_holder_and_seconds_left(board: Board) -> None:
    """L1, L6"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "src/main.py", reason="refactor")
    board.clock.turn(10)
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="src/*.py")
    assert (refusal["code"], refusal["holder"], refusal["remaining_seconds"]) == ("lock_held", "ann", 590)
    assert (refusal["holder_role"], refusal["reason"]) == ("developer", "refactor")
    assert (refusal["blocked_by"], refusal["held_path"], refusal["queue_place"]) == (
        "holder",
        "src/main.py",
        1,
    )


OVERLAPPING = (
    ("src/main.py", "src/main.py"),
    ("src/main.py", "src/*.py"),
    ("src/main.py", "**"),
    ("src/main.py", "."),
    ("src/main.py", "src/"),
    ("src/main.py", "src"),
    ("src/main.py", "./src/main.py"),
    ("src/main.py", "src//main.py"),
    ("src/main.py", "src\\main.py"),
    ("src/main.py", "src/../src/main.py"),
    ("src/main.py", "{root}/src/main.py"),
    ("src/main.py", "src/main.py/below"),
    ("src/caf\u00e9.py", "src/cafe\u0301.py"),
    ("src/", "src/not/there/yet.py"),
    ("src/*.py", "src/a*"),
    ("src/a?.py", "src/*b.py"),
    ("src/*/t.py", "src/a/*"),
    ("**/x.py", "src/**"),
    ("a/**/x.py", "a/b/**"),
    ("a/**", "a"),
)
APART = (
    ("src/main.py", "docs/*"),
    ("src/main.py", "src/main.pyx"),
    ("src/main.py", "src/mai"),
    ("src/main.py", "src/*.md"),
    ("src/", "srcs/main.py"),
    ("src/*.py", "src/*.md"),
    ("src/a/*.py", "src/b/*.py"),
    ("a/*/x.py", "a/*/y.py"),
)


async def test_two_paths_that_share_a_file_have_one_holder(board: Board) -> None:
    """L1, L13, L14: whichever of the two comes first."""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    for held, asked in OVERLAPPING:
        asked = asked.format(root=board.folder)
        for first, second in ((held, asked), (asked, held)):
            await take(ann, first)
            refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path=second)
            assert (refusal["code"], refusal["holder"]) == ("lock_held", "ann"), (first, second)
            assert (await ann.release_file_lock(file_path=first))["released"] is True
            assert (await take(ben, second))["agent_id"] == "ben"
            await ben.release_file_locks()


async def test_paths_without_a_common_file_are_granted_side_by_side(board: Board) -> None:
    """L6, L13"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    for held, asked in APART:
        await take(ann, held)
        await take(ben, asked)
        assert [row[1] for row in await board.rows(LEASES)] == ["ann", "ben"]
        await ann.release_file_locks()
        await ben.release_file_locks()


async def test_a_path_that_has_no_canonical_name_is_refused(board: Board) -> None:
    """L13, L14"""
    ann = await board.agent("ann")
    for path in ("../x", "src/../../x", "/etc/passwd", "src/[ab].py", "src/{a,b}.py", "a\nb"):
        refusal = await board.refusal("acquire_file_lock", agent_id=ann.id, file_path=path)
        assert (refusal["code"], bool(refusal["rule"])) == ("invalid_path", True), path


async def test_a_linked_folder_and_its_target_are_one_place(board: Board) -> None:
    """L14"""
    (board.folder / "src").mkdir()
    (board.folder / "link").symlink_to("src")
    ann, ben = await board.agent("ann"), await board.agent("ben")
    assert (await take(ann, "link/main.py"))["file_path"] == "src/main.py"
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="src/main.py")
    assert refusal["code"] == "lock_held"


async def test_readers_share_a_path_and_keep_writers_out(board: Board) -> None:
    """L1"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "src/a.py", mode="shared")
    await take(ben, "src/", mode="shared")
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="src/a.py")
    assert (refusal["code"], refusal["holder"], refusal["mode"]) == ("lock_held", "ann", "shared")
    await take(ann, "docs/x.md")
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="docs/x.md", mode="shared")
    assert refusal["mode"] == "exclusive"


async def test_the_only_reader_may_become_the_writer_under_a_new_fence(board: Board) -> None:
    """L2, L3, L8"""
    ann = await board.agent("ann")
    shared = await take(ann, "a.py", mode="shared")
    exclusive = await take(ann, "a.py", ttl_seconds=5)
    assert exclusive["fence"] > shared["fence"]
    assert exclusive["remaining_seconds"] == 600  # the time that it had been given already
    assert exclusive["refreshed"] is False
    assert [row[2] for row in await board.rows(LEASES)] == ["exclusive"]
    again = await take(ann, "a.py", mode="shared")
    assert (again["mode"], again["fence"]) == ("exclusive", exclusive["fence"])


async def test_all_the_paths_of_a_request_are_granted_or_none(board: Board) -> None:
    """L7"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "b.py")
    refusal = await board.refusal("acquire_file_locks", agent_id=ben.id, file_paths=["a.py", "b.py", "c.py"])
    assert (refusal["code"], refusal["file_path"]) == ("lock_held", "b.py")
    assert [row[1] for row in await board.rows(LEASES)] == ["ann"]
    await ann.release_file_lock(file_path="b.py")
    granted = await ben.acquire_file_locks(file_paths=["a.py", "b.py", "./a.py"])
    assert [lock["file_path"] for lock in granted["locks"]] == ["a.py", "b.py"]


async def test_a_reader_sees_all_paths_of_a_grant_or_none(board: Board) -> None:
    """L7"""
    ann = await board.agent("ann")
    seen = set()
    for _ in range(20):
        taken, (rows,) = await asyncio.gather(
            ann.acquire_file_locks(file_paths=["a", "b", "c", "d"]),
            board.rows("SELECT count(*) FROM _leases"),
        )
        assert len(taken["locks"]) == 4
        seen.add(rows[0])
        await ann.release_file_locks()
    assert seen <= {0, 4}


# Fences


async def test_fences_only_rise_whoever_is_granted_what(boards: Boards) -> None:
    """L2: over releases, expiries and restarts, when no lease is left to count from."""
    fences = []
    for ending in ("release", "expire", "force", "refresh"):
        async with boards() as board:
            ann = await board.agent("ann")
            fences.append((await take(ann, "a.py", ttl_seconds=5))["fence"])
            if ending == "release":
                await ann.release_file_lock(file_path="a.py")
            elif ending == "expire":
                await board.turn(5)
            elif ending == "force":
                human = await board.human()
                await board.call("force_release_file_lock", token=human, file_path="a.py", reason="stuck")
    assert fences == sorted(set(fences))


async def test_asking_again_for_an_own_lock_refreshes_it(board: Board) -> None:
    """L8: same fence and reason, and never less time than before."""
    ann = await board.agent("ann")
    first = await take(ann, "a.py", ttl_seconds=600, reason="refactor")
    board.clock.turn(10)
    again = await take(ann, "a.py", ttl_seconds=60)
    assert (again["fence"], again["reason"], again["refreshed"]) == (first["fence"], "refactor", True)
    assert again["remaining_seconds"] >= 590
    longer = await take(ann, "a.py", ttl_seconds=3600, reason="more of it")
    assert (longer["remaining_seconds"], longer["reason"]) == (3600, "more of it")
    assert await ledger(board, "a.py") == ["lock_acquired", "lock_renewed", "lock_renewed"]


async def test_a_lock_inside_an_own_one_is_its_own_lease(board: Board) -> None:
    """L8"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    tree = await take(ann, "src/")
    file = await take(ann, "src/a.py")
    assert file["fence"] > tree["fence"]
    await ann.release_file_lock(file_path="src")
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="src/a.py")
    assert refusal["held_path"] == "src/a.py"
    assert (await take(ben, "src/b.py"))["agent_id"] == "ben"


async def test_a_guard_learns_whether_a_fence_still_stands(board: Board) -> None:
    """L2, L4"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    old = (await take(ann, "src/", ttl_seconds=5))["fence"]
    state = await ann.check_file_lock(file_path="src/a.py", fence=old)
    assert (state["state"], state["fence_stands"]) == ("yours", True)
    assert (await ben.check_file_lock(file_path="src/a.py"))["state"] == "held"
    board.clock.turn(10)
    new = (await take(ben, "src/a.py"))["fence"]
    assert (await ann.check_file_lock(file_path="src/a.py", fence=old))["fence_stands"] is False
    assert (await ben.check_file_lock(file_path="src/a.py", fence=new))["fence_stands"] is True
    assert (await ann.check_file_lock(file_path="docs"))["state"] == "free"


# How long a lease lives


async def test_a_lease_stands_for_its_whole_time_and_not_a_millisecond_more(board: Board) -> None:
    """L3"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "a.py", ttl_seconds=5)
    board.clock.turn(4.999)
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="a.py")
    assert (refusal["code"], refusal["retry_after_ms"]) == ("lock_held", 1)
    board.clock.turn(0.001)
    assert (await ben.check_file_lock(file_path="a.py"))["state"] == "free"
    assert (await take(ben, "a.py"))["agent_id"] == "ben"


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_step_of_the_wall_clock_moves_no_lease(board: Board, days: int) -> None:
    """L3"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "a.py", ttl_seconds=5)
    board.clock.step_wall(days * 86_400)
    await board.turn(4.999)
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="a.py")
    assert refusal["code"] == "lock_held"
    await board.turn(0.001)
    assert (await take(ben, "a.py"))["agent_id"] == "ben"


@pytest.mark.parametrize("swept", [False, True])
async def test_a_lapsed_lease_is_never_revived(board: Board, swept: bool) -> None:
    """L4: even if nobody took the path, and by none of the calls that renew."""
    ann = await board.agent("ann")
    fence = (await take(ann, "a.py", ttl_seconds=5))["fence"]
    board.clock.turn(5)
    if swept:
        await board.opened.sweep()
    await ann.heartbeat()
    for tool in ("renew_file_lock", "release_file_lock"):
        refusal = await board.refusal(tool, agent_id=ann.id, file_path="a.py", fence=fence)
        assert (refusal["code"], refusal["fence"]) == ("lease_expired", fence)
    refusal = await board.refusal("renew_file_lock", agent_id=ann.id, file_path="a.py")
    assert refusal["code"] == "lease_expired"
    await board.opened.sweep()
    assert await board.rows(LEASES) == []


async def test_a_superseded_fence_changes_nothing(board: Board) -> None:
    """L4"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    old = (await take(ann, "a.py", ttl_seconds=5))["fence"]
    board.clock.turn(5)
    current = (await take(ben, "a.py"))["fence"]
    before = await board.rows(LEASES)
    for tool in ("renew_file_lock", "release_file_lock"):
        refusal = await board.refusal(tool, agent_id=ann.id, file_path="a.py", fence=old)
        assert (refusal["code"], refusal["current"], refusal["holder"]) == ("stale_fence", current, "ben")
        refusal = await board.refusal(tool, agent_id=ben.id, file_path="a.py", fence=old)
        assert (refusal["code"], refusal["given"]) == ("stale_fence", old)
    assert await board.rows(LEASES) == before


async def test_renewal_gives_the_time_that_it_names(board: Board) -> None:
    """L3, L8"""
    ann = await board.agent("ann")
    fence = (await take(ann, "a.py", ttl_seconds=60))["fence"]
    renewed = await ann.renew_file_lock(file_path="a.py", ttl_seconds=3600, fence=fence)
    assert (renewed["fence"], renewed["remaining_seconds"]) == (fence, 3600)
    await take(ann, "b.py", mode="shared", ttl_seconds=60)
    assert (await ann.renew_file_lock(file_path="b.py"))["mode"] == "shared"


async def test_any_call_of_an_agent_renews_what_it_holds(board: Board) -> None:
    """L3: also a call that only reads, and one that is refused."""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "a.py", ttl_seconds=10)
    await take(ben, "b.py", ttl_seconds=100)
    for _ in range(5):
        await board.turn(9)
        await ann.list_file_locks()
        await board.settle()
        await board.turn(9)
        await board.refusal("acquire_file_lock", agent_id=ann.id, file_path="b.py")
        await board.settle()
    await board.turn(9.999)
    assert (await ben.check_file_lock(file_path="a.py"))["state"] == "held"
    await board.turn(2)
    assert (await ben.check_file_lock(file_path="a.py"))["state"] == "free"


async def test_calls_renew_a_lease_for_four_hours_at_most(board: Board) -> None:
    """L3: after that only what names the lease keeps it."""
    ann = await board.agent("ann")
    await take(ann, "a.py", ttl_seconds=3600)
    await take(ann, "b.py", ttl_seconds=3600)
    for _ in range(7):
        await board.turn(1800)
        await ann.heartbeat()
        await board.settle()
    await ann.renew_file_lock(file_path="b.py", ttl_seconds=3600)
    await board.turn(1800)
    assert [row[0].rpartition(":")[2] for row in await board.rows(LEASES)] == ["b.py"]
    assert [told["file_path"] for told in await inbox(board, "ann")] == ["a.py"]


async def test_the_end_of_a_lease_is_told_to_its_holder_and_the_ledger(board: Board) -> None:
    """L3, L16"""
    ann = await board.agent("ann")
    fence = (await take(ann, "a.py", ttl_seconds=5))["fence"]
    await board.turn(5)
    [told] = await inbox(board, "ann")
    assert (told["event"], told["file_path"], told["fence"]) == ("lock_expired", "a.py", fence)
    assert await ledger(board, "a.py") == ["lock_acquired", "lock_expired"]
    assert (await ann.whoami())["unread"] == 1


async def test_a_path_may_rest_after_a_lease_was_lost(board: Board) -> None:
    """L17: after expiry, not after a release, and not for the agent that lost it."""
    await board.opened.set_lock_delay(2)
    ann, ben = await board.agent("ann"), await board.agent("ben")
    fence = (await take(ann, "src/a.py", ttl_seconds=5))["fence"]
    await board.turn(5)
    [told] = await inbox(board, "ann")
    assert told["text"].startswith(f"You lost src/a.py (fence {fence})")
    refusal = await board.refusal("acquire_file_lock", agent_id=ben.id, file_path="src/")
    assert (refusal["code"], refusal["blocked_by"], refusal["retry_after_ms"]) == ("lock_held", "delay", 2000)
    await board.turn(2)
    await take(ben, "src/")
    await ben.release_file_lock(file_path="src/")
    await take(ann, "src/a.py", ttl_seconds=5)
    await board.turn(5)
    await take(ann, "src/a.py")


async def test_without_a_delay_a_lost_path_is_free_at_once(board: Board) -> None:
    """L17: the default."""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "a.py", ttl_seconds=5)
    board.clock.turn(5)
    assert (await take(ben, "a.py"))["granted_after_ms"] == 0


# Giving back and taking away


async def test_only_the_holder_gives_a_lock_back(board: Board) -> None:
    """L5"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    fence = (await take(ann, "a.py"))["fence"]
    before = await board.rows(LEASES)
    for tool in ("renew_file_lock", "release_file_lock"):
        known: dict[str, Any]
        for known in ({}, {"fence": fence}):
            refusal = await board.refusal(tool, agent_id=ben.id, file_path="a.py", **known)
            assert (refusal["code"], refusal["owner"]) == ("not_owner", "ann")
    assert (await ben.release_file_locks())["released"] == []
    assert await board.rows(LEASES) == before


async def test_releasing_what_nobody_holds_is_answered(board: Board) -> None:
    """L5"""
    ann = await board.agent("ann")
    assert (await ann.release_file_lock(file_path="a.py"))["released"] is False
    await take(ann, "src/")
    assert (await ann.release_file_lock(file_path="src/a.py"))["released"] is False


async def test_the_locks_of_one_task_are_released_together(board: Board) -> None:
    ann = await board.agent("ann")
    await take(ann, "a.py", task_id="t1")
    await take(ann, "b.py", task_id="t1", mode="shared")
    await take(ann, "c.py", task_id="t2")
    assert sorted((await ann.release_file_locks(task_id="t1"))["released"]) == ["a.py", "b.py"]
    assert (await ann.release_file_locks())["released"] == ["c.py"]


async def test_a_lead_takes_a_lock_from_its_own_crew_only(board: Board) -> None:
    """L5"""
    boss, other = await board.agent("boss", "lead"), await board.agent("other", "lead")
    ann = await board.agent("ann", lead_id="boss")
    old = (await take(ann, "a.py"))["fence"]
    arguments: dict[str, Any] = {"file_path": "a.py", "reason": "it is stuck"}
    for stranger in (ann, other):
        refusal = await board.refusal("force_release_file_lock", agent_id=stranger.id, **arguments)
        assert refusal["code"] == "forbidden"
    taken = await boss.force_release_file_lock(**arguments)
    assert [lock["fence"] for lock in taken["released"]] == [old]
    [told] = await inbox(board, "ann")
    assert (told["event"], told["by"], told["reason"]) == ("lock_force_released", "boss", "it is stuck")
    assert (await ann.check_file_lock(file_path="a.py", fence=old))["fence_stands"] is False
    refusal = await board.refusal("release_file_lock", agent_id="ann", file_path="a.py", fence=old)
    assert refusal["code"] == "lease_expired"
    assert await ledger(board, "a.py") == ["lock_acquired", "lock_force_released"]
    [(actor, why)] = await board.rows(
        "SELECT agent_id, json_extract(details, '$.reason') FROM activity_log"
        " WHERE action_type = 'lock_force_released'"
    )
    assert (actor, why) == ("boss", "it is stuck")
    refusal = await board.refusal("force_release_file_lock", agent_id="boss", **arguments)
    assert refusal["code"] == "not_found"


async def test_a_human_takes_a_lock_from_any_crew(board: Board) -> None:
    """L5"""
    await board.agent("boss", "lead")
    ann, ben = await board.agent("ann", lead_id="boss"), await board.agent("ben", "lead")
    await take(ann, "a.py", mode="shared")
    await take(ben, "a.py", mode="shared")
    human = await board.human()
    taken = await board.call("force_release_file_lock", token=human, file_path="a.py", reason="release day")
    assert [lock["agent_id"] for lock in taken["released"]] == ["ann", "ben"]
    assert [told["by"] for told in await inbox(board, "ben")] == ["human:maria"]


async def test_the_agents_end_ends_its_locks(board: Board) -> None:
    """L10, L16"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await take(ann, "a.py")
    assert (await ann.terminate_agent())["released"] == ["a.py"]
    await take(ben, "a.py")
    assert await ledger(board, "a.py") == ["lock_acquired", "lock_released", "lock_acquired"]
