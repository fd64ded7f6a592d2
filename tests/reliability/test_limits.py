"""Every bound that is published or kept holds at exactly its number (X3, W3): what is at it is taken, what is
one beyond it is refused by the name of its argument, and so is SQL in every text (ID7)."""

from collections.abc import Iterator
from typing import Any

import pytest

from callboard.catalog import CATALOG
from callboard.errors import Refused
from callboard.params import Text
from callboard.tool import Tool
from tests.conftest import Board
from tests.filling import TOOLS, marks_in

INJECTIONS = (
    "'; DELETE FROM dag_tasks; --",
    '" OR 1=1 --',
    "x') UNION SELECT sha256 FROM _credentials --",
    ":agent_id",
)


def bounds(tool: Tool[..., Any]) -> Iterator[tuple[str, Any, bool]]:
    """An argument with a value at one of its bounds or beyond it, and whether it fits."""
    for field, info in tool.arguments.model_fields.items():
        name = info.alias or field
        published = tool.input_schema["properties"][name]
        marks: list[Any] = (
            [*info.metadata, *marks_in(info.annotation)] if published["type"] != "array" else []
        )
        marks += [inner for mark in marks for inner in getattr(mark, "metadata", ())]
        for mark in marks:
            for key, step in (("ge", -1), ("le", 1)):
                if (bound := getattr(mark, key, None)) is not None:
                    yield name, bound, True
                    yield name, bound + step, False
        for text in (mark for mark in marks if isinstance(mark, Text)):
            if text.form is None and "enum" not in published:
                yield name, "x" * (text.most + 1), False
        if "maxItems" in published and published["items"]["type"] == "string":
            yield name, ["x"] * (published["maxItems"] + 1), False


async def faults(board: Board, tool: str, given: dict[str, Any]) -> set[str]:
    """The arguments that a call is refused for, before anybody asks who calls."""
    try:
        await board.opened.call(tool, {"agent_id": "nobody", **given})
    except Refused as refused:
        details: dict[str, Any] = dict(refused.details)
        if refused.code == "too_large":
            return {str(details["field"]).partition(".")[0]}
        if refused.code == "invalid_arguments":
            return {str(fault["field"]).partition(".")[0] for fault in details["fields"]}
    return set()


async def test_a_bound_holds_at_its_number_for_every_argument_of_every_tool(board: Board) -> None:
    """X3, W3"""
    tried = 0
    for tool in CATALOG:
        for name, value, fits in bounds(tool):
            refused = name in await faults(board, tool.name, {name: value})
            assert refused is not fits, f"{tool.name}({name}) at {str(value)[:40]}"
            tried += 1
    assert tried > 300


@pytest.mark.parametrize("injection", INJECTIONS)
async def test_no_text_is_ever_a_statement(board: Board, injection: str) -> None:
    """ID7: in every text of every tool at once and one by one; nothing is an internal error."""
    await board.call("register_agent", agent_id="ann", role="lead")
    for tool in TOOLS.values():
        properties = tool.input_schema["properties"]
        texts = [
            name for name, about in properties.items() if about["type"] == "string" and "enum" not in about
        ]
        for name in texts:
            others = {other: injection for other in texts if other in tool.input_schema.get("required", ())}
            given = {"agent_id": "ann"} | others | {name: injection}
            try:
                await board.opened.call(tool.name, given)
            except Refused as refused:
                assert refused.code != "internal_error", f"{tool.name}({name}): {refused.as_data()}"
    [(registered,)] = await board.rows("SELECT count(*) FROM agent_roster")
    assert registered >= 1
