"""Costs through the tools: what counts, for which task, once, and what a budget does when it is reached.

A docstring names the promise that its test proves.
"""

import json
import random
from typing import Any

import pytest

from callboard.domains import costs
from callboard.domains.costs.budgets import micro_usd
from tests.conftest import Agent, Board, Boards

KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


async def task(board: Board, task_id: str, *, crew: str, holder: str | None = None) -> None:
    """A task of a crew; with a holder, one that it runs."""
    await board.call("add_dag_task", agent_id=crew, id=task_id, role="developer")
    if holder is not None:
        await board.call("claim_dag_task", agent_id=holder, task_id=task_id)


async def totals(board: Board) -> dict[str, tuple[Any, ...]]:
    """What is summed of each task: the four kinds of tokens, millionths of a dollar, and dollars."""
    rows = await board.rows(
        f"SELECT dag_task_id, {', '.join(KINDS)}, cost_micro_usd, cost_usd FROM task_cost_records"
    )
    return {str(row[0]): row[1:] for row in rows}


async def told(board: Board, agent_id: str) -> list[dict[str, Any]]:
    """What the server told an agent about budgets, in order."""
    rows = await board.rows(
        "SELECT payload FROM message_queue WHERE target_agent_id = :id ORDER BY id", id=agent_id
    )
    notices = [json.loads(payload) for (payload,) in rows]
    return [notice for notice in notices if notice["event"] == "budget_reached"]


@pytest.fixture
async def crew(board: Board) -> tuple[Agent, Agent]:
    """A lead and a worker of its crew."""
    return await board.agent("boss", "lead"), await board.agent("ann", lead_id="boss")


# What counts


async def test_a_report_adds_to_its_task_and_says_what_it_added(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    _, ann = crew
    await task(board, "t1", crew="boss")
    for _ in range(2):
        answer = await ann.record_task_cost(
            dag_task_id="t1", input_tokens=100, cache_write_tokens=7, cost_usd=0.1
        )
    assert (answer["counted"], answer["input_tokens"], answer["cache_write_tokens"]) == (True, 100, 7)
    assert (answer["output_tokens"], answer["cost_usd"]) == (0, 0.1)
    assert await totals(board) == {"t1": (200, 0, 0, 14, 200_000, 0.2)}


async def test_sums_of_money_are_exact_where_floats_are_not(board: Board) -> None:
    """T13: ten thousand tenths of a cent are ten dollars, to the millionth."""
    ann = await board.agent("ann")
    for _ in range(100):
        await ann.record_task_cost(cost_usd=0.1)
    await ann.record_task_cost(cost_usd=0.000001)
    assert (await totals(board))[costs.UNATTRIBUTED][4:] == (10_000_001, 10.000001)


@pytest.mark.parametrize(
    ("dollars", "micro"),
    [
        (0.1, 100_000),
        (1.005, 1_005_000),
        (0.0000005, 0),
        (0.0000015, 2),
        (1e-9, 0),
        (123456.789012, 123456789012),
    ],
)
def test_dollars_become_the_millionths_that_they_are_written_as(dollars: float, micro: int) -> None:
    assert micro_usd(dollars) == micro


async def test_money_that_nobody_told_is_unknown_until_somebody_tells_it(board: Board) -> None:
    ann = await board.agent("ann")
    first = await ann.record_task_cost(input_tokens=5)
    report = await ann.report_task_costs()
    assert "cost_usd" not in first
    assert "cost_usd" not in report["total"]
    assert await totals(board) == {costs.UNATTRIBUTED: (5, 0, 0, 0, None, 0.0)}
    await ann.record_task_cost(input_tokens=5, cost_usd=0.5)
    await ann.record_task_cost(input_tokens=5)
    assert await totals(board) == {costs.UNATTRIBUTED: (15, 0, 0, 0, 500_000, 0.5)}


async def test_a_call_counts_once_however_often_it_is_reported(boards: Boards) -> None:
    """T13: also in another process and after a restart."""
    async with boards() as board:
        ann, ben = await board.agent("ann"), await board.agent("ben")
        assert (await ann.record_task_cost(input_tokens=5, call_id="c1"))["counted"] is True
        again = await ann.record_task_cost(input_tokens=500, call_id="c1")
        assert (again["counted"], again["input_tokens"]) == (False, 0)
        assert "call_id" in again["note"]
        assert (await ben.record_task_cost(input_tokens=5, call_id="c1"))["counted"] is True
    async with boards() as board:
        answer = await board.call(
            "record_task_cost", agent_id="ann", input_tokens=5, call_id="c1", mode="cumulative"
        )
        assert answer["counted"] is False
        assert (await totals(board))[costs.UNATTRIBUTED][0] == 5
        assert await board.rows("SELECT count(*) FROM _cost_baselines") == [(0,)]


@pytest.mark.parametrize("amounts", [{}, {"input_tokens": 0, "cost_usd": 0.0}])
async def test_a_report_that_adds_nothing_says_so_and_leaves_no_trace(
    board: Board, amounts: dict[str, Any]
) -> None:
    ann = await board.agent("ann")
    before = await board.rows("SELECT count(*) FROM activity_log")
    answer = await ann.record_task_cost(call_id="c1", **amounts)
    assert (answer["counted"], "nothing was used" in answer["note"]) == (False, True)
    assert await totals(board) == {}
    assert await board.rows("SELECT count(*) FROM activity_log") == before
    assert (await ann.record_task_cost(call_id="c1", input_tokens=1))["counted"] is True


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("input_tokens", -1),
        ("output_tokens", 10**12 + 1),
        ("cache_read_tokens", 1.5),
        ("cache_write_tokens", "7"),
        ("cache_write_tokens", True),
        ("cost_usd", -0.01),
        ("cost_usd", float("nan")),
        ("cost_usd", float("inf")),
        ("cost_usd", float("-inf")),
        ("cost_usd", "0.1"),
        ("cost_usd", 1_000_001),
        ("mode", "total"),
    ],
)
async def test_what_cannot_be_an_amount_is_refused(board: Board, argument: str, value: Any) -> None:
    """T13"""
    await board.agent("ann")
    refusal = await board.refusal("record_task_cost", agent_id="ann", **{argument: value})
    assert (refusal["code"], refusal["fields"][0]["field"]) == ("invalid_arguments", argument)
    assert await totals(board) == {}


