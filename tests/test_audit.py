"""The audit: whatever was done to the ledger behind the server's back is found, and where it begins."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from callboard import audit
from callboard.audit import Anchor
from callboard.domains.history import entry_hash
from tests.conftest import Board

ENTRIES = 20
COLUMNS = ", ".join(audit.HASHED)


@pytest.fixture
async def ledger(board: Board, tmp_path: Path) -> Path:
    """A copy of a store whose ledger has some entries."""
    ann = await board.agent("ann")
    for number in range(ENTRIES):
        await ann.log_activity(action_type="note", summary=f"step {number}")
    return writable(board, tmp_path / "ledger.db")


def writable(board: Board, copy: Path) -> Path:
    """A copy of a board's store whose ledger can be changed."""
    with (
        closing(board.opened.store.connect()) as source,
        closing(apsw.Connection(str(copy))) as target,
        target.backup("main", source, "main") as copying,
    ):
        copying.step(-1)
    with closing(apsw.Connection(str(copy))) as db:
        for trigger in ("_activity_log_keeps_rows", "_activity_log_keeps_unsealed_rows"):
            db.execute(f"DROP TRIGGER {trigger}")
    return copy


def anchors_of(path: Path, *places: int) -> list[Anchor]:
    with closing(apsw.Connection(str(path))) as db:
        return [
            Anchor(seq, bytes(digest).hex(), "2026-01-01T12:00:00.000Z")
            for seq, digest in db.execute("SELECT id, entry_hash FROM activity_log ORDER BY id")
            if seq in places
        ]


def written_anew(db: apsw.Connection, after: int) -> None:
    """Compute the chain again, as one does who may write the store and knows how it is made."""
    previous = db.execute("SELECT entry_hash FROM activity_log WHERE id = ?", (after,)).get
    for row in db.execute(
        f"SELECT {COLUMNS} FROM activity_log WHERE id > ? ORDER BY id", (after,)
    ).fetchall():
        own = entry_hash(previous, dict(zip(audit.HASHED, row, strict=True)))
        db.execute(
            "UPDATE activity_log SET prev_hash = ?, entry_hash = ? WHERE id = ?", (previous, own, row[0])
        )
        previous = own


def change(db: apsw.Connection) -> None:
    db.execute("UPDATE activity_log SET summary = 'something else' WHERE id = 7")


def unlink(db: apsw.Connection) -> None:
    db.execute("UPDATE activity_log SET prev_hash = zeroblob(32) WHERE id = 7")


def delete(db: apsw.Connection) -> None:
    db.execute("DELETE FROM activity_log WHERE id = 7")


def reorder(db: apsw.Connection) -> None:
    db.execute("UPDATE activity_log SET id = 1000 WHERE id = 7")
    db.execute("UPDATE activity_log SET id = 7 WHERE id = 8")
    db.execute("UPDATE activity_log SET id = 8 WHERE id = 1000")


def insert(db: apsw.Connection) -> None:
    db.execute("UPDATE activity_log SET id = -id WHERE id > 6")
    db.execute("UPDATE activity_log SET id = 1 - id WHERE id < 0")
    db.execute(
        "INSERT INTO activity_log (id, agent_id, agent_role, action_type, summary, prev_hash, "
        "entry_hash) SELECT 7, agent_id, agent_role, action_type, 'slipped in', prev_hash, entry_hash "
        "FROM activity_log WHERE id = 8"
    )


@pytest.mark.parametrize("tampering", [change, unlink, delete, reorder, insert])
async def test_the_chain_shows_what_was_done_to_it_and_where(
    ledger: Path, tampering: Callable[[apsw.Connection], None]
) -> None:
    """H4"""
    with closing(apsw.Connection(str(ledger))) as db:
        assert audit.verify(db).sound
        tampering(db)
        verdict = audit.verify(db)
        assert (verdict.sound, verdict.first_bad) == (False, 7), verdict


async def test_a_cut_tail_is_found_by_the_anchors_and_by_the_numbers_given(ledger: Path) -> None:
    """H3, H4"""
    [anchor] = anchors_of(ledger, 20)
    with closing(apsw.Connection(str(ledger))) as db:
        db.execute("DELETE FROM activity_log WHERE id > 18")
        assert audit.verify(db).first_bad == 19
        db.execute("UPDATE sqlite_sequence SET seq = 18 WHERE name = 'activity_log'")
        assert audit.verify(db).sound, "a bare chain does not show what it has lost"
        verdict = audit.verify(db, [anchor])
        assert verdict.first_bad == 19 and verdict.problem is not None and "20" in verdict.problem


async def test_a_chain_that_was_computed_anew_differs_from_its_anchors(ledger: Path) -> None:
    """H3, H4"""
    anchors = anchors_of(ledger, 5, 15)
    with closing(apsw.Connection(str(ledger))) as db:
        change(db)
        written_anew(db, 6)
        assert audit.verify(db).sound, "a bare chain does not show it"
        assert audit.verify(db, anchors).first_bad == 6


async def test_the_chain_goes_on_behind_a_sealed_segment(ledger: Path) -> None:
    """H2"""
    anchors = anchors_of(ledger, 5, 10, 15)
    with closing(apsw.Connection(str(ledger))) as db:
        db.execute(
            "INSERT INTO _activity_seals (first_seq, last_seq, last_hash) "
            "SELECT 1, 10, entry_hash FROM activity_log WHERE id = 10"
        )
        db.execute("DELETE FROM activity_log WHERE id <= 10")
        verdict = audit.verify(db, anchors)
        assert verdict.sound and verdict.entries == verdict.last_seq - 10
        db.execute("UPDATE _activity_seals SET last_hash = zeroblob(32)")
        assert audit.verify(db, anchors).first_bad is not None


def test_the_end_is_anchored_after_a_thousand_entries_or_ten_minutes(tmp_path: Path) -> None:
    """H3"""
    file = tmp_path / "far" / "anchors.jsonl"

    def ask(seq: int, minute: int) -> bool:
        tail = Anchor(seq, "aa", f"2026-01-01T12:{minute:02d}:00.000Z")
        return audit.anchor_if_due(file, tail) is not None

    assert ask(1, 0)
    assert not ask(1_000, 9)
    assert ask(1_001, 9)
    assert not ask(1_001, 59), "nothing is new"
    assert ask(1_002, 59)
    assert [anchor.seq for anchor in audit.read_anchors(file)] == [1, 1_001, 1_002]
    assert not ask(900, 59), "another process was further on"


def test_a_file_that_is_no_list_of_anchors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anchors").write_text('{"seq": 1}\n')
    with pytest.raises(ValueError, match="line 1"):
        audit.read_anchors(tmp_path / "anchors")
