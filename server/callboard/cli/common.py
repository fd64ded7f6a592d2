"""What the commands share: the options that name a store, and how a command ends badly."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import anyio
import typer

from callboard.board import Board, Config, open_board
from callboard.errors import Refused
from callboard.storefile import Unusable

DbOption = Annotated[
    Path | None,
    typer.Option(
        "--db",
        envvar="CALLBOARD_DB",
        help="The store's file. Default: .callboard/board.db in the repository.",
    ),
]


def fail(message: str) -> NoReturn:
    """End with a sentence on standard error and the exit code 1."""
    typer.echo(f"callboard: {message}", err=True)
    raise typer.Exit(1)


def on_board(
    db: Path | None,
    work: Callable[[Board], Awaitable[Any]],
    *,
    agent: str | None = None,
    token: str | None = None,
) -> Any:
    """Open the store for one piece of work, as an agent or by a token, else as the operator, who only
    reads. A store that cannot be used ends the command."""

    async def run() -> Any:
        config = Config(db=db, transport="cli", agent=agent, token=token)
        async with open_board(config) as board, anyio.create_task_group() as tasks:
            tasks.start_soon(board.feed.poll)  # a tool that waits is woken by other processes
            answer = await work(board)
            tasks.cancel_scope.cancel()
        return answer

    try:
        return anyio.run(run)
    except* (Unusable, ValueError, Refused) as group:
        message = str(first_of(group))
    fail(message)


def first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    """The first single exception of a group: what a person is told."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def secret_from(token_file: Path | None) -> str | None:
    """The token in a file, else the one in the environment, which it leaves: no child inherits it."""
    inherited = os.environ.pop("CALLBOARD_TOKEN", None)
    if token_file is None:
        return inherited
    try:
        return token_file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        fail(f"the token file {token_file} cannot be read.")
