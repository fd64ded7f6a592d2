"""Delegations through the tools: work is handed over whole, and ends once, for whatever reason.

A docstring names the promise that its test proves.
"""

import asyncio
import json
import re
from typing import Any

import pytest

from callboard.domains import delegations
from callboard.errors import Refused
from callboard.store import Command
from tests.conftest import Agent, Board, Boards

Crew = tuple[Agent, Agent, Agent]


@pytest.fixture
async def crew(board: Board) -> Crew:
    """A lead and two workers of its crew."""
    return (
        await board.agent("boss", "lead"),
        await board.agent("ann", lead_id="boss"),
        await board.agent("ben", lead_id="boss"),
    )


async def inbox(board: Board, agent_id: str) -> list[dict[str, Any]]:
    """What waits for an agent about delegations, in order."""
    rows = await board.rows(
        "SELECT message_type, source_agent_id, payload FROM message_queue"
        " WHERE target_agent_id = :id AND status = 'queued' ORDER BY id",
        id=agent_id,
    )
    mail = [{"type": kind, "source": source} | json.loads(payload) for kind, source, payload in rows]
    return [message for message in mail if message["type"].startswith("delegation")]


async def fate(board: Board) -> list[tuple[Any, ...]]:
    """The delegations in the order in which they were given: who does it, status, result."""
    return await board.rows("SELECT agent_id, status, result FROM active_delegations ORDER BY seq")


async def hand_over(boss: Agent, to: str = "ann", task: str = "write the parser", **arguments: Any) -> str:
    given = await boss.delegate_task(target_agent_id=to, task=task, **arguments)
    return str(given["delegation_id"])


# Handing over


async def test_work_is_handed_over_with_its_message_and_its_delegator(board: Board, crew: Crew) -> None:
    """T11"""
    boss, _, _ = crew
    given = await boss.delegate_task(target_agent_id="ann", task="write the parser", context="in rust")
    assert (given["status"], given["agent_id"], given["delegator_id"]) == ("active", "ann", "boss")
    [message] = await inbox(board, "ann")
    assert (message["type"], message["source"], message["text"]) == ("delegation", "boss", "write the parser")
    assert (message["delegation_id"], message["context"]) == (given["delegation_id"], "in rust")
    told = await board.rows("SELECT action_type, lead_id FROM activity_log ORDER BY id DESC LIMIT 1")
    assert told == [("delegated", "boss")]


async def test_a_delegation_of_a_task_claims_it_for_its_assignee(board: Board, crew: Crew) -> None:
    """T11"""
    boss, _, _ = crew
    await boss.add_dag_task(id="t1", role="developer")
    given = await boss.delegate_task(target_agent_id="ann", task="do t1", dag_task_id="t1")
    [message] = await inbox(board, "ann")
    task = await boss.get_dag_task(task_id="t1")
    assert (task["dag_status"], task["assigned_agent_id"]) == ("running", "ann")
    assert message["claim_epoch"] == given["claim_epoch"] == task["claim_epoch"] > 0
    assert [line["delegation_id"] for line in task["delegations"]] == [given["delegation_id"]]
    assert (await board.call("receive_messages", agent_id="ann", visibility_seconds=5))["messages"][1:] == []


async def test_a_task_that_cannot_be_claimed_refuses_the_whole_delegation(board: Board, crew: Crew) -> None:
    """T11: no row, no message, no claim."""
    boss, _, _ = crew
    await boss.add_dag_task(id="t1", role="developer")
    await boss.add_dag_task(id="t2", role="developer", depends_on=["t1"])
    await hand_over(boss, "ann", dag_task_id="t1")
    before = await fate(board), await inbox(board, "ben")
    for task_id, code in (("t2", "not_ready"), ("t1", "already_claimed"), ("t3", "unknown_task")):
        refusal = await board.refusal(
            "delegate_task", agent_id="boss", target_agent_id="ben", task="do it", dag_task_id=task_id
        )
        assert (refusal["code"], refusal["task_id"]) == (code, task_id)
    await boss.complete_dag_task(task_id="t1")
    refusal = await board.refusal(
        "delegate_task", agent_id="boss", target_agent_id="ben", task="do it", dag_task_id="t1"
    )
    assert refusal["code"] in ("not_ready", "invalid_transition")
    assert [row[:2] for row in await fate(board)] == [("ann", "completed")]
    assert await inbox(board, "ben") == before[1] == []


