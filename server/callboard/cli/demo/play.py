"""The demo played: each line of the story in turn, and an end at the first that does not come out as told."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
from mcp import MCPError
from rich.console import Console

from callboard.cli.common import first_of
from callboard.cli.demo.stage import Answered, NoServer, Seat, make_repository, seats, throwaway
from callboard.cli.demo.story import CAST, Answer, Call, Line, Outcome, Scene, holds
from callboard.cli.demo.telling import Teller, call_text

BOUND_SECONDS: Final = 60
"""The demo ends after this long, whatever happens."""

PATIENCE_SECONDS: Final = 10
"""How long a call with `until` is repeated."""

LOOK_AGAIN_SECONDS: Final = 0.05


async def perform(story: Sequence[Line], console: Console, *, keep: bool = False) -> bool:
    """Play a story on a stage of its own. True if all of it came out as told; else the console tells why.

    With `keep`, the folder stays and is named at the end: the repository, its store and the servers' logs.
    """
    teller = Teller(console, CAST)
    well = False
    with throwaway(keep=keep) as folder, anyio.move_on_after(BOUND_SECONDS) as bound:
        try:
            repository = folder / "repository"
            is_git = await make_repository(repository)
            where = "a new git repository" if is_git else "a plain folder, as there is no git here"
            teller.remark(f"Servers start on one store, in {where} ...")
            async with seats(repository, folder) as taken:
                well = await play(story, taken, teller)
        except* (NoServer, MCPError, OSError, subprocess.CalledProcessError) as group:
            teller.failure(f"The demo broke off: {first_of(group)}.", _logs(folder))
        finally:
            if well:
                teller.scene("Every answer came out as told.")
            if keep:
                teller.remark(f"Kept, with the store and the servers' logs: {folder}")
    if bound.cancelled_caught:
        teller.failure(f"The demo was not over after {BOUND_SECONDS} seconds.", {})
    return well and not bound.cancelled_caught


async def play(story: Sequence[Line], seats: Mapping[str, Seat], teller: Teller) -> bool:
    """Play a story at these seats, up to the first answer that is not as told. True if there was none."""
    waiting: dict[str, _Waiting] = {}
    async with anyio.create_task_group() as tasks:
        for line in story:
            match line:
                case Scene():
                    teller.scene(line.title)
                    continue
                case Call(outcome=None):
                    teller.waits(line.agent, line.tool, line.arguments)
                    waiting[line.agent] = _Waiting(line)
                    tasks.start_soon(waiting[line.agent].run, seats[line.agent])
                    continue
                case Call(outcome=Outcome() as outcome):
                    call = line
                    answered = await _ask(seats[line.agent], line, outcome)
                case Answer(outcome=outcome):
                    call, answered = await waiting.pop(line.agent).done()
            if not _as_told(outcome, answered):
                _tell_unlike(teller, call, outcome, answered)
                tasks.cancel_scope.cancel()
                return False
            said = _said(outcome, answered)
            if isinstance(line, Answer):
                teller.answer(line.agent, said, refused=answered.refused)
            else:
                teller.call(call.agent, call.tool, call.arguments, said, refused=answered.refused)
    return True


class _Waiting:
    """A call whose answer is awaited later."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._over = anyio.Event()
        self._answered: Answered | None = None

    async def run(self, seat: Seat) -> None:
        self._answered = await seat.call(self._call.tool, self._call.arguments)
        self._over.set()

    async def done(self) -> tuple[Call, Answered]:
        await self._over.wait()
        assert self._answered is not None
        return self._call, self._answered


async def _ask(seat: Seat, call: Call, outcome: Outcome) -> Answered:
    """The answer to a call; to one with `until`, the first that is as told or else the last."""
    answered = await seat.call(call.tool, call.arguments)
    patient_until = anyio.current_time() + (PATIENCE_SECONDS if call.until else 0)
    while not _as_told(outcome, answered) and anyio.current_time() < patient_until:
        await anyio.sleep(LOOK_AGAIN_SECONDS)
        answered = await seat.call(call.tool, call.arguments)
    return answered


def _as_told(outcome: Outcome, answered: Answered) -> bool:
    code = answered.data["code"] if answered.refused else None
    return code == outcome.code and holds(outcome.facts, answered.data)


def _said(outcome: Outcome, answered: Answered) -> list[str]:
    """An answer in the story's words, line by line."""
    items = answered.data[outcome.each] if outcome.each else [answered.data]
    return [outcome.says.format_map(item) for item in items]


def _tell_unlike(teller: Teller, call: Call, outcome: Outcome, answered: Answered) -> None:
    """Tell how an answer differs from what the story expects."""
    kind = f"refused with {outcome.code}" if outcome.code else "a result"
    came = "refused" if answered.refused else "a result"
    teller.failure(
        "This did not come out as told.",
        {
            "call": f"{call.agent}: {call_text(call.tool, call.arguments).plain}",
            "expected": f"{kind} {_json(outcome.facts)}",
            "actual": f"{came} {_json(answered.data)}",
        },
    )


def _json(facts: Mapping[str, object]) -> str:
    return json.dumps(facts, ensure_ascii=False)


def _logs(folder: Path) -> dict[str, str]:
    """What each server said on its standard error."""
    return {
        log.name: log.read_text(encoding="utf-8", errors="replace").strip()
        for log in sorted(folder.glob("*.log"))
    }
