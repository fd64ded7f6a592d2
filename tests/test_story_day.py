"""A crew's day, told through MCP: every one of the 24 tables of the model is written on the way and read back
through tools."""

from typing import Any

from mcp import Client

from callboard.frames import compact
from callboard.mcp_server import CallboardServer
from tests.conftest import Board
from tests.serving import call

Json = dict[str, Any]

WORDS = {
    "agent_roster": "typesetter",
    "roles": "sets type",
    "settings": "locks.delay_seconds",
    "file_locks": "colophon.tex",
    "agent_file_history": "title.tex",
    "activity_log": "decision_made",
    "decisions": "human:maria",
    "dag_tasks": "Set in Garamond.",
    "active_delegations": "Set the colophon.",
    "task_cost_records": "1000",
    "message_queue": "Which face?",
    "timers": "Read the proof.",
    "conversations": "choosing a face",
    "messages": "Garamond it is.",
    "chat_groups": "page",
    "chat_group_members": '["ann","ben","mara"]',
    "chat_group_messages": "The title page is set.",
    "agent_memory": "Garamond",
    "agent_plans": "choose a face",
    "collective_memory": "Set the AV pair by hand.",
    "knowledge": "ebgaramond",
    "session_retros": "one face, one page",
    "projects": '"tasks":{"done":1}',
    "project_sessions": "the new title page",
}
"""What a tool tells of each table of the public model, among other things."""


