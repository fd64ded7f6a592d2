"""Catching up: what happened since a place in the ledger, told by cursor."""

import asyncio
from typing import Any

import pytest

from callboard.domains.crew import catching_up
from tests.conftest import Agent, Board

Answer = dict[str, Any]


@pytest.fixture
async def crew(board: Board) -> tuple[Agent, Agent, Agent]:
    lea = await board.agent("lea", role="lead")
    return lea, await board.agent("ann"), await board.agent("ben")


def change(answer: Answer, kind: str, name: str) -> Answer:
    [found] = [entry for entry in answer["changes"] if (entry["kind"], entry["id"]) == (kind, name)]
    return dict(found)


async def test_entries_are_grouped_by_what_they_are_about(crew: tuple[Agent, ...]) -> None:
    lea, ann, ben = crew
    start = (await lea.catch_up())["next_after_id"]
    await lea.add_dag_task(id="parse", role="developer", title="Parse it")
    await ben.claim_next_dag_task()
    await ben.complete_dag_task(task_id="parse", summary="done")
    await ben.acquire_file_lock(file_path="a.py")
    await ben.release_file_lock(file_path="a.py")
    decided = await lea.record_decision(title="Use TOML")
    await ben.log_activity(action_type="progress_update", summary="halfway")
    answer = await ann.catch_up(since_id=start)
    task = change(answer, "task", "parse")
    assert (task["action_type"], task["count"]) == ("task_completed", 3)  # what says most
    assert change(answer, "file", "a.py")["count"] == 2
    assert change(answer, "decision", decided["decision_id"])
    assert change(answer, "agent", "ben")["summary"] == "halfway"


async def test_what_concerns_the_reader_comes_first_then_what_weighs_most(crew: tuple[Agent, ...]) -> None:
    lea, ann, ben = crew
    await lea.add_dag_tasks(tasks=[{"id": "own", "role": "developer"}, {"id": "other", "role": "developer"}])
    await ann.claim_dag_task(task_id="own")
    start = (await lea.catch_up())["next_after_id"]
    await ben.acquire_file_lock(file_path="z.py")
    await ben.claim_dag_task(task_id="other")
    await ben.fail_dag_task(task_id="other", failure_reason="no")
    await lea.update_dag_task(task_id="own", title="Another title")
    answer = await ann.catch_up(since_id=start)
    order = [(entry["kind"], entry["id"]) for entry in answer["changes"]]
    assert order == [("task", "own"), ("task", "other"), ("file", "z.py")]
    assert [entry.get("concerns_you") for entry in answer["changes"]] == [True, None, None]


async def test_it_begins_where_the_reader_checked_in_last(crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    await lea.add_dag_task(id="a", role="developer")
    checked = await ann.check_in()
    await lea.add_dag_task(id="b", role="developer")
    answer = await ann.catch_up()
    assert [entry["id"] for entry in answer["changes"]] == ["b"]
    assert answer["since_id"] == checked["since_id"]
    assert [entry["id"] for entry in (await ann.catch_up())["changes"]] == ["b"]  # it only reads


async def test_reading_on_beside_eight_writers_misses_nothing_and_repeats_nothing(
    board: Board, crew: tuple[Agent, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catching_up, "ENTRIES", 7)
    writers = [await board.agent(f"w-{number}") for number in range(8)]
    reader = crew[1]
    start = place = (await reader.catch_up(since_id=0))["next_after_id"]
    while (page := await reader.catch_up(since_id=place)).get("more"):
        start = place = page["next_after_id"]
    start = place = page["next_after_id"]
    entries = 0

    async def read() -> None:
        nonlocal entries, place
        page = await reader.catch_up(since_id=place)
        entries += sum(entry.get("count", 1) for entry in page["changes"])
        place = page["next_after_id"]

    async def write(writer: Agent) -> None:
        for number in range(6):
            await writer.log_activity(action_type="progress_update", summary=f"{writer.id} {number}")

    writing = [asyncio.create_task(write(writer)) for writer in writers]
    while not all(task.done() for task in writing):
        await read()
    last = None
    while last != place:
        last = place
        await read()
    assert entries == 8 * 6
    [(written,)] = await board.rows("SELECT count(*) FROM activity_log WHERE id > :start", start=start)
    assert written == 8 * 6


async def test_more_than_one_page_says_so_and_where_to_go_on(
    crew: tuple[Agent, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catching_up, "ENTRIES", 10)
    lea, ann, _ = crew
    start = (await lea.catch_up(since_id=0))["next_after_id"]
    await lea.add_dag_tasks(tasks=[{"id": f"t{number}", "role": "developer"} for number in range(25)])
    seen: list[str] = []
    place, more = start, True
    while more:
        page = await ann.catch_up(since_id=place)
        seen += [entry["id"] for entry in page["changes"] if entry["kind"] == "task"]
        place, more = page["next_after_id"], page.get("more", False)
    assert sorted(seen) == sorted(f"t{number}" for number in range(25))


async def test_groups_that_do_not_fit_are_counted(crew: tuple[Agent, ...]) -> None:
    lea, ann, _ = crew
    start = (await lea.catch_up(since_id=0))["next_after_id"]
    await lea.add_dag_tasks(tasks=[{"id": f"t{number}", "role": "developer"} for number in range(50)])
    page = await ann.catch_up(since_id=start)
    assert len(page["changes"]) == catching_up.GROUPS
    assert page["groups_left_out"] == 50 - catching_up.GROUPS


async def test_an_agents_own_note_cannot_pass_for_news_of_a_task(crew: tuple[Agent, ...]) -> None:
    """N4"""
    lea, ann, ben = crew
    await lea.add_dag_task(id="parse", role="developer")
    start = (await lea.catch_up(since_id=0))["next_after_id"]
    await ben.log_activity(
        action_type="task_completed", summary="parse is done", details={"task_id": "parse"}
    )
    [entry] = (await ann.catch_up(since_id=start))["changes"]
    assert (entry["kind"], entry["id"]) == ("agent", "ben")


async def test_another_crews_affairs_are_not_told_and_a_human_reads_all(
    board: Board, crew: tuple[Agent, ...]
) -> None:
    """ID7"""
    _, ann, _ = crew
    mia = await board.agent("mia", role="lead")
    await mia.add_dag_task(id="canary", role="developer")
    assert "canary" not in str(await ann.catch_up(since_id=0))
    everything = await board.call("catch_up", token=await board.human(), since_id=0)
    assert change(everything, "task", "canary")


async def test_a_place_beyond_the_ledger_is_empty_and_stays(crew: tuple[Agent, ...]) -> None:
    answer = await crew[1].catch_up(since_id=10_000)
    assert (answer["changes"], answer["next_after_id"]) == ([], 10_000)
