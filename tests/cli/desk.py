"""A person's desk: a home and a repository of their own, with callboard on PATH."""

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from callboard.cli import app
from callboard.cli.setup.clients import CLIENTS, Place

SERVER = Path(__file__).resolve().parents[2] / "server"

JSON_FILES = (
    ".mcp.json",
    ".claude/settings.json",
    ".vscode/mcp.json",
    ".cursor/mcp.json",
    ".cursor/hooks.json",
    ".codex/hooks.json",
    ".gemini/settings.json",
    ".github/mcp.json",
    ".github/hooks/callboard.json",
    ".zed/settings.json",
)
"""The files in a repository that init edits as JSON."""

EVERY_CLIENT = tuple(word for name in CLIENTS for word in ("--client", name))

Tree = Mapping[str, tuple[int, bytes | str | None]]


class Desk:
    """A home, a repository and a shell."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "home"
        self.repository = folder / "repo"
        self.bin = folder / "bin"
        for made in (self.home, self.repository, self.bin):
            made.mkdir()
        program = self.bin / "callboard"
        program.write_text(f'#!/bin/sh\nPYTHONPATH={SERVER} exec {sys.executable} -m callboard "$@"\n')
        program.chmod(0o755)
        self.git("init", "--quiet")
        for name in [name for name in os.environ if name.startswith(("CALLBOARD_", "XDG_"))]:
            monkeypatch.delenv(name)
        for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "COPILOT_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")
        monkeypatch.chdir(self.repository)
        self.place = Place(self.home, self.repository, os.environ)

    def run(self, *arguments: str, code: int = 0, typed: str | None = None) -> Result:
        """Run a command as a script does, in this process."""
        result = CliRunner().invoke(app, arguments, input=typed)
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def init(self, *arguments: str, code: int = 0) -> str:
        return self.run("init", "--yes", *arguments, code=code).output

    def uninstall(self, *arguments: str, code: int = 0) -> str:
        return self.run("uninstall", "--yes", *arguments, code=code).output

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.repository, check=True, capture_output=True)

    def write(self, name: str, content: bytes | str) -> Path:
        """A file of the repository, or by an absolute path."""
        path = self.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, name: str) -> str:
        return (self.repository / name).read_bytes().decode()

    def tree(self) -> Tree:
        """Every file, link and folder of home and repository with its mode and content, but for the state
        folder that init is told to keep its receipts in, and git's own."""
        found: dict[str, tuple[int, bytes | str | None]] = {}
        for root in (self.home, self.repository):
            for path in sorted(root.rglob("*")):
                name = str(path.relative_to(root.parent))
                if name.startswith(("home/.local", "repo/.git/")) and not name.startswith("repo/.git/hooks"):
                    continue
                mode = stat.S_IMODE(path.lstat().st_mode)
                content: bytes | str | None = None
                if path.is_symlink():
                    content = str(path.readlink())
                elif path.is_file():
                    content = path.read_bytes()
                found[name] = mode, content
        return found
