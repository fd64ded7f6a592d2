"""Backups while others write, and each of them restored by the commands that the documentation names.

Each copy is held against what the writers were told: nothing that was answered before the backup began is
missing, nothing that was asked for after it ended is there, what belongs together is there whole or not at
all, and the ledger is a beginning of the one that the store has in the end (S13). A restored store gives out
fences above all that were ever seen (L2). `CALLBOARD_PROOF=full` is a release's size.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import apsw

from tests.reliability import backup_worker
from tests.reliability.backup_worker import GO
from tests.reliability.queue_worker import entries
from tests.serving import PATIENCE, Place

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))
WRITERS, SECONDS = (8, 120.0) if FULL else (3, 3.0)
FEWEST = 2
"""Backups, however slow the machine is."""
EVERY = 1.0
"""Seconds from one backup to the next, if it has ended by then."""
ROOT = Path(__file__).parents[2]

LEDGER = "SELECT id, action_type, summary, entry_hash FROM activity_log ORDER BY id"
WORDS = """
    SELECT text, count(*) FROM message_queue WHERE message_type = 'agent_message' GROUP BY text
"""
LOCKS = "SELECT rtrim(file_path, 'abc.py'), count(*) FROM file_locks GROUP BY 1"
NOTES = "SELECT summary FROM activity_log WHERE action_type = 'note'"


@dataclass(frozen=True)
class Copy:
    """A backup, and the span in which it was made."""

    path: Path
    began: int
    ended: int


@dataclass(frozen=True)
class Told:
    """What the writers asked for and were answered, by the keys of their calls; on the host's clock."""

    invoked: dict[str, int]
    responded: dict[str, int]
    fence: int
    """The greatest that anybody has seen."""


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return list(db.execute(sql))


@contextmanager
def writer(place: Place, name: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = [str(place.folder), name, str(SEED), str(log)]
    environment = place.environment(PYTHONPATH=os.pathsep.join([str(ROOT / "server"), str(ROOT)]))
    command = [sys.executable, backup_worker.__file__, *arguments]
    with subprocess.Popen(command, cwd=place.folder, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def copies_under_writers(place: Place, logs: dict[str, Path]) -> list[Copy]:
    """Let the writers write, and make a backup each second."""
    go, copies = place.folder / GO, list[Copy]()
    with ExitStack() as stack:
        writers = [stack.enter_context(writer(place, name, log)) for name, log in logs.items()]
        give_up = time.monotonic() + PATIENCE
        while not all(entries(log) for log in logs.values()):
            assert time.monotonic() < give_up
            assert all(process.poll() is None for process in writers)
        go.touch()
        end = time.monotonic() + SECONDS
        while (now := time.monotonic()) < end or len(copies) < FEWEST:
            copy = place.folder / f"copy-{len(copies)}.backup"
            began = time.monotonic_ns()
            said = place.run("backup", str(copy))
            assert said.returncode == 0 and "is sound" in said.stdout, said.stderr
            copies.append(Copy(copy, began, time.monotonic_ns()))
            assert all(process.poll() is None for process in writers), "a writer has failed"
            Event().wait(max(0.0, now + EVERY - time.monotonic()))
        go.unlink()
        assert [process.wait(PATIENCE) for process in writers] == [0] * len(writers)
    return copies


def told(logs: dict[str, Path]) -> Told:
    lines = [entry for log in logs.values() for entry in entries(log)]
    return Told(
        invoked={line["key"]: line["invoked"] for line in lines if "invoked" in line},
        responded={line["key"]: line["responded"] for line in lines if "responded" in line},
        fence=max(line.get("fence", 0) for line in lines),
    )


def holds_a_beginning(copy: Copy, store: Path, seen: Told) -> None:
    """A copy is the store of one moment within the span in which it was made."""
    ledger, whole = rows(copy.path, LEDGER), rows(store, LEDGER)
    assert ledger == whole[: len(ledger)]
    words, all_words = Counter(dict(rows(copy.path, WORDS))), Counter(dict(rows(store, WORDS)))
    assert all(all_words[text] == count for text, count in words.items()), "a part of a message's copies"
    assert {count for _, count in rows(copy.path, LOCKS)} <= {3}, (
        "a part of the locks that were taken together"
    )
    there = {str(summary) for (summary,) in rows(copy.path, NOTES)} | words.keys()
    facts = {key for key in seen.invoked if key.startswith(("note-", "word-"))}
    assert there <= facts
    assert {key for key in facts if seen.responded.get(key, copy.ended) < copy.began} <= there
    assert all(seen.invoked[key] < copy.ended for key in there)


def is_restored(copy: Copy, folder: Path, seen: Told) -> None:
    """The documented commands make a store of a copy, whose fences are above all that were seen."""
    folder.mkdir()
    anew = Place(folder)
    restored = anew.run("restore", str(copy.path))
    assert restored.returncode == 0 and "Fences go on 1,000,000 ahead" in restored.stdout, restored.stderr
    sound = anew.run("integrity")
    assert sound.returncode == 0 and "is sound" in sound.stdout, sound.stdout
    assert rows(anew.db, NOTES) == rows(copy.path, NOTES)
    assert rows(anew.db, WORDS) == rows(copy.path, WORDS)
    granted = anew.run("call", "--agent", "w0", "acquire_file_lock", "file_path=after.py")
    assert granted.returncode == 0, granted.stderr
    assert json.loads(granted.stdout)["fence"] > seen.fence


def test_every_backup_under_writers_is_a_moment_of_the_store_that_can_be_gone_back_to(tmp_path: Path) -> None:
    """S13, L2"""
    print(f"CALLBOARD_SEED={SEED}")
    (tmp_path / "repo").mkdir()
    place = Place(tmp_path / "repo")
    logs = {f"w{number}": tmp_path / f"w{number}.log" for number in range(WRITERS)}
    copies = copies_under_writers(place, logs)
    seen = told(logs)
    for number, copy in enumerate(copies):
        holds_a_beginning(copy, place.db, seen)
        is_restored(copy, tmp_path / f"restored-{number}", seen)
    sizes = [len(rows(copy.path, LEDGER)) for copy in copies]
    assert sizes == sorted(sizes) and sizes[-1] > 0
    print(
        f"{len(copies)} backups under {WRITERS} writers that were answered {len(seen.responded)} calls,"
        f" each restored: 0 answered writes missing, 0 parts, 0 fences given out again"
    )
