"""One call from start to finish: its arguments, its one effect, its renewals, and the answer as it leaves."""

import asyncio
import json
import logging
from typing import Any

import pytest

from callboard import replay
from callboard.catalog import CATALOG, TOOLSETS
from callboard.identity import Principal
from tests.conftest import Board, Boards

# --- Arguments --------------------------------------------------------------------------------------------


async def fault(board: Board, tool: str, **arguments: Any) -> list[dict[str, Any]]:
    """The faulty fields of a call that is refused for its arguments."""
    refusal = await board.refusal(tool, **arguments)
    assert (refusal["code"], refusal["retryable"]) == ("invalid_arguments", False)
    return list(refusal["fields"])


async def test_a_misspelt_argument_is_refused_with_the_nearest_name(board: Board) -> None:
    """X1"""
    await board.agent("ann")
    assert await fault(board, "acquire_file_lock", agent_id="ann", file_path="a.py", tll_seconds=5) == [
        {"field": "tll_seconds", "rule": "is not an argument of this tool", "did_you_mean": "ttl_seconds"}
    ]
    assert await board.rows("SELECT count(*) FROM file_locks") == [(0,)]


@pytest.mark.parametrize("value", ["3", 3.0, 3.5, True, [3], {"a": 3}, float("nan"), "three"])
async def test_what_is_no_whole_number_is_not_made_one(board: Board, value: object) -> None:
    """X2"""
    await board.agent("ann")
    [found] = await fault(board, "list_agents", agent_id="ann", limit=value)
    assert found["field"] == "limit"


@pytest.mark.parametrize("value", [2**53 + 1, 2**63, 2**64, 10**400, -1, -(2**63) - 1])
async def test_a_number_beyond_what_the_store_holds_is_refused_by_its_bound(board: Board, value: int) -> None:
    """X3"""
    await board.agent("ann")
    [found] = await fault(board, "list_activity", agent_id="ann", after_id=value)
    assert found["field"] == "after_id"
    assert found["rule"].startswith(("must be at most", "must be at least", "must be a whole number"))


async def test_every_faulty_field_is_named_at_once(board: Board) -> None:
    await board.agent("ann")
    faults = await fault(
        board, "acquire_file_lock", agent_id="ann", ttl_seconds=1, mode="both", reason="a\x00b", nonsense=1
    )
    assert {found["field"]: found["rule"] for found in faults} == {
        "file_path": "is required",
        "ttl_seconds": "must be at least 5",
        "mode": "must be one of 'exclusive' or 'shared'",
        "reason": "Text may not hold the NUL character; send it without.",
        "nonsense": "is not an argument of this tool",
    }


async def test_half_a_surrogate_pair_is_refused(board: Board) -> None:
    """X4, N1"""
    await board.agent("ann")
    [found] = await fault(board, "log_activity", agent_id="ann", action_type="note", summary="\ud83d")
    assert "surrogate" in found["rule"]


async def test_a_refusal_repeats_no_argument_but_its_cleaned_name(board: Board) -> None:
    """X8"""
    await board.agent("ann")
    given: dict[str, Any] = {"x\x1b[31m" + "y" * 500: "canary"}
    refusal = await board.refusal("list_agents", agent_id="ann", **given)
    assert "canary" not in json.dumps(refusal)
    assert "\x1b" not in refusal["fields"][0]["field"]
    assert len(refusal["fields"][0]["field"]) <= 200


async def test_a_list_or_object_that_came_as_its_text_is_read(board: Board) -> None:
    ann = await board.agent("ann")
    locks = await ann.acquire_file_locks(file_paths='["a.py", "b.py"]')
    assert [lock["file_path"] for lock in locks["locks"]] == ["a.py", "b.py"]
    assert (await ann.update_agent(metadata='{"a": 1}'))["metadata"] == {"a": 1}
    for text in ("a.py", '{"a": 1}', "[1]", "[" * 100_000):
        assert (await fault(board, "acquire_file_locks", agent_id="ann", file_paths=text))[0][
            "field"
        ].startswith("file_paths")


async def test_text_over_its_limit_is_refused_and_never_cut(board: Board) -> None:
    ann = await board.agent("ann")
    refusal = await board.refusal("log_activity", agent_id="ann", action_type="note", summary="ä" * 8193)
    assert {key: refusal[key] for key in ("code", "field", "size", "limit", "unit")} == {
        "code": "too_large",
        "field": "summary",
        "size": 16386,
        "limit": 16384,
        "unit": "bytes",
    }
    await ann.log_activity(action_type="note", summary="ä" * 8192)
    assert (await ann.list_activity(action_type="note"))["entries"][0]["summary"] == "ä" * 8192


