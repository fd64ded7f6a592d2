"""Calls that are committed together: each sees what the others before it have done.

Calls that are made at once share one transaction of the store, so a check that looked past it would find
what was committed before all of them; and what belongs together ends together. L1, Q2, S7, T1, T3, T6.
"""

import asyncio
import threading
from contextlib import closing
from typing import Any

from callboard.domains import messages
from callboard.domains.messages.queue import MOST_QUEUED
from callboard.errors import Refused
from callboard.store import Tx
from tests.conftest import Board


async def at_once(board: Board, *calls: tuple[str, dict[str, Any]]) -> list[str]:
    """The codes with which calls that are made at the same time are refused, or "done", sorted."""

    async def outcome(tool: str, arguments: dict[str, Any]) -> str:
        try:
            await board.call(tool, **arguments)
        except Refused as refused:
            return refused.code
        return "done"

    return sorted(await asyncio.gather(*(outcome(tool, arguments) for tool, arguments in calls)))


async def crew(board: Board) -> None:
    await board.call("register_agent", agent_id="ann", role="lead")
    for name in ("ben", "dan"):
        await board.call("register_agent", agent_id=name, role="developer")


async def test_of_two_locks_asked_for_at_once_that_conflict_one_is_granted(board: Board) -> None:
    """L1"""
    await crew(board)
    for number in range(5):
        outcomes = await at_once(
            board,
            ("acquire_file_lock", {"agent_id": "ben", "file_path": f"src/{number}/*.py"}),
            ("acquire_file_lock", {"agent_id": "dan", "file_path": f"src/{number}/a*"}),
        )
        assert outcomes == ["done", "lock_held"]


async def test_a_task_asked_for_at_once_is_given_to_one(board: Board) -> None:
    """T1"""
    await crew(board)
    for number in range(5):
        await board.call("add_dag_task", agent_id="ann", id=f"t{number}", role="developer")
        await at_once(
            board,
            ("claim_next_dag_task", {"agent_id": "ben"}),
            ("claim_next_dag_task", {"agent_id": "dan"}),
        )
        claims = await board.rows(
            "SELECT count(*) FROM _task_transitions WHERE task_id = :id AND to_status = 'running'",
            id=f"t{number}",
        )
        assert claims == [(1,)]


async def test_of_two_edges_tied_at_once_that_close_a_circle_one_is_refused(board: Board) -> None:
    """T6"""
    await crew(board)
    for number in range(5):
        one, two = f"a{number}", f"b{number}"
        for name in (one, two):
            await board.call("add_dag_task", agent_id="ann", id=name, role="developer")
        outcomes = await at_once(
            board,
            ("add_task_dependencies", {"agent_id": "ann", "task_id": one, "depends_on": [two]}),
            ("add_task_dependencies", {"agent_id": "ann", "task_id": two, "depends_on": [one]}),
        )
        assert outcomes == ["cycle", "done"]


async def test_a_fan_out_whose_last_recipient_is_full_reaches_nobody(board: Board) -> None:
    """Q2, M22: whoever comes before it in the fan-out gets nothing either."""
    await crew(board)

    def fill(tx: Tx) -> None:
        messages.enqueue(
            tx,
            targets=["dan"] * MOST_QUEUED,
            message_type="system",
            payload={"text": "x"},
            source=None,
            lead_id="ann",
            project_id="",
        )

    await board.opened.store.write(fill)
    refusal = await board.refusal("broadcast_message", agent_id="ann", content="word")
    assert (refusal["code"], refusal["target_agent_id"]) == ("quota_exceeded", "dan")
    assert (await board.call("list_messages", agent_id="ben"))["messages"] == []


async def test_no_operation_begins_while_another_process_writes(board: Board) -> None:
    """S7, M1: what an operation reads is still so when it writes."""
    began = threading.Event()
    with closing(board.opened.store.connect(readonly=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(board.opened.store.write(lambda tx: began.set()))
        assert not await asyncio.to_thread(began.wait, 0.3)
        other.execute("ROLLBACK")
    await writing
    assert began.is_set()


async def test_a_task_that_comes_back_brings_its_files_with_it(board: Board) -> None:
    """T3, M27: also where the lock was renewed for longer than the claim that it belongs to."""
    await crew(board)
    await board.call("add_dag_task", agent_id="ann", id="t", role="developer", files=["a.py"])
    await board.call("claim_dag_task", agent_id="dan", task_id="t", lock_files=True)
    await board.call("renew_file_lock", agent_id="dan", file_path="a.py", ttl_seconds=80_000)
    await board.turn(650)
    assert (await board.call("get_dag_task", agent_id="ann", task_id="t"))["dag_status"] == "ready"
    assert (await board.call("check_file_lock", agent_id="ann", file_path="a.py"))["state"] == "free"
