"""A filled store and the harms that befall files: by name, and by the byte.

A harm is given the folder of a sound store and changes its files; what a store held before is `truth`.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from callboard import integrity, schema
from callboard.board import Config, open_board
from tests.conftest import Board, Counted, TurnedClock
from tests.filling import Filled, fill
from tests.starting import crashed, prepare

PAGE = 4_096
LEAF, INTERIOR = 13, 5
"""What a page of a table begins with (https://sqlite.org/fileformat.html#b_tree_pages)."""

Rows = dict[str, list[tuple[Any, ...]]]


async def filled_store(folder: Path) -> tuple[bytes, Filled]:
    """The bytes of a store in which every tool has written, with pages of each kind; and what was written."""
    clock = TurnedClock()
    config = Config(folder=folder, db=folder / "board.db", transport="http")
    async with open_board(config, clock=clock, ids=Counted()) as opened:
        filled = await fill(Board(opened, clock, folder), lambda text, who: f"words of {who}"[: text.most])
        for number in range(200):  # so that a table and an index are deeper than one page
            note = {"agent_id": "ben", "action_type": "note", "summary": f"note {number}: " + "x" * 150}
            await opened.call("log_activity", note)
        long = {"agent_id": "ben", "to": "ann", "content": "long words " * 1_500}  # spills to further pages
        await opened.call("send_message", long)
    with closing(apsw.Connection(str(folder / "board.db"))) as db:
        # A table that comes and goes leaves free pages behind.
        db.execute("CREATE TABLE spare (x); INSERT INTO spare VALUES (zeroblob(40_000)); DROP TABLE spare")
        assert int(db.pragma("freelist_count")) > 5
        assert integrity.examine(db) == []
    return (folder / "board.db").read_bytes(), filled


def truth(path: Path) -> Rows:
    """Every row of every table of the data model, in the order of their keys."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return {
            table: sorted(db.execute(f'SELECT * FROM "{table}"'), key=repr) for table in integrity.tables(db)
        }


def broken(path: Path) -> list[integrity.Broken]:
    """What the daily reading through finds."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return integrity.examine(db)


def differences(found: Rows, wanted: Rows) -> list[str]:
    """Where the rows of a store are not the true ones: the columns of a table that differ in a row, or that
    the row is missing, or that there is one too many."""
    told: list[str] = []
    for table in found.keys() | wanted.keys():
        have, want = found.get(table, []), wanted.get(table, [])
        if have == want:
            continue
        lost = [row for row in want if row not in have]
        new = [row for row in have if row not in want]
        if len(lost) == len(new) and len(have) == len(want):
            for old, changed in zip(lost, new, strict=True):
                places = [n for n, pair in enumerate(zip(old, changed, strict=True)) if pair[0] != pair[1]]
                told.append(f"{table}: {len(places)} of a row")
        elif lost or new or len(have) != len(want):
            told.append(f"{table}: {len(lost)} lost, {len(new)} new")
    return told


# --- harms by name ------------------------------------------------------------------------------------------

Harm = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way in which a store comes to harm, and what starting on it then says."""

    name: str
    harm: Harm
    code: str | None
    """The refusal; None where the store works, with every row that it had."""


def recipes() -> Iterator[Recipe]:
    for size in (1, 16, 99):
        yield Recipe(f"cut to {size} bytes", _cut_to(size), "store_corrupt")
    yield Recipe("cut after the header", _cut_to(100), "store_corrupt")
    yield Recipe("cut to one page", _cut_to(PAGE), "store_corrupt")
    yield Recipe("cut inside a page", _cut(lambda whole: whole // 2 + 100), "store_corrupt")
    yield Recipe("its last page gone", _cut(lambda whole: whole - PAGE), "store_corrupt")
    yield Recipe("emptied beside its log", _emptied_beside_its_log, "store_corrupt")
    yield Recipe("another first word", _bytes_at(0, b"SQLite format 4\0"), "store_corrupt")
    yield Recipe("no size of pages", _bytes_at(16, b"\x12\x34"), "store_corrupt")
    yield Recipe("a newer form of file", _bytes_at(18, b"\x09\x09"), "store_corrupt")
    yield Recipe("another encoding of texts", _bytes_at(56, b"\0\0\0\x02"), "store_corrupt")
    yield Recipe("the id of another program", _bytes_at(68, b"CBXX"), "store_unavailable")
    yield Recipe("a newer version", _bytes_at(60, (schema.VERSION + 1).to_bytes(4, "big")), "schema_too_new")
    yield Recipe("a free list that leads nowhere", _bytes_at(32, b"\x7f\xff\xff\xff"), "store_corrupt")
    yield Recipe("a free page that is a table's", _free_page_in_use, "store_corrupt")
    yield Recipe("a spoiled schema", _page(lambda path: 1, offset=100), "store_corrupt")
    yield Recipe("a spoiled root", _page(lambda path: _root(path, "activity_log")), "store_corrupt")
    yield Recipe("a spoiled inner page", _page(lambda path: _inner(path, INTERIOR)), "store_corrupt")
    yield Recipe("a spoiled leaf", _page(lambda path: _inner(path, LEAF)), "store_corrupt")
    yield Recipe("a spoiled map of pages", _page(lambda path: 2), "store_corrupt")
    yield Recipe("a page twice", _doubled_page, "store_corrupt")
    lost = "DELETE FROM settings WHERE key = 'store.fence';"
    fence = f"{lost} INSERT INTO settings (key, value) VALUES ('store.fence', "
    yield Recipe("no table", _statement("DROP TABLE _events"), "store_corrupt")
    yield Recipe("no index", _statement("DROP INDEX idx_decisions_status"), "store_corrupt")
    yield Recipe("no trigger", _statement("DROP TRIGGER _activity_log_keeps_rows"), "store_corrupt")
    yield Recipe("no fence", _statement(lost), "store_corrupt")
    yield Recipe("a fence in words", _statement(f"{fence} '\"none\"')"), "store_corrupt")
    yield Recipe("a fence that overflows", _statement(f"{fence} '{2**63 - 1}')"), "store_corrupt")
    form = "UPDATE _fts_activity_config SET v = 0 WHERE k = 'version'"
    yield Recipe("an index of words in no known form", _statement(form), "store_corrupt")
    spelt = "UPDATE sqlite_schema SET sql = replace(sql, ' IS strftime(', ' IS sxrftime(')"
    misspelt = f"PRAGMA writable_schema = ON; {spelt} WHERE name = 'activity_log'"
    yield Recipe("a schema with a word in it that is none", _statement(misspelt), "store_corrupt")
    yield Recipe("a link in its place", _linked, "store_unavailable")
    yield Recipe("a stale index of the log", _beside("-shm", b"\xa5" * 32_768), None)
    yield Recipe("a log of noise", _beside("-wal", b"\x5a" * 100_000), None)
    yield Recipe("a log of another store", _foreign_log, "store_corrupt")
    yield Recipe("a journal of noise", _beside("-journal", b"\x11" * 10_000), None)
    yield Recipe("a journal of our own", _hot_journal, None)


def _cut(to: Callable[[int], int]) -> Harm:
    return lambda path: os.truncate(path, to(path.stat().st_size))


def _cut_to(size: int) -> Harm:
    return _cut(lambda whole: size)


def _bytes_at(offset: int, written: bytes) -> Harm:
    def harm(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(written)

    return harm


def _page(which: Callable[[Path], int], offset: int = 0) -> Harm:
    """Noise in a whole page, but for its first bytes."""
    return lambda path: _bytes_at(
        (which(path) - 1) * PAGE + offset, random.Random(7).randbytes(PAGE - offset)
    )(path)


def _statement(sql: str) -> Harm:
    def harm(path: Path) -> None:
        with closing(apsw.Connection(str(path))) as db:
            db.execute(sql)

    return harm


def _beside(suffix: str, content: bytes) -> Harm:
    return lambda path: _put(path.with_name(path.name + suffix), content)


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _root(path: Path, table: str) -> int:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return int(db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get)


def _inner(path: Path, kind: int) -> int:
    """A page of a table of this kind, from the middle of the file."""
    content = path.read_bytes()
    numbers = [at // PAGE + 1 for at in range(2 * PAGE, len(content), PAGE) if content[at] == kind]
    return numbers[len(numbers) // 2]


def _free_page_in_use(path: Path) -> None:
    _bytes_at(32, _root(path, "activity_log").to_bytes(4, "big"))(path)


def _doubled_page(path: Path) -> None:
    """A leaf over the next one of the same table's kind, as a disk does that writes to the wrong place."""
    content = path.read_bytes()
    one = _inner(path, LEAF) - 1
    other = next(n for n in range(one + 1, len(content) // PAGE) if content[n * PAGE] == LEAF)
    _bytes_at(other * PAGE, content[one * PAGE : (one + 1) * PAGE])(path)


def _linked(path: Path) -> None:
    path.rename(path.with_name("real.db"))
    path.symlink_to("real.db")


def _emptied_beside_its_log(path: Path) -> None:
    for name, content in crashed(path, "UPDATE settings SET updated_by = 'x'").items():
        _put(path.with_name(name), content)
    os.truncate(path, 0)


def _foreign_log(path: Path) -> None:
    """The log of an empty store that was killed, as a careless copy of files leaves it."""
    folder = path.with_name("other")
    folder.mkdir()
    prepare(folder / "board.db")
    left = crashed(folder / "board.db", "UPDATE settings SET updated_by = 'x'")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    _put(path.with_name("board.db-wal"), left["board.db-wal"])


def _hot_journal(path: Path) -> None:
    """A change that was cut short in the middle, with what takes it back; as on a network's file system."""
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("journal_mode", "delete")
        db.pragma("cache_size", 1)
        db.execute("BEGIN; DELETE FROM _request_keys; DELETE FROM _events")
        db.cache_flush()
        changed, journal = path.read_bytes(), path.with_name("board.db-journal").read_bytes()
        db.execute("ROLLBACK")
    _put(path, changed)
    _put(path.with_name("board.db-journal"), journal)