async def test_a_tool_that_is_not_there_is_refused_with_the_nearest_names(board: Board) -> None:
    """Ruling 7"""
    refusal = await board.refusal("aquire_file_lock\x1b[31m")
    assert (refusal["code"], refusal["kind"]) == ("not_found", "tool")
    assert refusal["near"][0] == "acquire_file_lock"
    assert "\x1b" not in json.dumps(refusal, ensure_ascii=False)


# --- Request keys -----------------------------------------------------------------------------------------


async def notes(board: Board) -> int:
    rows = await board.rows("SELECT count(*) FROM activity_log WHERE action_type = 'note'")
    return int(rows[0][0])


async def test_a_repeated_call_gets_the_first_result_and_has_no_second_effect(boards: Boards) -> None:
    """Q7, L15: also through another process, after a restart."""
    note: dict[str, Any] = {"action_type": "note", "summary": "once", "request_key": "k"}
    async with boards() as board, boards() as other:
        ann = await board.agent("ann")
        first = await ann.log_activity(**note)
        assert "replayed" not in first
        assert await other.call("log_activity", agent_id="ann", **note) == first | {"replayed": True}
    async with boards() as board:
        assert await board.call("log_activity", agent_id="ann", **note) == first | {"replayed": True}
        assert await notes(board) == 1


async def test_calls_with_one_key_at_the_same_time_have_one_effect(boards: Boards) -> None:
    async with boards() as board, boards() as other:
        await board.agent("ann")
        note: dict[str, Any] = {"agent_id": "ann", "action_type": "note", "summary": "s", "request_key": "k"}
        answers = await asyncio.gather(*(each.call("log_activity", **note) for each in (board, other) * 8))
        assert len({answer["activity_id"] for answer in answers}) == 1
        assert sum(answer.get("replayed", False) for answer in answers) == 15
        assert await notes(board) == 1


async def test_a_key_with_other_arguments_is_refused_with_their_names_and_no_values(board: Board) -> None:
    """Q7"""
    ann = await board.agent("ann")
    await ann.log_activity(action_type="note", summary="first canary", request_key="k")
    board.clock.turn(60)
    refusal = await board.refusal(
        "log_activity",
        agent_id="ann",
        action_type="note",
        summary="second canary",
        details={},
        request_key="k",
    )
    assert (refusal["code"], refusal["differing"]) == ("request_key_reused", ["details", "summary"])
    assert (refusal["request_key"], refusal["first_used_at"]) == ("k", "2026-01-01T12:00:00.000Z")
    assert "canary" not in json.dumps(refusal)
    assert await notes(board) == 1


