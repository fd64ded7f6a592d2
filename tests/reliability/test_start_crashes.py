"""Starts that end at any write: by a disk that takes no more, and by a kill of the process.

Whatever is left of a birth is nothing or a whole store; whatever is left of a migration is the old store or
the new one, and at the next start it is the new one, with every row (S6, S11, S12). No version but the first
was ever released, so the migration is one made for this; it runs in the machinery that all will run in.
`CALLBOARD_PROOF=full` ends a start at each of its writes.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from callboard import schema, storefile
from callboard.connection import BUSY_SECONDS
from tests import older_store
from tests.dying_disk import Cut
from tests.reliability import dying_start
from tests.starting import connect, files, prepare

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
ROOT = Path(__file__).parents[2]
AT_ONCE = 16
LONG = 2 * BUSY_SECONDS + 1
"""Seconds that a migration takes: more than a start would wait for it as for any write, asking twice."""

Die = Callable[[Path, int], None]


@pytest.fixture(autouse=True)
def _known_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(storefile.MIGRATIONS, older_store.VERSION, older_store.forward)


def start(path: Path, last: int = -1, seconds: float = 0.0) -> "subprocess.Popen[str]":
    """A process that starts on a store and dies at a write, or not."""
    return subprocess.Popen(
        [sys.executable, dying_start.__file__, str(path), str(last), str(seconds)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "server"), str(ROOT)])},
        stdout=subprocess.PIPE,
        text=True,
    )


def killed(path: Path, last: int) -> None:
    with start(path, last) as process:
        assert process.wait(60) == -signal.SIGKILL


def cut_off(path: Path, last: int) -> None:
    machine = Cut(last)
    try:
        with pytest.raises(storefile.Unusable):
            prepare(path)
    finally:
        machine.unregister()


def writes(path: Path) -> int:
    """Start on a store; how often that writes."""
    machine = Cut(None)
    try:
        prepare(path)
    finally:
        machine.unregister()
    return machine.operations


def moments(total: int, few: int) -> list[int]:
    """At which of a start's writes to end it: at each, or at so many of them and the last."""
    return list(range(total)) if FULL else sorted({*range(0, total, max(1, total // few)), total - 1})


WAYS = pytest.mark.parametrize(("die", "few"), [(cut_off, 10), (killed, 4)], ids=["disk", "kill"])


@WAYS
def test_a_birth_that_ends_at_any_write_leaves_nothing_or_a_whole_store(
    tmp_path: Path, die: Die, few: int
) -> None:
    """S6"""
    ends = moments(writes(tmp_path / "whole.db"), few)
    made = 0
    for last in ends:
        path = tmp_path / f"{last}.db"
        die(path, last)
        again = prepare(path, new_store_id=lambda: "store-2")
        made += again.store_id == "store-1"
        # What has our mark and nothing else is a store of version 0.
        assert (again.created or again.migrated_from == 0) == (again.store_id == "store-2")
        with closing(connect(path)) as db:
            assert schema.normalised(db) == schema.expected()
            assert db.pragma("integrity_check") == "ok"
            assert db.pragma("auto_vacuum") == 2
    print(f"{len(ends)} births that ended at a write: {made} had made a store, the others left nothing")


@WAYS
def test_a_migration_that_ends_at_any_write_leaves_the_old_store_or_the_new_with_every_row(
    tmp_path: Path, die: Die, few: int
) -> None:
    """S11, S12"""
    older = tmp_path / "older.db"
    older_store.make(older)
    kept = older_store.contents(older)
    assert len(kept[0]) == older_store.COUNT
    whole = Path(shutil.copy(older, tmp_path / "whole.db"))
    ends = moments(writes(whole), few)
    assert older_store.contents(whole) == kept
    old = 0
    for last in ends:
        folder = tmp_path / str(last)
        folder.mkdir()
        path = Path(shutil.copy(older, folder / "board.db"))
        die(path, last)
        with closing(apsw.Connection(str(path))) as db:
            version = db.pragma("user_version")
            assert db.pragma("integrity_check") == "ok"
            assert (schema.normalised(db) == schema.expected()) == (version == schema.VERSION)
        assert version in (older_store.VERSION, schema.VERSION)
        old += version == older_store.VERSION
        assert older_store.contents(path) == kept
        again = prepare(path)
        assert again.migrated_from == (version if version != schema.VERSION else None)
        assert older_store.contents(path) == kept
        copies = [name for name in files(folder) if name.endswith(".backup")]
        assert copies
        for name in copies:
            assert older_store.contents(folder / name) == kept
    print(f"{len(ends)} migrations that ended at a write: {old} left the old store, the others the new")
    assert old > 0


def test_sixteen_processes_that_start_on_what_a_killed_migration_left_migrate_it_once(tmp_path: Path) -> None:
    """S12"""
    path = tmp_path / "board.db"
    older_store.make(path)
    kept = older_store.contents(path)
    killed(Path(path), writes(Path(shutil.copy(path, tmp_path / "whole.db"))) // 2)
    starts = [start(path, seconds=LONG) for _ in range(AT_ONCE)]
    told = [process.communicate(timeout=60)[0].strip() for process in starts]
    assert [process.returncode for process in starts] == [0] * AT_ONCE
    assert sorted(told) == [str(older_store.VERSION)] + ["None"] * (AT_ONCE - 1)
    assert older_store.contents(path) == kept
