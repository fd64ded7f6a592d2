"""`callboard audit`: whether the ledger is what was written."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from callboard import audit
from callboard.cli.backup import JsonOption, anchors_of, reading, store_at
from callboard.cli.common import DbOption, fail

app = typer.Typer(help="The ledger: whether it is what was written.", no_args_is_help=True)


@app.command("verify")
def verify(
    anchor: Annotated[
        Path | None,
        typer.Option(help="A file of anchors. Default: what servers have told to the user's state folder."),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the ledger's chain and compare it with its anchors. Exit code 1 where it does not hold."""
    if anchor is not None and not anchor.exists():
        fail(f"there is no file of anchors at {anchor}.")
    with reading(store_at(db)) as store:
        verdict = audit.verify(store, anchors_of(store, anchor))
    if as_json:
        typer.echo(json.dumps(asdict(verdict) | {"ok": verdict.sound}))
    elif verdict.problem is None:
        beside = f"anchors that agree: {verdict.anchors}" if verdict.anchors else "no anchors to compare with"
        typer.echo(f"{verdict.entries} entries up to {verdict.last_seq} hold together; {beside}.")
    else:
        typer.echo(f"The ledger cannot be trusted from {verdict.first_bad} on: {verdict.problem}.")
    if not verdict.sound:
        raise typer.Exit(1)
