"""How a view asks the board: which project and crew, as whom, and what becomes of a refusal."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from callboard.board import Board
from callboard.cli.common import answered, on_board
from callboard.errors import Refused

LeadOption = Annotated[str | None, typer.Option("--lead", help="Only the crew of this lead.")]
ProjectOption = Annotated[
    str | None, typer.Option("--project", help="Another project of the store than the one around here.")
]
LimitOption = Annotated[int, typer.Option(min=1, max=200, help="At most this many.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the tool's result as JSON.")]
TokenOption = Annotated[
    Path | None,
    typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="Act by this token. Or CALLBOARD_TOKEN."),
]

Answer = dict[str, Any]


async def stand_in(board: Board, project: str | None) -> None:
    """Look at another project of the store. Raises NotFound."""
    if project is not None:
        await board.call("get_project", {"project_id": project})
        board.stands_in(board.repository._replace(known_as=project))


def present(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are given."""
    return {name: value for name, value in arguments.items() if value is not None}


async def _within(
    board: Board, project: str | None, work: Callable[[Board], Awaitable[Answer]]
) -> Answer | Refused:
    try:
        await stand_in(board, project)
        return await work(board)
    except Refused as refusal:
        return refusal


def answer(
    db: Path | None,
    work: Callable[[Board], Awaitable[Answer]],
    *,
    project: str | None = None,
    token: str | None = None,
    as_json: bool,
) -> Answer:
    """What comes of some calls; a refusal ends the command with the exit code 2."""
    return answered(on_board(db, partial(_within, project=project, work=work), token=token), as_json=as_json)


def ask(
    db: Path | None,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    project: str | None = None,
    lead: str | None = None,
    token: str | None = None,
    person: str | None = None,
    as_json: bool,
) -> Answer:
    """What one tool answers, for a person or for whoever is at the command line."""

    async def work(board: Board) -> Answer:
        return await board.call(tool, present(arguments), person=person, crew=lead)

    return answer(db, work, project=project, token=token, as_json=as_json)
