"""`callboard call`: any tool from a terminal or a script, as an agent or by a token."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from callboard.board import Board
from callboard.catalog import CATALOG
from callboard.cli.common import DbOption, fail, on_board, secret_from
from callboard.errors import Refused


def _tools(incomplete: str) -> list[tuple[str, str]]:
    """The tools whose names begin so, each with the first line of what it says of itself."""
    return [
        (one.name, one.description.partition("\n")[0]) for one in CATALOG if one.name.startswith(incomplete)
    ]


NOBODY = (
    "Say who acts: --agent ID or CALLBOARD_AGENT, for an agent that has registered; or --token-file FILE."
)


def call(
    tool: Annotated[str, typer.Argument(help="The tool's name.", autocompletion=_tools)],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Its arguments; lists and objects as JSON."),
    ] = None,
    agent: Annotated[str | None, typer.Option(envvar="CALLBOARD_AGENT", help="Call as this agent.")] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="CALLBOARD_TOKEN_FILE", help="Call as whom this token stands for. Or CALLBOARD_TOKEN."
        ),
    ] = None,
    db: DbOption = None,
) -> None:
    """Call a tool and print its result as JSON. Without an agent or a token, only what reads may be called.

    A refusal goes to standard error as JSON, with the exit code 2.
    """
    given = _read(tool, arguments or [])
    token = secret_from(token_file)

    async def work(board: Board) -> dict[str, Any] | Refused:
        try:
            return await board.call(tool, given)
        except Refused as refusal:
            if agent is None and token is None and refusal.details.get("caller_kind") == "observer":
                refusal.hint = refusal.hint or NOBODY
            return refusal

    answer = on_board(db, work, agent=agent, token=token)
    if isinstance(answer, Refused):
        typer.echo(json.dumps({"error": answer.as_data()}, ensure_ascii=False), err=True)
        raise typer.Exit(2)
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _read(tool: str, arguments: list[str]) -> dict[str, Any]:
    """`key=value` words as arguments: text where the tool takes text, else JSON."""
    known = {one.name: one for one in CATALOG}
    properties = known[tool].input_schema["properties"] if tool in known else {}
    read: dict[str, Any] = {}
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals:
            fail(f"{word!r} is not KEY=VALUE.")
        read[key] = value
        if properties.get(key, {}).get("type", "string") != "string":
            try:
                read[key] = json.loads(value)
            except ValueError:
                fail(f"{key} takes JSON, and {value!r} is none.")
    return read
