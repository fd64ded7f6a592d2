"""What a benchmark is made of: two things measured in turn, and what is promised of their ratio.

A shared machine is now fast and now slow, so no claim is a time. Both sides of a row take turns in one run,
and the row's figure is the median of the rounds' own ratios: what slows the machine slows both alike. Where a
promise is a figure of its own (so many milliseconds, so many tokens), that figure is what stands beside.
"""

import os
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
    value: float
    beside_value: float
    ratio: float
    goal: str | None = None
    """What is promised, in words; None where the row only tells."""
    at_most: float | None = None
    """What the ratio is promised to stay under."""
    at_least: float | None = None
    rounds: int = ROUNDS
    unit: str = "ms"
    spread: tuple[float, float] | None = None
    """The lowest and the highest of the rounds' ratios."""
    curve: tuple[tuple[int, float], ...] = ()
    """By size, where a row is about growth."""
    curve_of: str = ""
    """What the size counts."""

    @property
    def kept(self) -> bool:
        return (self.at_most is None or self.ratio <= self.at_most) and (
            self.at_least is None or self.ratio >= self.at_least
        )


async def turns(sides: list[Side], rounds: int) -> list[list[float]]:
    """Of each side what its turns came to: once to warm it, then by turns, in either direction."""
    for side in sides:
        await side()
    took: list[list[float]] = [[] for _ in sides]
    order = list(range(len(sides)))
    for _ in range(rounds):
        order.reverse()
        for which in order:
            took[which].append(await sides[which]())
    return took


async def in_turn(
    name: str,
    measured: tuple[str, Side],
    beside: tuple[str, Side],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    rounds: int = ROUNDS,
    unit: str = "ms",
) -> Row:
    """A row of two sides that take turns. Promised is how many times the other side it may be at most, or
    the other side must be of it at least."""
    ours, theirs = await turns([measured[1], beside[1]], rounds)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    goal = None
    if at_most is not None:
        goal = f"at most {at_most:g} times"
    if at_least is not None:
        goal = f"at least {at_least:g} times"
    return Row(
        name,
        measured[0],
        beside[0],
        median(ours),
        median(theirs),
        median(ratios),
        goal,
        at_most,
        at_least,
        rounds,
        unit,
        (min(ratios), max(ratios)),
    )


def within(
    name: str, measured: str, values: list[float], limit: float, unit: str, *, beside: str = "the goal"
) -> Row:
    """A row whose promise is a figure of its own: the median of what was measured, beside that figure."""
    ratios = [value / limit for value in values]
    return Row(
        name,
        measured,
        beside,
        median(values),
        limit,
        median(ratios),
        f"at most {limit:,g} {unit}",
        1.0,
        rounds=len(values),
        unit=unit,
        spread=(min(ratios), max(ratios)),
    )


def repeated(call: Callable[[], Awaitable[object]], times: int) -> Side:
    """A side that calls so many times, one after the other; the mean of one."""

    async def side() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            await call()
        return 1000 * (time.perf_counter() - begun) / times

    return side


def at_once(call: Callable[[], object], times: int, after: Callable[[], object] | None = None) -> Side:
    """The same of calls that block; what comes after them is not counted."""

    async def side() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            call()
        took = 1000 * (time.perf_counter() - begun) / times
        if after is not None:
            after()
        return took

    return side


def machine() -> str:
    """On what the run was made, as far as it explains its times."""
    return f"Python {platform.python_version()}, {sys.platform} {platform.machine()}, {os.cpu_count()} cores"
