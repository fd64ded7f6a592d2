"""`callboard backup`, `restore` and `integrity`: a store that can be trusted, and the way back to one."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import apsw
import typer

from callboard import audit, backup, integrity
from callboard.cli.common import DbOption, fail
from callboard.clock import HostClock
from callboard.connection import connect
from callboard.repository import Repository
from callboard.unusable import Unusable, refusals

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def store_at(db: Path | None) -> Path:
    """The store that a command is about: the one that is named, else the repository's."""
    try:
        return db or Repository.find(Path.cwd()).store
    except ValueError as error:
        fail(str(error))


@contextmanager
def reading(path: Path) -> Iterator[apsw.Connection]:
    """A store at one moment, whether servers run on it or not; what is wrong with it ends the command."""
    if not path.exists():
        fail(f"there is no store at {path}.")
    try:
        with (
            refusals(path),
            closing(connect(path, durability="full", readonly=True, should_stop=lambda: False)) as store,
        ):
            store.execute("BEGIN")
            yield store
    except (Unusable, OSError, ValueError) as error:
        fail(str(error))


def said(sentence: str) -> None:
    """Progress, for a person who waits at a terminal."""
    if sys.stderr.isatty():
        typer.echo(sentence, err=True)


def back_up(
    file: Annotated[Path, typer.Argument(help="Where the copy goes. It must not be there yet.")],
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the store while others work on it, and read the copy through."""
    path = store_at(db)
    said(f"copying and checking {path} …")
    try:
        copied = backup.back_up(path, file.absolute())
    except (Unusable, OSError) as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(asdict(copied) | {"path": str(copied.path)}))
    else:
        typer.echo(
            f"{copied.path} has {copied.rows} rows in {copied.bytes} bytes, the ledger up to "
            f"{copied.last_seq}, and is sound."
        )


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the store's place while no server runs. The store that was there is kept beside it."""
    path, clock = store_at(db), HostClock()
    said(f"checking {file} …")
    try:
        restored = backup.restore(file.absolute(), path, clock=clock)
        backup.anchor_restored(audit.anchor_file(restored.store_id), restored.path, clock.now())
    except (Unusable, OSError, ValueError) as error:
        fail(str(error))
    tell_restored(restored, as_json=as_json)


def tell_restored(restored: backup.Restored, *, as_json: bool) -> None:
    """What stands in the store's place now."""
    if as_json:
        replaced = str(restored.replaced) if restored.replaced else None
        typer.echo(json.dumps(asdict(restored) | {"path": str(restored.path), "replaced": replaced}))
        return
    typer.echo(f"{restored.path} holds {restored.rows} rows. Fences go on {backup.FENCE_STEP:,} ahead.")
    if restored.replaced is not None:
        typer.echo(f"The store that was there is {restored.replaced}.")


def check(db: DbOption = None, as_json: JsonOption = False) -> None:
    """Read the whole store: pages, references, schema, and our own rules. Exit code 1 for what is broken."""
    path = store_at(db)
    with reading(path) as store:
        said(f"reading {path} …")
        broken = integrity.examine(store, anchors=anchors_of(store))
    if as_json:
        typer.echo(json.dumps({"path": str(path), "ok": not broken, "broken": [asdict(it) for it in broken]}))
    elif not broken:
        typer.echo(f"{path} is sound.")
    for it in broken if not as_json else ():
        typer.echo(f"{it.rule}: {it.found}")
    if broken:
        raise typer.Exit(1)


def anchors_of(store: apsw.Connection, file: Path | None = None) -> list[audit.Anchor]:
    """The anchors of a store: those in a file, else those that servers have told. Raises ValueError and
    OSError."""
    store_id = store.execute("SELECT value ->> '$' FROM settings WHERE key = 'store.id'").get
    return audit.read_anchors(file or audit.anchor_file(str(store_id)))
