"""Hooks as clients run them, on the board of a test."""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from callboard.guards import hook
from callboard.guards.asking import Surroundings
from callboard.guards.reader import Moment
from tests.conftest import Board

Json = dict[str, Any]


class Said:
    """What a hook has said: its answer as the client reads it, and its lines on standard error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.answer: Json | None = json.loads(out) if out else None
        self.errors = err.splitlines()

    @property
    def refusal(self) -> str | None:
        """Why Claude Code or Codex may not run the tool."""
        specific = (self.answer or {}).get("hookSpecificOutput", {})
        reason: str | None = specific.get("permissionDecisionReason")
        assert (reason is None) is (specific.get("permissionDecision") != "deny")
        return reason

    @property
    def context(self) -> str | None:
        """What Claude Code or Codex tells its agent."""
        found: str | None = (self.answer or {}).get("hookSpecificOutput", {}).get("additionalContext")
        return found


async def ask(
    client: str,
    event: str,
    payload: Mapping[str, Any] | str,
    *,
    folder: Path,
    moment: Moment,
    agent: str | None = None,
    **environment: str,
) -> Said:
    """Answer one hook in this process, in a thread of its own as the board may be opened for it."""
    named = environment | ({"CALLBOARD_AGENT": agent} if agent else {})
    around = Surroundings(named, folder, os.getpid(), moment)
    told = io.StringIO(payload if isinstance(payload, str) else json.dumps(payload))
    out, err = io.StringIO(), io.StringIO()
    code = await anyio.to_thread.run_sync(hook.run, client, event, around, told, out, err)
    return Said(code, out.getvalue(), err.getvalue())


def claude(event: str, folder: Path, **more: Any) -> Json:
    """Claude Code's input for an event, as its reference has it."""
    common = {"session_id": "abc123", "transcript_path": "/tmp/t.jsonl", "permission_mode": "default"}
    return {**common, "cwd": str(folder), "hook_event_name": event, **more}


def edit(folder: Path, path: str, tool: str = "Edit", **more: Any) -> Json:
    """Claude Code's input before an edit of a file."""
    named = "notebook_path" if tool == "NotebookEdit" else "file_path"
    given = {named: str(folder / path), "old_string": "a", "new_string": "b"}
    return claude("PreToolUse", folder, tool_name=tool, tool_input=given, tool_use_id="toolu_01", **more)


class Asked:
    """Hooks of one board."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.folder = board.folder

    @property
    def moment(self) -> Moment:
        return Moment(self.board.clock.boot_id, self.board.clock.boot_ms())

    async def hook(
        self, event: str, payload: Mapping[str, Any] | str, *, client: str = "claude-code", **more: Any
    ) -> Said:
        said = await ask(client, event, payload, folder=self.folder, moment=self.moment, **more)
        assert said.code == 0
        return said

    async def before_edit(
        self, path: str, *, agent: str | None = None, tool: str = "Edit", **more: Any
    ) -> Said:
        """What Claude Code hears before an agent edits a file."""
        said = await self.hook("pre-tool-use", edit(self.folder, path, tool, **more), agent=agent)
        assert not said.errors
        return said


@pytest.fixture
async def asked(board: Board) -> Asked:
    """Ann and bob have signed in."""
    for name in ("ann", "bob"):
        await board.agent(name)
    return Asked(board)