async def test_an_assignee_must_be_a_live_member_of_the_crew(board: Board, crew: Crew) -> None:
    await board.agent("chief", "lead")
    await board.agent("eve", lead_id="chief")
    board.clock.turn(61)
    await crew[1].heartbeat()
    await board.settle()
    await board.call("terminate_agent", agent_id="boss", target_agent_id="ben")
    await board.agent("cleo", lead_id="boss")
    board.clock.turn(61)
    for target, code in (
        ("nobody", "unknown_agent"),
        ("eve", "unknown_agent"),
        ("ben", "agent_terminated"),
        ("cleo", "not_ready"),
        ("boss", "invalid_arguments"),
    ):
        refusal = await board.refusal("delegate_task", agent_id="boss", target_agent_id=target, task="do it")
        assert refusal["code"] == code, target
    assert await fate(board) == []


async def test_an_assignee_fits_the_role_of_the_task_unless_the_lead_says_otherwise(
    board: Board, crew: Crew
) -> None:
    boss, _, _ = crew
    await boss.add_dag_task(id="t1", role="architect")
    refusal = await board.refusal(
        "delegate_task", agent_id="boss", target_agent_id="ann", task="do it", dag_task_id="t1"
    )
    assert (refusal["code"], refusal["expected"], refusal["current"]) == (
        "conflict",
        "architect",
        "developer",
    )
    await hand_over(boss, dag_task_id="t1", any_role=True)
    assert [row[:2] for row in await fate(board)] == [("ann", "active")]


async def test_work_waits_for_the_tasks_that_must_be_done_first(board: Board, crew: Crew) -> None:
    boss, _, _ = crew
    for task_id in ("t1", "t2"):
        await boss.add_dag_task(id=task_id, role="developer")
    await boss.skip_dag_task(task_id="t2")
    refusal = await board.refusal(
        "delegate_task", agent_id="boss", target_agent_id="ann", task="go on", depends_on=["t1", "t2"]
    )
    assert (refusal["code"], refusal["blocked_by"]) == ("not_ready", ["t1"])
    refusal = await board.refusal(
        "delegate_task", agent_id="boss", target_agent_id="ann", task="go on", depends_on=["t9"]
    )
    assert refusal["code"] == "unknown_task"
    await boss.complete_dag_task(task_id="t1")
    await hand_over(boss, depends_on=["t1", "t2"])


async def test_work_waits_for_the_decisions_that_must_be_made_first(board: Board, crew: Crew) -> None:
    boss, _, _ = crew
    record = Command("""
        INSERT INTO decisions (id, agent_id, agent_role, lead_id, title, needs_confirmation, seq, digest)
        VALUES ('d1', 'boss', 'lead', 'boss', 'which parser', 1, 1, zeroblob(32))
    """)
    await board.opened.store.write(lambda tx: tx.run(record))
    refusal = await board.refusal(
        "delegate_task", agent_id="boss", target_agent_id="ann", task="go on", depends_on=["decision:d1"]
    )
    assert (refusal["code"], refusal["blocked_by"]) == ("not_ready", ["decision:d1"])
    confirm = Command("""
        UPDATE decisions SET status = 'confirmed', confirmed_by = 'human:maria', assurance = 'client'
    """)
    await board.opened.store.write(lambda tx: tx.run(confirm))
    await hand_over(boss, depends_on=["decision:d1"])


async def test_only_a_lead_delegates(board: Board, crew: Crew) -> None:
    refusal = await board.refusal("delegate_task", agent_id="ann", target_agent_id="ben", task="do it")
    assert refusal["code"] == "forbidden"


async def test_a_repeated_request_key_hands_over_once(board: Board, crew: Crew) -> None:
    """T11"""
    boss, _, _ = crew
    first = await boss.delegate_task(target_agent_id="ann", task="do it", request_key="k")
    again = await boss.delegate_task(target_agent_id="ann", task="do it", request_key="k")
    assert (again["delegation_id"], again["replayed"]) == (first["delegation_id"], True)
    assert len(await inbox(board, "ann")) == len(await fate(board)) == 1


