"""Projects: a repository becomes one by a server's first run in it, and people say who oversees it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Board, Boards

PROJECTS = "SELECT id, name, cwd, status FROM projects"
TOLD = "SELECT count(*) FROM activity_log WHERE action_type = 'project_created'"


async def test_a_repository_becomes_a_project_by_the_first_server_in_it_and_stays_the_same(
    boards: Boards,
) -> None:
    async with boards() as board:
        [project] = await board.rows(PROJECTS)
        assert project[1:] == ("repo", str(board.folder), "active")
        assert project[0].startswith("repo-")
        assert (await board.call("register_agent", role="developer"))["project_id"] == project[0]
    async with boards() as board:
        assert await board.rows(PROJECTS) == [project]
        assert await board.rows(TOLD) == [(1,)]


async def test_two_repositories_on_one_store_are_two_projects_that_do_not_meet(
    boards: Boards, tmp_path: Path
) -> None:
    """Ruling 18: the same path in two projects is two files, and nobody sees the other's roster."""
    other = tmp_path / "other"
    other.mkdir()
    db = tmp_path / "board.db"
    async with boards(db=db) as here, boards(db=db, folder=other) as there:
        ann, ben = await here.agent("ann"), await there.agent("ben")
        assert (await ann.acquire_file_lock(file_path="a.py"))["fence"] != (
            await ben.acquire_file_lock(file_path="a.py")
        )["fence"]
        assert [agent["agent_id"] for agent in (await ann.list_agents())["agents"]] == ["ann"]
        assert (await there.refusal("get_agent", agent_id="ben", target_agent_id="ann"))[
            "code"
        ] == "unknown_agent"


