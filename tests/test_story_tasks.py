"""A crew at work, told through MCP: a plan from a template, drained by workers of two roles, with a failure,
a rejected review and a worker that vanishes."""

from typing import Any

from mcp import Client

from callboard.mcp_server import CallboardServer
from tests.conftest import Board
from tests.serving import call, refusal

Json = dict[str, Any]


class Worker:
    """One agent of the story, speaking through its own client."""

    def __init__(self, client: Client, agent_id: str) -> None:
        self.client = client
        self.id = agent_id

    async def does(self, tool: str, **arguments: Any) -> Json:
        return await call(self.client, tool, agent_id=self.id, **arguments)

    async def next(self, **arguments: Any) -> Json:
        task: Json = (await self.does("claim_next_dag_task", **arguments))["task"]
        return task


async def test_a_crew_drains_a_feature_through_failure_rejection_and_a_death(board: Board) -> None:
    """T1, T2, T3, T4, T5, T7"""
    async with Client(CallboardServer(board.opened), cache=None) as client:
        mara, ann, ben, eve = (Worker(client, name) for name in ("mara", "ann", "ben", "eve"))
        await mara.does("register_agent", role="lead")
        for worker, role in ((ann, "developer"), (ben, "developer"), (eve, "code-reviewer")):
            await worker.does("register_agent", role=role)
        planned = await mara.does(
            "apply_task_template",
            template="feature",
            id_prefix="login",
            overrides={"implement": {"files": ["src/login.py"], "description": "Passwords only."}},
        )
        assert planned["ready"] == ["login-implement"]

        # Ann takes the work with its file, and fails. The lead has it tried again, and Ben takes it.
        first = await ann.next(lock_files=True)
        assert (first["task_id"], first["locks"]) == ("login-implement", ["src/login.py"])
        nothing = await ben.does("claim_next_dag_task")
        assert "task" not in nothing and nothing["why"] == "No task is ready for developer."
        failed = await ann.does(
            "fail_dag_task", task_id="login-implement", failure_reason="the database is missing"
        )
        assert failed["newly_blocked"] == ["login-test", "login-review", "login-merge"]
        listed = await mara.does("list_dag_tasks", dag_status=["blocked"])
        assert {line["root_cause"]["task_id"] for line in listed["tasks"]} == {"login-implement"}
        await mara.does("retry_dag_task", task_id="login-implement", reason="it is there now")
        second = await ben.next(lock_files=True)
        assert second["claim_epoch"] > first["claim_epoch"]

        # Ben vanishes. His claim lapses, and the task comes back; what he sends later is kept, not taken.
        await board.turn(700)
        third = await ann.next(lock_files=True)
        assert (third["task_id"], third["attempts"]) == ("login-implement", 1)
        late = await refusal(
            client,
            "complete_dag_task",
            agent_id="ben",
            task_id="login-implement",
            claim_epoch=second["claim_epoch"],
            output="half of it",
        )
        assert (late["code"], late["holder"]) == ("stale_claim", "ann")
        done = await ann.does(
            "complete_dag_task",
            task_id="login-implement",
            claim_epoch=third["claim_epoch"],
            summary="Passwords are checked.",
        )
        assert (done["newly_ready"], done["released"]) == (["login-test"], ["src/login.py"])

        # The tests go through review, and are rejected once.
        tested = await ann.next()
        submit = {"task_id": tested["task_id"], "claim_epoch": tested["claim_epoch"], "reviewer_id": "eve"}
        await ann.does("submit_dag_task", **submit, summary="All pass.")
        rejected = await eve.does(
            "review_dag_task", task_id="login-test", verdict="reject", comment="Empty passwords?"
        )
        assert rejected["dag_status"] == "running"
        await ann.does("submit_dag_task", **submit, summary="Those too.")
        approved = await eve.does("review_dag_task", task_id="login-test", verdict="approve")
        assert approved["newly_ready"] == ["login-review"]

        # The reviewer's own task, and the merge.
        for worker, task_id in ((eve, "login-review"), (ben, "login-merge")):
            task = await worker.next()
            assert task["task_id"] == task_id
            await worker.does("complete_dag_task", task_id=task_id, claim_epoch=task["claim_epoch"])
        assert (await mara.does("analyze_dag"))["progress"] == 1.0

        # What happened to each can be read back in order.
        assert await steps(mara, "login-implement") == [
            ("add", "pending", "mara"),
            ("derive", "ready", None),
            ("claim", "running", "ann"),
            ("fail", "failed", "ann"),
            ("retry", "ready", "mara"),
            ("claim", "running", "ben"),
            ("orphan", "ready", None),
            ("claim", "running", "ann"),
            ("complete", "done", "ann"),
        ]
        assert await steps(mara, "login-test") == [
            ("add", "pending", "mara"),
            ("derive", "blocked", None),
            ("derive", "pending", None),
            ("derive", "ready", None),
            ("claim", "running", "ann"),
            ("submit", "in_review", "ann"),
            ("review", "running", "eve"),
            ("submit", "in_review", "ann"),
            ("review", "done", "eve"),
        ]
        results = (await mara.does("get_dag_task", task_id="login-implement"))["results"]
        assert [(result["kind"], result["agent_id"]) for result in results] == [
            ("completion", "ann"),
            ("late", "ben"),
        ]


async def steps(reader: Worker, task_id: str) -> list[tuple[str, str, str | None]]:
    history = (await reader.does("get_dag_task", task_id=task_id))["history"]
    return [(line["action"], line["to_status"], line.get("actor")) for line in history]
