"""The ledger and the files: what happened, that it cannot be rewritten unseen, and who knows what."""

import hashlib
import json
from typing import Any

import apsw
import pytest

from callboard.domains import crew, history
from tests.conftest import Agent, Board

# The columns that an entry's hash covers. The canonical form is written down here a second time, so that a
# change of the product's own shows: what was sealed under the old form could no longer be verified.
HASHED = (
    "action_type",
    "agent_id",
    "agent_role",
    "details",
    "lead_id",
    "origin",
    "project_id",
    "seq",
    "summary",
    "timestamp",
)


async def broken_link(board: Board) -> int | None:
    """The first entry of the ledger that does not follow from the one before it, None if all do."""
    names = ", ".join(HASHED)
    rows = await board.rows(f"SELECT {names}, prev_hash, entry_hash FROM activity_log ORDER BY id")
    previous = bytes(32)
    for place, row in enumerate(rows, 1):
        entry = dict(zip(HASHED, row[:-2], strict=True))
        canonical = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if entry["seq"] != place or row[-2] != previous:
            return place
        if row[-1] != hashlib.sha256(previous + canonical).digest():
            return place
        previous = row[-1]
    return None


async def everything(agent: Agent, tool: str, entries: str, **arguments: Any) -> list[dict[str, Any]]:
    """All pages of a list, one behind the other."""
    page = await agent.call(tool, **arguments)
    found: list[dict[str, Any]] = list(page[entries])
    forward = "before_id" if arguments.get("newest_first") else "after_id"
    while "next_after_id" in page:
        page = await agent.call(tool, **(arguments | {forward: page["next_after_id"]}))
        assert page[entries]
        found += page[entries]
    return found


async def noted(agent: Agent, *summaries: str, action_type: str = "note") -> None:
    for summary in summaries:
        await agent.log_activity(action_type=action_type, summary=summary)


def summaries(page: dict[str, Any]) -> list[str]:
    return [entry["summary"] for entry in page["entries"]]


# --- The ledger -------------------------------------------------------------------------------------------


async def test_every_change_leaves_its_entry_with_actor_and_object(board: Board) -> None:
    """Each row stands in the transaction of its change; what was refused or only read leaves none."""
    lea = await board.agent("lea", role="lead")
    ann = await board.agent("ann")
    await ann.acquire_file_lock(file_path="a.py")
    await board.refusal("acquire_file_lock", agent_id="lea", file_path="a.py")
    await ann.record_file_touch(file_paths=["b.py"], action="commit")
    await ann.update_agent(model="m-2")
    await ann.heartbeat(status="running")
    await ann.release_file_lock(file_path="a.py")
    await ann.list_agents()
    await lea.terminate_agent(target_agent_id="ann")
    told = await board.rows(
        "SELECT action_type, agent_id, agent_role FROM activity_log WHERE id > 1 ORDER BY id"
    )
    assert told == [
        ("agent_registered", "lea", "lead"),
        ("agent_registered", "ann", "developer"),
        ("lock_acquired", "ann", "developer"),
        ("file_commit", "ann", "developer"),
        ("agent_updated", "ann", "developer"),
        ("status_change", "ann", "developer"),
        ("lock_released", "ann", "developer"),
        ("agent_terminated", "lea", "lead"),
    ]


async def test_the_chain_of_hashes_holds_row_by_row(board: Board) -> None:
    """H1, over rows of the server and of agents, with every kind of text in them."""
    ann = await board.agent("ann", metadata={"a": 1})
    await ann.log_activity(
        action_type="note", summary='ä "quoted"\n日本', details={"b": [1, {"a": None}], "ä": 1.5}
    )
    await ann.acquire_file_locks(file_paths=["a.py", "b.py"])
    await ann.terminate_agent(reason="done")
    assert len(await board.rows("SELECT id FROM activity_log")) >= 5
    assert await broken_link(board) is None