# Ending by word


@pytest.mark.parametrize(
    ("tool", "status"), [("complete_delegation", "completed"), ("fail_delegation", "failed")]
)
async def test_what_came_of_the_work_is_kept_and_told_to_the_delegator_once(
    board: Board, crew: Crew, tool: str, status: str
) -> None:
    """T11"""
    boss, ann, _ = crew
    delegation = await hand_over(boss)
    result = "it parses \N{SNOWMAN}" * 500
    ended = await ann.call(tool, delegation_id=delegation, result=result)
    assert ended["status"] == status
    [line] = (await boss.list_delegations())["delegations"]
    assert (line["status"], line["result"], line["completed_at"]) == (
        status,
        result,
        "2026-01-01T12:00:00.000Z",
    )
    refusal = await board.refusal(tool, agent_id="ann", delegation_id=delegation, result="again")
    assert (refusal["code"], refusal["status"], refusal["allowed_from"]) == (
        "invalid_transition",
        status,
        ["active"],
    )
    [message] = await inbox(board, "boss")
    assert (message["type"], message["source"]) == ("delegation_result", "ann")
    assert message["text"].endswith(result)


async def test_only_the_assignee_ends_it_and_only_the_delegator_or_a_human_takes_it_back(
    board: Board, crew: Crew
) -> None:
    boss, _, _ = crew
    delegation = await hand_over(boss)
    others: list[tuple[str, str, dict[str, Any]]] = [
        ("boss", "complete_delegation", {"result": "x"}),
        ("ben", "complete_delegation", {"result": "x"}),
        ("ben", "fail_delegation", {"result": "x"}),
        ("ann", "cancel_delegation", {}),
        ("ben", "cancel_delegation", {}),
    ]
    for agent_id, tool, arguments in others:
        refusal = await board.refusal(tool, agent_id=agent_id, delegation_id=delegation, **arguments)
        assert (refusal["code"], refusal["object"]) == ("not_owner", delegation)
    human = await board.human()
    refusal = await board.refusal("complete_delegation", token=human, delegation_id=delegation, result="x")
    assert refusal["code"] == "not_owner"
    assert [row[1] for row in await fate(board)] == ["active"]
    await board.call("cancel_delegation", token=human, delegation_id=delegation)
    assert [row[1] for row in await fate(board)] == ["cancelled"]
    assert [message["event"] for message in await inbox(board, "boss")] == ["delegation_cancelled"]


async def test_another_crews_delegation_reads_like_none(board: Board, crew: Crew) -> None:
    boss, _, _ = crew
    delegation = await hand_over(boss)
    await board.agent("chief", "lead")
    refusals = []
    for name in (delegation, "delegation-none"):
        refusal = await board.refusal("cancel_delegation", agent_id="chief", delegation_id=name)
        refusals.append(json.dumps(refusal).replace(name, "?"))
    assert refusals[0] == refusals[1]
    assert (await board.call("list_delegations", agent_id="chief"))["delegations"] == []


async def test_cancelling_ends_its_own_unread_message_and_nothing_else(board: Board, crew: Crew) -> None:
    boss, _, _ = crew
    first, second = await hand_over(boss, task="one"), await hand_over(boss, task="two")
    await boss.cancel_delegation(delegation_id=first, reason="not needed")
    assert [message["delegation_id"] for message in await inbox(board, "ann")] == [second]
    ended = await board.rows("SELECT expired_reason, expired_at FROM message_queue WHERE status = 'expired'")
    assert ended == [("cancelled", "2026-01-01T12:00:00.000Z")]


async def test_cancelling_what_the_assignee_has_read_tells_it(board: Board, crew: Crew) -> None:
    boss, ann, _ = crew
    delegation = await hand_over(boss)
    await ann.receive_messages()
    await boss.cancel_delegation(delegation_id=delegation, reason="not needed")
    message = (await inbox(board, "ann"))[-1]
    assert (message["event"], message["by"]) == ("delegation_cancelled", "boss")
    assert "not needed" in message["text"]