# Counters that rise


async def test_counters_count_by_what_they_have_risen(board: Board) -> None:
    ann = await board.agent("ann")
    added = [
        await ann.record_task_cost(mode="cumulative", input_tokens=tokens, cost_usd=dollars)
        for tokens, dollars in ((100, 0.5), (250, 0.75), (250, 0.75), (251, 0.75))
    ]
    assert [(answer["input_tokens"], answer.get("cost_usd")) for answer in added] == [
        (100, 0.5),
        (150, 0.25),
        (0, None),
        (1, 0.0),
    ]
    assert [answer["counted"] for answer in added] == [True, True, False, True]
    assert (await totals(board))[costs.UNATTRIBUTED] == (251, 0, 0, 0, 750_000, 0.75)


@pytest.mark.parametrize("kind", KINDS)
async def test_counters_of_any_kind_count_alone(board: Board, kind: str) -> None:
    """Cache tokens are tokens like the others, and a counter that is left out stays where it was."""
    ann = await board.agent("ann")
    await ann.record_task_cost(mode="cumulative", **dict.fromkeys(KINDS, 10))
    answer = await ann.record_task_cost(mode="cumulative", **{kind: 15})
    assert (answer["counted"], answer[kind]) == (True, 5)
    answer = await ann.record_task_cost(mode="cumulative", **dict.fromkeys(KINDS, 20))
    assert [answer[other] for other in KINDS] == [5 if other == kind else 10 for other in KINDS]


async def test_counters_that_have_fallen_started_anew_and_count_in_full(board: Board) -> None:
    """All of them: a program that counts anew counts everything anew."""
    ann = await board.agent("ann")
    await ann.record_task_cost(mode="cumulative", input_tokens=1000, output_tokens=50)
    answer = await ann.record_task_cost(mode="cumulative", input_tokens=200, output_tokens=60)
    assert (answer["input_tokens"], answer["output_tokens"]) == (200, 60)
    answer = await ann.record_task_cost(mode="cumulative", input_tokens=210, output_tokens=60)
    assert (answer["input_tokens"], answer["output_tokens"]) == (10, 0)


async def test_counters_go_on_over_a_restart_and_begin_at_nothing_in_a_new_session(boards: Boards) -> None:
    async with boards() as board:
        ann = await board.agent("ann", session_id="s1")
        await ann.record_task_cost(mode="cumulative", input_tokens=1000)
    async with boards() as board:
        ann = Agent(board, "ann")
        assert (await ann.record_task_cost(mode="cumulative", input_tokens=1100))["input_tokens"] == 100
        await ann.update_agent(session_id="s2")
        assert (await ann.record_task_cost(mode="cumulative", input_tokens=5000))["input_tokens"] == 5000
        await ann.update_agent(session_id="s1")
        assert (await ann.record_task_cost(mode="cumulative", input_tokens=1101))["input_tokens"] == 1


