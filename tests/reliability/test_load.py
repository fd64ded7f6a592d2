"""Many agents at work for long, over HTTP and over pipes: no error but the refusals that are part of the
work, nothing lost or held twice, and servers whose memory, threads, descriptors and log stay as they were
once warm.

`CALLBOARD_PROOF=full` is a release's size: 200 agents for ten minutes over HTTP, and forty stdio servers on
one store. `CALLBOARD_SEED` repeats what the agents choose. The latencies are printed and not asserted.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager, nullcontext
from itertools import count
from pathlib import Path

import apsw

from callboard import integrity
from callboard.board import Config, open_board
from tests.reliability import flooder
from tests.reliability.load import LONGEST_LINE, Book, Pipe, Vitals, Watch, Web, Wire, Worker, percentile
from tests.serving import PATIENCE, Place

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))

AGENTS, SECONDS, THINK = (200, 600.0, (1.0, 3.5)) if FULL else (12, 4.0, (0.02, 0.12))
SERVERS, PIPE_SECONDS, PIPE_THINK = (40, 180.0, (0.1, 0.7)) if FULL else (3, 3.0, (0.02, 0.12))
ROUNDS, ROUND_SECONDS = (6, 5.0) if FULL else (1, 1.5)
"""How often, and for how long, others work beside a flooder and without one, in turn."""
WARM = 0.2
"""The part of a run after which a server has seen everything once."""

MORE_KIB = 8 * 1024
"""How much memory a warm server may add until the end, beside the pages of the store that it keeps."""
PAGES_KEPT = 1.5
"""How much of what the store grows by a server keeps: its writer what it wrote, its readers what they read,
each up to the 64 MB of its cache. Measured, it is all of it and a little."""
MORE_THREADS = 4
"""Threads that only wait for work come and go."""
MORE_DESCRIPTORS = 6
"""A check of the store, or a folding of its log, may be at work when one looks."""
LOG_BYTES = 32 << 20
"""The most that the store's log may have: a few times what makes SQLite fold it."""


async def tokens(place: Place, names: list[str]) -> dict[str, str]:
    """A token for each agent, as a person makes them; the first is a lead's."""
    async with open_board(Config(folder=place.folder, db=place.db, transport="cli")) as board:
        return {
            name: await board.issue_token(
                kind="agent", name=name, scope="lead" if name == names[0] else "worker"
            )
            for name in names
        }


