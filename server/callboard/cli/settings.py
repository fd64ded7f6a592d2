"""`callboard settings`: what people decide for the store as a whole."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from callboard.board import Board
from callboard.cli.common import DbOption, answered, asked, on_board, secret_from, typed
from callboard.domains.projects import SETTINGS

app = typer.Typer(help="Settings of the store: list, read and change them.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(help="The setting's key.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_settings(db: DbOption = None, as_json: JsonOption = False) -> None:
    """List every setting: its value, what it takes, and what it means."""

    async def work(board: Board) -> list[dict[str, Any]]:
        return [await board.call("get_setting", {"key": key}) for key in SETTINGS]

    settings = on_board(db, work)
    if as_json:
        typer.echo(json.dumps(settings, ensure_ascii=False))
        return
    for setting in settings:
        own = "" if setting["value"] == setting["default"] else f" (default {_shown(setting['default'])})"
        typer.echo(f"{setting['key']} = {_shown(setting['value'])}{own}")
        typer.echo(f"    {setting['description']} Takes {setting['allowed']}.")


@app.command("get")
def get(key: KeyArgument, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Print the value of one setting."""
    setting = answered(
        on_board(db, partial(asked, tool="get_setting", arguments={"key": key})), as_json=as_json
    )
    typer.echo(json.dumps(setting, ensure_ascii=False) if as_json else _shown(setting["value"]))


@app.command("set")
def set_one(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(help="Its new value: a word, or JSON.")],
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="Set by a person's token. Or CALLBOARD_TOKEN."),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change one setting, as a person: at a terminal by typing its key, or by a token."""
    token = secret_from(token_file)
    person = typed(key, f"to set it to {value}") if token is None else None
    given = {"key": key, "value": value}
    work = partial(asked, tool="set_setting", arguments=given, person=person)
    changed = answered(on_board(db, work, token=token), as_json=as_json)
    if as_json:
        typer.echo(json.dumps(changed, ensure_ascii=False))
    elif changed["changed"]:
        typer.echo(f"{key} is {_shown(changed['value'])}; it was {_shown(changed['previous'])}.")
    else:
        typer.echo(f"{key} is {_shown(changed['value'])}, as before.")


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
