"""After a reboot, every deadline means what it meant before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from callboard import reboot
from callboard.clock import utc_text
from tests.rows import put
from tests.starting import NOW, connect, prepare


def wall(seconds: float) -> str:
    return utc_text(NOW + timedelta(seconds=seconds))


@pytest.fixture
def rebooted(store: Path) -> Iterator[apsw.Connection]:
    """A store with deadlines of a boot at 9,000,000 ms; 60 s later it is started on one that is 5 s old."""
    with closing(connect(store)) as db:
        put(db, "_processes", process_id="p-stdio", transport="stdio")
        put(db, "_processes", process_id="p-http", transport="http")
        for agent, process in (("near", "p-stdio"), ("far", "p-http")):
            put(db, "agent_roster", agent_id=agent, name_key=agent, last_seen_boot_ms=8_999_000)
            if process == "p-stdio":
                put(db, "_agent_processes", agent_id=agent, process_id=process)
        put(db, "_lock_waiters", agent_id="far")
        put(db, "_lock_delays")
        put(db, "_events")
        for table in ("file_locks", "_lock_holders"):
            for agent, name, ends in (
                ("near", "a", 300),
                ("far", "b", 300),
                ("far", "c", 20),
                ("far", "d", -5_000),
            ):
                lease = {
                    "acquired_at": wall(ends - 600),
                    "expires_at": wall(ends),
                    "ttl_ms": 600_000,
                    "granted_boot_ms": 8_400_000 + ends * 1_000,
                    "expires_boot_ms": 9_000_000 + ends * 1_000,
                    "renew_until_boot_ms": 9_050_000 + ends * 1_000,
                }
                put(db, table, file_path=f"p:{name}", agent_id=agent, **lease)
        claim = {
            "lease_ttl_ms": 600_000,
            "lease_boot_ms": 9_300_000,
            "lease_expires_at": wall(300),
            "renew_until_boot_ms": 9_900_000,
        }
        put(db, "dag_tasks", id="near", seq=1, assigned_agent_id="near", **claim)
        put(db, "dag_tasks", id="far", seq=2, assigned_agent_id="far", **claim)
        put(db, "dag_tasks", id="idle", seq=3)
        for name, status, after in (("due", "pending", 30), ("soon", "pending", 90), ("old", "fired", 30)):
            put(db, "timers", id=name, status=status, fire_at=wall(after), fire_boot_ms=9_030_000)
        for visible, expires in (("", ""), (wall(30), wall(1_000)), (wall(90), "")):
            times = {"visible_at": visible or None, "expires_at": expires or None}
            put(db, "message_queue", visible_boot_ms=9_030_000, expires_boot_ms=9_999_000, **times)
        for created in (8_000_000, 8_900_000):
            put(db, "_request_keys", request_key=str(created), created_boot_ms=created)
    prepare(store, boot_id="boot-2", boot_ms=5_000, now=NOW + timedelta(seconds=60))
    with closing(connect(store)) as db:
        yield db


@pytest.mark.parametrize("table", ["file_locks", "_lock_holders"])
def test_leases_outlive_a_reboot_only_where_their_holder_can(rebooted: apsw.Connection, table: str) -> None:
    columns = "file_path, expires_boot_ms, expires_at, granted_boot_ms, renew_until_boot_ms"
    rows = rebooted.execute(f"SELECT {columns} FROM {table} ORDER BY file_path").fetchall()
    assert rows == [
        # Its stdio process is gone, so it is over now.
        ("p:a", 5_000, wall(60), 5_000 - 600_000, 5_000 + 50_000),
        # 240 s left on the wall clock, and one term of 600 s.
        ("p:b", 845_000, wall(900), 845_000 - 600_000, 845_000 + 50_000),
        # Its time ran out 40 s ago; the term is counted from then.
        ("p:c", 565_000, wall(620), 565_000 - 600_000, 565_000 + 50_000),
        # It ended long ago and is not revived.
        ("p:d", 5_000, wall(-5_000), 5_000 - 600_000, 5_000 + 50_000),
    ]


def test_claims_outlive_a_reboot_as_locks_do(rebooted: apsw.Connection) -> None:
    rows = rebooted.execute(
        "SELECT id, lease_boot_ms, lease_expires_at, renew_until_boot_ms FROM dag_tasks ORDER BY seq"
    ).fetchall()
    assert rows == [
        ("near", 5_000, wall(60), 605_000),
        ("far", 845_000, wall(900), 1_445_000),
        ("idle", None, None, None),
    ]


def test_timers_fire_at_their_wall_time_after_a_reboot(rebooted: apsw.Connection) -> None:
    rows = rebooted.execute("SELECT id, fire_boot_ms FROM timers ORDER BY id").fetchall()
    assert rows == [("due", 5_000), ("old", 9_030_000), ("soon", 35_000)]


def test_mail_keeps_its_wall_times_after_a_reboot(rebooted: apsw.Connection) -> None:
    rows = rebooted.execute(
        "SELECT visible_boot_ms, expires_boot_ms FROM message_queue ORDER BY id"
    ).fetchall()
    assert rows == [(0, None), (5_000, 945_000), (35_000, None)]


def test_the_newest_request_key_is_kept_a_day_from_a_reboot_and_none_for_ever(
    rebooted: apsw.Connection,
) -> None:
    rows = rebooted.execute("SELECT created_boot_ms FROM _request_keys ORDER BY 1").fetchall()
    assert rows == [(5_000 - 900_000,), (5_000,)]


def test_what_cannot_outlive_a_reboot_is_gone(rebooted: apsw.Connection) -> None:
    for table in ("_lock_waiters", "_lock_delays", "_events"):
        assert rebooted.execute(f"SELECT count(*) FROM {table}").get == 0
    assert rebooted.execute("SELECT DISTINCT last_seen_boot_ms FROM agent_roster").get == 0
    assert rebooted.execute("SELECT DISTINCT gone_boot_ms FROM _processes").get == 5_000
    rebooted.execute(
        "INSERT INTO _events (source, topic, kind, created_boot_ms) VALUES ('p', 'lock', 'granted', 1)"
    )
    assert rebooted.execute("SELECT id FROM _events").get == 2


def test_deadlines_are_carried_over_once(store: Path, rebooted: apsw.Connection) -> None:
    before = rebooted.execute("SELECT * FROM _leases").fetchall()
    prepare(store, boot_id="boot-2", boot_ms=9_000, now=NOW + timedelta(seconds=64))
    assert rebooted.execute("SELECT * FROM _leases").fetchall() == before


def test_every_boot_clock_column_is_carried_over(db: apsw.Connection) -> None:
    statements = {
        match[1]: sql for sql in reboot.CARRY_OVER if (match := re.search(r"(?:UPDATE|FROM) (\w+)", sql))
    }
    columns = db.execute(
        """SELECT t.name, c.name FROM pragma_table_list AS t, pragma_table_xinfo(t.name) AS c
            WHERE t.type = 'table' AND c.name LIKE '%boot\\_ms' ESCAPE '\\'"""
    ).fetchall()
    assert len(columns) > 15
    for table, column in columns:
        sql = statements[str(table)]
        assert sql.startswith("DELETE") or f"{column} = " in sql, (table, column)
