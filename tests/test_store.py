"""The store under its operations: one commit for many, an error for one, its turn among other processes."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest

from callboard import storefile
from callboard.about import Durability
from callboard.connection import BUSY_SECONDS
from callboard.errors import Conflict, Refused, StoreBusy
from callboard.store import Command, Row, Store, Tx
from callboard.worker import GROUP_LIMIT
from tests.conftest import Counted, TurnedClock
from tests.failing_disk import FailingDisk
from tests.starting import answer, child, prepare


class Key(Row):
    key: str


PUT = Command("INSERT INTO settings (key, value) VALUES (:key, '1')")
ORPHAN = Command("INSERT INTO _lock_waiter_paths (ticket, file_path, prefix) VALUES (99, 'a', 'a')")
KEYS = Key.query("SELECT key FROM settings WHERE key LIKE 'test.%' ORDER BY key")


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    failing = FailingDisk()
    yield failing
    failing.unregister()


# --- A store of its own -----------------------------------------------------------------------------------


Opened = Callable[..., Store]


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
async def opened(tmp_path: Path, clock: TurnedClock) -> AsyncIterator[Opened]:
    """Opens stores on one file; further ones are other processes as far as SQLite can tell."""
    stores: list[Store] = []
    ids = Counted()

    def one(kind: type[Store] = Store, durability: Durability = "full") -> Store:
        info = storefile.prepare(
            tmp_path / "board.db",
            boot_id=clock.boot_id,
            boot_ms=clock.boot_ms(),
            now=clock.now(),
            new_store_id=lambda: ids(16),
        )
        stores.append(kind(info, clock=clock, ids=ids, process_id=ids(8), durability=durability))
        return stores[-1]

    yield one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened()


def put(key: str) -> Callable[[Tx], str]:
    def operation(tx: Tx) -> str:
        tx.run(PUT, key=f"test.{key}")
        return key

    return operation


async def keys(store: Store) -> list[str]:
    rows = await store.read(lambda tx: tx.all(KEYS))
    return [row.key.removeprefix("test.") for row in rows]


class Held:
    """An operation that keeps the writer's transaction open until it is let go."""

    def __init__(self, key: str = "held") -> None:
        self._put = put(key)
        self._running = threading.Event()
        self._go = threading.Event()

    def __call__(self, tx: Tx) -> None:
        self._put(tx)
        self._running.set()
        assert self._go.wait(30)

    def let_go(self) -> None:
        self._go.set()

    async def running(self) -> None:
        assert await anyio.to_thread.run_sync(self._running.wait, 30)


@asynccontextmanager
async def busy_writer(store: Store) -> AsyncIterator[Held]:
    """Keep the writer busy for the block, so that what is submitted in it waits together."""
    held = Held()
    first = asyncio.create_task(store.write(held))
    await held.running()
    try:
        yield held
    finally:
        held.let_go()
        await first


async def submitted(*operations: Awaitable[Any]) -> list["asyncio.Task[Any]"]:
    """The operations under way, each of them in the store's queue."""
    tasks = [asyncio.ensure_future(operation) for operation in operations]
    await asyncio.sleep(0)
    return tasks


# --- One commit for many ----------------------------------------------------------------------------------


async def test_what_waits_together_is_committed_with_one_sync(disk: FailingDisk, opened: Opened) -> None:
    """S7: with full durability a commit is a sync of the log, and 64 waiting operations pay for one."""
    store = opened()
    await store.write(put("first"))  # which also syncs the beginning of a new log
    async with busy_writer(store):
        tasks = await submitted(*(store.write(put(f"{number:03}")) for number in range(GROUP_LIMIT + 1)))
        disk.syncs.clear()
    await asyncio.gather(*tasks)
    # The one that kept the writer busy, the group, and the one that found no place in it.
    assert disk.syncs == ["wal"] * 3
    assert len(await keys(store)) == GROUP_LIMIT + 3


