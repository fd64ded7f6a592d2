"""Resources: each is a tool's answer under a URI, and what one may not read does not exist."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from mcp import types
from mcp.shared.exceptions import MCPError

from callboard.catalog import CATALOG
from callboard.events import Topic
from callboard.resources import SCHEME, VIEWS, Resources
from tests.conftest import Agent, Board, Boards
from tests.hearing import ERAS, client_of

Json = dict[str, Any]

READS: dict[str, tuple[str, dict[str, Any]]] = {
    "callboard://inbox/ann": ("list_messages", {"direction": "received", "status": "queued"}),
    "callboard://briefing/ann": ("get_briefing", {}),
    "callboard://locks": ("list_file_locks", {"include_waiters": True}),
    "callboard://dag/ann": ("list_dag_tasks", {}),
    "callboard://task/the%20parser%2F1": ("get_dag_task", {"task_id": "the parser/1"}),
    "callboard://group/ann/talk": (
        "read_group_messages",
        {"group_name": "talk", "newest_first": True, "mark_read": False},
    ),
    "callboard://agent/ben": ("get_agent", {"target_agent_id": "ben"}),
}
"""Each resource of the crew below, with the call that it stands for."""


async def crew(board: Board) -> tuple[Agent, Agent]:
    """A lead with one of everything, and a developer of its crew."""
    ann = await board.agent("ann", role="lead")
    ben = await board.agent("ben", lead_id="ann")
    await ben.send_message(to="ann", content="hello\x1b[31m ann")
    await ann.acquire_file_lock(file_path="src/a.py", reason="split it")
    await ann.add_dag_task(id="the parser/1", role="developer", description="Parse.", title="Parser")
    await ann.create_chat_group(name="talk", members=["ben"])
    await ben.send_group_message(group_name="talk", content="good morning")
    await ann.record_decision(title="Use LALR", rationale="It is small.", category="architecture")
    return ann, ben


def without_chance(answer: Json) -> Json:
    """An answer without what differs from call to call: the mark of its quotes, and the time."""
    mark = answer.get("mark", "\0")
    plain = json.loads(json.dumps(answer).replace(mark, "mark"))
    return {key: value for key, value in plain.items() if key not in ("generated_at", "unread")}


def reading(result: types.ReadResourceResult) -> Json:
    [content] = result.contents
    assert isinstance(content, types.TextResourceContents)
    assert content.mime_type == "application/json"
    answer: Json = json.loads(content.text)
    return answer


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("uri", READS)
async def test_a_resource_is_the_answer_of_a_tool_that_reads(boards: Boards, uri: str, era: str) -> None:
    tool, arguments = READS[uri]
    async with boards() as other, boards(agent="ann") as board:
        ann, _ = await crew(other)
        async with client_of(board, era) as client:
            await client.read_resource(uri)  # a sign of life, which may lengthen leases
            await board.settle()
            read = reading(await client.read_resource(uri))
        assert without_chance(read) == without_chance(await ann.call(tool, **arguments))
        assert "\x1b" not in json.dumps(read, ensure_ascii=False)


async def test_a_decision_is_read_by_its_id(boards: Boards) -> None:
    async with boards() as other, boards(agent="ben") as board:
        await crew(other)
        [decision] = (await board.call("list_decisions"))["decisions"]
        async with client_of(board) as client:
            read = reading(await client.read_resource(f"callboard://decision/{decision['decision_id']}"))
        assert read["title"] == "Use LALR"


async def test_reading_takes_nothing_and_leaves_a_group_unread(boards: Boards) -> None:
    async with boards() as other, boards(agent="ann") as board:
        ann, _ = await crew(other)
        async with client_of(board) as client:
            for uri in ("callboard://inbox/ann", "callboard://group/ann/talk"):
                await client.read_resource(uri)
        assert (await ann.list_chat_groups())["groups"][0]["unread_messages"] == 1
        assert (await ann.receive_messages())["messages"][0]["text"].count("hello") == 1


# What one may not read does not exist.

CLOSED = {
    "an inbox": ("callboard://inbox/ben", "callboard://inbox/nobody"),
    "a briefing": ("callboard://briefing/ben", "callboard://briefing/nobody"),
    "a graph of another crew": ("callboard://dag/ann", "callboard://dag/nobody"),
    "a task of another crew": ("callboard://task/the%20parser%2F1", "callboard://task/nothing"),
    "a group of another crew": ("callboard://group/ann/talk", "callboard://group/ann/nothing"),
    "a group by one's own crew": ("callboard://group/cleo/talk", "callboard://group/cleo/nothing"),
    "a decision of another crew": ("callboard://decision/{decision}", "callboard://decision/nothing"),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("closed", "absent"), CLOSED.values(), ids=CLOSED)
async def test_what_is_anothers_is_refused_exactly_like_what_is_absent(
    boards: Boards, closed: str, absent: str, era: str
) -> None:
    """ID7, Q13."""
    async with boards() as other, boards(agent="cleo") as board:
        ann, _ = await crew(other)
        await other.agent("cleo", role="lead")
        [decision] = (await ann.list_decisions())["decisions"]
        uri = closed.format(decision=decision["decision_id"])
        async with client_of(board, era) as client:
            refusals = [await refusal_of(client.read_resource(each)) for each in (uri, absent)]
        assert [each.data for each in refusals] == [{"uri": uri}, {"uri": absent}]
        assert refusals[0].model_copy(update={"data": None}) == refusals[1].model_copy(update={"data": None})
        assert refusals[0].code == types.INVALID_PARAMS


async def refusal_of(reading: Any) -> types.ErrorData:
    with pytest.raises(MCPError) as refused:
        await reading
    return refused.value.error


async def test_a_group_that_one_is_not_in_is_refused_to_a_member_of_the_crew(boards: Boards) -> None:
    async with boards() as other, boards(agent="dan") as board:
        await crew(other)
        await other.agent("dan", lead_id="ann")
        async with client_of(board) as client:
            refused = await refusal_of(client.read_resource("callboard://group/ann/talk"))
        assert (refused.code, refused.message) == (types.INVALID_PARAMS, "There is no such resource.")


@pytest.mark.parametrize(
    "uri",
    [
        "callboard://",
        "callboard://inbox",
        "callboard://inbox/",
        "callboard://inbox/ann/more",
        "callboard://INBOX/ann",
        "callboard://locks/",
        "callboard://task/%ff",
        "callboard://task/%00",
        "callboard://task/" + "x" * 5_000,
        "callboard://agent/..%2F..%2Fetc%2Fpasswd",
        "callboard://%69nbox/ann",
        "callboard:inbox/ann",
    ],
)
async def test_what_no_template_makes_is_absent(boards: Boards, uri: str) -> None:
    async with boards(agent="ann") as board:
        await board.agent("ann")
        async with client_of(board) as client:
            assert (await refusal_of(client.read_resource(uri))).code == types.INVALID_PARAMS


async def test_an_agent_that_was_terminated_reads_nothing(boards: Boards) -> None:
    async with boards() as other, boards(agent="ben") as board:
        ann, _ = await crew(other)
        async with client_of(board) as client:
            await client.read_resource("callboard://inbox/ben")
            await ann.terminate_agent(target_agent_id="ben")
            assert (await refusal_of(client.read_resource("callboard://inbox/ben"))).data == {
                "uri": "callboard://inbox/ben"
            }
            assert (await client.list_resources()).resources == []


async def test_a_person_reads_its_own_inbox_and_no_agents(boards: Boards) -> None:
    """Reading an agent's mail is what list_messages writes to the ledger."""
    async with boards() as board:
        ann, _ = await crew(board)
        maria = await board.human("maria")
        await ann.send_message(to="human:maria", content="shall we?")
        resources = Resources(board.opened)
        own = json.loads(await resources.read(maria, "callboard://inbox/human%3Amaria"))
        assert "shall we?" in own["messages"][0]["text"]
        for uri in ("callboard://inbox/ann", "callboard://group/ann/talk"):
            assert (await refusal_of(resources.read(maria, uri))).code == types.INVALID_PARAMS


