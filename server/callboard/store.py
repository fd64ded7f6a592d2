"""The store: one SQLite file, one transaction per operation.

All writes of a process run in one thread. It takes every operation that is waiting into one
transaction, each in a savepoint of its own, commits once and only then answers them all (group
commit). Reads run in a second thread, each on one snapshot. No transaction is ever open while
anybody waits for anything else.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from operator import itemgetter
from typing import Any, ClassVar, Generic, Self, TypeVar, dataclass_transform

import apsw

from callboard import storefile
from callboard.about import About, Durability, Serving
from callboard.clock import Clock, Ids, utc_text
from callboard.errors import (
    Refused,
    SchemaTooNew,
    StoreBusy,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from callboard.events import Event, Notice, Signal
from callboard.tally import Tally
from callboard.worker import Job, Worker, deliver, log_failure

T = TypeVar("T")
R = TypeVar("R", bound="Row")
Value = str | int | float | bytes | None
# What reads one place of a tuple, the same for all rows.
_place = cache(lambda number: property(itemgetter(number)))

log = logging.getLogger(__name__)

BUSY_RETRY_MS = 1_000
"""After how long it is worth asking again when another process kept the store locked."""


@dataclass_transform(frozen_default=True)
class Row(tuple[Any, ...]):
    """What one query reads: the columns of its rows by name, in order.

    The engine's own tuple with names on its places, as `collections.namedtuple` makes them, but without
    a constructor compiled for each of a hundred classes at start-up: `tuple.__new__` makes a row of the
    engine's tuple as it is.
    """

    __slots__ = ()
    _columns: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._columns = (*cls._columns, *cls.__annotations__)
        for place, column in enumerate(cls._columns):
            setattr(cls, column, _place(place))

    def __new__(cls, *values: Any) -> Self:
        return tuple.__new__(cls, values)

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> Self:
        """A row of what the engine returned."""
        return tuple.__new__(cls, values)

    @classmethod
    def query(cls, sql: str) -> "Query[Self]":
        return Query(sql, cls)

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        return cls._columns


@dataclass(frozen=True, slots=True)
class Query(Generic[R]):
    """A statement that returns rows, and the type of row that it returns."""

    sql: str
    row: type[R]


@dataclass(frozen=True, slots=True)
class Command:
    """A statement that returns nothing."""

    sql: str


class _Fence(Row):
    value: int


class _Setting(Row):
    value: str


# The store's own rows among the settings.
_NEXT_FENCE = _Fence.query("""
    UPDATE settings SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'store.fence'
    RETURNING CAST(value AS INTEGER) AS value
