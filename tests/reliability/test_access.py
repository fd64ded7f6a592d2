"""What another crew may not see answers exactly like what does not exist (ID5, ID7, Q13, M29).

The matrix is made from the catalogue: each tool is called with each of its arguments that names an object,
once with one of a crew's own objects and once with a name that nobody has, by everyone who has no business
with it; the two answers must be equal but for that name. A word that the crew wrote into all its texts shows
in no answer. So that the matrix is not empty, somebody of the crew itself must be able to tell the two apart.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from callboard.board import Config, open_board
from callboard.errors import Refused
from callboard.identity import Principal
from callboard.tool import Tool
from tests.conftest import Board, Counted, TurnedClock
from tests.filling import READS, TOOLS, Filled, fill
from tests.undoing import undo

OWN, SHARED = "heronry", "sparrowhawk"
"""Words of one crew: in its own texts, and in those that all of a project share."""

SHARES = frozenset(
    [
        "register_agent", "heartbeat", "update_agent", "terminate_agent", "define_role", "acquire_file_lock",
        "acquire_file_locks", "force_release_file_lock", "put_knowledge", "add_collective_memory",
        "create_project", "update_project", "record_file_touch", "start_project_session",
        "reset_dag",
    ]
)  # fmt: skip
"""Tools whose texts are the project's: roster, roles, locks, files, knowledge, lessons, projects. What
`tests.filling` resets is the graph of the other crew."""

Given = dict[str, Any]


class Marked(Board):
    """A board on which each text says whose it is, and that remembers how each tool was called."""

    def __init__(self, board: Board) -> None:
        super().__init__(board.opened, board.clock, board.folder)
        self.given: dict[str, Given] = {}

    async def call(self, tool: str, *, token: Principal | None = None, **arguments: Any) -> dict[str, Any]:
        told = _replaced(arguments, "MARK", SHARED if tool in SHARES else OWN)
        answer = await super().call(tool, token=token, **told)
        self.given.setdefault(tool, {}).update(told)
        return answer


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {name: _replaced(item, old, new) for name, item in value.items()}
    return [_replaced(item, old, new) for item in value] if isinstance(value, list) else value


NO_OBJECT = frozenset(
    [
        # The roster, roles and projects are shared by all of a project.
        "target_agent_id", "lead_id", "successor_id", "assigned_agent_id", "reviewer_id", "with_agent_id",
        "to", "members", "mentions", "team_id", "project_id", "session_id",
        # What a call is about to make, or counts once by.
        "call_id", "id_prefix", "request_key", "agent_id",
        # Knowledge, lessons and settings are the project's; memory is found under the caller's own id alone.
        "key", "memory_id",
    ]
)  # fmt: skip
"""Arguments that end like ids and name nothing of a crew's own."""

NAMES = re.compile(
    r"_id$|_ids$|_key$|^id$|^to$|^receipts?$|^members$|^mentions$|^reply_to$|^supersedes$|^key$"
)
"""What the name of an argument that names something looks like."""

ELSEWHERE = frozenset(
    {
        ("define_role", "id"),
        ("delete_role", "id"),
        ("add_dag_task", "id"),
        ("acquire_file_lock", "task_id"),
        ("acquire_file_locks", "task_id"),
        ("release_file_locks", "task_id"),
    }
)
"""Ids that are the project's, that a call is about to make, or that are a label on the caller's own locks."""


MATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("requeue_message", "message_id"): ("dan",),
    ("send_message", "reply_to"): ("dan",),
    ("receive_messages", "ack_ids"): ("dan",),
    ("return_message", "receipt"): ("ann", "dan"),
    ("ack_messages", "receipts"): ("ann", "dan"),
}
"""Whom of the crew itself a message from `ann` to `ben` does not concern; its receipt is `ben`'s alone."""


