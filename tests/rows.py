"""Rows of any table, made from what the schema says of it: what the tests of the schema share."""

from __future__ import annotations

import json
import re
from typing import Any

import apsw

from callboard import schema

EXPECTED = schema.expected()
TABLES = [name.removeprefix("table ") for name in EXPECTED if re.match(r"table (?!_fts_)", name)]
# Every CHECK of one column, as table, column and kind: each carries both in its name.
CHECKS: list[tuple[str, str, str]] = [
    (table, *found)
    for table in TABLES
    for found in re.findall(
        r"CONSTRAINT (\w+)_(time|json|values|flag|length|range) CHECK\(", EXPECTED[f"table {table}"]
    )
]
NOW = "2026-11-23T06:00:00.000Z"
Values = dict[str, Any]
# Columns that are legal only together with others.
TOGETHER: dict[str, Values] = {
    "decisions": {"confirmed_by": "human:maria", "assurance": "client", "signature": bytes(74)},
    "_cost_budgets": {"limit_tokens": 1},
}


def _born() -> bytes:
    db = apsw.Connection(":memory:")
    db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    schema.create(db)
    return db.serialize("main")


BORN = _born()


def new_store() -> apsw.Connection:
    """A new store in memory, with the pragmas on which its triggers and references depend."""
    db = apsw.Connection(":memory:")
    db.deserialize("main", BORN)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    for name in ("foreign_keys", "recursive_triggers", "trusted_schema"):
        db.pragma(name, schema.PRAGMAS[name])
    return db


def legal(table: str, column: str, kind: str) -> list[Any]:
    """The legal values of a status or flag column; for other kinds one value of the right form."""
    rule = re.search(rf"CONSTRAINT {column}_{kind} CHECK(\(.*)", EXPECTED[f"table {table}"])
    assert rule is not None
    match kind:
        case "time":
            return [NOW]
        case "json":
            return ["[]" if re.match(r"\([^,]*'array'", rule[1]) else "{}"]
        case "length":
            return [bytes(32)]
        case "range":
            return [0]
    listed = re.match(r"\(\w+ IN\((.*?)\)", rule[1])
    assert listed is not None
    return [json.loads(value.replace("'", '"')) for value in listed[1].split(",")]


def sample(db: apsw.Connection, table: str) -> Values:
    """The least that a row of a table needs."""
    kinds = {column: (column, kind) for owner, column, kind in CHECKS if owner == table}
    numbered = "AUTOINCREMENT" in EXPECTED[f"table {table}"]
    row: Values = {}
    for _, name, affinity, required, default, key, hidden in db.execute(f"PRAGMA table_xinfo('{table}')"):
        if hidden or not (required or key) or default is not None or (key and numbered):
            continue
        if str(name) in kinds:
            row[str(name)] = legal(table, *kinds[str(name)])[0]
        else:
            row[str(name)] = {"TEXT": str(name), "INTEGER": 1, "BLOB": bytes(32)}[str(affinity)]
    return row


def insert(db: apsw.Connection, table: str, values: Values) -> None:
    names = ", ".join(values)
    slots = ", ".join(f":{name}" for name in values)
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({slots})", values)


def put(db: apsw.Connection, table: str, **values: Any) -> None:
    """A row with the given values, and with the least of the others."""
    insert(db, table, sample(db, table) | values)
