"""What the schema keeps by itself: the ledger, the counters, search, and the cost of hot queries."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import closing

import apsw
import pytest

from callboard.domains import history
from tests.rows import (
    EXPECTED,
    NOW,
    legal,
    new_store,
    put,
)


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    with closing(new_store()) as connection:
        yield connection


@pytest.fixture
def bare(db: apsw.Connection) -> apsw.Connection:
    """A store whose rows need no parents, to try one column at a time."""
    db.pragma("foreign_keys", False)
    return db


# --- rules --------------------------------------------------------------------------------------------------


def activity(db: apsw.Connection, place: int, summary: str = "took a lock") -> None:
    put(db, "activity_log", id=place, summary=summary, details="{}")


def test_the_ledger_cannot_be_edited(db: apsw.Connection) -> None:
    """H2"""
    activity(db, 1)
    for statement in ("UPDATE activity_log SET summary = 'other'", "DELETE FROM activity_log"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            db.execute(statement)
    columns = "id, agent_id, agent_role, action_type, summary, prev_hash, entry_hash"
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        db.execute(f"INSERT OR REPLACE INTO activity_log ({columns}) SELECT {columns} FROM activity_log")
    assert db.execute("SELECT summary FROM activity_log").get == "took a lock"


def test_only_sealed_rows_leave_the_ledger(db: apsw.Connection) -> None:
    """H2"""
    for place in (1, 2, 3):
        activity(db, place)
    put(db, "_activity_seals", first_seq=1, last_seq=2)
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        db.execute("DELETE FROM activity_log WHERE id <= 3")
    db.execute("DELETE FROM activity_log WHERE id <= 2")
    assert db.execute("SELECT group_concat(id) FROM activity_log").get == "3"


def test_a_fence_never_falls(db: apsw.Connection) -> None:
    """L2"""
    db.execute("UPDATE settings SET value = '9' WHERE key = 'store.fence'")
    with pytest.raises(apsw.ConstraintError, match="never falls"):
        db.execute("UPDATE settings SET value = '8' WHERE key = 'store.fence'")


def test_the_lead_of_a_session_never_changes(db: apsw.Connection) -> None:
    put(db, "projects", id="p")
    put(db, "project_sessions", project_id="p", lead_id="lead-1")
    with pytest.raises(apsw.ConstraintError, match="never changes"):
        db.execute("UPDATE project_sessions SET lead_id = 'lead-2'")


def test_no_machine_approves_what_needs_confirmation(db: apsw.Connection) -> None:
    """G4"""
    with pytest.raises(apsw.ConstraintError, match="human_gate"):
        put(db, "decisions", needs_confirmation=1, auto_approved=1)
    with pytest.raises(apsw.ConstraintError, match="resolved_by_somebody"):
        put(db, "decisions", status="rejected")


@pytest.mark.parametrize("by", [None, "ann", "boss", "human:maria"])
def test_what_needs_confirmation_is_confirmed_by_a_human_who_is_not_its_author(
    db: apsw.Connection, by: str | None
) -> None:
    """G1"""
    confirmed = {"needs_confirmation": 1, "status": "confirmed", "confirmed_by": by}
    confirmed |= {"agent_id": "human:maria"}
    with pytest.raises(apsw.ConstraintError, match=r"confirmed_by_another_human|resolved_by_somebody"):
        put(db, "decisions", **confirmed, assurance="client")
    with pytest.raises(apsw.ConstraintError, match=r"confirmed_by_another_human|resolved_by_somebody"):
        put(db, "decisions", **(confirmed | {"agent_id": "ann"}))
    if by == "human:maria":
        put(db, "decisions", **(confirmed | {"agent_id": "ann"}), assurance="client")


def test_lines_and_members_go_with_what_they_belong_to(db: apsw.Connection) -> None:
    put(db, "conversations", id="c")
    put(db, "messages", conversation_id="c")
    put(db, "chat_groups", name="g", lead_id="l")
    put(db, "chat_group_members", group_name="g", lead_id="l")
    put(db, "chat_group_messages", group_name="g", lead_id="l")
    db.execute("DELETE FROM conversations; DELETE FROM chat_groups")
    for table in ("messages", "chat_group_members", "chat_group_messages"):
        assert db.execute(f"SELECT count(*) FROM {table}").get == 0


UNMET = """
    SELECT t.id, t.unmet, t.dependents,
           (SELECT count(*) FROM _task_edges AS e
              JOIN dag_tasks AS d ON d.lead_id = e.lead_id AND d.id = e.dep_id
             WHERE e.lead_id = t.lead_id AND e.task_id = t.id
               AND d.dag_status NOT IN ('done', 'skipped') AND d.archived_at IS NULL)
         + (SELECT count(*) FROM _task_decisions AS w JOIN decisions AS d ON d.id = w.decision_id
             WHERE w.lead_id = t.lead_id AND w.task_id = t.id AND d.status <> 'confirmed'
               AND (d.status <> 'recorded' OR d.needs_confirmation = 1)),
           (SELECT count(*) FROM _task_edges AS e WHERE e.lead_id = t.lead_id AND e.dep_id = t.id)
      FROM dag_tasks AS t"""


def test_the_counters_of_a_task_equal_a_recount_after_any_change(db: apsw.Connection) -> None:
    chance = random.Random(11)
    statuses = legal("dag_tasks", "dag_status", "values")
    outcomes = legal("decisions", "status", "values")
    for number in range(12):
        put(db, "dag_tasks", id=f"t{number}", lead_id="l", seq=number)
    for number in range(4):
        put(
            db,
            "decisions",
            id=f"d{number}",
            seq=number,
            confirmed_by="human:maria",
            assurance="client",
            needs_confirmation=number % 2,
        )
    for step in range(1_500):
        one, other = (f"t{number}" for number in chance.sample(range(12), 2))
        decision = f"d{chance.randrange(4)}"
        match chance.randrange(8):
            case 0 | 1:
                db.execute("INSERT INTO _task_edges VALUES ('l', ?, ?) ON CONFLICT DO NOTHING", (one, other))
            case 2:
                db.execute("DELETE FROM _task_edges WHERE task_id = ? AND dep_id = ?", (one, other))
            case 3:
                db.execute("UPDATE dag_tasks SET dag_status = ? WHERE id = ?", (chance.choice(statuses), one))
            case 4:
                archived = chance.choice([None, NOW])
                db.execute("UPDATE dag_tasks SET archived_at = ? WHERE id = ?", (archived, one))
            case 5:
                db.execute(
                    "INSERT INTO _task_decisions VALUES ('l', ?, ?) ON CONFLICT DO NOTHING", (one, decision)
                )
            case 6:
                db.execute(
                    "UPDATE decisions SET status = ? WHERE id = ?", (chance.choice(outcomes), decision)
                )
            case _ if step % 3 == 0:
                db.execute("DELETE FROM dag_tasks WHERE id = ?", (one,))
                put(db, "dag_tasks", id=one, lead_id="l", seq=1_000 + step)
        for name, unmet, dependents, *recounted in db.execute(UNMET).fetchall():
            assert [unmet, dependents] == recounted, name
    assert db.execute("SELECT * FROM pragma_foreign_key_check").fetchall() == []


# --- search -------------------------------------------------------------------------------------------------

SEARCHED = {
    "_fts_activity": ("activity_log", "summary"),
    "_fts_queue": ("message_queue", "payload"),
    "_fts_messages": ("messages", "content"),
    "_fts_group_messages": ("chat_group_messages", "content"),
    "_fts_decisions": ("decisions", "title"),
    "_fts_collective_memory": ("collective_memory", "value"),
    "_fts_knowledge": ("knowledge", "content"),
    "_fts_tasks": ("dag_tasks", "description"),
}


def test_every_full_text_table_is_tried() -> None:
    assert set(SEARCHED) == {
        name.removeprefix("table ") for name in EXPECTED if name.startswith("table _fts_")
    }


@pytest.mark.parametrize("index", SEARCHED)
def test_search_finds_what_stands_in_the_table_and_nothing_else(bare: apsw.Connection, index: str) -> None:
    table, column = SEARCHED[index]

    def hits(word: str) -> int:
        return int(bare.execute(f"SELECT count(*) FROM {index} WHERE {index} MATCH ?", (f'"{word}"',)).get)

    def text(words: str) -> str:
        return json.dumps({"text": words}) if column == "payload" else words

    put(bare, table, **{column: text("Locking the façades"), "search_words": "parse tree"})
    if table == "activity_log":
        assert hits("lock") == 0, "entries are indexed many at a time"
        bare.execute(history.INDEX.sql, {"most": 1})
    assert (hits("lock"), hits("facade"), hits("tree"), hits("wardrobe")) == (1, 1, 1, 0)
    if table == "activity_log":
        put(bare, "_activity_seals", first_seq=1, last_seq=1)
    else:
        bare.execute(f"UPDATE {table} SET {column} = ?, search_words = ''", (text("a wardrobe"),))
        assert (hits("lock"), hits("tree"), hits("wardrobe")) == (0, 0, 1)
    bare.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")
    bare.execute(f"DELETE FROM {table}")
    assert (hits("lock"), hits("wardrobe")) == (0, 0)
    bare.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")


def test_a_group_post_in_an_inbox_is_not_a_second_hit(bare: apsw.Connection) -> None:
    put(bare, "message_queue", payload="{}", group_message_id="gm")
    assert bare.execute("SELECT text FROM message_queue").get is None


# --- cost ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        (
            "SELECT * FROM _leases WHERE prefix >= :a AND prefix < :b",
            {"_idx_file_locks_prefix", "_idx_lock_holders_prefix"},
        ),
        (
            "SELECT * FROM _leases WHERE prefix IN (SELECT value FROM json_each(:a))",
            {"_idx_file_locks_prefix", "_idx_lock_holders_prefix"},
        ),
        ("SELECT * FROM _leases WHERE agent_id = :a", {"idx_file_locks_agent", "_idx_lock_holders_agent"}),
        (
            "SELECT * FROM _leases WHERE expires_boot_ms <= :a",
            {"_idx_file_locks_expires", "_idx_lock_holders_expires"},
        ),
        (
            "SELECT * FROM message_queue WHERE target_agent_id = :a AND status = 'queued'"
            " AND visible_boot_ms <= :b ORDER BY priority_rank, id LIMIT 5",
            {"_idx_mq_inbox"},
        ),
        (
            "SELECT * FROM dag_tasks WHERE lead_id = :a AND role = :b AND dag_status = 'ready'"
            " AND archived_at IS NULL"
            " ORDER BY priority DESC, dependents DESC, seq LIMIT 1",
            {"_idx_dag_tasks_ready"},
        ),
        ("SELECT id FROM timers WHERE status = 'pending' AND fire_boot_ms <= :a", {"_idx_timers_due"}),
    ],
)
def test_a_hot_query_reads_its_index_and_sorts_nothing(
    db: apsw.Connection, query: str, indexes: set[str]
) -> None:
    for statistics in (False, True):
        if statistics:
            db.execute("ANALYZE")
        plan = [
            str(row[3]) for row in db.execute("EXPLAIN QUERY PLAN " + query, {"a": "x", "b": "y"}).fetchall()
        ]
        assert {
            found for line in plan for found in re.findall(r"USING (?:COVERING )?INDEX (\w+)", line)
        } == indexes
        assert not any("TEMP B-TREE" in line for line in plan)
