"""The whole product on one store, in histories that a seed draws transaction by transaction (`simulation`).

`CALLBOARD_PROOF=full` lives a release's number of histories; `CALLBOARD_SEED` is the seed of the first.
"""

import logging
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.reliability.simulation import World, prepare

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))
SEEDS = 1_000 if FULL else 25


@pytest.fixture(autouse=True)
def only_errors(caplog: pytest.LogCaptureFixture) -> None:
    """A history that fails is told by its trace; each killed process says that its end was not recorded."""
    caplog.set_level(logging.ERROR, logger="callboard")


@pytest.fixture
async def template(tmp_path: Path) -> Path:
    folder = tmp_path / "template"
    folder.mkdir()
    await prepare(folder)
    return folder


async def lived(template: Path, seed: int) -> World:
    folder = template.with_name("repo")
    shutil.copytree(template, folder)
    world = World(folder, seed)
    try:
        await world.live()
    except BaseException:
        print(f"CALLBOARD_SEED={seed}", *world.trace[-400:], sep="\n")
        raise
    finally:
        shutil.rmtree(folder)
    return world


async def test_whatever_comes_between_two_transactions_no_promise_is_broken(template: Path) -> None:
    """L1, L2, L4, L6, L7, L9, L10, L11, L12, L15, Q2, Q4, Q5, Q7, T1, T3, T5, T7"""
    print(f"CALLBOARD_SEED={SEED}")
    tally: Counter[str] = Counter()
    for seed in range(SEED, SEED + SEEDS):
        tally += (await lived(template, seed)).tally
    print(f"{SEEDS} histories, {tally.total()} calls, ended {dict(tally)}")
    if not FULL:
        return
    ended = {told.partition(" ")[0] for told in tally if told.endswith(" answered")}
    assert {told.partition(" ")[0] for told in tally} == ended, "what never succeeds proves nothing"


async def test_a_seed_makes_the_same_history_each_time(template: Path) -> None:
    first, again = await lived(template, SEED), await lived(template, SEED)
    assert first.trace == again.trace
