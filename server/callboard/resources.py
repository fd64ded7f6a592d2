"""Resources: what is on the board, by URI, for clients that show it to people or put it in a context.

A resource has no rights, no wording and no limits of its own: to read it is to call a tool that only
reads, as whoever asks. What that caller may not read does not exist for it, and is answered like what
does not exist at all.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from mcp import types
from mcp.shared.exceptions import MCPError

from callboard.board import Board
from callboard.errors import InternalError, Refused, TooLarge, Unauthenticated, UnknownCaller
from callboard.events import Topic
from callboard.feed import News
from callboard.frames import AROUND_BYTES, FRAME_BYTES, compact
from callboard.identity import Caller, Principal
from callboard.store import REFUSALS

SCHEME = "callboard://"
MIME_TYPE = "application/json"

MOST_COMPLETIONS = 100
"""The protocol's own limit."""

MOST_PAGES = 5
"""Pages of a list that are looked through for completions."""

# Refusals that say nothing of the resource, and so are told as what they are. Any other one means that the
# caller finds nothing under the URI.
PASSED_ON = frozenset({*REFUSALS, InternalError.code, Unauthenticated.code})

T = TypeVar("T")
Facts = Mapping[str, str]
Rule = Callable[[Caller, Facts], bool]


class Touch(NamedTuple):
    """Which facts touch a resource: those of a topic that say all of this. Names in braces stand for parts
    of the URI, and for the reader's own crew and project."""

    topic: Topic
    subject: str | None = None
    agent_id: str | None = None
    project_id: str | None = None
    lead_id: str | None = None

    def of(self, facts: Facts) -> "Touch":
        """This with the names filled in."""
        topic, *said = self
        return Touch(topic, *(value and value.format_map(facts) for value in said))

    def matches(self, news: News) -> bool:
        return (
            self.topic == news.topic
            and self.subject in (None, news.subject)
            and self.agent_id in (None, news.agent_id)
            and self.project_id in (None, news.project_id)
            and self.lead_id in (None, news.lead_id)
        )


class Source(NamedTuple):
    """Where completions come from: a tool that lists, its list, and the name in each entry."""

    tool: str
    entries: str
    name: str


class View(NamedTuple):
    """One kind of resource: its template, the tool that reads it, and what touches it."""

    name: str
    template: str
    title: str
    description: str
    tool: str
    touched_by: tuple[Touch, ...]
    arguments: Mapping[str, str] = {}
    """The tool's arguments that parts of the URI give."""
    fixed: Mapping[str, Any] = {}
    """The tool's arguments that are always the same."""
    rule: Rule = lambda caller, given: True
    """What must hold beside what the tool itself asks."""
    proven: bool = False
    """Whether the rule alone decides who reads; else the tool is asked."""
    names_reader: bool = False
    """Whether the URI names its one reader."""
    source: Source | None = None

    @property
    def parts(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.template)


def _own(caller: Caller, given: Facts) -> bool:
    return given["agent_id"] == caller.agent_id


def _own_crew(caller: Caller, given: Facts) -> bool:
    return given["lead_id"] == caller.lead_id


def _as_member(caller: Caller, given: Facts) -> bool:
    # A person is of no crew, and the tool looks for its groups by name in the whole project.
    return caller.kind != "human" and _own_crew(caller, given)


