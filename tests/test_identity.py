"""Who calls: the token, else the binding, else the argument, and what each kind of caller may do."""

import json
from datetime import timedelta

import pytest

from callboard.errors import Refused
from tests.conftest import Board, Boards


@pytest.mark.parametrize(
    ("token", "binding", "argument", "caller"),
    [
        (None, None, None, None),
        (None, None, "ann", ("ann", "argument", "L0")),
        (None, "ann", None, ("ann", "binding", "L0")),
        (None, "ann", "ann", ("ann", "binding", "L0")),
        (None, "ann", "ben", {"binding": "ann", "argument": "ben"}),
        ("ann", None, None, ("ann", "token", "L1")),
        ("ann", None, "ann", ("ann", "token", "L1")),
        ("ann", None, "ben", {"token": "ann", "argument": "ben"}),
        ("ann", "ann", "ann", ("ann", "token", "L1")),
        ("ann", "ben", None, {"token": "ann", "binding": "ben"}),
        ("ann", "ben", "ann", {"token": "ann", "binding": "ben"}),
    ],
)
async def test_the_caller_is_the_token_else_the_binding_else_the_argument_and_they_never_differ(
    boards: Boards,
    token: str | None,
    binding: str | None,
    argument: str | None,
    caller: tuple[str, str, str] | dict[str, str] | None,
) -> None:
    """ID1, decision B"""
    async with boards() as setting:
        await setting.agent("ann")
        await setting.agent("ben")
    async with boards(agent=binding) as board:
        principal = await board.principal(agent=token) if token else None
        given = {"agent_id": argument} if argument else {}
        if isinstance(caller, tuple):
            me = await board.call("whoami", token=principal, **given)
            assert (me["agent_id"], me["identified_by"], me["trust_level"]) == caller
            return
        refusal = await board.refusal(
            "log_activity", token=principal, action_type="note", summary="s", **given
        )
        if caller is None:
            assert (refusal["code"], refusal["tried"]) == ("unknown_caller", ["token", "binding", "agent_id"])
            assert "register_agent" in refusal["hint"]
        else:
            assert (refusal["code"], refusal["sources"]) == ("identity_mismatch", caller)
        assert await board.rows("SELECT count(*) FROM activity_log WHERE action_type = 'note'") == [(0,)]


async def test_a_mismatch_shows_no_sign_of_life_for_anybody(board: Board) -> None:
    """ID1: it changes nothing, not even a lease's end."""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    for agent in (ann, ben):
        await agent.acquire_file_lock(file_path=f"{agent.id}.py", ttl_seconds=60)
    board.clock.turn(30)
    await board.refusal("heartbeat", token=await board.principal(agent="ann"), agent_id="ben")
    await board.settle()
    assert await board.rows("SELECT DISTINCT expires_at FROM file_locks") == [("2026-01-01T12:01:00.000Z",)]


async def test_an_argument_names_neither_a_person_nor_a_reserved_id(board: Board) -> None:
    """ID2"""
    await board.human("maria")
    refusal = await board.refusal("list_roles", agent_id="human:maria")
    assert (refusal["code"], refusal["fields"][0]["field"]) == ("invalid_arguments", "agent_id")
    for name in ("maria", "human", "system", "callboard"):
        assert (await board.refusal("define_role", agent_id=name, id="r", name="R"))[
            "code"
        ] == "unknown_agent"


async def test_a_persons_token_acts_as_nobody_else(board: Board) -> None:
    """ID1, ID2"""
    maria = await board.human("maria")
    await board.agent("ann")
    assert (await board.call("whoami", token=maria))["kind"] == "human"
    refusal = await board.refusal("whoami", token=maria, agent_id="ann")
    assert (refusal["code"], refusal["sources"]["token"]) == ("identity_mismatch", "human:maria")


