"""`callboard prune`: delete what is over and older than the settings keep it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from callboard import retention
from callboard.board import Board
from callboard.cli.backup import JsonOption
from callboard.cli.common import DbOption, fail, on_board, refuse, secret_from, typed
from callboard.errors import Refused


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, and do nothing.")] = False,
    older_than: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Shorten every longer limit to this many days."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="Prune by a person's token. Or CALLBOARD_TOKEN."),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete messages and timers that are over, and seal old ledger entries in a file beside the store."""
    token = secret_from(token_file)
    person = typed("prune", "to delete what is over") if token is None and not dry_run else None

    async def work(board: Board) -> retention.Pruned | Refused | OSError:
        try:
            if dry_run:
                return await retention.look(board.store, older_than)
            return await board.prune(older_than, person=person)
        except (Refused, OSError) as error:
            return error

    done = on_board(db, work, token=token)
    if isinstance(done, OSError):
        fail(str(done))
    if isinstance(done, Refused):
        refuse(done, as_json=as_json)
    if as_json:
        told = {"rows": done.rows, "bytes_before": done.bytes_before, "bytes_after": done.bytes_after}
        typer.echo(json.dumps(told | {"segment": str(done.segment) if done.segment else None}))
        return
    for name, count in done.rows.items():
        typer.echo(f"{count:>8}  {name}{' would go' if dry_run else ''}")
    if not dry_run:
        typer.echo(f"The store has {done.bytes_after} bytes; it had {done.bytes_before}.")
    if done.segment is not None:
        typer.echo(f"The entries are in {done.segment}.")
