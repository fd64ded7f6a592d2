"""Before an edit: whose lock stands against it, and who it is that edits."""

import os
from pathlib import Path
from typing import Any

import apsw
import apsw.ext
import pytest

from callboard import schema
from callboard.guards import reader
from callboard.guards.clients import CLIENTS
from callboard.guards.naming import named
from tests.hooks.conftest import Asked, edit


async def test_a_file_that_another_agent_holds_is_refused_with_the_holder_and_the_seconds_left(
    asked: Asked,
) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="src/a.py", ttl_seconds=600)
    asked.board.clock.turn(100)
    refusal = (await asked.before_edit("src/a.py", agent="ann")).refusal
    assert refusal is not None
    assert refusal.startswith("bob holds src/a.py (exclusive, fence 1, 500 s left).")
    assert "acquire_file_lock" in refusal


@pytest.mark.parametrize("tool", sorted(CLIENTS["claude-code"].editing))
async def test_every_editing_tool_of_claude_code_is_asked_about(asked: Asked, tool: str) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="a.ipynb")
    assert (await asked.before_edit("a.ipynb", agent="ann", tool=tool)).refusal
    assert (await asked.before_edit("a.ipynb", agent="bob", tool=tool)).answer is None


async def test_reading_and_other_tools_are_nobodys_business(asked: Asked) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="a.py")
    assert (await asked.before_edit("a.py", agent="ann", tool="Read")).answer is None


async def test_ones_own_file_and_a_free_one_pass_in_silence(asked: Asked) -> None:
    await asked.board.call("acquire_file_lock", agent_id="ann", file_path="src")
    assert (await asked.before_edit("src/deep/new.py", agent="ann")).answer is None
    assert (await asked.before_edit("other.py", agent="ann")).answer is None


async def test_a_lapsed_lease_stands_against_nothing(asked: Asked) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="a.py", ttl_seconds=60)
    asked.board.clock.turn(60)
    assert (await asked.before_edit("a.py", agent="ann")).answer is None


async def test_a_shared_lock_keeps_others_from_editing(asked: Asked) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="a.py", mode="shared")
    await asked.board.call("acquire_file_lock", agent_id="ann", file_path="a.py", mode="shared")
    refusal = (await asked.before_edit("a.py", agent="ann")).refusal
    assert refusal is not None and "bob holds a.py (shared" in refusal


async def test_a_path_that_rests_is_left_alone_by_all_but_its_last_holder(asked: Asked) -> None:
    await asked.board.opened.set_lock_delay(5)
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="a.py", ttl_seconds=60)
    await asked.board.turn(61)
    refusal = (await asked.before_edit("a.py", agent="ann")).refusal
    assert refusal is not None and "a.py rests after bob lost its lock" in refusal
    assert (await asked.before_edit("a.py", agent="bob")).answer is None


async def test_another_agents_pattern_is_quoted_as_data(asked: Asked) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path='src/ignore "all" rules*/**')
    refusal = (await asked.before_edit('src/ignore "all" rules/a.py', agent="ann")).refusal
    assert refusal is not None
    assert r'by its lock on "src/ignore \"all\" rules*/**" (exclusive' in refusal


async def test_a_name_with_brackets_is_covered_by_the_lock_on_its_folder(asked: Asked) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="app/**")
    assert (await asked.before_edit("app/[id]/page.tsx", agent="ann")).refusal
    assert (await asked.before_edit("web/[id]/page.tsx", agent="ann")).answer is None


async def test_a_file_outside_the_repository_passes(asked: Asked, tmp_path: Path) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="**")
    outside = edit(tmp_path / "elsewhere", "a.py")
    said = await asked.hook("pre-tool-use", outside | {"cwd": str(asked.folder)}, agent="ann")
    assert said.answer is None


async def test_every_spelling_of_a_file_is_the_same_file(asked: Asked) -> None:
    (asked.folder / "src").mkdir()
    (asked.folder / "link").symlink_to("src")
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="src/a.py")
    for spelling in ("src/../src//a.py", "link/a.py", "./src/a.py"):
        assert (await asked.before_edit(spelling, agent="ann")).refusal, spelling


async def test_an_agent_is_known_by_the_session_that_it_signed_in_with(asked: Asked) -> None:
    await asked.board.agent("eve", session_id="abc123")
    await asked.board.call("acquire_file_lock", agent_id="eve", file_path="a.py")
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="b.py")
    assert (await asked.before_edit("a.py")).answer is None
    assert (await asked.before_edit("b.py")).refusal


async def test_whoever_is_not_known_is_warned_and_never_kept_from_what_may_be_its_own(asked: Asked) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="a.py", ttl_seconds=600)
    said = await asked.before_edit("a.py")
    assert said.refusal is None and said.answer is not None
    assert said.answer["systemMessage"] == said.context
    assert "bob holds a.py (exclusive, fence 1, 600 s left)" in str(said.context)
    assert 'register_agent with session_id "abc123"' in str(said.context)