async def test_of_two_ends_at_once_the_first_one_stands(board: Board, crew: Crew) -> None:
    boss, ann, _ = crew
    for _ in range(20):
        delegation = await hand_over(boss)
        ends = await asyncio.gather(
            ann.complete_delegation(delegation_id=delegation, result="done"),
            boss.cancel_delegation(delegation_id=delegation),
            return_exceptions=True,
        )
        [lost] = [end for end in ends if isinstance(end, Refused)]
        assert lost.code == "invalid_transition"
        [won] = [end for end in ends if isinstance(end, dict)]
        assert (await fate(board))[-1][1] == won["status"]


# Ending with the task


@pytest.mark.parametrize(
    ("tool", "by", "arguments", "status"),
    [
        ("complete_dag_task", "ann", {"summary": "all green"}, "completed"),
        ("complete_dag_task", "boss", {"summary": "all green"}, "completed"),
        ("fail_dag_task", "ann", {"failure_reason": "no way"}, "failed"),
        ("skip_dag_task", "boss", {}, "cancelled"),
        ("cancel_dag_task", "boss", {}, "cancelled"),
        ("assign_dag_task", "boss", {"target_agent_id": "ben"}, "cancelled"),
        ("reset_dag", "boss", {"reason": "start over"}, "cancelled"),
    ],
)
async def test_whatever_ends_a_task_settles_its_delegation_and_no_other(
    board: Board, crew: Crew, tool: str, by: str, arguments: dict[str, Any], status: str
) -> None:
    boss, _, _ = crew
    await boss.add_dag_task(id="t1", role="developer")
    other = await hand_over(boss, task="something else")
    await hand_over(boss, dag_task_id="t1")
    named: dict[str, Any] = {} if tool == "reset_dag" else {"task_id": "t1"}
    await board.call(tool, agent_id=by, **named, **arguments)
    ended = (await board.call("list_delegations", agent_id="boss"))["delegations"]
    assert [line["status"] for line in ended] == ["active", status]
    assert [line["delegation_id"] for line in ended if line["status"] == "active"] == [other]
    if status != "cancelled":
        assert (arguments.get("summary") or arguments["failure_reason"]) in ended[1]["result"]
    events = [message["event"] for message in await inbox(board, "boss")]
    assert events == ([f"delegation_{status}"] if by != "boss" else [])


async def test_work_that_its_assignee_lost_is_called_off_when_another_begins_it(
    board: Board, crew: Crew
) -> None:
    boss, ann, ben = crew
    await boss.add_dag_task(id="t1", role="developer")
    await hand_over(boss, "ann", dag_task_id="t1")
    await ann.receive_messages()
    await board.turn(700)
    assert [row[1] for row in await fate(board)] == ["active"]
    await ann.claim_dag_task(task_id="t1")
    assert [row[1] for row in await fate(board)] == ["active"]
    await board.turn(700)
    await ben.claim_dag_task(task_id="t1")
    assert [row[1] for row in await fate(board)] == ["cancelled"]
    for agent_id in ("boss", "ann"):
        assert (await inbox(board, agent_id))[-1]["event"] == "delegation_cancelled"


async def test_work_fails_for_good_when_its_task_was_orphaned_three_times(board: Board, crew: Crew) -> None:
    boss, ann, _ = crew
    await boss.add_dag_task(id="t1", role="developer")
    await hand_over(boss, "ann", dag_task_id="t1")
    await board.turn(700)
    for _ in range(2):
        await ann.claim_dag_task(task_id="t1")
        await board.turn(700)
    assert await fate(board) == [("ann", "failed", '"orphaned"')]


# Ending with an agent


async def test_the_end_of_the_assignee_fails_what_it_was_given_and_tells_the_delegator(
    board: Board, crew: Crew
) -> None:
    boss, ann, _ = crew
    await boss.add_dag_task(id="t1", role="developer")
    await hand_over(boss, "ann")
    await hand_over(boss, "ann", dag_task_id="t1")
    await hand_over(boss, "ben")
    await ann.terminate_agent(reason="enough")
    assert [row[:2] for row in await fate(board)] == [("ann", "failed"), ("ann", "failed"), ("ben", "active")]
    assert [message["event"] for message in await inbox(board, "boss")] == ["delegation_failed"] * 2
    assert (await boss.get_dag_task(task_id="t1"))["dag_status"] == "ready"


