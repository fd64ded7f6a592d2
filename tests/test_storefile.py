"""The store's file: born once, found again, kept off shared file systems, migrated with a copy kept."""

from __future__ import annotations

import signal
import stat
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from callboard import copying, schema, storefile
from callboard.clock import utc_text
from callboard.storefile import StoreInfo
from tests.dying_disk import Cut
from tests.rows import put
from tests.starting import NOW, answer, child, connect, crashed, files, prepare, refused, version_0

# --- birth --------------------------------------------------------------------------------------------------


def test_a_new_store_is_whole_private_and_in_wal_mode(path: Path) -> None:
    info = prepare(path)
    assert info == StoreInfo(
        path=path.resolve(),
        store_id="store-1",
        schema_version=schema.VERSION,
        journal_mode="wal",
        file_system=info.file_system,
        created=True,
        migrated_from=None,
    )
    assert info.file_system not in ("", "unknown")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(connect(path)) as db:
        assert schema.normalised(db) == schema.expected()
        assert db.pragma("auto_vacuum") == 2
        kept = db.execute("SELECT value FROM settings WHERE key LIKE 'store.%' ORDER BY key").fetchall()
        assert kept == [('"boot-1"',), ("0",), ('"store-1"',)]


def test_the_second_start_finds_the_same_store(store: Path) -> None:
    again = prepare(store, new_store_id=lambda: "store-2")
    assert (again.store_id, again.created, again.migrated_from) == ("store-1", False, None)


def test_a_start_on_a_sound_store_writes_nothing(store: Path) -> None:
    before = files(store.parent)
    prepare(store)
    assert files(store.parent) == before


def test_the_callboard_folder_is_made_private_and_unseen_by_git(tmp_path: Path) -> None:
    path = tmp_path / ".callboard" / "board.db"
    prepare(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (path.parent / ".gitignore").read_text(encoding="ascii") == "*\n"


def test_an_ignore_file_that_somebody_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / ".callboard").mkdir()
    (tmp_path / ".callboard" / ".gitignore").write_text("board.db\n", encoding="ascii")
    prepare(tmp_path / ".callboard" / "board.db")
    assert (tmp_path / ".callboard" / ".gitignore").read_text(encoding="ascii") == "board.db\n"


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    assert prepare(path).created


def test_a_store_reached_through_a_linked_folder_is_named_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    assert prepare(tmp_path / "linked" / "board.db").path == (tmp_path / "real" / "board.db").resolve()
    connect(tmp_path / "linked" / "board.db").close()


SIXTEEN = """
Path(sys.argv[2], str(os.getpid())).touch()
while not Path(sys.argv[3]).exists(): time.sleep(0.001)
info = prepare(sys.argv[1])
db = storefile.connect(info.path, durability="full", should_stop=lambda: False)
db.execute("UPDATE settings SET value = CAST(value + 1 AS TEXT) WHERE key = 'store.fence'")
print(info.store_id, info.created, info.migrated_from, info.journal_mode)
"""


def race(tmp_path: Path, path: Path) -> list[list[str]]:
    """Sixteen processes start on `path` at the same moment; what each was told."""
    ready, go = tmp_path / "ready", tmp_path / "go"
    ready.mkdir()
    children = [child(SIXTEEN, path, ready, go) for _ in range(16)]
    deadline = time.monotonic() + 60
    while len(list(ready.iterdir())) < 16:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in children)
    go.touch()
    told = [answer(process).split() for process in children]
    with closing(connect(path)) as db:
        assert db.execute("SELECT value FROM settings WHERE key = 'store.fence'").get == "16"
        assert db.pragma("integrity_check") == "ok"
    return told


def test_sixteen_processes_that_start_at_once_make_one_store(tmp_path: Path) -> None:
    told = race(tmp_path, tmp_path / ".callboard" / "board.db")
    assert len({store_id for store_id, *_ in told}) == 1
    assert sorted(created for _, created, *_ in told) == ["False"] * 15 + ["True"]
    assert {mode for *_, mode in told} == {"wal"}


