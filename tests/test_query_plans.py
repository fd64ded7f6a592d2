"""What each statement reads: none goes through the whole of a table that grows, but for those named here.

SQLite itself tells, of a store without statistics. That is what every store is: nothing here calls ANALYZE.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing

import apsw
import pytest

from callboard.guards import reader
from tests.rows import new_store
from tests.test_contract import OWNERS, statements

FEW: Mapping[str, str] = {
    "_credentials": "as many as people and agents were given tokens",
    "_lock_delays": "the paths that rest right now: a delay that is over is swept",
    "_lock_waiters": "who waits for a lease right now: a ticket ends with its call, or soon after",
    "_processes": "the servers that run on the store: one that is gone is forgotten",
    "_signing_keys": "as many as people sign with",
    "chat_groups": "a project has 10,000 at most, and their names are short",
    "projects": "as many as repositories share the store",
    "roles": "the built-in ones and those that people define",
}
"""Tables that any statement may go through, and what keeps them small."""

FEW_IN: Mapping[str, str] = {"_idx_project_sessions_live": "runs of leads that have not ended"}
"""Partial indexes that any statement may go through, and what is in them."""

COUNTED = re.compile(r"_fts_\w+_docsize")
"""What full-text search keeps of each row: a few bytes. Searches count its rows, for which SQLite reads the
headers of its pages only: 0.1 ms for 100,000."""

REMOVAL = "a person removes a whole project, once"
RETENTION = "what is over leaves by its age, by a command of the operator's"

ALLOWED: Mapping[tuple[str, str], str] = {
    ("domains.history.TAIL", "activity_log"): "has no condition: the first entry of the index is the answer",
    ("duties.SWEEP_OUTBOX", "_events"): "once a minute, of a table that holds ten minutes",
    ("cli.doctor.HELD_THROUGH", "_agent_processes"): "a person asks, of as many rows as agents are connected",
    ("http.metrics.LEVELS", "agent_roster"): "figures are scraped: counts the roster by an index",
    ("http.metrics.LEVELS", "dag_tasks"): "figures are scraped: counts the tasks by an index",
    ("http.metrics.LEVELS", "message_queue"): "figures are scraped: the index holds what is queued, no more",
    ("removal.REMOVE", "message_queue"): REMOVAL,
    ("removal.REMOVE", "chat_group_messages"): REMOVAL,
    ("removal.REMOVE", "_chat_group_leavers"): REMOVAL,
    ("removal.REMOVE", "chat_group_members"): REMOVAL,
    ("removal.REMOVE", "timers"): REMOVAL,
    ("retention.COUNT", "message_queue"): RETENTION,
    ("retention.DELETE", "message_queue"): RETENTION,
}
"""Statements that do go through a table that grows, and why each may."""

SQL = {
    f"{module.removeprefix('callboard.')}.{name}": statement.sql
    for module, name, statement in statements()
    if OWNERS[id(statement)] == module
} | {
    f"guards.reader.{name}": statement
    for name, statement in vars(reader).items()
    if isinstance(statement, str) and statement in reader.STATEMENTS
}

_SCAN = re.compile(
    r"(?:SCAN|SEARCH(?=.* USING AUTOMATIC )) (\w+)(?:.* VIRTUAL TABLE INDEX (.*)|.* INDEX (\w+))?"
)
"""A step of a plan that goes through everything: of what, of a virtual table in which way, by which index. An
automatic index is made by such a step, for one run of one statement."""


@pytest.fixture(scope="module")
def db() -> Iterator[apsw.Connection]:
    with closing(new_store()) as connection:
        yield connection


def plan(db: apsw.Connection, sql: str) -> list[str]:
    """The steps by which SQLite would run a statement."""
    anything = defaultdict[str, None](lambda: None)
    return [str(step[3]) for step in db.execute(f"EXPLAIN QUERY PLAN {sql}", anything)]


def scanned(db: apsw.Connection, sql: str) -> set[str]:
    """The tables of which a statement goes through every row, and are not known to be small.

    Rows that the statement itself made (a view's, a subquery's, those of a JSON array) are no table's: what
    they were made from has steps of its own.
    """
    tables = {str(name) for (name,) in db.execute("SELECT name FROM pragma_table_list WHERE type <> 'view'")}
    found: set[str] = set()
    for step in plan(db, sql):
        if (scan := _SCAN.match(step)) is None:
            continue
        name, way, index = scan.groups()
        of = tables & {name, *re.findall(rf"\b(\w+) AS {name}\b", sql)}
        if way is not None:
            # A full-text index is asked for matches (M) or for one row (=), or else reads the whole table.
            of = {table for table in of if table.startswith("_fts_") and not re.search("[M=]", way)}
        if index not in FEW_IN:
            found |= {table for table in of if table not in FEW and not COUNTED.fullmatch(table)}
    return found


@pytest.mark.parametrize("name", SQL)
def test_no_statement_goes_through_a_table_that_grows(db: apsw.Connection, name: str) -> None:
    family = name.split("[")[0]
    assert {table for table in scanned(db, SQL[name]) if (family, table) not in ALLOWED} == set()


def test_nothing_is_allowed_that_no_statement_needs(db: apsw.Connection) -> None:
    needed = {(name.split("[")[0], table) for name, sql in SQL.items() for table in scanned(db, sql)}
    assert needed == set(ALLOWED)
    steps = [scan for sql in SQL.values() for step in plan(db, sql) if (scan := _SCAN.match(step))]
    words = {word for sql in SQL.values() for word in re.findall(r"\w+", sql)}
    assert set(FEW) <= words
    assert set(FEW_IN) <= {scan[3] for scan in steps}


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("domains.history.LISTINGS[('type', 'ASC')]", "idx_activity_type"),
        ("domains.history.LISTINGS[('type', 'DESC')]", "idx_activity_type"),
        ("domains.history.LISTINGS[('agent', 'ASC')]", "idx_activity_agent"),
        ("domains.history.LISTINGS[('agent', 'DESC')]", "idx_activity_agent"),
        ("guards.reader.LOSSES", "idx_activity_type"),
    ],
)
def test_what_is_rare_in_the_ledger_is_not_looked_for_among_all_of_a_project(
    db: apsw.Connection, name: str, index: str
) -> None:
    """Nearly every entry is of the one project that a store serves: an index on it finds everything."""
    [step] = [step for step in plan(db, SQL[name]) if step.startswith("SEARCH")]
    assert f"INDEX {index} " in step


def test_each_index_of_our_own_serves_a_statement(db: apsw.Connection) -> None:
    """An index that nothing reads by is written with every row all the same. The model's own may serve others
    who read the store; one that begins with an underscore is there for what stands here."""
    told = "\n".join(step for sql in SQL.values() for step in plan(db, sql))
    own = db.execute(
        "SELECT name FROM sqlite_schema WHERE name GLOB '_idx_*' AND sql NOT LIKE 'CREATE UNIQUE%'"
    )
    assert {str(name) for (name,) in own} - set(re.findall(r"INDEX (\w+)", told)) == set()


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT message FROM timers WHERE message = :m", {"timers"}),
        ("SELECT t.message FROM timers AS t WHERE t.message = :m", {"timers"}),
        ("DELETE FROM message_queue WHERE payload = :m", {"message_queue"}),
        ("SELECT * FROM roles AS r LEFT JOIN timers AS t ON t.message = r.id", {"timers"}),
        ("SELECT * FROM roles WHERE EXISTS (SELECT 1 FROM timers WHERE message <> :m)", {"timers"}),
        ("SELECT agent_id FROM timers ORDER BY agent_id", {"timers"}),
        ("SELECT count(*) FROM _leases WHERE reason = :m", {"file_locks", "_lock_holders"}),
        ("SELECT count(*) FROM _leases WHERE agent_id = :m", set()),
        ("SELECT count(*) FROM (SELECT role FROM dag_tasks LIMIT 9) AS d", {"dag_tasks"}),
        ("WITH c AS (SELECT role FROM dag_tasks WHERE seq = :m) SELECT * FROM c", set()),
        ("SELECT content FROM _fts_messages WHERE content = :m", {"_fts_messages"}),
        ("SELECT rowid FROM _fts_messages AS f WHERE f._fts_messages MATCH :m", set()),
        ("SELECT value FROM json_each(:m)", set()),
    ],
)
def test_a_scan_is_seen_under_any_name(db: apsw.Connection, sql: str, tables: set[str]) -> None:
    assert scanned(db, sql) == tables


def test_what_refers_to_a_row_is_found_by_an_index(db: apsw.Connection) -> None:
    """A row is not deleted before SQLite has looked for what refers to it, in each table that may."""
    tables = [str(name) for (name,) in db.execute("SELECT name FROM pragma_table_list WHERE schema = 'main'")]
    references = 0
    for table in tables:
        columns = defaultdict[int, list[str]](list)
        for number, _, _, column, *_ in db.execute(f"PRAGMA foreign_key_list({table})").fetchall():
            columns[int(str(number))].append(f"{column} = :{column}")
        for terms in columns.values():
            references += 1
            assert scanned(db, f"SELECT 1 FROM {table} WHERE {' AND '.join(terms)}") == set()
    assert references > 10
