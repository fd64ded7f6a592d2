"""The data model: everything the schema reference demands is there, and bad values find no way in."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from callboard import schema, schemapage
from callboard.clock import utc_text
from tests.rows import (
    CHECKS,
    EXPECTED,
    TABLES,
    TOGETHER,
    insert,
    legal,
    new_store,
    put,
    sample,
)

ROOT = Path(__file__).resolve().parents[1]
REFERENCE: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("data").joinpath("schema_reference.json").read_text(encoding="utf-8")
)


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    with closing(new_store()) as connection:
        yield connection


@pytest.fixture
def bare(db: apsw.Connection) -> apsw.Connection:
    """A store whose rows need no parents, to try one column at a time."""
    db.pragma("foreign_keys", False)
    return db


# --- the reference ------------------------------------------------------------------------------------------


def test_the_reference_knows_24_tables() -> None:
    assert len(REFERENCE) == 24
    assert {name for name in TABLES if not name.startswith("_")} == set(REFERENCE)


@pytest.mark.parametrize("table", REFERENCE)
def test_a_table_has_the_columns_of_the_reference_in_their_order(db: apsw.Connection, table: str) -> None:
    found = []
    for _, name, affinity, required, default, _, _ in db.execute(f"PRAGMA table_xinfo('{table}')"):
        if default is not None and "strftime" in str(default):
            default = "now"
        found.append({"name": name, "type": affinity, "null": not required, "default": default})
    wanted = [
        {key: column[key] for key in ("name", "type", "null", "default")}
        for column in REFERENCE[table]["columns"]
    ]
    assert found[: len(wanted)] == wanted


@pytest.mark.parametrize("table", REFERENCE)
def test_a_table_has_the_keys_and_indexes_of_the_reference(db: apsw.Connection, table: str) -> None:
    keys = db.execute(f"SELECT name FROM pragma_table_xinfo('{table}') WHERE pk > 0 ORDER BY pk").fetchall()
    assert [name for (name,) in keys] == REFERENCE[table]["primary_key"]
    for index, wanted in REFERENCE[table]["indexes"].items():
        unique, partial = db.execute(
            "SELECT [unique], partial FROM pragma_index_list(?) WHERE name = ?", (table, index)
        ).get
        columns = db.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (index,)).fetchall()
        assert ([name for (name,) in columns], bool(unique)) == (wanted["columns"], wanted["unique"])
        assert not partial
    for column, target, there in REFERENCE[table]["foreign_keys"]:
        found = db.execute(f"SELECT [from], [table], [to] FROM pragma_foreign_key_list('{table}')").fetchall()
        assert (column, target, there) in found
    for column in REFERENCE[table]["columns"]:
        if column.get("autoincrement"):
            assert "AUTOINCREMENT" in EXPECTED[f"table {table}"]


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        (table, column["name"], column["values"])
        for table, entry in REFERENCE.items()
        for column in entry["columns"]
        if "values" in column
    ],
)
def test_a_status_column_takes_exactly_the_values_of_the_reference(
    table: str, column: str, values: list[str]
) -> None:
    kind = "flag" if set(values) == {"0", "1"} else "values"
    assert sorted(str(value) for value in legal(table, column, kind)) == sorted(values)


# --- what holds for every table -----------------------------------------------------------------------------


def test_every_table_is_strict(db: apsw.Connection) -> None:
    loose = db.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT strict"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    assert loose == []


@pytest.mark.parametrize("table", TABLES)
def test_every_check_has_a_name_and_every_time_and_flag_has_a_check(db: apsw.Connection, table: str) -> None:
    sql = EXPECTED[f"table {table}"]
    assert len(re.findall(r"\bCHECK\(", sql)) == len(re.findall(r"CONSTRAINT \w+ CHECK\(", sql))
    checked = {(column, kind) for owner, column, kind in CHECKS if owner == table}
    for _, name, affinity, *_ in db.execute(f"PRAGMA table_xinfo('{table}')"):
        if affinity == "TEXT" and (str(name).endswith("_at") or name == "timestamp"):
            assert (name, "time") in checked
        if str(name).endswith(("_ms", "_count")):
            assert affinity == "INTEGER"


@pytest.mark.parametrize(("table", "column", "kind"), CHECKS)
def test_a_bad_value_is_refused_by_the_check_of_its_column(
    bare: apsw.Connection, table: str, column: str, kind: str
) -> None:
    row = sample(bare, table) | TOGETHER.get(table, {})
    good = legal(table, column, kind)
    bad: dict[str, list[Any]] = {
        "time": ["2026-11-23T06:00:00Z", "2026-11-23 06:00:00.000", "2026-02-30T06:00:00.000Z", "", "soon"],
        "json": ["{", "", "[1,]", "'x'"],
        "values": ["", "no such value", "PENDING"],
        "flag": [2, -1],
        "length": [bytes(31), b""],
        "range": [-1],
    }
    if good == ["[]"]:
        bad["json"] += ["{}", "1"]
    for value in bad[kind]:
        with pytest.raises(apsw.ConstraintError, match=f"{column}_{kind}"):
            insert(bare, table, row | {column: value})
    for number, value in enumerate(good):
        # What is filled with its own name or with 1 may be a key, and must differ from row to row.
        fresh = {
            name: f"{old}{number}" if old == name else number + 10
            for name, old in row.items()
            if old in (name, 1)
        }
        insert(bare, table, row | fresh | {column: value})


def references() -> list[tuple[str, str]]:
    with_keys = [name for name in TABLES if "REFERENCES" in EXPECTED[f"table {name}"]]
    return [
        (name, target)
        for name in with_keys
        for target in dict.fromkeys(re.findall(r"REFERENCES (\w+)", EXPECTED[f"table {name}"]))
    ]


def test_a_row_that_means_nothing_without_another_refers_to_it() -> None:
    assert set(references()) == {
        ("active_delegations", "agent_roster"),
        ("_agent_processes", "agent_roster"),
        ("_agent_processes", "_processes"),
        ("_role_overrides", "roles"),
        ("_lock_waiter_paths", "_lock_waiters"),
        ("message_queue", "chat_group_messages"),
        ("messages", "conversations"),
        ("chat_group_members", "chat_groups"),
        ("_chat_group_leavers", "chat_groups"),
        ("chat_group_messages", "chat_groups"),
        ("decisions", "decisions"),
        ("_task_edges", "dag_tasks"),
        ("_task_decisions", "decisions"),
        ("_task_decisions", "dag_tasks"),
        ("_task_transitions", "dag_tasks"),
        ("_task_results", "dag_tasks"),
        ("project_sessions", "projects"),
    }


@pytest.mark.parametrize(("table", "target"), references())
def test_a_row_that_refers_to_nothing_is_refused(db: apsw.Connection, table: str, target: str) -> None:
    rows = db.execute(
        f"SELECT id, [from] FROM pragma_foreign_key_list('{table}') WHERE [table] = ?", (target,)
    )
    columns = {str(column): "nobody" for _, column in rows.fetchall()}
    row = sample(db, table) | TOGETHER.get(table, {}) | columns
    for name, affinity in db.execute(f"SELECT name, type FROM pragma_table_xinfo('{table}')").fetchall():
        if name in columns and affinity == "INTEGER":
            row[str(name)] = 4711
    if table == "_task_edges":
        row["dep_id"] = "somebody"
    # Deferred, so that the other references of the row do not speak first.
    db.execute("BEGIN; PRAGMA defer_foreign_keys = ON")
    insert(db, table, row)
    broken = {str(found[2]) for found in db.execute(f"PRAGMA foreign_key_check('{table}')").fetchall()}
    assert target in broken
    with pytest.raises(apsw.ConstraintError, match="FOREIGN KEY"):
        db.execute("COMMIT")
    db.execute("ROLLBACK")


def test_every_millisecond_is_a_legal_time(db: apsw.Connection) -> None:
    chance = random.Random(7)
    begin = datetime(1970, 1, 1, tzinfo=UTC)
    for _ in range(2_000):
        text = utc_text(begin + timedelta(milliseconds=chance.randrange(4_102_444_800_000)))
        db.execute("UPDATE settings SET updated_at = ? WHERE key = 'store.fence'", (text,))


def test_a_default_time_is_now_in_the_one_format(db: apsw.Connection) -> None:
    put(db, "_crews", lead_id="lead-1")
    text = db.execute("SELECT created_at FROM _crews").get
    assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(minutes=1)
    assert len(text) == 24


# --- the module ---------------------------------------------------------------------------------------------


def test_pragmas_come_from_the_file_with_the_references_five_among_them() -> None:
    wanted = {
        "journal_mode": "WAL",
        "foreign_keys": "ON",
        "synchronous": "FULL",
        "busy_timeout": "5000",
        "cache_size": "-64000",
    }
    assert {name: schema.PRAGMAS[name] for name in wanted} == wanted
    assert (ROOT / "schema.sql").read_text(encoding="utf-8").count("\nPRAGMA ") == len(schema.PRAGMAS)


def test_a_new_store_is_what_the_file_says(db: apsw.Connection) -> None:
    assert schema.normalised(db) == EXPECTED
    assert (db.pragma("application_id"), db.pragma("user_version")) == (schema.APPLICATION_ID, schema.VERSION)
    assert db.pragma("integrity_check") == "ok"


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX idx_decisions_status",
        "DROP TRIGGER _activity_log_keeps_rows",
        "ALTER TABLE roles ADD COLUMN shape TEXT",
        "CREATE TRIGGER planted AFTER INSERT ON roles BEGIN DELETE FROM roles; END",
    ],
)
def test_a_changed_schema_is_noticed(db: apsw.Connection, change: str) -> None:
    db.execute(change)
    assert schema.normalised(db) != EXPECTED
    assert len(schema.drift(db)) == 1


def test_layout_and_comments_are_no_difference(db: apsw.Connection) -> None:
    respelt = apsw.Connection(":memory:")
    for statement in schema.statements():
        respelt.execute(re.sub(r"--[^\n]*", "", statement).replace("\n", "\n\t "))
    assert schema.normalised(respelt) == EXPECTED
    assert schema.drift(respelt) == []


def test_the_schema_page_is_what_the_file_gives() -> None:
    page = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")
    assert page == schemapage.markdown(), "docs/schema.md has drifted: write it anew from schema.sql"


def test_the_schema_page_names_every_column_index_and_trigger(db: apsw.Connection) -> None:
    page = schemapage.markdown()
    for kind, name, table in db.execute(
        "SELECT type, name, tbl_name FROM sqlite_schema WHERE sql IS NOT NULL"
    ):
        if not re.match(r"sqlite_|_fts_\w+_(data|idx|docsize|config|content)$", str(name)):
            section = page.split(f"### {table}\n")[1].split("\n### ")[0]
            assert kind in ("table", "view") or f"`{name}`" in section, name
    for table in TABLES:
        section = page.split(f"### {table}\n")[1].split("\n### ")[0]
        for (column,) in db.execute(f"SELECT name FROM pragma_table_xinfo('{table}')").fetchall():
            assert f"| `{column}` |" in section, (table, column)