@pytest.mark.parametrize(
    "column", ["id", *(name for name in HASHED if name != "seq"), "prev_hash", "entry_hash"]
)
async def test_a_change_of_any_column_breaks_the_chain_where_it_was_made(board: Board, column: str) -> None:
    """H4: even one who can take the triggers away is seen."""
    await noted(await board.agent("ann"), "one", "two", "three")
    place = (await board.rows("SELECT id FROM activity_log WHERE summary = 'two'"))[0][0]
    values = {"id": "id + 100", "details": "'{\"a\":1}'", "timestamp": "'2026-01-01T12:00:00.001Z'"}
    values |= {"origin": "'server'", "prev_hash": "zeroblob(32)", "entry_hash": "zeroblob(32)"}
    with board.opened.store.connect(readonly=False) as db:
        db.execute("DROP TRIGGER _activity_log_keeps_rows")
        changed = values.get(column, "'other'")
        db.execute(f"UPDATE activity_log SET {column} = {changed} WHERE id = {place}")
    assert await broken_link(board) == place


@pytest.mark.parametrize("statement", ["UPDATE activity_log SET summary = 'x'", "DELETE FROM activity_log"])
async def test_the_store_refuses_to_change_or_drop_an_entry(board: Board, statement: str) -> None:
    """H2"""
    with board.opened.store.connect(readonly=False) as db, pytest.raises(apsw.ConstraintError) as caught:
        db.execute(statement)
    assert "append-only" in str(caught.value)


async def test_a_refused_operation_leaves_no_entry_and_the_chain_goes_on(board: Board) -> None:
    await noted(await board.agent("ann"), "one")
    await board.refusal("register_agent", role="developer", agent_id="ann", lead_id="nobody")
    before = await board.rows("SELECT max(id) FROM activity_log")
    await board.refusal("record_file_touch", agent_id="ann", file_paths=["src/*.py"])
    assert await board.rows("SELECT max(id) FROM activity_log") == before
    assert await broken_link(board) is None


async def test_the_id_that_a_note_was_given_is_the_id_under_which_it_is_read(board: Board) -> None:
    ann = await board.agent("ann")
    note = await ann.log_activity(action_type="finding", summary="slow", details={"ms": 12})
    [entry] = (await ann.list_activity(after_id=note["activity_id"] - 1))["entries"]
    assert (entry["activity_id"], entry["summary"], entry["details"]) == (
        note["activity_id"],
        "slow",
        {"ms": 12},
    )
    assert (entry["agent_id"], entry["agent_role"], entry["timestamp"]) == (
        "ann",
        "developer",
        "2026-01-01T12:00:00.000Z",
    )


async def test_a_core_kind_from_an_agent_is_marked_as_its_own_word(board: Board) -> None:
    ann = await board.agent("ann")
    await noted(ann, "I say so", action_type="lock_acquired")
    await noted(ann, "just a note", action_type="my_own_kind")
    await ann.acquire_file_lock(file_path="a.py")
    entries = (await ann.list_activity(action_type="lock_acquired"))["entries"]
    assert [(entry["summary"], entry.get("reported")) for entry in entries] == [
        ("I say so", True),
        ("locked a.py (exclusive), fence 1", None),
    ]
    [note] = (await ann.list_activity(action_type="my_own_kind"))["entries"]
    assert "reported" not in note


async def test_secrets_are_masked_before_they_are_stored(board: Board) -> None:
    """P1: in the summary and at any depth of the details; the index does not hold them either."""
    ann = await board.agent("ann")
    secret = "ghp_" + "a1" * 18
    token = await board.token(agent="ann")
    await ann.log_activity(
        action_type="note", summary=f"key {secret}", details={"env": [{"value": f"x {secret}", "own": token}]}
    )
    [entry] = (await ann.list_activity(action_type="note"))["entries"]
    assert entry["summary"] == "key [redacted:github]"
    assert entry["details"] == {"env": [{"value": "x [redacted:github]", "own": "[redacted:callboard]"}]}
    for column in ("summary", "details", "search_words"):
        assert await board.rows(f"SELECT 1 FROM activity_log WHERE instr({column}, 'a1a1') > 0") == []
    assert (await ann.list_activity(query=secret))["entries"] == []


async def test_a_note_without_words_is_refused(board: Board) -> None:
    ann = await board.agent("ann")
    for summary in ("", "  \n", "\u200b\u200b"):
        refusal = await board.refusal("log_activity", agent_id=ann.id, action_type="note", summary=summary)
        assert refusal["fields"] == [{"field": "summary", "rule": "must not be blank"}]


