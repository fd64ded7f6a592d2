"""Dumps: every row of every table goes out and comes back as it was."""

import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from callboard import backup, dump, integrity
from callboard.domains import history
from tests.conftest import Board, TurnedClock
from tests.filling import fill
from tests.rows import TOGETHER, put

WORDS = 'naïve “words” \u2028 日本語 \U0001f3ad "\\n"'


@pytest.fixture
async def full(board: Board) -> Path:
    """A store that has rows in every table, written by tools as far as these leave rows behind."""
    await fill(board, lambda text, author: WORDS if not text.most or text.most > 100 else "word")
    [[decision]] = await board.rows("SELECT id FROM decisions WHERE lead_id = 'ann' LIMIT 1")
    await board.call(
        "add_dag_task", agent_id="ann", id="after", role="developer", depends_on=[f"decision:{decision}"]
    )
    await board.settle()
    with closing(board.opened.store.connect(readonly=False)) as db:
        process = db.execute("SELECT process_id FROM _processes LIMIT 1").get
        group = db.execute("SELECT name FROM chat_groups WHERE lead_id = 'ann' LIMIT 1").get
        references = {
            "_agent_processes": {"agent_id": "ben", "process_id": process},
            "_chat_group_leavers": {"group_name": group, "lead_id": "ann"},
            "_role_overrides": {"id": "lead"},
            "_lock_waiters": {"ticket": 1},
            "_lock_waiter_paths": {"ticket": 1},
        }
        counts = integrity.counts(db)
        for table in [*sorted(set(counts) - {"_activity_seals", "_lock_waiter_paths"}), "_lock_waiter_paths"]:
            if not counts[table]:
                put(db, table, **TOGETHER.get(table, {}), **references.get(table, {}))
        counts = integrity.counts(db)
    assert [table for table, count in counts.items() if not count] == ["_activity_seals"]
    return board.opened.store.info.path


def content(path: Path) -> dict[str, list[Any]]:
    """All that a store says, its newest entries found by searches as the older ones are."""
    with closing(apsw.Connection(str(path))) as db:
        db.execute(history.INDEX.sql, {"most": 10_000})
        tables = [*integrity.tables(db), "sqlite_sequence"]
        found: dict[str, list[Any]] = {
            table: db.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables
        }
        for (name,) in db.execute("SELECT name FROM pragma_table_list WHERE type = 'virtual'").fetchall():
            found[str(name)] = db.execute(f"SELECT rowid FROM {name}('naïve OR word')").fetchall()
        return {table: sorted(rows, key=repr) for table, rows in found.items()}


def exported(path: Path) -> str:
    return "".join(dump.lines(path, TurnedClock().now()))


def imported(text: str, path: Path) -> backup.Restored:
    source = io.StringIO(text)
    source.name = "dump.jsonl"
    return dump.load(source, path, clock=TurnedClock())


async def test_an_import_gives_what_a_backup_of_the_same_moment_gives(full: Path, tmp_path: Path) -> None:
    text = exported(full)
    copy = backup.back_up(full, tmp_path / "copy.db")
    backup.restore(copy.path, tmp_path / "restored.db", clock=TurnedClock())

    made = imported(text, tmp_path / "imported.db")

    assert made.replaced is None
    there = content(tmp_path / "imported.db")
    assert there == content(tmp_path / "restored.db")
    empty = {table for table, rows in there.items() if not rows}
    # A restore empties these: nobody waits or listens there any more.
    assert empty == {"_lock_waiters", "_lock_waiter_paths", "_lock_delays", "_events", "_activity_seals"}


async def test_a_dump_of_what_was_imported_is_the_dump_again(full: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.db"
    imported(exported(full), first)
    text = exported(first)
    told = [json.loads(line) for line in text.split("\n")[:-1]]
    with closing(apsw.Connection(str(first))) as db:
        assert told[0]["rows"] == integrity.counts(db)
    assert any(isinstance(value, dict) for row in told[1:-1] for value in row["row"].values()), "bytes"
    assert any(value is None for row in told[1:-1] for value in row["row"].values())
    assert WORDS in {value for row in told[1:-1] for value in row["row"].values() if isinstance(value, str)}


async def test_a_dump_that_is_not_whole_makes_no_store(board: Board, tmp_path: Path) -> None:
    await board.agent("ann")
    lines = exported(board.opened.store.info.path).splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if '"ann"' in line)
    changed = [*lines[:place], lines[place].replace('"ann"', '"bob"'), *lines[place + 1 :]]
    for text, says in (
        ("".join(lines[:-1]), "cut off"),
        ("".join(lines[:5] + lines[6:]), "digest"),
        ("".join(changed), "digest"),
        ("".join([*lines, lines[5]]), "behind the dump's end"),
        ("".join([lines[0].replace('"schema":1', '"schema":99'), *lines[1:]]), "schema version 99"),
        ("{}\n", "not an export"),
        ("words\n", "Line 1"),
        ("", "cut off"),
    ):
        with pytest.raises(dump.BadDump, match=says):
            imported(text, tmp_path / "new.db")
    assert list(tmp_path.glob("*new.db*")) == []


async def test_an_import_replaces_no_store(board: Board) -> None:
    path = board.opened.store.info.path
    with pytest.raises(backup.NotRestored, match="already"):
        imported(exported(path), path)
