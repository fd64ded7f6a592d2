"""Contracts: each tool as `tools/list` publishes it.

Its one idea: a contract follows from the code and changes only with it, so it is worked out when the code
changes, not whenever a server is asked. `contracts.jsonl` holds them, generated and checked like every other
manifest; to make them anew would take a server as long as its whole start, and a fifth of its memory.
"""

from functools import cache
from pathlib import Path
from typing import Any

from mcp import types

from callboard.tool import Tool

FILE = Path(__file__).with_name("contracts.jsonl")
"""One contract a line, in the catalogue's order."""


def published(tool: Tool[..., Any]) -> types.Tool:
    """The contract of a tool. One that is not in the file yet is worked out."""
    return _kept().get(tool.name) or derived(tool)


def derived(tool: Tool[..., Any]) -> types.Tool:
    """The contract of a tool as it follows from its function."""
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=dict(tool.input_schema),
        output_schema=dict(tool.output_schema),
        annotations=types.ToolAnnotations(
            title=tool.title,
            read_only_hint=not tool.writes,
            destructive_hint=tool.destructive,
            idempotent_hint=tool.idempotent,
            open_world_hint=False,
        ),
    )


def line(tool: Tool[..., Any]) -> str:
    """The contract of a tool as a line of the file."""
    return derived(tool).model_dump_json(by_alias=True, exclude_none=True) + "\n"


@cache
def _kept() -> dict[str, types.Tool]:
    if not FILE.exists():
        return {}
    with FILE.open("rb") as lines:
        return {kept.name: kept for kept in map(types.Tool.model_validate_json, lines)}
