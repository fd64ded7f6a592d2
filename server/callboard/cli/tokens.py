"""`callboard token`: who may call over HTTP, or with a token at the start of a stdio server."""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from callboard import identity, text
from callboard.board import Board
from callboard.cli.common import DbOption, fail, on_board, secret_from
from callboard.clock import utc_text
from callboard.params import AGENT_ID

app = typer.Typer(help="Bearer tokens: make, list, rotate and revoke them.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def create(
    agent: Annotated[str | None, typer.Option(help="The agent that the token stands for.")] = None,
    human: Annotated[str | None, typer.Option(help="The person that the token stands for.")] = None,
    scope: Annotated[
        Literal["worker", "lead", "observer"] | None, typer.Option(help="What its holder may do at most.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends, such as 8h or 30d. Default: never.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="For --human: the token of a person who makes it."),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token. It is shown once; the store keeps only its digest.

    A person's token is made by a person: at a terminal, by typing the name, or with another one's token.
    """
    if (agent is None) == (human is None):
        fail("name either --agent or --human.")
    if human is not None and scope is not None:
        fail("a human's token has no other scope.")
    name = agent or human or ""
    if not AGENT_ID.fullmatch(name) or (agent and text.fold_name(name) in identity.RESERVED_LOOKS):
        fail(f"{name!r} cannot be the name of {'an agent' if agent else 'a person'}.")
    try:
        lifetime = timedelta(seconds=text.duration_seconds(expires)) if expires is not None else None
    except ValueError as error:
        fail(str(error))

    maker = secret_from(token_file) if human else None
    if human is not None and maker is None:
        _confirm(name)

    async def work(board: Board) -> str:
        if maker is not None and (board.principal is None or board.principal.kind != "human"):
            raise ValueError("the token given is not a person's; no token was made.")
        return await board.issue_token(
            kind="agent" if agent else "human",
            name=name,
            scope=(scope or "worker") if agent else "human",
            lifetime=lifetime,
        )

    token = on_board(db, work, token=maker)
    typer.echo(json.dumps({"token": token}) if as_json else token)


def _confirm(name: str) -> None:
    """A person is at the terminal, or the command ends: an agent with a shell has pipes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail("a person's token is made at a terminal, or with another person's token (--token-file).")
    typer.echo(f"Whoever has this token may do as {name} what only people may.", err=True)
    if typer.prompt(f"Type {name} to make it", default="", show_default=False, err=True) != name:
        fail("not confirmed; no token was made.")


@app.command("list")
def list_tokens(db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the tokens: for whom, until when, whether revoked."""

    async def work(board: Board) -> list[dict[str, Any]]:
        rows = await board.store.read(lambda tx: tx.all(identity.CREDENTIALS))
        return [
            {
                "key_id": row.key_id,
                "kind": row.kind,
                "principal": row.principal,
                "scope": row.scope,
                "created_at": row.created_at,
                "expires_at": utc_text(identity.from_unix_ms(row.expires_unix_ms))
                if row.expires_unix_ms
                else None,
                "revoked_at": row.revoked_at,
            }
            for row in rows
        ]

    tokens = on_board(db, work)
    if as_json:
        typer.echo(json.dumps(tokens))
        return
    if not tokens:
        typer.echo("There are no tokens. Make one with: callboard token create --agent ID")
    for token in tokens:
        state = (
            f"revoked {token['revoked_at']}"
            if token["revoked_at"]
            else f"until {token['expires_at'] or 'revoked'}"
        )
        typer.echo(f"{token['key_id']}  {token['kind']:5}  {token['principal']}  {token['scope']}  {state}")


@app.command("revoke")
def revoke(key_id: str, db: DbOption = None, as_json: JsonOption = False) -> None:
    """End a token at once, for connections that are open too."""

    async def work(board: Board) -> bool:
        return await board.revoke_token(key_id)

    ended = on_board(db, work)
    if as_json:
        typer.echo(json.dumps({"key_id": key_id, "revoked": ended}))
        return
    typer.echo(f"Token {key_id} is revoked." if ended else f"Token {key_id} was revoked before.")


@app.command("rotate")
def rotate(
    key_id: str,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="To rotate a person's: the token of a person."),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a new token in the place of one, with the same rights and end. The old one ends at once."""

    async def work(board: Board) -> str:
        return await board.rotate_token(key_id)

    token = on_board(db, work, token=secret_from(token_file))
    typer.echo(json.dumps({"token": token}) if as_json else token)
