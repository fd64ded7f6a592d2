"""Every reason not to use a store has its own sentence at start-up and its own words inside a call."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from callboard import schema, storefile
from tests.starting import answer, child, connect, crashed, files, prepare, refused

# --- at start-up --------------------------------------------------------------------------------------------


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere" / "board.db", storefile.FolderMissing, "does not exist")
    refused(tmp_path / "nowhere" / ".callboard" / "board.db", storefile.FolderMissing, "does not exist")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real.db").touch()
    (tmp_path / "linked.db").symlink_to("real.db")
    (tmp_path / "dangling.db").symlink_to("gone.db")
    (tmp_path / "folder.db").mkdir()
    os.mkfifo(tmp_path / "pipe.db")
    refused(tmp_path / "linked.db", storefile.NotAFile, "symbolic link")
    refused(tmp_path / "dangling.db", storefile.NotAFile, "symbolic link")
    refused(tmp_path / "folder.db", storefile.NotAFile, "not a regular file")
    refused(tmp_path / "pipe.db", storefile.NotAFile, "not a regular file")
    assert (tmp_path / "real.db").read_bytes() == b""
    assert not (tmp_path / "gone.db").exists()


def test_a_callboard_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".callboard").symlink_to("elsewhere")
    refused(tmp_path / ".callboard" / "board.db", storefile.NotAFile, "symbolic link")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_callboard_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".callboard").touch()
    refused(tmp_path / ".callboard" / "board.db", storefile.NotAFile, "not a folder")


@pytest.mark.parametrize("content", [b"hello", b"x" * 5_000, bytes(4_096), b"SQLite format 3"])
def test_what_is_no_database_is_refused_and_not_touched(path: Path, content: bytes) -> None:
    """S14"""
    path.write_bytes(content)
    refusal = refused(path, storefile.NotADatabase, "not an SQLite database")
    assert refusal.code == "store_corrupt"
    assert files(path.parent) == {"board.db": content}


def foreign(path: Path, mode: str) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("journal_mode", mode)
        db.execute("CREATE TABLE things (name TEXT)")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_of_another_program_is_refused_and_not_touched(path: Path, mode: str) -> None:
    foreign(path, mode)
    before = files(path.parent)
    refusal = refused(path, storefile.ForeignFile, "another program")
    assert refusal.code == "store_unavailable"
    assert files(path.parent) == before


AS_NOBODY = """
if os.getuid() == 0: os.setuid(65534)
try: prepare(sys.argv[1])
except storefile.Unusable as refusal: print(type(refusal).__name__, refusal.code, refusal)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


def test_a_read_only_folder_is_refused(open_folder: Path) -> None:
    (open_folder / "sub").mkdir()
    (open_folder / "sub").chmod(0o555)
    told = answer(child(AS_NOBODY, open_folder / "sub" / "board.db"))
    assert told.startswith("FolderReadOnly store_unavailable")
    assert "cannot be written" in told
    told = answer(child(AS_NOBODY, open_folder / "sub" / ".callboard" / "board.db"))
    assert told.startswith("FolderReadOnly store_unavailable")
    assert list((open_folder / "sub").iterdir()) == []


def test_a_file_that_may_not_be_written_is_refused(open_folder: Path) -> None:
    path = open_folder / "sub" / "board.db"
    path.parent.mkdir()
    prepare(path)
    path.parent.chmod(0o777)
    path.chmod(0o444)
    before = files(path.parent)
    assert answer(child(AS_NOBODY, path)).startswith("FileReadOnly store_unavailable")
    assert files(path.parent) == before


def test_a_disk_that_takes_no_more_is_refused_and_later_used(path: Path) -> None:
    limited = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try: prepare(sys.argv[1])
