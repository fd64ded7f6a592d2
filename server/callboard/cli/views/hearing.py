"""What a live view waits for: that somebody commits, in whatever process, or that a second is over."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import anyio

from callboard.board import Board
from callboard.feed import News

LATE_SECONDS = 0.1
"""How late a commit of another process is heard of; what comes closer together is looked at together."""

LONGEST_SECONDS = 1.0
"""How long nothing is looked at: the ages and remaining times that are shown go on without news."""


@contextmanager
def hearing(board: Board) -> Iterator[Callable[[], Awaitable[None]]]:
    """Gives what returns after the next commit, or after a second. Raises the store's refusals."""
    committed = anyio.Event()

    def told(_: Sequence[News]) -> None:
        committed.set()

    async def news() -> None:
        nonlocal committed
        with anyio.move_on_after(LONGEST_SECONDS):
            await committed.wait()
        committed = anyio.Event()

    with board.feed.follow(told) as follower:
        follower.within(LATE_SECONDS)
        yield news
