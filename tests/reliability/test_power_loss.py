"""A power cut at any moment: the store is intact, holds what was done up to some call, and lacks nothing that
was acknowledged under full durability (Q1, S6, S16).

`CALLBOARD_PROOF=full` makes a release's number of images; `CALLBOARD_SEED` repeats a run.
"""

import os
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from callboard.board import Config, open_board
from tests.conftest import Agent, Board, Boards
from tests.reliability.power import LosingDisk, Step, images

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))
CALLS = 400 if FULL else 60
IMAGES = 12_500 if FULL else 150

FACTS = {
    "lock": "SELECT fence FROM file_locks",
    "message": "SELECT id FROM message_queue",
    "note": "SELECT id FROM activity_log WHERE action_type = 'progress_update'",
    "task": "SELECT id FROM dag_tasks",
}
"""What a call leaves in the store, by the kind of call."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A call that was answered, and how much had been asked of the disk by then."""

    kind: str
    id: int | str
    steps: int


@pytest.fixture
def disk() -> Iterator[LosingDisk]:
    losing = LosingDisk()
    yield losing
    losing.unregister()


async def worked(disk: LosingDisk, boards: Boards, durability: str) -> list[Acknowledged]:
    """Two processes of one store at work from its birth on, their logs folded now and then."""
    done: list[Acknowledged] = []
    chance = random.Random(SEED)
    async with (
        boards(durability=durability) as board,
        boards(durability=durability) as other,
    ):
        crews = [await crew_of(board, "ann", "ben"), await crew_of(other, "cat", "dan")]
        for place, opened in enumerate((board, other)):
            opened.opened.store.folded_pages = 30 + 20 * place
        for number in range(CALLS):
            caller, mate = chance.choice(crews)
            kind = chance.choice(list(FACTS))
            left = await acted(caller, mate, kind, number)
            done.append(Acknowledged(kind, left, len(disk.steps)))
        assert {step.kind for step in disk.steps} >= {"create", "write", "sync"}
        assert {step.file for step in disk.steps if step.kind == "sync"} >= {"board.db", "board.db-wal"}
    return done


async def crew_of(board: Board, caller: str, mate: str) -> tuple[Agent, Agent]:
    return await board.agent(caller), await board.agent(mate)


async def acted(caller: Agent, mate: Agent, kind: str, number: int) -> int | str:
    """One call of a kind; what it left in the store."""
    if kind == "lock":
        return int((await caller.acquire_file_lock(file_path=f"file-{number}.py"))["fence"])
    if kind == "message":
        return int((await caller.send_message(to=mate.id, content=f"message {number}"))["message_ids"][0])
    if kind == "note":
        note = await caller.log_activity(action_type="progress_update", summary=f"note {number}")
        return int(note["activity_id"])
    return str((await caller.add_dag_task(id=f"task-{number}", role="developer"))["task_id"])


def cuts(disk: LosingDisk, done: list[Acknowledged], chance: random.Random) -> list[int]:
    """Moments of the run: at random, and right after an answer, when nothing may be missing."""
    after = [chance.choice(done).steps for _ in range(IMAGES // 2)]
    return sorted([*after, *(chance.randrange(len(disk.steps) + 1) for _ in range(IMAGES - len(after)))])


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    """An image as files; the memory that processes shared is gone with the power."""
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(content)
    return folder / "board.db"


def held(path: Path) -> list[set[int | str]]:
    """What a store holds of each kind, after it was found intact; None of it before the store was born."""
    if not path.exists():
        return [set() for _ in FACTS]
    with closing(apsw.Connection(str(path), vfs="unix")) as db:
        assert db.execute("PRAGMA integrity_check").get == "ok"
        assert db.execute("SELECT * FROM pragma_foreign_key_check").get is None
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'file_locks'").get:
            return [set() for _ in FACTS]
        return [{row[0] for row in db.execute(sql)} for sql in FACTS.values()]


@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered metadata", "unordered metadata"])
async def test_a_power_cut_leaves_an_intact_store_that_lacks_nothing_acknowledged(
    disk: LosingDisk, boards: Boards, tmp_path: Path, durability: str, ordered: bool
) -> None:
    """Q1, S6, S16: under `normal` the last answers before the cut may be missing, none from the middle."""
    done = await worked(disk, boards, durability)
    chance = random.Random(SEED + 1)
    folder = tmp_path / "image"
    folder.mkdir()
    lost = worst = 0
    for cut, files in images(disk.steps, cuts(disk, done, chance), chance, ordered=ordered):
        stored = dict(zip(FACTS, held(lay_out(folder, files)), strict=True))
        there = [each.id in stored[each.kind] for each in done]
        stands = there.index(False) if False in there else len(there)
        assert not any(there[stands:]), f"seed {SEED}, cut {cut}: a call stands that came after a lost one"
        acknowledged = sum(each.steps <= cut for each in done)
        missing = max(0, acknowledged - stands)
        lost, worst = lost + bool(missing), max(worst, missing)
        assert durability == "normal" or not missing, f"seed {SEED}, cut {cut}: {missing} answers are lost"
    print(
        f"seed {SEED}: {IMAGES} images of {len(disk.steps)} steps, {durability}, "
        f"{'ordered' if ordered else 'unordered'}: 0 damaged, {lost} lack an answer, at most {worst}"
    )


async def test_work_goes_on_in_whatever_a_power_cut_has_left(
    disk: LosingDisk, boards: Boards, tmp_path: Path
) -> None:
    """S6, S16: the store opens by itself, no fence is issued twice and no id of a message comes back."""
    done = await worked(disk, boards, "full")
    steps: list[Step] = list(disk.steps)
    chance = random.Random(SEED + 2)
    folder = tmp_path / "image"
    folder.mkdir()
    some = sorted(chance.sample(range(len(steps) + 1), 40 if FULL else 8))
    for cut, files in images(steps, some, chance, ordered=True):
        path = lay_out(folder, files)
        async with open_board(Config(db=path, folder=tmp_path / "repo", transport="http")) as opened:
            called = opened.call
            eve = (await called("register_agent", {"role": "developer"}))["agent_id"]
            new = await called("acquire_file_lock", {"agent_id": eve, "file_path": "new.py"})
            sent = await called("send_message", {"agent_id": eve, "to": eve, "content": "to myself"})
        before = [each for each in done if each.steps <= cut]
        assert new["fence"] > max((int(each.id) for each in before if each.kind == "lock"), default=0)
        assert sent["message_ids"][0] > max(
            (int(each.id) for each in before if each.kind == "message"), default=0
        )