def servers_of(place: Place) -> list[int]:
    """The processes that serve a store, as it names them."""
    with closing(apsw.Connection(str(place.db), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return [int(pid) for (pid,) in db.execute("SELECT pid FROM _processes WHERE gone_boot_ms IS NULL")]


async def worked(
    place: Place, wires: Mapping[str, Wire], seconds: float, think: tuple[float, float], seed: int = SEED
) -> tuple[Book, Watch]:
    """Let a crew work, each agent over a wire of its own and the first one as its lead; what came of it."""
    names, book = list(wires), Book()
    files = [f"src/part_{number}.py" for number in range(max(2, len(names) // 3))]
    crew = [
        Worker(name, names, files, wire, book, seed + number)
        for number, (name, wire) in enumerate(wires.items())
    ]
    watch = Watch(servers_of(place), place.db)
    await crew[0].sign_in("lead")
    async with asyncio.TaskGroup() as tasks:
        for worker in crew[1:]:
            tasks.create_task(worker.sign_in())
    now = asyncio.get_running_loop().time()
    until = now + seconds
    async with asyncio.timeout(seconds + PATIENCE), asyncio.TaskGroup() as tasks:
        tasks.create_task(watch.look(now + WARM * seconds, until))
        tasks.create_task(crew[0].lead(until, every=8 * think[1] / len(names)))
        for worker in crew[1:]:
            tasks.create_task(worker.work(until, think))
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        for worker in crew:
            tasks.create_task(worker.finish())
    return book, watch


def nothing_went_wrong(place: Place, book: Book, watch: Watch, seconds: float) -> None:
    """Print what a crew's work came to, and hold it to what was promised."""
    for line in book.table():
        print(line)
    refused = ", ".join(f"{count} {code}" for code, count in sorted(book.refusals.items()))
    print(f"{book.calls()} calls, {book.calls() / seconds:.0f} a second; refused as they may be: {refused}")
    worst = max(
        zip(watch.warm, watch.last, strict=True), key=lambda two: two[1].resident_kib - two[0].resident_kib
    )
    print(f"the server that grew most: warm {worst[0]}; at the end {worst[1]}")
    grown, log = watch.grown_bytes / 2**20, watch.wal_bytes / 2**20
    print(f"meanwhile the store grew by {grown:.1f} MiB; its log had {log:.1f} MiB at most")
    assert book.faults == []
    assert book.received >= book.sent, "messages were lost"
    assert set(book.done.values()) <= {1}, "a task was done twice"
    for warm, last in zip(watch.warm, watch.last, strict=True):
        assert last.resident_kib <= warm.resident_kib + MORE_KIB + PAGES_KEPT * watch.grown_bytes / 1024
        assert last.threads <= warm.threads + MORE_THREADS
        assert last.descriptors <= warm.descriptors + MORE_DESCRIPTORS
    assert watch.wal_bytes <= LOG_BYTES
    with closing(apsw.Connection(str(place.db), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        db.set_busy_timeout(5_000)
        assert integrity.examine(db) == []


async def test_a_crew_over_http_works_for_long_without_an_error_and_without_a_leak(tmp_path: Path) -> None:
    """W3, S9"""
    print(f"CALLBOARD_SEED={SEED}")
    place = Place(tmp_path)
    names = [f"agent-{number}" for number in range(AGENTS)]
    held = await tokens(place, names)
    with place.http("--auth") as url:
        [server] = servers_of(place)
        alone = Vitals.of(server)
        with ExitStack() as stack:
            wires = {name: stack.enter_context(closing(Web(url, token))) for name, token in held.items()}
            book, watch = await worked(place, wires, SECONDS, THINK)
        nothing_went_wrong(place, book, watch, SECONDS)
        async with asyncio.timeout(PATIENCE):
            while (after := Vitals.of(server)).descriptors > alone.descriptors + MORE_DESCRIPTORS:
                await asyncio.sleep(0.1)  # until the server has seen them close
        print(f"before anybody came: {alone}; after all had left: {after}")


@asynccontextmanager
async def piped(place: Place, name: str) -> AsyncIterator[Pipe]:
    """A stdio server that is bound to an agent."""
    process = await asyncio.create_subprocess_exec(
        *place.command("serve", "--agent", name),
        cwd=place.folder,
        env=place.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        limit=LONGEST_LINE,
    )
    assert process.stdin is not None
    try:
        yield Pipe(process)
    finally:
        process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0


async def test_stdio_servers_on_one_store_work_for_long_without_an_error_and_without_a_leak(
    tmp_path: Path,
) -> None:
    """W3, S9"""
    print(f"CALLBOARD_SEED={SEED}")
    place = Place(tmp_path)
    names = [f"agent-{number}" for number in range(SERVERS)]
    async with AsyncExitStack() as stack:
        wires = {name: await stack.enter_async_context(piped(place, name)) for name in names}
        for wire in wires.values():  # they start side by side, and have started once they answer
            assert (await wire.ask("whoami", {}))["error"]["code"] == "unknown_agent"
        assert len(servers_of(place)) == SERVERS
        book, watch = await worked(place, wires, PIPE_SECONDS, PIPE_THINK)
        nothing_went_wrong(place, book, watch, PIPE_SECONDS)


@contextmanager
def flooding(url: str, token: str, answers: Counter[str]) -> Iterator[None]:
    """A process that calls as fast as it can, and was refused already, for as long as the block lasts."""
    command = [sys.executable, flooder.__file__, url, token, "16"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "refused\n"
            yield
            out, _ = process.communicate(timeout=PATIENCE)
            answers.update(json.loads(out))
        finally:
            process.kill()


async def test_who_calls_too_often_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    """W3: by how much the others' calls take longer meanwhile is printed and not asserted, as it is the
    machine's affair as well."""
    print(f"CALLBOARD_SEED={SEED}")
    place = Place(tmp_path)
    names = [f"agent-{number}" for number in range(9)]
    held = await tokens(place, [*names, "flood"])
    answers: Counter[str] = Counter()
    quiet, loud = list[float](), list[float]()
    with place.http("--auth") as url:
        with closing(Web(url, held["flood"])) as flood:
            assert "error" not in await flood.ask("register_agent", {"role": "developer"})
        seeds = count(SEED, len(names))
        for _ in range(ROUNDS):
            for seconds, beside in ((quiet, nullcontext()), (loud, flooding(url, held["flood"], answers))):
                with beside, ExitStack() as stack:
                    # New ones: the server closes what was idle until the flooder had begun.
                    connections = {name: stack.enter_context(closing(Web(url, held[name]))) for name in names}
                    book, _ = await worked(place, connections, ROUND_SECONDS, (0.05, 0.15), next(seeds))
                assert book.faults == []
                seconds += book.unwaited()
    told = ", ".join(f"{count} {code}" for code, count in sorted(answers.items()))
    print(f"a flooder was answered {told}")
    for percent in (50, 99):
        before, during = (1000 * percentile(seconds, percent) for seconds in (quiet, loud))
        ratio = f"x{during / before:.2f}"
        print(f"p{percent} of the others: {before:.1f} ms, and {during:.1f} ms beside it: {ratio}")
    assert answers.keys() == {"ok", "rate_limited"}
