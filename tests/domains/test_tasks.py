"""Tasks through the tools: every step of the table of transitions, what follows from it, and every refusal.

A docstring names the promise that its test proves.
"""

import asyncio
import json
from typing import Any

import pytest

from callboard.domains import tasks
from callboard.domains.tasks import claims, reading
from callboard.domains.tasks.task import ALLOWED
from callboard.store import Command, Query, Tx
from tests.conftest import Agent, Board, Boards

Answer = dict[str, Any]

STATUSES = (
    "pending", "ready", "running", "in_review", "done", "failed", "blocked", "paused", "skipped", "cancelled",
)  # fmt: skip


class Crew:
    """A lead with two developers and a reviewer."""

    def __init__(self, board: Board, lead: Agent, ann: Agent, ben: Agent, eve: Agent) -> None:
        self.board, self.lead, self.ann, self.ben, self.eve = board, lead, ann, ben, eve

    async def add(self, task_id: str, *depends_on: str, **more: Any) -> Answer:
        added: Answer = await self.lead.add_dag_task(
            **{"id": task_id, "role": "developer", "depends_on": list(depends_on), **more}
        )
        return added

    async def status(self, task_id: str) -> str:
        [(status,)] = await self.board.rows("SELECT dag_status FROM dag_tasks WHERE id = :id", id=task_id)
        return str(status)

    async def statuses(self, *task_ids: str) -> list[str]:
        return [await self.status(task_id) for task_id in task_ids]

    async def history(self, task_id: str) -> list[tuple[str, str | None, str]]:
        rows = await self.board.rows(
            "SELECT action, from_status, to_status FROM _task_transitions WHERE task_id = :id ORDER BY id",
            id=task_id,
        )
        return [(action, was, to) for action, was, to in rows]

    async def inbox(self, agent_id: str) -> list[Answer]:
        rows = await self.board.rows(
            "SELECT payload FROM message_queue WHERE target_agent_id = :id ORDER BY id", id=agent_id
        )
        return [json.loads(payload) for (payload,) in rows]

    async def told(self, agent_id: str, event: str, task_id: str) -> list[Answer]:
        return [
            said
            for said in await self.inbox(agent_id)
            if said.get("event") == event and said.get("task_id") == task_id
        ]

    async def make(self, status: str, task_id: str = "t", **more: Any) -> None:
        """A task in that status, with whatever it takes; where it has a holder, that is ann."""
        if status in ("pending", "blocked"):
            await self.add(f"{task_id}-first")
            await self.add(task_id, f"{task_id}-first", **more)
            if status == "blocked":
                await self.lead.cancel_dag_task(task_id=f"{task_id}-first")
            return
        await self.add(task_id, **more)
        if status in ("running", "in_review", "done", "failed"):
            await self.ann.claim_dag_task(task_id=task_id)
        if status == "in_review":
            await self.ann.submit_dag_task(task_id=task_id, summary="please look")
        elif status == "done":
            await self.ann.complete_dag_task(task_id=task_id, summary="finished")
        elif status == "failed":
            await self.ann.fail_dag_task(task_id=task_id, failure_reason="broken")
        elif status in ("paused", "skipped", "cancelled"):
            tool = {"paused": "pause_dag_task", "skipped": "skip_dag_task", "cancelled": "cancel_dag_task"}
            await self.lead.call(tool[status], task_id=task_id)
        assert await self.status(task_id) == status


@pytest.fixture
async def crew(board: Board) -> Crew:
    lead = await board.agent("boss", role="lead")
    ann, ben = await board.agent("ann"), await board.agent("ben")
    return Crew(board, lead, ann, ben, await board.agent("eve", role="code-reviewer"))


