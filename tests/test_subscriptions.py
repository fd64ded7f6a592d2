"""Subscriptions: who is told of what, in both protocol eras; and who is not."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from mcp import Client, types
from mcp.server.subscriptions import ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError

from callboard.errors import Refused
from callboard.resources import Resources
from callboard.subscriptions import MOST_URIS, Watch
from tests.conftest import Agent, Board, Boards
from tests.hearing import ERAS, SOON, client_of, subscribe, subscribed, unsubscribe
from tests.test_feed import polling
from tests.test_resources import CLOSED, crew

Act = Callable[[Agent, Agent], Awaitable[Any]]


def told(tool: str, by: str = "ben", **arguments: Any) -> Act:
    async def act(ann: Agent, ben: Agent) -> None:
        await {"ann": ann, "ben": ben}[by].call(tool, **arguments)

    return act


async def decide(ann: Agent, ben: Agent) -> None:
    [decision] = (await ann.list_decisions())["decisions"]
    await ann.withdraw_decision(decision_id=decision["decision_id"], reason="it was wrong")


async def acknowledge(ann: Agent, ben: Agent) -> None:
    receipts = [message["receipt"] for message in (await ann.receive_messages())["messages"]]
    await ann.ack_messages(receipts=receipts)


async def queue(ann: Agent, ben: Agent) -> None:
    with pytest.raises(Refused):
        await ben.acquire_file_lock(file_path="src/a.py", queue_seconds=60)


TASK = "callboard://task/the%20parser%2F1"
CHANGES: dict[str, tuple[str, Act]] = {
    "a message arrives": ("inbox/ann", told("send_message", to="ann", content="again")),
    "a message is acknowledged": ("inbox/ann", acknowledge),
    "a message is for me": ("briefing/ann", told("send_message", to="ann", content="again")),
    "a task of the crew is added": ("briefing/ann", told("add_dag_task", "ann", id="t", role="developer")),
    "a lock is taken": ("locks", told("acquire_file_lock", file_path="b.py")),
    "a lock is released": ("locks", told("release_file_lock", "ann", file_path="src/a.py")),
    "a lock is queued for": ("locks", queue),
    "a task is added": ("dag/ann", told("add_dag_task", "ann", id="t", role="developer")),
    "a task of the graph is claimed": ("dag/ann", told("claim_dag_task", task_id="the parser/1")),
    "a task is claimed": ("task/the%20parser%2F1", told("claim_dag_task", task_id="the parser/1")),
    "the graph is reset": ("task/the%20parser%2F1", told("reset_dag", "ann", reason="anew")),
    "somebody speaks": ("group/ann/talk", told("send_group_message", group_name="talk", content="and?")),
    "a decision is withdrawn": ("decision/{decision}", decide),
    "an agent takes a lock": ("agent/ben", told("acquire_file_lock", file_path="b.py")),
    "an agent logs": ("agent/ben", told("log_activity", action_type="note", summary="tried")),
    "an agent changes its entry": ("agent/ben", told("update_agent", model="m-2")),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("resource", "act"), CHANGES.values(), ids=CHANGES)
async def test_a_client_is_told_of_what_touches_its_resource(
    boards: Boards, resource: str, act: Act, era: str
) -> None:
    async with boards() as other, boards(agent="ann") as board:
        ann, ben = await crew(other)
        [decision] = (await ann.list_decisions())["decisions"]
        uri = "callboard://" + resource.format(decision=decision["decision_id"])
        async with (
            polling(board),
            client_of(board, era) as client,
            subscribed(client, era, uri) as ears,
        ):
            await act(ann, ben)
            assert await ears.next() == uri


@pytest.mark.parametrize("era", ERAS)
async def test_a_task_that_becomes_ready_through_another_is_told(boards: Boards, era: str) -> None:
    async with boards() as other, boards(agent="ann") as board:
        ann, ben = await crew(other)
        await ann.add_dag_task(id="next", role="developer", depends_on=["the parser/1"])
        claimed = await ben.claim_dag_task(task_id="the parser/1")
        async with (
            polling(board),
            client_of(board, era) as client,
            subscribed(client, era, "callboard://task/next") as ears,
        ):
            done = {"task_id": "the parser/1", "claim_epoch": claimed["claim_epoch"]}
            await ben.complete_dag_task(**done, summary="parsed")
            assert await ears.next() == "callboard://task/next"


# Who is not told.


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("closed", "absent"), CLOSED.values(), ids=CLOSED)
async def test_to_subscribe_to_what_is_anothers_is_refused_exactly_like_what_is_absent(
    boards: Boards, closed: str, absent: str, era: str
) -> None:
    """ID7, Q13."""
    async with boards() as other, boards(agent="cleo") as board:
        ann, _ = await crew(other)
        await other.agent("cleo", role="lead")
        [decision] = (await ann.list_decisions())["decisions"]
        uri = closed.format(decision=decision["decision_id"])
        async with client_of(board, era) as client:
            refusals = [await not_subscribed(client, era, each) for each in (uri, absent)]
        assert [each.data for each in refusals] == [{"uri": uri}, {"uri": absent}]
        assert refusals[0].model_copy(update={"data": None}) == refusals[1].model_copy(update={"data": None})
        assert refusals[0].code == types.INVALID_PARAMS


async def not_subscribed(client: Client, era: str, uri: str) -> types.ErrorData:
    with pytest.raises(MCPError) as refused:
        if era == "legacy":
            await subscribe(client, uri)
        else:
            async with client.listen(resource_subscriptions=["callboard://locks", uri]):
                pass
    return refused.value.error


@pytest.mark.parametrize("era", ERAS)
async def test_a_task_of_another_crew_under_the_same_id_is_nobody_elses_news(
    boards: Boards, era: str
) -> None:
    async with boards() as other, boards(agent="ann") as board:
        _, ben = await crew(other)
        cleo = await other.agent("cleo", role="lead")
        await cleo.add_dag_task(id="the parser/1", role="developer")
        uris = [TASK, "callboard://dag/ann", "callboard://inbox/ann"]
        async with (
            polling(board),
            client_of(board, era) as client,
            subscribed(client, era, *uris) as ears,
        ):
            await cleo.claim_dag_task(task_id="the parser/1")
            await cleo.reset_dag(reason="anew")
            await ben.send_message(to="ann", content="after all that")
            assert await ears.next() == "callboard://inbox/ann"
            assert ears.nothing()


@pytest.mark.parametrize("era", ERAS)
async def test_who_has_left_a_group_hears_no_more_of_it(boards: Boards, era: str) -> None:
    async with boards() as other, boards(agent="ben") as board:
        ann, _ = await crew(other)
        uris = ["callboard://group/ann/talk", "callboard://inbox/ben"]
        async with (
            polling(board),
            client_of(board, era) as client,
            subscribed(client, era, *uris) as ears,
        ):
            await ann.send_group_message(group_name="talk", content="about ben")
            assert {await ears.next(), await ears.next()} == set(uris)
            await ann.remove_group_members(group_name="talk", members=["ben"])
            await ann.send_group_message(group_name="talk", content="about ben, in private")
            await ann.send_message(to="ben", content="hello")
            assert await ears.next() == "callboard://inbox/ben"
            assert ears.nothing()


@pytest.mark.parametrize("era", ERAS)
async def test_a_terminated_agent_is_told_nothing_more(boards: Boards, era: str) -> None:
    async with boards() as other, boards(agent="ben") as board, boards(agent="ann") as witness:
        ann, _ = await crew(other)
        async with (
            polling(board),
            polling(witness),
            client_of(board, era) as client,
            subscribed(client, era, "callboard://locks", "callboard://inbox/ben") as ears,
            client_of(witness) as another,
            subscribed(another, "modern", "callboard://locks") as others,
        ):
            await ann.terminate_agent(target_agent_id="ben")
            if era == "modern":
                assert await ears.next() == "the end"
            await ann.acquire_file_lock(file_path="b.py")
            assert await others.next() == "callboard://locks"
            assert ears.nothing()


async def test_what_is_unsubscribed_is_not_told(boards: Boards) -> None:
    async with boards() as other, boards(agent="ann") as board:
        _, ben = await crew(other)
        uris = ["callboard://locks", "callboard://inbox/ann"]
        async with (
            polling(board),
            client_of(board, "legacy") as client,
            subscribed(client, "legacy", *uris) as ears,
        ):
            await unsubscribe(client, "callboard://locks")
            await unsubscribe(client, "callboard://never-subscribed")
            await ben.acquire_file_lock(file_path="b.py")
            await ben.send_message(to="ann", content="done")
            assert await ears.next() == "callboard://inbox/ann"
            assert ears.nothing()


# Lists.


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_is_told_when_it_has_other_tools_and_other_resources(boards: Boards, era: str) -> None:
    async with boards() as other, boards(agent="ben") as board:
        ann = await other.agent("ann", role="lead")
        async with (
            polling(board),
            client_of(board, era) as client,
            subscribed(client, era, lists=True) as ears,
        ):
            await client.call_tool("register_agent", {"role": "developer", "lead_id": "ann"})
            assert {await ears.next(), await ears.next()} == {"tools", "resources"}
            worker = {tool.name for tool in (await client.list_tools()).tools}
            await ann.terminate_agent(successor_id="ben")
            assert await ears.next() == "tools"
            assert worker < {tool.name for tool in (await client.list_tools()).tools}


@pytest.mark.parametrize("era", ERAS)
async def test_the_agent_that_signs_in_through_a_pipe_brings_its_resources(boards: Boards, era: str) -> None:
    async with (
        boards(transport="stdio") as board,
        client_of(board, era) as client,
        subscribed(client, era, lists=True) as ears,
    ):
        await client.call_tool("register_agent", {"agent_id": "ann", "role": "lead"})
        assert await ears.next() == "resources"
        await client.call_tool("heartbeat", {"agent_id": "ann", "status": "running"})
        await client.call_tool("register_agent", {"agent_id": "ben", "role": "developer"})
        assert await ears.next() == "resources"
        assert ears.nothing()


@pytest.mark.parametrize("era", ERAS)
async def test_a_server_announces_the_changes_that_there_can_be(board: Board, era: str) -> None:
    async with client_of(board, era) as client:
        can = client.server_capabilities
    assert can is not None
    assert can.resources == types.ResourcesCapability(subscribe=True, list_changed=True)
    assert can.tools == types.ToolsCapability(list_changed=True)
    assert can.prompts == types.PromptsCapability(list_changed=False)
    assert can.completions is not None
    assert can.experimental is None


async def test_a_stream_is_acknowledged_with_what_it_will_carry(boards: Boards) -> None:
    async with boards(agent="ann") as board, client_of(board) as client:
        await board.agent("ann")
        everything = {
            "tools_list_changed": True,
            "prompts_list_changed": True,
            "resources_list_changed": True,
        }
        async with client.listen(**everything, resource_subscriptions=["callboard://locks"] * 2) as stream:
            assert stream.honored == types.SubscriptionFilter(
                tools_list_changed=True,
                resources_list_changed=True,
                resource_subscriptions=["callboard://locks"],
            )


# What it costs.


async def test_a_slow_client_is_told_once_of_many_changes(boards: Boards) -> None:
    async with boards() as other, boards(agent="ann") as board, polling(board):
        ann = await other.agent("ann")
        ben = await other.agent("ben")
        watch = Watch(board.opened, Resources(board.opened), None)
        asked, answer, all_told = anyio.Event(), anyio.Event(), anyio.Event()
        events: list[ServerEvent] = []

        async def send(event: ServerEvent) -> None:
            events.append(event)
            asked.set()
            await answer.wait()
            if len(events) == 3:
                all_told.set()

        with watch.following(), anyio.fail_after(SOON):
            await watch.add("callboard://inbox/ann")
            await watch.add("callboard://locks")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch.run, send)
                await ben.send_message(to=ann.id, content="0")
                await asked.wait()
                for number in range(50):
                    await ben.send_message(to=ann.id, content=str(number))
                await ben.acquire_file_lock(file_path="a.py")
                answer.set()
                await all_told.wait()
                tasks.cancel_scope.cancel()
        inbox, locks = (ResourceUpdated(f"callboard://{each}") for each in ("inbox/ann", "locks"))
        assert events == [inbox, inbox, locks]


@pytest.mark.parametrize("era", ERAS)
async def test_one_client_subscribes_to_so_many_resources_and_no_more(boards: Boards, era: str) -> None:
    async with boards(agent="a" * 9) as board, client_of(board, era) as client:
        ann = await board.agent("a" * 9)
        spellings = itertools.product(*(("a", "%61") for _ in ann.id))
        uris = [f"callboard://inbox/{''.join(each)}" for each in spellings][: MOST_URIS + 1]
        async with subscribed(client, era, *uris[:-1]):
            pass
        with pytest.raises(MCPError) as refused:
            async with subscribed(client, era, *uris):
                pass
        assert refused.value.error.data["code"] == "quota_exceeded"


async def test_to_be_told_is_no_sign_of_life(boards: Boards) -> None:
    """A client whose agent is silent holds no lease by listening."""
    async with boards() as other, boards(agent="ben") as board:
        ann, _ = await crew(other)
        async with (
            polling(board),
            client_of(board) as client,
            subscribed(client, "modern", "callboard://agent/ann", "callboard://locks") as ears,
        ):
            [before] = await board.rows("SELECT last_seen_boot_ms FROM agent_roster WHERE agent_id = 'ben'")
            board.clock.turn(5)
            await ann.acquire_file_lock(file_path="b.py")
            assert {await ears.next(), await ears.next()} == {"callboard://agent/ann", "callboard://locks"}
            await board.settle()
            [after] = await board.rows("SELECT last_seen_boot_ms FROM agent_roster WHERE agent_id = 'ben'")
            assert after == before


async def test_a_client_that_has_gone_leaves_nobody_to_look_for(boards: Boards) -> None:
    async with boards(agent="ann") as board:
        await board.agent("ann")
        for era in ERAS:
            async with client_of(board, era) as client, subscribed(client, era, "callboard://locks"):
                assert board.opened.feed._waiting
            with anyio.fail_after(SOON):
                while board.opened.feed._waiting:
                    await anyio.sleep(0.001)