class Day:
    """One client through which all of them speak, and a person at a terminal."""

    def __init__(self, board: Board, client: Client) -> None:
        self.board = board
        self.client = client

    async def does(self, who: str, tool: str, **arguments: Any) -> Json:
        return await call(self.client, tool, agent_id=who, **arguments)

    async def person(self, tool: str, **arguments: Any) -> Json:
        return await self.board.call(tool, token=self.maria, **arguments)

    async def begins(self) -> None:
        """A person defines a role and says what is allowed; a lead opens a session, two workers join."""
        self.maria = await self.board.human("maria")
        await self.person("define_role", id="typesetter", name="Typesetter", description="sets type")
        await self.person("set_setting", key="locks.delay_seconds", value="0")
        await self.does("mara", "register_agent", role="lead")
        for name, role in (("ann", "developer"), ("ben", "typesetter")):
            await self.does(name, "register_agent", role=role, lead_id="mara")
        await self.does("mara", "start_project_session", task="the new title page")
        await self.person("put_knowledge", category="core", key="house", content="British spelling.")

    async def decides(self) -> None:
        """Ann asks, a person answers, and the task that waited for the answer is ready."""
        asked = await self.does(
            "ann",
            "record_decision",
            title="Use a serif for the title page",
            options=["serif", "sans"],
            needs_confirmation=True,
        )
        self.decision = asked["decision_id"]
        await self.does(
            "mara", "add_dag_task", id="title", role="developer", depends_on=[f"decision:{self.decision}"]
        )
        assert (await self.does("ann", "claim_next_dag_task")).get("task") is None
        settled = await self.person(
            "confirm_decision",
            decision_id=self.decision,
            digest=asked["digest"],
            reason="as in the last book",
        )
        assert settled["status"] == "confirmed"

    async def works(self) -> None:
        """Ann takes the task with its file, keeps notes and a transcript, hands a part to Ben by the lead."""
        claimed = await self.does("ann", "claim_next_dag_task")
        assert claimed["task"]["task_id"] == "title"
        await self.does("ann", "acquire_file_lock", file_path="title.tex", reason="the new face")
        await self.does("ann", "record_file_touch", file_paths=["title.tex"], action="edit")
        await self.does("ann", "set_agent_memory", key="face", value="Garamond")
        await self.does(
            "ann",
            "set_agent_plan",
            entries=[{"content": "choose a face", "priority": "high", "status": "in_progress"}],
        )
        talk = await self.does("ann", "start_conversation", task_id="title", title="choosing a face")
        self.talk = talk["conversation_id"]
        await self.does(
            "ann", "add_conversation_message", conversation_id=self.talk, content="Garamond it is."
        )
        given = await self.does("mara", "delegate_task", target_agent_id="ben", task="Set the colophon.")
        await self.does("ben", "complete_delegation", delegation_id=given["delegation_id"], result="Set.")
        await self.does("ann", "record_task_cost", input_tokens=1_000, output_tokens=50, cost_usd=0.02)
        await self.does("ann", "complete_dag_task", task_id="title", summary="Set in Garamond.")
        await self.does("ann", "release_file_lock", file_path="title.tex")
        await self.does("ann", "acquire_file_lock", file_path="colophon.tex")

    async def talks(self) -> None:
        """They write to each other, in a group and alone, are reminded, and write down what they learned."""
        await self.does("mara", "create_chat_group", name="page", members=["ann", "ben"])
        await self.does("ann", "send_group_message", group_name="page", content="The title page is set.")
        await self.does("ben", "send_message", to="ann", content="Which face?")
        await self.does("ben", "set_timer", label="proof", message="Read the proof.", delay="60s")
        await self.board.turn(61)
        await self.does(
            "ann",
            "put_knowledge",
            category="procedural",
            key="faces",
            content="Garamond needs \\usepackage{ebgaramond}.",
        )
        await self.does(
            "ann", "add_collective_memory", category="gotcha", key="kerning", value="Set the AV pair by hand."
        )

    async def ends(self) -> None:
        """The lead looks back and closes the session."""
        await self.does("mara", "record_session_retro", data={"went_well": "one face, one page"})
        await self.does("mara", "end_project_session")

    async def is_read_back(self) -> dict[str, Any]:
        """What tools tell of each table."""
        ask = self.does
        return {
            "agent_roster": await ask("ann", "list_agents"),
            "roles": await ask("ann", "list_roles"),
            "settings": await ask("ann", "get_setting", key="locks.delay_seconds"),
            "file_locks": await ask("ben", "list_file_locks"),
            "agent_file_history": await ask("ben", "list_file_history", file_path="title.tex"),
            "activity_log": await ask("ben", "list_activity", query="title"),
            "decisions": await ask("ben", "get_decision", decision_id=self.decision),
            "dag_tasks": await ask("ben", "get_dag_task", task_id="title"),
            "active_delegations": await ask("mara", "list_delegations"),
            "task_cost_records": await ask("mara", "report_task_costs", group_by="task"),
            "message_queue": await ask("ann", "receive_messages"),
            "timers": await ask("ben", "list_timers", status="fired"),
            "conversations": await ask("ben", "list_conversations"),
            "messages": await ask("ben", "read_conversation", conversation_id=self.talk),
            "chat_groups": await ask("ann", "list_chat_groups"),
            "chat_group_members": await ask("ben", "list_chat_groups"),
            "chat_group_messages": await ask("ben", "read_group_messages", group_name="page"),
            "agent_memory": await ask("ben", "get_agent_memory", target_agent_id="ann"),
            "agent_plans": await ask("ben", "get_agent_plan", target_agent_id="ann"),
            "collective_memory": await ask("ben", "recall_collective_memory", query="kerning"),
            "knowledge": await ask("ben", "get_knowledge", category="procedural", key="faces"),
            "session_retros": await ask("ben", "list_session_retros"),
            "projects": await ask("ben", "get_project"),
            "project_sessions": await ask("mara", "list_project_sessions"),
        }


async def test_a_crews_day_is_in_every_table_and_every_tool_reads_it_back(board: Board) -> None:
    async with Client(CallboardServer(board.opened), cache=None) as client:
        day = Day(board, client)
        for part in (day.begins, day.decides, day.works, day.talks, day.ends):
            await part()
        told = await day.is_read_back()
    assert len(WORDS) == 24
    untold = [table for table, words in WORDS.items() if words not in compact(told[table])]
    assert untold == []
    empty = [table for table in WORDS if not await board.rows(f"SELECT 1 FROM {table} LIMIT 1")]
    assert empty == []