async def test_the_end_of_the_delegator_cancels_what_it_gave_and_leaves_the_task_with_its_holder(
    board: Board, crew: Crew
) -> None:
    boss, ann, _ = crew
    await boss.add_dag_task(id="t1", role="developer")
    await hand_over(boss, "ann", dag_task_id="t1")
    await hand_over(boss, "ben")
    await ann.receive_messages()
    await boss.terminate_agent(successor_id="ben")
    assert [row[1] for row in await fate(board)] == ["cancelled", "cancelled"]
    assert [message["event"] for message in await inbox(board, "ann")][-1] == "delegation_cancelled"
    assert [message["event"] for message in await inbox(board, "ben")] == []
    assert (await ann.get_dag_task(task_id="t1"))["assigned_agent_id"] == "ann"
    queued = "SELECT count(*) FROM message_queue WHERE target_agent_id = 'boss' AND status = 'queued'"
    assert await board.rows(queued) == [(0,)]


# Refusals

REFUSALS: list[tuple[str, str, dict[str, Any], str]] = [
    ("boss", "delegate_task", {"target_agent_id": "nobody", "task": "x"}, "unknown_agent"),
    ("boss", "delegate_task", {"target_agent_id": "eve", "task": "x"}, "unknown_agent"),
    ("boss", "delegate_task", {"target_agent_id": "gone", "task": "x"}, "agent_terminated"),
    ("boss", "delegate_task", {"target_agent_id": "boss", "task": "x"}, "invalid_arguments"),
    ("boss", "delegate_task", {"target_agent_id": "ann", "task": " "}, "invalid_arguments"),
    ("boss", "delegate_task", {"target_agent_id": "ann", "task": "x" * 16_385}, "too_large"),
    ("ann", "delegate_task", {"target_agent_id": "ben", "task": "x"}, "forbidden"),
    ("boss", "delegate_task", {"target_agent_id": "ann", "task": "x", "dag_task_id": "no"}, "unknown_task"),
    ("boss", "delegate_task", {"target_agent_id": "ann", "task": "x", "dag_task_id": "t2"}, "not_ready"),
    (
        "boss",
        "delegate_task",
        {"target_agent_id": "ann", "task": "x", "dag_task_id": "t1"},
        "already_claimed",
    ),
    (
        "boss",
        "delegate_task",
        {"target_agent_id": "ann", "task": "x", "dag_task_id": "t3"},
        "budget_exceeded",
    ),
    ("boss", "delegate_task", {"target_agent_id": "ann", "task": "x", "dag_task_id": "t4"}, "conflict"),
    (
        "boss",
        "delegate_task",
        {"target_agent_id": "ann", "task": "x", "dag_task_id": "t5"},
        "invalid_transition",
    ),
    ("boss", "delegate_task", {"target_agent_id": "ann", "task": "x", "depends_on": ["t1"]}, "not_ready"),
    ("ben", "complete_delegation", {"delegation_id": "active", "result": "x"}, "not_owner"),
    ("ann", "complete_delegation", {"delegation_id": "ended", "result": "x"}, "invalid_transition"),
    ("ann", "complete_delegation", {"delegation_id": "none", "result": "x"}, "not_found"),
    ("ben", "fail_delegation", {"delegation_id": "active", "result": "x"}, "not_owner"),
    ("ann", "fail_delegation", {"delegation_id": "ended", "result": "x"}, "invalid_transition"),
    ("eve", "fail_delegation", {"delegation_id": "active", "result": "x"}, "not_found"),
    ("ann", "cancel_delegation", {"delegation_id": "active"}, "not_owner"),
    ("boss", "cancel_delegation", {"delegation_id": "ended"}, "invalid_transition"),
    ("boss", "cancel_delegation", {"delegation_id": "none"}, "not_found"),
]


