"""`callboard export` and `import`: a whole store as lines of JSON, and what other programs keep."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from callboard import audit, backup, copying, dump
from callboard.cli.backup import said, store_at, tell_restored
from callboard.cli.common import DbOption, fail
from callboard.clock import HostClock
from callboard.unusable import Unusable, refusals

STANDARD = Path("-")


def export(
    file: Annotated[Path, typer.Argument(help="Where it goes; - for standard output.")],
    db: DbOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON. Not with -.")] = False,
) -> None:
    """Write every row of the store as lines of JSON, from one moment, while others work on it."""
    path = store_at(db)
    if not path.exists():
        fail(f"there is no store at {path}.")
    try:
        with refusals(path):
            found = dump.lines(path, HostClock().now())
            if file == STANDARD:
                for line in found:
                    sys.stdout.write(line)
                return
            rows = _write(file.absolute(), found)
    except (Unusable, OSError) as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps({"path": str(file.absolute()), "rows": rows}, ensure_ascii=False))
        return
    typer.echo(f"{file} has {rows} rows. It holds what agents wrote, and hashes of tokens: keep it safe.")


def load(file: Path, db: Path | None, *, as_json: bool) -> None:
    """Make a store of an export."""
    path, clock = store_at(db), HostClock()
    said(f"reading {file} …")
    try:
        with nullcontext(sys.stdin) if file == STANDARD else file.open(encoding="utf-8") as source:
            restored = dump.load(source, path, clock=clock)
        backup.anchor_restored(audit.anchor_file(restored.store_id), restored.path, clock.now())
    except (Unusable, OSError, ValueError) as error:
        fail(str(error))
    tell_restored(restored, as_json=as_json)


def _write(file: Path, lines: Iterator[str]) -> int:
    """Lines into a new file of the owner's alone, which appears when it is whole; how many are rows."""
    if file.exists():
        raise FileExistsError(f"{file} is there already; an export replaces nothing.")
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as target:
            count = 0
            for line in lines:
                target.write(line)
                count += 1
            target.flush()
            os.fsync(target.fileno())
        draft.rename(file)
        copying.sync_folder(file.parent)
    finally:
        draft.unlink(missing_ok=True)
    return count - 2