async def test_nobody_is_answered_before_the_commit_that_all_share(opened: Opened) -> None:
    store, other = opened(), opened()
    held, loop = Held("late"), asyncio.get_running_loop()
    answered: list[bool] = []
    looked = threading.Event()

    def committing() -> bool:
        """What the loop was told before the commit, it has dealt with once it has come round a few times."""
        if not answered:
            for _ in range(5):
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
            answered.append(early.done() or late.done())
            looked.set()
        return False

    def watched(tx: Tx) -> None:
        tx._db.set_commit_hook(committing)
        held(tx)

    async with busy_writer(store):
        early, late = await submitted(store.write(put("early")), store.write(watched))
    await held.running()
    # `early` has run in the open transaction of the group; nobody may know of it yet.
    assert await keys(other) == ["held"]
    assert not early.done()
    held.let_go()
    await asyncio.gather(early, late)
    assert await anyio.to_thread.run_sync(looked.wait, 30)
    assert answered == [False]
    assert await keys(other) == ["early", "held", "late"]


async def test_a_refusal_takes_back_its_own_operation_and_no_other_of_the_group(store: Store) -> None:
    def refuse(tx: Tx) -> None:
        tx.run(PUT, key="test.refused")
        raise Conflict("no")

    def stumble(tx: Tx) -> None:
        tx.run(PUT, key="test.stumbled")
        raise ZeroDivisionError

    async with busy_writer(store):
        tasks = await submitted(
            store.write(put("a")), store.write(refuse), store.write(stumble), store.write(put("b"))
        )
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, Conflict, ZeroDivisionError, str]
    assert await keys(store) == ["a", "b", "held"]


async def test_a_call_cancelled_before_its_commit_leaves_nothing_behind(store: Store) -> None:
    """W4: one that still waits never runs; one that runs is taken back."""
    held, ran = Held(), threading.Event()
    running = asyncio.create_task(store.write(held))
    await held.running()
    [waiting, kept] = await submitted(store.write(lambda tx: ran.set()), store.write(put("kept")))
    running.cancel()
    waiting.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    held.let_go()
    await kept
    assert (await keys(store), ran.is_set()) == (["kept"], False)


async def test_an_operation_that_raises_store_full_does_not_take_its_group_with_it(store: Store) -> None:
    """S16: SQLite takes back the whole transaction when it is full; the others of the group run again."""
    used = await store.read(lambda tx: tx.pragma("page_count"))
    await store.write(lambda tx: tx.pragma("max_page_count", used + 2))

    def fill(tx: Tx) -> None:
        for number in range(200):
            tx.run(PUT, key=f"test.fill-{number:03}-" + "x" * 2000)

    async with busy_writer(store):
        tasks = await submitted(store.write(put("a")), store.write(fill), store.write(put("b")))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(result, "code", result) for result in results] == ["a", "store_full", "b"]
    assert await keys(store) == ["a", "b", "held"]
    await store.write(lambda tx: tx.pragma("max_page_count", 100_000))
    await store.write(fill)


async def test_a_commit_that_is_refused_takes_all_of_it_back_and_the_next_one_goes_through(
    store: Store,
) -> None:
    """SQLite leaves the transaction open when it refuses a commit, here for a row that refers to nothing."""

    def dangle(tx: Tx) -> None:
        tx.pragma("defer_foreign_keys", 1)
        tx.run(ORPHAN)

    async with busy_writer(store):
        tasks = await submitted(store.write(put("a")), store.write(dangle))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [apsw.ConstraintError, apsw.ConstraintError]
    await store.write(put("b"))
    assert await keys(store) == ["b", "held"]


async def test_a_read_sees_one_snapshot_while_others_commit(store: Store, opened: Opened) -> None:
    other = opened()
    looking, committed = threading.Event(), threading.Event()

    def twice(tx: Tx) -> tuple[int, int]:
        before = len(tx.all(KEYS))
        looking.set()
        assert committed.wait(30)
        return before, len(tx.all(KEYS))

    [reading] = await submitted(store.read(twice))
    await anyio.to_thread.run_sync(looking.wait, 30)
    await other.write(put("new"))
    committed.set()
    assert await reading == (0, 0)
    assert await keys(store) == ["new"]


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(Refused) as caught:
        await store.read(put("a"))
    assert (caught.value.code, caught.value.details["cause"]) == ("store_unavailable", "read-only")


