"""The feed: who waits for news, and how news reaches them.

Every commit writes its facts to the outbox. A commit of this process wakes its waiters at once; those
of other processes are noticed by `PRAGMA data_version`, which is polled while somebody waits and not at
all otherwise. A waiter listens first, then looks at the store, then sleeps: what is committed in
between wakes it.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import anyio
import anyio.abc
import apsw

from callboard.clock import Clock
from callboard.events import Event
from callboard.store import Row, Store

POLL_SECONDS = 0.010
"""How often other processes' commits are looked for while somebody waits: 6 ms late at the median for
1.6 % of a core, measured; the look itself takes 3 microseconds."""

log = logging.getLogger(__name__)


class _OutboxTopic(Row):
    topic: str


_TOPICS_SINCE = _OutboxTopic.query("SELECT DISTINCT topic FROM _events WHERE id > :id AND source <> :source")


class Listener:
    """One waiter's ear on some topics."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._news = anyio.Event()

    def wake(self) -> None:
        self._news.set()

    async def wait(self, until_boot_ms: int) -> None:
        """Return when something was told since the last `clear`, or when the boot clock reaches the
        given time."""
        async with anyio.create_task_group() as tasks:

            async def sleep() -> None:
                await self._clock.sleep_until(until_boot_ms)
                tasks.cancel_scope.cancel()

            tasks.start_soon(sleep)
            await self._news.wait()
            tasks.cancel_scope.cancel()

    def clear(self) -> None:
        """Forget what was told so far; to be called before looking at the store."""
        if self._news.is_set():
            self._news = anyio.Event()


class Feed:
    """The listeners of one process. It lives on the event loop, which owns its connection too."""

    def __init__(self, store: Store, clock: Clock, source: str) -> None:
        self._store = store
        self._clock = clock
        self._source = source
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._connection: apsw.Connection | None = None
        self._wanted = anyio.Event()
        self._seen_version = 0
        self._seen_id = 0
        store.on_commit = self.publish

    @contextmanager
    def listen(self, *topics: str) -> Iterator[Listener]:
        """Hear everything that is committed from now on about these topics, by any process."""
        if not self._waiting:
            self._look_from_now()
        listener = Listener(self._clock)
        for topic in topics:
            self._listeners[topic].add(listener)
        self._wanted.set()
        try:
            yield listener
        finally:
            for topic in topics:
                self._listeners[topic].discard(listener)

    def publish(self, events: Iterable[Event]) -> None:
        """Wake who listens to the topics of these facts."""
        self._wake({event.topic for event in events})

    async def poll(self) -> None:
        """Look for other processes' commits for as long as this runs."""
        while True:
            if not self._waiting:
                self._wanted = anyio.Event()
                await self._wanted.wait()
            await anyio.sleep(POLL_SECONDS)
            try:
                self._look()
            except apsw.Error:
                # Waiters look for themselves each second; a store that cannot be read now is told to
                # them by their own reading.
                log.warning("the outbox could not be read", exc_info=True)
                await anyio.sleep(1)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _waiting(self) -> bool:
        return any(self._listeners.values())

    def _wake(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for listener in self._listeners.get(topic, ()):
                listener.wake()

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = self._store.connect()
        return self._connection

    def _look_from_now(self) -> None:
        db = self._open()
        self._seen_version = db.pragma("data_version")
        self._seen_id = db.execute("SELECT coalesce(max(id), 0) FROM _events").get

    def _look(self) -> None:
        db = self._open()
        version = db.pragma("data_version")
        if version == self._seen_version:
            return
        self._seen_version = version
        newest = db.execute("SELECT coalesce(max(id), 0) FROM _events").get
        told = db.execute(_TOPICS_SINCE.sql, {"id": self._seen_id, "source": self._source}).fetchall()
        self._seen_id = newest
        self._wake(str(topic) for (topic,) in told)