# Who reads.


async def test_the_one_agent_behind_a_pipe_need_not_be_named(boards: Boards) -> None:
    async with boards(transport="stdio") as board, client_of(board) as client:
        refused = await refusal_of(client.read_resource("callboard://locks"))
        assert (refused.code, refused.data["code"]) == (types.INVALID_PARAMS, "unknown_caller")
        assert (await client.list_resources()).resources == []
        await client.call_tool("register_agent", {"agent_id": "ann", "role": "lead"})
        assert reading(await client.read_resource("callboard://locks"))["locks"] == []
        await client.call_tool("register_agent", {"agent_id": "ben", "role": "developer"})
        refused = await refusal_of(client.read_resource("callboard://locks"))
        assert refused.data["code"] == "unknown_caller"
        assert reading(await client.read_resource("callboard://inbox/ben"))["messages"] == []


async def test_over_http_without_a_token_only_the_uri_can_name_the_reader(board: Board) -> None:
    await board.agent("ann")
    async with client_of(board) as client:
        assert reading(await client.read_resource("callboard://inbox/ann")) == {"messages": []}
        assert (await refusal_of(client.read_resource("callboard://locks"))).data["code"] == "unknown_caller"
        assert (await refusal_of(client.read_resource("callboard://inbox/nobody"))).data == {
            "uri": "callboard://inbox/nobody"
        }


