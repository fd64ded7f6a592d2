"""Every step of the disk that fails under every tool that writes: a typed refusal that changed nothing, and
the repeat is done once (S16, Q2, Q9, L15).

Which calls are made is `tests.filling`'s business; here each tool's first one is struck at its first step,
then at its second, until none is left to strike. `CALLBOARD_PROOF=full` compares the whole store after each
strike, not only after some.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import apsw
import pytest

from callboard.catalog import CATALOG
from callboard.errors import Refused
from callboard.identity import Principal
from tests.conftest import Board, Boards
from tests.failing_disk import FailingDisk
from tests.filling import fill
from tests.test_store_failures import fold_each_commit
from tests.undoing import undo

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
STRIDE = 1 if FULL else 5
"""Every how many steps one is struck."""
COMPARED = 1 if FULL else 4
"""After every how many strikes the whole store is compared with what it was."""

ERRORS = (apsw.IOError, apsw.FullError, apsw.NoMemError)
CODES = {"store_full", "store_unavailable"}
WRITING = {tool.name for tool in CATALOG if tool.writes}
MOST_STEPS = 2_000


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    failing = FailingDisk()
    yield failing
    failing.unregister()


class StruckBoard(Board):
    """A board whose disk fails under the first call of each tool that writes, one step after the other."""

    def __init__(self, board: Board, disk: FailingDisk) -> None:
        super().__init__(board.opened, board.clock, board.folder)
        self.disk = disk
        self.strikes: Counter[str] = Counter()

    async def call(self, tool: str, *, token: Principal | None = None, **arguments: Any) -> dict[str, Any]:
        if tool not in WRITING or tool in self.strikes:
            return await super().call(tool, token=token, **arguments)
        arguments.setdefault("request_key", f"struck {tool}")
        if tool != "register_agent":  # its sign of life, once and for all
            named = {name: arguments[name] for name in ("agent_id",) if name in arguments}
            await super().call("whoami", token=token, **named)
        await self.settle()
        # A page that cannot be spilled while check_in reads leaves SQLite's connection unable to begin ever
        # after: the one step in thousands at which a fault outlived its call.
        stride = 1 if tool == "check_in" else STRIDE
        for number in range(1 + len(self.strikes) % stride, MOST_STEPS, stride):
            before = await self.contents() if number // stride % COMPARED == 0 else None
            error = ERRORS[number % len(ERRORS)]
            with self.disk.failing(lambda step, file: self.disk.steps == number, error):  # noqa: B023 - ends with the block
                try:
                    answer = await super().call(tool, token=token, **arguments)
                except Refused as refused:
                    assert refused.code in CODES, f"{tool}, step {number}: {refused.as_data()}"
                    answer = {}
                struck = self.disk.steps >= number
            self.strikes[tool] += struck
            if not answer and before is not None:
                assert await self.contents() == before, f"{tool}, step {number}: a refusal changed something"
            if answer:
                return await super().call(tool, token=token, **arguments) if struck else answer
        raise AssertionError(f"{tool} was still refused after {MOST_STEPS} strikes")


async def test_each_tool_stands_whole_or_not_at_all_at_whichever_step_the_disk_fails(
    disk: FailingDisk, boards: Boards
) -> None:
    """S16, Q2, Q9"""
    async with boards() as plain:
        board = StruckBoard(plain, disk)
        await fold_each_commit(board.opened.store)
        await undo(await fill(board, lambda text, who: "word"))
        assert await board.rows("PRAGMA integrity_check") == [("ok",)]
        assert await board.rows("SELECT * FROM pragma_foreign_key_check") == []
    assert board.strikes.keys() == WRITING
    print(f"{sum(board.strikes.values())} faults under {len(board.strikes)} tools: {dict(board.strikes)}")
    # A strike that only the folding of the log meets, behind the answer, ends a tool's turn early.
    assert sum(board.strikes.values()) > 50 // STRIDE * len(WRITING)
