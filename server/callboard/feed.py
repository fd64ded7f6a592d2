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
from callboard.events import Event, Signal
from callboard.store import Row, Store, typed
from callboard.storefile import Unusable

POLL_SECONDS = 0.010
"""How often other processes' commits are looked for while somebody waits: 6 ms late at the median for
1.6 % of a core, measured; the look itself takes 3 microseconds."""

log = logging.getLogger(__name__)


class _OutboxNews(Row):
    topic: str
    subject: str


_NEWS_SINCE = _OutboxNews.query(
    "SELECT DISTINCT topic, subject FROM _events WHERE id > :id AND source <> :source"
)

ANYTHING = ""
"""The subject of who listens to all of a topic."""


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
        self._listeners: dict[tuple[str, str], set[Listener]] = defaultdict(set)
        self._connection: apsw.Connection | None = None
        self._wanted = anyio.Event()
        self._seen_version = 0
        self._seen_id = 0
        store.on_commit = self.publish

    @contextmanager
    def listen(self, topic: str, subject: str = ANYTHING) -> Iterator[Listener]:
        """Hear everything that is committed from now on about a topic, or only about one subject of it, by
        any process.

        Raises the store's refusals.
        """
        if not self._waiting:
            self._look_from_now()
        listener = Listener(self._clock)
        ears = self._listeners[topic, subject]
        ears.add(listener)
        self._wanted.set()
        try:
            yield listener
        finally:
            ears.discard(listener)
            if not ears:
                del self._listeners[topic, subject]

    def publish(self, news: Iterable[Event | Signal]) -> None:
        """Wake who listens to what these facts are about."""
        self._wake({(told.topic, told.subject) for told in news})

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

    def _wake(self, news: Iterable[tuple[str, str]]) -> None:
        for topic, subject in news:
            for ear in {(topic, subject), (topic, ANYTHING)}:
                for listener in self._listeners.get(ear, ()):
                    listener.wake()

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = self._store.connect()
        return self._connection

    def _look_from_now(self) -> None:
        """Begin with what is told from now on. Raises the store's refusals."""
        try:
            db = self._open()
            self._seen_version = db.pragma("data_version")
            self._seen_id = db.execute("SELECT coalesce(max(id), 0) FROM _events").get
        except (apsw.Error, Unusable) as error:
            raise typed(error) from error

    def _look(self) -> None:
        db = self._open()
        version = db.pragma("data_version")
        if version == self._seen_version:
            return
        self._seen_version = version
        newest = db.execute("SELECT coalesce(max(id), 0) FROM _events").get
        told = db.execute(_NEWS_SINCE.sql, {"id": self._seen_id, "source": self._source}).fetchall()
        self._seen_id = newest
        self._wake((str(topic), str(subject)) for topic, subject in told)
