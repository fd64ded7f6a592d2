"""The crew at one look, and the server itself."""

import json
import time
from typing import Any

from tests.conftest import Agent, Board
from tests.domains.crew_scene import played

Answer = dict[str, Any]


async def test_the_board_shows_who_does_what_what_is_next_and_what_waits(board: Board) -> None:
    scene = await played(board)
    status = await scene.lea.get_crew_status()
    assert status["crews"] == [{"lead_id": "lea", "led_by": "lea"}]
    assert [agent["agent_id"] for agent in status["agents"]] == ["ann", "ben", "cara", "lea", "noa"]
    ann = status["agents"][0]
    assert (ann["liveness"], ann["task_id"], ann["locks_held"]) == ("live", "refresh", 3)
    assert status["tasks"] == {"done": 1, "pending": 1, "ready": 10, "running": 2}
    assert {task["task_id"] for task in status["in_hand"]} == {"refresh", "rate-limit"}
    assert status["ready"][0]["task_id"] == "client"
    assert status["locks_count"] == 4
    assert [decision["agent_id"] for decision in status["decisions"]] == ["ann"]
    assert status["costs"]["input_tokens"] == 0


async def test_waiters_alerts_and_budgets_are_on_the_board(board: Board) -> None:
    lea, ann = await board.agent("lea", role="lead"), await board.agent("ann")
    await lea.acquire_file_lock(file_path="a.py", ttl_seconds=3_600)
    await board.refusal("acquire_file_lock", agent_id="ann", file_path="a.py", queue_seconds=3_600)
    await lea.set_cost_budget(limit_tokens=100)
    await ann.record_task_cost(input_tokens=95)
    board.clock.turn(360)
    for agent in (lea, ann):
        await agent.heartbeat()
    status = await lea.get_crew_status()
    assert [waiter["agent_id"] for waiter in status["waiters"]] == ["ann"]
    assert {alert["alert_id"] for alert in status["alerts"]} == {"lock_wait:ann:a.py", "budget:lea::"}
    assert status["budgets"][0]["used_percent"] == 95
    assert status["costs"]["input_tokens"] == 95


async def test_of_another_crew_only_what_crews_share_is_shown(board: Board) -> None:
    """ID7, ruling 18: the roster and the locks."""
    scene = await played(board)
    mia = await board.agent("mia", role="lead")
    seen = await mia.get_crew_status(lead_id="lea")
    assert {agent["agent_id"] for agent in seen["agents"]} == {"lea", "ann", "ben", "cara", "noa"}
    assert seen["locks_count"] == 4
    assert not {"tasks", "in_hand", "ready", "decisions", "alerts", "costs", "budgets"} & seen.keys()
    assert all("task_id" not in agent for agent in seen["agents"])
    human = await board.call("get_crew_status", token=scene.human)
    assert {crew["lead_id"] for crew in human["crews"]} == {"lea", "mia"}
    assert human["tasks"]["running"] == 2
    assert {agent["lead_id"] for agent in human["agents"]} == {"lea", "mia"}


async def test_a_crew_or_project_that_is_not_there_is_not_found(board: Board) -> None:
    await board.agent("lea", role="lead")
    wanted: tuple[Answer, ...] = ({"lead_id": "nobody"}, {"project_id": "elsewhere-000000"})
    for arguments in wanted:
        refusal = await board.refusal("get_crew_status", agent_id="lea", **arguments)
        assert refusal["code"] == "not_found"


async def test_a_leaderless_crew_has_a_board_too(board: Board) -> None:
    ann = await board.agent("ann")
    status = await ann.get_crew_status()
    assert status["crews"] == [{"lead_id": status["project_id"]}]
    assert [agent["agent_id"] for agent in status["agents"]] == ["ann"]


async def test_the_server_names_its_store_and_says_whether_it_is_well(board: Board) -> None:
    """T9: also to whom it does not know yet."""
    info = await board.call("get_server_info")
    store = board.opened.store.info
    assert (info["store_id"], info["store_path"], info["schema_version"]) == (
        store.store_id,
        str(store.path),
        store.schema_version,
    )
    assert (info["durability"], info["transport"], info["toolsets"]) == ("full", "http", ["all"])
    assert (info["healthy"], info["trust_level"]) == (True, "L0")
    assert info["wal_bytes"] > 0
    board.clock.turn(90)
    assert (await board.call("get_server_info"))["quick_check_age_seconds"] == 90
    await board.opened.store.check()
    assert (await board.call("get_server_info"))["quick_check_age_seconds"] == 0
    ann = await board.agent("ann")
    trusted = await board.call("get_server_info", token=await board.principal(agent=ann.id))
    assert trusted["trust_level"] == "L1"


async def test_every_view_of_a_large_crew_keeps_its_size(board: Board) -> None:
    """60 agents and 1,000 tasks: each answer stays below 64 KiB, and costs less than a second."""
    lea = await board.agent("lea", role="lead")
    agents = [await board.agent(f"dev-{number:02}") for number in range(60)]
    for level in range(2):
        await lea.add_dag_tasks(
            tasks=[
                {
                    "id": f"t{level}-{number}",
                    "role": "developer",
                    "title": f"Number {number} of a long row of titles that say what is to be done",
                    "description": "words " * 100,
                    "files": [f"src/m{level}/{number}.py"],
                    "depends_on": [f"t0-{number}"] if level and number % 2 else [],
                }
                for number in range(500)
            ]
        )
    for agent in agents:
        await agent.claim_next_dag_task(lock_files=True)
        await lea.send_message(to=agent.id, content="hello " * 200)
    for agent in agents[:20]:
        [claim] = (await agent.whoami())["claims"]
        await agent.fail_dag_task(task_id=claim["task_id"], failure_reason="no")
        await agent.record_decision(title=f"of {agent.id}", needs_confirmation=True)
    board.clock.turn(2_400)
    await _each_view_keeps_its_size(lea, agents[30])


async def _each_view_keeps_its_size(lea: Agent, dev: Agent) -> None:
    for agent in (lea, dev):
        for tool, arguments in (
            ("check_in", {}),
            ("get_briefing", {"max_tokens": 8_000}),
            ("get_crew_status", {}),
            ("catch_up", {"since_id": 0}),
            ("list_alerts", {}),
            ("search_crew", {"query": "long row of titles", "limit": 200}),
        ):
            began = time.process_time()
            answer = await agent.call(tool, **arguments)
            took = time.process_time() - began
            assert len(json.dumps(answer, ensure_ascii=False).encode()) < 64 * 1024, tool
            assert took < 1, tool
