"""Who may sign in, and how long a connected agent counts as there."""

import pytest

from callboard.identity import Principal
from tests.conftest import Agent, Board, Boards


async def test_a_revoked_token_neither_signs_in_nor_revives(board: Board) -> None:
    """ID3"""
    ann = await board.principal(agent="ann")
    await board.opened.revoke_token(ann.key_id)
    for revive in (False, True):
        refusal = await board.refusal("register_agent", token=ann, role="developer", revive=revive)
        assert (refusal["code"], refusal["reason"]) == ("unauthenticated", "revoked")
    assert await board.rows("SELECT agent_id FROM agent_roster") == []


async def test_the_operator_is_nobody_that_an_argument_can_name(board: Board) -> None:
    """ID2"""
    assert (await board.refusal("list_agents", agent_id="operator"))["code"] == "unknown_agent"


@pytest.mark.parametrize("agent_id", ["human:maria", "root", "a b"])
async def test_a_process_is_bound_to_no_id_that_an_agent_cannot_have(boards: Boards, agent_id: str) -> None:
    """ID2, ID6"""
    with pytest.raises(ValueError, match="cannot be an agent's id"):
        async with boards(agent=agent_id):
            pass


async def test_a_persons_token_serves_no_agent(boards: Boards) -> None:
    """G1"""
    async with boards() as board:
        token = await board.token(human="maria")
    with pytest.raises(ValueError, match="person's token"):
        async with boards(transport="stdio", token=token):
            pass


async def test_two_newcomers_over_http_never_become_one_by_their_request_key(board: Board) -> None:
    """L1 hangs on it: whoever is somebody else's agent refreshes that agent's locks."""
    refusal = await board.refusal("register_agent", role="developer", request_key="register-1")
    assert refusal["code"] == "invalid_arguments"
    assert await board.rows("SELECT agent_id FROM agent_roster") == []


async def test_an_agent_is_gone_only_with_the_last_of_its_processes(boards: Boards) -> None:
    """L3, T10: a second, short process that calls as the agent ends nothing by its own end."""
    async with boards(transport="stdio") as home:
        ann = await home.agent("ann")
        await ann.acquire_file_lock(file_path="a.py", ttl_seconds=600)
        async with boards(transport="stdio") as short:
            await Agent(short, "ann").whoami()
            await short.settle()
        await home.turn(31)
        assert [lock["agent_id"] for lock in (await ann.list_file_locks())["locks"]] == ["ann"]
    async with boards() as later:
        await later.turn(31)
        assert await later.rows("SELECT * FROM _leases") == []


async def test_a_call_from_elsewhere_leaves_the_agent_with_its_process(boards: Boards) -> None:
    """L3: a hook that asks over HTTP or the command line does not end background renewal."""
    async with boards(transport="stdio") as home, boards() as elsewhere:
        await home.agent("ann")
        await Agent(elsewhere, "ann").whoami()
        await elsewhere.settle()
        assert await home.rows("SELECT agent_id FROM _agent_processes") == [("ann",)]


async def test_who_has_lost_its_program_is_stale_at_once(boards: Boards) -> None:
    """T10"""
    async with boards(transport="stdio") as home:
        await home.agent("ann")
        home.clock.turn(1)
    async with boards() as later:
        ben = await later.agent("ben")
        told = {agent["agent_id"]: agent["liveness"] for agent in (await ben.list_agents())["agents"]}
    assert told == {"ann": "stale", "ben": "live"}


async def test_a_sub_lead_does_not_end_the_lead_of_its_crew(board: Board) -> None:
    await board.agent("boss", "lead")
    sub = await board.agent("sub", "lead", lead_id="boss")
    refusal = await board.refusal("terminate_agent", agent_id=sub.id, target_agent_id="boss")
    assert refusal["code"] == "forbidden"
    human: Principal = await board.human()
    assert (await board.call("terminate_agent", token=human, target_agent_id="boss"))["terminated"]