async def test_a_refusal_leaves_every_row_of_the_store_as_it_was(board: Board, crew: Crew) -> None:
    boss, ann, _ = crew
    await board.agent("chief", "lead")
    await board.agent("eve", lead_id="chief")
    await (await board.agent("gone", lead_id="boss")).terminate_agent()
    for task_id, role in (("t1", "developer"), ("t3", "developer"), ("t4", "architect"), ("t5", "developer")):
        await boss.add_dag_task(id=task_id, role=role)
    await boss.add_dag_task(id="t2", role="developer", depends_on=["t1"])
    named = {"active": await hand_over(boss, dag_task_id="t1"), "ended": await hand_over(boss)}
    await ann.complete_delegation(delegation_id=named["ended"], result="done")
    await boss.set_cost_budget(dag_task_id="t3", limit_tokens=0, on_exceed="block")
    await boss.pause_dag_task(task_id="t5")
    before = await board.contents()
    for agent_id, tool, arguments, code in REFUSALS:
        given = {name: named.get(str(value), value) for name, value in arguments.items()}
        refusal = await board.refusal(tool, agent_id=agent_id, **given)
        assert refusal["code"] == code, (tool, arguments)
        assert await board.contents() == before, (tool, arguments)


# Reading


async def test_delegations_are_listed_by_assignee_status_and_task_page_by_page(
    board: Board, crew: Crew
) -> None:
    boss, ann, ben = crew
    await boss.add_dag_task(id="t1", role="developer")
    given = [await hand_over(boss, "ann" if number % 2 else "ben") for number in range(6)]
    linked = await hand_over(boss, "ann", dag_task_id="t1")
    await ann.complete_delegation(delegation_id=given[1], result="done")

    async def ids(**filters: Any) -> list[str]:
        return [line["delegation_id"] for line in (await ben.list_delegations(**filters))["delegations"]]

    assert await ids() == [*given, linked]
    assert await ids(target_agent_id="ann") == [given[1], given[3], given[5], linked]
    assert await ids(target_agent_id="ann", status="active") == [given[3], given[5], linked]
    assert await ids(status="completed") == [given[1]]
    assert await ids(dag_task_id="t1") == [linked]
    assert await ids(dag_task_id="t1", target_agent_id="ben") == []
    first = await ben.list_delegations(limit=4)
    second = await ben.list_delegations(limit=4, after_id=first["next_after_id"])
    assert [line["delegation_id"] for line in first["delegations"] + second["delegations"]] == [
        *given,
        linked,
    ]
    assert "next_after_id" not in second
    human = await board.human()
    assert len((await board.call("list_delegations", token=human))["delegations"]) == 7


async def test_delegations_outlive_a_restart(boards: Boards) -> None:
    async with boards() as board:
        boss, _ = await board.agent("boss", "lead"), await board.agent("ann", lead_id="boss")
        delegation = await hand_over(boss)
    async with boards() as board:
        await board.call("complete_delegation", agent_id="ann", delegation_id=delegation, result="done")
        assert [message["event"] for message in await inbox(board, "boss")] == ["delegation_completed"]


async def test_what_ends_a_task_or_an_agent_reads_only_its_own_delegations(board: Board) -> None:
    """However many there are: each statement reads an index by its key."""
    db = board.opened.store.connect()
    try:
        for query, index in (
            (delegations.ACTIVE_OF_TASK, "idx_ad_dag_task"),
            (delegations.LATEST_OF_TASK, "idx_ad_dag_task"),
            (delegations.ACTIVE_TO, "idx_ad_agent"),
            (delegations.ACTIVE_FROM, "_idx_ad_delegator"),
            (delegations.LISTINGS["task"], "idx_ad_dag_task"),
            (delegations.LISTINGS["agent"], "idx_ad_agent"),
            (delegations.LISTINGS["crew"], "_idx_ad_lead"),
        ):
            names = dict.fromkeys(re.findall(r":(\w+)", query.sql), "")
            plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {query.sql}", names).fetchall()]
            assert any(f"USING INDEX {index} " in line for line in plan), (query.sql, plan)
    finally:
        db.close()
