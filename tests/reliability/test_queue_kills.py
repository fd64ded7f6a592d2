"""Senders and receivers that are killed at random, and the check of what they were told.

`CALLBOARD_PROOF=full` runs a release's number of kills, for which a run needs more time than any other test:
`-o faulthandler_timeout=1800`.
"""

import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest

from callboard.domains.messages.queue import MOST_ATTEMPTS
from tests.reliability import queue_worker
from tests.reliability.queue_worker import DRAINED, SENT_ALL, VISIBILITY_SECONDS, entries, log_of

WORKERS = {
    "send-1": "ann",
    "send-2": "dan",
    "send-3": "eve",
    "receive-1": "ben",
    "receive-2": "ben",  # two that share an inbox
    "receive-3": "cat",
}
KILLS = 200 if os.environ.get("CALLBOARD_PROOF") == "full" else 12
ROOT = Path(__file__).parents[2]


class Crowd:
    """The workers on one store, and whoever kills them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.lives = 0
        self.living: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        self.lives += 1
        arguments = [str(self.folder), name, WORKERS[name], str(self.random.randrange(1_000_000))]
        self.living[name] = subprocess.Popen(
            [sys.executable, queue_worker.__file__, *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "server"), str(ROOT)])},
        )

    def run(self) -> None:
        """Let the workers work, kill one of them every so often, and let them finish in the end."""
        for kind in ("receive", "send"):  # whom the senders write to must have signed in
            names = [name for name in WORKERS if name.startswith(kind)]
            for name in names:
                self.start(name)
            for name in names:
                self.until_begun(name)
        for _ in range(KILLS):
            name = self.random.choice(sorted(WORKERS))
            self.lives_on(name, self.random.uniform(0.05, 0.25))
            lives = self.begun(name)
            self.living[name].kill()
            self.living[name].wait()
            self.start(name)
            if self.random.random() < 0.7:  # else the next strike may meet it before it has begun
                self.until_begun(name, lives + 1)
        (self.folder / SENT_ALL).touch()
        self.until_ended("send")
        while self.queued():
            self.lives_on("receive-1", 0.1)
        (self.folder / DRAINED).touch()
        self.until_ended("receive")

    def begun(self, name: str) -> int:
        """How many lives of a worker have signed in."""
        return sum("began" in entry for entry in entries(log_of(self.folder, name)))

    def until_begun(self, name: str, lives: int = 1) -> None:
        while self.begun(name) < lives:
            self.lives_on(name, 0.02)

    def until_ended(self, kind: str) -> None:
        for name in [name for name in WORKERS if name.startswith(kind)]:
            assert self.living.pop(name).wait(60) == 0, f"worker {name} failed"

    def lives_on(self, name: str, seconds: float) -> None:
        """Let some time pass in which a worker must not end."""
        try:
            code = self.living[name].wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"worker {name} ended with {code}")

    def queued(self) -> int:
        [(count,)] = self.rows(
            "SELECT count(*) FROM message_queue WHERE status = 'queued' AND message_type = 'agent_message'"
        )
        return int(count)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        path = str(self.folder / ".callboard" / "board.db")
        with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as db:
            db.set_busy_timeout(5000)
            return list(db.execute(sql))

    def close(self) -> None:
        for worker in self.living.values():
            worker.kill()
            worker.wait()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    folder = tmp_path / "repo"
    folder.mkdir()
    seed = int(os.environ.get("CALLBOARD_SEED", random.randrange(1_000_000)))
    print(f"CALLBOARD_SEED={seed}")
    crowd = Crowd(folder, seed)
    try:
        yield crowd
    finally:
        crowd.close()


def test_every_acknowledged_send_is_received_until_acknowledged_whoever_is_killed(crowd: Crowd) -> None:
    """Q1 to Q8: K1 to K8."""
    crowd.run()
    logs = {name: entries(log_of(crowd.folder, name)) for name in WORKERS}
    sent = [entry for name in WORKERS if name.startswith("send") for entry in logs[name]]
    received = {name: logs[name] for name in WORKERS if name.startswith("receive")}
    intents = {entry["key"]: entry["to"] for entry in sent if "to" in entry}
    stored = {
        key: (int(id_), target, status, attempts, reason)
        for id_, key, target, status, attempts, reason in crowd.rows(
            "SELECT id, text, target_agent_id, status, attempts, expired_reason FROM message_queue"
            " WHERE message_type = 'agent_message' ORDER BY id"
        )
    }
    [(count,)] = crowd.rows("SELECT count(*) FROM message_queue WHERE message_type = 'agent_message'")

    # K1, K2: each intent is one row, that of its answer.
    assert count == len(stored)
    assert {key: target for key, (_, target, *_) in stored.items()} == intents
    answers = {entry["key"]: entry["message_id"] for entry in sent if "message_id" in entry}
    assert answers == {key: id_ for key, (id_, *_) in stored.items()}

    # K3: a receipt holds a message for its whole time.
    handed: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in (entry for log in received.values() for entry in log if "attempts" in entry):
        handed[entry["message_id"]].append(entry)
    for hand_outs in handed.values():
        hand_outs.sort(key=lambda entry: int(entry["attempts"]))
        for one, next_one in pairwise(hand_outs):
            assert one["attempts"] < next_one["attempts"]
            assert next_one["responded"] >= one["invoked"] + VISIBILITY_SECONDS * 1000

    # K4, K5: what was acknowledged is delivered and never received again.
    by_id = {
        id_: (key, status, attempts, reason) for key, (id_, _, status, attempts, reason) in stored.items()
    }
    for entry in (entry for log in received.values() for entry in log if "acknowledged" in entry):
        assert by_id[entry["acknowledged"]][1] == "delivered"
        assert all(each["invoked"] <= entry["responded"] for each in handed[entry["acknowledged"]])
    assert all(by_id[id_][2] >= len(hand_outs) for id_, hand_outs in handed.items())

    # K6: first hand-outs are in the order of sending, as far as their calls were one after the other.
    for inbox in ("ben", "cat"):
        firsts = [entry for name, log in received.items() if WORKERS[name] == inbox for entry in log]
        firsts = [entry for entry in firsts if entry.get("attempts") == 1]
        newest = 0
        by_end = sorted(firsts, key=lambda entry: int(entry["responded"]))
        for entry in sorted(firsts, key=lambda entry: int(entry["invoked"])):
            while by_end and by_end[0]["responded"] < entry["invoked"]:
                newest = max(newest, int(by_end.pop(0)["message_id"]))
            assert entry["message_id"] > newest

    # K7: poison dies of exactly so many attempts, and its sender is told once; the others arrive.
    poisons = {id_ for id_, (key, *_) in by_id.items() if key.startswith("poison")}
    assert poisons
    for id_, (_, status, attempts, reason) in by_id.items():
        if id_ in poisons:
            assert (status, attempts, reason) == ("expired", MOST_ATTEMPTS, "max_attempts")
        else:
            assert (status, reason) == ("delivered", None)
    told = crowd.rows(
        "SELECT value FROM message_queue, json_each(payload, '$.message_ids')"
        " WHERE json_extract(payload, '$.event') = 'message_expired'"
    )
    assert sorted(int(id_) for (id_,) in told) == sorted(poisons)

    # K8
    assert crowd.rows("PRAGMA integrity_check") == [("ok",)]
    assert crowd.rows("PRAGMA foreign_key_check") == []
    print(f"{len(intents)} sends, {len(handed)} received, {crowd.lives} lives, {len(poisons)} poisons")
