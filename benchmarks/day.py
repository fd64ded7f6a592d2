"""What agents read in a working day: a lead and three developers build a feature, and the answer to each
of their calls is counted in tokens of four bytes, as a model reads it.

The day is a script: every call is the product's, its arguments are those of a crew that knows its tools.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.rows import Row
from callboard.board import Board, Config, open_board
from callboard.frames import text_of

TOKEN_BYTES = 4
CREW = ("ben", "dan", "eve")
LONG = (
    "Uploads that break off begin anew at the part that is missing. The client keeps a list of parts that "
    "were confirmed; the server answers with those that it has. Sizes differ, so the last part is checked by "
    "its digest, not by its length."
)

Told = dict[str, list[int]]


class Day:
    """One day's calls, and what each was answered in tokens."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.told: Told = defaultdict(list)

    async def call(self, who: str, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await self._board.call(tool, {"agent_id": who, **arguments})
        self.told[tool].append(-(-len(text_of(answer).encode()) // TOKEN_BYTES))
        return answer


async def live(day: Day) -> None:
    """A feature from its plan to its end, over a day."""
    await _morning(day)
    for number in range(4):
        for place, who in enumerate(CREW):
            await _task(day, who, f"part-{3 * number + place}")
        await _talk(day, number)
    await _evening(day)


async def _morning(day: Day) -> None:
    await day.call("ann", "register_agent", role="lead")
    await day.call("ann", "start_project_session", task="Resumable uploads")
    for who in CREW:
        await day.call(who, "register_agent", role="developer", lead_id="ann")
        await day.call(who, "check_in")
        await day.call(who, "get_briefing", topic="uploads")
    await day.call("ann", "create_chat_group", name="uploads", members=list(CREW))
    tasks = [
        {
            "id": f"part-{number}",
            "role": "developer",
            "title": f"Part {number} of the resumable upload",
            "description": LONG,
            "files": [f"src/upload/part{number}.py", f"tests/test_part{number}.py"],
            "depends_on": [f"part-{number - 3}"] if number >= 3 else [],
        }
        for number in range(12)
    ]
    await day.call("ann", "add_dag_tasks", tasks=tasks)
    await day.call("ann", "record_decision", title="Parts of 8 MiB", rationale=LONG, category="architecture")
    await day.call("ann", "broadcast_message", content=f"The plan stands. {LONG}")


async def _task(day: Day, who: str, task_id: str) -> None:
    """One task as its agent lives it."""
    begun = await day.call(who, "check_in")
    if begun["messages"]:
        receipts = [message["receipt"] for message in begun["messages"]]
        await day.call(who, "ack_messages", receipts=receipts)
    claimed = await day.call(who, "claim_next_dag_task", lock_files=True)
    task = claimed["task"]
    await day.call(who, "get_dag_task", task_id=task["task_id"])
    await day.call(who, "search_knowledge", query="upload parts digest")
    await day.call(who, "list_file_history", file_path="src/upload/common.py")
    await day.call(who, "acquire_file_lock", file_path="src/upload/common.py", reason="the shared types")
    await day.call(who, "check_file_lock", file_path="src/upload/client.py")
    await day.call(who, "heartbeat")
    await day.call(who, "record_file_touch", file_paths=[f"src/upload/{task_id}.py"])
    await day.call(who, "release_file_lock", file_path="src/upload/common.py")
    await day.call(who, "put_knowledge", category="semantic", key=f"about-{task_id}", content=LONG)
    await day.call(who, "log_activity", action_type="progress", summary=f"{task_id} passes its tests")
    await day.call(who, "send_message", to="ann", content=f"{task_id} is done. {LONG}")
    done = {"task_id": task["task_id"], "claim_epoch": task["claim_epoch"], "summary": LONG}
    await day.call(who, "complete_dag_task", **done)


async def _talk(day: Day, number: int) -> None:
    """What is between tasks: the lead reads, decides and answers; the room talks."""
    begun = await day.call("ann", "check_in")
    if begun["messages"]:
        receipts = [message["receipt"] for message in begun["messages"]]
        await day.call("ann", "ack_messages", receipts=receipts)
    await day.call("ann", "get_crew_status")
    await day.call("ann", "list_dag_tasks")
    await day.call("ann", "catch_up")
    await day.call("ben", "send_group_message", group_name="uploads", content=LONG, mentions=["dan"])
    await day.call("dan", "read_group_messages", group_name="uploads")
    got = await day.call("dan", "receive_messages")
    await day.call("dan", "ack_messages", receipts=[message["receipt"] for message in got["messages"]])
    await day.call("eve", "add_collective_memory", category="gotcha", key=f"trap-{number}", value=LONG)
    await day.call("eve", "search_crew", query="digest of the last part")
    await day.call("dan", "list_file_locks")
    work = {"task": f"Review round {number}", "context": LONG}
    given = await day.call("ann", "delegate_task", target_agent_id="eve", **work)
    await day.call("eve", "list_delegations")
    await day.call("eve", "complete_delegation", delegation_id=given["delegation_id"], result=LONG)
    await day.call("ben", "set_timer", delay="2h", label="lunch", message="Look at the long tests")


async def _evening(day: Day) -> None:
    await day.call("ann", "list_activity")
    await day.call("ann", "list_decisions")
    await day.call("ann", "list_agents")
    await day.call("ann", "analyze_dag")
    await day.call("ann", "get_briefing")
    await day.call("ann", "record_session_retro", data={"went_well": LONG})
    for who in CREW:
        await day.call(who, "release_file_locks")
        await day.call(who, "terminate_agent", reason="The day is over")
    await day.call("ann", "end_project_session")


async def results(folder: Path, quick: bool) -> list[Row]:
    """What a day's answers come to, tool by tool: the dearest in sum first."""
    async with open_board(Config(db=folder / "day.db", folder=folder, transport="http")) as board:
        day = Day(board)
        await live(day)
    whole = sum(map(sum, day.told.values()))
    calls = sum(map(len, day.told.values()))
    rows = [_row("answers of a working day", f"{calls} calls", [whole], whole)]
    dearest = sorted(day.told.items(), key=lambda told: -sum(told[1]))
    return rows + [
        _row(
            f"answers of {tool}",
            f"{len(told)} calls, {mean(told):,.0f} each, {max(told):,} at most",
            told,
            whole,
        )
        for tool, told in dearest
    ]


def _row(name: str, measured: str, told: Iterable[int], whole: int) -> Row:
    cost = sum(told)
    return Row(name, measured, "the whole day", cost, whole, cost / whole, unit="tokens", rounds=1)