async def test_a_key_belongs_to_one_caller_and_one_tool(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.log_activity(action_type="note", summary="s", request_key="k")
    await ben.log_activity(action_type="note", summary="s", request_key="k")
    await ann.heartbeat(request_key="k")
    assert await notes(board) == 2


async def test_after_a_refusal_the_key_is_free(board: Board) -> None:
    """Ruling 15"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.acquire_file_lock(file_path="a.py")
    await board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py", request_key="k")
    await ann.release_file_lock(file_path="a.py")
    granted = await ben.acquire_file_lock(file_path="a.py", request_key="k")
    assert "replayed" not in granted


async def test_a_result_is_kept_for_a_day_and_its_arguments_only_as_digests(board: Board) -> None:
    """Q7, P2"""
    ann = await board.agent("ann")
    await ann.log_activity(action_type="note", summary="the canary", request_key="k")
    [(arguments,)] = await board.rows("SELECT arguments FROM _request_keys")
    assert "canary" not in arguments
    board.clock.turn(24 * 3600 - 1)
    assert await board.opened.store.write(replay.forget_old) == 0
    board.clock.turn(1)
    assert await board.opened.store.write(replay.forget_old) == 1


# --- Renewal ----------------------------------------------------------------------------------------------


async def ends(board: Board) -> str:
    """When the only lease ends, minutes and seconds."""
    await board.settle()
    [(expires_at,)] = await board.rows("SELECT expires_at FROM file_locks")
    return str(expires_at)[14:19]


async def test_every_call_renews_the_callers_leases_whatever_comes_of_it(board: Board) -> None:
    """Ruling 20, L3: a lease ends no sooner than its length after the last call."""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=60)
    board.clock.turn(30)
    await ben.list_agents()
    assert await ends(board) == "01:00"
    await ann.list_roles()
    assert await ends(board) >= "01:30"
    board.clock.turn(30)
    await board.refusal("get_agent", agent_id="ann", target_agent_id="nobody")
    assert await ends(board) >= "02:00"


async def test_a_lease_that_is_over_is_not_revived_by_a_call(board: Board) -> None:
    """L4"""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=60)
    board.clock.turn(60)
    await ann.list_roles()
    await board.settle()
    assert (await ben.acquire_file_lock(file_path="a.py"))["agent_id"] == "ben"


async def test_calls_in_quick_succession_renew_once_and_no_lease_ends_sooner_for_it(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=60)
    board.clock.turn(30)
    await ann.list_roles()
    board.clock.turn(0.9)
    await ann.list_roles()
    await board.settle()
    [(left,)] = await board.rows("SELECT expires_boot_ms FROM file_locks")
    assert left - board.clock.boot_ms() >= 60_000


async def test_calls_renew_for_four_hours_and_no_longer(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=3600)
    for _ in range(4):
        board.clock.turn(3000)
        await ann.list_roles()
        await board.settle()
    board.clock.turn(2399)
    assert len((await ann.list_file_locks())["locks"]) == 1
    board.clock.turn(1)
    assert (await ann.list_file_locks())["locks"] == []


# --- Answers ----------------------------------------------------------------------------------------------


async def test_text_is_stored_as_it_was_sent_and_leaves_neutral_with_what_was_taken(board: Board) -> None:
    """N1, N2: ANSI, bidi, tags and zero width go; newlines, emoji and Indic joiners stay."""
    ann = await board.agent("ann")
    sent = "\x1b[31mred\x1b[0m \u202etxt.exe a\u200bb \U000e0041\U000e0042\nline 👩\u200d💻 क्\u200dष"
    await ann.log_activity(action_type="note", summary=sent, details={"k\u202e": ["\x1b]0;title\x07"]})
    page = await ann.list_activity(action_type="note")
    [entry] = page["entries"]
    assert entry["summary"] == "red txt.exe ab \nline 👩\u200d💻 क्\u200dष"
    assert entry["details"] == {"k": [""]}
    assert page["sanitized"] == {"ansi": 3, "bidi": 2, "zero_width": 1, "tags": 2}
    assert await board.rows("SELECT summary FROM activity_log WHERE action_type = 'note'") == [(sent,)]


async def test_a_refusal_leaves_neutral_too(board: Board) -> None:
    """N1: it quotes other agents, such as the reason of a lock."""
    ann = await board.agent("ann")
    await board.agent("ben")
    await ann.acquire_file_lock(file_path="a.py", reason="\x1b[2Jwiped \u202ebackwards")
    refusal = await board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py")
    assert (refusal["reason"], refusal["sanitized"]) == ("wiped backwards", {"ansi": 1, "bidi": 1})


async def test_a_result_says_how_many_messages_wait(board: Board) -> None:
    lea, ann = await board.agent("lea", role="lead"), await board.agent("ann")
    assert "unread" not in await ann.heartbeat()
    await ann.acquire_file_lock(file_path="a.py")
    await lea.force_release_file_lock(file_path="a.py", reason="needed")
    assert (await ann.heartbeat())["unread"] == 1
    assert (await ann.list_agents())["unread"] == 1
    assert "unread" not in await lea.heartbeat()


async def test_the_unexpected_is_logged_with_a_reference_and_nothing_of_it_leaves(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    """X8, section 4: code, message and reference, nothing else."""
    await board.agent("ann")
    with board.opened.store.connect(readonly=False) as db:
        db.execute("DROP TABLE _role_overrides")
    with caplog.at_level(logging.ERROR, "callboard"):
        refusal = await board.refusal("list_roles", agent_id="ann")
    assert set(refusal) == {"code", "message", "retryable", "ref"}
    assert (refusal["code"], refusal["retryable"]) == ("internal_error", False)
    assert refusal["ref"] in caplog.text and "_role_overrides" in caplog.text
    caplog.clear()


async def test_after_an_unexpected_error_the_board_works_on_and_nothing_was_changed(board: Board) -> None:
    ann = await board.agent("ann")
    with board.opened.store.connect(readonly=False) as db:
        db.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON file_locks BEGIN SELECT raise(ABORT, 'broken'); END"
        )
    before = await board.rows("SELECT max(id) FROM activity_log")
    refusal = await board.refusal("acquire_file_lock", agent_id="ann", file_path="a.py", request_key="k")
    assert refusal["code"] == "internal_error"
    with board.opened.store.connect(readonly=False) as db:
        db.execute("DROP TRIGGER broken")
    assert await board.rows("SELECT max(id) FROM activity_log") == before
    assert "replayed" not in await ann.acquire_file_lock(file_path="a.py", request_key="k")


# --- What is offered --------------------------------------------------------------------------------------


async def names(board: Board, token: Principal | None = None) -> set[str]:
    return {tool.name for tool in await board.opened.visible_tools(token)}


WRITING = {tool.name for tool in CATALOG if tool.writes}
OF_PEOPLE = {tool.name for tool in CATALOG if tool.who == "human"}
OF_LEADS = {tool.name for tool in CATALOG if tool.who == "lead"}
ALL = {tool.name for tool in CATALOG}


@pytest.mark.parametrize(
    ("choices", "offered"),
    [
        (("all",), ALL),
        (("core",), {tool.name for tool in CATALOG if tool.profile == "core"}),
        (("lead",), {tool.name for tool in CATALOG if tool.profile in ("core", "lead")}),
        (("locks",), {tool.name for tool in CATALOG if tool.toolset == "locks"}),
        (
            ("core", " history "),
            {tool.name for tool in CATALOG if tool.profile == "core" or tool.toolset == "history"},
        ),
    ],
)
async def test_toolsets_and_profiles_choose_what_is_offered_and_nothing_else_can_be_called(
    boards: Boards, choices: tuple[str, ...], offered: set[str]
) -> None:
    async with boards(toolsets=choices) as board:
        assert set(board.opened.tools) == offered
        for name in ALL - offered:
            assert (await board.refusal(name))["code"] == "not_found"


async def test_a_word_that_is_no_toolset_is_refused_at_the_start_with_those_there_are(boards: Boards) -> None:
    with pytest.raises(ValueError, match="no profile or toolset 'lock'") as caught:
        async with boards(toolsets=("core", "lock")):
            pass
    assert all(word in str(caught.value) for word in ("core", "lead", "all", *TOOLSETS))


async def test_a_read_only_process_offers_no_tool_that_writes(boards: Boards) -> None:
    async with boards(read_only=True) as board:
        assert set(board.opened.tools) == ALL - WRITING
        assert (await board.refusal("register_agent", role="developer"))["code"] == "not_found"


async def test_each_principal_is_shown_what_it_may_call(boards: Boards) -> None:
    """G1, Ruling 24"""
    async with boards() as board:
        await board.agent("lea", role="lead")
        await board.agent("ann")
        assert await names(board) == ALL - OF_PEOPLE
        assert await names(board, await board.human()) == ALL
        assert await names(board, await board.principal(agent="lea", scope="lead")) == ALL - OF_PEOPLE
        for agent, scope in (("ann", "worker"), ("ann", "lead"), ("lea", "worker")):
            token = await board.principal(agent=agent, scope=scope)
            assert await names(board, token) == ALL - OF_PEOPLE - OF_LEADS
        observer = await board.principal(agent="lea", scope="observer")
        assert await names(board, observer) == ALL - OF_PEOPLE - OF_LEADS - WRITING
    async with boards(agent="ann") as bound:
        assert await names(bound) == ALL - OF_PEOPLE - OF_LEADS


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("define_role", {"id": "spy", "name": "Spy"}, "human_required"),
        ("delete_role", {"id": "lead"}, "human_required"),
        ("force_release_file_lock", {"file_path": "a.py", "reason": "mine"}, "forbidden"),
    ],
)
async def test_what_is_not_shown_is_refused_by_the_kind_of_caller_all_the_same(
    board: Board, tool: str, arguments: dict[str, str], code: str
) -> None:
    """G1"""
    await board.agent("lea", role="lead")
    await board.agent("ann")
    for token in (None, await board.principal(agent="ann"), await board.principal(agent="ann", scope="lead")):
        refusal = await board.refusal(tool, token=token, agent_id="ann", **arguments)
        assert (refusal["code"], refusal["operation"]) == (code, tool)
