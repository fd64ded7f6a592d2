"""The clients: which files each of them reads, and the form in which it wants a server to be named.

One row a client, in the words of its own documentation; nothing else here knows one client from another.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from callboard.cli.setup.edits import Entry, Format
from callboard.cli.setup.jsonc import Json
from callboard.cli.setup.launch import Launch

Scope = Literal["project", "user"]

SERVER = "callboard"
"""The server's name in every client; some of them split names at an underscore."""

TOKEN_VARIABLE = "CALLBOARD_TOKEN"


@dataclass(frozen=True, slots=True)
class Place:
    """Where files lie: a person's home, and the repository."""

    home: Path
    repository: Path
    environment: Mapping[str, str]
    mac: bool = sys.platform == "darwin"

    def config(self, name: str) -> Path:
        """A program's folder for its settings, where the platform puts those."""
        if self.mac:
            return self.home / "Library" / "Application Support" / name
        return self.xdg(name)

    def xdg(self, name: str) -> Path:
        """The same for a program that keeps to the XDG base directories everywhere."""
        given = self.environment.get("XDG_CONFIG_HOME", "")
        return (Path(given) if Path(given).is_absolute() else self.home / ".config") / name

    def moved(self, variable: str, default: Path) -> Path:
        """A folder that an environment variable may have moved."""
        return Path(self.environment.get(variable) or default)


@dataclass(frozen=True, slots=True)
class Client:
    """One client."""

    name: str
    label: str
    key: str
    """The name of the object or table that holds the servers."""
    stdio: Mapping[str, Json]
    """What it wants said beside `command` and `args`."""
    user_file: Callable[[Place], Path]
    project_file: str | None = None
    form: Format = "json"
    url_key: str | None = "url"
    """Under which name it takes the URL of an HTTP server; None if it takes none from its file."""
    http: Mapping[str, Json] | None = None
    """What it wants said beside the URL."""
    token_reference: str = ""
    """How a value of its file refers to the environment variable of the token."""
    profile: str = "core"
    """What it is offered: `all` where the client itself shows the model only the tools that it looks for."""
    folder: str | None = None
    """How a value of its file refers to the folder that is open in it, where it does not start servers
    there."""
    instructions: str | None = None
    """The text for agents that it reads in a repository."""
    traces: tuple[Callable[[Place], Path], ...] = ()
    """Files or folders that it leaves behind."""
    programs: tuple[str, ...] = ()
    next_step: str = ""

    def scope(self, wanted: Scope | None) -> Scope | None:
        """The scope to write in: the wanted one if the client has it, else by default the project's."""
        if wanted is None:
            return "project" if self.project_file else "user"
        return None if wanted == "project" and self.project_file is None else wanted

    def file(self, place: Place, scope: Scope) -> Path:
        """The file that it reads."""
        if scope == "project" and self.project_file is not None:
            return place.repository / self.project_file
        return self.user_file(place)

    def is_there(self, place: Place) -> bool:
        """Whether this machine or repository shows traces of it."""
        if any(trace(place).exists() for trace in self.traces):
            return True
        path = place.environment.get("PATH", "")
        return any(shutil.which(program, path=path) for program in self.programs)

    def serving(self, launch: Launch, place: Place, scope: Scope, profile: str) -> Entry:
        """The entry that starts a server of its own."""
        # A project's file is shared with other machines; a person's is also read by programs that no shell
        # has started.
        command, *arguments = launch.words if scope == "project" else launch.absolute
        arguments.append("serve")
        if profile != "all":
            arguments += ["--toolsets", profile]
        folder = self.folder or (str(place.repository) if self.project_file is None else None)
        if folder is not None:
            arguments += ["--folder", folder]
        said = dict(self.stdio)
        kind = {"type": said.pop("type")} if "type" in said else {}
        return Entry((self.key, SERVER), kind | {"command": command, "args": arguments} | said)

    def connecting(self, url: str, *, auth: bool) -> Entry:
        """The entry that connects to a server over HTTP. Raises ValueError if the client cannot."""
        if self.url_key is None:
            raise ValueError(f"{self.label} takes no HTTP server from its file; add the URL in its settings.")
        said = dict(self.http or {})
        kind = {"type": said.pop("type")} if "type" in said else {}
        value = kind | {self.url_key: url}
        if auth and self.form == "toml":
            value["bearer_token_env_var"] = TOKEN_VARIABLE
        elif auth and not self.token_reference:
            raise ValueError(f"{self.label} cannot take a token from the environment; use it over stdio.")
        elif auth:
            value["headers"] = {"Authorization": f"Bearer {self.token_reference}"}
        return Entry((self.key, SERVER), value | said)