except storefile.Unusable as refusal: print(type(refusal).__name__)
"""
    assert answer(child(limited, path)) == "Unavailable"
    assert prepare(path).created


def test_a_newer_store_is_refused_and_not_touched(store: Path) -> None:
    """S11"""
    before = crashed(store, f"PRAGMA user_version = {schema.VERSION + 1}")
    refusal = refused(store, storefile.NewerSchema, f"version {schema.VERSION + 1}")
    assert refusal.code == "schema_too_new"
    assert str(schema.VERSION) in str(refusal)
    assert {name: content for name, content in files(store.parent).items() if name in before} == before
    with pytest.raises(storefile.NewerSchema):
        connect(store)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5 * 4_096 : 6 * 4_096] = b"\x5a" * 4_096
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def spoil_a_name(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b"CREATE INDEX idx_decisions_status") == 1
    path.write_bytes(
        content.replace(b"CREATE INDEX idx_decisions_status", b"CREATE INDEX idx_decisions_st\xff\xfeus")
    )


@pytest.mark.parametrize("harm", [damage, cut, spoil_a_name])
def test_a_damaged_store_is_refused_and_not_touched(store: Path, harm: Callable[[Path], None]) -> None:
    """S14"""
    harm(store)
    before = files(store.parent)
    refusal = refused(store, storefile.Damaged, "restore a backup")
    assert refusal.code == "store_corrupt"
    assert files(store.parent) == before


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("DROP INDEX idx_decisions_status", "index idx_decisions_status"),
        ("DROP TABLE _events", "table _events"),
        ("CREATE TRIGGER planted AFTER INSERT ON roles BEGIN DELETE FROM roles; END", "trigger planted"),
    ],
)
def test_a_store_with_another_schema_is_refused(store: Path, change: str, name: str) -> None:
    with closing(apsw.Connection(str(store))) as db:
        db.execute(change)
    refused(store, storefile.Damaged, name)


def test_a_store_that_lost_its_id_is_refused(store: Path) -> None:
    with closing(connect(store)) as db:
        db.execute("DELETE FROM settings WHERE key = 'store.id'")
    refused(store, storefile.Damaged, "store.id")


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.53.0", True),
        ("4.0", True),
    ],
)
def test_an_sqlite_that_can_damage_a_shared_store_is_refused(version: str, sound: bool) -> None:
    """S1"""
    if sound:
        storefile._check_library(version)
    else:
        with pytest.raises(storefile.OldSQLite, match=re.escape(version)):
            storefile._check_library(version)


# --- inside a call ------------------------------------------------------------------------------------------


def failure(act: Callable[[], object]) -> tuple[str, str] | None:
    with pytest.raises((apsw.Error, UnicodeDecodeError, ValueError)) as caught:
        act()
    return storefile.translate(caught.value)


def test_errors_of_the_store_have_a_code_and_a_cause(
    store: Path, db: apsw.Connection, tmp_path: Path
) -> None:
    with closing(connect(store, busy_seconds=0.01)) as other:
        db.execute("BEGIN IMMEDIATE")
        assert failure(lambda: other.execute("BEGIN IMMEDIATE")) == ("store_busy", "the write lock is held")
        db.execute("ROLLBACK")
    with closing(connect(store, readonly=True)) as reader:
        assert failure(lambda: reader.execute("DELETE FROM roles")) == ("store_unavailable", "read-only")
    assert failure(lambda: apsw.Connection(str(tmp_path / "no" / "x"))) == (
        "store_unavailable",
        "cannot be opened",
    )
    db.execute("UPDATE settings SET updated_by = CAST(x'ff' AS TEXT)")
    unreadable = failure(lambda: db.execute("SELECT updated_by FROM settings").fetchall())
    assert unreadable == ("store_corrupt", "unreadable text")
    db.pragma("max_page_count", 1)
    assert failure(lambda: db.execute("INSERT INTO roles (id, name) VALUES ('x', ?)", ("x" * 99_999,))) == (
        "store_full",
        "disk full",
    )
    (tmp_path / "junk").write_bytes(b"junk" * 1_000)
    with closing(apsw.Connection(str(tmp_path / "junk"))) as junk:
        assert failure(lambda: junk.pragma("user_version")) == ("store_corrupt", "not a database")


def test_a_refusal_to_start_has_the_same_words_inside_a_call(path: Path) -> None:
    path.write_bytes(b"hello")
    assert storefile.translate(refused(path, storefile.NotADatabase, "not")) == (
        "store_corrupt",
        "not a database",
    )


def test_other_errors_are_not_the_stores(db: apsw.Connection) -> None:
    assert failure(lambda: db.execute("INSERT INTO roles (id) VALUES ('x')")) is None
    assert failure(lambda: db.execute("SELECT nonsense")) is None
    assert storefile.translate(KeyError("x")) is None


def test_causes_name_neither_paths_nor_statements() -> None:
    def below(kind: type[storefile.Unusable]) -> Iterator[type[storefile.Unusable]]:
        for sub in kind.__subclasses__():
            yield sub
            yield from below(sub)

    # A restore has reasons of its own, of a command that nobody calls as a tool.
    reasons = [kind for kind in below(storefile.Unusable) if kind.__module__ == "callboard.unusable"]
    assert len({reason.cause for reason in reasons}) == len(reasons) == 14
    codes = {"store_unavailable", "store_corrupt", "schema_too_new", "store_busy", "store_full"}
    assert {reason.code for reason in reasons} == codes
    assert all(re.fullmatch(r"[\w -]+", reason.cause) for reason in reasons)
