"""Workers: the threads that own the store's connections, and the jobs on their way through them.

A worker takes all jobs that wait for it together, so that a writer can commit them at once; the answers go
back to the event loop that asked.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import apsw

from callboard.errors import StoreUnavailable

GROUP_LIMIT = 64
"""How many waiting operations share one commit at most. Measured: 64 waiting operations gain a factor
of ten with full durability, and a larger group only lengthens the wait of its first member."""


log = logging.getLogger(__name__)


class Job:
    """One operation on its way through a thread, and the future in which its caller waits."""

    __slots__ = ("cancelled", "error", "future", "operation", "result", "tx")

    def __init__(self, operation: Callable[[Any], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.operation = operation
        self.future: asyncio.Future[Any] = loop.create_future()
        self.cancelled = False
        self.result: Any = None
        self.error: Exception | None = None
        self.tx: Any = None

    def answer(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def deliver(jobs: list[Job], first: Callable[[], None] = lambda: None) -> None:
    """Answer the jobs on their loop, after `first`: who is woken by a commit finds it already known."""

    def answer() -> None:
        first()
        for job in jobs:
            job.answer()

    # A loop that is closed has nobody left who waits.
    with suppress(RuntimeError):
        jobs[0].future.get_loop().call_soon_threadsafe(answer)


def log_failure(future: "asyncio.Future[Any]") -> None:
    """Note the failure of a job that nobody waits for."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log.warning("a write that nobody waited for failed", exc_info=error)


def _close(db: apsw.Connection) -> None:
    try:
        db.close()
    except apsw.Error as error:
        log.warning("a connection could not be closed in order: %s", error)


class Worker:
    """A thread that owns one connection and takes the jobs that wait for it together, up to
    `GROUP_LIMIT` at once. `work` answers them, and tells whether the connection is still fit for more: one
    that met an error of the disk may be left with it for good, and is opened anew."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], apsw.Connection],
        work: Callable[[apsw.Connection, list[Job]], bool],
    ) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._pid = os.getpid()
        self._connect = connect
        self._work = work
        self._opened: SimpleQueue[Exception | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        if (error := self._opened.get()) is not None:
            raise error

    def take(self, operation: Callable[[Any], Any]) -> Job:
        """A job for an operation, handed in. A forked child has neither the thread that would answer nor any
        lock of its parent's connections; closing one of them there would cost the parent its own."""
        if os.getpid() != self._pid:
            raise StoreUnavailable("This process was forked from the one with the store.", cause="forked")
        job = Job(operation, asyncio.get_running_loop())
        self.jobs.put(job)
        return job

    def stop(self) -> None:
        self.jobs.put(None)
        self._thread.join()

    def _main(self) -> None:
        try:
            db: apsw.Connection | None = self._connect()
        except Exception as error:
            self._opened.put(error)
            return
        self._opened.put(None)
        while jobs := self._next():
            try:
                db = db or self._connect()
            except Exception as error:
                refused = StoreUnavailable(cause="cannot be opened")
                refused.__cause__ = error
                for job in jobs:
                    job.error = refused
                deliver(jobs)
                continue
            if not self._work(db, jobs):
                _close(db)
                db = None
        if db is not None:
            _close(db)

    def _next(self) -> list[Job]:
        """The jobs that wait now, at least one; none when the worker has been stopped."""
        jobs: list[Job] = []
        job = self.jobs.get()
        with suppress(Empty):
            while job is not None:
                jobs.append(job)
                if len(jobs) == GROUP_LIMIT:
                    return jobs
                job = self.jobs.get_nowait()
            if jobs:
                self.jobs.put(None)  # stopped: these first
        return jobs
