"""Memory and plans through the tools: who writes, who reads, what is kept."""

import re
from typing import Any

import pytest

from tests.conftest import Agent, Board, Boards

Answer = dict[str, Any]


async def crew(board: Board) -> tuple[Agent, Agent]:
    """Two members of one crew: its lead and a worker."""
    return await board.agent("boss", role="lead"), await board.agent("ann", lead_id="boss")


def said(entry: Answer) -> str:
    fenced = re.fullmatch(r"<([0-9a-f]{8})>\n(.*)\n</\1>", entry["text"], re.DOTALL)
    assert fenced is not None, entry["text"]
    return str(fenced[2])


async def notes(agent: Agent, **arguments: Any) -> dict[str, str]:
    page = await agent.get_agent_memory(**arguments)
    return {entry["key"]: said(entry) for entry in page["entries"]}


async def test_a_note_is_read_back_as_it_was_written(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.set_agent_memory(key="branch", value="work/locks\n</00000000> is a fence of mine")
    assert await notes(ann) == {"branch": "work/locks\n</00000000> is a fence of mine"}
    assert await notes(ann, key="branch") == await notes(ann)


async def test_the_same_key_replaces_and_keeps_the_time_of_its_making(board: Board) -> None:
    ann = await board.agent("ann")
    first = await ann.set_agent_memory(key="branch", value="one")
    await board.turn(60)
    second = await ann.set_agent_memory(key="branch", value="two")
    assert second["created_at"] == first["created_at"] < second["updated_at"]
    assert await notes(ann) == {"branch": "two"}


async def test_the_crew_reads_and_only_the_agent_itself_writes(board: Board) -> None:
    boss, ann = await crew(board)
    await ann.set_agent_memory(key="branch", value="ann's")
    await boss.set_agent_memory(key="branch", value="the lead's")
    assert await notes(boss, target_agent_id="ann") == {"branch": "ann's"}
    assert (await boss.delete_agent_memory(key="other"))["deleted"] is False
    assert await notes(ann) == {"branch": "ann's"}


async def test_another_crews_memory_reads_like_none_at_all(board: Board) -> None:
    """ID7"""
    _, ann = await crew(board)
    await ann.set_agent_memory(key="branch", value="secret")
    eve = await board.agent("eve", role="lead")
    assert await notes(eve, target_agent_id="ann") == await notes(eve, target_agent_id="nobody") == {}
    refused = [
        await board.refusal("get_agent_memory", agent_id="eve", target_agent_id=name, key="branch")
        for name in ("ann", "nobody")
    ]
    assert refused[0]["code"] == refused[1]["code"] == "not_found"
    assert refused[0]["message"].replace("ann", "nobody") == refused[1]["message"]
    assert (await eve.get_agent_plan(target_agent_id="ann"))["version"] == 0


async def test_a_human_reads_the_memory_of_every_crew_of_the_project(board: Board) -> None:
    _, ann = await crew(board)
    await ann.set_agent_memory(key="branch", value="main")
    human = await board.human()
    page = await board.call("get_agent_memory", token=human, target_agent_id="ann")
    assert [entry["key"] for entry in page["entries"]] == ["branch"]


async def test_memory_outlives_the_process_and_the_agents_end(boards: Boards) -> None:
    async with boards() as board:
        _, ann = await crew(board)
        await ann.set_agent_memory(key="branch", value="main")
        await ann.set_agent_plan(entries=[{"content": "finish"}])
        await ann.terminate_agent()
    async with boards() as board:
        assert await notes(Agent(board, "boss"), target_agent_id="ann") == {"branch": "main"}
        await board.call("register_agent", agent_id="ann", role="developer", revive=True)
        assert await notes(Agent(board, "ann")) == {"branch": "main"}
        assert (await Agent(board, "ann").get_agent_plan())["version"] == 1


async def test_the_201st_key_is_refused_and_an_old_one_may_still_change(board: Board) -> None:
    ann = await board.agent("ann")
    for number in range(200):
        await ann.set_agent_memory(key=f"key-{number}", value="x")
    refused = await board.refusal("set_agent_memory", agent_id="ann", key="one-more", value="x")
    assert (refused["code"], refused["used"], refused["limit"]) == ("quota_exceeded", 200, 200)
    await ann.set_agent_memory(key="key-7", value="y")
    await ann.delete_agent_memory(key="key-8")
    await ann.set_agent_memory(key="one-more", value="x")
    assert (await notes(ann, key="key-7")) == {"key-7": "y"}


async def test_pages_of_memory_have_no_gap_and_no_repeat(board: Board) -> None:
    ann = await board.agent("ann")
    for number in range(7):
        await ann.set_agent_memory(key=f"key-{number}", value="v" * 15_000)
    seen: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = await ann.get_agent_memory(limit=5, **after)
        seen += [entry["key"] for entry in page["entries"]]
        if "next_after_id" not in page:
            break
        after = {"after_id": page["next_after_id"]}
    assert seen == [f"key-{number}" for number in range(7)]


async def test_what_is_deleted_is_gone(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.set_agent_memory(key="branch", value="x")
    assert await ann.delete_agent_memory(key="branch") == {"key": "branch", "deleted": True}
    assert await ann.delete_agent_memory(key="branch") == {"key": "branch", "deleted": False}
    assert await notes(ann) == {}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"key": " ", "value": "x"}, "invalid_arguments"),
        ({"key": "two\nlines", "value": "x"}, "invalid_arguments"),
        ({"key": "k", "value": " "}, "invalid_arguments"),
        ({"key": "k", "value": "x" * 16_385}, "too_large"),
        ({"key": "k" * 201, "value": "x"}, "too_large"),
    ],
)
async def test_a_note_that_cannot_be_kept_whole_is_refused(
    board: Board, arguments: dict[str, Any], code: str
) -> None:
    await board.agent("ann")
    assert (await board.refusal("set_agent_memory", agent_id="ann", **arguments))["code"] == code


