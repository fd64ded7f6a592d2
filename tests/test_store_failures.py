"""The store when its disk fails or fills up, its file goes away or its process is killed.

A call is then refused in words of its own or stands whole, and work goes on without a restart.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from callboard import integrity
from callboard.errors import Refused, StoreCorrupt
from callboard.store import Store, Tx
from tests.conftest import Board, Boards
from tests.failing_disk import FailingDisk

SERVER = Path(__file__).resolve().parents[1] / "server"

LEASES = "SELECT count(*) FROM file_locks"
GRANTS_TOLD = "SELECT count(*) FROM activity_log WHERE action_type = 'lock_acquired'"


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    failing = FailingDisk()
    yield failing
    failing.unregister()


async def test_every_single_fault_is_a_typed_refusal_and_a_repeat_is_done_once(
    disk: FailingDisk, boards: Boards
) -> None:
    """S16, Q9, L15: whichever read, write or sync fails, the call is refused with its cause or stands whole;
    with its request_key it is then done once, and the board works on."""
    codes = set[str]()
    async with boards() as board:
        ann = await board.agent("ann")
        await board.settle()
        await fold_each_commit(board.opened.store)
        number = 0
        reached = True
        while reached:
            number += 1
            path, error = f"file-{number:03}.py", (apsw.IOError, apsw.FullError)[number % 2]
            with disk.failing(lambda step, file: disk.steps == number, error):  # noqa: B023 - ends with the block
                try:
                    first = await ann.acquire_file_lock(file_path=path, request_key=path)
                    assert first["file_path"] == path
                except Refused as refused:
                    codes.add(refused.code)
                reached = disk.steps >= number
            assert (await ann.acquire_file_lock(file_path=path, request_key=path))["file_path"] == path
        assert number > 20
        assert codes == {"store_full", "store_unavailable"}
        assert await board.rows(LEASES) == [(number,)]
        assert await board.rows(GRANTS_TOLD) == [(number,)]
        assert await board.rows("PRAGMA integrity_check") == [("ok",)]


async def fold_each_commit(store: Store) -> None:
    """Keep no page and fold the log after every commit, so that each call takes all kinds of steps."""
    store.folded_pages = 1
    await store.write(lambda tx: tx.pragma("cache_size", 0))


async def test_a_fault_after_the_commit_is_no_refusal(disk: FailingDisk, boards: Boards) -> None:
    """S16: what fails is the folding of the log, which the next commit does again; the change stands."""
    async with boards() as board:
        ann = await board.agent("ann")
        await fold_each_commit(board.opened.store)
        with disk.failing(lambda step, file: (step, file) == ("write", "db")):
            granted = await ann.acquire_file_lock(file_path="a.py")
            assert await board.rows("SELECT fence FROM file_locks") == [(granted["fence"],)]
        assert disk.steps > 0


async def test_a_full_disk_refuses_writes_until_there_is_room_and_reads_go_on(
    disk: FailingDisk, boards: Boards
) -> None:
    """S16, with one process and no restart."""
    async with boards() as board:
        ann = await board.agent("ann")
        await ann.acquire_file_lock(file_path="before.py")
        with disk.failing(lambda step, file: step == "write", apsw.FullError):
            refusal = await board.refusal("acquire_file_lock", agent_id=ann.id, file_path="a.py")
            assert (refusal["code"], refusal["retryable"], refusal["cause"]) == (
                "store_full",
                True,
                "disk full",
            )
            assert [lock["file_path"] for lock in (await ann.list_file_locks())["locks"]] == ["before.py"]
            # Searching reads as well, though it would write the newest entries into the index first.
            assert (await ann.search_crew(query="before"))["hits"] == []
        assert [hit["kind"] for hit in (await ann.search_crew(query="before"))["hits"]] == ["activity"]
        await ann.acquire_file_lock(file_path="a.py")
        assert await board.rows(LEASES) == [(2,)]


async def test_damage_ends_writing_and_searching_goes_on_as_all_reading_does(board: Board) -> None:
    """S14, S16"""
    ann = await board.agent("ann")
    await ann.log_activity(action_type="note", summary="heron")
    assert len((await ann.search_crew(query="heron"))["hits"]) == 1
    await ann.log_activity(action_type="note", summary="bittern")
    board.opened.store.condemn("a test says so")
    assert (await board.refusal("log_activity", agent_id="ann", action_type="note", summary="x"))["code"] == (
        "store_corrupt"
    )
    assert len((await ann.search_crew(query="heron"))["hits"]) == 1


LIMITED = """
import resource
import anyio
from callboard.board import Config, open_board
from callboard.errors import Refused

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    async with open_board(Config(transport="http")) as board:
        await board.call("register_agent", {"agent_id": "ann", "role": "developer"})
        room(board.store.info.path.stat().st_size + 100_000)
        stored, refusal = 0, None
        while refusal is None:
            try:
                note = {"agent_id": "ann", "action_type": "note", "summary": "x" * 4000}
                await board.call("log_activity", note)
                stored += 1
            except Refused as refused:
                refusal = refused.as_data()
        page = await board.call("list_activity", {"agent_id": "ann", "action_type": "note", "limit": 1})
        room(resource.RLIM_INFINITY)
        await board.call("log_activity", note)
        rows = await board.store.read(lambda tx: tx._db.execute(
            "SELECT count(*) FROM activity_log WHERE action_type = 'note'").get)
        print(refusal["code"], refusal["retryable"], stored > 5, len(page["entries"]), rows - stored)

