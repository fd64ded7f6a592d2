"""What a benchmark is made of: two things measured in turn, and what is promised of their ratio.

A shared machine is now fast and now slow, so no claim is a time. Both sides of a row take turns in one run,
and the row's figure is the median of the rounds' own ratios: what slows the machine slows both alike.
"""

import platform
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

ROUNDS = 5
"""Turns of either side, at the fewest."""

Side = Callable[[], Awaitable[float]]
"""One turn of one side: what it came to, in milliseconds."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    measured: str
    beside: str
    ms: float
    beside_ms: float
    ratio: float
    at_most: float | None = None
    """What the ratio is promised to stay under; None where it only tells."""
    rounds: int = ROUNDS
    unit: str = "ms"

    @property
    def kept(self) -> bool:
        return self.at_most is None or self.ratio <= self.at_most


async def in_turn(
    name: str,
    measured: tuple[str, Side],
    beside: tuple[str, Side],
    *,
    at_most: float | None = None,
    rounds: int = ROUNDS,
) -> Row:
    """A row: both sides once to warm them, then by turns, each going first every other round."""
    sides = (measured[1], beside[1])
    for side in sides:
        await side()
    took: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            took[which].append(await sides[which]())
    ratio = median(ours / theirs for ours, theirs in zip(*took, strict=True))
    return Row(name, measured[0], beside[0], median(took[0]), median(took[1]), ratio, at_most, rounds)


def repeated(call: Callable[[], Awaitable[object]], times: int) -> Side:
    """A side that calls so many times, one after the other; the mean of one."""

    async def side() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            await call()
        return 1000 * (time.perf_counter() - begun) / times

    return side


def machine() -> str:
    """On what the run was made, as far as it explains its times."""
    return f"Python {platform.python_version()}, {sys.platform} {platform.machine()}"