def test_sixteen_processes_that_start_after_a_reboot_carry_deadlines_over_once(
    tmp_path: Path, path: Path
) -> None:
    prepare(path, boot_id="boot-0")
    now = datetime.now(UTC)
    with closing(connect(path)) as db:
        soon = {"expires_at": utc_text(now + timedelta(seconds=300)), "expires_boot_ms": 9_000_000}
        put(db, "file_locks", ttl_ms=600_000, **soon)
    race(tmp_path, path)
    with closing(connect(path)) as db:
        # What was left of 300 s, and one term of 600 s; a second time would add another.
        assert 600_000 < db.execute("SELECT expires_boot_ms FROM file_locks").get <= 901_000


def start_and_die(path: Path, last: int | None) -> int:
    """Start on a machine that dies after so many operations; how many there were."""
    machine = Cut(last)
    try:
        prepare(path)
    except storefile.Unusable:
        assert last is not None
    finally:
        machine.unregister()
    return machine.operations


def moments(total: int) -> list[int]:
    """When to die: at each of the first and last operations, and now and then between."""
    return sorted({*range(5), *range(5, total, 19), *range(total - 16, total)})


def test_a_birth_that_is_cut_short_leaves_nothing_or_a_whole_store(tmp_path: Path) -> None:
    """S6"""
    total = start_and_die(tmp_path / "whole.db", None)
    assert total > 100
    made = 0
    for last in moments(total):
        path = tmp_path / f"{last}.db"
        start_and_die(path, last)
        made += prepare(path, new_store_id=lambda: "store-2").store_id == "store-1"
        with closing(connect(path)) as db:
            assert schema.normalised(db) == schema.expected()
            assert db.pragma("integrity_check") == "ok"
            assert db.pragma("auto_vacuum") == 2
    assert 0 < made < len(moments(total))


def test_pages_of_zeros_that_a_power_cut_left_are_taken_back(path: Path, tmp_path: Path) -> None:
    # In the middle of a birth, pages are being written, and the journal that takes them back is complete.
    start_and_die(path, start_and_die(tmp_path / "whole.db", None) // 2)
    assert path.stat().st_size > 4_096
    assert path.with_name("board.db-journal").stat().st_size > 0
    path.write_bytes(bytes(path.stat().st_size))
    assert prepare(path, new_store_id=lambda: "store-2").store_id == "store-2"


def test_a_process_killed_inside_the_birth_leaves_nothing(path: Path) -> None:
    killed = child(
        "storefile.prepare(Path(sys.argv[1]), boot_id='b', boot_ms=1, now=datetime.now(UTC),"
        " new_store_id=lambda: os.kill(os.getpid(), 9))",
        path,
    )
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    assert path.stat().st_size == 0
    assert prepare(path).created


def test_a_crash_is_recovered_from_at_the_next_start(store: Path) -> None:
    crashed(store, "UPDATE settings SET value = '7' WHERE key = 'store.fence'")
    assert prepare(store).store_id == "store-1"
    with closing(connect(store)) as db:
        assert db.execute("SELECT value FROM settings WHERE key = 'store.fence'").get == "7"


# --- file systems -------------------------------------------------------------------------------------------


def mounted(tmp_path: Path, kind: str) -> Path:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 0:1 / / rw - {kind} source rw\n", encoding="ascii")
    return table


@pytest.mark.parametrize(
    "kind", ["9p", "virtiofs", "nfs", "nfs4", "cifs", "smb3", "fuse", "fuse.sshfs", "fakeowner"]
)
def test_a_file_system_that_kernels_share_is_refused(path: Path, tmp_path: Path, kind: str) -> None:
    """S2"""
    refused(path, storefile.NetworkFileSystem, kind, mountinfo=mounted(tmp_path, kind))
    assert not path.exists()


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "apfs", "zfs", "f2fs", "bcachefs"]
)
def test_a_local_file_system_is_used_in_wal_mode(path: Path, tmp_path: Path, kind: str) -> None:
    info = prepare(path, mountinfo=mounted(tmp_path, kind))
    assert (info.file_system, info.journal_mode) == (kind, "wal")


def test_a_network_file_system_that_is_allowed_has_a_rollback_journal(path: Path, tmp_path: Path) -> None:
    """S2"""
    assert prepare(path, mountinfo=mounted(tmp_path, "nfs4"), allow_network=True).journal_mode == "delete"
    with closing(connect(path)) as db:
        assert db.pragma("journal_mode") == "delete"
    assert prepare(path, allow_network=True).journal_mode == "wal"
    assert prepare(path, mountinfo=mounted(tmp_path, "nfs4"), allow_network=True).journal_mode == "delete"