anyio.run(main)
"""


def test_a_file_that_may_not_grow_refuses_writes_until_it_may(tmp_path: Path) -> None:
    """S16, with the kernel's own limit: nothing acknowledged is lost and nothing refused is there."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SERVER)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["store_unavailable", "True", "True", "1", "1"], done.stderr


@pytest.mark.parametrize("then", ["nothing", "another file", "an empty file"])
async def test_a_store_whose_file_went_away_is_refused_until_it_is_back(boards: Boards, then: str) -> None:
    """S16: nobody is told of a lease that stands in a file which nobody else can see."""
    async with boards() as board:
        ann = await board.agent("ann")
        await ann.acquire_file_lock(file_path="before.py")
        path = board.opened.store.info.path
        aside = path.rename(path.with_suffix(".aside"))
        if then == "another file":
            path.write_text("not a store")
        elif then == "an empty file":
            path.touch()
        for tool in ("release_file_locks", "list_file_locks"):
            refusal = await board.refusal(tool, agent_id=ann.id)
            assert (refusal["code"], refusal["cause"]) == ("store_unavailable", "moved")
            assert str(path) not in str(refusal)
        health = await board.opened.health()
        assert (health["ok"], health["error"]["code"]) == (False, "store_unavailable")  # type: ignore[index]
        aside.replace(path)
        assert (await board.opened.health())["ok"] is True
        await ann.acquire_file_lock(file_path="a.py")
        assert await board.rows(LEASES) == [(2,)]


SPOIL = """
import sys
with open(sys.argv[1], "r+b") as file:
    size = file.seek(0, 2)
    file.seek(size // 4)
    file.write(b"\\xff" * (size - size // 4))
"""


async def test_a_damaged_store_is_found_and_never_written_again(boards: Boards) -> None:
    """S14, S15: health is red, each write says so, and no byte of the files changes."""
    async with boards() as board:
        ann = await board.agent("ann")
        store = board.opened.store
        await store.check()
        with store.connect(readonly=False) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        # From a process of its own: closing a file here would drop this process's locks on it.
        subprocess.run([sys.executable, "-c", SPOIL, str(store.info.path)], check=True)
        with pytest.raises(StoreCorrupt):
            await store.check()
        before = subprocess.check_output(["cat", store.info.path, f"{store.info.path}-wal"])
        refusal = await board.refusal("acquire_file_lock", agent_id=ann.id, file_path="a.py")
        assert (refusal["code"], refusal["retryable"], refusal["hint"]) == (
            "store_corrupt",
            False,
            "Restore a backup.",
        )
        health = await board.opened.health()
        assert (health["ok"], health["error"]["code"]) == (False, "store_corrupt")  # type: ignore[index]
        assert subprocess.check_output(["cat", store.info.path, f"{store.info.path}-wal"]) == before


async def test_bytes_in_a_text_that_are_none_are_damage_though_no_check_finds_them(boards: Boards) -> None:
    """S14"""
    async with boards() as board:
        ann = await board.agent("ann")
        await ann.acquire_file_lock(file_path="a.py", reason="mine")
        with board.opened.store.connect(readonly=False) as db:
            db.execute("UPDATE file_locks SET reason = CAST(x'ff' AS TEXT)")
            assert db.pragma("integrity_check") == "ok"
        read = await board.refusal("list_file_locks", agent_id=ann.id)
        assert read["code"] == "store_corrupt"
        written = await board.refusal("acquire_file_lock", agent_id=ann.id, file_path="b.py")
        assert written["code"] == "store_corrupt"
        assert not (await board.opened.health())["ok"]


