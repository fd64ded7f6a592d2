"""A store that came to harm is refused, found by the daily reading through, or holds what it held: never a
wrong answer under green health (S11, S14, S15).

SQLite keeps no checksum of a page, so one thing cannot be found by anybody: a byte inside a value that stays
a legal value. Such flips are counted, and change one row. `CALLBOARD_PROOF=full` flips a
release's number of bytes; `CALLBOARD_SEED` repeats a run.
"""

import os
import random
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import apsw
import pytest

from callboard import storefile
from callboard.board import Config, open_board
from callboard.errors import Refused
from tests.conftest import Board, Counted, TurnedClock
from tests.filling import READS, Filled, read
from tests.reliability.corruption import (
    PAGE,
    Recipe,
    Rows,
    broken,
    differences,
    filled_store,
    recipes,
    truth,
)
from tests.starting import files, prepare

HARM = (": 1 of a row", ": 2 of a row")
"""What a legal byte may change: a value, or two where it says how long the first of them is."""

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))
FLIPS = 10_000 if FULL else 60
CODES = {"store_corrupt", "store_unavailable", "schema_too_new"}


@dataclass(frozen=True)
class Sound:
    """A store as it was before it came to harm."""

    content: bytes
    filled: Filled
    rows: Rows


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    folder = tmp_path_factory.mktemp("sound")
    content, filled = anyio.run(filled_store, folder)
    return Sound(content, filled, truth(folder / "board.db"))


def durable(folder: Path) -> dict[str, bytes]:
    """The files that a refusal must leave as they are: all but what processes share while they run."""
    return {name: content for name, content in files(folder).items() if not name.endswith("-shm") and content}


@pytest.mark.parametrize("recipe", list(recipes()), ids=lambda recipe: recipe.name)
def test_a_store_that_came_to_harm_is_refused_untouched_or_holds_what_it_held(
    sound: Sound, tmp_path: Path, recipe: Recipe
) -> None:
    """S11, S14"""
    path = tmp_path / "board.db"
    path.write_bytes(sound.content)
    recipe.harm(path)
    before = durable(tmp_path)
    try:
        prepare(path)
    except storefile.Unusable as refusal:
        assert refusal.code == recipe.code
        assert durable(tmp_path) == before
    else:
        assert recipe.code is None, "it was not refused"
        assert broken(path) == []
        assert differences(truth(path), sound.rows) == []


async def test_no_flipped_byte_makes_a_wrong_answer_under_green_health(sound: Sound, tmp_path: Path) -> None:
    """S14, S15"""
    chance = random.Random(SEED)
    print(f"CALLBOARD_SEED={SEED}")
    told = {"refused at the start": 0, "found when read": 0, "one value": 0, "nothing": 0}
    for number in range(FLIPS):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "board.db"
        place, mask = chance.randrange(len(sound.content)), chance.randrange(1, 256)
        if chance.random() < 0.2:  # the header of a page, where most of what SQLite goes by stands
            place = place // PAGE * PAGE + place % 12
        content = bytearray(sound.content)
        content[place] ^= mask
        path.write_bytes(content)
        where = f"seed {SEED}, flip {number}: byte {place} ^ {mask}"
        told[await outcome(path, sound, chance, where)] += 1
        for file in folder.iterdir():
            file.unlink()
    print(f"{FLIPS} flips: {told}")
    assert told["refused at the start"] and told["nothing"]


async def outcome(path: Path, sound: Sound, chance: random.Random, where: str) -> str:
    """What becomes of a store with a flipped byte."""
    before = durable(path.parent)
    clock = TurnedClock()
    config = Config(folder=path.parent, db=path, transport="http")
    try:
        storefile.prepare(
            path,
            boot_id=clock.boot_id,
            boot_ms=clock.boot_ms(),
            now=clock.now(),
            new_store_id=lambda: "another",
        )
    except storefile.Unusable as refusal:
        assert refusal.code in CODES, where
        assert durable(path.parent) == before, where
        return "refused at the start"
    changed: list[str] = []
    try:
        found = broken(path) != []
        changed = [] if found else differences(truth(path), sound.rows)
    except (apsw.Error, UnicodeDecodeError) as error:
        assert storefile.translate(error) is not None, where
        found = True
    assert len(changed) <= 1 and all(each.endswith(HARM) for each in changed), (where, changed)
    asked = chance.sample(sorted(READS), 2) if FULL or chance.random() < 0.3 else []
    try:
        if asked:
            async with open_board(config, clock=clock, ids=Counted()) as opened:
                board = replace(sound.filled, board=Board(opened, clock, path.parent))
                for tool in asked:
                    await answered(board, tool, where)
    except (storefile.Unusable, Refused) as refusal:
        # The start writes too, and so may meet the damage first.
        assert refusal.code in CODES and refusal.code not in ("internal_error", "store_unavailable"), where
        found = True
    return "found when read" if found else "one value" if changed else "nothing"


async def answered(filled: Filled, tool: str, where: str) -> None:
    """A reading tool answers or refuses in words of the closed set, which are never our own fault."""
    try:
        await read(filled, tool)
    except Refused as refused:
        assert refused.code != "internal_error", (where, tool)
