"""Connections are hardened, wait their turn, and notice when their file is gone."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from callboard import schema, storefile
from tests.starting import connect, prepare, version_0


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
def test_a_connection_has_the_pragmas_of_the_schema(store: Path, durability: str, level: int) -> None:
    """S8, S9"""
    with closing(connect(store, durability=durability)) as db:
        assert {name: db.pragma(name) for name in schema.PRAGMAS} == {
            "application_id": schema.APPLICATION_ID,
            "user_version": schema.VERSION,
            "auto_vacuum": 2,
            "journal_mode": "wal",
            "foreign_keys": 1,
            "synchronous": level,
            # The busy handler waits instead.
            "busy_timeout": 0,
            "cache_size": -64_000,
            "recursive_triggers": 1,
            "trusted_schema": 0,
            "cell_size_check": 1,
            "temp_store": 2,
            "journal_size_limit": 67_108_864,
        }


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH ':memory:' AS other",
        'SELECT "a string"',
        "DELETE FROM _fts_activity_data",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = ''",
        "SELECT load_extension('x')",
    ],
)
def test_a_connection_is_hardened(db: apsw.Connection, statement: str) -> None:
    """S8"""
    with pytest.raises(apsw.SQLError):
        db.execute(statement)


def test_a_reader_cannot_write(store: Path) -> None:
    with closing(connect(store, readonly=True)) as db, pytest.raises(apsw.ReadOnlyError):
        db.execute("DELETE FROM settings")


def test_a_store_that_was_swapped_for_an_older_one_is_not_opened(path: Path) -> None:
    version_0(path)
    with pytest.raises(storefile.Unavailable, match="Start the server again"):
        connect(path)


def test_a_connection_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(storefile.Unavailable):
        connect(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []


def test_a_writer_waits_until_the_lock_is_free(store: Path, db: apsw.Connection) -> None:
    asked = 0

    def ask() -> bool:
        nonlocal asked
        asked += 1
        if asked == 20:
            db.execute("COMMIT")
        return False

    with closing(connect(store, should_stop=ask)) as other:
        db.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE; ROLLBACK")
    assert asked >= 20


def test_a_waiting_writer_stops_when_it_is_told_to(store: Path, db: apsw.Connection) -> None:
    stop = False
    with closing(connect(store, should_stop=lambda: stop, busy_seconds=3_600)) as other:
        db.execute("BEGIN IMMEDIATE")
        stop = True
        with pytest.raises(apsw.BusyError):
            other.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")


def test_a_waiting_writer_gives_up_in_time(store: Path, db: apsw.Connection) -> None:
    with closing(connect(store, busy_seconds=0.05)) as other:
        db.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(apsw.BusyError):
            other.execute("BEGIN IMMEDIATE")
        assert 0.05 <= time.monotonic() - began < 2
        db.execute("ROLLBACK")


def test_a_store_that_another_keeps_to_itself_is_busy(store: Path) -> None:
    with closing(apsw.Connection(str(store))) as selfish:
        selfish.pragma("locking_mode", "exclusive")
        selfish.execute("BEGIN IMMEDIATE; DELETE FROM settings")
        with pytest.raises(storefile.Busy) as caught:
            connect(store, busy_seconds=0.05)
        assert caught.value.code == "store_busy"


def test_a_file_that_is_deleted_replaced_or_renamed_is_noticed(
    store: Path, db: apsw.Connection, tmp_path: Path
) -> None:
    assert not storefile.has_moved(db)
    away = tmp_path / "away.db"
    store.rename(away)
    assert storefile.has_moved(db)
    prepare(store)
    assert storefile.has_moved(db)
    store.unlink()
    assert storefile.has_moved(db)
    away.rename(store)
    assert not storefile.has_moved(db)
