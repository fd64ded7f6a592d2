"""What the commands share: the options that name a store, who is at the terminal, how a command ends."""

import json
import os
import pwd
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import anyio
import typer

from callboard.board import Board, Config, open_board
from callboard.errors import Refused
from callboard.signing import Signer
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


async def asked(
    board: Board,
    tool: str,
    arguments: dict[str, Any],
    person: str | None = None,
    signer: Signer | None = None,
) -> dict[str, Any] | Refused:
    """Call a tool, for a person at the terminal if there is one, who may have unlocked a key; a refusal is an
    answer too."""
    try:
        return await board.call(tool, arguments, person=person, signer=signer)
    except Refused as refusal:
        return refusal


def answered(answer: dict[str, Any] | Refused, *, as_json: bool) -> dict[str, Any]:
    """The result of a call. A refusal goes to standard error and ends the command with the exit code 2."""
    if isinstance(answer, Refused):
        refuse(answer, as_json=as_json)
    return answer


def refuse(refusal: Refused, *, as_json: bool) -> NoReturn:
    """End with a refusal on standard error and the exit code 2."""
    if as_json:
        typer.echo(json.dumps({"error": refusal.as_data()}, ensure_ascii=False), err=True)
    else:
        typer.echo(f"callboard: {' '.join(filter(None, (refusal.message, refusal.hint)))}", err=True)
    raise typer.Exit(2)


def need_terminal() -> None:
    """A person is at the terminal, or the command ends: an agent with a shell has pipes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail("this needs a person: a terminal, or a person's token (--token-file).")


def typed(word: str, to_do: str) -> str:
    """Who is at the terminal, by the name of the account, once they have typed a word to do something; or
    the command ends. A program that plays a terminal under the same account is not told from a person."""
    need_terminal()
    if typer.prompt(f"Type {word} {to_do}", default="", show_default=False, err=True).strip() != word:
        fail("not confirmed; nothing was changed.")
    return account()


def account() -> str:
    """Who is at the terminal, by the name of the account."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", pwd.getpwuid(os.getuid()).pw_name).lstrip("._-")[:64]
    return name or str(os.getuid())


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