async def test_an_agent_that_is_not_on_the_roster_is_told_to_sign_in(board: Board) -> None:
    refusal = await board.refusal("heartbeat", agent_id="nobody")
    assert (refusal["code"], refusal["agent_id"]) == ("unknown_agent", "nobody")
    assert "register_agent" in refusal["hint"]


async def reason(board: Board, token: str) -> str:
    with pytest.raises(Refused) as caught:
        await board.opened.authenticate(token)
    assert caught.value.code == "unauthenticated"
    assert len(token) < 10 or token not in json.dumps(caught.value.as_data())
    return str(caught.value.details["reason"])


async def test_a_token_that_is_not_this_stores_own_is_refused_with_its_reason(board: Board) -> None:
    """ID3"""
    token = await board.token(agent="ann")
    prefix, store, key, secret = token.split(".")
    assert (await board.opened.authenticate(token)).agent_id == "ann"
    assert await reason(board, "") == "malformed"
    assert await reason(board, f"cb0.{store}.{key}.{secret}") == "malformed"
    assert await reason(board, f"{prefix}.ffffffff.{key}.{secret}") == "wrong store"
    assert await reason(board, f"{prefix}.{store}.000000000000.{secret}") == "unknown"
    assert await reason(board, f"{prefix}.{store}.{key}.{secret.swapcase()}") == "unknown"
    assert await reason(board, f"{prefix}.{store}.{key}.\ud800") == "unknown"


async def test_the_store_keeps_no_token_and_a_token_holds_256_bits(board: Board) -> None:
    """ID3"""
    token = await board.token(agent="ann")
    secret = token.split(".")[3]
    assert len(secret) == 43  # 256 bits in base64 without padding
    stored = await board.rows("SELECT quote(key_id) || quote(principal) || quote(sha256) FROM _credentials")
    assert secret not in str(stored) and secret.encode().hex().upper() not in str(stored)
    told = await board.rows("SELECT summary || details FROM activity_log")
    assert secret not in str(told)


async def test_a_revoked_token_ends_at_once_for_who_is_signed_in_with_it(board: Board) -> None:
    """ID3: and what its holder still calls renews nothing."""
    ann = await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=60)
    principal = await board.principal(agent="ann")
    await board.call("whoami", token=principal)
    assert await board.opened.revoke_token(principal.key_id) is True
    assert await board.opened.revoke_token(principal.key_id) is False
    board.clock.turn(30)
    refusal = await board.refusal("heartbeat", token=principal)
    assert (refusal["code"], refusal["reason"]) == ("unauthenticated", "revoked")
    await board.settle()
    assert await board.rows("SELECT expires_at FROM file_locks") == [("2026-01-01T12:01:00.000Z",)]


async def test_a_token_ends_at_its_date(board: Board) -> None:
    """ID3"""
    await board.agent("ann")
    token = await board.opened.issue_token(
        kind="agent", name="ann", scope="worker", lifetime=timedelta(hours=1)
    )
    principal = await board.opened.authenticate(token)
    board.clock.turn(3599)
    await board.call("whoami", token=principal)
    board.clock.turn(1)
    assert (await board.refusal("whoami", token=principal))["reason"] == "expired"
    assert await reason(board, token) == "expired"


async def test_an_observer_reads_and_changes_nothing(board: Board) -> None:
    """Roles: whatever its role on the roster."""
    lea = await board.agent("lea", role="lead")
    await lea.acquire_file_lock(file_path="a.py")
    observer = await board.principal(agent="lea", scope="observer")
    assert (await board.call("list_file_locks", token=observer))["locks"]
    for tool, arguments in (
        ("heartbeat", {}),
        ("release_file_lock", {"file_path": "a.py"}),
        ("terminate_agent", {"target_agent_id": "lea"}),
        ("register_agent", {"role": "lead"}),
    ):
        refusal = await board.refusal(tool, token=observer, **arguments)
        assert (refusal["code"], refusal["operation"]) == ("forbidden", tool)
    assert await board.rows("SELECT count(*) FROM file_locks") == [(1,)]