async def test_details_over_their_limit_are_refused_whole(board: Board) -> None:
    await board.agent("ann")
    refusal = await board.refusal(
        "log_activity", agent_id="ann", action_type="note", summary="s", details={"a": "ä" * 5000}
    )
    assert (refusal["code"], refusal["field"], refusal["limit"]) == ("too_large", "details", 8192)
    assert refusal["size"] == 10_000 + len('{"a": ""}')


# --- Reading it -------------------------------------------------------------------------------------------


async def test_all_filters_combine(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await noted(ann, "parser is slow", action_type="finding")
    await noted(ben, "parser is fine", action_type="finding")
    board.clock.turn(60)
    await noted(ann, "parser is fast", action_type="finding")
    await noted(ann, "parser is done", action_type="progress")

    async def read(**filters: Any) -> list[str]:
        return summaries(await ann.list_activity(**filters))

    assert await read(query="parser") == [
        "parser is slow",
        "parser is fine",
        "parser is fast",
        "parser is done",
    ]
    assert await read(query="parser", target_agent_id="ann", action_type="finding") == [
        "parser is slow",
        "parser is fast",
    ]
    since = "2026-01-01T12:01:00Z"
    assert await read(target_agent_id="ann", action_type="finding", since=since) == ["parser is fast"]
    assert await read(query="parser", until=since, newest_first=True) == ["parser is fine", "parser is slow"]
    assert await read(action_type="finding", since=since, until="2026-01-01T12:01:00.000Z") == []
    assert await read(query="parser", target_agent_id="ben", since=since) == []
    first = (await ann.list_activity(query="parser"))["entries"][0]["activity_id"]
    assert await read(action_type="finding", after_id=first, before_id=first + 2) == ["parser is fine"]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    "filters", [{}, {"query": "step"}, {"target_agent_id": "ann"}, {"action_type": "note"}], ids=str
)
async def test_pages_have_no_gap_and_no_repeat_while_others_write(
    board: Board, filters: dict[str, str], newest_first: bool
) -> None:
    """Q8: ids are commit order, so what is written meanwhile comes behind what was read."""
    ann, ben = await board.agent("ann"), await board.agent("ben")
    for number in range(11):
        await noted(ann, f"step {number}")
        await noted(ben, f"step {number} too")
    whole = (await ann.list_activity(limit=200, newest_first=newest_first, **filters))["entries"]
    await noted(ann, "step late")
    paged = await everything(ann, "list_activity", "entries", limit=4, newest_first=newest_first, **filters)
    late = [entry["activity_id"] for entry in paged if entry["summary"] == "step late"]
    assert [entry for entry in paged if entry["activity_id"] not in late] == whole
    # The late one comes last, or first: the first page was read after it was written.
    assert late == [paged[0 if newest_first else -1]["activity_id"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("renew_leases", True),
        ("leases", True),
        ("lease", True),  # by its stem
        ("renewLeases", True),
        ("parser.py", True),
        ("fold name", True),
        ("ren", True),  # the last word may be the beginning of a longer one
        ("nothing", False),
        ('"; DROP TABLE activity_log; --', False),
        ("NOT NEAR OR (", False),
        ("***", False),
    ],
)
async def test_full_text_finds_identifiers_whole_and_by_their_parts(
    board: Board, query: str, found: bool
) -> None:
    ann = await board.agent("ann")
    await noted(ann, "calling renew_leases and foldName in src/text/parser.py")
    page = await ann.list_activity(query=query, action_type="note")
    assert len(page["entries"]) == found


@pytest.mark.parametrize("query", ["heron_nest", "heron", "reed", "reed/heron_nest.py"])
async def test_full_text_finds_identifiers_behind_a_line_break_in_details(board: Board, query: str) -> None:
    """Details are indexed as JSON, in which a line break ends in a letter."""
    ann = await board.agent("ann")
    await ann.log_activity(action_type="note", summary="seen", details={"where": "at\nreed/heron_nest.py"})
    assert len((await ann.list_activity(query=query, action_type="note"))["entries"]) == 1


UNINDEXED = "SELECT count(*) FROM _activity_unindexed"


