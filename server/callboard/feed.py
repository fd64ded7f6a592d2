"""The feed: who waits for news, and how news reaches them.

Every commit writes its facts to the outbox. A commit of this process wakes its waiters at once; whoever
commits in another rings this one's bell. Then, and now and then besides, `PRAGMA data_version` tells whether
there is anything to read: while somebody waits, and not at all otherwise. A waiter listens first, then looks
at the store, then sleeps: what is committed in between wakes it. A follower is told the news themselves, and
may be in less of a hurry than a waiter.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import anyio
import anyio.abc
import apsw

from callboard.bells import Bell, Bells, folder_of
from callboard.clock import Clock
from callboard.events import Event, Signal
from callboard.store import Row, Store, typed
from callboard.storefile import Unusable

log = logging.getLogger(__name__)


class News(Row):
    """A fact as followers are told of it: what it is about, who did it, and whose it is. What a fact does
    not say is empty."""

    topic: str
    subject: str
    agent_id: str
    project_id: str
    lead_id: str


_NEWS_SINCE = News.query("""
    SELECT DISTINCT topic, subject, coalesce(agent_id, '') AS agent_id,
           coalesce(project_id, '') AS project_id, coalesce(lead_id, '') AS lead_id
      FROM _events WHERE id > :id AND source <> :source
""")

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


class Follower:
    """Whoever is told all news, and after how many seconds those of other processes are early enough."""

    def __init__(self, told: Callable[[Sequence[News]], None], hurry: Callable[[], None]) -> None:
        self.told = told
        self.seconds = math.inf
        self._hurry = hurry

    def within(self, seconds: float) -> None:
        self.seconds = seconds
        self._hurry()


class Feed:
    """The listeners of one process. It lives on the event loop, which owns its connection too."""

    def __init__(self, store: Store, clock: Clock, source: str) -> None:
        self._store = store
        self._clock = clock
        self._source = source
        self._listeners: dict[tuple[str, str], set[Listener]] = defaultdict(set)
        self._followers: set[Follower] = set()
        self._connection: apsw.Connection | None = None
        self._wanted = anyio.Event()
        self._seen_version = 0
        self._seen_id = 0
        bells = folder_of(store.info.path)
        self._bell = Bell(bells, source)
        self._others = Bells(bells, source)
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

    @contextmanager
    def follow(self, told: Callable[[Sequence[News]], None]) -> Iterator[Follower]:
        """Be told what is committed from now on: by this process at once; by others, once `within` has been
        called, at most that late. `told` is called on the loop, and only notes.

        Raises the store's refusals.
        """
        if not self._waiting:
            self._look_from_now()
        follower = Follower(told, lambda: self._wanted.set())
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def publish(self, news: Iterable[Event | Signal]) -> None:
        """Tell these facts to who follows, and wake who listens to what they are about; and ring for the
        other processes."""
        facts = [
            News(told.topic, told.subject, told.agent_id or "", told.project_id or "", told.lead_id or "")
            for told in news
        ]
        self._tell(facts)
        if facts:
            self._others.ring()

    async def poll(self) -> None:
        """Look for other processes' commits for as long as this runs."""
        due = math.inf
        try:
            while True:
                self._wanted = anyio.Event()
                if any(self._listeners.values()):
                    await self._bell.wait()  # nobody can be in more of a hurry
                else:
                    self._bell.ignore()
                    pause = min((follower.seconds for follower in self._followers), default=math.inf)
                    due = min(due, anyio.current_time() + pause)
                    with anyio.CancelScope(deadline=due):
                        await self._wanted.wait()
                        continue  # somebody has come who may be in more of a hurry
                due = math.inf
                if not self._waiting:
                    continue
                try:
                    self._look()
                except apsw.Error:
                    # Waiters look for themselves each second; a store that cannot be read now is told to
                    # them by their own reading.
                    log.warning("the outbox could not be read", exc_info=True)
                    await anyio.sleep(1)
        finally:
            self._bell.ignore()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._bell.close()
        self._others.close()

    @property
    def _waiting(self) -> bool:
        return bool(self._followers) or any(self._listeners.values())

    def _tell(self, news: Sequence[News]) -> None:
        for topic, subject in {(told.topic, told.subject) for told in news}:
            for ear in {(topic, subject), (topic, ANYTHING)}:
                for listener in self._listeners.get(ear, ()):
                    listener.wake()
        if news:
            for follower in tuple(self._followers):
                follower.told(news)

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
        self._tell([News(*map(str, row)) for row in told])
