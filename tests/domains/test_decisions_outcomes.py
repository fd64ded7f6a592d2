"""What follows from a decision: who is told, what goes on, what holds instead, and who reads of it.

A docstring names the promise that its test proves.
"""

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Board
from tests.domains.deciding import Answer, Crew, convene, said, told


@pytest.fixture
async def crew(board: Board) -> Crew:
    return await convene(board)


# Who is told


@pytest.mark.parametrize("verdict", ["confirm", "reject", "dismiss"])
async def test_the_author_the_lead_and_the_crew_are_told_the_outcome_and_its_reason(
    crew: Crew, verdict: str
) -> None:
    asked = await crew.ask("Drop it")
    status = (await crew.resolve(verdict, asked, reason="because"))["status"]
    message = (await crew.ann.receive_messages())["messages"][0]
    assert message["text"].splitlines()[1:-1] == [
        f"human:maria has {status} the decision: Drop it",
        "",
        "because",
    ]
    event = (f"decision_{status}", asked["decision_id"])
    assert await told(crew.boss) == [(*event, "high")]
    assert await told(crew.ben) == [(*event, "normal")]


async def test_who_has_left_is_told_nothing(crew: Crew) -> None:
    asked = await crew.ask()
    await crew.boss.terminate_agent(target_agent_id="ann", reason="done")
    await crew.resolve("confirm", asked)
    assert await crew.board.rows("SELECT 1 FROM message_queue WHERE target_agent_id = 'ann'") == []


# Waiting


async def test_a_waiter_hears_of_the_outcome_at_once(crew: Crew) -> None:
    asked = await crew.ask()
    waiting = asyncio.create_task(
        crew.ann.wait_for_decision(decision_id=asked["decision_id"], wait_seconds=50)
    )
    while not crew.board.clock.sleepers():
        await asyncio.sleep(0)
    await crew.resolve("reject", asked, reason="no need")
    outcome = await waiting
    assert (outcome["status"], outcome["resolved_by"]) == ("rejected", "human:maria")
    assert said(outcome["reason"], outcome["mark"]) == "no need"


async def test_a_wait_without_an_outcome_says_so(crew: Crew) -> None:
    asked = await crew.ask()
    waiting = asyncio.create_task(
        crew.ann.wait_for_decision(decision_id=asked["decision_id"], wait_seconds=50)
    )
    while not crew.board.clock.sleepers():
        await asyncio.sleep(0)
    crew.board.clock.turn(50)
    assert (await waiting)["timed_out"] is True
    at_once = await crew.ann.wait_for_decision(decision_id=asked["decision_id"], wait_seconds=0)
    assert at_once["timed_out"] is True


async def test_what_needs_nobody_is_not_waited_for(crew: Crew) -> None:
    recorded = await crew.ann.record_decision(title="Use tabs")
    outcome = await crew.ben.wait_for_decision(decision_id=recorded["decision_id"])
    assert outcome == {
        "decision_id": recorded["decision_id"],
        "status": "recorded",
        "needs_confirmation": False,
    } | ({"unread": outcome["unread"]} if "unread" in outcome else {})


# Tasks


async def waiting_task(crew: Crew, asked: Answer) -> str:
    depends_on = [f"decision:{asked['decision_id']}"]
    added = await crew.boss.add_dag_task(id="build", role="developer", depends_on=depends_on)
    return str(added["dag_status"])


async def test_a_task_that_waits_for_a_decision_is_ready_when_it_is_confirmed(crew: Crew) -> None:
    asked = await crew.ask()
    assert await waiting_task(crew, asked) == "pending"
    assert (await crew.ann.get_decision(decision_id=asked["decision_id"]))["waiting_tasks"] == ["build"]
    claiming = asyncio.create_task(crew.ben.claim_next_dag_task(wait_seconds=50))
    while not crew.board.clock.sleepers():
        await asyncio.sleep(0)
    assert (await crew.resolve("confirm", asked))["newly_ready"] == ["build"]
    assert (await crew.ben.get_dag_task(task_id="build"))["dag_status"] == "ready"
    crew.board.clock.turn(60)
    assert (await claiming)["task"]["task_id"] == "build"


@pytest.mark.parametrize("ending", ["reject", "dismiss", "withdraw"])
async def test_a_task_whose_decision_is_turned_down_is_blocked_with_that_cause(
    crew: Crew, ending: str
) -> None:
    asked = await crew.ask()
    await waiting_task(crew, asked)
    if ending == "withdraw":
        await crew.ann.withdraw_decision(decision_id=asked["decision_id"], reason="no")
    else:
        await crew.resolve(ending, asked)
    task = await crew.boss.get_dag_task(task_id="build")
    assert task["dag_status"] == "blocked"
    assert task["root_cause"] == {
        "task_id": f"decision:{asked['decision_id']}",
        "dag_status": await crew.status(asked),
    }


