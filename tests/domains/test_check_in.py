"""Checking in: what the first call of a turn does and tells."""

import asyncio
from typing import Any

import pytest

from callboard.domains.crew import checking_in as views
from tests.conftest import Agent, Board

Answer = dict[str, Any]


@pytest.fixture
async def crew(board: Board) -> tuple[Agent, Agent, Agent]:
    """`lea` leads, `ann` and `ben` develop; all have checked in once."""
    lea = await board.agent("lea", role="lead")
    ann, ben = await board.agent("ann"), await board.agent("ben")
    for agent in (lea, ann, ben):
        await agent.check_in()
    return lea, ann, ben


def about(answer: Answer) -> list[tuple[str, str]]:
    return [(change["kind"], change["id"]) for change in answer["changes"]]


async def test_a_first_check_in_says_so_and_tells_no_history(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    await lea.add_dag_task(id="old", role="developer")
    ann = await board.agent("ann")
    first = await ann.check_in()
    assert first["changes"] == []
    assert "get_briefing" in first["next"]
    assert "next" not in await ann.check_in()


async def test_it_hands_out_the_messages_with_receipts_once(crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await lea.send_message(to="ann", content="the parser first")
    answer = await ann.check_in()
    [message] = answer["messages"]
    assert message["text"] == f"<{answer['mark']}>\nthe parser first\n</{answer['mark']}>"
    assert (await ann.check_in())["messages"] == []
    acknowledged = await ann.receive_messages(ack_ids=[message["message_id"]])
    assert acknowledged["acknowledged"] == [message["message_id"]]


async def test_it_tells_what_the_agent_holds_and_for_how_long(crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await lea.add_dag_task(id="parse", role="developer", title="Parse it", files=["src/parse.py"])
    await ann.claim_next_dag_task(lock_files=True)
    await ann.acquire_file_lock(file_path="docs/", mode="shared", ttl_seconds=60)
    answer = await ann.check_in()
    docs, parse = answer["locks"]
    assert (docs["file_path"], docs["mode"], docs["remaining_seconds"]) == ("docs", "shared", 60)
    assert (parse["file_path"], parse["task_id"]) == ("src/parse.py", "parse")
    [task] = answer["tasks"]
    assert (task["task_id"], task["title"], task["dag_status"]) == ("parse", "Parse it", "running")
    assert answer["locks_held"] == 2


async def test_it_renews_what_the_agent_holds_before_it_tells(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await lea.add_dag_task(id="parse", role="developer")
    await ann.claim_next_dag_task()
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=60)
    board.clock.turn(40)
    answer = await ann.check_in()
    assert answer["locks"][0]["remaining_seconds"] >= 60
    assert answer["tasks"][0]["remaining_seconds"] >= 600


async def test_it_names_the_tasks_that_could_be_taken_and_not_those_whose_files_are_busy(
    crew: tuple[Agent, ...],
) -> None:
    lea, ann, ben = crew
    await lea.add_dag_task(id="busy", role="developer", files=["src/a.py"], priority=9)
    await lea.add_dag_task(id="free", role="developer", files=["src/b.py"])
    await lea.add_dag_task(id="foreign", role="architect")
    await ben.acquire_file_lock(file_path="src/a.py")
    assert [task["task_id"] for task in (await ann.check_in())["ready"]] == ["free"]


async def test_work_that_was_handed_in_waits_for_its_reviewer_and_not_for_its_author(
    crew: tuple[Agent, ...],
) -> None:
    lea, ann, ben = crew
    await lea.add_dag_tasks(tasks=[{"id": "a", "role": "developer"}, {"id": "b", "role": "developer"}])
    await ann.claim_dag_task(task_id="a")
    await ann.submit_dag_task(task_id="a", reviewer_id="ben")
    await ann.claim_dag_task(task_id="b")
    await ann.submit_dag_task(task_id="b")

    async def reviews(agent: Agent) -> list[str]:
        return [task["task_id"] for task in (await agent.check_in()).get("to_review", [])]

    assert (await reviews(lea), await reviews(ann), await reviews(ben)) == (["b"], [], ["a"])


async def test_decisions_that_wait_for_a_human_are_told_to_whom_they_concern(
    crew: tuple[Agent, ...],
) -> None:
    lea, ann, ben = crew
    own = await ann.record_decision(title="Drop Python 3.10", needs_confirmation=True)
    asked = await lea.record_decision(title="Pay for a server", needs_confirmation=True)
    await lea.add_dag_task(id="deploy", role="developer")
    await ben.claim_next_dag_task()
    await lea.add_task_dependencies(task_id="deploy", depends_on=[f"decision:{asked['decision_id']}"])

    async def pending(agent: Agent) -> set[str]:
        return {decision["decision_id"] for decision in (await agent.check_in()).get("decisions", [])}

    assert await pending(ann) == {own["decision_id"]}
    assert await pending(ben) == {asked["decision_id"]}
    assert await pending(lea) == {own["decision_id"], asked["decision_id"]}


async def test_changes_are_told_once_and_none_is_lost_between_two_check_ins(
    crew: tuple[Agent, ...],
) -> None:
    lea, ann, ben = crew
    await lea.add_dag_task(id="a", role="developer", title="A")
    await ann.check_in()
    await lea.add_dag_task(id="b", role="developer", title="B")
    await ben.acquire_file_lock(file_path="x.py")
    answer = await ann.check_in()
    assert set(about(answer)) == {("task", "b"), ("file", "x.py")}
    assert (await ann.check_in())["changes"] == []
    again = await ann.catch_up(since_id=answer["since_id"])
    assert set(about(again)) == set(about(answer))


async def test_what_an_agent_does_itself_is_no_news_but_what_befalls_it_is(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    _, ann, _ = crew
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=5)
    assert about(await ann.check_in()) == []
    await board.turn(3_600 * 5)
    [change] = (await ann.catch_up())["changes"]
    assert (change["id"], change["concerns_you"]) == ("a.py", True)


async def test_what_a_message_of_the_same_answer_tells_is_not_told_again(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    lea, ann, _ = crew
    await lea.add_dag_task(id="a", role="developer")
    await ann.claim_next_dag_task()
    await lea.check_in()
    await ann.complete_dag_task(task_id="a", claim_epoch=1, summary="done")
    answer = await lea.check_in()
    assert [message["about"]["event"] for message in answer["messages"]] == ["task_completed"]
    assert about(answer) == []
    assert "changes_left_out" not in answer
    assert about(await lea.catch_up(since_id=answer["since_id"])) == [("task", "a")]


async def test_what_befell_a_file_after_a_message_told_of_it_is_told(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    _, ann, ben = crew
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=5)
    await ann.check_in()
    await board.turn(3_600 * 5)
    await ben.acquire_file_lock(file_path="a.py")
    await ben.record_file_touch(file_paths=["a.py"])
    answer = await ann.check_in()
    assert [message["about"]["event"] for message in answer["messages"]] == ["lock_expired"]
    [change] = answer["changes"]
    assert (change["id"], change["count"], change["summary"]) == ("a.py", 2, "edited a.py")


async def test_words_of_another_agent_hide_no_change(crew: tuple[Agent, ...]) -> None:
    lea, ann, ben = crew
    for name in ("a", "b"):
        await lea.add_dag_task(id=name, role="developer")
        await ann.claim_dag_task(task_id=name)
    await ben.check_in()
    await ann.submit_dag_task(task_id="a", reviewer_id="ben", summary="b")
    await ann.submit_dag_task(task_id="b")
    answer = await ben.check_in()
    assert [message["about"]["event"] for message in answer["messages"]] == ["task_submitted"]
    assert about(answer) == [("task", "b")]


async def test_more_changes_than_one_answer_shows_are_counted(crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await lea.add_dag_tasks(tasks=[{"id": f"t{number}", "role": "developer"} for number in range(30)])
    answer = await ann.check_in()
    assert len(answer["changes"]) == views.CHANGES
    assert answer["changes_left_out"] == 30 - views.CHANGES


async def test_it_waits_for_a_message(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    waiting = asyncio.create_task(ann.check_in(wait_seconds=50))
    while not board.clock.sleepers():
        await asyncio.sleep(0)
    await lea.send_message(to="ann", content="now")
    answer = await asyncio.wait_for(waiting, 5)
    assert len(answer["messages"]) == 1


async def test_it_waits_for_work_and_tells_when_there_is_none(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    waiting = asyncio.create_task(ann.check_in(wait_seconds=50))
    while not board.clock.sleepers():
        await asyncio.sleep(0)
    await lea.add_dag_task(id="a", role="developer")
    board.clock.turn(views.LOOK_MS / 1000)
    answer = await asyncio.wait_for(waiting, 5)
    assert [task["task_id"] for task in answer["ready"]] == ["a"]
    await ann.claim_next_dag_task()
    assert (await ann.check_in(wait_seconds=50))["tasks"]  # who has work need not wait


async def test_a_wait_in_vain_says_so_at_its_end(board: Board, crew: tuple[Agent, ...]) -> None:
    _, ann, _ = crew
    waiting = asyncio.create_task(ann.check_in(wait_seconds=1))
    while not board.clock.sleepers():
        await asyncio.sleep(0)
    board.clock.turn(1)
    assert (await asyncio.wait_for(waiting, 5))["timed_out"] is True


async def test_a_check_in_that_is_cancelled_keeps_the_news_for_the_next(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    _, ann, ben = crew
    waiting = asyncio.create_task(ann.check_in(wait_seconds=50))
    while not board.clock.sleepers():
        await asyncio.sleep(0)
    await ben.acquire_file_lock(file_path="x.py")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await board.settle()
    assert about(await ann.check_in()) == [("file", "x.py")]


async def test_a_repeated_check_in_gives_the_same_messages_and_news(crew: tuple[Agent, ...]) -> None:
    """Q7: an answer that was lost is not."""
    lea, ann, _ = crew
    await lea.send_message(to="ann", content="once")
    await lea.add_dag_task(id="a", role="developer")
    first = await ann.check_in(request_key="turn-7")
    second = await ann.check_in(request_key="turn-7")
    assert second.pop("replayed") is True
    for answer in (first, second):
        answer.pop("unread", None)
    assert first == second


async def test_a_person_checks_in_too(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, *_ = crew
    human = await board.human()
    await lea.send_message(to="human:maria", content="please look")
    assert len((await board.call("check_in", token=human))["messages"]) == 1
    await lea.add_dag_task(id="a", role="developer")
    asked = await lea.record_decision(title="Pay for it", needs_confirmation=True)
    answer = await board.call("check_in", token=human)
    assert ("task", "a") in about(answer)
    assert [decision["decision_id"] for decision in answer["decisions"]] == [asked["decision_id"]]


async def test_another_crews_affairs_are_no_news(board: Board, crew: tuple[Agent, ...]) -> None:
    """ID7"""
    _, ann, _ = crew
    mia = await board.agent("mia", role="lead")
    await mia.add_dag_task(id="canary", role="developer")
    await mia.record_decision(title="canary")
    await mia.acquire_file_lock(file_path="shared.py")
    answer = await ann.check_in()
    assert ("file", "shared.py") in about(answer)  # locks are the project's
    assert "canary" not in str(answer)


async def test_a_sign_of_life_names_the_claims_beside_the_locks(crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    assert "claims" not in await ann.heartbeat()
    await lea.add_dag_task(id="a", role="developer")
    await ann.claim_next_dag_task()
    assert (await ann.heartbeat())["claims"] == ["a"]
    [claim] = (await ann.whoami())["claims"]
    assert (claim["task_id"], claim["remaining_seconds"]) == ("a", 600)
