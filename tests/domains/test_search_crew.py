"""Searching everything: one ranked answer, and only what the caller may read."""

import json
from typing import Any

import pytest

from tests.conftest import Agent, Board

Answer = dict[str, Any]


@pytest.fixture
async def crew(board: Board) -> tuple[Agent, Agent, Agent]:
    """`lea` leads, `ann` and `ben` develop; each kind of thing says something about a zebra."""
    lea = await board.agent("lea", role="lead")
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await lea.add_dag_task(id="t-1", role="developer", title="Feed the zebra", description="Twice a day.")
    await lea.record_decision(title="A zebra is a horse", rationale="It has hooves.")
    await lea.send_message(to="ann", content="The zebra is out again.")
    await lea.create_chat_group(name="stable", members=["ann"])
    await ann.send_group_message(group_name="stable", content="I have seen the zebra by the river.")
    talk = await ann.start_conversation(title="Morning")
    await ann.add_conversation_message(
        conversation_id=talk["conversation_id"], content="Caught the zebra with an apple."
    )
    await ann.log_activity(action_type="progress_update", summary="zebra fed")
    await ann.put_knowledge(category="semantic", key="diet", content="A zebra eats grass.")
    await ann.add_collective_memory(category="gotcha", key="kick", value="Do not stand behind the zebra.")
    return lea, ann, ben


def kinds(answer: Answer) -> set[str]:
    return {hit["kind"] for hit in answer["hits"]}


EVERY_KIND = {
    "task",
    "decision",
    "message",
    "group_message",
    "conversation",
    "activity",
    "knowledge",
    "collective_memory",
}


async def test_one_question_finds_every_kind_of_thing(crew: tuple[Agent, ...]) -> None:
    _, ann, _ = crew
    answer = await ann.search_crew(query="zebra")
    assert kinds(answer) == EVERY_KIND
    by_kind = {hit["kind"]: hit for hit in answer["hits"]}
    assert (by_kind["task"]["id"], by_kind["task"]["title"]) == ("t-1", "Feed the zebra")
    assert by_kind["message"]["by"] == "lea"
    assert by_kind["group_message"]["title"] == "stable"
    assert by_kind["knowledge"]["text"] == f"<{answer['mark']}>\nA zebra eats grass.\n</{answer['mark']}>"


@pytest.mark.parametrize("kind", sorted(EVERY_KIND))
async def test_only_the_kinds_that_are_asked_for_are_searched(crew: tuple[Agent, ...], kind: str) -> None:
    _, ann, _ = crew
    assert kinds(await ann.search_crew(query="zebra", kinds=[kind])) == {kind}


async def test_what_holds_all_words_comes_first_and_a_missing_word_empties_nothing(
    crew: tuple[Agent, ...],
) -> None:
    _, ann, _ = crew
    answer = await ann.search_crew(query="zebra apple")
    assert answer["hits"][0]["kind"] == "conversation"
    assert len(answer["hits"]) > 1
    assert len((await ann.search_crew(query="zebra quagga"))["hits"]) > 1


async def test_mail_is_found_by_its_two_sides_only(crew: tuple[Agent, ...]) -> None:
    """ID7: neither by the crew, nor by its lead, nor, unseen, by people."""
    lea, ann, ben = crew
    await ann.send_message(to="ben", content="zebra secret")
    for agent, found in ((ann, True), (ben, True), (lea, False)):
        answer = await agent.search_crew(query="secret", kinds=["message"])
        assert bool(answer["hits"]) is found
    human = await ann.board.human()
    answer = await ann.board.call("search_crew", token=human, query="secret", kinds=["message"])
    assert answer["hits"] == []


async def test_a_group_is_found_by_its_members_its_lead_and_people(crew: tuple[Agent, ...]) -> None:
    lea, ann, ben = crew
    for agent, found in ((lea, True), (ann, True), (ben, False)):
        answer = await agent.search_crew(query="river", kinds=["group_message"])
        assert bool(answer["hits"]) is found
    human = await ann.board.human()
    answer = await ann.board.call("search_crew", token=human, query="river", kinds=["group_message"])
    assert len(answer["hits"]) == 1


async def test_another_crew_finds_what_the_project_shares_and_nothing_else(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    """ID7: rights stand before the limit, so that nothing of others counts towards it."""
    mia = await board.agent("mia", role="lead")
    assert kinds(await mia.search_crew(query="zebra", limit=1)) <= {"knowledge", "collective_memory"}
    assert kinds(await mia.search_crew(query="zebra")) == {"knowledge", "collective_memory"}
    everything = await board.call("search_crew", token=await board.human(), query="zebra")
    assert kinds(everything) == EVERY_KIND - {"message"}


async def test_another_crews_words_change_neither_hits_nor_order(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    """ID7"""
    _, ann, _ = crew
    before = await ann.search_crew(query="zebra apple", limit=50)
    mia = await board.agent("mia", role="lead")
    await mia.add_dag_tasks(
        tasks=[{"id": f"x{number}", "role": "lead", "title": "apple apple zebra"} for number in range(60)]
    )
    after = await ann.search_crew(query="zebra apple", limit=50)
    order = [(hit["kind"], hit["id"]) for hit in before["hits"]]
    assert [(hit["kind"], hit["id"]) for hit in after["hits"]] == order


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "*",
        "-",
        "NEAR(",
        "%",
        "_",
        "a OR",
        "zebra AND",
        "^zebra",
        "{x}:y",
        "斑马",
        "'; DROP TABLE x;--",
        "🦓",
    ],
)
async def test_any_text_is_a_question(crew: tuple[Agent, ...], query: str) -> None:
    _, ann, _ = crew
    await ann.search_crew(query=query)


async def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    refusal = await board.refusal("search_crew", agent_id="ann", query="zebra", kinds=["zoo"])
    assert refusal["code"] == "invalid_arguments"
    assert "group_message" in json.dumps(refusal)