async def objects(filled: Filled) -> Mapping[tuple[str, str] | str, tuple[Any, Any]]:
    """An object of the crew for each argument, by its name or by tool and name; and one that nobody has."""
    ids, call = filled.ids, filled.board.call
    timers = (await call("list_timers", agent_id="ben"))["timers"]
    delegations = (await call("list_delegations", agent_id="ann"))["delegations"]
    sent = await call("send_message", agent_id="ann", to="ben", content=OWN)
    taken = (await call("receive_messages", agent_id="ben"))["messages"]
    [(session,)] = await filled.board.rows("SELECT max(id) FROM project_sessions")
    task, decision, message = ("t1", "t9"), (ids["decision_id"], "d-404"), (sent["message_ids"][0], 909_909)
    return {
        "task_id": task,
        "dag_task_id": task,
        "task_ids": (["t1"], ["t9"]),
        "depends_on": (["t1"], ["t9"]),
        "decision_id": decision,
        "supersedes": decision,
        ("list_decisions", "since_id"): decision,
        "conversation_id": (ids["conversation_id"], "c-404"),
        "group_name": ("sewing", "sowing"),
        "delegation_id": (delegations[0]["delegation_id"], "g-404"),
        "timer_id": (timers[0]["timer_id"], "timer-404"),
        "message_id": message,
        "reply_to": message,
        "ack_ids": ([message[0]], [message[1]]),
        ("react_to_group_message", "message_id"): (ids["group_message_id"], "m-404"),
        ("send_group_message", "reply_to"): (ids["group_message_id"], "m-404"),
        "receipt": (taken[0]["receipt"], "909909.0badf00d"),
        "receipts": ([taken[0]["receipt"]], ["909909.0badf00d"]),
        "session_row_id": (session, 909_909),
    }


def cursor(name: str) -> bool:
    """Whether an argument says where a list goes on."""
    return name in ("after_id", "before_id", "since_id")


def named(tool: Tool[..., Any], known: Mapping[tuple[str, str] | str, Any]) -> list[str]:
    """A tool's arguments that name an object of a crew. One that nothing here knows fails the test."""
    found = []
    for name in tool.input_schema["properties"]:
        if (tool.name, name) in ELSEWHERE:
            continue
        if (tool.name, name) in known or name in known:
            found.append(name)
        elif NAMES.search(name) and not cursor(name):
            assert name in NO_OBJECT, f"{tool.name}({name}) is not covered"
    return found


@dataclass
class Scene:
    """Two crews: `ann`'s, which has written everything, and that of `zoe` with tasks and talk of its own."""

    board: Marked
    filled: Filled
    known: Mapping[tuple[str, str] | str, tuple[Any, Any]]
    outsiders: Mapping[str, Given]
    insiders: Mapping[str, Given]
    given: Mapping[str, Given]

    @property
    def callers(self) -> Mapping[str, Given]:
        return {**self.outsiders, **self.insiders}

    async def asked(self, tool: str, caller: Given, name: str, real: bool) -> str:
        """What a call is answered that names an object of the crew, or one that nobody has. The name itself
        is taken out of the answer."""
        choice = self.known.get((tool, name)) or self.known[name]
        value = choice[0 if real else 1]
        given = _replaced(arguments(TOOLS[tool], self.given.get(tool, {})), OWN, "a word") | {name: value}
        told = await self.said(tool, caller, given)
        word = str(value[0] if isinstance(value, list) else value)
        for part in (word, word.partition(".")[0]):  # a receipt tells its message's id
            told = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "<asked>", told)
        return told.replace(str(self.board.folder), "<folder>")

    async def said(self, tool: str, caller: Given, given: Given) -> str:
        """The answer to a call, or its refusal, as text."""
        named = {name: value for name, value in caller.items() if name != "token"}
        try:
            answer = await self.board.opened.call(tool, given | named, token=caller.get("token"))
        except Refused as refused:
            answer = refused.as_data()
        return json.dumps(answer, sort_keys=True, ensure_ascii=False)


@asynccontextmanager
async def scene(folder: Path, good: Mapping[str, Given] = MappingProxyType({})) -> AsyncIterator[Scene]:
    """The two crews on a store of their own; every scene is the same, ids and all. `good` are arguments of
    tools that the crew has not called here."""
    folder.mkdir(parents=True)
    clock = TurnedClock()
    config = Config(folder=folder, db=folder / "board.db", transport="http", durability="normal")
    async with open_board(config, clock=clock, ids=Counted()) as opened:
        board = Marked(Board(opened, clock, folder))
        filled = await fill(board, lambda text, who: f"MARK of {who}")
        await board.call("register_agent", agent_id="yan", role="developer", lead_id="zoe")
        await board.call("add_dag_task", agent_id="zoe", id="z1", role="developer", title="a task of zoe's")
        await board.call("create_chat_group", agent_id="zoe", name="weaving", members=["yan"])
        outsiders: dict[str, Given] = {
            "the lead of another crew": {"agent_id": "zoe"},
            "a worker of another crew": {"agent_id": "yan"},
            "an observer": {"token": await board.principal(agent="watcher", scope="observer")},
            "one who has left": {"agent_id": "eve"},
            "one who is not on the roster": {"agent_id": "stranger"},
            "nobody": {},
        }
        insiders: dict[str, Given] = {name: {"agent_id": name} for name in ("ann", "ben", "dan")}
        insiders["maria"] = {"token": filled.human}
        known = await objects(filled)
        given = {**good} | board.given | {name: READS[name](filled.ids) for name in READS}
        yield Scene(board, filled, known, outsiders, insiders, given)


