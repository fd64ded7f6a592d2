"""`callboard key`: the keys that people sign their answers to decisions with.

The private half stays in a file of the person's own, which their passphrase opens; the store learns the
public half. The passphrase is typed at a terminal, or stands in a file that the person names; it is taken
from no argument and from no variable of the environment.
"""

import getpass
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from callboard import keyfile, signers
from callboard.board import Board
from callboard.cli.common import DbOption, account, answered, fail, on_board, secret_from, typed
from callboard.errors import Refused
from callboard.identity import human_id

app = typer.Typer(
    help="Signing keys of people: make, register, list and revoke them.\n\n"
    "A signed answer to a decision shows that somebody had the key and its passphrase; a typed one does not.",
    no_args_is_help=True,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(help="The key's file. Default: callboard/signing-key.json in your configuration folder."),
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(help="A file whose first line is the passphrase, such as /dev/fd/3. Default: it is asked."),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="Act by a person's token. Or CALLBOARD_TOKEN."),
]


@app.command("create")
def create(
    key_file: KeyFileOption = None,
    passphrase_file: PassphraseOption = None,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and register its public half in the store: at a terminal by typing the account's name, or
    by a person's token."""
    path = key_file or keyfile.default_path()
    token = secret_from(token_file)
    person = typed(account(), "to make a key that signs in this name") if token is None else None

    async def allowed(board: Board) -> list[Path]:
        await board.by_person("register_key", lambda tx, caller: None, person=person)
        return [*board.repository.worktrees(), board.store.info.path.parent]

    places = on_board(db, allowed, token=token)
    if any(path.resolve().is_relative_to(place.resolve()) for place in places):
        fail("the key would stand in the repository or beside the store, which agents read.")
    try:
        if path.exists():
            raise keyfile.Unusable(f"There is a key at {path} already. Name another file with --key-file.")
        keyfile.make(path, _new_passphrase(passphrase_file))
    except keyfile.Unusable as unusable:
        fail(str(unusable))
    typer.echo(f"The key stands in {path}. Without its passphrase it is lost.", err=True)
    _register(path, person, token, db, as_json)


@app.command("register")
def register(
    key_file: KeyFileOption = None,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key that there is known to another store: at a terminal, or by a person's token."""
    token = secret_from(token_file)
    person = typed(account(), "to register a key that signs in this name") if token is None else None
    _register(key_file or keyfile.default_path(), person, token, db, as_json)


@app.command("list")
def list_keys(db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the keys: whose, since when, whether revoked. Keep the JSON elsewhere for `decisions verify`."""

    async def work(board: Board) -> list[dict[str, Any]]:
        return await board.store.read(lambda tx: [key.as_data() for key in tx.all(signers.KEYS)])

    keys = on_board(db, work)
    if as_json:
        typer.echo(json.dumps(keys))
        return
    if not keys:
        typer.echo("There are no signing keys. Make one with: callboard key create")
    for key in keys:
        state = f"revoked {key['revoked_at']}" if key["revoked_at"] else f"since {key['created_at']}"
        typer.echo(f"{key['key_id']}  {key['principal']}  {state}")


@app.command("revoke")
def revoke(
    key_id: str, token_file: TokenOption = None, db: DbOption = None, as_json: JsonOption = False
) -> None:
    """End a key at once: at a terminal by typing its id, or by a person's token. What it has signed counts no
    more either, as whoever has the key can date a signature back."""
    token = secret_from(token_file)
    person = typed(key_id, "to revoke it") if token is None else None

    async def work(board: Board) -> dict[str, Any] | Refused:
        try:
            ended = await board.by_person(
                "revoke_key", lambda tx, _: signers.revoke(tx, key_id), person=person
            )
        except Refused as refusal:
            return refusal
        return {"key_id": key_id, "revoked": ended}

    told = answered(on_board(db, work, token=token), as_json=as_json)
    if as_json:
        typer.echo(json.dumps(told))
    else:
        typer.echo(f"Key {key_id} is revoked." if told["revoked"] else f"Key {key_id} was revoked before.")


def _register(path: Path, person: str | None, token: str | None, db: Path | None, as_json: bool) -> None:
    public = _public_of(path)

    async def work(board: Board) -> dict[str, Any] | Refused:
        try:
            known = await board.by_person(
                "register_key", lambda tx, caller: signers.register(tx, caller, public), person=person
            )
        except Refused as refusal:
            return refusal
        return known.as_data()

    key = answered(on_board(db, work, token=token), as_json=as_json)
    if as_json:
        typer.echo(json.dumps(key))
    else:
        typer.echo(f"The key {key['key_id']} signs for {key['principal']} in this store.")


def _public_of(path: Path) -> bytes:
    try:
        return keyfile.public_of(path)
    except keyfile.Unusable as unusable:
        fail(str(unusable))


# Signing.


def check_key(path: Path, db: Path | None, token: str | None, *, as_json: bool) -> None:
    """End the command where a signature with this key would not be taken, before anybody has typed a
    passphrase in vain."""
    public = _public_of(path)

    async def work(board: Board) -> dict[str, Any] | Refused:
        person = board.principal.agent_id if board.principal else human_id(account())
        try:
            await board.store.read(lambda tx: signers.check(tx, person, public))
        except Refused as refusal:
            return refusal
        return {}

    answered(on_board(db, work, token=token), as_json=as_json)


def unlocked(path: Path, passphrase_file: Path | None) -> keyfile.Unlocked:
    """A person's key, opened with the passphrase that they give; or the command ends."""
    try:
        return keyfile.unlock(path, _passphrase(passphrase_file))
    except keyfile.Unusable as unusable:
        fail(f"{unusable} Nothing was changed.")


def _passphrase(file: Path | None, prompt: str = "Passphrase of the signing key: ") -> str:
    """What a person types without an echo, or has written into a file that they name."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, ValueError):
            fail(f"the passphrase file {file} cannot be read.")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail("the passphrase is typed at a terminal, or stands in a file (--passphrase-file).")
    return getpass.getpass(prompt, stream=sys.stderr)


def _new_passphrase(file: Path | None) -> str:
    passphrase = _passphrase(file, "A passphrase for the key: ")
    if len(passphrase) < keyfile.PASSPHRASE_LENGTH:
        fail(f"a passphrase has at least {keyfile.PASSPHRASE_LENGTH} characters; no key was made.")
    if file is None and _passphrase(None, "The same again: ") != passphrase:
        fail("the two differ; no key was made.")
    return passphrase