async def everything(board: Board) -> list[list[tuple[Any, ...]]]:
    """All that a refused call must leave as it was."""
    tables = (
        "dag_tasks", "_task_edges", "_task_decisions", "_task_transitions", "_task_results", "_leases",
        "active_delegations", "message_queue", "activity_log",
    )  # fmt: skip
    await board.settle()
    return [await board.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


async def refused(crew: Crew, agent: Agent, tool: str, **arguments: Any) -> Answer:
    """A call that must refuse, and change nothing."""
    await crew.board.settle()
    before = await everything(crew.board)
    refusal = await crew.board.refusal(tool, agent_id=agent.id, **arguments)
    assert await everything(crew.board) == before
    return refusal


# The table of transitions: who acts, the call, and where it leads from each status. What is not here is
# refused.

Act = tuple[str, str, dict[str, Any]]
ACTS: dict[str, Act] = {
    "claim": ("ben", "claim_dag_task", {}),
    "assign": ("lead", "assign_dag_task", {"target_agent_id": "ben"}),
    "release": ("ann", "release_dag_task", {}),
    "submit": ("ann", "submit_dag_task", {}),
    "approve": ("lead", "review_dag_task", {"verdict": "approve"}),
    "reject": ("lead", "review_dag_task", {"verdict": "reject"}),
    "complete": ("lead", "complete_dag_task", {"summary": "by the lead"}),
    "fail": ("lead", "fail_dag_task", {"failure_reason": "no use"}),
    "pause": ("lead", "pause_dag_task", {}),
    "resume": ("lead", "resume_dag_task", {}),
    "retry": ("lead", "retry_dag_task", {}),
    "reopen": ("lead", "reopen_dag_task", {}),
    "skip": ("lead", "skip_dag_task", {}),
    "cancel": ("lead", "cancel_dag_task", {}),
    "force_ready": ("lead", "force_ready_dag_task", {}),
    "archive": ("lead", "archive_dag_tasks", {}),
}
TABLE: dict[str, dict[str, str]] = {
    "claim": {"ready": "running"},
    "assign": {"ready": "running", "running": "running", "in_review": "running"},
    "release": {"running": "ready"},
    "submit": {"running": "in_review"},
    "approve": {"in_review": "done"},
    "reject": {"in_review": "running"},
    "complete": dict.fromkeys(("running", "paused", "ready", "in_review"), "done"),
    "fail": dict.fromkeys(("running", "in_review"), "failed"),
    "pause": dict.fromkeys(("pending", "ready", "blocked", "running", "in_review"), "paused"),
    "resume": {"paused": "ready"},
    "retry": {"failed": "ready"},
    "reopen": dict.fromkeys(("done", "skipped", "cancelled"), "ready"),
    "skip": dict.fromkeys(
        ("pending", "ready", "running", "blocked", "paused", "failed", "in_review"), "skipped"
    ),
    "cancel": dict.fromkeys(
        ("pending", "ready", "running", "blocked", "paused", "failed", "in_review"), "cancelled"
    ),
    "force_ready": dict.fromkeys(("pending", "blocked"), "ready"),
    "archive": {status: status for status in ("done", "failed", "skipped", "cancelled")},
}
OTHER_CODES = {
    **{("claim", status): "not_ready" for status in ("pending", "blocked", "paused")},
    **{("claim", status): "already_claimed" for status in ("running", "in_review")},
    **{("assign", status): "not_ready" for status in ("pending", "blocked")},
}


@pytest.mark.parametrize("action", TABLE)
async def test_an_action_leads_where_the_table_says_and_is_refused_everywhere_else(
    crew: Crew, action: str
) -> None:
    """T5"""
    who, tool, arguments = ACTS[action]
    agent: Agent = getattr(crew, who)
    for status in STATUSES:
        task_id = f"was-{status}"
        await crew.make(status, task_id)
        target: dict[str, Any] = {"task_ids": [task_id]} if action == "archive" else {"task_id": task_id}
        before = await crew.history(task_id)
        if status in TABLE[action]:
            await agent.call(tool, **target, **arguments)
            assert await crew.status(task_id) == TABLE[action][status]
            [(_, was, to)] = (await crew.history(task_id))[len(before) :]
            assert (was, to) == (status, TABLE[action][status])
            continue
        refusal = await refused(crew, agent, tool, **target, **arguments)
        assert refusal["code"] == OTHER_CODES.get((action, status), "invalid_transition")
        assert (refusal["task_id"], refusal["status"]) == (task_id, status)
        if refusal["code"] == "invalid_transition":
            own = {"approve": "review", "reject": "review"}.get(action, action)
            assert set(refusal["allowed_from"]) == set(TABLE[action]) == ALLOWED[own]
            assert set(refusal["allowed"]) == {name for name, froms in ALLOWED.items() if status in froms}


async def test_an_archived_task_takes_part_in_nothing(crew: Crew) -> None:
    await crew.make("done", "t")
    await crew.lead.archive_dag_tasks(task_ids=["t"])
    for action, (who, tool, arguments) in ACTS.items():
        target: dict[str, Any] = {"task_ids": ["t"]} if action == "archive" else {"task_id": "t"}
        refusal = await refused(crew, getattr(crew, who), tool, **target, **arguments)
        assert (refusal["code"], refusal["archived"]) == ("invalid_transition", True), tool
        assert refusal["allowed"] == ["unarchive"]


# Adding


async def test_a_task_is_ready_when_all_it_depends_on_is_done_or_skipped(crew: Crew) -> None:
    """T7"""
    await crew.add("a")
    await crew.add("b")
    assert (await crew.add("c", "a", "b"))["dag_status"] == "pending"
    await crew.ann.claim_dag_task(task_id="a")
    assert (await crew.ann.complete_dag_task(task_id="a"))["newly_ready"] == []
    assert (await crew.lead.skip_dag_task(task_id="b"))["newly_ready"] == ["c"]
    assert (await crew.add("d", "a", "b"))["dag_status"] == "ready"


async def test_every_field_of_a_task_is_kept(crew: Crew) -> None:
    given = {
        "title": "Parse",
        "description": "all of it",
        "files": ["src/../src/p.py", "docs/"],
        "priority": -(2**63),
        "model": "m",
        "team_id": "red",
    }
    await crew.add("t", **given)
    task = await crew.ann.get_dag_task(task_id="t")
    kept = {name: task[name] for name in given}
    assert kept == given | {"files": ["src/p.py", "docs"]}


async def test_a_batch_in_any_order_is_added_whole(crew: Crew) -> None:
    tasks = [
        {"id": "c", "role": "developer", "depends_on": ["b", "a"]},
        {"id": "b", "role": "developer", "depends_on": ["a"], "files": ["./x.py"]},
        {"id": "a", "role": "developer"},
    ]
    assert await crew.lead.add_dag_tasks(tasks=tasks) == {"count": 3, "ready": ["a"], "ready_count": 1}
    assert await crew.statuses("a", "b", "c") == ["ready", "pending", "pending"]
    assert (await crew.ann.get_dag_task(task_id="b"))["files"] == ["x.py"]


@pytest.mark.parametrize(
    ("tasks", "code", "facts"),
    [
        ([("a", ["b"]), ("b", ["a"])], "cycle", {"cycle": ["a", "b", "a"]}),
        ([("a", ["a"])], "cycle", {"cycle": ["a", "a"]}),
        ([("a", []), ("a", [])], "task_exists", {"task_id": "a"}),
        ([("old", [])], "task_exists", {"task_id": "old", "status": "ready"}),
        ([("a", ["nowhere"])], "unknown_task", {"task_id": "nowhere"}),
        ([("a", ["gone"])], "unknown_task", {"task_id": "gone"}),
        ([("a", ["decision:d-1"])], "not_found", {"kind": "decision", "given": "d-1"}),
        ([("decision:a", [])], "invalid_arguments", {}),
        ([("a", ["old", "old"])], "invalid_arguments", {}),
    ],
)
async def test_a_batch_with_one_fault_adds_nothing(
    crew: Crew, tasks: list[tuple[str, list[str]]], code: str, facts: dict[str, Any]
) -> None:
    """T6"""
    await crew.add("old")
    await crew.make("done", "gone")
    await crew.lead.archive_dag_tasks(task_ids=["gone"])
    batch = [{"id": name, "role": "developer", "depends_on": deps} for name, deps in tasks]
    refusal = await refused(
        crew, crew.lead, "add_dag_tasks", tasks=[{"id": "fine", "role": "developer"}, *batch]
    )
    assert refusal["code"] == code
    assert refusal.items() >= facts.items()


async def test_an_unknown_role_and_a_worker_are_refused(crew: Crew) -> None:
    refusal = await refused(crew, crew.lead, "add_dag_task", id="t", role="develper")
    assert (refusal["code"], refusal["near"]) == ("not_found", ["developer"])
    assert (await refused(crew, crew.ann, "add_dag_task", id="t", role="developer"))["code"] == "forbidden"


async def test_an_unknown_task_is_refused_with_near_names(crew: Crew) -> None:
    await crew.add("parser")
    refusal = await refused(crew, crew.ann, "claim_dag_task", task_id="parsr")
    assert (refusal["code"], refusal["near"]) == ("unknown_task", ["parser"])


async def test_the_same_id_under_two_leads_is_two_tasks(crew: Crew) -> None:
    other = await crew.board.agent("chief", role="lead")
    await crew.add("t")
    await other.add_dag_task(id="t", role="developer", depends_on=[])
    cal = await crew.board.agent("cal", lead_id="chief")
    await cal.claim_dag_task(task_id="t")
    rows = await crew.board.rows("SELECT lead_id, dag_status FROM dag_tasks WHERE id = 't' ORDER BY lead_id")
    assert rows == [("boss", "ready"), ("chief", "running")]


async def test_an_archived_id_begins_anew_in_its_row_and_keeps_its_history(crew: Crew) -> None:
    await crew.make("done", "a")
    await crew.add("b", "a")
    await crew.lead.archive_dag_tasks(task_ids=["a"])
    assert await crew.status("b") == "ready"
    await crew.add("a", "b", title="again")
    assert await crew.statuses("a", "b") == ["pending", "ready"]
    assert await crew.board.rows("SELECT depends_on FROM dag_tasks ORDER BY id") == [('["b"]',), ("[]",)]
    assert [action for action, _, _ in await crew.history("a")] == [
        "add", "derive", "claim", "complete", "archive", "add",
    ]  # fmt: skip


async def test_more_files_than_a_claim_can_name_are_refused(crew: Crew) -> None:
    files = [f"{'x' * 60}/{number}.py" for number in range(500)]
    refusal = await refused(crew, crew.lead, "add_dag_task", id="t", role="developer", files=files)
    assert (refusal["code"], refusal["field"]) == ("too_large", "files")


async def test_a_change_of_text_is_guarded_by_its_version(crew: Crew) -> None:
    await crew.add("t", title="old", files=["a.py"])
    changed = await crew.lead.update_dag_task(task_id="t", title="new", expected_version=1)
    assert changed == {"task_id": "t", "dag_status": "ready", "version": 2}
    refusal = await refused(crew, crew.lead, "update_dag_task", task_id="t", title="x", expected_version=1)
    assert (refusal["code"], refusal["current"]) == ("conflict", 2)
    task = await crew.ann.get_dag_task(task_id="t")
    assert (task["title"], task["files"]) == ("new", ["a.py"])
    found = await crew.ann.list_dag_tasks(query="new")
    assert [line["task_id"] for line in found["tasks"]] == ["t"]


# Dependencies


async def test_edges_added_and_removed_change_what_follows(crew: Crew) -> None:
    """T7"""
    for name in "abc":
        await crew.add(name)
    added = await crew.lead.add_task_dependencies(task_id="c", depends_on=["b", "a"])
    assert (added["dag_status"], added["depends_on"]) == ("pending", ["a", "b"])
    await crew.lead.cancel_dag_task(task_id="b")
    assert await crew.status("c") == "blocked"
    removed = await crew.lead.remove_task_dependencies(task_id="c", depends_on=["b", "nothing"])
    assert (removed["dag_status"], removed["changed"]) == ("pending", ["b"])
    removed = await crew.lead.remove_task_dependencies(task_id="c", depends_on=["a"])
    assert (removed["dag_status"], removed["depends_on"]) == ("ready", [])


async def test_a_circle_is_named_by_its_shortest_path(crew: Crew) -> None:
    """T6"""
    await crew.add("a")
    for name, dep in (("b", "a"), ("c", "b"), ("d", "c"), ("e", "d")):
        await crew.add(name, dep)
    refusal = await refused(crew, crew.lead, "add_task_dependencies", task_id="a", depends_on=["e", "c"])
    assert (refusal["code"], refusal["cycle"]) == ("cycle", ["a", "c", "b", "a"])
    refusal = await refused(crew, crew.lead, "add_task_dependencies", task_id="a", depends_on=["a"])
    assert (refusal["code"], refusal["cycle"]) == ("cycle", ["a", "a"])


async def test_an_edge_that_is_there_or_leads_nowhere_is_refused(crew: Crew) -> None:
    """T6"""
    await crew.add("a")
    await crew.add("b", "a")
    for depends_on, code in (
        (["a"], "invalid_arguments"),
        (["c", "c"], "invalid_arguments"),
        (["c"], "unknown_task"),
        (["decision:x"], "not_found"),
    ):
        refusal = await refused(crew, crew.lead, "add_task_dependencies", task_id="b", depends_on=depends_on)
        assert refusal["code"] == code


@pytest.mark.parametrize("status", ["running", "in_review", "paused"])
async def test_what_is_being_worked_on_goes_on_when_it_gets_a_dependency_and_its_holder_is_told(
    crew: Crew, status: str
) -> None:
    await crew.make(status)
    await crew.add("late")
    after = await crew.lead.add_task_dependencies(task_id="t", depends_on=["late"])
    assert after["dag_status"] == status
    if status != "paused":
        assert await crew.told("ann", "task_dependencies_changed", "t")
        await crew.lead.pause_dag_task(task_id="t")
    if status == "in_review":
        assert (await crew.lead.resume_dag_task(task_id="t"))["dag_status"] == "in_review"
        return
    if status == "running":
        await crew.lead.resume_dag_task(task_id="t")
        assert (await crew.ann.release_dag_task(task_id="t"))["dag_status"] == "pending"
    else:
        assert (await crew.lead.resume_dag_task(task_id="t"))["dag_status"] == "pending"


@pytest.mark.parametrize("status", ["done", "failed", "skipped", "cancelled"])
async def test_what_is_finished_neither_gets_nor_loses_dependencies(crew: Crew, status: str) -> None:
    await crew.make(status)
    await crew.add("late")
    for tool in ("add_task_dependencies", "remove_task_dependencies"):
        refusal = await refused(crew, crew.lead, tool, task_id="t", depends_on=["late"])
        assert refusal["code"] == "invalid_transition"


async def test_who_works_on_a_task_may_change_its_dependencies_and_nobody_else(crew: Crew) -> None:
    await crew.make("running")
    await crew.add("late")
    refusal = await refused(crew, crew.ben, "add_task_dependencies", task_id="t", depends_on=["late"])
    assert refusal["code"] == "forbidden"
    await crew.ann.add_task_dependencies(task_id="t", depends_on=["late"])


# What follows: failure and its undoing


async def test_failure_blocks_all_that_lies_behind_it_and_names_its_root(crew: Crew) -> None:
    """T7"""
    await crew.add("a")
    await crew.add("b", "a")
    await crew.add("c", "b")
    await crew.add("d", "c")
    await crew.ann.claim_dag_task(task_id="a")
    failed = await crew.ann.fail_dag_task(task_id="a", failure_reason="no way")
    assert failed["newly_blocked"] == ["b", "c", "d"]
    listed = await crew.ann.list_dag_tasks(dag_status=["blocked"])
    assert {line["root_cause"]["task_id"] for line in listed["tasks"]} == {"a"}
    [cause] = (await crew.lead.analyze_dag())["root_causes"]
    assert (cause["cause"], cause["status"], cause["blocked"]) == ("a", "failed", ["b", "c", "d"])
    await crew.lead.retry_dag_task(task_id="a")
    assert await crew.statuses("a", "b", "c", "d") == ["ready", "pending", "pending", "pending"]


async def test_a_retry_frees_only_what_nothing_else_blocks(crew: Crew) -> None:
    for name in ("x", "y"):
        await crew.add(name)
    await crew.add("z", "x", "y")
    for name in ("x", "y"):
        await crew.ann.claim_dag_task(task_id=name)
        await crew.ann.fail_dag_task(task_id=name, failure_reason="no")
    await crew.lead.retry_dag_task(task_id="x")
    assert await crew.status("z") == "blocked"
    await crew.lead.retry_dag_task(task_id="y")
    assert await crew.status("z") == "pending"


async def test_a_diamond_follows_each_of_its_arms(crew: Crew) -> None:
    await crew.add("top")
    await crew.add("left", "top")
    await crew.add("right", "top")
    await crew.add("bottom", "left", "right")
    await crew.lead.skip_dag_task(task_id="top")
    await crew.lead.cancel_dag_task(task_id="left")
    await crew.lead.complete_dag_task(task_id="right")
    assert await crew.status("bottom") == "blocked"
    await crew.lead.reopen_dag_task(task_id="left")
    assert await crew.statuses("left", "bottom") == ["ready", "pending"]
    assert (await crew.lead.complete_dag_task(task_id="left"))["newly_ready"] == ["bottom"]


async def test_being_blocked_passes_through_a_paused_task_and_ends_at_one_that_goes_on(crew: Crew) -> None:
    await crew.add("a")
    await crew.add("held", "a")
    await crew.add("behind", "held")
    await crew.add("going", "a")
    await crew.add("after", "going")
    await crew.lead.pause_dag_task(task_id="held")
    await crew.lead.force_ready_dag_task(task_id="going")
    await crew.lead.cancel_dag_task(task_id="a")
    assert await crew.statuses("held", "behind", "going", "after") == [
        "paused",
        "blocked",
        "ready",
        "pending",
    ]
    await crew.lead.reopen_dag_task(task_id="a")
    assert await crew.statuses("held", "behind") == ["paused", "pending"]


@pytest.mark.parametrize("way", ["release", "reject", "lapse", "lapse in a pause", "leave in a pause"])
async def test_work_that_falls_back_into_a_blocked_line_blocks_what_waits_for_it(
    crew: Crew, way: str
) -> None:
    """T7: while it was worked on, it did not."""
    await crew.add("first")
    await crew.add("work", "first")
    await crew.add("behind", "work")
    await crew.add("last", "behind")
    await crew.lead.complete_dag_task(task_id="first")
    await crew.ann.claim_dag_task(task_id="work")
    await crew.lead.reopen_dag_task(task_id="first")
    await crew.lead.cancel_dag_task(task_id="first")
    assert await crew.statuses("work", "behind", "last") == ["running", "pending", "pending"]
    if way == "release":
        await crew.ann.release_dag_task(task_id="work")
    elif way == "reject":
        await crew.ann.submit_dag_task(task_id="work")
        await crew.lead.terminate_agent(target_agent_id="ann")
        await crew.lead.review_dag_task(task_id="work", verdict="reject", comment="not yet")
    elif way == "lapse":
        await crew.board.turn(601)
    else:
        await crew.lead.pause_dag_task(task_id="work")
        if way == "lapse in a pause":
            await crew.board.turn(601)
        else:
            await crew.lead.terminate_agent(target_agent_id="ann")
        assert await crew.statuses("work", "behind", "last") == ["paused", "blocked", "blocked"]
        await crew.lead.resume_dag_task(task_id="work")
    assert await crew.statuses("work", "behind", "last") == ["blocked", "blocked", "blocked"]
    told = await crew.board.rows(
        "SELECT details FROM activity_log WHERE details ->> 'newly_blocked' NOT NULL"
    )
    assert [json.loads(details)["newly_blocked"] for (details,) in told[-1:]] == [["behind", "last"]]
    [cause] = (await crew.lead.analyze_dag())["root_causes"]
    assert (cause["cause"], cause["blocked"]) == ("first", ["work", "behind", "last"])
    await crew.lead.reopen_dag_task(task_id="first")
    assert await crew.statuses("work", "behind", "last") == ["pending", "pending", "pending"]


async def test_reopening_leaves_what_has_begun_alone_and_names_it(crew: Crew) -> None:
    await crew.make("done", "a")
    for name in ("begun", "waiting"):
        await crew.add(name, "a")
    await crew.ann.claim_dag_task(task_id="begun")
    reopened = await crew.lead.reopen_dag_task(task_id="a")
    assert reopened["still_going"] == ["begun"]
    assert await crew.statuses("a", "begun", "waiting") == ["ready", "running", "pending"]


@pytest.mark.parametrize("ends", ["edge", "retry", "reopen"])
async def test_a_forced_task_stays_ready_until_something_new_speaks_against_it(crew: Crew, ends: str) -> None:
    await crew.make("pending")
    await crew.lead.force_ready_dag_task(task_id="t", reason="trust me")
    assert (await crew.ann.get_dag_task(task_id="t"))["overridden_by"] == "boss"
    await crew.ann.claim_dag_task(task_id="t")
    assert (await crew.ann.release_dag_task(task_id="t"))["dag_status"] == "ready"
    if ends == "edge":
        await crew.add("late")
        await crew.lead.add_task_dependencies(task_id="t", depends_on=["late"])
    elif ends == "retry":
        await crew.ann.claim_dag_task(task_id="t")
        await crew.ann.fail_dag_task(task_id="t", failure_reason="no")
        await crew.lead.retry_dag_task(task_id="t")
    else:
        await crew.lead.skip_dag_task(task_id="t")
        await crew.lead.reopen_dag_task(task_id="t")
    assert await crew.status("t") == "pending"


@pytest.mark.parametrize(
    ("from_status", "then"),
    [
        ("pending", "pending"),
        ("ready", "ready"),
        ("blocked", "blocked"),
        ("running", "running"),
        ("in_review", "in_review"),
    ],
)
async def test_a_pause_leads_back_to_where_it_came_from(crew: Crew, from_status: str, then: str) -> None:
    await crew.make(from_status, files=["a.py"])
    if from_status == "running":
        await crew.ann.claim_dag_task(task_id="t", lock_files=True)
    await crew.lead.pause_dag_task(task_id="t", reason="wait")
    if from_status == "running":
        assert (await crew.ann.list_file_locks())["locks"][0]["file_path"] == "a.py"
        assert await crew.told("ann", "task_paused", "t")
    assert (await crew.lead.resume_dag_task(task_id="t"))["dag_status"] == then


# Claims


async def test_the_next_task_is_the_most_urgent_then_what_unblocks_most_then_the_oldest(crew: Crew) -> None:
    """T1"""
    await crew.add("old")
    await crew.add("young")
    await crew.add("hub")
    await crew.add("urgent", priority=5)
    await crew.add("behind", "hub")
    await crew.add("reviewing", role="code-reviewer", priority=9)
    order = [(await crew.ann.claim_next_dag_task())["task"]["task_id"] for _ in range(4)]
    assert order == ["urgent", "hub", "old", "young"]
    nothing = await crew.ann.claim_next_dag_task()
    assert nothing == {"why": "No task is ready for developer. There are some for code-reviewer."} | {
        key: value for key, value in nothing.items() if key == "unread"
    }
    assert (await crew.ann.claim_next_dag_task(role="code-reviewer"))["task"]["task_id"] == "reviewing"


@pytest.mark.parametrize(
    ("taken", "wanted"), [("src/a.py", "src/a.py"), ("src/", "src/a.py"), ("src/*.py", "src/a*"), ("**", "x")]
)
@pytest.mark.parametrize("by", ["lock", "task", "paused task"])
async def test_a_task_whose_files_others_have_is_passed_over(
    crew: Crew, by: str, taken: str, wanted: str
) -> None:
    if by == "lock":
        await crew.ben.acquire_file_lock(file_path=taken)
    else:
        await crew.add("theirs", files=[taken])
        await crew.ben.claim_dag_task(task_id="theirs")
    if by == "paused task":
        await crew.lead.pause_dag_task(task_id="theirs")
    await crew.add("busy", files=[wanted], priority=1)
    await crew.add("free", files=["docs/readme.md"] if taken != "**" else [])
    assert (await crew.ann.claim_next_dag_task())["task"]["task_id"] == "free"
    nothing = await crew.ann.claim_next_dag_task()
    assert (nothing["busy_with"], nothing["busy_file"]) == ("ben", wanted)
    assert (await crew.ann.claim_next_dag_task(files_free=False))["task"]["task_id"] == "busy"


async def test_a_claim_takes_its_files_with_it_and_gives_back_exactly_those(crew: Crew) -> None:
    await crew.add("t", files=["a.py", "b.py"])
    await crew.ann.acquire_file_lock(file_path="own.py")
    claimed = await crew.ann.claim_dag_task(task_id="t", lock_files=True)
    assert claimed["locks"] == ["a.py", "b.py"]
    done = await crew.ann.complete_dag_task(task_id="t", claim_epoch=claimed["claim_epoch"])
    assert done["released"] == ["a.py", "b.py"]
    assert [lock["file_path"] for lock in (await crew.ann.list_file_locks())["locks"]] == ["own.py"]


@pytest.mark.parametrize("ends", ["complete", "fail", "skip", "cancel", "release", "assign", "reset"])
async def test_whatever_ends_a_claim_ends_its_locks_and_grants_who_waits(crew: Crew, ends: str) -> None:
    await crew.add("t", files=["a.py"])
    await crew.ann.claim_dag_task(task_id="t", lock_files=True)
    await crew.ben.board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py", queue_seconds=600)
    if ends == "reset":
        await crew.lead.reset_dag(reason="anew")
    else:
        who, tool, arguments = ACTS[ends]
        await getattr(crew, who).call(tool, task_id="t", **arguments)
    [lock] = (await crew.ben.list_file_locks())["locks"]
    assert (lock["file_path"], lock["agent_id"]) == ("a.py", "ben")


async def test_a_claim_whose_files_are_locked_is_refused_whole(crew: Crew) -> None:
    await crew.add("t", files=["a.py", "b.py"])
    await crew.ben.acquire_file_lock(file_path="b.py")
    refusal = await refused(crew, crew.ann, "claim_dag_task", task_id="t", lock_files=True)
    assert (refusal["code"], refusal["holder"]) == ("lock_held", "ben")
    claimed = await crew.ann.claim_dag_task(task_id="t")
    assert (claimed["busy_file"], claimed["busy_with"]) == ("b.py", "ben")


async def test_a_claim_is_renewed_by_any_call_and_lapses_without_one(crew: Crew) -> None:
    """T2, T3"""
    await crew.add("t")
    await crew.ann.claim_dag_task(task_id="t")
    for _ in range(3):
        await crew.board.turn(500)
        await crew.ann.whoami()
        await crew.board.settle()
    assert await crew.status("t") == "running"
    await crew.board.turn(599)
    assert await crew.status("t") == "running"
    await crew.board.turn(2)
    assert await crew.status("t") == "ready"
    assert await crew.told("boss", "task_orphaned", "t")


async def test_a_claim_does_not_renew_itself_for_ever(crew: Crew) -> None:
    """T2"""
    await crew.add("t")
    await crew.ann.claim_dag_task(task_id="t")
    for _ in range(4 * 3600 // 500 + 2):
        await crew.board.turn(500)
        await crew.ann.whoami()
        await crew.board.settle()
    assert await crew.status("t") == "ready"


async def test_a_claim_asked_for_again_begins_its_time_anew_under_its_epoch(crew: Crew) -> None:
    await crew.add("t")
    first = await crew.ann.claim_dag_task(task_id="t")
    crew.board.clock.turn(300)
    again = await crew.ann.claim_dag_task(task_id="t")
    assert again["claim_epoch"] == first["claim_epoch"]
    assert again["lease_expires_at"] > first["lease_expires_at"]


async def test_a_task_comes_back_twice_and_fails_the_third_time(crew: Crew) -> None:
    """T3"""
    await crew.add("t")
    await crew.add("behind", "t")
    for attempt in (1, 2, 3):
        claimed = await crew.ann.claim_dag_task(task_id="t")
        assert claimed["attempts"] == attempt - 1
        await crew.board.turn(700)
    task = await crew.ann.get_dag_task(task_id="t")
    assert (task["dag_status"], task["failure_reason"], task["attempts"]) == ("failed", "orphaned", 3)
    assert await crew.status("behind") == "blocked"
    assert len(await crew.told("boss", "task_orphaned", "t")) == 3
    await crew.lead.retry_dag_task(task_id="t")
    assert (await crew.ann.claim_dag_task(task_id="t"))["attempts"] == 0


async def test_the_end_of_an_agent_gives_its_tasks_back(crew: Crew) -> None:
    """T3"""
    for status, name in (("running", "r"), ("in_review", "i"), ("running", "p")):
        await crew.make(status, name, files=[f"{name}.py"])
    await crew.lead.pause_dag_task(task_id="p")
    await crew.ann.terminate_agent()
    assert await crew.statuses("r", "i", "p") == ["ready", "in_review", "paused"]
    for name in ("r", "i", "p"):
        assert await crew.told("boss", "task_orphaned", name)
    assert (await crew.lead.review_dag_task(task_id="i", verdict="reject"))["dag_status"] == "ready"
    assert (await crew.lead.resume_dag_task(task_id="p"))["dag_status"] == "ready"


async def test_a_task_comes_back_when_the_program_of_its_holder_is_gone_for_the_grace(boards: Boards) -> None:
    """T3"""
    async with boards() as board:
        boss = await board.agent("boss", role="lead")
        await boss.add_dag_task(id="t", role="developer")
        async with boards(transport="stdio") as pipe:
            ann = await pipe.agent("ann", lead_id="boss")
            await ann.claim_dag_task(task_id="t")
            await pipe.settle()
        await board.turn(29)
        assert (await boss.get_dag_task(task_id="t"))["dag_status"] == "running"
        await board.turn(2)
        task = await boss.get_dag_task(task_id="t")
        assert (task["dag_status"], task["attempts"]) == ("ready", 1)
        assert task["history"][-1]["reason"] == "the program of ann ended"


async def test_work_handed_in_under_a_claim_that_is_over_is_refused_and_kept(crew: Crew) -> None:
    """T4"""
    await crew.add("t")
    first = await crew.ann.claim_dag_task(task_id="t")
    await crew.board.turn(700)
    second = await crew.ben.claim_dag_task(task_id="t")
    calls: list[dict[str, Any]] = [{"claim_epoch": first["claim_epoch"]}, {}]
    for arguments in calls:
        refusal = await crew.board.refusal(
            "complete_dag_task", agent_id="ann", task_id="t", summary="late", output="text", **arguments
        )
        assert (refusal["code"], refusal["given"], refusal["current"], refusal["holder"]) == (
            "stale_claim", first["claim_epoch"], second["claim_epoch"], "ben",
        )  # fmt: skip
    assert await crew.status("t") == "running"
    results = (await crew.ben.get_dag_task(task_id="t"))["results"]
    assert [(result["kind"], result["output"]) for result in results] == [("late", "text"), ("late", "text")]
    ends: list[tuple[str, dict[str, Any]]] = [
        ("submit_dag_task", {}),
        ("fail_dag_task", {"failure_reason": "late"}),
    ]
    for tool, more in ends:
        refusal = await crew.board.refusal(tool, agent_id="ann", task_id="t", **more)
        assert refusal["code"] == "stale_claim"
    await crew.ben.complete_dag_task(task_id="t", claim_epoch=second["claim_epoch"])


async def test_an_agents_own_older_claim_is_over_too(crew: Crew) -> None:
    """T4"""
    await crew.add("t")
    first = await crew.ann.claim_dag_task(task_id="t")
    await crew.board.turn(700)
    second = await crew.ann.claim_dag_task(task_id="t")
    refusal = await crew.board.refusal(
        "complete_dag_task", agent_id="ann", task_id="t", claim_epoch=first["claim_epoch"]
    )
    assert (refusal["code"], refusal["current"]) == ("stale_claim", second["claim_epoch"])
    assert await crew.status("t") == "running"


async def test_a_completion_sent_twice_counts_once_and_is_answered_twice(crew: Crew) -> None:
    """T4"""
    await crew.add("t")
    await crew.add("behind", "t")
    epoch = (await crew.ann.claim_dag_task(task_id="t"))["claim_epoch"]
    first = await crew.ann.complete_dag_task(task_id="t", summary="done", claim_epoch=epoch)
    again = await crew.ann.complete_dag_task(task_id="t", summary="done", claim_epoch=epoch)
    assert (first["newly_ready"], again["newly_ready"], again["repeated"]) == (["behind"], ["behind"], True)
    assert [action for action, _, _ in await crew.history("t")].count("complete") == 1
    refusal = await refused(crew, crew.ann, "complete_dag_task", task_id="t", summary="other")
    assert refusal["code"] == "invalid_transition"


async def test_only_the_holder_and_the_lead_end_a_task(crew: Crew) -> None:
    await crew.make("running")
    await crew.add("free")
    for tool, more in (
        ("complete_dag_task", {}),
        ("fail_dag_task", {"failure_reason": "no"}),
        ("submit_dag_task", {}),
        ("release_dag_task", {}),
    ):
        assert (await refused(crew, crew.ben, tool, task_id="t", **more))["code"] == "not_owner"
    assert (await refused(crew, crew.ben, "complete_dag_task", task_id="free"))["code"] == "forbidden"
    assert (await crew.lead.complete_dag_task(task_id="t"))["dag_status"] == "done"
    assert await crew.told("ann", "task_completed", "t")


async def test_a_paused_claim_may_be_completed_by_its_holder(crew: Crew) -> None:
    await crew.make("running")
    await crew.lead.pause_dag_task(task_id="t")
    assert (await crew.ann.complete_dag_task(task_id="t"))["dag_status"] == "done"


async def test_a_completion_tells_the_lead_what_can_be_claimed_now(crew: Crew) -> None:
    await crew.make("running")
    await crew.add("behind", "t")
    await crew.ann.complete_dag_task(task_id="t", summary="all tests pass")
    [said] = await crew.told("boss", "task_completed", "t")
    assert (said["summary"], said["newly_ready"]) == ("all tests pass", ["behind"])


async def test_a_task_is_taken_over_by_assigning_it(crew: Crew) -> None:
    await crew.make("running", files=["a.py"])
    await crew.ann.claim_dag_task(task_id="t", lock_files=True)
    before = (await crew.ann.get_dag_task(task_id="t"))["claim_epoch"]
    taken = await crew.lead.assign_dag_task(task_id="t", target_agent_id="ben", reason="faster")
    assert (taken["assigned_agent_id"], taken["claim_epoch"] > before) == ("ben", True)
    assert await crew.told("ann", "task_assigned", "t")
    assert await crew.told("ben", "task_assigned", "t")
    assert (await crew.ann.list_file_locks())["locks"] == []
    refusal = await crew.board.refusal("complete_dag_task", agent_id="ann", task_id="t")
    assert refusal["code"] == "stale_claim"


async def test_a_task_is_assigned_only_within_the_crew_and_to_who_is_there(crew: Crew) -> None:
    await crew.add("t")
    await crew.board.agent("chief", role="lead")
    await crew.ben.terminate_agent()
    for target, code in (
        ("chief", "unknown_agent"),
        ("nobody", "unknown_agent"),
        ("ben", "agent_terminated"),
    ):
        refusal = await refused(crew, crew.lead, "assign_dag_task", task_id="t", target_agent_id=target)
        assert refusal["code"] == code


async def test_a_used_up_budget_that_blocks_refuses_every_claim(crew: Crew) -> None:
    await crew.add("t")
    await crew.lead.set_cost_budget(limit_tokens=10, on_exceed="block")
    await crew.ann.record_task_cost(input_tokens=20)
    for agent, tool, more in (
        (crew.ann, "claim_next_dag_task", {}),
        (crew.ann, "claim_dag_task", {"task_id": "t"}),
        (crew.lead, "assign_dag_task", {"task_id": "t", "target_agent_id": "ben"}),
    ):
        assert (await refused(crew, agent, tool, **more))["code"] == "budget_exceeded"


async def test_a_waiting_claim_is_given_the_task_that_becomes_ready(crew: Crew) -> None:
    await crew.make("running")
    await crew.add("behind", "t")
    waiting = asyncio.create_task(crew.ben.claim_next_dag_task(wait_seconds=50))
    while not crew.board.clock.sleepers():
        await asyncio.sleep(0)
    await crew.ann.complete_dag_task(task_id="t")
    assert (await waiting)["task"]["task_id"] == "behind"


async def test_a_waiting_claim_sees_that_a_file_is_free_again(crew: Crew) -> None:
    await crew.add("t", files=["a.py"])
    await crew.ann.acquire_file_lock(file_path="a.py")
    waiting = asyncio.create_task(crew.ben.claim_next_dag_task(wait_seconds=50))
    while not crew.board.clock.sleepers():
        await asyncio.sleep(0)
    await crew.ann.release_file_lock(file_path="a.py")
    crew.board.clock.turn(1)
    assert (await waiting)["task"]["task_id"] == "t"


async def test_a_claim_that_waited_in_vain_says_why(crew: Crew) -> None:
    waiting = asyncio.create_task(crew.ben.claim_next_dag_task(wait_seconds=5))
    while not crew.board.clock.sleepers():
        await asyncio.sleep(0)
    crew.board.clock.turn(5)
    assert (await waiting)["why"] == "No task is ready for developer."


# Review


async def test_a_review_is_never_the_authors_and_only_the_reviewers_or_the_leads(crew: Crew) -> None:
    await crew.make("running")
    refusal = await refused(crew, crew.ann, "submit_dag_task", task_id="t", reviewer_id="ann")
    assert refusal["code"] == "forbidden"
    await crew.ann.submit_dag_task(task_id="t", summary="look", reviewer_id="eve")
    assert (await crew.told("eve", "task_submitted", "t"))[0]["summary"] == "look"
    for agent in (crew.ann, crew.ben):
        refusal = await refused(crew, agent, "review_dag_task", task_id="t", verdict="approve")
        assert refusal["code"] == "forbidden"
    assert (await refused(crew, crew.ann, "complete_dag_task", task_id="t"))["code"] == "forbidden"
    rejected = await crew.eve.review_dag_task(task_id="t", verdict="reject", comment="tests?")
    assert rejected["dag_status"] == "running"
    assert (await crew.told("ann", "task_rejected", "t"))[0]["comment"] == "tests?"
    await crew.ann.submit_dag_task(task_id="t", reviewer_id="eve")
    assert (await crew.eve.review_dag_task(task_id="t", verdict="approve"))["dag_status"] == "done"


async def test_the_lead_of_a_leaderless_crew_cannot_approve_its_own_work(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.add_dag_task(id="t", role="developer")
    await ann.claim_dag_task(task_id="t")
    await ann.submit_dag_task(task_id="t")
    judged: list[tuple[str, dict[str, Any]]] = [
        ("review_dag_task", {"verdict": "approve"}),
        ("complete_dag_task", {}),
    ]
    for tool, more in judged:
        assert (await board.refusal(tool, agent_id="ann", task_id="t", **more))["code"] == "forbidden"


async def test_an_approved_submission_is_what_its_delegator_hears(crew: Crew) -> None:
    """T11"""
    await crew.add("t")
    await crew.lead.delegate_task(target_agent_id="ann", task="do t", dag_task_id="t")
    await crew.ann.submit_dag_task(task_id="t", summary="it works", reviewer_id="eve")
    await crew.eve.review_dag_task(task_id="t", verdict="approve", comment="fine")
    [delegation] = (await crew.lead.list_delegations(dag_task_id="t"))["delegations"]
    assert (delegation["status"], delegation["result"]) == ("completed", "it works")


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        ("complete", "completed"),
        ("fail", "failed"),
        ("release", "failed"),
        ("skip", "cancelled"),
        ("cancel", "cancelled"),
        ("assign", "cancelled"),
        ("reset", "cancelled"),
    ],
)
async def test_however_a_task_ends_its_delegation_ends_with_it(crew: Crew, ends: str, outcome: str) -> None:
    """T11"""
    await crew.add("t")
    await crew.lead.delegate_task(target_agent_id="ann", task="do t", dag_task_id="t")
    if ends == "reset":
        await crew.lead.reset_dag(reason="anew")
    else:
        who, tool, arguments = ACTS[ends]
        await getattr(crew, who).call(tool, task_id="t", **arguments)
    [(status,)] = await crew.board.rows("SELECT status FROM active_delegations")
    assert status == outcome


# Decisions

DECIDE = Command("""
    INSERT INTO decisions
           (id, agent_id, agent_role, lead_id, title, needs_confirmation, status, seq, digest, confirmed_by,
            assurance)
    VALUES (:id, 'ann', 'developer', 'boss', 'Which database?', :asks, :status, :seq, zeroblob(32),
            'human:maria', 'client')
    ON CONFLICT (id) DO UPDATE SET status = excluded.status
""")


async def decide(crew: Crew, decision_id: str, status: str, *, asks: bool = True) -> list[str]:
    """A decision as the store has it, and the tasks that became ready with it."""

    def decided(tx: Tx) -> list[str]:
        tx.run(DECIDE, id=decision_id, asks=asks, status=status, seq=len(decision_id))
        return tasks.settle_decision(tx, decision_id, outcome=status)

    return await crew.board.opened.store.write(decided)


async def test_a_task_waits_for_a_decision_until_it_is_confirmed(crew: Crew) -> None:
    await decide(crew, "d-1", "recorded")
    assert (await crew.add("t", "decision:d-1"))["dag_status"] == "pending"
    await crew.add("u", "t")
    [line, _] = (await crew.ann.list_dag_tasks())["tasks"]
    assert line["blocked_by"] == [{"task_id": "decision:d-1", "dag_status": "recorded"}]
    await decide(crew, "d-1", "rejected")
    assert await crew.statuses("t", "u") == ["blocked", "blocked"]
    task = await crew.ann.get_dag_task(task_id="u")
    assert task["root_cause"] == {"task_id": "decision:d-1", "dag_status": "rejected"}
    [cause] = (await crew.lead.analyze_dag())["root_causes"]
    assert (cause["cause"], cause["blocked"]) == ("decision:d-1", ["t", "u"])
    removed = await crew.lead.remove_task_dependencies(task_id="t", depends_on=["decision:d-1"])
    assert (removed["dag_status"], removed["depends_on"]) == ("ready", [])
    await decide(crew, "d-22", "recorded")
    await crew.lead.add_task_dependencies(task_id="u", depends_on=["decision:d-22"])
    await crew.lead.skip_dag_task(task_id="t")
    assert await decide(crew, "d-22", "confirmed") == ["u"]
    await decide(crew, "d-333", "recorded", asks=False)
    assert (await crew.add("v", "decision:d-333"))["dag_status"] == "ready"


# Archive and reset


async def test_what_still_blocks_others_is_not_put_away(crew: Crew) -> None:
    await crew.make("blocked")
    refusal = await refused(crew, crew.lead, "archive_dag_tasks", task_ids=["t-first"])
    assert refusal["code"] == "invalid_transition"
    await crew.make("done", "d")
    crew.board.clock.turn(10)
    archived = await crew.lead.archive_dag_tasks(finished_before="2026-01-01T12:00:05Z")
    assert (archived["archived"], archived["kept"]) == (["d"], ["t-first"])
    refusal = await refused(crew, crew.lead, "archive_dag_tasks")
    assert refusal["code"] == "invalid_arguments"


async def test_an_archived_failure_can_come_back_and_blocks_again(crew: Crew) -> None:
    await crew.make("failed", "f")
    await crew.lead.archive_dag_tasks(task_ids=["f"])
    assert (await refused(crew, crew.lead, "unarchive_dag_task", task_id="nope"))["code"] == "unknown_task"
    await crew.lead.unarchive_dag_task(task_id="f")
    await crew.add("behind", "f")
    assert await crew.status("behind") == "blocked"
    refusal = await refused(crew, crew.lead, "unarchive_dag_task", task_id="f")
    assert refusal["code"] == "invalid_transition"


async def test_what_would_close_a_circle_stays_archived(crew: Crew) -> None:
    """T6: archived tasks are left out of the search for circles, so bringing one back looks again."""
    await crew.make("done", "a")
    await crew.add("b", "a")
    await crew.add("c", "b")
    for name in ("b", "c"):
        await crew.lead.skip_dag_task(task_id=name)
    await crew.lead.archive_dag_tasks(task_ids=["b"])
    await crew.lead.reopen_dag_task(task_id="a")
    await crew.lead.add_task_dependencies(task_id="a", depends_on=["c"])
    refusal = await refused(crew, crew.lead, "unarchive_dag_task", task_id="b")
    assert (refusal["code"], refusal["cycle"]) == ("cycle", ["b", "a", "c", "b"])


async def test_a_reset_begins_anew_with_the_same_files_free(crew: Crew) -> None:
    await crew.make("running", files=["a.py"])
    await crew.ann.claim_dag_task(task_id="t", lock_files=True)
    await crew.add("other", "t")
    reset = await crew.lead.reset_dag(reason="new plan")
    assert (reset["count"], reset["cancelled"]) == (2, ["t"])
    assert await crew.told("ann", "dag_reset", "t")
    assert (await crew.ann.list_dag_tasks())["tasks"] == []
    await crew.add("t", files=["a.py"])
    assert (await crew.ben.claim_next_dag_task(lock_files=True))["task"]["task_id"] == "t"
    assert (await crew.lead.unarchive_dag_task(task_id="other"))["dag_status"] == "ready"


# Reading


async def test_pages_are_in_order_complete_and_without_repeats(crew: Crew) -> None:
    tasks = [{"id": f"t{n}", "role": "developer", "priority": n % 3} for n in range(25)]
    await crew.lead.add_dag_tasks(tasks=tasks)
    for skipped in ("t5", "t0"):
        await crew.lead.skip_dag_task(task_id=skipped)
    seen: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = await crew.ann.list_dag_tasks(limit=7, **after)
        seen += [line["task_id"] for line in page["tasks"]]
        if "next_after_id" not in page:
            break
        after = {"after_id": page["next_after_id"]}
    assert seen == [f"t{n}" for n in sorted(range(25), key=lambda n: (-(n % 3), n))]
    for bad in ("x", "1", "1:x", f"{2**63}:0"):
        assert (await refused(crew, crew.ann, "list_dag_tasks", after_id=bad))["code"] == "invalid_arguments"


async def test_filters_combine(crew: Crew) -> None:
    await crew.make("running", "r", title="Parse numbers")
    await crew.add("v", role="code-reviewer")
    await crew.add("w", "r")

    async def ids(**filters: Any) -> list[str]:
        return [line["task_id"] for line in (await crew.ann.list_dag_tasks(**filters))["tasks"]]

    assert await ids() == ["r", "v", "w"]
    assert await ids(dag_status=["running", "pending"]) == ["r", "w"]
    assert await ids(role="code-reviewer") == ["v"]
    assert await ids(ready_for="code-reviewer") == ["v"]
    assert await ids(assigned_agent_id="ann") == ["r"]
    assert await ids(query="number parsing") == ["r"]
    assert await ids(query='"*%_') == []
    await crew.lead.skip_dag_task(task_id="v")
    await crew.lead.archive_dag_tasks(task_ids=["v"])
    assert await ids() == ["r", "w"]
    assert await ids(include_archived=True) == ["r", "v", "w"]


async def test_a_task_is_read_with_all_that_belongs_to_it(crew: Crew) -> None:
    await crew.add("a")
    await crew.make("running", "b")
    await crew.lead.add_task_dependencies(task_id="b", depends_on=["a"])
    await crew.add("c", "b")
    await crew.ann.record_task_cost(dag_task_id="b", input_tokens=7)
    await crew.ann.submit_dag_task(task_id="b", summary="s", output="o")
    task = await crew.ben.get_dag_task(task_id="b")
    assert task["depends_on"] == [{"task_id": "a", "dag_status": "ready"}]
    assert task["dependents"] == [{"task_id": "c", "dag_status": "pending"}]
    assert task["cost"]["input_tokens"] == 7
    assert task["results"][0].items() >= {"kind": "submission", "summary": "s", "output": "o"}.items()
    assert [(line["action"], line["to_status"]) for line in task["history"]] == [
        ("add", "pending"), ("derive", "ready"), ("claim", "running"), ("submit", "in_review"),
    ]  # fmt: skip


# Analysis and templates


async def test_an_analysis_finds_levels_path_bottlenecks_overlaps_and_consequences(crew: Crew) -> None:
    await crew.add("a", files=["src/"])
    await crew.add("b", files=["src/x.py"])
    await crew.add("c", "a", "b")
    await crew.add("d", "a")
    await crew.add("e", "c")
    found = await crew.lead.analyze_dag(what_if={"done": ["a", "b"]})
    assert [level["tasks"] for level in found["levels"]] == [["a", "b"], ["c", "d"], ["e"]]
    assert found["critical_path"] in (["a", "c", "e"], ["b", "c", "e"])
    assert (found["widest"], found["progress"], found["estimate"]["unit"]) == (2, 0.0, "steps")
    assert found["bottlenecks"] == [{"task_id": "a", "dag_status": "ready", "dependents": 2}]
    [overlap] = found["overlaps"]
    assert sorted(overlap["tasks"]) == ["a", "b"]
    assert found["what_if"]["newly_ready"] == ["c", "d"]
    found = await crew.lead.analyze_dag(what_if={"failed": ["b"]})
    assert found["what_if"]["newly_blocked"] == ["c", "e"]
    refusal = await refused(crew, crew.lead, "analyze_dag", what_if={"done": ["q"]})
    assert refusal["code"] == "unknown_task"


async def test_an_estimate_is_by_what_finished_tasks_took(crew: Crew) -> None:
    await crew.make("running")
    await crew.add("next")
    await crew.add("last", "next")
    crew.board.clock.turn(120)
    await crew.ann.complete_dag_task(task_id="t")
    found = await crew.lead.analyze_dag()
    assert (found["estimate"]["remaining"], found["estimate"]["unit"]) == (240.0, "seconds")
    assert found["critical_path"] == ["next", "last"]


async def test_an_analysis_agrees_with_what_is_stored(crew: Crew) -> None:
    await crew.make("blocked")
    await crew.add("u", "t")
    found = await crew.lead.analyze_dag()
    [cause] = found["root_causes"]
    assert (cause["cause"], cause["blocked"]) == ("t-first", ["t", "u"])


async def test_a_template_is_added_whole_with_its_overrides(crew: Crew) -> None:
    templates = (await crew.ann.list_task_templates())["templates"]
    shapes = {entry["template"]: [step["id"] for step in entry["steps"]] for entry in templates}
    assert shapes["docs"] == ["write", "review"]
    assert set(shapes) == {"feature", "bugfix", "refactor", "docs", "parallel-feature"}
    added = await crew.lead.apply_task_template(
        template="feature",
        id_prefix="login",
        overrides={"implement": {"files": ["./login.py"], "title": "Log in"}},
    )
    assert (added["count"], added["ready"]) == (4, ["login-implement"])
    task = await crew.ann.get_dag_task(task_id="login-implement")
    assert (task["files"], task["title"]) == (["login.py"], "Log in")
    assert (await crew.ann.get_dag_task(task_id="login-review"))["role"] == "code-reviewer"
    refusal = await refused(crew, crew.lead, "apply_task_template", template="feature", id_prefix="login")
    assert refusal["code"] == "task_exists"
    faults: list[dict[str, Any]] = [
        {"overrides": {"deploy": {}}},
        {"id_prefix": "x" * 95},
        {"overrides": {"test": {"rle": "a"}}},
    ]
    for more in faults:
        refusal = await refused(crew, crew.lead, "apply_task_template", template="feature", **more)
        assert refusal["code"] == "invalid_arguments"


# Cost of a claim, a page and a completion: which index each statement goes through


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (claims.READY_FOR, "_idx_dag_tasks_ready"),
        (claims.WORKING, "_idx_dag_tasks_working"),
        (claims.LAPSED, "_idx_dag_tasks_lease"),
        (claims.CLAIMED_BY, "_idx_dag_tasks_assignee"),
        (reading.OF_STATUS, "_idx_dag_tasks_page"),
    ],
)
async def test_what_every_call_asks_goes_through_its_index_and_needs_no_sorting(
    board: Board, query: Query[Any], index: str
) -> None:
    values: dict[str, Any] = dict.fromkeys(
        (
            "lead_id",
            "role",
            "now",
            "agent_id",
            "project_id",
            "status",
            "statuses",
            "limit",
            "priority",
            "seq",
            "archived",
        )
    )
    plan = [row[3] for row in await board.rows(f"EXPLAIN QUERY PLAN {query.sql}", **values)]
    assert index in plan[0]
    if query in (claims.READY_FOR, reading.OF_STATUS):
        assert not any("TEMP B-TREE" in step for step in plan), plan


async def test_what_a_task_says_reaches_every_process_of_the_store(boards: Boards) -> None:
    async with boards() as one, boards() as other:
        lead = await one.agent("boss", role="lead")
        ann = await other.agent("ann")
        await lead.add_dag_task(id="t", role="developer")
        assert (await ann.claim_next_dag_task())["task"]["task_id"] == "t"
        assert (await one.refusal("claim_dag_task", agent_id="boss", task_id="t"))[
            "code"
        ] == "already_claimed"
