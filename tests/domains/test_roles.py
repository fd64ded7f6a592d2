"""Roles: what people say of one is kept, and what comes with the server is never lost."""

from typing import Any

from callboard.domains.roster.roles import BUILT_IN
from tests.conftest import Board, Boards


async def role(board: Board, name: str) -> dict[str, Any]:
    listed = (await board.call("list_roles", token=await board.human()))["roles"]
    found: dict[str, Any] = {role["role"]: role for role in listed}[name]
    return found


async def test_an_override_keeps_of_the_built_in_role_what_it_leaves_out(board: Board) -> None:
    before = await role(board, "developer")
    await board.call("define_role", token=await board.human(), id="developer", name="Coder")
    after = await role(board, "developer")
    assert after == before | {"name": "Coder", "overridden": True}


async def test_a_defined_role_has_a_colour_and_an_icon_where_nobody_chose_any(board: Board) -> None:
    maria = await board.human()
    made = await board.call("define_role", token=maria, id="spy", name="Spy", color="#fff", model="m")
    assert (made["color"], made["icon"], made["description"], made["model"]) == ("#fff", "🤖", "", "m")
    again = await board.call("define_role", token=maria, id="spy", name="Spy")
    assert (again["color"], "model" in again) == ("#888", False)


async def test_a_prompt_is_returned_as_it_was_stored_however_often_it_is_saved(board: Board) -> None:
    maria, prompt = await board.human(), "Look,\n  then leap.\n"
    for _ in range(2):
        made = await board.call("define_role", token=maria, id="spy", name="Spy", system_prompt=prompt)
        assert made["system_prompt"] == prompt
        prompt = made["system_prompt"]


async def test_a_role_that_an_open_task_waits_for_is_not_deleted(board: Board) -> None:
    maria = await board.human()
    await board.call("define_role", token=maria, id="spy", name="Spy")
    lea = await board.agent("lea", role="lead")
    await lea.add_dag_task(id="look", role="spy")
    refused = await board.refusal("delete_role", token=maria, id="spy")
    assert (refused["code"], "look" in refused["message"]) == ("conflict", True)
    await lea.cancel_dag_task(task_id="look")
    assert (await board.call("delete_role", token=maria, id="spy"))["deleted"] is True


async def test_a_defined_role_stands_over_a_built_in_one_that_a_later_version_brings(boards: Boards) -> None:
    async with boards() as board:
        with board.opened.store.connect(readonly=False) as db:  # as a version before the role left it
            db.execute("DELETE FROM roles WHERE id = 'secretary'")
        maria = await board.human()
        await board.call("define_role", token=maria, id="secretary", name="Ours", system_prompt="Mind us.")
    async with boards() as board:
        found = await role(board, "secretary")
        assert (found["name"], found["system_prompt"]) == ("Ours", "Mind us.")
        assert (found["built_in"], found["overridden"]) == (True, True)
        await board.call("delete_role", token=await board.human(), id="secretary")
        assert (await role(board, "secretary"))["name"] == "Secretary"


async def test_the_fourteen_are_those_of_the_table() -> None:
    assert len({line[0] for line in BUILT_IN}) == len(BUILT_IN) == 14


async def test_long_roles_come_in_pages_and_none_is_cut(board: Board) -> None:
    maria = await board.human()
    long = "x" * 16_000
    for number in range(6):
        await board.call(
            "define_role", token=maria, id=f"r{number}", name="R", description=long, system_prompt=long
        )
    names: list[str] = []
    page: dict[str, Any] = {}
    while not names or "next_after_id" in page:
        after = {"after_id": page["next_after_id"]} if page else {}
        page = await board.call("list_roles", token=maria, **after)
        assert all(role["system_prompt"] == long for role in page["roles"] if role["name"] == "R")
        names += [role["role"] for role in page["roles"]]
    assert names == sorted({entry[0] for entry in BUILT_IN} | {f"r{number}" for number in range(6)})
