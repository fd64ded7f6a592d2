"""The roster: signing in, liveness, what an agent says of itself, and the roles."""

from typing import Any

import pytest

from callboard.domains.roster.agents import LIVE_MS
from tests.conftest import Board, Boards


async def line(board: Board, agent_id: str, **filters: Any) -> dict[str, Any]:
    """An agent's line of the roster, as the others read it."""
    agents = (await board.call("list_agents", agent_id="watcher", **filters))["agents"]
    [found] = [agent for agent in agents if agent["agent_id"] == agent_id]
    return dict(found)


async def names(board: Board, **filters: Any) -> list[str]:
    agents = (await board.call("list_agents", agent_id="watcher", **filters))["agents"]
    return [agent["agent_id"] for agent in agents]


# --- Ids --------------------------------------------------------------------------------------------------


async def test_a_newcomer_without_an_id_gets_one_of_its_role(board: Board) -> None:
    first = await board.call("register_agent", role="developer")
    second = await board.call("register_agent", role="developer")
    assert first["agent_id"] != second["agent_id"]
    role, _, chance = first["agent_id"].rpartition("-")
    assert (role, len(chance), int(chance, 16) >= 0) == ("developer", 4, True)
    assert (first["status"], first["model"], first["team_id"]) == ("idle", "unknown", "default")
    assert first["agent_id"] in first["next"]


@pytest.mark.parametrize(
    "agent_id",
    ["human", "system", "callboard", "Admin", "0perator", "r00t", "LEAD", "human.", "-ann", "a b", "ä"],
)
async def test_a_reserved_or_malformed_id_is_refused_with_its_rule(board: Board, agent_id: str) -> None:
    """ID2, ID6: nor does a look-alike of a reserved id pass."""
    refusal = await board.refusal("register_agent", agent_id=agent_id, role="developer")
    assert refusal["code"] == "invalid_arguments"
    assert refusal["fields"][0]["field"] == "agent_id"
    assert await board.rows("SELECT count(*) FROM agent_roster") == [(0,)]


@pytest.mark.parametrize(
    "twin", ["builder-1.", "Builder-1", "bui1der-1", "builder_1", "builder--1", "BUILDER.1"]
)
async def test_an_id_that_reads_like_another_agents_is_refused(board: Board, twin: str) -> None:
    """ID6, T8"""
    await board.agent("builder-1")
    refusal = await board.refusal("register_agent", agent_id=twin, role="developer")
    assert (refusal["code"], refusal["registered"]) == ("agent_conflict", "builder-1")
    await board.agent("builder-2")


async def test_a_role_that_is_not_defined_is_refused_with_near_ones(board: Board) -> None:
    refusal = await board.refusal("register_agent", agent_id="ann", role="develper")
    assert (refusal["code"], refusal["kind"], refusal["near"][0]) == ("not_found", "role", "developer")


async def test_a_project_that_is_not_known_is_refused(board: Board) -> None:
    refusal = await board.refusal("register_agent", role="developer", project_id="nowhere-000000")
    assert (refusal["code"], refusal["kind"]) == ("not_found", "project")


async def test_people_do_not_sign_in(board: Board) -> None:
    refusal = await board.refusal("register_agent", token=await board.human(), role="developer")
    assert refusal["code"] == "forbidden"


# --- Coming back ------------------------------------------------------------------------------------------


async def test_a_known_id_resumes_with_its_crew_and_what_it_said_of_itself(board: Board) -> None:
    await board.agent("lea", role="lead")
    await board.agent("ann", model="m-1", capabilities=["sql"], metadata={"a": 1, "b": 2})
    await board.agent("mia", role="lead")  # whom a newcomer would join now
    again = await board.call(
        "register_agent", agent_id="ann", role="developer", session_id="s-2", metadata={"b": 3}
    )
    assert (again["joined"], again["lead_id"], again["model"]) == ("resumed", "lea", "m-1")
    profile = await board.call("get_agent", agent_id="lea", target_agent_id="ann")
    assert (profile["capabilities"], profile["metadata"], profile["session_id"]) == (
        ["sql"],
        {"a": 1, "b": 3},
        "s-2",
    )


