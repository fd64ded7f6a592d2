"""A board on which every text that an agent can write has been written, and the calls that read it back.

`fill` calls each writing tool with given words in every one of its free texts. What is free is read off the
tools' own types, so that `Filled.unwritten` finds a new tool, or a new text of an old one, that nothing here
writes. `READS` names how each reading tool is asked; one that has no line there fails the tests.
"""

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from callboard.catalog import CATALOG
from callboard.identity import Principal
from callboard.params import TEXT_BYTES, Duration, PathText, Text
from callboard.tool import Tool
from tests.conftest import Board

LONG_PATH = "/" + "/".join(["x" * 200] * 5)
"""What makes a path nearly as long as one may be."""

Words = Callable[[Text, str], str]
"""The words for one text, by what it is and by whom it is written."""

TOOLS: Mapping[str, Tool[..., Any]] = {tool.name: tool for tool in CATALOG}

NAMED = frozenset(
    [
        "to",
        "key",
        "group_name",
        "id_prefix",
        "color",
        "icon",
        "query",
        "action_type",
        "depends_on",
        "reply_to",
        "supersedes",
    ]
)
"""Arguments that name something, beside those that end in `id`: what they may hold is checked elsewhere."""

FORMED = frozenset({("cancel_timer", "label"), ("create_chat_group", "name"), ("set_setting", "value")})
"""Texts that are not free: the name of a timer that is there, a name that is shown as it is stored, and the
JSON of a setting's own type."""


def free_texts(tool: Tool[..., Any]) -> dict[str, Text]:
    """The arguments of a tool that take any words, by name; of lists and objects, those that hold them."""
    found: dict[str, Text] = {}
    for name, info in tool.arguments.model_fields.items():
        if name.endswith(("id", "_ids", "_key")) or name in NAMED:
            continue
        for mark in (*info.metadata, *marks_in(info.annotation)):
            free = isinstance(mark, Text) and not isinstance(mark, PathText | Duration)
            if free and mark.form is None:
                found[name] = mark
    return found


def marks_in(annotation: Any) -> typing.Iterator[Any]:
    """What is said of the texts inside an optional text or a list of texts."""
    if typing.get_origin(annotation) is typing.Annotated:
        yield from annotation.__metadata__
    for inner in typing.get_args(annotation):
        yield from marks_in(inner)


@dataclass
class Filled:
    """A filled board, and the ids under which what was written is read."""

    board: Board
    words: Words
    human: Principal
    full: bool = False
    """Whether lists are as long as they may be."""
    ids: dict[str, Any] = field(default_factory=dict)
    written: set[tuple[str, str]] = field(default_factory=set)

    async def call(self, who: str, tool: str, **fixed: Any) -> dict[str, Any]:
        """Call a writing tool with words in every text that is not fixed."""
        arguments = dict(fixed)
        for name, text in free_texts(TOOLS[tool]).items():
            if name not in arguments:
                published = TOOLS[tool].input_schema["properties"][name]
                words = self.words(text, who)
                arguments[name] = [words] * self.items(published, words) if "maxItems" in published else words
                self.written.add((tool, name))
        if who == "human":
            return await self.board.call(tool, token=self.human, **arguments)
        return await self.board.call(tool, agent_id=who, **arguments)

    def items(self, published: dict[str, Any], words: str) -> int:
        """How many such words a list gets; long ones are bounded together."""
        many = TEXT_BYTES // len(words.encode()) - 1 if published["maxItems"] <= 20 else published["maxItems"]
        return many if self.full else 1

    def unwritten(self) -> set[tuple[str, str]]:
        """Texts of writing tools that nothing was written into."""
        texts = {(tool.name, name) for tool in TOOLS.values() if tool.writes for name in free_texts(tool)}
        return texts - self.written - FORMED


async def fill(board: Board, words: Words, *, full: bool = False) -> Filled:
    """Write everything: `ann` leads, `ben` works, `maria` is the human."""
    filled = Filled(board, words, await board.human("maria"), full)
    call = filled.call
    note = Text("a note", most=4_000)
    await call("ann", "register_agent", role="lead")
    for agent in ("ben", "dan", "eve"):
        await call(agent, "register_agent", role="developer", metadata={"note": words(note, agent)})
    await call("ben", "heartbeat")
    await call("ben", "update_agent")
    await call("human", "define_role", id="tailor")
    await _write_tasks(filled)
    await _write_mail(filled)
    await _write_memory(filled)
    await call("ben", "acquire_file_lock", file_path="held.py", ttl_seconds=80_000)
    await call("ben", "acquire_file_locks", file_paths=["one.py", "two.py"], ttl_seconds=80_000)
    await call("dan", "acquire_file_lock", file_path="forced.py")
    await call("ann", "force_release_file_lock", file_path="forced.py")
    await call("eve", "terminate_agent")
    await call("ben", "log_activity", action_type="note", details={"note": words(note, "ben")})
    await board.turn(660)  # long enough for what waits for a human to be an alert
    return filled


