"""Pruning: what is over leaves when its time is up, and nothing else ever does."""

import json
from contextlib import closing

import pytest

from callboard import audit, integrity, retention
from callboard.domains.history import entry_hash
from callboard.errors import HumanRequired
from tests.conftest import Board, Boards

DAY = 86_400


async def _busy(board: Board) -> None:
    """Messages, timers and entries of every kind, most of them over."""
    ann = await board.agent("ann", role="lead")
    ben = await board.agent("ben")
    for words in ("read", "left"):
        await ann.send_message(to="ben", content=words)
        if words == "read":
            got = await ben.receive_messages()
            await ben.ack_messages(receipts=[message["receipt"] for message in got["messages"]])
    await ann.set_timer(label="over", message="soon", delay="5s")
    await ann.set_timer(label="to come", message="later", delay="10m")
    await board.turn(10)


async def pruned(boards: Boards) -> retention.Pruned:
    """What the command does, once a person has confirmed it."""
    async with boards(transport="cli") as command:
        return await command.opened.prune(person="maria")


async def test_what_is_over_leaves_and_what_is_not_stays(board: Board, boards: Boards) -> None:
    await _busy(board)
    board.clock.turn(8 * DAY)
    queued = await board.rows("SELECT * FROM message_queue WHERE status = 'queued'")
    pending = await board.rows("SELECT id FROM timers WHERE status = 'pending'")
    planned = await retention.look(board.opened.store)
    assert planned.rows["delivered messages"] >= 1 and planned.rows["ended timers"] == 1

    done = await pruned(boards)

    assert done.rows == planned.rows
    assert await board.rows("SELECT * FROM message_queue WHERE status = 'queued'") == queued != []
    assert await board.rows("SELECT id FROM timers WHERE status = 'pending'") == pending != []
    assert await board.rows("SELECT 1 FROM timers WHERE status <> 'pending'") == []
    assert await board.rows("SELECT 1 FROM pragma_foreign_key_check") == []


async def test_nothing_leaves_before_its_time(board: Board, boards: Boards) -> None:
    await _busy(board)
    board.clock.turn(6 * DAY)
    before = await board.contents() | {"_processes": []}
    done = await pruned(boards)
    assert set(done.rows.values()) == {0} and done.segment is None
    assert await board.contents() | {"_processes": []} == before


async def test_nothing_of_a_live_session_leaves(board: Board) -> None:
    await _busy(board)
    await board.call("start_project_session", agent_id="ann", task="go on")
    board.clock.turn(400 * DAY)
    planned = await retention.look(board.opened.store)
    assert (planned.rows["delivered messages"], planned.rows["ended timers"]) == (0, 0)


async def test_old_entries_leave_the_ledger_as_a_sealed_segment(board: Board, boards: Boards) -> None:
    await _busy(board)
    board.clock.turn(31 * DAY)
    await board.agent("cid")
    [[last]] = await board.rows("SELECT max(id) FROM activity_log")

    done = await pruned(boards)

    assert done.segment is not None
    entries = [json.loads(line) for line in done.segment.read_text().splitlines()]
    assert len(entries) == done.rows[retention.ENTRIES] > 3
    assert entries[-1]["seq"] < last
    [[sealed]] = await board.rows("SELECT last_hash FROM _activity_seals")
    counted = await board.rows("SELECT sum(entries), min(day), max(day) FROM _activity_days")
    assert counted == [(len(entries), entries[0]["timestamp"][:10], entries[-1]["timestamp"][:10])]
    previous = bytes(32)
    for entry in entries:
        assert entry["prev_hash"] == previous.hex()
        previous = entry_hash(previous, {name: entry[name] for name in audit.HASHED})
    assert previous == sealed
    with closing(board.opened.store.connect()) as db:
        assert integrity.examine(db) == []
        assert audit.verify(db).last_seq > last
    again = await pruned(boards)
    assert (again.rows[retention.ENTRIES], again.segment) == (0, None)


async def test_a_broken_ledger_is_not_sealed(board: Board, boards: Boards) -> None:
    await _busy(board)
    board.clock.turn(31 * DAY)
    with closing(board.opened.store.connect(readonly=False)) as db:
        trigger = db.execute("SELECT sql FROM sqlite_schema WHERE name = '_activity_log_keeps_rows'").get
        db.execute("DROP TRIGGER _activity_log_keeps_rows")
        db.execute("UPDATE activity_log SET summary = 'else' WHERE id = 2")
        db.execute(trigger)
    with pytest.raises(ValueError, match="entry 2 is not what was written"):
        await pruned(boards)
    assert await board.rows("SELECT 1 FROM _activity_seals") == []


async def test_only_a_person_prunes(boards: Boards) -> None:
    async with boards(transport="cli") as command:
        with pytest.raises(HumanRequired):
            await command.opened.prune()


async def test_a_days_limit_shortens_and_never_lengthens(board: Board) -> None:
    await _busy(board)
    board.clock.turn(3 * DAY)
    assert (await retention.look(board.opened.store, 2)).rows["ended timers"] == 1
    assert (await retention.look(board.opened.store, 5)).rows["ended timers"] == 0
    board.clock.turn(5 * DAY)
    assert (await retention.look(board.opened.store, 400)).rows["ended timers"] == 1