VIEWS: tuple[View, ...] = (
    View(
        "inbox",
        "callboard://inbox/{agent_id}",
        "Inbox",
        "Your messages that wait, oldest first; reading takes and acknowledges none (receive_messages does).",
        tool="list_messages",
        fixed={"direction": "received", "status": "queued"},
        rule=_own,
        proven=True,
        names_reader=True,
        touched_by=(Touch("inbox", subject="{agent_id}"), Touch("messages", subject="{agent_id}")),
    ),
    View(
        "briefing",
        "callboard://briefing/{agent_id}",
        "Briefing",
        "What you must know to begin or go on: your work, your crew, decisions, the plan.",
        tool="get_briefing",
        rule=_own,
        proven=True,
        names_reader=True,
        touched_by=(
            Touch("inbox", subject="{agent_id}"),
            Touch("tasks", lead_id="{crew}"),
            Touch("decisions", lead_id="{crew}"),
            Touch("locks", agent_id="{agent_id}"),
        ),
    ),
    View(
        "locks",
        "callboard://locks",
        "File locks",
        "The leases in force in your project, and who waits; more with list_file_locks.",
        tool="list_file_locks",
        fixed={"include_waiters": True},
        proven=True,
        touched_by=(Touch("locks", project_id="{project}"),),
    ),
    View(
        "dag",
        "callboard://dag/{lead_id}",
        "Task graph",
        "Your crew's tasks and what each waits for; more with list_dag_tasks.",
        tool="list_dag_tasks",
        rule=_own_crew,
        proven=True,
        touched_by=(Touch("tasks", lead_id="{lead_id}"),),
    ),
    View(
        "task",
        "callboard://task/{id}",
        "Task",
        "One task of your crew: text, dependencies, history, results, cost.",
        tool="get_dag_task",
        arguments={"task_id": "id"},
        source=Source("list_dag_tasks", "tasks", "task_id"),
        touched_by=(
            Touch("tasks", lead_id="{crew}", subject="{id}"),
            Touch("tasks", lead_id="{crew}", subject="{crew}"),  # all of them at once
            Touch("costs", lead_id="{crew}", subject="{id}"),
        ),
    ),
    View(
        "group",
        "callboard://group/{lead_id}/{name}",
        "Group",
        "What was said last in a group of your crew, newest first; reading leaves it unread.",
        tool="read_group_messages",
        arguments={"group_name": "name"},
        fixed={"mark_read": False, "newest_first": True},
        rule=_as_member,
        source=Source("list_chat_groups", "groups", "group_name"),
        touched_by=(Touch("chat", subject="{lead_id}/{name}"),),
    ),
    View(
        "decision",
        "callboard://decision/{id}",
        "Decision",
        "One decision: rationale, options, outcome and its reason.",
        tool="get_decision",
        arguments={"decision_id": "id"},
        source=Source("list_decisions", "decisions", "decision_id"),
        touched_by=(Touch("decisions", subject="{id}"),),
    ),
    View(
        "agent",
        "callboard://agent/{id}",
        "Agent",
        "One agent of your project: its locks, tasks, delegations, plan, latest activity.",
        tool="get_agent",
        arguments={"target_agent_id": "id"},
        source=Source("list_agents", "agents", "agent_id"),
        touched_by=(
            Touch("roster", subject="{id}"),
            Touch("roster", agent_id="{id}"),
            Touch("locks", agent_id="{id}"),
            Touch("tasks", agent_id="{id}"),
            Touch("history", agent_id="{id}"),
        ),
    ),
)
"""Every kind of resource, with the facts that touch it."""


class Found(NamedTuple):
    """A resource for one reader: the call that reads it, and the facts that touch it."""

    view: View
    arguments: Mapping[str, Any]
    touched_by: tuple[Touch, ...]