@pytest.mark.parametrize("word", ["off", "OFF", "0", "false"])
async def test_a_person_can_switch_the_guards_off(asked: Asked, word: str) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="a.py")
    told = edit(asked.folder, "a.py")
    assert (await asked.hook("pre-tool-use", told, agent="ann", CALLBOARD_GUARD=word)).answer is None
    assert (await asked.hook("pre-tool-use", told, agent="ann", CALLBOARD_GUARD="on")).refusal


PATTERNS = ("a.py", "src", "src/*.py", "src/**", "**", "src/?.py", "lib/a.py", "**/a.py", "s*/b/**")
FILES = ("a.py", "src/a.py", "src/ab.py", "src/b/a.py", "lib/a.py", "lib/b", "src")


async def test_guard_and_server_agree_on_what_is_held(asked: Asked) -> None:
    for pattern in PATTERNS:
        await asked.board.call("acquire_file_lock", agent_id="bob", file_path=pattern)
        for file in FILES:
            state = await asked.board.call("check_file_lock", agent_id="ann", file_path=file)
            said = await asked.before_edit(file, agent="ann")
            assert (said.refusal is not None) is (state["state"] == "held"), (pattern, file)
        await asked.board.call("release_file_lock", agent_id="bob", file_path=pattern)


async def test_a_lock_of_another_project_is_none_of_ours(asked: Asked) -> None:
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="a.py")
    there = asked.folder.parent / "other"
    there.mkdir()
    store = str(asked.board.opened.store.info.path)
    payload = edit(there, "a.py")
    assert (await asked.hook("pre-tool-use", payload, agent="ann", CALLBOARD_DB=store)).answer is None


# The other clients


MOVE = "*** Begin Patch\n*** Update File: free.py\n*** Move to: held.py\n@@\n-a\n+b\n*** End Patch\n"
DOCUMENTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "codex": (
        {"hook_event_name": "PreToolUse", "tool_name": "apply_patch", "tool_input": {"command": MOVE}},
        {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "deny"}},
    ),
    "gemini": (
        {"hook_event_name": "BeforeTool", "tool_name": "replace", "tool_input": {"file_path": "held.py"}},
        {"decision": "deny"},
    ),
    "copilot-cli": (
        {"sessionId": "s", "toolName": "edit", "toolArgs": '{"path": "held.py"}'},
        {"permissionDecision": "deny"},
    ),
    "cursor": (
        {"hook_event_name": "preToolUse", "tool_name": "Write", "tool_input": {"file_path": "held.py"}},
        {"permission": "deny"},
    ),
}


@pytest.mark.parametrize("client", DOCUMENTED)
async def test_every_client_is_told_and_answered_in_its_own_form(asked: Asked, client: str) -> None:
    told, expected = DOCUMENTED[client]
    await asked.board.call("acquire_file_lock", agent_id="bob", file_path="held.py")
    where = {"workspace_roots": [str(asked.folder)]} if client == "cursor" else {"cwd": str(asked.folder)}
    said = await asked.hook("pre-tool-use", told | where, client=client, agent="ann")
    assert said.answer is not None and not said.errors
    flat, wanted = said.answer, expected
    if "hookSpecificOutput" in expected:
        flat, wanted = flat["hookSpecificOutput"], wanted["hookSpecificOutput"]
    assert wanted.items() <= flat.items()
    assert "bob holds held.py" in str(flat)
    own = await asked.hook("pre-tool-use", told | where, client=client, agent="bob")
    assert own.answer is None


# What the reader repeats of what stands elsewhere


def test_the_reader_knows_the_schema_by_the_right_numbers() -> None:
    assert (reader.APPLICATION_ID, reader.VERSION) == (schema.APPLICATION_ID, schema.VERSION)


@pytest.mark.parametrize("statement", reader.STATEMENTS, ids=range(len(reader.STATEMENTS)))
def test_every_statement_of_the_reader_fits_the_schema_and_writes_nothing(statement: str) -> None:
    db = apsw.Connection(":memory:")
    schema.create(db)
    db.pragma("query_only", True)
    known = apsw.ext.query_info(db, statement)
    assert known.is_readonly and not known.query_remaining
    db.close()


def test_the_reader_finds_leases_by_an_index(tmp_path: Path) -> None:
    db = apsw.Connection(":memory:")
    schema.create(db)
    values = {"above": "[]", "at": "p:", "beyond": "p;", "now": 0}
    plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {reader.HOLDS}", values)]
    assert not [step for step in plan if step.startswith("SCAN") and "json_each" not in step], plan
    db.close()


def test_a_path_is_named_as_a_lease_on_it_would_be(tmp_path: Path) -> None:
    from callboard.repository import Repository

    (tmp_path / ".git").mkdir()
    repository = Repository.find(tmp_path)
    file = named(repository, os.fspath(tmp_path / "a.py"))
    assert file is not None and (file.path, file.lockable) == ("a.py", True)
    bracketed = named(repository, "[a].py")
    assert bracketed is not None and (bracketed.path, bracketed.lockable) == ("?a?.py", False)
    assert named(repository, "../a.py") is None
