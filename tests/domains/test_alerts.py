"""Alerts: what is wrong is told while it is so, under one id, with the next step."""

from typing import Any

import pytest

from callboard.domains.roster.agents import LIVE_MS
from tests.conftest import Agent, Board, Boards

Answer = dict[str, Any]

MINUTE = 60


@pytest.fixture
async def crew(board: Board) -> tuple[Agent, Agent, Agent]:
    """`lea` leads, `ann` and `ben` develop."""
    lea = await board.agent("lea", role="lead")
    return lea, await board.agent("ann"), await board.agent("ben")


async def alerts(agent: Agent) -> dict[str, Answer]:
    return {alert["alert_id"]: alert for alert in (await agent.list_alerts())["alerts"]}


async def ids(agent: Agent) -> list[str]:
    return list(await alerts(agent))


async def everybody_is_there(*agents: Agent) -> None:
    for agent in agents:
        await agent.heartbeat()
    await agents[0].board.settle()


async def test_a_crew_in_order_has_none(crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await lea.add_dag_task(id="a", role="developer", files=["a.py"])
    await ann.claim_next_dag_task(lock_files=True)
    assert await ids(lea) == []


async def test_a_silent_agent_that_holds_something_is_one_until_it_is_back(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    lea, ann, ben = crew
    await lea.add_dag_task(id="a", role="developer")
    await ann.claim_next_dag_task()
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=3_600)
    board.clock.turn(LIVE_MS / 1000 + 1)
    await everybody_is_there(lea, ben)
    alert = (await alerts(lea))["silent_agent:ann"]
    assert alert["severity"] == "warning"
    assert alert["since"] == "2026-01-01T12:00:00.000Z"
    assert "the lock on a.py and 1 running task" in alert["cause"]
    await everybody_is_there(ann)
    assert "silent_agent:ann" not in await ids(lea)


async def test_a_silent_agent_that_holds_nothing_is_none(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, *_ = crew
    board.clock.turn(LIVE_MS / 1000 + 1)
    await everybody_is_there(lea)
    assert await ids(lea) == []


async def test_a_claim_without_anything_done_is_one_after_ten_minutes(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    lea, ann, _ = crew
    await lea.add_dag_task(id="a", role="developer")
    await ann.claim_next_dag_task()
    for minutes in (4, 5):
        board.clock.turn(minutes * MINUTE)
        await ann.whoami()  # there, and doing nothing that leaves a trace
    assert "stuck_claim:a" not in await ids(lea)
    board.clock.turn(MINUTE)
    await ann.whoami()
    assert (await alerts(lea))["stuck_claim:a"]["since"] == "2026-01-01T12:00:00.000Z"
    await ann.log_activity(action_type="progress_update", summary="halfway")
    assert "stuck_claim:a" not in await ids(lea)


async def test_idle_agents_beside_work_for_their_role_are_one_after_two_minutes(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    lea, ann, _ = crew
    await lea.add_dag_tasks(tasks=[{"id": "a", "role": "developer"}, {"id": "b", "role": "architect"}])
    board.clock.turn(2 * MINUTE - 1)
    await everybody_is_there(*crew)
    assert await ids(lea) == []
    board.clock.turn(1)
    await everybody_is_there(*crew)
    alert = (await alerts(lea))["idle_agents:lea:developer"]
    assert (alert["severity"], alert["since"]) == ("info", "2026-01-01T12:00:00.000Z")
    assert "ann, ben do nothing" in alert["cause"]
    await ann.claim_next_dag_task()
    assert await ids(lea) == []


async def test_idle_agents_are_none_while_the_files_of_the_work_are_busy(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    lea, *_ = crew
    await lea.add_dag_task(id="a", role="developer", files=["a.py"])
    await lea.acquire_file_lock(file_path="a.py", ttl_seconds=3_600)
    board.clock.turn(3 * MINUTE)
    await everybody_is_there(*crew)
    assert await ids(lea) == []


async def test_a_decision_that_waits_for_a_human_is_one_after_ten_minutes(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    lea, ann, _ = crew
    asked = await ann.record_decision(title="Pay for it", needs_confirmation=True)
    await ann.record_decision(title="Use tabs")
    board.clock.turn(10 * MINUTE - 1)
    assert await ids(lea) == []
    board.clock.turn(1)
    alert = (await alerts(lea))[f"pending_decision:{asked['decision_id']}"]
    assert "Pay for it" in alert["cause"] and asked["decision_id"] in alert["next"]
    await ann.withdraw_decision(decision_id=asked["decision_id"], reason="never mind")
    assert await ids(lea) == []


async def test_tasks_that_stay_blocked_are_one_for_each_root_cause(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    lea, ann, _ = crew
    await lea.add_dag_tasks(
        tasks=[
            {"id": "root", "role": "developer"},
            {"id": "mid", "role": "architect", "depends_on": ["root"]},
            {"id": "leaf", "role": "architect", "depends_on": ["mid"]},
        ]
    )
    await ann.claim_dag_task(task_id="root")
    board.clock.turn(60 * MINUTE)
    await ann.heartbeat()
    await ann.claim_dag_task(task_id="root")
    await ann.fail_dag_task(task_id="root", failure_reason="no")
    board.clock.turn(30 * MINUTE - 1)
    assert "blocked:lea:root" not in await ids(lea)  # counted from when it became blocked
    board.clock.turn(1)
    alert = (await alerts(lea))["blocked:lea:root"]
    assert alert["severity"] == "critical"
    assert "mid, leaf cannot begin: root is failed" in alert["cause"]
    await lea.skip_dag_task(task_id="root")
    assert "blocked:lea:root" not in await ids(lea)


async def test_a_long_wait_for_a_lock_names_who_has_it(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=3_600)
    await board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py", queue_seconds=3_600)
    board.clock.turn(5 * MINUTE - 1)
    await everybody_is_there(*crew)
    assert await ids(lea) == []
    board.clock.turn(1)
    alert = (await alerts(lea))["lock_wait:ben:a.py"]
    assert alert["cause"] == "ben waits for a.py, which ann has."
    await ann.release_file_lock(file_path="a.py")
    assert await ids(lea) == []


async def test_two_agents_at_work_on_the_same_files_are_one(crew: tuple[Agent, ...]) -> None:
    lea, ann, ben = crew
    await lea.add_dag_tasks(
        tasks=[
            {"id": "a", "role": "developer", "files": ["src/**/*.py"]},
            {"id": "b", "role": "developer", "files": ["src/x/y.py"]},
            {"id": "c", "role": "developer", "files": ["docs/"]},
            {"id": "d", "role": "developer", "files": ["docs/x.md"]},
        ]
    )
    await ann.claim_dag_task(task_id="a")
    assert await ids(lea) == []
    await ben.claim_dag_task(task_id="b")
    for own in ("c", "d"):  # one agent does not get in its own way
        await ben.claim_dag_task(task_id=own)
    assert await ids(lea) == ["overlap:a+b"]
    await ben.complete_dag_task(task_id="b")
    assert await ids(lea) == []


async def test_messages_that_ended_unread_are_one_for_a_day(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, *_ = crew
    sent = await lea.send_message(to="ann", content="read me", expires_in="60")
    await board.turn(61)
    alert = (await alerts(lea))["undelivered:ann"]
    assert str(sent["message_ids"][0]) in alert["cause"]
    await lea.requeue_message(message_id=sent["message_ids"][0])
    assert "undelivered:ann" not in await ids(lea)
    await board.turn(4 * 24 * 60 * MINUTE)
    assert "undelivered:ann" in await ids(lea)
    await board.turn(25 * 60 * MINUTE)
    assert "undelivered:ann" not in await ids(lea)


async def test_a_message_with_what_nobody_can_see_is_one(board: Board, crew: tuple[Agent, ...]) -> None:
    """N2"""
    lea, ann, _ = crew
    await lea.create_chat_group(name="all", members=["ann"])
    await ann.send_message(to="lea", content=r"plain: \x1b[0m and \u001b are how to write it")
    assert await ids(lea) == []
    sent = await ann.send_message(to="lea", content="a\x1b[8mb")
    posted = await ann.send_group_message(group_name="all", content="c\N{TAG LATIN SMALL LETTER D}")
    assert set(await ids(lea)) == {
        f"hidden_text:message_{sent['message_ids'][0]}",
        f"hidden_text:group_message_{posted['message_id']}",
    }
    board.clock.turn(25 * 60 * MINUTE)
    assert not [name for name in await ids(lea) if name.startswith("hidden_text")]


@pytest.mark.parametrize(("used", "severity"), [(69, None), (70, "info"), (90, "warning"), (100, "critical")])
async def test_a_budget_is_one_from_seventy_per_cent_on(
    crew: tuple[Agent, ...], used: int, severity: str | None
) -> None:
    lea, ann, _ = crew
    await lea.set_cost_budget(limit_tokens=100)
    await ann.record_task_cost(input_tokens=used)
    alert = (await alerts(lea)).get("budget:lea::")
    assert (alert["severity"] if alert else None) == severity
    if alert is not None:
        assert alert["since"] == "2026-01-01T12:00:00.000Z"


async def test_another_store_for_the_repository_is_one(boards: Boards) -> None:
    async with boards() as board:
        lea = await board.agent("lea", role="lead")
        assert await ids(lea) == []
        assert "other_stores" not in await lea.get_server_info()
    async with boards(db=board.folder.parent / "elsewhere.db") as other:
        mia = await other.agent("mia", role="lead")
        usual = str(board.opened.store.info.path)
        assert await ids(mia) == [f"other_store:{usual}"]
        assert (await mia.get_server_info())["other_stores"] == [usual]


async def test_how_long_a_cause_may_last_is_a_setting(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await ann.record_decision(title="Pay for it", needs_confirmation=True)
    board.clock.turn(MINUTE)
    assert await ids(lea) == []
    await board.call("set_setting", token=await board.human(), key="alerts.decision_minutes", value="1")
    assert len(await ids(lea)) == 1


async def test_alerts_are_there_at_once_after_a_restart_under_the_same_ids(boards: Boards) -> None:
    async with boards() as board:
        ann = await board.agent("ann")
        await ann.record_decision(title="Pay for it", needs_confirmation=True)
        board.clock.turn(11 * MINUTE)
        before = await alerts(ann)
        assert before
    async with boards() as board:
        assert await alerts(Agent(board, "ann")) == before


async def test_the_worst_comes_first(board: Board, crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await lea.set_cost_budget(limit_tokens=100)
    await ann.record_task_cost(input_tokens=100)
    await ann.record_decision(title="Pay for it", needs_confirmation=True)
    await lea.add_dag_task(id="a", role="developer")
    board.clock.turn(11 * MINUTE)
    await everybody_is_there(*crew)
    severities = [alert["severity"] for alert in (await alerts(lea)).values()]
    assert severities == ["critical", "warning", "info"]


async def test_each_crew_sees_its_own_and_a_human_all(board: Board, crew: tuple[Agent, ...]) -> None:
    """ID7"""
    lea, *_ = crew
    mia = await board.agent("mia", role="lead")
    canary = await mia.record_decision(title="canary", needs_confirmation=True)
    board.clock.turn(11 * MINUTE)
    assert "canary" not in str(await lea.list_alerts())
    everything = await board.call("list_alerts", token=await board.human())
    assert any(canary["decision_id"] in alert["alert_id"] for alert in everything["alerts"])
