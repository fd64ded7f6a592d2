"""The crew: who am I, one agent in full, who is best for a piece of work, and an agent's end."""

import json
from typing import Any

import pytest

from callboard.domains.roster.agents import GRACE_MS, LIVE_MS
from tests.conftest import Agent, Board, Boards


async def inbox(board: Board, agent_id: str) -> list[dict[str, Any]]:
    """What waits for an agent, oldest first."""
    rows = await board.rows(
        """SELECT payload FROM message_queue
            WHERE target_agent_id = :agent_id AND status = 'queued' ORDER BY id""",
        agent_id=agent_id,
    )
    return [json.loads(payload) for (payload,) in rows]


async def held(board: Board) -> list[tuple[Any, ...]]:
    return await board.rows(
        "SELECT agent_id, substr(file_path, instr(file_path, ':') + 1) FROM _leases ORDER BY 1, 2"
    )


# --- Who am I ---------------------------------------------------------------------------------------------


async def test_whoami_names_the_agent_its_rights_its_leases_and_the_store(board: Board) -> None:
    """T9"""
    lea = await board.agent("lea", role="lead")
    ann = await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py")
    me = await ann.whoami()
    assert (me["agent_id"], me["role"], me["kind"], me["led_by"]) == ("ann", "developer", "worker", "lea")
    assert (me["identified_by"], me["trust_level"]) == ("argument", "L0")
    assert [lease["file_path"] for lease in me["leases"]] == ["a.py"]
    info = board.opened.store.info
    assert (me["store_id"], me["store_path"], me["schema_version"]) == (
        info.store_id,
        str(info.path),
        info.schema_version,
    )
    assert (await lea.whoami())["kind"] == "lead"


@pytest.mark.parametrize(
    ("role", "scope", "kind"),
    [
        ("developer", "worker", "worker"),
        ("developer", "lead", "worker"),
        ("lead", "worker", "worker"),
        ("lead", "lead", "lead"),
        ("lead", "observer", "observer"),
    ],
)
async def test_a_token_takes_rights_away_and_never_gives_them(
    board: Board, role: str, scope: str, kind: str
) -> None:
    """ID5"""
    await board.agent("lea", role="lead")
    await board.agent("ann", role=role)
    me = await board.call("whoami", token=await board.principal(agent="ann", scope=scope))
    assert (me["kind"], me["identified_by"], me["trust_level"]) == (kind, "token", "L1")


async def test_a_members_profile_is_whole_for_its_crew_and_short_for_others(board: Board) -> None:
    """ID7"""
    await board.agent("lea", role="lead")
    ann = await board.agent("ann", provider="p")
    await ann.acquire_file_lock(file_path="a.py", reason="parser")
    with board.opened.store.connect(readonly=False) as db:
        plan = ("ann", "lea", '[{"content":"x"}]')
        db.execute("INSERT INTO agent_plans (agent_id, lead_id, plan_json) VALUES (?, ?, ?)", plan)
    mia = await board.agent("mia", role="lead")
    profile = await board.call("get_agent", agent_id="lea", target_agent_id="ann")
    assert (profile["provider"], profile["plan"], profile["parent_id"]) == ("p", [{"content": "x"}], "lea")
    assert [lock["reason"] for lock in profile["locks"]] == ["parser"]
    assert [entry["action_type"] for entry in profile["recent_activity"]] == [
        "lock_acquired",
        "agent_registered",
    ]
    seen = await mia.get_agent(target_agent_id="ann")
    assert "plan" not in seen
    assert [lock["file_path"] for lock in seen["locks"]] == ["a.py"]  # locks are the project's


# --- Who is best for it -----------------------------------------------------------------------------------


async def ranked(agent: Agent, **wanted: Any) -> list[str]:
    return [match["agent_id"] for match in (await agent.match_agents(**wanted))["agents"]]


