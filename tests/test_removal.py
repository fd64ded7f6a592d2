"""Removal: a project leaves with everything under it, and nothing else leaves with it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callboard.errors import Refused
from callboard.identity import Principal
from callboard.removal import KEPT, REMOVE
from tests.conftest import Board, Boards
from tests.rows import TABLES


@pytest.fixture
async def two(boards: Boards, tmp_path: Path) -> AsyncIterator[tuple[Board, Board]]:
    """Two projects with a full life on one store."""
    other = tmp_path / "other"
    other.mkdir()
    db = tmp_path / "board.db"
    # Over pipes, so that processes are known to their agents.
    async with (
        boards(db=db, transport="stdio") as here,
        boards(db=db, folder=other, transport="stdio") as there,
    ):
        await here.opened.set_lock_delay(3600)
        yield here, there


async def live(board: Board, lead: str, mate: str) -> str:
    """Let a crew of a project do something of every kind; the project's id."""
    lea = await board.agent(lead, role="lead")
    ann = await board.agent(mate, lead_id=lead)
    await lea.start_project_session(task="ship")
    decision = await ann.record_decision(title="Use tabs", needs_confirmation=True)
    await lea.add_dag_task(id="a", role="developer", files=["a.py"])
    await lea.add_dag_task(id="b", role="developer", depends_on=["a", f"decision:{decision['decision_id']}"])
    await lea.delegate_task(target_agent_id=mate, task="do a", dag_task_id="a")
    await ann.submit_dag_task(task_id="a", summary="done")
    await ann.record_task_cost(input_tokens=5, mode="cumulative")
    await lea.set_cost_budget(limit_usd=5)
    await ann.acquire_file_lock(file_path="z.py", ttl_seconds=5)
    await board.turn(700)
    await ann.acquire_file_lock(file_path="w.py", ttl_seconds=86_400)
    await ann.acquire_file_lock(file_path="y.py", mode="shared", ttl_seconds=86_400)
    await board.refusal("acquire_file_lock", agent_id=lead, file_path="w.py", queue_seconds=3600)
    await lea.send_message(to=mate, content="hello", request_key="k")
    await lea.create_chat_group(name="g", members=[mate])
    await ann.send_group_message(group_name="g", content="hi")
    await lea.remove_group_members(group_name="g", members=[mate])
    started = await ann.start_conversation(title="t")
    await ann.add_conversation_message(conversation_id=started["conversation_id"], content="line")
    await ann.set_timer(label="t", delay="1d", message="look")
    await ann.set_agent_memory(key="k", value="v")
    for content in ("one", "two"):
        await ann.set_agent_plan(entries=[{"content": content, "priority": "high", "status": "pending"}])
        await ann.put_knowledge(category="semantic", key="k", content=content)
        await ann.add_collective_memory(category="gotcha", key="k", value=content)
    await lea.record_session_retro(data={"went": "well"})
    await ann.check_in()
    await board.token(agent=mate)
    await lea.end_project_session()
    shown: str = (await lea.get_project())["project_id"]
    return shown


def test_every_table_is_either_removed_from_or_kept_for_a_reason() -> None:
    assert set(REMOVE) | set(KEPT) == set(TABLES)
    assert not set(REMOVE) & set(KEPT)


async def removed(board: Board, project_id: str) -> dict[str, int]:
    board.opened.principal = await board.human()
    return await board.opened.remove_project(project_id)


async def test_a_project_goes_with_all_its_rows_and_another_stays_as_it_was(
    two: tuple[Board, Board],
) -> None:
    here, there = two
    gone_id, kept_id = await live(here, "lea", "ann"), await live(there, "zoe", "yan")
    await here.call("update_project", token=await here.human(), project_id=gone_id, status="archived")
    here.clock.turn(120)
    rows = await removed(here, gone_id)
    assert set(rows) == set(REMOVE), "the story leaves rows in every table"
    after = await there.contents()
    people = 2  # made their tokens on the way
    for table, count in rows.items():
        # Both crews did the same, so that half of each table goes, and none of the other half.
        assert len(after[table]) - (people if table == "_credentials" else 0) == count, table
        assert not any(word in row for row in after[table] for word in (gone_id, "lea", "ann")), table
    assert await here.rows("PRAGMA foreign_key_check") == []
    assert (await there.call("get_project", agent_id="yan"))["project_id"] == kept_id
    assert await here.rows("SELECT count(*) FROM activity_log WHERE action_type = 'project_removed'") == [
        (1,)
    ]


async def test_only_an_archived_project_whose_agents_are_silent_is_removed(board: Board) -> None:
    human = await board.human()
    lea = await board.agent("lea", role="lead")
    project_id = (await lea.get_project())["project_id"]
    board.opened.principal = human
    for status, code in (("active", "invalid_transition"), ("archived", "conflict")):
        await board.opened.call("update_project", {"project_id": project_id, "status": status})
        before = await board.contents()
        with pytest.raises(Refused) as refused:
            await board.opened.remove_project(project_id)
        assert refused.value.code == code
        assert await board.contents() == before


@pytest.mark.parametrize("by", ["nobody", "an agent", "a lead"])
async def test_only_a_person_removes_a_project(board: Board, by: str) -> None:
    lea = await board.agent("lea", role="lead")
    project_id = (await lea.update_project(status="archived"))["project_id"]
    scope = {"an agent": "worker", "a lead": "lead"}.get(by)
    principal: Principal | None = await board.principal(agent="lea", scope=scope) if scope else None
    board.clock.turn(120)
    board.opened.principal = principal
    with pytest.raises(Refused) as refused:
        await board.opened.remove_project(project_id)
    assert refused.value.code == ("unknown_caller" if by == "nobody" else "human_required")


async def test_a_project_that_is_not_there_is_not_removed(board: Board) -> None:
    with pytest.raises(Refused) as refused:
        await removed(board, "none-000000")
    assert refused.value.code == "not_found"
