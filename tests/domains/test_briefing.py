"""The briefing: the page that makes an agent useful again, as it is read.

The pages of three agents are kept as files that people review. `CALLBOARD_SNAPSHOTS=write` writes them anew.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import TextContent

from callboard.mcp_server import CallboardServer
from tests.conftest import Agent, Board
from tests.domains.crew_scene import Scene, played

Answer = dict[str, Any]

SNAPSHOTS = Path(__file__).parent.parent / "snapshots"
BUDGETS = (500, 1_500, 4_000)


def tokens(answer: Answer) -> float:
    """What an answer costs its reader: a quarter of the bytes of its compact JSON."""
    return len(json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()) / 4


@pytest.fixture
async def scene(board: Board) -> Scene:
    return await played(board)


def settled(page: Answer) -> str:
    """A page for people to read, with what differs from run to run given names."""
    text = json.dumps(page, indent=1, ensure_ascii=False)
    text = text.replace(page.get("mark", "no mark"), "MARK").replace(page["you"]["project_id"], "PROJECT")
    for number, decision in enumerate(dict.fromkeys(re.findall(r"d-[0-9a-f]{12}", text)), 1):
        text = text.replace(decision, f"DECISION-{number}")
    return text + "\n"


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("who", "name"), [("lead", "lea"), ("worker", "ann"), ("newcomer", "noa")])
async def test_a_page_is_the_reviewed_one_and_within_its_budget(
    scene: Scene, who: str, name: str, budget: int
) -> None:
    agent: Agent = getattr(scene, name)
    page = await agent.get_briefing(max_tokens=budget)
    assert tokens(page) <= budget
    file = SNAPSHOTS / f"briefing_{who}_{budget}.txt"
    if os.environ.get("CALLBOARD_SNAPSHOTS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(settled(page), encoding="utf-8")
    assert settled(page) == file.read_text(encoding="utf-8")


async def test_a_client_reads_the_page_as_text_within_the_budget(scene: Scene) -> None:
    async with Client(CallboardServer(scene.board.opened)) as client:
        result = await client.call_tool("get_briefing", {"agent_id": "ann", "max_tokens": 500})
    [content] = result.content
    assert isinstance(content, TextContent)
    assert json.loads(content.text) == result.structured_content
    assert len(content.text.encode()) <= 4 * 500


async def test_no_budget_is_ever_exceeded_and_each_is_used(scene: Scene) -> None:
    for agent in (scene.lea, scene.ann, scene.noa):
        whole = await agent.get_briefing(max_tokens=8_000)
        assert "left_out" not in whole
        for budget in range(200, 2_400, 37):
            page = await agent.get_briefing(max_tokens=budget)
            used = tokens(page)
            assert used <= budget
            assert used > budget * 0.75 or "left_out" not in page


async def test_the_shortest_page_holds_the_longest_names(board: Board) -> None:
    lead = await board.agent("l" * 64, role="lead")
    await lead.add_dag_tasks(
        tasks=[{"id": f"{number}" * 50, "role": "developer"} for number in range(10, 60)]
    )
    ann = await board.agent("a" * 64)
    for number in range(5):
        await ann.acquire_file_lock(file_path=f"{'x' * 200}/{number}")
        await ann.record_decision(title="t" * 200)
        await ann.set_agent_memory(key=f"{number}", value="v" * 900)
        await ann.put_knowledge(category="semantic", key=f"{number}", content="c" * 900)
    await ann.set_agent_plan(entries=[{"content": "p" * 400}])
    for agent in (lead, ann):
        page = await agent.get_briefing(max_tokens=200)
        assert tokens(page) <= 200
        assert page["next"] and page["left_out"]


async def test_what_is_hidden_in_texts_costs_what_the_page_says_of_it(scene: Scene) -> None:
    """N2: what is taken out of the texts is told, within the budget too."""
    hidden = "\N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m\N{ZERO WIDTH SPACE}\N{TAG LATIN SMALL LETTER A}"
    await scene.ann.set_agent_memory(key="odd", value=f"left{hidden}right")
    for budget in range(380, 620):
        page = await scene.ann.get_briefing(max_tokens=budget)
        assert tokens(page) <= budget
    assert page["sanitized"] == {"ansi": 1, "bidi": 1, "zero_width": 1, "tags": 1}


async def test_an_agent_in_mid_task_reads_its_task_the_comment_its_locks_and_its_own_notes_first(
    scene: Scene,
) -> None:
    page = await scene.ann.get_briefing(max_tokens=500)
    [task] = page["tasks"]
    assert (task["task_id"], task["dag_status"]) == ("refresh", "running")
    assert "race" in task["comment"] and task["text"].startswith(f"<{page['mark']}>")
    assert {lock["file_path"] for lock in page["locks"]} == {
        "docs/auth.md",
        "src/auth/refresh.py",
        "tests/auth/test_refresh.py",
    }
    assert f"claim_epoch {task['claim_epoch']}" in page["next"][1]
    assert page["notes"][0]["key"] == "where I am"
    assert page["plan"][0]["status"] == "in_progress"


async def test_what_is_not_shown_is_counted_under_the_tool_that_has_it(scene: Scene) -> None:
    page = await scene.noa.get_briefing(max_tokens=300)
    for tool, count in page["left_out"].items():
        assert count > 0
        assert tool in scene.board.opened.tools
    whole = await scene.noa.get_briefing(max_tokens=8_000)
    shown = len(page.get("crew", ()))
    assert len(whole["crew"]) - shown == page["left_out"].get("list_agents", 0)


async def test_a_rule_that_is_longer_than_the_page_is_left_out_whole(scene: Scene) -> None:
    await scene.board.call(
        "put_knowledge", token=scene.human, category="core", key="long", content="rule " * 3_000
    )
    page = await scene.ann.get_briefing(max_tokens=1_500)
    assert [rule["key"] for rule in page["core"]] == ["releases", "customer data"]
    assert page["left_out"]["get_knowledge"] == 1
    longest = await scene.ann.get_briefing(max_tokens=8_000)
    assert [rule["key"] for rule in longest["core"]] == ["releases", "customer data", "long"]
    assert longest["core"][2]["text"] == "rule " * 3_000


async def test_a_topic_decides_what_is_told_of_the_projects_knowledge(scene: Scene) -> None:
    page = await scene.noa.get_briefing(max_tokens=600, topic="how long may a sign-in take")
    assert page["knowledge"][0]["key"] == "latency"
    without = await scene.noa.get_briefing(max_tokens=8_000)
    assert without["knowledge"][0]["key"] == "web sessions"  # of the crew's goal


async def test_who_leads_is_told_what_to_look_at(scene: Scene) -> None:
    scene.board.clock.turn(1_200)
    for agent in (scene.lea, scene.noa):
        await agent.heartbeat()
    await scene.board.settle()
    page = await scene.lea.get_briefing()
    assert any("ann" in alert["cause"] for alert in page["alerts"])
    assert "alerts" not in await scene.noa.get_briefing()


async def test_a_page_shows_nothing_of_another_crew_but_what_crews_share(scene: Scene) -> None:
    """ID7"""
    mia = await scene.board.agent("mia", role="lead")
    await mia.add_dag_task(id="canary", role="lead", title="canary title", description="canary text")
    await mia.record_decision(title="canary decision")
    await mia.set_agent_memory(key="canary", value="canary")
    for agent in (scene.lea, scene.ann, scene.noa):
        assert "canary" not in json.dumps(await agent.get_briefing(max_tokens=8_000))
    page = await mia.get_briefing(max_tokens=8_000)
    assert "refresh" not in json.dumps({name: page.get(name) for name in ("tasks", "decisions", "ready")})
    assert [rule["key"] for rule in page["core"]] == ["releases", "customer data"]  # the project's


async def test_people_and_observers_read_a_page_too(scene: Scene) -> None:
    page = await scene.board.call("get_briefing", token=scene.human)
    assert page["you"]["kind"] == "human"
    assert page["board"] == "1 done, 1 pending, 10 ready, 2 running"
    observer = await scene.board.principal(agent="ann", scope="observer")
    seen = await scene.board.call("get_briefing", token=observer)
    assert seen["you"]["kind"] == "observer"


async def test_the_length_of_a_page_that_names_none_is_a_setting(scene: Scene) -> None:
    await scene.board.call("set_setting", token=scene.human, key="briefing.max_tokens", value="250")
    assert tokens(await scene.ann.get_briefing()) <= 250


@pytest.mark.parametrize("budget", [199, 8_001, 0, -1])
async def test_a_budget_that_makes_no_page_is_refused(board: Board, budget: int) -> None:
    ann = await board.agent("ann")
    refusal = await board.refusal("get_briefing", agent_id=ann.id, max_tokens=budget)
    assert refusal["code"] == "invalid_arguments"