@pytest.mark.parametrize(
    ("given", "registered"),
    [({"role": "architect"}, "developer"), ({"lead_id": "mia"}, "lea"), ({"project_id": "other"}, None)],
)
async def test_coming_back_as_somebody_else_is_a_conflict_that_names_what_is_registered(
    board: Board, given: dict[str, str], registered: str | None
) -> None:
    """ID5: neither role nor crew nor project changes by registering."""
    await board.agent("lea", role="lead")
    ann = await board.agent("ann")
    await board.agent("mia", role="lead")
    refusal = await board.refusal("register_agent", agent_id="ann", **({"role": "developer"} | given))  # type: ignore[arg-type]  # any arguments
    assert refusal["code"] == "agent_conflict"
    assert refusal["registered"] == registered or registered is None
    assert ((await ann.whoami())["role"], (await ann.whoami())["lead_id"]) == ("developer", "lea")


async def test_an_agent_that_left_comes_back_only_when_it_says_so(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.terminate_agent(reason="done")
    for tool, arguments in (("register_agent", {"role": "developer"}), ("heartbeat", {})):
        refusal = await board.refusal(tool, agent_id="ann", **arguments)  # type: ignore[arg-type]  # any arguments
        assert (refusal["code"], refusal["agent_id"]) == ("agent_terminated", "ann")
        assert refusal["since"] == "2026-01-01T12:00:00.000Z"
        assert "revive" in refusal["hint"]
    back = await board.call("register_agent", agent_id="ann", role="developer", revive=True)
    assert (back["joined"], back["status"]) == ("resumed", "idle")
    await ann.heartbeat()


async def test_a_lead_that_comes_back_leads_again_unless_somebody_does(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    await board.agent("ann")
    await lea.terminate_agent(successor_id="ann")
    back = await board.call("register_agent", agent_id="lea", role="lead", revive=True)
    assert (back["lead_id"], back["led_by"]) == ("lea", "ann")
    await board.call("terminate_agent", agent_id="ann")
    back = await board.call("register_agent", agent_id="lea", role="lead")
    assert back["led_by"] == "lea"


# --- Crews ------------------------------------------------------------------------------------------------


async def test_a_lead_founds_a_crew_of_its_own_and_newcomers_join_it(board: Board) -> None:
    lea = await board.call("register_agent", agent_id="lea", role="lead")
    ann = await board.call("register_agent", agent_id="ann", role="developer")
    assert (lea["lead_id"], lea["led_by"], lea["joined"]) == ("lea", "lea", "own crew")
    assert (ann["lead_id"], ann["led_by"], ann["joined"], ann["parent_id"]) == (
        "lea",
        "lea",
        "live lead",
        "lea",
    )


async def test_without_a_lead_newcomers_share_the_projects_leaderless_crew(board: Board) -> None:
    ann = await board.call("register_agent", agent_id="ann", role="developer")
    ben = await board.call("register_agent", agent_id="ben", role="architect")
    assert ann["joined"] == ben["joined"] == "leaderless crew"
    assert ann["lead_id"] == ben["lead_id"] == ann["project_id"]
    assert "led_by" not in ann
    assert (await board.call("whoami", agent_id="ann"))["kind"] == "lead"


async def test_of_two_live_leads_the_one_whose_session_started_last_is_joined(board: Board) -> None:
    """Ruling 19: a session starts with signing in, also again."""
    await board.agent("lea", role="lead")
    board.clock.turn(1)
    await board.agent("mia", role="lead")
    assert (await board.call("register_agent", role="developer"))["lead_id"] == "mia"
    board.clock.turn(1)
    await board.agent("lea", role="lead")
    assert (await board.call("register_agent", role="developer"))["lead_id"] == "lea"


async def test_a_lead_that_is_silent_or_gone_is_not_joined(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    await board.agent("mia", role="lead")
    await board.call("terminate_agent", agent_id="mia")
    assert (await board.call("register_agent", role="developer"))["lead_id"] == "lea"
    board.clock.turn(LIVE_MS / 1000 + 1)
    assert (await board.call("register_agent", role="developer"))["joined"] == "leaderless crew"
    await lea.heartbeat()
    assert (await board.call("register_agent", role="developer"))["lead_id"] == "lea"


async def test_a_successor_is_joined_like_any_lead(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    await board.agent("ann")
    await lea.terminate_agent(successor_id="ann")
    joined = await board.call("register_agent", role="developer")
    assert (joined["lead_id"], joined["led_by"], joined["joined"]) == ("lea", "ann", "live lead")


async def test_a_given_lead_is_joined_rather_than_the_latest(board: Board) -> None:
    await board.agent("lea", role="lead")
    board.clock.turn(1)
    await board.agent("mia", role="lead")
    ann = await board.call("register_agent", role="developer", lead_id="lea")
    assert (ann["lead_id"], ann["joined"], ann["parent_id"]) == ("lea", "given lead", "lea")


async def test_sub_leads_and_their_agents_belong_to_the_roots_crew(board: Board) -> None:
    await board.agent("root-lead", role="lead")
    sub = await board.call("register_agent", agent_id="sub", role="lead", lead_id="root-lead")
    ann = await board.call("register_agent", agent_id="ann", role="developer", lead_id="sub")
    assert (sub["lead_id"], sub["led_by"], sub["parent_id"]) == ("root-lead", "root-lead", "root-lead")
    assert (ann["lead_id"], ann["led_by"], ann["parent_id"]) == ("root-lead", "root-lead", "sub")
    assert (await board.call("whoami", agent_id="sub"))["kind"] == "lead"
    assert (await board.call("whoami", agent_id="ann"))["kind"] == "worker"
    again = await board.call("register_agent", agent_id="ann", role="developer", lead_id="sub")
    assert again["joined"] == "resumed"


async def test_a_lead_that_nobody_knows_is_refused_with_near_names(board: Board) -> None:
    await board.agent("lea", role="lead")
    refusal = await board.refusal("register_agent", role="developer", lead_id="leah")
    assert (refusal["code"], refusal["near"]) == ("unknown_agent", ["lea"])


async def test_signing_in_is_told_in_the_ledger(board: Board) -> None:
    await board.agent("ann")
    await board.agent("ann")
    assert await board.rows(
        "SELECT action_type, agent_id, agent_role FROM activity_log WHERE agent_id = 'ann' ORDER BY id"
    ) == [("agent_registered", "ann", "developer"), ("agent_resumed", "ann", "developer")]


# --- Who is here ------------------------------------------------------------------------------------------


async def test_an_agent_is_live_for_two_beats_after_its_last_call_and_stale_behind_them(board: Board) -> None:
    """T10"""
    ann = await board.agent("ann")
    await board.agent("watcher")
    assert (await line(board, "ann"))["liveness"] == "live"
    board.clock.turn(LIVE_MS / 1000)
    assert (await line(board, "ann"))["liveness"] == "live"
    board.clock.turn(0.001)
    assert (await line(board, "ann"))["liveness"] == "stale"
    await ann.list_roles()  # any call is a sign of life
    await board.settle()
    assert (await line(board, "ann"))["liveness"] == "live"
    await ann.terminate_agent()
    assert (await line(board, "ann", include_terminated=True))["liveness"] == "terminated"


async def test_the_wall_clock_has_no_say_in_liveness(board: Board) -> None:
    await board.agent("ann")
    await board.agent("watcher")
    board.clock.step_wall(10 * 365 * 86_400)
    assert (await line(board, "ann"))["liveness"] == "live"
    board.clock.step_wall(-20 * 365 * 86_400)
    assert (await line(board, "ann"))["liveness"] == "live"


async def test_after_a_restart_of_the_host_nobody_is_live_until_it_calls(boards: Boards) -> None:
    async with boards() as board:
        await board.agent("watcher")
        ann = await board.agent("ann")
        clock = board.clock
    clock.boot_id = "boot-2"
    async with boards() as board:
        assert (await line(board, "ann"))["liveness"] == "stale"
        ann.board = board
        await ann.heartbeat()
        assert (await line(board, "ann"))["liveness"] == "live"


async def test_the_list_says_what_each_agent_holds_and_does(board: Board) -> None:
    await board.agent("lea", role="lead")
    ann = await board.agent("ann", team_id="red")
    await board.agent("watcher")
    await ann.acquire_file_locks(file_paths=["a.py", "b.py"])
    await ann.heartbeat(status="running", last_task_summary="parsing")
    seen = await line(board, "ann")
    assert (seen["locks_held"], seen["status"], seen["last_task_summary"]) == (2, "running", "parsing")
    assert (seen["team_id"], seen["lead_id"], seen["parent_id"]) == ("red", "lea", "lea")
    assert (await line(board, "lea"))["leads"] is True
    board.clock.turn(601)
    assert (await line(board, "ann"))["locks_held"] == 0


async def test_the_filters_of_the_list_combine(board: Board) -> None:
    await board.agent("lea", role="lead")
    await board.agent("ann", team_id="red")
    await board.agent("ben", team_id="blue")
    await board.agent("cay", role="architect", team_id="red")
    await board.agent("mia", role="lead")
    await board.agent("watcher", team_id="blue")
    await board.call("heartbeat", agent_id="ben", status="running")
    await board.call("terminate_agent", agent_id="cay")
    assert await names(board) == ["ann", "ben", "lea", "mia", "watcher"]
    assert await names(board, include_terminated=True, lead_id="lea") == [
        "ann",
        "ben",
        "cay",
        "lea",
        "watcher",
    ]
    assert await names(board, team_id="red") == ["ann"]
    assert await names(board, role="lead") == ["lea", "mia"]
    assert await names(board, status="terminated") == ["cay"]
    assert await names(board, status="running", team_id="blue", role="developer") == ["ben"]
    assert await names(board, status="running", team_id="red") == []
    assert await names(board, project_id="another") == []


async def test_the_pages_of_the_list_have_no_gap_and_no_repeat(board: Board) -> None:
    everyone = [f"agent-{letter}" for letter in "abcdefg"]
    for agent_id in everyone:
        await board.agent(agent_id)
    seen: list[str] = []
    page: dict[str, Any] = {"next_after_id": None}
    while "next_after_id" in page:
        cursor = {"after_id": page["next_after_id"]} if seen else {}
        page = await board.call("list_agents", agent_id="agent-a", limit=3, **cursor)
        seen += [agent["agent_id"] for agent in page["agents"]]
    assert seen == everyone


async def test_an_agent_that_is_not_on_the_roster_is_named_with_its_near_ones(board: Board) -> None:
    ann = await board.agent("ann")
    refusal = await board.refusal("get_agent", agent_id=ann.id, target_agent_id="anne")
    assert (refusal["code"], refusal["near"]) == ("unknown_agent", ["ann"])


# --- What an agent says of itself -------------------------------------------------------------------------


async def test_metadata_is_merged_key_by_key_and_null_removes_a_key(board: Board) -> None:
    ann = await board.agent("ann", metadata={"branch": "main", "port": 1})
    changed = await ann.update_agent(metadata={"port": None, "host": {"os": "linux"}})
    assert changed["metadata"] == {"branch": "main", "host": {"os": "linux"}}
    changed = await ann.update_agent(model="m-2", capabilities=["go"])
    assert changed["metadata"] == {"branch": "main", "host": {"os": "linux"}}
    assert (changed["model"], changed["capabilities"]) == ("m-2", ["go"])
    profile = await ann.get_agent(target_agent_id="ann")
    assert (profile["metadata"], profile["model"]) == (changed["metadata"], "m-2")


async def test_metadata_that_grows_over_its_limit_is_refused_and_stays_as_it_was(board: Board) -> None:
    ann = await board.agent("ann", metadata={"a": "x" * 5000})
    refusal = await board.refusal("update_agent", agent_id="ann", metadata={"b": "ä" * 2000})
    assert (refusal["code"], refusal["field"], refusal["limit"], refusal["unit"]) == (
        "too_large",
        "metadata",
        8192,
        "bytes",
    )
    assert refusal["size"] > 8192
    assert list((await ann.get_agent(target_agent_id="ann"))["metadata"]) == ["a"]


@pytest.mark.parametrize(
    "metadata", [{"a": "\ud800"}, {"\ud800": 1}, {"a": ["\x00"]}, {"a": float("nan")}, {"a": float("inf")}]
)
async def test_metadata_that_would_not_come_back_as_it_was_sent_is_refused(
    board: Board, metadata: dict[str, Any]
) -> None:
    """X4, for text inside objects too."""
    await board.agent("ann")
    refusal = await board.refusal("update_agent", agent_id="ann", metadata=metadata)
    assert (refusal["code"], refusal["fields"][0]["field"]) == ("invalid_arguments", "metadata")


async def test_metadata_nested_beyond_reading_is_refused(board: Board) -> None:
    await board.agent("ann")
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    for given in (deep, '{"a":' * 100_000):
        refusal = await board.refusal("update_agent", agent_id="ann", metadata=given)
        assert (refusal["code"], refusal["fields"][0]["field"]) == ("invalid_arguments", "metadata")


async def test_a_heartbeat_says_when_the_next_lease_ends_and_tells_a_change_of_status_once(
    board: Board,
) -> None:
    ann = await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py", ttl_seconds=60)
    beat = await ann.heartbeat(status="running")
    assert (beat["status"], beat["locks_held"], beat["next_expiry"]) == (
        "running",
        1,
        "2026-01-01T12:01:00.000Z",
    )
    await ann.heartbeat(status="running")
    await ann.heartbeat()
    told = await board.rows("SELECT summary FROM activity_log WHERE action_type = 'status_change'")
    assert told == [("ann (developer) is running",)]


async def test_an_agent_cannot_say_that_it_is_terminated(board: Board) -> None:
    await board.agent("ann")
    refusal = await board.refusal("heartbeat", agent_id="ann", status="terminated")
    assert refusal["fields"] == [{"field": "status", "rule": "must be one of 'idle' or 'running'"}]


# --- Roles ------------------------------------------------------------------------------------------------


async def roles(board: Board) -> dict[str, dict[str, Any]]:
    listed = (await board.call("list_roles", token=await board.human()))["roles"]
    return {role["role"]: role for role in listed}


async def test_fourteen_roles_come_with_the_server(board: Board) -> None:
    listed = await roles(board)
    assert len(listed) == 14
    assert all(role["built_in"] for role in listed.values())
    assert (listed["lead"]["name"], listed["lead"]["icon"], listed["lead"]["color"]) == (
        "Project Lead",
        "👑",
        "#e3b341",
    )


async def test_a_built_in_role_that_was_lost_is_back_after_a_start(boards: Boards) -> None:
    async with boards() as board:
        with board.opened.store.connect(readonly=False) as db:
            db.execute("DELETE FROM roles WHERE id = 'developer'")
            db.execute("UPDATE roles SET name = 'Changed' WHERE id = 'lead'")
        assert "developer" not in await roles(board)
    async with boards() as board:
        listed = await roles(board)
        assert (len(listed), listed["lead"]["name"]) == (14, "Project Lead")


async def test_an_override_of_a_built_in_role_stands_apart_survives_a_start_and_can_be_taken_back(
    boards: Boards,
) -> None:
    async with boards() as board:
        maria = await board.human()
        before = (await roles(board))["developer"]
        changed = await board.call(
            "define_role", token=maria, id="developer", name="Coder", system_prompt="Go."
        )
        assert (changed["name"], changed["overridden"], changed["built_in"]) == ("Coder", True, True)
    async with boards() as board:
        maria = await board.human()
        assert (await roles(board))["developer"]["system_prompt"] == "Go."
        back = await board.call("delete_role", token=maria, id="developer")
        assert (back["deleted"], back["restored"]) == (False, True)
        assert (await roles(board))["developer"] == before
        again = await board.call("delete_role", token=maria, id="developer")
        assert (again["deleted"], again["restored"]) == (False, False)
        assert len(await roles(board)) == 14


async def test_a_defined_role_can_be_taken_and_is_deleted_only_when_nobody_has_it(board: Board) -> None:
    maria = await board.human()
    await board.call("define_role", token=maria, id="data-engineer", name="Data Engineer", model="m-1")
    ann = await board.agent("ann", role="data-engineer")
    refusal = await board.refusal("delete_role", token=maria, id="data-engineer")
    assert (refusal["code"], refusal["kind"]) == ("conflict", "role")
    await ann.terminate_agent()
    assert (await board.call("delete_role", token=maria, id="data-engineer"))["deleted"] is True
    assert "data-engineer" not in await roles(board)
    assert (await board.refusal("delete_role", token=maria, id="data-engineer"))["code"] == "not_found"


async def test_a_role_id_is_kebab_case(board: Board) -> None:
    refusal = await board.refusal("define_role", token=await board.human(), id="Data_Engineer", name="D")
    assert (refusal["code"], refusal["fields"][0]["field"]) == ("invalid_arguments", "id")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("define_role", {"id": "spy", "name": "Spy"}), ("delete_role", {"id": "developer"})],
)
async def test_only_people_define_and_delete_roles(
    board: Board, tool: str, arguments: dict[str, str]
) -> None:
    """G1: not even a lead with a lead's token."""
    await board.agent("lea", role="lead")
    token = await board.principal(agent="lea", scope="lead")
    for principal in (None, token):
        refusal = await board.refusal(tool, token=principal, agent_id="lea", **arguments)
        assert (refusal["code"], refusal["operation"]) == ("human_required", tool)
    assert len(await roles(board)) == 14