CLIENTS: Mapping[str, Client] = {
    client.name: client
    for client in (
        Client(
            name="claude-code",
            label="Claude Code",
            key="mcpServers",
            project_file=".mcp.json",
            user_file=lambda place: place.moved("CLAUDE_CONFIG_DIR", place.home) / ".claude.json",
            stdio={"type": "stdio"},
            http={"type": "http"},
            # Without a default the whole file is refused where the variable is not set.
            token_reference="${CALLBOARD_TOKEN:-}",
            profile="all",
            instructions="CLAUDE.md",
            traces=(
                lambda place: place.moved("CLAUDE_CONFIG_DIR", place.home / ".claude"),
                lambda place: place.repository / ".claude",
            ),
            programs=("claude",),
            next_step="approve the server when Claude Code next starts in this repository",
        ),
        Client(
            name="vscode",
            label="VS Code",
            key="servers",
            project_file=".vscode/mcp.json",
            user_file=lambda place: place.config("Code") / "User" / "mcp.json",
            stdio={"type": "stdio"},
            http={"type": "http"},
            token_reference="${env:CALLBOARD_TOKEN}",
            folder="${workspaceFolder}",
            instructions="AGENTS.md",
            traces=(
                lambda place: place.config("Code"),
                lambda place: place.repository / ".vscode",
            ),
            programs=("code",),
            next_step="start the server from the code lens in its mcp.json and trust it",
        ),
        Client(
            name="cursor",
            label="Cursor",
            key="mcpServers",
            project_file=".cursor/mcp.json",
            user_file=lambda place: place.home / ".cursor" / "mcp.json",
            stdio={},
            token_reference="${env:CALLBOARD_TOKEN}",
            profile="lead",
            folder="${workspaceFolder}",
            instructions="AGENTS.md",
            traces=(
                lambda place: place.home / ".cursor",
                lambda place: place.repository / ".cursor",
            ),
            programs=("cursor", "cursor-agent"),
            next_step="approve the server under Settings, Tools & MCP",
        ),
        Client(
            name="codex",
            label="Codex",
            key="mcp_servers",
            form="toml",
            project_file=".codex/config.toml",
            user_file=lambda place: place.moved("CODEX_HOME", place.home / ".codex") / "config.toml",
            # Codex hands a server only the variables that are named; waits stay below its time-out.
            stdio={
                "env_vars": ["CALLBOARD_AGENT", "CALLBOARD_DB", "CALLBOARD_TOKEN_FILE"],
                "tool_timeout_sec": 60,
            },
            http={"tool_timeout_sec": 60},
            instructions="AGENTS.md",
            traces=(
                lambda place: place.moved("CODEX_HOME", place.home / ".codex"),
                lambda place: place.repository / ".codex",
            ),
            programs=("codex",),
            next_step="trust the repository when Codex asks: it reads .codex/config.toml only then",
        ),
        Client(
            name="gemini",
            label="Gemini CLI",
            key="mcpServers",
            project_file=".gemini/settings.json",
            user_file=lambda place: place.home / ".gemini" / "settings.json",
            stdio={},
            url_key="httpUrl",
            token_reference="$CALLBOARD_TOKEN",
            instructions="GEMINI.md",
            traces=(
                lambda place: place.home / ".gemini",
                lambda place: place.repository / ".gemini",
            ),
            programs=("gemini",),
            next_step="trust the folder when Gemini CLI asks",
        ),
        Client(
            name="copilot-cli",
            label="Copilot CLI",
            key="mcpServers",
            project_file=".github/mcp.json",
            user_file=lambda place: place.moved("COPILOT_HOME", place.home / ".copilot") / "mcp-config.json",
            stdio={"type": "local", "tools": ["*"]},
            http={"type": "http", "tools": ["*"]},
            token_reference="${CALLBOARD_TOKEN}",
            instructions="AGENTS.md",
            traces=(lambda place: place.moved("COPILOT_HOME", place.home / ".copilot"),),
            programs=("copilot",),
            next_step="trust the folder when Copilot CLI asks",
        ),
        Client(
            name="windsurf",
            label="Windsurf",
            key="mcpServers",
            user_file=lambda place: place.home / ".codeium" / "windsurf" / "mcp_config.json",
            stdio={},
            url_key="serverUrl",
            token_reference="${env:CALLBOARD_TOKEN}",
            instructions="AGENTS.md",
            traces=(lambda place: place.home / ".codeium" / "windsurf",),
            programs=("windsurf",),
            next_step="press refresh in the panel of MCP servers",
        ),
        Client(
            name="zed",
            label="Zed",
            key="context_servers",
            project_file=".zed/settings.json",
            user_file=lambda place: place.xdg("zed") / "settings.json",
            stdio={"env": {}},
            instructions="AGENTS.md",
            traces=(
                lambda place: place.xdg("zed"),
                lambda place: place.repository / ".zed",
            ),
            programs=("zed", "zeditor"),
            next_step="trust the worktree when Zed asks",
        ),
        Client(
            name="claude-desktop",
            label="Claude Desktop",
            key="mcpServers",
            user_file=lambda place: place.config("Claude") / "claude_desktop_config.json",
            stdio={},
            url_key=None,
            profile="lead",
            traces=(lambda place: place.config("Claude"),),
            next_step="quit Claude Desktop and start it again",
        ),
    )
}