async def test_what_another_crew_may_not_see_answers_like_what_is_not_there(tmp_path: Path) -> None:
    """ID5, ID7: and the crew itself can tell the two apart, for each tool and argument."""
    async with scene(tmp_path / "model" / "repo") as model:
        await undo(model.filled)
        good = model.board.given
    async with (
        scene(tmp_path / "one" / "repo", good) as real,
        scene(tmp_path / "two" / "repo", good) as absent,
    ):
        for one in (real, absent):  # the task that the good arguments of dependencies are of
            await one.board.call(
                "add_dag_task", agent_id="ann", id="late", role="developer", depends_on=["t1"]
            )
            one.given["add_dag_task"]["id"] = "fresh"
        pairs = [(tool.name, name) for tool in TOOLS.values() for name in named(tool, real.known)]
        cells, told = 0, []
        for tool, name in pairs:
            for who in (*real.outsiders, *MATES.get((tool, name), ())):
                seen = await real.asked(tool, real.callers[who], name, True)
                unseen = await absent.asked(tool, absent.callers[who], name, False)
                if seen != unseen or OWN in seen:
                    told.append(f"{who} learns of {name} from {tool}: {seen} but {unseen}")
                cells += 1
        assert not told, "\n".join(told)
        alike = []
        for tool, name in pairs:
            for who in real.insiders:
                seen = await real.asked(tool, real.callers[who], name, True)
                if seen != await absent.asked(tool, absent.callers[who], name, False):
                    break
            else:
                alike.append((tool, name))
        print(f"{cells} cells of {len(pairs)} arguments")
        assert not alike, alike
        assert cells > 300


async def test_no_word_of_a_crew_shows_in_any_answer_to_another(tmp_path: Path) -> None:
    """ID7, Q13: not in results, snippets or counts, however narrowly it is asked for. What all of the project
    share does show, so that a word would be seen."""
    async with scene(tmp_path / "repo") as told:
        shows: set[str] = set()
        for tool in sorted(READS):
            for who, caller in told.outsiders.items():
                for given in asked_for(tool, told.filled):
                    said = await told.said(tool, caller, given)
                    assert OWN not in said.replace(f'"{OWN}"', ""), f"{tool}({given}) tells {who} {said}"
                    if given.get("query") == OWN and '"code":' not in said:
                        assert not re.search(r'(?<!project)_id": ', said), f"{tool} finds {said}"
                    if SHARED in said:
                        shows.add(tool)
        assert shows >= {"list_agents", "get_agent", "search_knowledge", "search_crew", "list_file_locks"}, (
            shows
        )


def asked_for(tool: str, filled: Filled) -> Iterator[Given]:
    """Ways to ask a reading tool: as the crew would, and for each of the crew's people, roles and words."""
    base = READS[tool](filled.ids)
    taken = TOOLS[tool].input_schema["properties"]
    if "wait_seconds" in taken:
        base["wait_seconds"] = 0
    yield base
    narrower: dict[str, list[Any]] = {
        "target_agent_id": ["ann", "ben"],
        "with_agent_id": ["ann", "ben"],
        "lead_id": ["ann"],
        "query": [OWN, SHARED],
        "topic": [OWN],
        "after_id": [0] if taken.get("after_id", {}).get("type") == "integer" else [],
        "since_id": [0] if taken.get("since_id", {}).get("type") == "integer" else [],
    }
    for name, values in narrower.items():
        for value in values if name in taken else ():
            yield base | {name: value}


def arguments(tool: Tool[..., Any], given: Given) -> Given:
    """Good arguments of a tool, without those that say who calls or let it wait."""
    taken = tool.input_schema["properties"]
    base = {name: value for name, value in given.items() if name in taken}
    for name in ("agent_id", "request_key"):
        base.pop(name, None)
    return base | {name: 0 for name in ("wait_seconds", "queue_seconds") if name in taken}
