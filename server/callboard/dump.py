"""Dumps: a whole store as lines of JSON that any program can read, and back.

The first line tells what it is, then comes one line for each row, and the last line has the digest of all
before it, so that a dump that was cut off or changed is not taken for a whole one. What follows from rows,
the indices and the full text, is made anew on the way back.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import apsw

from callboard import __version__, backup, copying, integrity, schema
from callboard.clock import Clock, utc_text
from callboard.connection import connect
from callboard.unusable import refusals

SEQUENCES = "sqlite_sequence"
"""SQLite's table of the last number of each table: none is given twice, even where its row is gone."""


class BadDump(backup.NotRestored):
    """The file is no whole dump of a store."""


def lines(path: Path, now: datetime) -> Iterator[str]:
    """The dump of the store at `path`, line by line, from one moment. Raises `Unusable` and apsw errors."""
    digest = hashlib.sha256()

    def line(content: dict[str, Any]) -> str:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
        digest.update(text.encode())
        return text

    with closing(connect(path, durability="full", readonly=True, should_stop=lambda: False)) as db:
        db.execute("BEGIN")
        rows = 0
        yield line(
            {
                "callboard": __version__,
                "schema": schema.VERSION,
                "exported_at": utc_text(now),
                "rows": integrity.counts(db),
            }
        )
        for table in [*integrity.tables(db), SEQUENCES]:
            names = _columns(db, table)
            listed = ", ".join(f'"{name}"' for name in names)
            order = ", ".join(str(place) for place in _key(db, table)) or "rowid"
            for row in db.execute(f'SELECT {listed} FROM "{table}" ORDER BY {order}'):
                rows += 1
                yield line({"table": table, "row": {n: _written(v) for n, v in zip(names, row, strict=True)}})
        yield json.dumps({"end": rows, "sha256": digest.hexdigest()}) + "\n"


def load(file: IO[str], path: Path, *, clock: Clock) -> backup.Restored:
    """Make a store at `path` from a dump. It is an earlier store, as after a restore: fences and leases move
    on. Raises `Unusable` where a store is there already, or for anything but a whole dump, and then has
    changed nothing."""
    if path.exists() and path.stat().st_size:
        raise backup.NotRestored(
            f"There is a store at {path} already; an import makes a new one. Name another place with --db."
        )

    def make(draft: Path) -> None:
        copying.make_file(draft)
        with copying.opened(draft) as db:
            db.pragma("auto_vacuum", "incremental")
            db.execute("BEGIN IMMEDIATE")
            schema.create(db)
            _fill(db, file)
            db.execute("COMMIT")
            backup.check(db, Path(file.name))

    with refusals(path):
        return backup.place(path, clock, make)


def _fill(db: apsw.Connection, file: IO[str]) -> None:
    """Every row of a dump into an empty store, as it is: no trigger counts it a second time, and references
    are looked at when all are there."""
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    db.pragma("defer_foreign_keys", True)
    known = {table: _columns(db, table) for table in [*integrity.tables(db), SEQUENCES]}
    for table in known:
        db.execute(f'DELETE FROM "{table}"')
    for table, row in _rows(file, known):
        names = ", ".join(f'"{name}"' for name in row)
        slots = ", ".join(f":{name}" for name in row)
        if table == SEQUENCES:  # the rows themselves have begun it already
            db.execute(f"DELETE FROM {SEQUENCES} WHERE name = :name", row)
        try:
            db.execute(f'INSERT INTO "{table}" ({names}) VALUES ({slots})', row)
        except (apsw.ConstraintError, apsw.MismatchError) as error:
            raise BadDump(f"A row of {table} does not fit: {error}.") from None
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
    for (name,) in db.execute(
        "SELECT name FROM pragma_table_list WHERE type = 'virtual' AND schema = 'main'"
    ).fetchall():
        db.execute(f"INSERT INTO {name} ({name}) VALUES ('rebuild')")


def _rows(file: IO[str], known: dict[str, list[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a dump, which is found to be whole at its last line. Raises BadDump."""
    digest, count, ended = hashlib.sha256(), 0, False
    for number, text in enumerate(file, 1):
        try:
            content = json.loads(text)
            if ended:
                raise BadDump(f"Line {number} stands behind the dump's end.")
            if number == 1:
                _check_head(content)
            elif "end" in content:
                ended = True
                if content != {"end": count, "sha256": digest.hexdigest()}:
                    raise BadDump("The dump is not what was exported: its digest is another.")
            else:
                table, row = content["table"], content["row"]
                if sorted(row) != sorted(known[table]):
                    raise BadDump(f"Line {number} has other columns than {table}.")
                count += 1
                yield table, {name: _read(value) for name, value in row.items()}
        except (KeyError, TypeError, ValueError):
            raise BadDump(f"Line {number} is not a line of a dump.") from None
        digest.update(text.encode())
    if not ended:
        raise BadDump("The dump is cut off: its last line is missing.")


def _check_head(content: dict[str, Any]) -> None:
    if "callboard" not in content:
        raise BadDump("The file is not an export of callboard.")
    if content.get("schema") != schema.VERSION:
        raise BadDump(
            f"The dump is of schema version {content.get('schema')}, and this callboard writes version "
            f"{schema.VERSION}. Import it with the callboard that wrote it ({content['callboard']})."
        )


def _columns(db: apsw.Connection, table: str) -> list[str]:
    """The columns that hold something of their own; what is computed from others is left out."""
    return [
        str(name)
        for name, hidden in db.execute(f"SELECT name, hidden FROM pragma_table_xinfo('{table}')")
        if not hidden
    ]


def _key(db: apsw.Connection, table: str) -> list[int]:
    """The places of the primary key's columns: the order of the rows."""
    keyed = db.execute(f"SELECT pk, cid FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk")
    return [cid + 1 for _, cid in keyed]


def _written(value: Any) -> Any:
    """A value as JSON has it; bytes, which it has not, as an object that no column holds."""
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _read(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