async def test_an_agent_belongs_to_its_project_through_whichever_server_it_calls(
    boards: Boards, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    db = tmp_path / "board.db"
    async with boards(db=db) as here, boards(db=db, folder=other) as there:
        ann = await here.agent("ann")
        lock = await there.call("acquire_file_lock", agent_id="ann", file_path=str(here.folder / "a.py"))
        assert lock["file_path"] == "a.py"
        assert (await there.call("whoami", agent_id="ann"))["project_id"] == (await ann.whoami())[
            "project_id"
        ]


async def test_a_project_is_set_up_in_a_folder_and_a_server_there_finds_it(
    boards: Boards, tmp_path: Path
) -> None:
    (tmp_path / "other" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other" / ".git").mkdir()
    db = tmp_path / "board.db"
    async with boards(db=db) as board:
        ann = await board.agent("ann")
        made = await ann.create_project(
            name="Größe X", description="the rest", cwd=str(tmp_path / "link" / "inside")
        )
        assert made["cwd"] == str(tmp_path / "other")
        assert (made["name"], made["status"], made["version"]) == ("Größe X", "active", 1)
        async with boards(db=db, folder=tmp_path / "other") as there:
            signed_in = await there.call("register_agent", role="developer")
            assert signed_in["project_id"] == made["project_id"]
        assert await board.rows(TOLD) == [(2,)]


async def test_a_project_without_a_folder_has_the_slug_of_its_name_as_its_id(board: Board) -> None:
    ann = await board.agent("ann")
    first = await ann.create_project(name="Größe & Maß!")
    second = await ann.create_project(name="Größe & Maß!")
    for made in (first, second):
        assert re.fullmatch("groe-ma-[0-9a-f]{6}", made["project_id"])
        assert "cwd" not in made
    assert first["project_id"] != second["project_id"]


async def test_a_folder_belongs_to_one_project_that_is_not_archived(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    here = (await lea.get_project())["project_id"]
    refused = await board.refusal("create_project", agent_id="lea", name="again", cwd=str(board.folder))
    assert (refused["code"], refused["project_id"]) == ("conflict", here)
    await lea.update_project(status="archived")
    again = await lea.create_project(name="again", cwd=str(board.folder))
    assert again["project_id"] != here
    refused = await board.refusal("update_project", agent_id="lea", status="active")
    assert (refused["code"], refused["project_id"]) == ("conflict", again["project_id"])


@pytest.mark.parametrize("cwd", ["repo", "/nowhere/at/all", "./x"])
async def test_a_folder_that_is_not_there_or_not_absolute_is_refused(board: Board, cwd: str) -> None:
    await board.agent("ann")
    refused = await board.refusal("create_project", agent_id="ann", name="x", cwd=cwd)
    assert refused["code"] == "invalid_path"


async def test_a_moved_repository_keeps_its_project_when_its_folder_is_told(
    boards: Boards, tmp_path: Path
) -> None:
    db, moved = tmp_path / "board.db", tmp_path / "moved"
    moved.mkdir()
    async with boards(db=db) as board:
        lea = await board.agent("lea", role="lead")
        project_id = (await lea.update_project(cwd=str(moved)))["project_id"]
    async with boards(db=db, folder=moved) as board:
        assert (await board.call("register_agent", role="developer"))["project_id"] == project_id
        assert len(await board.rows(PROJECTS)) == 1


STEPS = {
    ("active", "completed"),
    ("active", "archived"),
    ("completed", "active"),
    ("completed", "archived"),
    ("archived", "active"),
}


@pytest.mark.parametrize("start", ["active", "completed", "archived"])
@pytest.mark.parametrize("end", ["active", "completed", "archived"])
async def test_a_projects_status_takes_the_steps_of_the_table_and_no_others(
    board: Board, start: str, end: str
) -> None:
    lea = await board.agent("lea", role="lead")
    if start != "active":
        await lea.update_project(status=start)
    if start == end or (start, end) in STEPS:
        changed = await lea.update_project(status=end)
        assert changed["status"] == end
        assert changed["version"] == 1 + (start != "active") + (start != end)
    else:
        refused = await board.refusal("update_project", agent_id="lea", status=end)
        assert (refused["code"], refused["status"]) == ("invalid_transition", start)
        assert refused["allowed"] == sorted(to for of, to in STEPS if of == start)


@pytest.mark.parametrize("status", ["archived", "completed"])
async def test_a_project_with_a_live_session_is_not_put_away(board: Board, status: str) -> None:
    lea = await board.agent("lea", role="lead")
    await lea.start_project_session(task="one")
    refused = await board.refusal("update_project", agent_id="lea", status=status)
    assert (refused["code"], refused["session_row_ids"]) == ("invalid_transition", [1])
    await lea.end_project_session()
    assert (await lea.update_project(status=status))["status"] == status
    refused = await board.refusal("start_project_session", agent_id="lea", task="two")
    assert (refused["code"], refused["status"]) == ("invalid_transition", status)


@pytest.mark.parametrize("tool", ["create_project", "update_project"])
@pytest.mark.parametrize("what", [{"oversight_level": "autonomous"}, {"model_config": {"developer": ["m"]}}])
async def test_oversight_and_model_rules_are_set_by_people_only(
    board: Board, tool: str, what: dict[str, Any]
) -> None:
    """Ruling 17, also at creation."""
    await board.agent("lea", role="lead")
    name: dict[str, Any] = {"name": "x"} if tool == "create_project" else {}
    assert (await board.refusal(tool, agent_id="lea", **name, **what))["code"] == "human_required"
    answer = await board.call(tool, token=await board.human(), **name, **what)
    assert what.items() <= answer.items()


async def test_a_project_that_says_nothing_of_oversight_has_the_stores(board: Board) -> None:
    ann, human = await board.agent("ann"), await board.human()
    assert (await ann.get_project())["oversight_level"] == "balanced"
    await board.call("set_setting", token=human, key="oversight.level", value="supervised")
    assert (await ann.get_project())["oversight_level"] == "supervised"
    await board.call("update_project", token=human, oversight_level="autonomous")
    assert (await ann.get_project())["oversight_level"] == "autonomous"


async def test_an_agent_with_a_model_that_its_project_does_not_take_is_refused(board: Board) -> None:
    human = await board.human()
    early = await board.agent("early", model="big")
    await board.call("update_project", token=human, model_config={"developer": ["small", "tiny"]})
    told: list[dict[str, Any]] = [{"model": "big"}, {}]
    for model in told:
        refused = await board.refusal("register_agent", role="developer", **model)
        assert (refused["code"], refused["models"]) == ("forbidden", ["small", "tiny"])
    assert (await board.refusal("register_agent", agent_id="early", role="developer"))["code"] == "forbidden"
    ann = await board.agent("ann", model="tiny")
    assert (await board.refusal("update_agent", agent_id="ann", model="big"))["code"] == "forbidden"
    assert (await ann.update_agent(model="small"))["model"] == "small"
    assert (await board.call("register_agent", role="architect", model="big"))["model"] == "big"
    lea = await board.agent("lea", role="lead")
    refused = await board.refusal("add_dag_task", agent_id="lea", id="t", role="developer", model="big")
    assert refused["code"] == "forbidden"
    await lea.add_dag_task(id="t", role="developer", model="tiny")
    refused = await board.refusal("update_dag_task", agent_id="lea", task_id="t", model="big")
    assert refused["code"] == "forbidden"
    assert (await early.whoami())["agent_id"] == "early"  # who is here stays here


@pytest.mark.parametrize(
    "rules",
    [
        {"Not A Role": ["m"]},
        {"developer": "m"},
        {"developer": []},
        {"developer": [1]},
        {"developer": [" "]},
        {"developer": ["m" * 201]},
    ],
)
async def test_model_rules_are_roles_with_lists_of_models(board: Board, rules: dict[str, object]) -> None:
    refused = await board.refusal("update_project", token=await board.human(), model_config=rules)
    assert refused["code"] == "invalid_arguments"
    assert refused["fields"][0]["field"].startswith("model_config")


async def test_model_rules_are_replaced_whole_and_an_empty_object_ends_them(board: Board) -> None:
    human = await board.human()
    await board.call("update_project", token=human, model_config={"developer": ["m"], "lead": ["n"]})
    changed = await board.call("update_project", token=human, model_config={"lead": ["n"]})
    assert changed["model_config"] == {"lead": ["n"]}
    assert "model_config" not in await board.call("update_project", token=human, model_config={})


async def test_a_project_that_was_changed_since_it_was_read_is_not_changed_again(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    changed = await lea.update_project(name="New", description="d", expected_version=1)
    assert (changed["name"], changed["description"], changed["version"]) == ("New", "d", 2)
    refused = await board.refusal("update_project", agent_id="lea", name="Newer", expected_version=1)
    assert (refused["code"], refused["expected"], refused["current"]) == ("conflict", 1, 2)
    assert (await lea.update_project(name="New"))["version"] == 2
    [(details,)] = await board.rows("SELECT details FROM activity_log WHERE action_type = 'project_updated'")
    assert json.loads(details) == {
        "old": {"name": "repo", "description": ""},
        "new": {"name": "New", "description": "d"},
    }


async def test_a_worker_changes_no_project_and_a_lead_only_its_own(board: Board) -> None:
    lea = await board.agent("lea", role="lead")
    await board.agent("ann", lead_id="lea")
    other = (await lea.create_project(name="other"))["project_id"]
    assert (await board.refusal("update_project", agent_id="ann", name="x"))["code"] == "forbidden"
    refused = await board.refusal("update_project", agent_id="lea", project_id=other, name="x")
    assert refused["code"] == "forbidden"
    changed = await board.call("update_project", token=await board.human(), project_id=other, name="x")
    assert changed["name"] == "x"


async def test_a_project_counts_the_tasks_of_the_callers_crew_by_status_and_a_human_all(
    board: Board,
) -> None:
    lea, mia = await board.agent("lea", role="lead"), await board.agent("mia", role="lead")
    for lead, names in ((lea, "abc"), (mia, "d")):
        for name in names:
            await lead.add_dag_task(id=name, role="developer")
    await lea.add_dag_task(id="e", role="developer", depends_on=["a"])
    await lea.skip_dag_task(task_id="b")
    await mia.start_project_session(task="two")
    await lea.start_project_session(task="one")
    shown = await lea.get_project()
    assert shown["tasks"] == {"pending": 1, "ready": 2, "skipped": 1}
    assert [session["lead_id"] for session in shown["sessions"]] == ["mia", "lea"]
    everything = await board.call("get_project", token=await board.human())
    assert everything["tasks"] == {"pending": 1, "ready": 3, "skipped": 1}


async def test_other_projects_show_themselves_but_neither_tasks_nor_sessions(
    boards: Boards, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    db = tmp_path / "board.db"
    async with boards(db=db) as here, boards(db=db, folder=other) as there:
        lea = await here.agent("lea", role="lead")
        await lea.add_dag_task(id="a", role="developer")
        await lea.start_project_session(task="secret")
        project_id = (await lea.get_project())["project_id"]
        mia = await there.agent("mia", role="lead")
        shown = await mia.get_project(project_id=project_id)
        assert (shown["name"], shown["tasks"], shown["sessions"]) == ("repo", {}, [])
        assert (await mia.list_project_sessions())["sessions"] == []


async def test_a_project_that_is_not_there_is_told_with_near_ones(board: Board) -> None:
    ann = await board.agent("ann")
    known = (await ann.get_project())["project_id"]
    refused = await board.refusal("get_project", agent_id="ann", project_id=known[:-1])
    assert (refused["code"], refused["near"]) == ("not_found", [known])


async def test_projects_are_paged_and_chosen_by_status(board: Board) -> None:
    ann = await board.agent("ann")
    made = {(await ann.create_project(name=name))["project_id"] for name in ("one", "two", "three")}
    await board.call(
        "update_project", token=await board.human(), project_id=sorted(made)[0], status="archived"
    )
    seen: list[str] = []
    page = await ann.list_projects(limit=2)
    while True:
        seen += [project["project_id"] for project in page["projects"]]
        if "next_after_id" not in page:
            break
        page = await ann.list_projects(limit=2, after_id=page["next_after_id"])
    assert seen == sorted(seen) and made < set(seen)
    [archived] = (await ann.list_projects(status="archived"))["projects"]
    assert archived["project_id"] == sorted(made)[0]
