"""Sessions: one live run for each crew, resumed by one winner."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from callboard.errors import Refused
from tests.conftest import Agent, Board, Boards

FACTS = """
    SELECT action_type FROM activity_log
     WHERE action_type LIKE 'session_%' AND details ->> 'session_row_id' = :id ORDER BY id
"""
STATUSES = "SELECT id, status, started_at, ended_at FROM project_sessions ORDER BY id"


@pytest.fixture
async def lea(board: Board) -> Agent:
    return await board.agent("lea", role="lead")


async def resumed(lea: Agent, session_row_id: int) -> dict[str, Any]:
    """Resume a session with both of its calls."""
    claim = await lea.resume_project_session(session_row_id=session_row_id)
    active: dict[str, Any] = await lea.resume_project_session(
        session_row_id=session_row_id, claim_epoch=claim["claim_epoch"]
    )
    return active


async def test_a_session_is_its_crews_from_start_to_end(board: Board, lea: Agent) -> None:
    started = await lea.start_project_session(task="ship it")
    assert (started["status"], started["lead_id"], started["role"]) == ("active", "lea", "lead")
    board.clock.turn(60)
    ended = await lea.end_project_session(status="completed")
    assert ended["session_row_id"] == started["session_row_id"]
    assert (ended["status"], ended["started_at"]) == ("completed", started["started_at"])
    assert ended["ended_at"] > ended["started_at"]
    assert "record_session_retro" in ended["next"]
    assert await board.rows(FACTS, id=1) == [("session_started",), ("session_ended",)]


async def test_a_crew_has_one_live_session_and_another_crew_its_own(board: Board, lea: Agent) -> None:
    first = await lea.start_project_session(task="one")
    refused = await board.refusal("start_project_session", agent_id="lea", task="two")
    assert (refused["code"], refused["session_row_id"]) == ("conflict", first["session_row_id"])
    mia = await board.agent("mia", role="lead")
    assert (await mia.start_project_session(task="three"))["status"] == "active"
    listed = (await lea.list_project_sessions())["sessions"]
    assert [(session["lead_id"], session["status"]) for session in listed] == [
        ("lea", "active"),
        ("mia", "active"),
    ]


async def test_a_session_knows_that_of_its_leads_own_program(board: Board) -> None:
    lea = await board.agent("lea", role="lead", session_id="p-1")
    assert (await lea.start_project_session(task="one"))["session_id"] == "p-1"
    await lea.update_agent(session_id="p-2")
    assert (await lea.end_project_session())["session_id"] == "p-2"
    await lea.update_agent(session_id="p-3")
    assert (await resumed(lea, 1))["session_id"] == "p-3"
    await lea.update_agent(session_id="p-4")
    await lea.terminate_agent()
    assert await board.rows("SELECT status, session_id FROM project_sessions") == [("crashed", "p-4")]


async def test_a_second_end_tells_how_the_first_one_was(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    first = await lea.end_project_session(status="stopped")
    refused = await board.refusal("end_project_session", agent_id="lea", status="completed")
    assert refused["code"] == "invalid_transition"
    assert (refused["status"], refused["ended_at"]) == ("stopped", first["ended_at"])


async def test_a_crew_without_a_session_has_none_to_end(board: Board, lea: Agent) -> None:
    assert (await board.refusal("end_project_session", agent_id="lea"))["code"] == "not_found"


async def test_a_worker_neither_starts_nor_ends_nor_resumes_nor_lists_sessions(
    board: Board, lea: Agent
) -> None:
    await lea.start_project_session(task="one")
    await board.agent("ann", lead_id="lea")
    for tool, arguments in (
        ("start_project_session", {"task": "mine"}),
        ("end_project_session", {}),
        ("resume_project_session", {"session_row_id": 1}),
        ("list_project_sessions", {}),
    ):
        assert (await board.refusal(tool, agent_id="ann", **arguments))["code"] == "forbidden"


async def test_another_crews_session_looks_like_one_that_is_not_there(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    await board.agent("mia", role="lead")
    for tool in ("end_project_session", "resume_project_session"):
        theirs = await board.refusal(tool, agent_id="mia", session_row_id=1)
        absent = await board.refusal(tool, agent_id="mia", session_row_id=99)
        assert theirs["code"] == "not_found"
        assert str(theirs).replace("1", "99") == str(absent)


@pytest.mark.parametrize("ending", ["completed", "crashed", "stopped"])
async def test_an_ended_session_is_resumed_and_keeps_its_start(board: Board, lea: Agent, ending: str) -> None:
    started = await lea.start_project_session(task="one")
    board.clock.turn(60)
    await lea.end_project_session(status=ending)
    claim = await lea.resume_project_session(session_row_id=1)
    assert (claim["status"], claim["claimed_by"], claim["seconds_left"]) == ("resuming", "lea", 60)
    board.clock.turn(30)
    again = await lea.resume_project_session(session_row_id=1, claim_epoch=claim["claim_epoch"])
    assert (again["status"], again["lead_id"], again["started_at"]) == (
        "active",
        "lea",
        started["started_at"],
    )
    assert again["resumed_at"] > again["started_at"]
    assert "ended_at" not in again and "claimed_by" not in again


async def test_each_resume_is_a_fact_of_its_own(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    for _ in range(2):
        await lea.end_project_session(status="stopped")
        await resumed(lea, 1)
    assert [kind for (kind,) in await board.rows(FACTS, id=1)] == [
        "session_started",
        *["session_ended", "session_claimed", "session_resumed"] * 2,
    ]


async def test_only_its_claimer_makes_a_session_active_and_only_by_its_claim(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")  # in the leaderless crew both may lead
    await ann.start_project_session(task="one")
    await ann.end_project_session()
    claim = await ann.resume_project_session(session_row_id=1)
    epoch = claim["claim_epoch"]
    taken = await board.refusal("resume_project_session", agent_id="ben", session_row_id=1)
    assert (taken["code"], taken["holder"], taken["retry_after_ms"]) == ("already_claimed", "ann", 60_000)
    for agent_id, given in (("ben", epoch), ("ann", epoch + 1)):
        refused = await board.refusal(
            "resume_project_session", agent_id=agent_id, session_row_id=1, claim_epoch=given
        )
        assert refused["code"] == "stale_claim"
    assert (await board.refusal("end_project_session", agent_id="ben"))["code"] == "invalid_transition"
    assert (await ann.resume_project_session(session_row_id=1, claim_epoch=epoch))["status"] == "active"
    assert (await board.refusal("resume_project_session", agent_id=ben.id, session_row_id=1))["code"] == (
        "invalid_transition"
    )


async def test_a_claimer_that_dies_leaves_the_session_stopped_and_free_to_resume(
    board: Board, lea: Agent
) -> None:
    await lea.start_project_session(task="one")
    ended = await lea.end_project_session(status="completed")
    claim = await lea.resume_project_session(session_row_id=1)
    await board.turn(59.999)
    assert [row[1] for row in await board.rows(STATUSES)] == ["resuming"]
    await board.turn(0.001)
    [(_, status, _, ended_at)] = await board.rows(STATUSES)
    assert (status, ended_at) == ("stopped", ended["ended_at"])
    late = await board.refusal(
        "resume_project_session", agent_id="lea", session_row_id=1, claim_epoch=claim["claim_epoch"]
    )
    assert (late["code"], late["status"]) == ("stale_claim", "stopped")
    assert (await resumed(lea, 1))["status"] == "active"


async def test_a_claim_that_ran_out_is_over_before_anybody_sweeps(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    await lea.end_project_session()
    await lea.resume_project_session(session_row_id=1)
    board.clock.turn(60)
    assert (await lea.start_project_session(task="two"))["session_row_id"] == 2
    assert [row[1] for row in await board.rows(STATUSES)] == ["stopped", "active"]


async def test_a_session_is_not_resumed_beside_a_live_one(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    await lea.end_project_session()
    await lea.start_project_session(task="two")
    refused = await board.refusal("resume_project_session", agent_id="lea", session_row_id=1)
    assert (refused["code"], refused["session_row_id"]) == ("conflict", 2)


@pytest.mark.parametrize("servers", [1, 5])
async def test_of_ten_that_resume_at_once_one_wins(boards: Boards, servers: int) -> None:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(boards()) for _ in range(servers)]
        agents = [await opened[0].agent(f"ann-{number}") for number in range(10)]
        await agents[0].start_project_session(task="one")
        await agents[0].end_project_session(status="stopped")

        async def resume(number: int) -> dict[str, Any] | str:
            try:
                return await opened[number % servers].call(
                    "resume_project_session", agent_id=f"ann-{number}", session_row_id=1
                )
            except Refused as refused:
                return refused.code

        answers = await asyncio.gather(*map(resume, range(10)))
        won = [answer for answer in answers if isinstance(answer, dict)]
        assert [answer["status"] for answer in won] == ["resuming"]
        assert sorted(answer for answer in answers if isinstance(answer, str)) == ["already_claimed"] * 9


async def test_of_ten_calls_of_one_agent_that_resume_at_once_one_wins(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    await lea.end_project_session(status="stopped")
    answers = await asyncio.gather(
        *(lea.resume_project_session(session_row_id=1) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(answer, dict) for answer in answers) == 1


async def test_a_lead_that_leaves_ends_its_session_as_crashed(board: Board, lea: Agent) -> None:
    mia = await board.agent("mia", role="lead")
    await lea.start_project_session(task="one")
    await mia.start_project_session(task="two")
    await board.agent("ann", lead_id="lea")
    await lea.terminate_agent()
    assert [row[1] for row in await board.rows(STATUSES)] == ["crashed", "active"]


async def test_a_worker_that_leaves_ends_no_session(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    ann = await board.agent("ann", lead_id="lea")
    await ann.terminate_agent()
    assert [row[1] for row in await board.rows(STATUSES)] == ["active"]


async def test_a_session_goes_on_under_the_successor_of_its_lead(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    ann = await board.agent("ann", lead_id="lea")
    await lea.terminate_agent(successor_id="ann")
    assert [row[1] for row in await board.rows(STATUSES)] == ["active"]
    assert (await ann.end_project_session())["lead_id"] == "lea"


async def test_the_session_of_a_leaderless_crew_crashes_with_its_last_member(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.start_project_session(task="one")
    await ann.terminate_agent()
    assert [row[1] for row in await board.rows(STATUSES)] == ["active"]
    await ben.terminate_agent()
    assert [row[1] for row in await board.rows(STATUSES)] == ["crashed"]


async def test_a_lead_whose_program_is_gone_ends_its_session_as_crashed_and_may_resume_it(
    boards: Boards,
) -> None:
    async with boards() as board:
        async with boards(transport="stdio") as own:
            await own.agent("lea", role="lead")
            await own.call("start_project_session", agent_id="lea", task="one")
        await board.turn(29)
        assert [row[1] for row in await board.rows(STATUSES)] == ["active"]
        await board.turn(2)
        assert [row[1] for row in await board.rows(STATUSES)] == ["crashed"]
        lea = await board.agent("lea", role="lead")
        assert (await resumed(lea, 1))["status"] == "active"


async def test_a_newcomer_joins_the_live_lead_whose_session_started_last(board: Board) -> None:
    lea, mia = await board.agent("lea", role="lead"), await board.agent("mia", role="lead")
    board.clock.turn(1)
    await board.agent("zoe", role="lead")  # signed in last, and has no session
    await mia.start_project_session(task="one")
    board.clock.turn(1)
    await lea.start_project_session(task="two")
    board.clock.turn(1)
    for agent in (lea, mia):
        await agent.heartbeat()
    ann = await board.call("register_agent", agent_id="ann", role="developer")
    assert (ann["lead_id"], ann["led_by"], ann["joined"]) == ("lea", "lea", "live lead")
    await lea.end_project_session()
    ben = await board.call("register_agent", agent_id="ben", role="developer")
    assert ben["lead_id"] == "mia"
    await mia.end_project_session()
    cat = await board.call("register_agent", agent_id="cat", role="developer")
    assert cat["lead_id"] == "zoe"


async def test_a_silent_lead_is_not_joined_although_its_session_is_live(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    await lea.start_project_session(task="one")
    board.clock.turn(120)
    await board.agent("mia", role="lead")
    assert (await board.call("register_agent", role="developer"))["lead_id"] == "mia"


async def test_a_human_steers_and_lists_the_sessions_of_every_crew(board: Board, lea: Agent) -> None:
    await lea.start_project_session(task="one")
    human = await board.human()
    assert (await board.call("end_project_session", token=human, session_row_id=1))["status"] == "completed"
    claim = await board.call("resume_project_session", token=human, session_row_id=1)
    active = await board.call(
        "resume_project_session", token=human, session_row_id=1, claim_epoch=claim["claim_epoch"]
    )
    assert (active["status"], active["lead_id"]) == ("active", "lea")


async def test_sessions_are_paged_and_chosen_by_status(board: Board, lea: Agent) -> None:
    for ending in ("completed", "stopped", "completed"):
        await lea.start_project_session(task=ending)
        await lea.end_project_session(status=ending)
    first = await lea.list_project_sessions(status="completed", limit=1)
    second = await lea.list_project_sessions(status="completed", after_id=first["next_after_id"])
    assert [row["session_row_id"] for row in first["sessions"] + second["sessions"]] == [1, 3]
    assert "next_after_id" not in second
