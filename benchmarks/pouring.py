"""Large stores, quickly: one row that a call has written, many times over.

A million calls would take an hour. So the product writes one row by a call, and SQL repeats it with what
must differ (ids, texts), through the store's own triggers and constraints, which fill the full-text indexes
too. The ledger's chain is computed as the product computes it. `whole` says whether the store then holds what
`callboard doctor` and a backup ask of it.
"""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from callboard import connection, integrity
from callboard.domains import history

WORDS = 5_003
"""As many words there are in the texts; the first come a hundred times as often as the last."""


def words(count: int) -> str:
    """SQL for a text of so many words that `n` decides."""
    draws = [f"((n * {7_919 + 2 * place}) + {place * 104_729}) % {WORDS}" for place in range(count)]
    return " || ' ' || ".join(f"'w' || ((({draw}) * (({draw}) + 1)) / {2 * WORDS})" for draw in draws)


def opened(store: Path) -> apsw.Connection:
    """A connection as the product opens them, but one that does not wait for the disk."""
    db = connection.connect(store, durability="normal", should_stop=lambda: False)
    db.pragma("synchronous", "OFF")
    return db


def pour(store: Path, table: str, count: int, differs: Mapping[str, str]) -> None:
    """Repeat the newest row of a table so many times. What differs is SQL of `n`, which goes on from it."""
    with closing(opened(store)) as db, db:
        columns = [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(differs.get(column, f"model.{column}") for column in columns)
        last = db.execute(f"SELECT max(rowid) FROM {table}").get
        db.execute(
            f"WITH RECURSIVE n (n) AS"
            f" (SELECT {last} + 1 UNION ALL SELECT n + 1 FROM n WHERE n < {last} + {count})"
            f" INSERT INTO {table} ({', '.join(columns)})"
            f" SELECT {values} FROM n CROSS JOIN (SELECT * FROM {table} WHERE rowid = {last}) AS model"
        )


def pour_ledger(store: Path, count: int) -> None:
    """Repeat the newest entry of the ledger so many times, each chained to the one before it."""
    with closing(opened(store)) as db, db:
        cursor = db.execute("SELECT * FROM activity_log ORDER BY id DESC LIMIT 1")
        names = [name for name, _ in cursor.get_description()]
        model: dict[str, Any] = dict(zip(names, next(cursor), strict=True))
        previous, first = model["entry_hash"], model["id"] + 1
        hashed = {name: model[name] for name in names if name not in _NOT_HASHED}
        texts = f"SELECT {words(8)} FROM (SELECT ? AS n)"

        def entries() -> Any:
            nonlocal previous
            for seq in range(first, first + count):
                summary = str(reading.execute(texts, (seq,)).get)
                entry = hashed | {"seq": seq, "summary": summary}
                found = history.entry_hash(previous, entry)
                yield entry | {"search_words": "", "prev_hash": previous, "entry_hash": found}
                previous = found

        with closing(apsw.Connection(":memory:")) as reading:
            db.executemany(history.RECORD.sql, entries())


_NOT_HASHED = {"id", "search_words", "prev_hash", "entry_hash"}


def whole(store: Path) -> None:
    """Raises where a store is not as it should be."""
    with closing(opened(store)) as db:
        if broken := integrity.examine(db):
            raise RuntimeError(f"the poured store is not whole: {json.dumps([str(one) for one in broken])}")
