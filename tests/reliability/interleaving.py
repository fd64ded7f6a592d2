"""Several processes on one store under one hand: which of their transactions comes next is drawn by a seed.

A call of a tool is several transactions with waiting between them. Here each stops at its two edges, before
it begins and after it is committed, until it is let through, and nothing else happens meanwhile: so the same
draws make the same history, in which any process may be as slow, as far behind or as dead as it likes between
any two transactions. Which store, clock and calls these are is said by `simulation`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from callboard.store import Tx
from tests.conftest import Board

T = TypeVar("T")

WORK: ContextVar[int] = ContextVar("WORK")
"""The number of the piece of work that runs: it tells edges apart in the same way in every run."""

TURNS = 30
"""How often the loop comes round, with no transaction on its way, until nothing happens any more: what a wake
sets off takes five turns at most, as was seen."""


class Submit(Protocol):
    """How a store takes an operation, to write or to read."""

    def __call__(self, operation: Callable[[Tx], T]) -> Awaitable[T]: ...


class Killed(BaseException):
    """The process is no longer there: nothing that it meant to do next happens."""


class Edge:
    """Where a piece of work has stopped until it is let through."""

    def __init__(self, work: int, at: str) -> None:
        self.work = work
        self.at = at
        self._passed = anyio.Event()

    @property
    def writes(self) -> bool:
        """Whether what it is let through to is a transaction that writes."""
        return self.at == "before its write"

    async def wait(self) -> None:
        await self._passed.wait()

    def pass_(self) -> None:
        self._passed.set()

    def __repr__(self) -> str:
        return f"{self.work} {self.at}"


class Work:
    """A call or a duty: a task of one process, which may be cancelled as clients cancel calls."""

    def __init__(self, number: int, does: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.number = number
        self.error: BaseException | None = None
        self._does = does
        self._scope = anyio.CancelScope()
        self.task = asyncio.create_task(self._run())

    @property
    def is_over(self) -> bool:
        return self.task.done()

    def cancel(self) -> None:
        self._scope.cancel()

    async def _run(self) -> None:
        WORK.set(self.number)
        with self._scope, suppress(Killed):
            try:
                await self._does()
            except (Killed, asyncio.CancelledError):
                raise
            except BaseException as error:
                self.error = error


class Process:
    """A board whose transactions stop at their edges."""

    def __init__(self, board: Board, stack: AsyncExitStack) -> None:
        self.board = board
        self.edges: list[Edge] = []
        self.work: list[Work] = []
        self.left: list[Callable[[Tx], None]] = []
        """What was posted, to be written in a later transaction, or never."""
        self._stack = stack
        self._running = 0
        self.is_dead = False
        store = board.opened.store
        self.writes: Submit = store.write
        self._reads: Submit = store.read
        # Each still does what it did, but when it is let through.
        store.write = self._write  # type: ignore[method-assign]  # see above
        store.read = self._read  # type: ignore[method-assign]  # see above
        store.post = self.left.append  # type: ignore[assignment, method-assign]  # its argument has another name

    def start(self, number: int, does: Callable[[], Coroutine[Any, Any, None]]) -> Work:
        work = Work(number, does)
        self.work.append(work)
        return work

    def look(self) -> None:
        """See what other processes have committed, as after a ring of the bell."""
        feed = self.board.opened.feed
        if feed._waiting:
            feed._look()

    async def kill(self) -> None:
        """End at once: nothing further is written, answered or said."""
        self.is_dead = True
        for work in self.work:
            work.task.cancel()
        await asyncio.gather(*(work.task for work in self.work), return_exceptions=True)
        self.board.opened.store.close()
        await self.close()

    async def close(self) -> None:
        store = self.board.opened.store
        # Its end is written without stopping.
        store.write, store.read = self.writes, self._reads  # type: ignore[assignment, method-assign]  # its own
        await self._stack.aclose()

    async def _write(self, operation: Callable[[Tx], T]) -> T:
        return await self._through(self.writes, "write", operation)

    async def _read(self, operation: Callable[[Tx], T]) -> T:
        return await self._through(self._reads, "read", operation)

    async def _through(self, submit: Submit, kind: str, operation: Callable[[Tx], T]) -> T:
        await self._stop(f"before its {kind}")
        self._running += 1
        try:
            return await submit(operation)
        finally:
            self._running -= 1
            await self._stop(f"after its {kind}")

    async def _stop(self, at: str) -> None:
        if self.is_dead:
            raise Killed
        edge = Edge(WORK.get(), at)
        self.edges.append(edge)
        try:
            await edge.wait()
        finally:
            self.edges.remove(edge)

    @property
    def is_running(self) -> bool:
        """Whether a transaction is on its way."""
        return self._running > 0


async def settled(processes: list[Process]) -> None:
    """Return once all work waits at an edge, for news or for the time, and nothing happens of itself."""
    threads = anyio.to_thread.current_default_thread_limiter()

    def running() -> bool:
        return threads.borrowed_tokens > 0 or any(process.is_running for process in processes)

    quiet = 0
    while quiet < TURNS:
        await asyncio.sleep(0)
        quiet = 0 if running() else quiet + 1
