"""Spans of time that can be asked which of them meet a moment or a stretch, and what they leave free.

Both ends of a span belong to it. Times are whole milliseconds.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

BUCKET = 5_000
"""Milliseconds: a span is noted under each stretch of this length that it meets."""

T = TypeVar("T")


class Timeline(Generic[T]):
    """Things that each have a span of time."""

    def __init__(self, spans: Iterable[tuple[int, int, T]]) -> None:
        self._buckets: dict[int, list[tuple[int, int, T]]] = defaultdict(list)
        for since, until, thing in spans:
            for bucket in range(since // BUCKET, until // BUCKET + 1):
                self._buckets[bucket].append((since, until, thing))

    def during(self, since: int, until: int) -> Iterator[T]:
        """Those whose spans meet a stretch of time, each once."""
        for bucket in range(since // BUCKET, until // BUCKET + 1):
            for begin, end, thing in self._buckets.get(bucket, ()):
                if begin <= until and end >= since and bucket == max(begin, since) // BUCKET:
                    yield thing

    def at(self, moment: int) -> Iterator[T]:
        """Those whose spans have a moment in them."""
        return self.during(moment, moment)


def free(since: int, until: int, taken: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of a stretch of time without those that are taken."""
    for begin, end in sorted(taken):
        if end < since:
            continue
        if begin > until:
            break
        if begin > since:
            yield since, begin
        since = max(since, end)
    if since < until:
        yield since, until