async def test_a_search_finds_what_was_told_just_before_it_however_much_that_is(board: Board) -> None:
    ann = await board.agent("ann")
    for number in range(2 * history.INDEXED_AT_ONCE + 1):
        await noted(ann, f"heron {number}")
    [(waiting,)] = await board.rows(UNINDEXED)
    assert waiting > 2 * history.INDEXED_AT_ONCE
    newest = await ann.list_activity(query="heron", newest_first=True, limit=1)
    assert newest["entries"][0]["summary"] == f"heron {2 * history.INDEXED_AT_ONCE}"
    assert await board.rows(UNINDEXED) == [(0,)]
    await noted(ann, "bittern")
    assert [hit["kind"] for hit in (await ann.search_crew(query="bittern"))["hits"]] == ["activity"]


async def test_entries_are_indexed_though_nobody_searches(board: Board) -> None:
    ann = await board.agent("ann")
    for _ in range(2 * history.INDEXED_AT_ONCE + 1):
        await noted(ann, "heron")
    assert await board.opened.store.read(crew.is_due)
    await board.opened.duties.sweep_if_due()
    assert await board.rows(UNINDEXED) == [(0,)]
    assert not await board.opened.store.read(crew.is_due)


async def test_the_details_are_searched_too(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.log_activity(action_type="note", summary="s", details={"error": "ConnectionResetError"})
    assert len((await ann.list_activity(query="reset", action_type="note"))["entries"]) == 1


async def test_notes_of_another_crew_are_not_read_by_any_way(board: Board) -> None:
    """ID7: listing, search, one agent's activity; what the server tells of the roster is everybody's."""
    lea = await board.agent("lea", role="lead")
    ann = await board.agent("ann", lead_id="lea")
    mia = await board.agent("mia", role="lead")
    await noted(lea, "our secret plan")
    for filters in ({}, {"query": "secret plan"}, {"target_agent_id": "lea"}, {"action_type": "note"}):
        assert "our secret plan" in summaries(await ann.list_activity(**filters))
        for newest_first in (False, True):
            page = await mia.list_activity(newest_first=newest_first, **filters)
            assert "our secret plan" not in summaries(page)
    profile = await mia.get_agent(target_agent_id="lea")
    assert [entry["action_type"] for entry in profile["recent_activity"]] == ["agent_registered"]
    assert (await mia.list_activity(project_id="another"))["entries"] == []


async def test_a_limit_counts_what_may_be_read(board: Board) -> None:
    """ID7, M29: foreign notes do not use up the page."""
    lea, mia = await board.agent("lea", role="lead"), await board.agent("mia", role="lead")
    await noted(mia, "mine, old")
    await noted(lea, *(f"theirs {number}" for number in range(5)))
    await noted(mia, "mine, new")
    page = await mia.list_activity(action_type="note", newest_first=True, limit=2)
    assert (summaries(page), page.get("next_after_id")) == (["mine, new", "mine, old"], None)


async def test_a_page_stops_at_64_kib_and_the_next_one_goes_on(board: Board) -> None:
    """W3, Ruling 21"""
    ann = await board.agent("ann")
    for number in range(12):
        await noted(ann, f"{number:02} " + "ä" * 8000)
    page = await ann.list_activity(action_type="note", limit=200)
    assert 0 < len(page["entries"]) < 12
    assert len(json.dumps(page, ensure_ascii=False).encode()) < 64 * 1024
    paged = await everything(ann, "list_activity", "entries", action_type="note", limit=200)
    assert [entry["summary"][:2] for entry in paged] == [f"{number:02}" for number in range(12)]


# --- Files ------------------------------------------------------------------------------------------------


async def test_touches_are_counted_by_agent_and_kind(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.record_file_touch(file_paths=["src/a.py"])
    board.clock.turn(60)
    await ann.record_file_touch(file_paths=["./src/a.py", "src//a.py"], action="commit")
    await ben.record_file_touch(file_paths=["src/a.py"], action="read")
    await ben.acquire_file_lock(file_path="src/a.py")
    by_ben, by_ann = (await ann.list_file_history(file_path="src/a.py"))["files"]
    assert (by_ben["agent_id"], by_ben["touch_count"], by_ben["read_count"], by_ben["lock_count"]) == (
        "ben",
        2,
        1,
        1,
    )
    assert (by_ann["agent_id"], by_ann["touch_count"], by_ann["edit_count"], by_ann["commit_count"]) == (
        "ann",
        2,
        1,
        1,
    )
    assert (by_ann["first_touched_at"][14:19], by_ann["last_touched_at"][14:19]) == ("00:00", "01:00")
    assert (by_ann["technology"], by_ann["file_path"]) == ("python", "src/a.py")


async def test_the_newest_touch_comes_first_and_the_filters_combine(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await ann.record_file_touch(file_paths=["a.py"])
    await ben.record_file_touch(file_paths=["b.rs"])
    await ann.record_file_touch(file_paths=["b.rs"])

    async def read(**filters: Any) -> list[tuple[str, str]]:
        files = (await ann.list_file_history(**filters))["files"]
        return [(file["agent_id"], file["file_path"]) for file in files]

    assert await read() == [("ann", "b.rs"), ("ben", "b.rs"), ("ann", "a.py")]
    assert await read(target_agent_id="ann") == [("ann", "b.rs"), ("ann", "a.py")]
    assert await read(file_path="b.rs") == [("ann", "b.rs"), ("ben", "b.rs")]
    assert await read(file_path="b.rs", target_agent_id="ben") == [("ben", "b.rs")]
    await ann.record_file_touch(file_paths=["a.py"])
    assert (await read())[0] == ("ann", "a.py")


@pytest.mark.parametrize("path", ["src/*.py", "src/", "src", "**", "lib/**/x.py"])
async def test_only_single_files_are_touched(board: Board, path: str) -> None:
    (board.folder / "src").mkdir()
    await board.agent("ann")
    refusal = await board.refusal("record_file_touch", agent_id="ann", file_paths=["ok.py", path])
    assert refusal["code"] == "invalid_path"
    assert await board.rows("SELECT count(*) FROM agent_file_history") == [(0,)]


async def test_a_lock_on_a_folder_or_glob_is_no_touch(board: Board) -> None:
    (board.folder / "src").mkdir()
    ann = await board.agent("ann")
    await ann.acquire_file_locks(file_paths=["src/", "lib/*.py", "one.py"])
    await ann.acquire_file_lock(file_path="one.py")  # a refresh of what it holds is none either
    assert await board.rows("SELECT file_path, lock_count FROM agent_file_history") == [
        ((await ann.whoami())["project_id"] + ":one.py", 1)
    ]


@pytest.mark.parametrize("filters", [{}, {"target_agent_id": "ann"}], ids=str)
async def test_pages_of_files_have_no_gap_though_one_call_touched_many(
    board: Board, filters: dict[str, str]
) -> None:
    ann = await board.agent("ann")
    touched = [f"src/{letter}.py" for letter in "abcdefg"]
    await ann.record_file_touch(file_paths=touched[4:])
    await ann.record_file_touch(file_paths=touched[:4])
    paged = await everything(ann, "list_file_history", "files", limit=3, **filters)
    assert [file["file_path"] for file in paged] == touched


@pytest.mark.parametrize("cursor", ["x", "12", "12:", "-1:a", "٣:a", "9" * 30 + ":a"])
async def test_a_cursor_that_no_page_gave_is_refused(board: Board, cursor: str) -> None:
    await board.agent("ann")
    refusal = await board.refusal("list_file_history", agent_id="ann", after_id=cursor)
    assert (refusal["code"], refusal["fields"][0]["field"]) == ("invalid_arguments", "after_id")


async def test_files_of_another_project_are_not_read(board: Board) -> None:
    """ID7"""
    ann = await board.agent("ann")
    await ann.record_file_touch(file_paths=["a.py"])
    with board.opened.store.connect(readonly=False) as db:
        other = ("other-000000", "other", str(board.folder.parent))
        db.execute("INSERT INTO projects (id, name, cwd) VALUES (?, ?, ?)", other)
    eve = await board.agent("eve", project_id="other-000000")
    for filters in ({}, {"file_path": "a.py"}, {"target_agent_id": "ann"}):
        assert (await eve.list_file_history(**filters))["files"] == []
