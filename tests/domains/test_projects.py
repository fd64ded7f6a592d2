"""Projects: a repository becomes one by a server's first run in it."""

from pathlib import Path

from tests.conftest import Boards

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
