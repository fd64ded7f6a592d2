"""A trial of what a client's file says: the server really started, or reached, and asked for its tools.

A file in a repository is other people's text, so nothing is run or sent on its word alone. A command is tried
if it is this very callboard, a URL if it leads to this machine, and either if init put it there.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
from mcp import Client as McpClient
from mcp import StdioServerParameters, stdio_client
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client

from callboard.cli.common import first_of
from callboard.cli.setup.clients import Client, Place
from callboard.cli.setup.files import masked
from callboard.repository import Repository

SECONDS = 10.0
"""How long a server may take to start and to list its tools: as long as the least patient client waits."""

_REFERENCE = re.compile(r"\$\{(?:env:)?(\w+)(?::-([^}]*))?\}|\$(\w+)")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial."""

    tools: int | None
    """How many tools the server offered; None if it was not reached."""
    said: str
    """Which server answered, or why none did, as a sentence without its full stop."""
    tried: bool = True


async def of(
    entry: Mapping[str, Any], client: Client, place: Place, *, ours: bool, stand_in: Path
) -> Outcome:
    """Try the entry of a client. `ours` says that init put it there; `stand_in` is the store of the trial
    where there is none yet, as a trial leaves nothing behind."""
    url = entry.get(client.url_key or "url")
    if isinstance(url, str):
        return await _reached(url, entry, client, place, ours=ours)
    command, arguments = entry.get("command"), entry.get("args", [])
    if not isinstance(command, str) or not isinstance(arguments, list):
        return Outcome(None, "it names neither a command nor a URL")
    words = [expand(str(word), place) for word in (command, *arguments)]
    if "serve" not in words or not (ours or is_callboard(words)):
        return Outcome(None, "its command is not this callboard, so it was not started", tried=False)
    environment = _environment(entry, client, place)
    if not _store(words, environment, place).exists():
        environment["CALLBOARD_DB"] = os.fspath(stand_in)
    return await _started(words, environment, place)


def _store(words: list[str], environment: Mapping[str, str], place: Place) -> Path:
    """The store that a server finds by its environment or by the repository it is told of."""
    if environment.get("CALLBOARD_DB"):
        return place.repository / environment["CALLBOARD_DB"]
    folder = place.repository
    if "--folder" in words[:-1]:
        folder = Path(words[words.index("--folder") + 1])
    try:
        return Repository.find(folder).store
    except ValueError:  # no such folder: the server will say so itself
        return folder


def is_callboard(words: list[str]) -> bool:
    """Whether a command starts the callboard that runs now, or the one on PATH."""
    program = shutil.which(words[0])
    if program is None:
        return False
    if words[1:3] == ["-m", "callboard"]:
        return Path(program).resolve() == Path(sys.executable).resolve()
    known = shutil.which("callboard")
    return known is not None and Path(program).resolve() == Path(known).resolve()


def expand(text: str, place: Place) -> str:
    """A value with its references to variables resolved, in any client's way of writing them."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        if name == "workspaceFolder":
            return str(place.repository)
        return place.environment.get(name) or found[2] or ""

    return _REFERENCE.sub(value, text)


async def _started(words: list[str], environment: dict[str, str], place: Place) -> Outcome:
    parameters = StdioServerParameters(
        command=words[0], args=words[1:], env=environment, cwd=place.repository
    )
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        outcome = await _listed(McpClient(stdio_client(parameters, errlog=errors), cache=None))
        if outcome.tools is None:
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
            if lines:
                return Outcome(None, masked(lines[-1].removeprefix("callboard: ").rstrip(".")))
    return outcome


async def _reached(
    url: str, entry: Mapping[str, Any], client: Client, place: Place, *, ours: bool
) -> Outcome:
    if not ours and urlsplit(url).hostname not in _LOOPBACK:
        return Outcome(None, "init did not put its URL there, so it was not tried", tried=False)
    given = entry.get("headers", {})
    headers = {str(name): expand(str(value), place) for name, value in given.items()}
    variable = entry.get("bearer_token_env_var")
    if isinstance(variable, str) and place.environment.get(variable):
        headers["Authorization"] = f"Bearer {place.environment[variable]}"
    async with httpx2.AsyncClient(headers=headers, timeout=SECONDS) as carrier:
        return await _listed(McpClient(streamable_http_client(url, http_client=carrier), cache=None))


async def _listed(client: McpClient) -> Outcome:
    """Connect as a client does, and ask for the list of tools."""
    try:
        with anyio.fail_after(SECONDS):
            async with client:
                tools = (await client.list_tools()).tools
                server = client.server_info
                name = f"{server.name} {server.version}" if server is not None else "a server"
                return Outcome(len(tools), f"{name} offers {len(tools)} tools")
    except TimeoutError:
        return Outcome(None, f"it did not answer within {SECONDS:.0f} seconds")
    except Exception as error:
        # Whatever it is, it is what a client would have met; the text goes to the person who asked.
        single = first_of(error) if isinstance(error, BaseExceptionGroup) else error
        return Outcome(None, f"{type(single).__name__}: {single}".rstrip(". "))


def _environment(entry: Mapping[str, Any], client: Client, place: Place) -> dict[str, str]:
    """What the server finds around it when this client starts it."""
    if client.form == "toml":
        named = entry.get("env_vars", [])
        found = get_default_environment() | {
            name: place.environment[name] for name in named if name in place.environment
        }
    else:
        found = dict(place.environment)
    # The trial is nobody's sign of life.
    found.pop("CALLBOARD_AGENT", None)
    given = entry.get("env", {})
    return found | {str(name): expand(str(value), place) for name, value in given.items()}