async def _write_tasks(filled: Filled) -> None:
    call, words = filled.call, filled.words
    files = [f"{number:03}{LONG_PATH}" for number in range(23)] if filled.full else ["t1.py"]
    await call("ann", "add_dag_task", id="t1", role="developer", files=files)
    title, description = Text("", 200, "characters"), Text("")
    texts = {"title": words(title, "ann"), "description": words(description, "ann")}
    names = ["done", "failed", "paused", "skipped", "cancelled", "ready"]
    tasks: list[dict[str, Any]] = [{"id": name, "role": "developer", **texts} for name in names]
    tasks.append({"id": "forced", "role": "developer", "depends_on": ["ready"], **texts})
    await call("ann", "add_dag_tasks", tasks=tasks)
    await call("ann", "update_dag_task", task_id="t1")
    await call("ann", "assign_dag_task", task_id="t1", target_agent_id="dan")
    await call("dan", "release_dag_task", task_id="t1")
    await call("ben", "claim_dag_task", task_id="t1")
    await call("ben", "submit_dag_task", task_id="t1")
    await call("ann", "review_dag_task", task_id="t1", verdict="reject")
    await call("ann", "complete_dag_task", task_id="done")
    await call("ann", "reopen_dag_task", task_id="done")
    await call("dan", "claim_dag_task", task_id="failed")
    await call("dan", "fail_dag_task", task_id="failed")
    await call("ann", "retry_dag_task", task_id="failed")
    await call("ann", "pause_dag_task", task_id="paused")
    await call("ann", "resume_dag_task", task_id="paused")
    await call("ann", "skip_dag_task", task_id="skipped")
    await call("ann", "cancel_dag_task", task_id="cancelled")
    await call("ann", "force_ready_dag_task", task_id="forced")
    await call("ann", "apply_task_template", template="docs", overrides={"write": texts})
    for end in ("complete_delegation", "fail_delegation", "cancel_delegation"):
        given = await call("ann", "delegate_task", target_agent_id="dan", dag_task_id=None)
        by = "ann" if end == "cancel_delegation" else "dan"
        await call(by, end, delegation_id=given["delegation_id"])
    await call("ann", "delegate_task", target_agent_id="ben")
    await call("dan", "record_task_cost", dag_task_id="t1", input_tokens=5)
    # Another crew's whole graph is thrown away, so that this one stays to be read.
    await filled.board.call("register_agent", agent_id="zoe", role="lead")
    await call("zoe", "reset_dag")


async def _write_mail(filled: Filled) -> None:
    call, ids = filled.call, filled.ids
    ids["message_id"] = (await call("ann", "send_message", to="ben"))["message_ids"][0]
    await call("dan", "send_message", to="ben", message_type="delegation_result")
    await call("ann", "broadcast_message")
    started = await call("ben", "start_conversation", task_id="t1")
    ids["conversation_id"] = started["conversation_id"]
    for speaker in ("agent", "system"):
        await call(
            "ben", "add_conversation_message", conversation_id=ids["conversation_id"], from_role=speaker
        )
    await call("ann", "create_chat_group", name="sewing", members=["ben", "dan"])
    posted = await call("dan", "send_group_message", group_name="sewing", mentions=["ben"])
    ids["group_message_id"] = posted["message_id"]
    await filled.board.call(
        "react_to_group_message",
        agent_id="ben",
        group_name="sewing",
        message_id=posted["message_id"],
        emoji="👍",
    )
    await call("ben", "set_timer", delay="1h", fire_at=None)
    await call("ann", "set_timer", delay="5", fire_at=None, target_agent_id="ben")
    await filled.board.turn(6)