# What is listed.


async def test_a_caller_is_listed_what_is_always_its_own(boards: Boards) -> None:
    async with boards() as other, boards(agent="ben") as board:
        await crew(other)
        async with client_of(board) as client:
            listed = (await client.list_resources()).resources
            for resource in listed:
                reading(await client.read_resource(resource.uri))
            templates = (await client.list_resource_templates()).resource_templates
        assert [resource.uri.removeprefix(SCHEME) for resource in listed] == [
            "inbox/ben",
            "briefing/ben",
            "locks",
            "dag/ann",
        ]
        assert [each.uri_template for each in templates] == [
            view.template for view in VIEWS if view.name != "locks"
        ]


async def test_a_resource_whose_tool_is_not_served_is_neither_listed_nor_read(boards: Boards) -> None:
    async with boards(agent="ann", toolsets=("roster", "locks")) as board:
        await board.agent("ann")
        async with client_of(board) as client:
            listed = [resource.uri for resource in (await client.list_resources()).resources]
            templates = [
                each.uri_template for each in (await client.list_resource_templates()).resource_templates
            ]
            assert listed == ["callboard://locks"]
            assert templates == ["callboard://agent/{id}"]
            assert (await refusal_of(client.read_resource("callboard://inbox/ann"))).code == (
                types.INVALID_PARAMS
            )


def test_each_view_names_a_tool_and_facts_that_there_are() -> None:
    tools = {tool.name for tool in CATALOG}
    facts = {"crew": "c", "project": "p"}
    for view in VIEWS:
        assert view.tool in tools
        assert set(view.arguments.values()) <= set(view.parts)
        for touch in view.touched_by:
            assert touch.topic in get_args(Topic)
            touch.of(facts | dict.fromkeys(view.parts, "x"))


def test_the_readme_names_every_resource() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert [view.template for view in VIEWS if f"| `{view.template}` |" not in readme] == []


# Completions.


async def completed(client: Any, template: str, part: str, begun: str = "") -> list[str]:
    reference = types.ResourceTemplateReference(uri=f"{SCHEME}{template}")
    result = await client.complete(reference, {"name": part, "value": begun})
    values: list[str] = result.completion.values
    return values


@pytest.mark.parametrize("era", ERAS)
async def test_completions_hold_only_what_the_caller_may_read(boards: Boards, era: str) -> None:
    async with boards() as other, boards(agent="cleo") as board:
        await crew(other)
        cleo = await other.agent("cleo", role="lead")
        await cleo.add_dag_task(id="lexer", role="developer", description="Lex.")
        await cleo.add_dag_task(id="linter", role="developer", description="Lint.")
        await cleo.create_chat_group(name="cleos", members=[])
        async with client_of(board, era) as client:
            assert await completed(client, "inbox/{agent_id}", "agent_id") == ["cleo"]
            assert await completed(client, "inbox/{agent_id}", "agent_id", "a") == []
            assert await completed(client, "dag/{lead_id}", "lead_id") == ["cleo"]
            assert await completed(client, "task/{id}", "id") == ["lexer", "linter"]
            assert await completed(client, "task/{id}", "id", "lex") == ["lexer"]
            assert await completed(client, "group/{lead_id}/{name}", "name") == ["cleos"]
            assert await completed(client, "decision/{id}", "id") == []
            assert await completed(client, "agent/{id}", "id", "b") == ["ben"]
            assert await completed(client, "nothing/{id}", "id") == []


async def test_whom_nobody_knows_is_offered_nothing(board: Board) -> None:
    await crew(board)
    async with client_of(board) as client:
        assert await completed(client, "task/{id}", "id") == []


async def test_a_resource_that_no_frame_can_carry_names_the_tool_that_shows_it(boards: Boards) -> None:
    async with boards() as other, boards(agent="cleo") as board:
        ann, _ = await crew(other)
        await other.agent("cleo", role="lead")
        await ann.send_message(to="cleo", content="🎭" * 60_000)
        async with client_of(board) as client:
            refused = await refusal_of(client.read_resource("callboard://inbox/cleo"))
        assert refused.data["code"] == "too_large"
        assert "list_messages" in refused.message
