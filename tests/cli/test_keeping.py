"""`backup`, `restore`, `integrity`, `export`, `import`, `audit` and `prune`, as a person types them."""

import json
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from callboard import audit
from tests import terminal
from tests.cli.desk import Desk

STORE = Path(".callboard") / "board.db"


@pytest.fixture
def crew(desk: Desk) -> Desk:
    """A desk whose store has an agent."""
    desk.run("call", "register_agent", "role=developer", "--agent", "ann")
    return desk


def ledger(desk: Desk) -> int:
    told = json.loads(desk.run("audit", "verify", "--json").output)
    assert told["ok"]
    return int(told["entries"])


def test_a_backup_is_restored_and_the_ledger_still_holds(crew: Desk) -> None:
    crew.run("backup", "copy.db")
    before = ledger(crew)
    crew.run("call", "log_activity", "action_type=note", "summary=later", "--agent", "ann")
    assert ledger(crew) > before
    told = crew.run("restore", "copy.db").output
    assert "1,000,000 ahead" in told and ".replaced-" in told
    assert ledger(crew) == before
    assert "is sound" in crew.run("integrity").output


def test_an_export_is_imported_where_no_store_is(crew: Desk) -> None:
    crew.run("export", "all.jsonl")
    assert Path("all.jsonl").stat().st_mode & 0o077 == 0
    assert crew.run("export", "-").output.count("\n") == Path("all.jsonl").read_text().count("\n")
    assert "already" in crew.run("import", "all.jsonl", code=1).output
    STORE.rename("elsewhere.db")
    crew.run("import", "all.jsonl")
    assert ledger(crew) > 0
    told = json.loads(crew.run("export", "again.jsonl", "--json").stdout)
    assert told["path"] == str(Path("again.jsonl").absolute()) and told["rows"] > 0


def test_what_is_broken_is_named_and_ends_with_one(crew: Desk) -> None:
    with closing(apsw.Connection(str(STORE))) as db:
        db.execute("DELETE FROM _activity_seals; UPDATE settings SET value = '7' WHERE key = 'store.fence'")
        trigger = db.execute("SELECT sql FROM sqlite_schema WHERE name = '_activity_log_keeps_rows'").get
        db.execute("DROP TRIGGER _activity_log_keeps_rows")
        db.execute("UPDATE activity_log SET summary = 'else' WHERE id = 2")
        db.execute(str(trigger))
    assert "cannot be trusted from 2 on" in crew.run("audit", "verify", code=1).output
    told = json.loads(crew.run("integrity", "--json", code=1).output)
    assert [one["rule"] for one in told["broken"]] == ["the ledger's chain"]
    assert "entry 2" in crew.run("backup", "copy.db", code=1).output


def test_a_cut_tail_is_found_by_a_file_of_anchors(crew: Desk) -> None:
    audit.write_anchor(Path("anchors"), audit.Anchor(5_000, "aa", "2026-01-01T00:00:00.000Z"))
    told = crew.run("audit", "verify", "--anchor", "anchors", code=1).output
    assert "5000 was anchored" in told
    assert "no file of anchors" in crew.run("audit", "verify", "--anchor", "none", code=1).output


def test_only_a_person_prunes_and_anybody_may_look(crew: Desk) -> None:
    assert "would go" in crew.run("prune", "--dry-run").output
    assert "needs a person" in crew.run("prune", code=1).output
    session = terminal.run("prune\n", "prune")
    assert session.code == 0 and "it had" in session.said


@pytest.mark.parametrize("command", [("backup", "x"), ("export", "x"), ("integrity",), ("audit", "verify")])
def test_a_store_that_is_not_there_is_not_made(desk: Desk, command: tuple[str, ...]) -> None:
    assert "here is no store" in desk.run(*command, code=1).output
    assert not STORE.exists() and not Path("x").exists()