async def test_an_index_of_words_in_no_known_form_is_damage_to_who_searches(boards: Boards) -> None:
    """S14"""
    async with boards() as board:
        ann = await board.agent("ann")
        with board.opened.store.connect(readonly=False) as db:
            db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
            db.execute("UPDATE _fts_activity_config SET v = 0 WHERE k = 'version'")
        refusal = await board.refusal("search_crew", agent_id=ann.id, query="words")
        assert refusal["code"] == "store_corrupt"


def misspell(board: Board) -> None:
    """Put a function into the schema that there is not."""
    with board.opened.store.connect(readonly=False) as db:
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        db.pragma("writable_schema", True)
        spelt = "replace(sql, ' IS strftime(', ' IS sxrftime(')"
        db.execute(f"UPDATE sqlite_schema SET sql = {spelt} WHERE name = 'activity_log'")
        db.pragma("schema_version", db.pragma("schema_version") + 1)


async def test_a_schema_that_nobody_can_follow_is_found_by_whoever_looks(boards: Boards) -> None:
    """S14, S15"""
    async with boards() as board:
        ann = await board.agent("ann")
        misspell(board)
        with board.opened.store.connect() as db:
            assert [broken.rule for broken in integrity.examine(db)] == [integrity.PAGES]
        board.clock.turn(3_600)
        assert not (await board.opened.health())["ok"]
        refusal = await board.refusal("acquire_file_lock", agent_id=ann.id, file_path="a.py")
        assert refusal["code"] == "store_corrupt"


async def test_a_page_that_cannot_be_read_is_damage_where_the_whole_cannot_be_looked_through(
    boards: Boards,
) -> None:
    """S14"""

    def torn(tx: Tx) -> None:
        raise apsw.CorruptError("a page")

    async with boards() as board:
        misspell(board)
        with pytest.raises(StoreCorrupt):
            await board.opened.store.read(torn)


async def test_a_sound_store_passes_its_check(boards: Boards) -> None:
    """S15"""
    async with boards() as board:
        ann = await board.agent("ann")
        board.clock.turn(3600)
        assert (await ann.get_server_info())["quick_check_age_seconds"] == 3600
        assert (await board.opened.health())["quick_check_age_seconds"] == 0, "whoever asks has it looked at"
        board.clock.turn(59)
        assert (await board.opened.health())["quick_check_age_seconds"] == 59, "but not at every turn"
        await ann.acquire_file_lock(file_path="a.py")


WRITER = """
import sys, itertools
import anyio
from callboard.board import Config, open_board

async def main():
    async with open_board(Config(transport="http")) as board:
        agent = (await board.call("register_agent", {"role": "developer"}))["agent_id"]
        for number in itertools.count():
            note = {"agent_id": agent, "action_type": "note", "summary": f"{sys.argv[1]}-{number}"}
            await board.call("log_activity", note)
            print(note["summary"], flush=True)

anyio.run(main)
"""


async def test_a_killed_process_loses_nothing_that_it_acknowledged(boards: Boards) -> None:
    """Q1, S16: three rounds of SIGKILL in the middle of writing; the next start finds every answered call."""
    acknowledged: list[str] = []
    async with boards() as board:
        for generation in range(3):
            writer = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(generation)],
                cwd=board.folder,
                env=os.environ | {"PYTHONPATH": str(SERVER)},
                stdout=subprocess.PIPE,
                text=True,
            )
            with writer:
                assert writer.stdout is not None
                heard = [writer.stdout.readline() for _ in range(20 + 7 * generation)]
                writer.send_signal(signal.SIGKILL)
                heard += writer.stdout.readlines()
            # The last line may be cut off, and was then acknowledged to nobody.
            acknowledged += [line.strip() for line in heard if line.endswith("\n")]
        assert len(acknowledged) >= 80
        noted = await board.rows("SELECT summary FROM activity_log WHERE action_type = 'note'")
        missing = set(acknowledged) - {summary for (summary,) in noted}
        assert missing == set()
        assert await board.rows("PRAGMA integrity_check") == [("ok",)]
