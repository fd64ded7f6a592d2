"""The tally: what passed through this process since its start, counted where it passes.

Its one idea: counting knows nothing of who asks. The counts are plain numbers, so that a process which
nobody measures imports nothing for it and pays a few additions a call. Each count has one writer, the
event loop or the writer thread, and so none needs a lock; a reader may be one event behind.
"""

from bisect import bisect_left
from collections import Counter
from typing import Final

CALL_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
WAIT_SECONDS: Final = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0)
GROUP_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)

UNKNOWN_TOOL: Final = "unknown"
"""What a call of no tool is counted under: a name that a caller made up is never kept."""


class Histogram:
    """How often a value fell into each of the ranges between some bounds, and the sum of the values.

    A bound belongs to the range below it, as in the format of Prometheus.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Tally:
    """The counts of one process."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        """Ended calls by tool and outcome: `ok`, `cancelled`, or the code of the refusal."""
        self.seconds: dict[str, Histogram] = {}
        """From the arrival of a call to its answer, by tool, the time that it chose to wait included."""
        self.waits: dict[str, Histogram] = {}
        """How long calls slept that could not be answered at once, by what they waited on."""
        self.groups = Histogram(GROUP_SIZES)
        """How many operations each commit of this process held."""

    def called(self, tool: str, outcome: str, seconds: float) -> None:
        """A call has ended."""
        self.calls[tool, outcome] += 1
        self.seconds.setdefault(tool, Histogram(CALL_SECONDS)).add(seconds)

    def waited(self, topic: str, seconds: float) -> None:
        """A call that had to wait was answered, with or without what it waited for."""
        self.waits.setdefault(topic, Histogram(WAIT_SECONDS)).add(seconds)

    def committed(self, operations: int) -> None:
        """A transaction with so many operations was committed."""
        self.groups.add(operations)