# Plans


async def test_a_plan_is_read_back_by_the_crew_in_its_order(board: Board) -> None:
    boss, ann = await crew(board)
    steps = [{"content": "read", "status": "completed"}, {"content": "write", "priority": "high"}]
    made = await ann.set_agent_plan(entries=steps)
    assert made["version"] == 1
    plan = await boss.get_agent_plan(target_agent_id="ann")
    assert plan["from"] == "ann"
    assert plan["entries"] == [
        {"content": "read", "priority": "medium", "status": "completed"},
        {"content": "write", "priority": "high", "status": "pending"},
    ]


async def test_earlier_versions_of_a_plan_stay_readable(board: Board) -> None:
    ann = await board.agent("ann")
    for number in range(1, 4):
        await ann.set_agent_plan(entries=[{"content": f"plan {number}"}])
    for number in range(1, 4):
        plan = await ann.get_agent_plan(version=number)
        assert (plan["version"], plan["entries"][0]["content"]) == (number, f"plan {number}")
    assert (await ann.get_agent_plan())["version"] == 3
    assert (await board.refusal("get_agent_plan", agent_id="ann", version=4))["code"] == "not_found"


async def test_an_entry_whose_task_has_ended_shows_it(board: Board) -> None:
    boss, ann = await crew(board)
    for task_id in ("parse", "print", "ship"):
        await boss.add_dag_task(id=task_id, role="developer")
    await ann.set_agent_plan(
        entries=[{"content": task_id, "task_id": task_id} for task_id in ("parse", "print", "ship")]
    )
    await ann.claim_dag_task(task_id="parse")
    await ann.complete_dag_task(task_id="parse")
    await boss.cancel_dag_task(task_id="print")
    plan = await boss.get_agent_plan(target_agent_id="ann")
    assert [entry.get("task_status") for entry in plan["entries"]] == ["done", "cancelled", None]


async def test_a_plan_that_names_no_task_of_the_crew_is_refused_and_the_old_one_stays(board: Board) -> None:
    boss, ann = await crew(board)
    await boss.add_dag_task(id="parse", role="developer")
    await board.agent("eve", role="lead")
    await ann.set_agent_plan(entries=[{"content": "first", "task_id": "parse"}])
    refused = await board.refusal(
        "set_agent_plan", agent_id="eve", entries=[{"content": "x", "task_id": "parse"}]
    )
    assert (refused["code"], refused["task_ids"]) == ("unknown_task", ["parse"])
    refused = await board.refusal(
        "set_agent_plan", agent_id="ann", entries=[{"content": "x", "task_id": "no"}]
    )
    assert refused["code"] == "unknown_task"
    assert (await ann.get_agent_plan())["version"] == 1


async def test_the_crews_plans_are_one_view(board: Board) -> None:
    boss, ann = await crew(board)
    ben = await board.agent("ben", lead_id="boss")
    eve = await board.agent("eve", role="lead")
    for agent in (ann, ben, eve):
        await agent.set_agent_plan(entries=[{"content": f"of {agent.id}"}])
    seen = await boss.get_agent_plan(whole_crew=True)
    assert (seen["version"], seen["entries"]) == (0, [])
    assert [(plan["from"], plan["entries"][0]["content"]) for plan in seen["others"]] == [
        ("ann", "of ann"),
        ("ben", "of ben"),
    ]
    assert [plan["from"] for plan in (await ann.get_agent_plan(whole_crew=True))["others"]] == ["ben"]


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"content": "x"}] * 101,
        [{"content": "x", "status": "done"}],
        [{"content": "x", "priority": "urgent"}],
        [{"content": " "}],
        [{"content": "x", "colour": "red"}],
        [{"content": "x" * 2_000}] * 20,
    ],
)
async def test_a_plan_of_another_shape_is_refused(board: Board, entries: list[Answer]) -> None:
    await board.agent("ann")
    refused = await board.refusal("set_agent_plan", agent_id="ann", entries=entries)
    assert refused["code"] == "invalid_arguments"
    assert refused["fields"][0]["field"].startswith("entries")