# Superseding


async def test_what_holds_instead_is_shown_and_the_older_ones_status_stays(crew: Crew) -> None:
    old = await crew.ann.record_decision(title="Use tabs")
    new = await crew.ben.record_decision(title="Use spaces", supersedes=old["decision_id"])
    read = await crew.boss.get_decision(decision_id=old["decision_id"])
    assert (read["superseded_by"], read["status"]) == (new["decision_id"], "recorded")
    [_, line] = (await crew.boss.list_decisions())["decisions"]
    assert line["superseded_by"] == new["decision_id"]
    await crew.ben.withdraw_decision(decision_id=new["decision_id"], reason="no")
    assert "superseded_by" not in await crew.boss.get_decision(decision_id=old["decision_id"])


async def test_what_replaces_a_gated_decision_is_gated_and_holds_only_when_confirmed(crew: Crew) -> None:
    old = await crew.ask()
    await crew.resolve("confirm", old)
    new = await crew.boss.record_decision(title="Keep it", supersedes=old["decision_id"])
    assert new["needs_confirmation"] is True
    assert "superseded_by" not in await crew.ann.get_decision(decision_id=old["decision_id"])
    await crew.resolve("confirm", new)
    read = await crew.ann.get_decision(decision_id=old["decision_id"])
    assert read["superseded_by"] == new["decision_id"]


# Who reads what


async def test_another_crews_decision_reads_like_one_that_there_is_not(crew: Crew) -> None:
    """ID7"""
    asked = await crew.ask("A canary")
    await crew.board.agent("rita", role="lead")
    more: dict[str, dict[str, Any]] = {
        "get_decision": {},
        "wait_for_decision": {},
        "withdraw_decision": {"reason": "x"},
    }
    for tool, given in more.items():
        foreign = await crew.board.refusal(tool, agent_id="rita", decision_id=asked["decision_id"], **given)
        absent = await crew.board.refusal(tool, agent_id="rita", decision_id="d-0", **given)
        assert json.dumps(foreign).replace(asked["decision_id"], "d-0") == json.dumps(absent)
    filters: list[dict[str, Any]] = [{}, {"lead_id": "boss"}, {"query": "canary"}]
    for given in filters:
        assert await crew.board.call("list_decisions", agent_id="rita", **given) == {"decisions": []}
    refusal = await crew.board.refusal(
        "record_decision", agent_id="rita", title="t", supersedes=asked["decision_id"]
    )
    assert refusal["code"] == "not_found"


async def test_a_human_reads_every_crew_of_the_project(crew: Crew) -> None:
    await crew.ask("Of one crew")
    rita = await crew.board.agent("rita", role="lead")
    await rita.record_decision(title="Of another")
    page = await crew.board.call("list_decisions", token=crew.maria)
    assert [line["title"] for line in page["decisions"]] == ["Of another", "Of one crew"]
    page = await crew.board.call("list_decisions", token=crew.maria, lead_id="boss")
    assert [line["title"] for line in page["decisions"]] == ["Of one crew"]


async def test_pages_are_newest_first_complete_and_without_repeats(crew: Crew) -> None:
    made = [(await crew.ann.record_decision(title=f"No {n}"))["decision_id"] for n in range(25)]
    seen: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = await crew.ben.list_decisions(limit=7, **after)
        seen += [line["decision_id"] for line in page["decisions"]]
        if "next_after_id" not in page:
            break
        after = {"after_id": page["next_after_id"]}
    assert seen == made[::-1]
    since = await crew.ben.list_decisions(since_id=made[22])
    assert [line["decision_id"] for line in since["decisions"]] == [made[24], made[23]]


async def test_filters_combine_and_words_find_identifiers_by_their_parts(crew: Crew) -> None:
    await crew.ask("Rename parse_config", rationale="It reads more than settings")
    await crew.ann.record_decision(title="Rename renderPage")
    await crew.ann.record_decision(title="Use pytest")

    async def titles(**given: Any) -> list[str]:
        return [line["title"] for line in (await crew.ben.list_decisions(**given))["decisions"]]

    assert await titles(query="config") == ["Rename parse_config"]
    assert await titles(query="settings") == ["Rename parse_config"]
    assert await titles(query="rename", needs_confirmation=False) == ["Rename renderPage"]
    assert await titles(category="testing") == ["Use pytest"]
    assert await titles(status="confirmed") == []
    assert await titles(query="***") == []
    refusal = await crew.board.refusal("list_decisions", agent_id="ben", category="nonsense")
    assert refusal["code"] == "invalid_arguments"
