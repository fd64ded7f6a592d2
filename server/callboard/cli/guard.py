"""`callboard guard`: git's hooks that keep an agent from committing what another holds."""

from pathlib import Path
from typing import Annotated

import typer

from callboard.cli.common import fail
from callboard.guards import entry, installing

app = typer.Typer(
    no_args_is_help=True, help="Guard commits and pushes: nobody commits what another agent holds."
)


@app.command()
def install() -> None:
    """Put the guard before each commit and push of this repository, beside the hooks that are there."""
    try:
        for hook, chained in installing.install(Path.cwd()):
            after = ", before the hook that was there" if chained else ""
            typer.echo(f"The guard stands in {hook}{after}.")
    except (installing.NotPlaced, OSError) as error:
        fail(str(error))


@app.command()
def uninstall() -> None:
    """Take the guard out and put back, byte for byte, what was there before."""
    try:
        placed = installing.uninstall(Path.cwd())
    except (installing.NotPlaced, OSError) as error:
        fail(str(error))
    for hook, restored in placed:
        typer.echo(f"{hook} is what it was before." if restored else f"{hook} is gone.")
    if not placed:
        typer.echo("There was no guard.")


@app.command()
def check(
    event: Annotated[str, typer.Argument(help="pre-commit or pre-push.")] = "pre-commit",
    arguments: Annotated[list[str] | None, typer.Argument(help="What git gives its hook.")] = None,
) -> None:
    """Say whether the commit at hand may go ahead. Exit code 3 means no; CALLBOARD_GUARD=off, always yes."""
    entry.check(event, arguments or [])
