"""Which project a folder is: hooks look where the servers of that folder keep their locks."""

from tests.hooks.conftest import Asked


async def test_the_locks_of_the_project_that_works_in_the_folder_are_those_that_count(asked: Asked) -> None:
    """A folder's project need not be the one that the folder stands for by itself."""
    board, human = asked.board, await asked.board.human()
    await board.call("acquire_file_lock", agent_id="bob", file_path="old.py")
    first = (await board.call("get_project", token=human))["project_id"]
    await board.call("update_project", token=human, project_id=first, status="archived")
    second = (await board.call("create_project", token=human, name="anew", cwd=str(board.folder)))[
        "project_id"
    ]
    assert second != first
    for agent_id in ("cat", "dan"):
        await board.agent(agent_id, project_id=second)
    await board.call("acquire_file_lock", agent_id="cat", file_path="a.py")
    refusal = (await asked.before_edit("a.py", agent="dan")).refusal
    assert refusal is not None and refusal.startswith("cat holds a.py")
    assert (await asked.before_edit("old.py", agent="dan")).answer is None