async def test_each_task_has_its_own_counters(board: Board, crew: tuple[Agent, Agent]) -> None:
    _, ann = crew
    await task(board, "t1", crew="boss")
    await task(board, "t2", crew="boss")
    for name, tokens, added in (("t1", 100, 100), ("t2", 100, 100), ("t1", 150, 50), ("t2", 101, 1)):
        answer = await ann.record_task_cost(dag_task_id=name, mode="cumulative", input_tokens=tokens)
        assert answer["input_tokens"] == added


# For which task


async def test_a_report_counts_for_the_only_task_that_the_caller_runs(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    boss, ann = crew
    assert (await ann.record_task_cost(input_tokens=1))["dag_task_id"] == costs.UNATTRIBUTED
    await task(board, "t1", crew="boss", holder="ann")
    assert (await ann.record_task_cost(input_tokens=1))["dag_task_id"] == "t1"
    assert (await boss.record_task_cost(input_tokens=1))["dag_task_id"] == costs.UNATTRIBUTED
    await task(board, "t2", crew="boss", holder="ann")
    answer = await ann.record_task_cost(input_tokens=1)
    assert (answer["dag_task_id"], "several tasks" in answer["note"]) == (costs.UNATTRIBUTED, True)
    await ann.complete_dag_task(task_id="t1")
    assert (await ann.record_task_cost(input_tokens=1))["dag_task_id"] == "t2"
    assert (await ann.record_task_cost(input_tokens=1, dag_task_id="t1"))["dag_task_id"] == "t1"


# Reports


async def test_reports_of_every_grouping_sum_to_the_same_total(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    boss, ann = crew
    chance = random.Random(7)
    await ann.update_agent(model="opus")
    for name in ("t1", "t2"):
        await task(board, name, crew="boss")
    for _ in range(30):
        who = chance.choice([boss, ann])
        amounts: dict[str, Any] = {kind: chance.randrange(1, 100) for kind in KINDS}
        amounts |= {"cost_usd": round(chance.random(), 6)} if chance.random() < 0.7 else {}
        named = {"dag_task_id": name} if (name := chance.choice(["t1", "t2", ""])) else {}
        await who.record_task_cost(**amounts, **named)
        board.clock.turn(chance.randrange(20_000))
    reports = {
        (group, bool(since)): await boss.report_task_costs(group_by=group, **since)
        for group in ("agent", "task", "project", "model", "day")
        for since in ({}, {"since": "2026-01-01T12:00:00Z"})
    }
    totals_told = {json.dumps(report["total"], sort_keys=True) for report in reports.values()}
    assert len(totals_told) == 1
    for report in reports.values():
        for kind in KINDS:
            assert sum(line[kind] for line in report["costs"]) == report["total"][kind]
        assert sum(line.get("cost_usd", 0) for line in report["costs"]) == pytest.approx(
            report["total"]["cost_usd"]
        )
    assert [line["key"] for line in reports["agent", False]["costs"]] == ["ann", "boss"]
    assert [line["key"] for line in reports["task", False]["costs"]] == [costs.UNATTRIBUTED, "t1", "t2"]
    assert [line["key"] for line in reports["model", False]["costs"]] == ["opus", "unknown"]
    assert len(reports["day", False]["costs"]) > 2
    assert reports["task", False]["costs"] == reports["task", True]["costs"]


async def test_a_report_since_a_moment_leaves_out_what_was_before(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.record_task_cost(input_tokens=1)
    board.clock.turn(3600)
    await ann.record_task_cost(input_tokens=10)
    assert (await ann.report_task_costs(since="2026-01-01T13:00:00Z"))["total"]["input_tokens"] == 10
    assert (await ann.report_task_costs(since="2026-01-01T13:00:00.001Z"))["costs"] == []


async def test_a_long_report_is_read_page_by_page(board: Board, crew: tuple[Agent, Agent]) -> None:
    boss, _ = crew
    for number in range(7):
        await task(board, f"t{number}", crew="boss")
        await boss.record_task_cost(dag_task_id=f"t{number}", input_tokens=1)
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await boss.report_task_costs(limit=3, **cursor)
        assert page["total"]["input_tokens"] == 7
        seen += [line["key"] for line in page["costs"]]
        if "next_after_id" not in page:
            break
        cursor = {"after_id": page["next_after_id"]}
    assert seen == [f"t{number}" for number in range(7)]


async def test_a_crew_reads_its_own_costs_and_a_human_all_of_the_project(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    _, ann = crew
    chief = await board.agent("chief", "lead")
    await ann.record_task_cost(input_tokens=1)
    await chief.record_task_cost(input_tokens=10)
    human = await board.human()
    assert (await ann.report_task_costs())["total"]["input_tokens"] == 1
    assert (await ann.report_task_costs(lead_id="chief"))["total"]["input_tokens"] == 0
    assert (await board.call("report_task_costs", token=human))["total"]["input_tokens"] == 11
    assert (await board.call("report_task_costs", token=human, lead_id="chief"))["total"][
        "input_tokens"
    ] == 10


# Budgets


async def test_each_mark_is_told_once_to_the_lead_and_the_agent(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    boss, ann = crew
    await boss.set_cost_budget(limit_tokens=100)
    used = [
        (await ann.record_task_cost(input_tokens=tokens))["budget_used_percent"]
        for tokens in (69, 1, 19, 1, 9, 1, 50)
    ]
    assert used == [69, 70, 89, 90, 99, 100, 150]
    for who in (boss, ann):
        notices = await told(board, who.id)
        assert [(notice["percent"], notice["mark"]) for notice in notices] == [(70, 70), (90, 90), (100, 100)]
    assert "100 of 100 tokens" in notices[-1]["text"]
    kinds = await board.rows("SELECT count(*) FROM activity_log WHERE action_type = 'budget_reached'")
    assert kinds == [(3,)]


async def test_a_report_that_passes_several_marks_is_told_as_the_highest(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    boss, ann = crew
    await boss.set_cost_budget(limit_usd=10, limit_tokens=1_000_000)
    await ann.record_task_cost(cost_usd=9.5, input_tokens=5)
    [notice] = await told(board, "boss")
    assert (notice["mark"], notice["used"], notice["limit"]) == (
        90,
        {"usd": 9.5, "tokens": 5},
        {"usd": 10.0, "tokens": 1_000_000},
    )


async def test_every_budget_counts_what_falls_under_it(board: Board, crew: tuple[Agent, Agent]) -> None:
    boss, ann = crew
    project = (await ann.whoami())["project_id"]
    for name in ("t1", "t2"):
        await task(board, name, crew="boss")
    await ann.record_task_cost(dag_task_id="t1", input_tokens=3, cost_usd=0.25)
    before = await boss.set_cost_budget(limit_tokens=1000, dag_task_id="t1")
    assert (before["used_tokens"], before["used_usd"]) == (3, 0.25)
    await boss.set_cost_budget(limit_tokens=1000)
    await boss.set_cost_budget(limit_tokens=1000, project_id=project)
    await boss.set_cost_budget(limit_tokens=1000, project_id=project, dag_task_id="t2")
    await ann.record_task_cost(dag_task_id="t1", output_tokens=10, cache_read_tokens=10)
    await ann.record_task_cost(dag_task_id="t2", cache_write_tokens=100)
    await ann.record_task_cost(input_tokens=200)
    budgets = (await ann.report_task_costs())["budgets"]
    used = {(line.get("dag_task_id"), "project_id" in line): line["used_tokens"] for line in budgets}
    assert used == {("t1", False): 23, (None, False): 323, (None, True): 323, ("t2", True): 100}


async def test_what_is_used_already_is_read_from_the_setting_and_not_told_again(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    boss, ann = crew
    await ann.record_task_cost(input_tokens=75)
    assert (await boss.set_cost_budget(limit_tokens=100))["used_percent"] == 75
    await ann.record_task_cost(input_tokens=1)
    assert await told(board, "boss") == []
    assert (await boss.set_cost_budget(limit_tokens=1000))["used_percent"] == 7
    await ann.record_task_cost(input_tokens=700)
    assert [notice["mark"] for notice in await told(board, "boss")] == [70]


REFUSALS: list[tuple[str, str, dict[str, Any], str]] = [
    ("ann", "set_cost_budget", {"limit_usd": 1}, "forbidden"),
    ("boss", "set_cost_budget", {}, "invalid_arguments"),
    ("boss", "set_cost_budget", {"limit_usd": -1}, "invalid_arguments"),
    ("boss", "set_cost_budget", {"limit_usd": 1, "project_id": "elsewhere"}, "not_found"),
    ("boss", "set_cost_budget", {"limit_usd": 1, "dag_task_id": "theirs"}, "unknown_task"),
    ("ann", "record_task_cost", {"input_tokens": 1, "dag_task_id": "theirs"}, "unknown_task"),
    ("ann", "record_task_cost", {"input_tokens": 1, "cost_usd": float("nan")}, "invalid_arguments"),
    ("ann", "report_task_costs", {"group_by": "colour"}, "invalid_arguments"),
    ("ann", "claim_dag_task", {"task_id": "t1"}, "budget_exceeded"),
]


async def test_a_refusal_leaves_every_row_of_the_store_as_it_was(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    await board.agent("chief", "lead")
    await task(board, "theirs", crew="chief")
    await task(board, "t1", crew="boss")
    await crew[0].set_cost_budget(limit_tokens=0, on_exceed="block")
    before = await board.contents()
    for agent_id, tool, arguments, code in REFUSALS:
        assert (await board.refusal(tool, agent_id=agent_id, **arguments))["code"] == code, (tool, arguments)
        assert await board.contents() == before, (tool, arguments)


async def test_a_blocking_budget_refuses_the_tasks_that_fall_under_it_and_a_warning_one_none(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    boss, ann = crew
    for name in ("t1", "t2"):
        await task(board, name, crew="boss")

    await boss.set_cost_budget(limit_usd=1, dag_task_id="t1", on_exceed="block")
    await boss.set_cost_budget(limit_usd=1)
    await ann.record_task_cost(dag_task_id="t1", cost_usd=0.99)
    await ann.claim_dag_task(task_id="t1")
    await ann.release_dag_task(task_id="t1")
    await ann.record_task_cost(dag_task_id="t1", cost_usd=0.01)
    refusal = await board.refusal("claim_dag_task", agent_id="ann", task_id="t1")
    assert (refusal["code"], refusal["budget"], refusal["retryable"]) == ("budget_exceeded", "task t1", False)
    assert (refusal["used"], refusal["limit"]) == ({"usd": 1.0}, {"usd": 1.0})
    assert any("can be claimed" in notice["text"] for notice in await told(board, "boss"))
    await ann.claim_dag_task(task_id="t2")
    await boss.set_cost_budget(limit_usd=2, dag_task_id="t1", on_exceed="block")
    await ann.claim_dag_task(task_id="t1")


async def test_what_budgets_and_totals_carry_equals_a_recount_of_all_calls(
    board: Board, crew: tuple[Agent, Agent]
) -> None:
    boss, ann = crew
    chance = random.Random(3)
    for name in ("t1", "t2"):
        await task(board, name, crew="boss")
    await boss.set_cost_budget(limit_tokens=10_000)
    await boss.set_cost_budget(limit_usd=5, dag_task_id="t2")
    for _ in range(60):
        arguments: dict[str, Any] = {kind: chance.randrange(50) for kind in KINDS}
        if chance.random() < 0.5:
            arguments["cost_usd"] = chance.randrange(1000) / 1000
        arguments["mode"] = chance.choice(["delta", "cumulative"])
        arguments["dag_task_id"] = chance.choice(["t1", "t2"])
        if chance.random() < 0.3:
            arguments["call_id"] = f"c{chance.randrange(5)}"
        await chance.choice([boss, ann]).record_task_cost(**arguments)
    sums = "sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens), sum(cost_micro_usd)"
    by_task = "SELECT agent_id, dag_task_id, {} FROM {} GROUP BY agent_id, dag_task_id ORDER BY 1, 2"
    assert await board.rows(by_task.format(sums, "task_cost_records")) == await board.rows(
        by_task.format(sums, "_cost_calls")
    )
    carried = await board.rows(
        "SELECT dag_task_id, used_tokens, used_micro_usd FROM _cost_budgets ORDER BY 1"
    )
    [(tokens, money)] = await board.rows(f"SELECT {sums} FROM _cost_calls")
    [(tokens_t2, money_t2)] = await board.rows(f"SELECT {sums} FROM _cost_calls WHERE dag_task_id = 't2'")
    assert carried == [("", tokens, money), ("t2", tokens_t2, money_t2)]


async def test_a_report_costs_the_same_however_many_there_were(board: Board) -> None:
    """Every statement that a report runs reads an index by its whole key."""
    ann = await board.agent("ann")
    await ann.record_task_cost(input_tokens=1)
    db = board.opened.store.connect()
    try:
        for query in (
            costs.budgets.SPEND,
            costs.budgets.BLOCKING,
            costs.budgets.TASK,
            costs.usage.CALL,
            costs.usage.BASELINE,
            costs.usage.RUNNING,
            costs.reports.OF_TASK,
        ):
            plan = [
                str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {query.sql}", _Anything()).fetchall()
            ]
            assert plan
            assert not any(line.startswith("SCAN") for line in plan), (query.sql, plan)
    finally:
        db.close()


class _Anything(dict[str, Any]):
    """A value for every name."""

    def __missing__(self, key: str) -> str:
        return ""
