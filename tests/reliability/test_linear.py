"""Small histories of processes that are stopped and killed: some order of their calls explains every answer.

`CALLBOARD_PROOF=full` runs a release's number of histories, `CALLBOARD_SEED` one again.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from callboard.clock import HostClock
from tests.reliability import small_worker
from tests.reliability.linear import Op, at_once, claimed, explained, queued, repeated, rising
from tests.reliability.small_worker import prepare
from tests.serving import SERVER

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))
HISTORIES = 50 if FULL else 1
WORKERS = ("w0", "w1", "w2")
ROUNDS = 60
KILLS = 4

MODELS: dict[str, tuple[Callable[..., Any], Any]] = {
    "task": (claimed, ("ready", "", 0)),
    "inbox": (queued, (0, (), frozenset())),
    "key": (repeated, None),
    "counter": (rising, 0),
}
"""Each kind of object with its model and the state that it begins in."""


@dataclass
class Life:
    """One process: its log, and when it was gone if it was killed."""

    log: Path
    killed: int = 0


def run(folder: Path, seed: int) -> list[Life]:
    """Let the workers work, and stop or kill one of them every so often."""
    chance = random.Random(seed)
    living: dict[str, tuple[subprocess.Popen[bytes], Life]] = {}
    lives: list[Life] = []

    def start(name: str) -> None:
        life = Life(folder.with_name(f"{folder.name}.{len(lives)}.log"))
        command = [sys.executable, small_worker.__file__, str(folder), f"{name}-{len(lives)}"]
        lives.append(life)
        process = subprocess.Popen(
            [*command, str(chance.randrange(1_000_000)), str(ROUNDS), str(life.log)],
            env=os.environ | {"PYTHONPATH": f"{SERVER}{os.pathsep}{SERVER.parent}"},
        )
        living[name] = (process, life)

    def ended(name: str, seconds: float) -> bool:
        try:
            assert living[name][0].wait(seconds) == 0, f"worker {name} failed"
        except subprocess.TimeoutExpired:
            return False
        del living[name]
        return True

    try:
        for name in WORKERS:
            start(name)
        while living:
            name = chance.choice(sorted(living))
            if ended(name, chance.uniform(0.02, 0.15)):
                continue
            process, life = living[name]
            at_work = life.log.exists() and life.log.stat().st_size > 2_000
            if at_work and len(lives) < len(WORKERS) + KILLS:
                process.kill()
                process.wait()
                life.killed = HostClock().boot_ms() + 1
                start(name)
            elif at_work:
                process.send_signal(signal.SIGSTOP)
                ended(name, chance.uniform(0.02, 0.2))
                process.send_signal(signal.SIGCONT)
    finally:
        for process, _ in living.values():
            process.kill()
            process.wait()
    return lives


def calls(life: Life) -> Iterator[dict[str, Any]]:
    """The calls of one life, each with its answer or none; a line that a kill has torn was never written."""
    asked: dict[int, dict[str, Any]] = {}
    for line in life.log.read_text(encoding="utf-8").split("\n")[:-1]:
        entry = json.loads(line)
        asked.setdefault(entry["number"], {"answer": None, "over": life.killed}).update(entry)
    yield from asked.values()


def answer_of(call: dict[str, Any]) -> Any:
    """What a model reads of an answer."""
    told = call["answer"]
    if told is None:
        return None
    match call["tool"]:
        case "claim_dag_task":
            return ("claimed", told["claim_epoch"]) if "claim_epoch" in told else (told["code"],)
        case "complete_dag_task":
            return (told.get("code", "done"),)
        case "release_dag_task":
            return (told.get("code", "released"),)
        case "send_message":
            return told["message_ids"][0]
        case "receive_messages":
            return tuple(message["message_id"] for message in told["messages"])
        case "log_activity" if "code" not in told:
            return ("replayed" if told.get("replayed") else "done", told["activity_id"])
    return told.get("code", "done") if call["tool"] == "ack_messages" else (told.get("code"),)


def objects(lives: Sequence[Life], stored: dict[str, int]) -> dict[tuple[str, str], list[Op]]:
    """The calls on each object. Of a send that was never answered the store tells whether it happened."""
    every = [call for life in lives for call in calls(life)]
    receipts = {
        message["receipt"]: message["message_id"]
        for call in every
        if call["tool"] == "receive_messages" and call["answer"]
        for message in call["answer"]["messages"]
    }
    found: dict[tuple[str, str], list[Op]] = defaultdict(list)
    for call in every:
        tool, given = call["tool"], call["given"]
        op = Op(tool, call["by"], None, call["invoked"], call["over"], answer_of(call))
        if tool.endswith("_dag_task"):
            found["task", given["task_id"]].append(replace(op, given=given.get("claim_epoch")))
        elif tool == "send_message":
            number = stored.get(given["content"])
            assert op.answer in (None, number), f"{call} is not in the store"
            if number is not None:
                found["inbox", given["to"]].append(replace(op, answer=number))
        elif tool == "receive_messages":
            found["inbox", call["by"]].append(replace(op, given=given["limit"]))
        elif tool == "ack_messages":
            assert op.answer in (None, "done"), call
            found["inbox", call["by"]].append(replace(op, given=receipts[given["receipts"][0]]))
        elif tool == "log_activity":
            found["key", given["request_key"]].append(replace(op, given=given["summary"]))
        elif tool == "acquire_file_lock" and (call["answer"] or {}).get("refreshed") is False:
            found["counter", "fence"].append(replace(op, answer=call["answer"]["fence"]))
    return found


async def test_some_order_explains_what_processes_were_told(tmp_path: Path) -> None:
    """T1, T4, Q3, Q4, Q5, Q7, Q8, L2, L15: claims, inboxes, request keys and the counter of fences."""
    told = 0
    lives_of_all = 0
    most = 0
    for number in range(HISTORIES):
        folder = tmp_path / f"repo{number}"
        folder.mkdir()
        await prepare(folder)
        lives = run(folder, SEED + number)
        with closing(apsw.Connection(str(folder / ".callboard" / "board.db"))) as db:
            texts = db.execute("SELECT text, id FROM message_queue WHERE message_type = 'agent_message'")
            stored = {str(text): int(id_) for text, id_ in texts}
        found = objects(lives, stored)
        assert {kind for kind, _ in found} == MODELS.keys()
        for (kind, name), ops in found.items():
            step, start = MODELS[kind]
            assert explained(ops, start, step), f"CALLBOARD_SEED={SEED + number}: {kind} {name}: {ops}"
            told, most = told + len(ops), max(most, at_once(ops))
        lives_of_all += len(lives)
    print(f"seed {SEED}: {HISTORIES} histories of {lives_of_all} lives, {told} calls, {most} at once at most")


# The search itself


def op(name: str, by: str, given: Any, invoked: int, over: int, answer: Any) -> Op:
    return Op(name, by, given, invoked, over, answer)


def claim(by: str, invoked: int, over: int, *answer: Any) -> Op:
    return op("claim_dag_task", by, None, invoked, over, answer or None)


def complete(by: str, epoch: int, invoked: int, over: int, *answer: Any) -> Op:
    return op("complete_dag_task", by, epoch, invoked, over, answer or None)


def send(number: int, invoked: int, over: int) -> Op:
    return op("send_message", "ann", None, invoked, over, number)


def receive(invoked: int, over: int, *numbers: int) -> Op:
    return op("receive_messages", "in0", 2, invoked, over, numbers)


def note(words: str, invoked: int, over: int, *answer: Any) -> Op:
    return op("log_activity", "ann", words, invoked, over, answer or None)


def fence(number: int, invoked: int, over: int) -> Op:
    return op("acquire_file_lock", "ann", None, invoked, over, number)


CANNOT_BE: list[tuple[str, list[Op]]] = [
    ("task", [claim("a", 0, 9, "claimed", 1), claim("b", 5, 9, "claimed", 2)]),
    (
        "task",
        [claim("a", 0, 1, "claimed", 1), complete("a", 1, 2, 3, "done"), claim("b", 4, 5, "claimed", 2)],
    ),
    ("task", [claim("a", 0, 1, "already_claimed")]),
    ("task", [claim("a", 0, 1, "claimed", 1), complete("a", 7, 2, 3, "done")]),
    ("task", [claim("a", 0, 1, "claimed", 1), complete("a", 1, 2, 3, "stale_claim")]),
    ("inbox", [send(1, 0, 1), receive(2, 3)]),
    ("inbox", [send(1, 0, 1), receive(2, 3, 1), receive(4, 5, 1)]),
    ("inbox", [send(1, 0, 1), send(2, 2, 3), receive(4, 5, 2, 1)]),
    ("inbox", [send(2, 0, 1), send(1, 2, 3)]),
    ("inbox", [send(1, 0, 1), op("ack_messages", "in0", 1, 2, 3, "done")]),
    ("key", [note("one", 0, 1, "done", 7), note("one", 2, 3, "done", 8)]),
    ("key", [note("one", 0, 1, "done", 7), note("one", 2, 3, "replayed", 8)]),
    ("key", [note("one", 0, 1, "done", 7), note("two", 2, 3, "replayed", 7)]),
    ("key", [note("one", 0, 1, "request_key_reused")]),
    ("counter", [fence(1, 0, 9), fence(1, 0, 9)]),
    ("counter", [fence(2, 0, 1), fence(1, 2, 3)]),
]

CAN_BE: list[tuple[str, list[Op]]] = [
    ("task", [claim("a", 0, 9, "already_claimed"), claim("b", 5, 9, "claimed", 2)]),
    ("task", [claim("a", 0, 9), claim("b", 10, 11, "already_claimed")]),
    ("task", [claim("a", 0, 9), claim("b", 10, 11, "claimed", 2)]),
    ("task", [claim("a", 0, 9), claim("a", 10, 11, "claimed", 2), complete("a", 2, 12, 13, "done")]),
    ("inbox", [send(1, 0, 9), receive(0, 9), receive(5, 9, 1), op("ack_messages", "in0", 1, 6, 9, "done")]),
    ("inbox", [send(1, 0, 1), op("receive_messages", "in0", 2, 2, 3, None), receive(4, 5)]),
    ("inbox", [send(1, 0, 1), op("receive_messages", "in0", 2, 2, 3, None), receive(4, 5, 1)]),
    ("key", [note("one", 0, 1), note("one", 2, 3, "replayed", 7), note("two", 2, 3, "request_key_reused")]),
    ("key", [note("one", 0, 1), note("two", 2, 3, "done", 7)]),
    ("counter", [fence(2, 0, 9), fence(1, 0, 9)]),
]


@pytest.mark.parametrize(("kind", "ops"), CANNOT_BE)
def test_the_search_finds_no_order_where_there_is_none(kind: str, ops: list[Op]) -> None:
    step, start = MODELS[kind]
    assert not explained(ops, start, step)


@pytest.mark.parametrize(("kind", "ops"), CAN_BE)
def test_the_search_finds_the_order_that_there_is(kind: str, ops: list[Op]) -> None:
    step, start = MODELS[kind]
    assert explained(ops, start, step)


def test_more_calls_at_once_than_can_be_searched_are_refused() -> None:
    with pytest.raises(ValueError, match="41 calls at once"):
        explained([fence(number, 0, 100) for number in range(1, 42)], 0, rising)


def test_forty_calls_at_once_are_searched() -> None:
    everyone = [claim(f"a{number}", 0, 100, "already_claimed") for number in range(39)]
    assert explained([*everyone, claim("b", 0, 100, "claimed", 1)], ("ready", "", 0), claimed)
