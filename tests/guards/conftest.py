"""Real repositories with git, a board beside them, and agents who commit in them."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from callboard.board import Board, Config, open_board
from callboard.guards import installing
from tests.starting import SERVER

Done = subprocess.CompletedProcess[str]


class Repo:
    """A worktree in which somebody runs git."""

    def __init__(self, folder: Path, agent: str | None = None) -> None:
        self.folder = folder
        self.agent = agent

    def as_(self, agent: str | None) -> "Repo":
        """The same worktree in other hands; None is a person's."""
        return Repo(self.folder, agent)

    def run(self, *command: str, **environment: str) -> Done:
        """Run a command with nothing of this machine's or person's settings."""
        own = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "CALLBOARD_"))}
        neutral = {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "PYTHONPATH": str(SERVER),
        }
        person = {
            f"GIT_{who}_{what}": "crew@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        named = {"CALLBOARD_AGENT": self.agent} if self.agent else {}
        return subprocess.run(
            command,
            cwd=self.folder,
            env=own | neutral | person | named | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def git(self, *arguments: str, **environment: str) -> str:
        """Git's output; it must succeed."""
        done = self.run("git", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, path: str, text: str = "") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text or f"{path}\n" * 5, encoding="utf-8")
        self.git("add", "--all")
        return file

    def commit(self, *options: str, **environment: str) -> Done:
        return self.run("git", "commit", "--message", "change", *options, **environment)

    def commits(self) -> int:
        return int(self.git("rev-list", "--count", "HEAD"))


def refused(done: Done) -> str:
    """What a refused commit or push is told."""
    assert done.returncode == 1, done
    assert "callboard refuses this" in done.stderr
    return done.stderr


def passed(done: Done) -> None:
    assert done.returncode == 0, done.stderr
    assert "callboard" not in done.stderr


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository with one commit and without a store, in a person's hands."""
    repo = Repo(tmp_path / "repo")
    repo.folder.mkdir()
    repo.git("init", "--quiet", "--initial-branch", "main")
    repo.write("README")
    repo.git("commit", "--quiet", "--message", "first")
    return repo


class Crew:
    """Ann and bob, who have signed in, on the host's own clock."""

    def __init__(self, board: Board) -> None:
        self.board = board

    async def call(self, tool: str, agent: str, **arguments: Any) -> dict[str, Any]:
        return await self.board.call(tool, {"agent_id": agent, **arguments})

    async def locks(self, agent: str, *paths: str) -> None:
        for path in paths:
            await self.call("acquire_file_lock", agent, file_path=path)


@pytest.fixture
async def crew(repo: Repo) -> AsyncIterator[Crew]:
    """The crew of the repository, which has the guard."""
    async with open_board(Config(folder=repo.folder, transport="http", durability="normal")) as board:
        for name in ("ann", "bob"):
            await board.call("register_agent", {"agent_id": name, "role": "developer"})
        await anyio.to_thread.run_sync(installing.install, repo.folder)
        yield Crew(board)
