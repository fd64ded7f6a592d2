"""The hooks of the clients that have some: where they are named, and in which form.

Which events there are and which tools edit files is the guards' to know; here is only how each client's file
says that a command shall run on them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from callboard.cli.setup import jsonc
from callboard.cli.setup.clients import Client, Place, Scope
from callboard.cli.setup.edits import Edit, Entry, Item, decode
from callboard.cli.setup.jsonc import Json
from callboard.cli.setup.launch import Launch
from callboard.guards.clients import CLIENTS as GUARDED

SECONDS = 10
"""After which a client gives a hook up. An answer takes a hundredth of that."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a client's file names its hooks."""

    project_file: str
    user_file: Callable[[Place], Path]
    hook: Callable[[str, str | None], dict[str, Json]]
    """What stands in the array of an event, from the command and the tools that it is for, as a pattern."""
    version: int | None = None
    """The version that a file of this form has to name."""


def _grouped(command: str, tools: str | None) -> dict[str, Json]:
    hook = {"type": "command", "command": command, "timeout": SECONDS}
    return ({"matcher": tools} if tools is not None else {}) | {"hooks": [hook]}


def _gemini(command: str, tools: str | None) -> dict[str, Json]:
    hook = {"name": "callboard", "type": "command", "command": command, "timeout": SECONDS * 1000}
    return ({"matcher": tools} if tools is not None else {}) | {"hooks": [hook]}


def _copilot(command: str, tools: str | None) -> dict[str, Json]:
    return {"type": "command", "bash": command, "timeoutSec": SECONDS}


def _cursor(command: str, tools: str | None) -> dict[str, Json]:
    return {"command": command, "timeout": SECONDS} | ({"matcher": tools} if tools is not None else {})


FORMS: Mapping[str, Form] = {
    "claude-code": Form(
        ".claude/settings.json",
        lambda place: place.moved("CLAUDE_CONFIG_DIR", place.home / ".claude") / "settings.json",
        _grouped,
    ),
    "codex": Form(
        ".codex/hooks.json",
        lambda place: place.moved("CODEX_HOME", place.home / ".codex") / "hooks.json",
        _grouped,
    ),
    "gemini": Form(
        ".gemini/settings.json",
        lambda place: place.home / ".gemini" / "settings.json",
        _gemini,
    ),
    "copilot-cli": Form(
        ".github/hooks/callboard.json",
        lambda place: place.moved("COPILOT_HOME", place.home / ".copilot") / "hooks" / "callboard.json",
        _copilot,
        version=1,
    ),
    "cursor": Form(
        ".cursor/hooks.json",
        lambda place: place.home / ".cursor" / "hooks.json",
        _cursor,
        version=1,
    ),
}
"""The clients that have hooks, by name."""


def file(client: Client, place: Place, scope: Scope) -> Path:
    """The file that a client reads its hooks from."""
    form = FORMS[client.name]
    return place.repository / form.project_file if scope == "project" else form.user_file(place)


def edits(client: Client, launch: Launch, scope: Scope) -> Iterator[Edit]:
    """What a client's file of hooks shall hold."""
    form, guarded = FORMS[client.name], GUARDED[client.name]
    if form.version is not None:
        yield Entry(("version",), form.version, keeps=True)
    for occasion, event in guarded.events.items():
        command = launch.line("hook", client.name, occasion, absolute=scope == "user")
        tools = "|".join(sorted(guarded.editing)) if occasion in ("pre-tool-use", "post-tool-use") else None
        yield Item(("hooks", event), occasion, form.hook(command, tools))


def commands(client: Client, data: bytes) -> dict[str, str]:
    """Our commands in a client's file of hooks, by the client's words for the events. Raises Broken."""
    told = jsonc.get(decode(data)[1], ("hooks",))
    found = {}
    for occasion, event in GUARDED[client.name].events.items():
        for text in _texts(told.get(event) if isinstance(told, dict) else None):
            if text.endswith(f" hook {client.name} {occasion}"):
                found[event] = text
    return found


def _texts(node: Json) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for part in node.values() if isinstance(node, dict) else node:
            yield from _texts(part)
