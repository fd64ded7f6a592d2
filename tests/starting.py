"""Starting on a store, here and in other processes: what the tests of the store's file share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from callboard import schema, storefile
from callboard.storefile import StoreInfo

SERVER = Path(__file__).resolve().parents[1] / "server"
NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)

# What every child process begins with.
CHILD = """
import os, sys, time
from datetime import datetime, UTC
from pathlib import Path
from callboard import storefile
def prepare(path, **more):
    return storefile.prepare(Path(path), boot_id="boot-1", boot_ms=1000, now=datetime.now(UTC),
                             new_store_id=lambda: f"store-{os.getpid()}", **more)
"""


def prepare(path: Path, **changes: Any) -> StoreInfo:
    given: dict[str, Any] = {
        "boot_id": "boot-1",
        "boot_ms": 1_000,
        "now": NOW,
        "new_store_id": lambda: "store-1",
    }
    return storefile.prepare(path, **(given | changes))


def connect(path: Path, **changes: Any) -> apsw.Connection:
    given: dict[str, Any] = {"durability": "full", "should_stop": lambda: False}
    return storefile.connect(path, **(given | changes))


def refused(path: Path, reason: type[storefile.Unusable], says: str, **changes: Any) -> storefile.Unusable:
    """Starting on `path` is refused for this reason; the sentence has these words and tells what to do."""
    with pytest.raises(storefile.Unusable) as caught:
        prepare(path, **changes)
    assert type(caught.value) is reason
    assert says in str(caught.value)
    assert str(caught.value).endswith(".")
    return caught.value


def child(code: str, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(SERVER)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def answer(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def version_0(path: Path) -> None:
    """A store of version 0: our mark and nothing else."""
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("application_id", schema.APPLICATION_ID)


def crashed(path: Path, statement: str) -> dict[str, bytes]:
    """Change the store in a process that is killed, so that the change stays in the log; the files then."""
    killed = child(
        "db = storefile.connect(Path(sys.argv[1]), durability='full', should_stop=lambda: False)\n"
        "db.execute(sys.argv[2])\nos.kill(os.getpid(), 9)",
        path,
        statement,
    )
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    found = files(path.parent)
    assert found["board.db-wal"]
    return {name: found[name] for name in ("board.db", "board.db-wal")}