""")
_SETTING = _Setting.query("SELECT value FROM settings WHERE key = :key")


class Tx:
    """One transaction as an operation sees it: typed statements, the time, fresh ids, and facts to tell.

    The time is read once, inside the transaction. As every writer holds the store's only write lock by
    then, the times of successive write transactions never run backwards, whatever their processes.
    """

    def __init__(
        self,
        db: apsw.Connection,
        clock: Clock,
        ids: Ids,
        process_id: str,
        info: storefile.StoreInfo,
        about: Callable[[], About],
    ) -> None:
        self._db = db
        self.info = info
        self.about = about
        self._clock = clock
        self.now: int = clock.boot_ms()
        self.coarse_ms: int = clock.coarse_ms
        self.wall: datetime = clock.now()
        self.process_id = process_id
        self.ids = ids
        self.events: list[Event | Signal] = []
        self.notices: list[Notice] = []
        self.to_follow: list[Callable[[Tx], None]] = []

    @cached_property
    def at(self) -> str:
        """The wall clock as text, for people."""
        return utc_text(self.wall)

    def at_boot(self, boot_ms: int) -> str:
        """The wall-clock text of a moment on the boot clock, as the wall clock runs now."""
        return utc_text(self.wall + timedelta(milliseconds=boot_ms - self.now))

    def one(self, query: Query[R], /, **values: Value) -> R | None:
        """The only row, or None. A query that could return more says LIMIT 1."""
        rows = self._db.execute(query.sql, values, can_cache=True).fetchall()
        return query.row.of(rows[0]) if rows else None

    def all(self, query: Query[R], /, **values: Value) -> list[R]:
        return [query.row.of(row) for row in self._db.execute(query.sql, values, can_cache=True).fetchall()]

    def iterate(self, query: Query[R], /, **values: Value) -> Iterator[R]:
        """The rows one by one; the cursor is closed when the caller stops early, so it pins nothing."""
        cursor = self._db.execute(query.sql, values, can_cache=True)
        try:
            for row in cursor:
                yield query.row.of(row)
        finally:
            cursor.close(True)

    def run(self, command: Command, /, **values: Value) -> int:
        """Run a statement; the number of rows that it changed itself (its triggers' work not counted)."""
        self._db.execute(command.sql, values, can_cache=True).fetchall()
        return self._db.changes()

    def run_many(self, command: Command, rows: Iterable[dict[str, Value]]) -> None:
        """Run a statement once for each row of values."""
        self._db.executemany(command.sql, rows).fetchall()

    def next_fence(self) -> int:
        """The next number of the store's one fence counter. It never falls and is never given twice."""
        fence = self.one(_NEXT_FENCE)
        if fence is None:
            raise StoreCorrupt("The store has lost its fence counter.", cause="no fence counter")
        return fence.value

    def pragma(self, name: str, value: Value = None) -> Any:
        """What SQLite says of the store. A pragma that SQLite does not know says None."""
        return self._db.pragma(name) if value is None else self._db.pragma(name, value)

    def setting(self, key: str, default: Any) -> Any:
        """A value of the store's configuration."""
        row = self.one(_SETTING, key=key)
        return default if row is None else json.loads(row.value)

    def tell(self, event: Event | Signal) -> None:
        """A fact that becomes known with the commit."""
        self.events.append(event)

    def notify(self, notice: Notice) -> None:
        """A notice that reaches its agent's inbox with the commit."""
        self.notices.append(notice)

    def afterwards(self, operation: "Callable[[Tx], None]") -> None:
        """What is written once the answer is given, in a later transaction: only what may be lost."""
        self.to_follow.append(operation)


REFUSALS: dict[str, type[Refused]] = {
    refusal.code: refusal for refusal in (StoreBusy, StoreFull, StoreUnavailable, StoreCorrupt, SchemaTooNew)
}


def typed(error: Exception) -> Exception:
    """An error of the store as the refusal that it means; any other error as it is."""
    if isinstance(error, Refused) or (meaning := storefile.translate(error)) is None:
        return error
    code, cause = meaning
    hint = "Restore a backup." if code == StoreCorrupt.code else None
    again_ms = BUSY_RETRY_MS if code == StoreBusy.code else None
    refusal = REFUSALS[code](cause=cause, hint=hint, retry_after_ms=again_ms)
    refusal.__cause__ = error
    return refusal


FOLDED_PAGES = 1_000
"""After how many pages the log is folded into the store's file; SQLite's own default."""


class Store:
    """The connections of one process to one store, and the two threads that own them."""

    def __init__(
        self,
        info: storefile.StoreInfo,
        *,
        clock: Clock,
        ids: Ids,
        process_id: str,
        durability: Durability = "full",
    ) -> None:
        """Open the store that `storefile.prepare` has made ready. Raises `storefile.Unusable`."""
        self.info = info
        self.durability: Durability = durability
        self.on_commit: Callable[[list[Event | Signal]], None] = lambda events: None
        self.serving = Serving()
        self.tally = Tally()
        self._clock = clock
        self._ids = ids
        self._process_id = process_id
        self._closing = threading.Event()
        self._damage: str | None = None
        self._checked_boot_ms = clock.boot_ms() if info.checked else None
        self.folded_pages = FOLDED_PAGES
        self._logged_pages = 0
        self._writer = Worker("callboard-writer", self._connect_writer, self._write)
        self._reader = Worker("callboard-reader", self.connect, self._read)

    async def write(self, operation: Callable[[Tx], T]) -> T:
        """Run an operation in a write transaction; its result, once that is committed.

        A refusal that the operation raises takes back what the operation did and nothing else. If the
        caller is cancelled before the commit, the operation is taken back; after it, it stands.

        Raises the store's own refusals: store_busy, store_full, store_unavailable, store_corrupt.
        """
        return await self._submit(self._writer, operation)

    async def read(self, operation: Callable[[Tx], T]) -> T:
        """Run an operation that only reads, on one snapshot of the store. Raises as `write` does."""
        return await self._submit(self._reader, operation)

    def post(self, operation: Callable[[Tx], None]) -> None:
        """Run an operation in the next write transaction without waiting for it. It does what may
        be lost: a failure is logged and ends there."""
        if self._closing.is_set():
            return
        self._writer.take(operation).future.add_done_callback(log_failure)

    def connect(self, *, readonly: bool = True) -> apsw.Connection:
        """One more connection, owned by the calling thread."""
        return storefile.connect(
            self.info.path, durability=self.durability, readonly=readonly, should_stop=self._closing.is_set
        )

    async def check(self) -> None:
        """Look through the store's pages for damage. Raises StoreCorrupt, also for every later write."""
        try:
            finding = await self.read(lambda tx: tx.pragma("quick_check", 1))
        except apsw.SQLError as error:
            finding = error  # the schema in the file is not one that SQLite can follow
        if finding != "ok":
            raise self.condemn("quick_check found damage")
        self._checked_boot_ms = self._clock.boot_ms()

    def condemn(self, cause: str) -> StoreCorrupt:
        """End all writing of this process, as damage was found; what each later write is refused with."""
        self._damage = cause
        return self._corrupt()

    async def health(self) -> dict[str, object]:
        """What the store says of itself now. Raises the store's refusals."""
        if self._damage is not None:
            raise self._corrupt()
        about = self.about()
        return {
            "store_id": self.info.store_id,
            "schema_version": await self.read(lambda tx: tx.pragma("user_version")),
            "quick_check_age_seconds": about.quick_check_age_seconds,
            "wal_bytes": about.wal_bytes,
        }

    def about(self) -> About:
        """What this process says of itself and the store now, without asking the store."""
        log_file = self.info.path.with_name(self.info.path.name + "-wal")
        looked = self._checked_boot_ms
        return About(
            serving=self.serving,
            durability=self.durability,
            sqlite=apsw.sqlite_lib_version(),
            apsw=apsw.apsw_version(),
            quick_check_age_seconds=None if looked is None else (self._clock.boot_ms() - looked) // 1000,
            wal_bytes=log_file.stat().st_size if log_file.exists() else 0,
            damage=self._damage,
        )

    def queued(self) -> dict[str, int]:
        """How many operations wait for each of the two threads."""
        return {"writer": self._writer.jobs.qsize(), "reader": self._reader.jobs.qsize()}

    def stop_taking(self) -> None:
        """Refuse whatever is submitted from now on. To be called on the event loop, before `close`: a job
        that came behind the end of a worker's queue would never be answered."""
        self._closing.set()

    def close(self) -> None:
        """Finish what was submitted, then close. Whoever still waits for the store's lock gives up."""
        self._closing.set()
        self._writer.stop()
        self._reader.stop()

    async def _submit(self, worker: "Worker", operation: Callable[[Tx], T]) -> T:
        if self._closing.is_set():
            raise StoreUnavailable("The server is shutting down; nothing was changed.", cause="closing")
        job = worker.take(operation)
        try:
            result: T = await job.future
        except asyncio.CancelledError:
            job.cancelled = True
            raise
        return result

    def _connect_writer(self) -> apsw.Connection:
        """The writer's connection, which tells of each commit and leaves folding the log to us: so that
        nobody waits for it who has been committed, and an error of the one is none of the other."""

        def committed(db: apsw.Connection, name: str, pages: int) -> int:
            self._logged_pages = pages
            return apsw.SQLITE_OK

        db = self.connect(readonly=False)
        db.set_wal_hook(committed)
        return db

    def _transaction(self, db: apsw.Connection) -> Tx:
        return Tx(db, self._clock, self._ids, self._process_id, self.info, self.about)

    def _read(self, db: apsw.Connection, jobs: list[Job]) -> bool:
        for job in jobs:
            try:
                _check_place(db)
                db.execute("BEGIN")
                try:
                    job.result = job.operation(self._transaction(db))
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
            except Exception as error:
                job.error = self._noted(typed(error))
            deliver([job])
        return _is_fit(jobs)

    def _write(self, db: apsw.Connection, jobs: list[Job]) -> bool:
        """Answer all jobs, in as few transactions as their errors allow: normally in one. False when the
        connection should not be used again."""
        waiting = jobs
        while waiting := [job for job in waiting if not job.cancelled]:
            try:
                waiting = self._write_group(db, waiting)
            except Exception as error:
                for job in waiting:
                    job.error = self._noted(typed(error))
                deliver(waiting)
                break
        return _is_fit(jobs)

    def _write_group(self, db: apsw.Connection, jobs: list[Job]) -> list[Job]:
        """One transaction. Returns the jobs that must run again, because one of them met an error for
        which SQLite rolls the whole transaction back. Raises what befell all of them."""
        if self._damage is not None:
            raise self._corrupt()
        _check_place(db)
        db.execute("BEGIN IMMEDIATE")
        try:
            self._check_version(db)
            for job in jobs:
                self._run(db, job)
                if not db.in_transaction:
                    deliver([job])
                    return [other for other in jobs if other is not job]
            done = [job for job in jobs if job.error is None]
            events = [event for job in done if job.tx for event in job.tx.events]
            self._logged_pages = 0
            db.execute("COMMIT")
            self.tally.committed(len(done))
        finally:
            # An error between the operations leaves the transaction open, and the next could not begin.
            if db.in_transaction:
                db.execute("ROLLBACK")
        deliver(jobs, lambda: self.on_commit(events))
        if self._logged_pages >= self.folded_pages:
            self._fold(db)
        return []

    def _fold(self, db: apsw.Connection) -> None:
        """Move what the log holds into the store's file. Whatever fails is done again after the next
        commit, and all that was committed stands in the log until then."""
        try:
            db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            log.debug("another process folds the log just now")
        except apsw.Error as error:
            log.warning("the log could not be folded: %s", self._noted(typed(error)))

    def _check_version(self, db: apsw.Connection) -> None:
        """Refuse to write what another version may have migrated meanwhile (S11)."""
        version = db.execute("PRAGMA user_version").get
        if version != self.info.schema_version:
            raise SchemaTooNew(
                "Another version has migrated the store meanwhile; nothing was changed.",
                hint="Restart the server with that version.",
                store=version,
                server=self.info.schema_version,
            )

    def _noted(self, error: Exception) -> Exception:
        """The error; damage ends all writing until somebody has looked. SQLite's full-text index takes a page
        that could not be read for a damaged one, so it is asked, but of bytes in a text that are none."""
        if not isinstance(error, StoreCorrupt) or self._damage is not None:
            return error
        if not isinstance(error.__cause__, UnicodeDecodeError) and self._is_sound():
            unreadable = StoreUnavailable(cause="I/O error")
            unreadable.__cause__ = error
            return unreadable
        self._damage = str(error.details.get("cause", "damaged"))
        return error

    def _is_sound(self) -> bool:
        """Whether no damage is found by reading the store anew, its full-text indexes too."""
        try:
            with closing(self.connect()) as db:
                return bool(db.pragma("integrity_check", 1) == "ok")
        except (apsw.Error, storefile.Unusable) as error:
            return not isinstance(error, apsw.SQLError) and not isinstance(typed(error), StoreCorrupt)

    def _corrupt(self) -> StoreCorrupt:
        return StoreCorrupt(hint="Restore a backup.", cause=self._damage)

    def _run(self, db: apsw.Connection, job: Job) -> None:
        db.execute("SAVEPOINT operation")
        job.error = None
        job.tx = self._transaction(db)
        try:
            job.result = job.operation(job.tx)
            if job.cancelled:
                raise StoreUnavailable("The call was cancelled.", cause="cancelled")
        except Exception as error:
            job.error = self._noted(typed(error))
            if db.in_transaction:
                db.execute("ROLLBACK TO operation")
        if db.in_transaction:
            db.execute("RELEASE operation")


def _is_fit(jobs: list[Job]) -> bool:
    """Whether no job met an error of the disk, which a connection may keep."""
    return not any(
        isinstance(job.error, StoreUnavailable) and isinstance(job.error.__cause__, apsw.Error)
        for job in jobs
    )


def _check_place(db: apsw.Connection) -> None:
    """Refuse a file that is no longer the store's: nobody else sees it, and it sees nobody else."""
    if storefile.has_moved(db):
        raise StoreUnavailable(
            "The store's file was moved, deleted or replaced while the server ran; nothing was changed.",
            hint="Put the file back where it was, or restart the server.",
            cause="moved",
        )