async def test_the_clock_of_an_operation_is_read_under_the_write_lock(
    store: Store, opened: Opened, clock: TurnedClock
) -> None:
    """Deadlines that two processes give never run backwards, however long one of them waited."""
    other, times = opened(), list[int]()
    held = Held()
    [first] = await submitted(store.write(held))
    await held.running()
    [second] = await submitted(other.write(lambda tx: times.append(tx.now)))
    clock.turn(2)
    held.let_go()
    await asyncio.gather(first, second)
    assert times == [clock.boot_ms()]


# --- Another process that holds the lock ------------------------------------------------------------------


HOLDER = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.execute("BEGIN IMMEDIATE")
print("holding", flush=True)
sys.stdin.read()
"""


@contextmanager
def lock_held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in a write transaction that does not end."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        yield holder
        holder.kill()


class Impatient(Store):
    """A store that waits a tenth of a second for the write lock instead of five."""

    def connect(self, *, readonly: bool = True) -> apsw.Connection:
        return storefile.connect(
            self.info.path,
            durability=self.durability,
            readonly=readonly,
            should_stop=lambda: False,
            busy_seconds=0.1,
        )


async def test_a_write_that_finds_no_turn_is_refused_as_busy_and_reads_go_on(opened: Opened) -> None:
    """S7"""
    store = opened(Impatient)
    await store.write(put("before"))
    with lock_held_elsewhere(store.info.path) as holder:
        with pytest.raises(Refused) as caught:
            await store.write(put("a"))
        refusal = caught.value.as_data()
        assert (refusal["code"], refusal["retryable"]) == ("store_busy", True)
        assert refusal["retry_after_ms"]
        assert await keys(store) == ["before"]
        holder.kill()
        holder.wait()
        await store.write(put("a"))
    assert await keys(store) == ["a", "before"]


async def test_closing_does_not_wait_for_the_lock_of_another_process(opened: Opened) -> None:
    store = opened()
    with lock_held_elsewhere(store.info.path):
        [waiting] = await submitted(store.write(put("a")))
        began = time.monotonic()
        await anyio.to_thread.run_sync(store.close)
        assert time.monotonic() - began < BUSY_SECONDS / 2
    with pytest.raises(StoreBusy):
        await waiting
    with pytest.raises(Refused) as caught:
        await store.write(put("late"))
    assert (caught.value.code, caught.value.details["cause"]) == ("store_unavailable", "closing")


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
async def test_durability_is_what_the_process_was_told(
    opened: Opened, durability: Durability, synchronous: int
) -> None:
    """Decision A"""
    store = opened(durability=durability)
    assert await store.write(lambda tx: tx.pragma("synchronous")) == synchronous


def test_a_forked_child_can_use_nothing_of_the_store(path: Path) -> None:
    """S5: it is refused at once, and the parent's store works on."""
    prepare(path)
    code = """
import asyncio
from callboard.clock import HostClock, random_ids
from callboard.errors import StoreUnavailable
from callboard.store import Store

def tried(act):
    try:
        return f"worked: {act()}"
    except StoreUnavailable as refused:
        return refused.details["cause"]

async def main():
    store = Store(prepare(sys.argv[1]), clock=HostClock(), ids=random_ids, process_id="parent")
    if (child := os.fork()) == 0:
        works = (store.write, store.read)
        asked = [lambda work=work: work(lambda tx: 1).send(None) for work in works]
        print(*map(tried, asked))
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    print(await store.write(lambda tx: "works on"))
    store.close()

asyncio.run(main())
"""
    assert answer(child(code, path)).splitlines() == ["forked forked", "works on"]