async def test_agents_are_ranked_by_what_they_did_with_the_file_with_the_reasons(board: Board) -> None:
    author, reader, neighbour, stranger = [
        await board.agent(name) for name in ("author", "reader", "neighbour", "stranger")
    ]
    await author.record_file_touch(file_paths=["src/text/fold.py"], action="edit")
    await reader.record_file_touch(file_paths=["src/text/fold.py"], action="read")
    await neighbour.record_file_touch(file_paths=["src/text/other.py"], action="edit")
    await stranger.record_file_touch(file_paths=["docs/x.md"], action="edit")
    matches = (await author.match_agents(file_path="src/text/fold.py"))["agents"]
    assert [match["agent_id"] for match in matches] == ["author", "reader", "neighbour"]
    assert any("worked on src/text/fold.py" in reason for reason in matches[0]["reasons"])
    assert any("locked or read" in reason for reason in matches[1]["reasons"])
    assert any("worked nearby" in reason for reason in matches[2]["reasons"])
    assert 1 >= matches[0]["score"] > matches[1]["score"] > matches[2]["score"] > 0


async def test_who_holds_the_file_now_counts(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    for agent in (ann, ben):
        await agent.record_file_touch(file_paths=["src/a.py"])
    await ann.acquire_file_lock(file_path="src/")
    matches = (await ann.match_agents(file_path="src/a.py"))["agents"]
    assert [match["agent_id"] for match in matches] == ["ann", "ben"]
    assert any("holds src/a.py now" in reason for reason in matches[0]["reasons"])


async def test_each_word_about_the_work_finds_whom_it_fits(board: Board) -> None:
    ann = await board.agent("ann", capabilities=["SQL tuning"])
    ben = await board.agent("ben", role="architect")
    await ann.record_file_touch(file_paths=["a.rs", "b.rs"])
    await ben.heartbeat(last_task_summary="rewriting the scheduler")
    assert await ranked(ann, capability="sql") == ["ann"]
    assert await ranked(ann, technology="Rust") == ["ann"]
    assert await ranked(ann, role="architect") == ["ben"]
    assert await ranked(ann, keyword="Scheduler") == ["ben"]
    assert await ranked(ann, keyword="nothing") == []
    both = (await ann.match_agents(capability="sql", role="architect"))["agents"]
    assert {match["agent_id"] for match in both} == {"ann", "ben"}
    assert await ranked(ann, capability="sql", role="architect", limit=1) == [both[0]["agent_id"]]


async def test_only_live_and_idle_agents_are_available(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    cay, dan = await board.agent("cay"), await board.agent("dan")
    await board.agent("silent")
    await cay.heartbeat(status="running")
    await dan.terminate_agent()
    board.clock.turn(LIVE_MS / 1000 + 1)
    for agent in (ann, ben, cay):
        await agent.heartbeat()
    assert await ranked(ann, role="developer", available_only=True) == ["ann", "ben"]
    everyone = (await ann.match_agents(role="developer"))["agents"]
    assert [match["agent_id"] for match in everyone] == ["ann", "ben", "cay", "silent"]
    assert everyone[0]["score"] > everyone[-1]["score"]  # idleness counts
    assert everyone[-1]["liveness"] == "stale"


async def test_a_clean_record_counts_for_and_a_failed_task_against(board: Board) -> None:
    ann = await board.agent("ann")
    await board.agent("ben")
    project_id = (await ann.whoami())["project_id"]
    with board.opened.store.connect(readonly=False) as db:
        for seq, (agent_id, status) in enumerate([("ann", "failed"), ("ben", "done")], 1):
            db.execute(
                "INSERT INTO dag_tasks (id, lead_id, role, dag_status, assigned_agent_id, project_id, seq) "
                "VALUES (:id, :lead, 'developer', :status, :agent, :project, :seq)",
                {
                    "id": f"t{seq}",
                    "lead": project_id,
                    "status": status,
                    "agent": agent_id,
                    "project": project_id,
                    "seq": seq,
                },
            )
    first, second = (await ann.match_agents(role="developer"))["agents"]
    assert (first["agent_id"], second["agent_id"]) == ("ben", "ann")
    assert any("no failed task" in reason for reason in first["reasons"])
    assert any("1 failed task" in reason for reason in second["reasons"])


# --- An agent's end ---------------------------------------------------------------------------------------


async def test_an_agents_end_gives_back_all_it_held_and_grants_those_who_wait(board: Board) -> None:
    await board.agent("lea", role="lead")
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.acquire_file_locks(file_paths=["a.py", "b.py"])
    await board.refusal("acquire_file_lock", agent_id="ben", file_path="a.py", queue_seconds=600)
    ended = await board.call("terminate_agent", agent_id="lea", target_agent_id="ann", reason="stuck")
    assert (ended["terminated"], sorted(ended["released"])) == (True, ["a.py", "b.py"])
    assert await held(board) == [("ben", "a.py")]
    assert "a.py" in (await inbox(board, ben.id))[0]["text"]
    [row] = await board.rows(
        "SELECT status, termination_reason, terminated_at FROM agent_roster WHERE agent_id = 'ann'"
    )
    assert row == ("terminated", "stuck", "2026-01-01T12:00:00.000Z")


async def test_an_agents_end_takes_its_place_in_every_queue_along(board: Board) -> None:
    """L11: nobody is granted who is no longer there."""
    lea, ann = await board.agent("lea", role="lead"), await board.agent("ann")
    await lea.acquire_file_lock(file_path="a.py")
    await board.refusal("acquire_file_lock", agent_id="ann", file_path="a.py", queue_seconds=600)
    await ann.terminate_agent()
    await lea.release_file_lock(file_path="a.py")
    assert await held(board) == []
    assert await board.rows("SELECT count(*) FROM _lock_waiters") == [(0,)]


async def test_the_lead_is_told_which_paths_became_free(board: Board) -> None:
    await board.agent("lea", role="lead")
    ann = await board.agent("ann")
    await ann.acquire_file_locks(file_paths=["a.py", "src/"])
    await ann.terminate_agent()
    [told] = await inbox(board, "lea")
    assert (told["event"], told["agent_id"], sorted(told["released"])) == (
        "agent_terminated",
        "ann",
        ["a.py", "src"],
    )
    assert "a.py" in told["text"]
    assert (await board.call("whoami", agent_id="lea"))["unread"] == 1


async def test_a_lead_that_ends_an_agent_itself_is_not_told_of_it(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    await board.agent("ann")
    await lea.terminate_agent(target_agent_id="ann")
    assert await inbox(board, "lea") == []
    await board.agent("ben")
    await board.call("terminate_agent", token=await board.human(), target_agent_id="ben")
    assert [told["agent_id"] for told in await inbox(board, "lea")] == ["ben"]


async def test_the_mail_of_an_agent_that_left_ends_as_target_gone(board: Board) -> None:
    lea, ann = await board.agent("lea", role="lead"), await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py")
    await lea.force_release_file_lock(file_path="a.py", reason="needed")
    assert len(await inbox(board, "ann")) == 1
    ended = await lea.terminate_agent(target_agent_id="ann")
    assert ended["messages_expired"] == 1
    assert await board.rows(
        "SELECT status, expired_reason FROM message_queue WHERE target_agent_id = 'ann'"
    ) == [("expired", "target_gone")]


async def test_ending_an_agent_twice_changes_nothing_more(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    await board.agent("ann")
    await lea.terminate_agent(target_agent_id="ann", reason="first")
    before = await board.rows("SELECT * FROM agent_roster WHERE agent_id = 'ann'")
    logged = await board.rows("SELECT max(id) FROM activity_log")
    again = await lea.terminate_agent(target_agent_id="ann", reason="second")
    assert (again["terminated"], again["released"]) == (False, [])
    assert await board.rows("SELECT * FROM agent_roster WHERE agent_id = 'ann'") == before
    assert await board.rows("SELECT max(id) FROM activity_log") == logged


async def test_a_lead_that_leaves_hands_its_crew_to_the_successor_it_names(board: Board) -> None:
    lea, ann = await board.agent("lea", role="lead"), await board.agent("ann")
    ben = await board.agent("ben")
    await lea.acquire_file_lock(file_path="a.py")
    ended = await lea.terminate_agent(successor_id="ann")
    assert ended["crew_led_by"] == "ann"
    assert ((await ann.whoami())["kind"], (await ben.whoami())["kind"]) == ("lead", "worker")
    assert {(await agent.whoami())["lead_id"] for agent in (ann, ben)} == {"lea"}  # the crew keeps its id
    [told] = await inbox(board, "ann")
    assert "you lead" in told["text"] and told["released"] == ["a.py"]


async def test_a_crew_without_a_successor_is_leaderless_and_its_members_have_a_leads_rights(
    board: Board,
) -> None:
    lea, ann = await board.agent("lea", role="lead"), await board.agent("ann")
    ben = await board.agent("ben")
    assert (await board.refusal("terminate_agent", agent_id="ann", target_agent_id="ben"))[
        "code"
    ] == "forbidden"
    ended = await lea.terminate_agent()
    assert "crew_led_by" not in ended
    me = await ann.whoami()
    assert (me["kind"], me["lead_id"], me.get("led_by")) == ("lead", "lea", None)
    await ben.acquire_file_lock(file_path="a.py")
    await ann.force_release_file_lock(file_path="a.py", reason="needed")
    await ann.terminate_agent(target_agent_id="ben")


async def test_a_token_for_workers_has_a_leads_rights_in_a_leaderless_crew_only(board: Board) -> None:
    """Roles: the scope makes nobody the lead of others; where nobody leads there are no others."""
    lea = await board.agent("lea", role="lead")
    await board.agent("ann")
    token = await board.principal(agent="ann", scope="worker")
    refusal = await board.refusal("register_agent", token=token, role="lead")
    assert (refusal["code"], refusal["needs"]) == ("forbidden", "a token with the scope lead")
    await lea.terminate_agent(successor_id="ann")
    assert (await board.call("whoami", token=token))["kind"] == "worker"
    await board.call("terminate_agent", agent_id="ann")
    back = await board.call("register_agent", token=token, role="developer", revive=True)
    assert "led_by" not in back
    assert (await board.call("whoami", token=token))["kind"] == "lead"


@pytest.mark.parametrize(
    ("successor", "code"),
    [
        ("mia", "unknown_agent"),
        ("lea", "unknown_agent"),
        ("nobody", "unknown_agent"),
        ("gone", "agent_terminated"),
    ],
)
async def test_only_a_present_member_of_the_crew_can_succeed(board: Board, successor: str, code: str) -> None:
    lea = await board.agent("lea", role="lead")
    gone = await board.agent("gone")
    await gone.terminate_agent()
    await board.agent("mia", role="lead")
    assert (await board.refusal("terminate_agent", agent_id="lea", successor_id=successor))["code"] == code
    assert (await lea.whoami())["led_by"] == "lea"


async def test_only_an_agent_itself_its_lead_and_people_can_end_it(board: Board) -> None:
    await board.agent("lea", role="lead")
    await board.agent("ann")
    await board.agent("ben")
    await board.agent("mia", role="lead")
    for caller in ("ben", "mia"):
        refusal = await board.refusal("terminate_agent", agent_id=caller, target_agent_id="ann")
        assert (refusal["code"], refusal["operation"]) == ("forbidden", "terminate_agent")
    observer = await board.principal(agent="lea", scope="observer")
    refusal = await board.refusal("terminate_agent", token=observer, target_agent_id="ann")
    assert refusal["code"] == "forbidden"
    await board.call("terminate_agent", token=await board.human(), target_agent_id="ann")


# --- A program's end --------------------------------------------------------------------------------------


async def test_what_an_agent_held_whose_program_is_gone_is_free_after_the_grace(boards: Boards) -> None:
    """T10, L11: its lead is told which paths; the agent itself stays on the roster."""
    async with boards() as board:
        await board.agent("lea", role="lead")
        async with boards(transport="stdio") as program:
            ann = await program.agent("ann")
            await ann.acquire_file_lock(file_path="a.py", ttl_seconds=3600)
            await program.settle()
        await board.turn(GRACE_MS / 1000 - 1)
        assert await held(board) == [("ann", "a.py")]
        await board.turn(1)
        assert await held(board) == []
        [told] = await inbox(board, "lea")
        assert (told["agent_id"], told["released"]) == ("ann", ["a.py"])
        assert await board.rows("SELECT status FROM agent_roster WHERE agent_id = 'ann'") == [("idle",)]


async def test_a_program_that_is_started_again_within_the_grace_keeps_what_it_held(boards: Boards) -> None:
    async with boards() as board:
        async with boards(transport="stdio") as program:
            ann = await program.agent("ann")
            await ann.acquire_file_lock(file_path="a.py", ttl_seconds=3600)
            await program.settle()
        await board.turn(GRACE_MS / 2000)
        async with boards(transport="stdio") as program:
            await program.agent("ann")
            await program.settle()
            await board.turn(GRACE_MS / 1000)
            assert await held(board) == [("ann", "a.py")]