def test_a_host_without_a_table_of_mounts_is_trusted(path: Path, tmp_path: Path) -> None:
    assert prepare(path, mountinfo=tmp_path / "none").file_system == "unknown"


# --- migrations ---------------------------------------------------------------------------------------------


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob("board.db.v*.backup"))


def test_an_older_store_is_migrated_after_a_copy(path: Path) -> None:
    """S12"""
    version_0(path)
    info = prepare(path)
    assert (info.migrated_from, info.created, info.store_id) == (0, False, "store-1")
    with closing(connect(path)) as db:
        assert schema.normalised(db) == schema.expected()
    (copy,) = backups(path)
    assert copy.name == "board.db.v0-20261123T060000000Z.backup"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(apsw.Connection(str(copy))) as copied:
        assert (copied.pragma("application_id"), copied.pragma("user_version")) == (schema.APPLICATION_ID, 0)
        assert copied.execute("SELECT count(*) FROM sqlite_schema").get == 0
    assert prepare(path).migrated_from is None
    assert len(backups(path)) == 1


def test_sixteen_processes_that_start_at_once_on_an_older_store_migrate_it_once(
    tmp_path: Path, path: Path
) -> None:
    """S12"""
    version_0(path)
    told = race(tmp_path, path)
    assert len({store_id for store_id, *_ in told}) == 1
    assert sorted(migrated for _, _, migrated, _ in told) == ["0"] + ["None"] * 15
    assert {created for _, created, *_ in told} == {"False"}
    assert len(backups(path)) == 1


def test_a_migration_that_is_cut_short_leaves_the_old_store_or_the_new(tmp_path: Path) -> None:
    """S12"""
    version_0(tmp_path / "whole.db")
    total = start_and_die(tmp_path / "whole.db", None)
    for last in moments(total):
        path = tmp_path / f"{last}.db"
        version_0(path)
        start_and_die(path, last)
        info = prepare(path, new_store_id=lambda: "store-2")
        assert (info.migrated_from, info.store_id) in ((0, "store-2"), (None, "store-1"))
        with closing(connect(path)) as db:
            assert schema.normalised(db) == schema.expected()
            assert db.pragma("integrity_check") == "ok"


def test_a_store_of_a_version_with_no_way_forward_stays_as_it_is(store: Path) -> None:
    with closing(apsw.Connection(str(store))) as db:
        db.pragma("user_version", -3)
    before = store.read_bytes()
    refused(store, storefile.MigrationFailed, "version -3")
    assert store.read_bytes() == before


def test_a_step_that_leads_elsewhere_is_taken_back(path: Path) -> None:
    """S12"""
    version_0(path)
    with closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE stray (name TEXT)")
    before = path.read_bytes()
    refused(path, storefile.MigrationFailed, "as it was")
    assert path.read_bytes() == before


def test_the_newest_five_copies_are_kept(path: Path) -> None:
    """S13"""
    other = path.with_name("board.db.v0-mine.backup.txt")
    other.touch()
    for day in range(7):
        path.unlink(missing_ok=True)
        version_0(path)
        prepare(path, now=NOW + timedelta(days=day))
    assert [copy.name[12:20] for copy in backups(path)] == [f"202611{day}" for day in range(25, 30)]
    assert other.exists()


def test_a_copy_of_a_live_store_holds_what_was_committed(
    store: Path, tmp_path: Path, db: apsw.Connection
) -> None:
    db.execute("UPDATE settings SET value = '5' WHERE key = 'store.fence'")
    db.execute("BEGIN IMMEDIATE; UPDATE settings SET value = '6' WHERE key = 'store.fence'")
    copy = tmp_path / "copy.db"
    copying.back_up(store, copy)
    db.execute("ROLLBACK")
    assert prepare(copy).store_id == "store-1"
    with closing(connect(copy)) as copied:
        assert copied.execute("SELECT value FROM settings WHERE key = 'store.fence'").get == "5"
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_copy_that_is_not_sound_never_appears(store: Path, tmp_path: Path) -> None:
    """S13"""
    with closing(apsw.Connection(str(store))) as db:
        db.execute(
            "INSERT INTO messages (conversation_id, sender, content) VALUES ('none', 'agent', 'hello')"
        )
    with pytest.raises(storefile.Damaged):
        copying.back_up(store, tmp_path / "copy.db")
    assert [file.name for file in tmp_path.iterdir() if "copy" in file.name] == []