async def _write_memory(filled: Filled) -> None:
    call, ids, words = filled.call, filled.ids, filled.words
    ids["decision_id"] = (await call("ben", "record_decision", needs_confirmation=True))["decision_id"]
    for end in ("confirm_decision", "reject_decision", "dismiss_decision"):
        recorded = await call("ben", "record_decision", needs_confirmation=True)
        ends = {"decision_id": recorded["decision_id"], "digest": recorded["digest"]}
        await call("human", end, **ends)
        ids["resolved_id"] = recorded["decision_id"]
    await call("ben", "record_decision")
    withdrawn = await call("dan", "record_decision", needs_confirmation=True)
    await call("dan", "withdraw_decision", decision_id=withdrawn["decision_id"])
    await call("ben", "set_agent_memory", key="hem")
    entry = {"content": words(Text("a step", most=2_000), "ben"), "status": "pending", "priority": "high"}
    await call("ben", "set_agent_plan", entries=[entry])
    await call(
        "dan",
        "put_knowledge",
        category="semantic",
        key="seams",
        metadata={"note": words(Text("a note", 900), "dan")},
    )
    await call("dan", "add_collective_memory", category="gotcha", key="thread")
    await call("human", "create_project")
    await call("human", "update_project")
    await call("ann", "start_project_session")
    await call("ann", "record_session_retro", data={"note": words(Text("a note", 4_000), "ann")})


Ids = Mapping[str, Any]

READS: Mapping[str, Callable[[Ids], dict[str, Any]]] = {
    "list_agents": lambda ids: {"include_terminated": True},
    "list_roles": lambda ids: {},
    "whoami": lambda ids: {},
    "get_agent": lambda ids: {"target_agent_id": "ben"},
    "match_agents": lambda ids: {"role": "developer"},
    "check_file_lock": lambda ids: {"file_path": "held.py"},
    "list_file_locks": lambda ids: {"include_waiters": True},
    "list_file_history": lambda ids: {},
    "list_activity": lambda ids: {},
    "list_dag_tasks": lambda ids: {"include_archived": True},
    "get_dag_task": lambda ids: {"task_id": "t1"},
    "analyze_dag": lambda ids: {},
    "list_task_templates": lambda ids: {},
    "list_delegations": lambda ids: {},
    "report_task_costs": lambda ids: {"group_by": "model"},
    "list_messages": lambda ids: {},
    "list_conversations": lambda ids: {},
    "read_conversation": lambda ids: {"conversation_id": ids["conversation_id"]},
    "list_chat_groups": lambda ids: {},
    "list_timers": lambda ids: {},
    "list_decisions": lambda ids: {},
    "get_decision": lambda ids: {"decision_id": ids["decision_id"]},
    "wait_for_decision": lambda ids: {"decision_id": ids["resolved_id"], "wait_seconds": 0},
    "get_agent_memory": lambda ids: {},
    "get_agent_plan": lambda ids: {},
    "get_setting": lambda ids: {"key": "locks.delay_seconds"},
    "search_knowledge": lambda ids: {"query": "seams thread", "max_tokens": 16_000},
    "get_knowledge": lambda ids: {"category": "semantic", "key": "seams"},
    "recall_collective_memory": lambda ids: {"category": "gotcha"},
    "list_session_retros": lambda ids: {},
    "list_projects": lambda ids: {},
    "get_project": lambda ids: {},
    "list_project_sessions": lambda ids: {},
    "catch_up": lambda ids: {},
    "get_briefing": lambda ids: {"max_tokens": 8_000},
    "get_crew_status": lambda ids: {},
    "search_crew": lambda ids: {"query": "seams thread"},
    "list_alerts": lambda ids: {},
    "get_server_info": lambda ids: {},
    # These write as well: what is read is marked as read or handed out.
    "read_group_messages": lambda ids: {"group_name": "sewing", "mark_read": False},
    "receive_messages": lambda ids: {},
    "check_in": lambda ids: {},
}
"""How each tool is asked that shows what others wrote."""

MOST_PAGES = 200


async def read(filled: Filled, tool: str) -> list[dict[str, Any]]:
    """What a reading tool tells: every page of it. `ben` asks, but for what only his lead may."""
    arguments = READS[tool](filled.ids) | {"agent_id": "ann" if TOOLS[tool].who == "lead" else "ben"}
    taken = TOOLS[tool].input_schema["properties"]
    if "limit" in taken:
        arguments["limit"] = taken["limit"]["maximum"]
    cursor = "after_id" if "after_id" in taken else "since_id"
    pages: list[dict[str, Any]] = []
    while len(pages) < MOST_PAGES:
        pages.append(await filled.board.call(tool, **arguments))
        following = pages[-1].get("next_after_id")
        if following not in (None, arguments.get(cursor)):
            arguments[cursor] = following
        elif tool == "receive_messages" and pages[-1]["messages"]:
            arguments["ack_ids"] = [message["message_id"] for message in pages[-1]["messages"]]
        else:
            return pages
    raise AssertionError(f"{tool} does not come to an end")