class Resources:
    """The resources of one board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.views = {view.name: view for view in VIEWS if view.tool in board.tools}

    def templates(self) -> list[types.ResourceTemplate]:
        return [
            types.ResourceTemplate(
                uri_template=view.template,
                name=view.name,
                title=view.title,
                description=view.description,
                mime_type=MIME_TYPE,
            )
            for view in self.views.values()
            if view.parts
        ]

    async def of_caller(self, token: Principal | None) -> list[types.Resource]:
        """The resources that a caller always has: its inbox, its briefing, the locks, its crew's graph. None
        for whom the roster does not know."""
        try:
            caller = await self._caller(token)
        except Refused as refusal:
            if refusal.code in PASSED_ON:
                raise
            return []
        parts = {"agent_id": caller.agent_id, "lead_id": caller.lead_id}
        return [
            types.Resource(
                uri=view.template.format_map({key: quote(value, safe="") for key, value in parts.items()}),
                name=view.name,
                title=view.title,
                description=view.description,
                mime_type=MIME_TYPE,
            )
            for view in self.views.values()
            if parts.keys() >= set(view.parts)
        ]

    async def read(self, token: Principal | None, uri: str) -> str:
        """A resource as JSON. Raises MCPError (-32602) where there is nothing, and `Refused` for what is not
        about the resource."""

        async def whole(found: Found) -> str:
            data = await self._board.call(found.view.tool, found.arguments, token=token)
            text = compact(data)
            # A string of the wire's JSON, in the wordiest of the encodings that the transports use.
            if (size := len(json.dumps(text)) + AROUND_BYTES) > FRAME_BYTES:
                said = f"The resource has {size} bytes on the wire; {found.view.tool} shows it in parts."
                refusal = TooLarge(said, size=size, limit=FRAME_BYTES, unit="bytes")
                raise MCPError(types.INTERNAL_ERROR, refusal.message, refusal.as_data())
            return text

        return await self._with(token, uri, whole)

    async def admit(self, token: Principal | None, uri: str) -> tuple[Touch, ...]:
        """What touches a resource that the caller may read now; no sign of life. Raises as `read` does."""

        async def admitted(found: Found) -> tuple[Touch, ...]:
            if not found.view.proven:
                await self._board.call(found.view.tool, found.arguments, token=token, sign_of_life=False)
            return found.touched_by

        return await self._with(token, uri, admitted)

    async def complete(
        self, token: Principal | None, template: str, part: str, begun: str
    ) -> types.Completion | None:
        """The values of a part of a template that begin so, of all that the caller may read."""
        view = next((view for view in self.views.values() if view.template == template), None)
        if view is None or part not in view.parts:
            return None
        try:
            caller = await self._caller(token)
            if part in ("agent_id", "lead_id"):
                names, more = [caller.agent_id if part == "agent_id" else caller.lead_id], False
            else:
                names, more = await self._listed(token, caller, view.source)
        except Refused as refusal:
            if refusal.code in PASSED_ON:
                raise
            return types.Completion(values=[], total=0, has_more=False)
        fitting = [name for name in names if name.startswith(begun)]
        return types.Completion(
            values=fitting[:MOST_COMPLETIONS],
            total=None if more else len(fitting),
            has_more=more or len(fitting) > MOST_COMPLETIONS,
        )

    async def _listed(
        self, token: Principal | None, caller: Caller, source: Source | None
    ) -> tuple[list[str], bool]:
        """The names in the first pages of a list, and whether it has more of them."""
        if source is None or (tool := self._board.tools.get(source.tool)) is None:
            return [], False
        arguments: dict[str, Any] = {} if self._board.named(token) else {"agent_id": caller.agent_id}
        if "limit" in tool.input_schema["properties"]:
            arguments["limit"] = 200
        names: list[str] = []
        for _ in range(MOST_PAGES):
            page = await self._board.call(source.tool, arguments, token=token, sign_of_life=False)
            names += [str(entry[source.name]) for entry in page[source.entries]]
            if (after := page.get("next_after_id")) is None:
                return names, False
            arguments["after_id"] = after
        return names, True

    # Who reads.

    async def _with(self, token: Principal | None, uri: str, use: Callable[[Found], Awaitable[T]]) -> T:
        """Find a resource and use it, with one answer for all that the caller may not read."""
        try:
            return await use(await self._find(token, uri))
        except UnknownCaller as refusal:  # nobody asks: that says nothing of the resource either
            raise MCPError(types.INVALID_PARAMS, refusal.message, refusal.as_data()) from refusal
        except Refused as refusal:
            if refusal.code in PASSED_ON:
                raise
            raise absent(uri) from None

    async def _find(self, token: Principal | None, uri: str) -> Found:
        view, given = self._parsed(uri)
        caller = await self._caller(token, given["agent_id"] if view.names_reader else None)
        if not view.rule(caller, given):
            raise absent(uri)
        arguments = {name: given[part] for name, part in view.arguments.items()}
        if self._board.named(token) is None:
            arguments["agent_id"] = caller.agent_id
        facts = {"crew": caller.lead_id, "project": caller.project_id, **given}
        return Found(view, {**view.fixed, **arguments}, tuple(each.of(facts) for each in view.touched_by))

    async def _caller(self, token: Principal | None, named: str | None = None) -> Caller:
        """Who reads. A read carries no `agent_id`. Without a token or a binding it is whom the URI itself
        names as its reader; else the one agent that has signed in through this process, for one client stands
        behind a pipe, and with a single agent there is nobody else whom it could mean. With several, or over
        HTTP, nobody can tell: the read is refused. That grants nothing: where no token is asked for, any
        tool can be called in the name of any agent.

        Raises UnknownCaller, and as `Board.caller` does.
        """
        if self._board.named(token) is not None:
            return await self._board.caller(token)
        if named is None:
            here = await self._board.agents_here()
            if len(here) != 1:
                raise UnknownCaller(
                    "It cannot be told which agent reads.",
                    hint="Serve the agent alone (--agent), sign in, or use a token.",
                )
            named = here[0]
        return await self._board.caller(token, named)

    def _parsed(self, uri: str) -> tuple[View, dict[str, str]]:
        """The view of a URI and its parts, decoded. Raises MCPError for what no template makes."""
        kind, *segments = uri.removeprefix(SCHEME).split("/")
        view = self.views.get(kind)
        if not uri.startswith(SCHEME) or view is None or len(segments) != len(view.parts):
            raise absent(uri)
        try:
            decoded = [unquote(segment, errors="strict") for segment in segments]
        except UnicodeDecodeError:
            raise absent(uri) from None
        return view, dict(zip(view.parts, decoded, strict=True))


def absent(uri: str) -> MCPError:
    """The answer for what is not there, or not for this caller."""
    return MCPError(types.INVALID_PARAMS, "There is no such resource.", {"uri": uri})
