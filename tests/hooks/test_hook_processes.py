"""Hooks as whole processes: who is known by the family of processes, and what the way of an edit loads."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from tests.hooks.conftest import Said, edit
from tests.serving import PATIENCE, Place, call


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "repo"
    folder.mkdir()
    return Place(folder)


def hook(place: Place, event: str, payload: object, *options: str, agent: str | None = None) -> Said:
    """Run a hook as a client does: this process is the client."""
    named = {"CALLBOARD_AGENT": agent} if agent else {}
    done = subprocess.run(
        [sys.executable, *options, "-m", "callboard", "hook", "claude-code", event],
        cwd=place.folder,
        env=place.environment(CALLBOARD_DB=str(place.db), **named),
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@asynccontextmanager
async def client_of(place: Place, agent: str, *through: str) -> AsyncIterator[Client]:
    """A client of this process whose stdio server is started through other programs, with an agent."""
    command, *arguments = (*through, *place.command("serve"))
    started = StdioServerParameters(
        command=command, args=arguments, env=place.environment(), cwd=place.folder
    )
    async with Client(stdio_client(started), cache=None) as client:
        await call(client, "register_agent", agent_id=agent, role="developer")
        await call(client, "acquire_file_lock", agent_id=agent, file_path=f"{agent}.py")
        yield client


SHELL = ("sh", "-c", '"$@"; exit $?', "sh")
PROGRAM = (sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))")


@pytest.mark.parametrize("through", [(), SHELL], ids=["as its child", "through a shell"])
async def test_an_agent_is_known_by_the_server_that_its_client_has_started(
    place: Place, through: tuple[str, ...]
) -> None:
    async with client_of(place, "ann", *through), client_of(place, "bob", *PROGRAM):
        own = hook(place, "pre-tool-use", edit(place.folder, "ann.py"))
        assert (own.code, own.answer, own.errors) == (0, None, [])
        other = hook(place, "pre-tool-use", edit(place.folder, "bob.py"))
        assert other.refusal is not None and other.refusal.startswith("bob holds bob.py")


async def test_the_server_of_another_client_says_nothing_of_who_edits(place: Place) -> None:
    async with client_of(place, "bob", *PROGRAM):
        said = hook(place, "pre-tool-use", edit(place.folder, "bob.py"))
        assert said.refusal is None
        assert said.context is not None and "could not tell which agent is editing" in said.context


async def test_an_agent_whose_server_has_ended_is_not_known_by_it(place: Place) -> None:
    async with client_of(place, "bob", *PROGRAM):
        async with client_of(place, "ann"):
            pass
        said = hook(place, "pre-tool-use", edit(place.folder, "bob.py"))
        assert said.refusal is None and said.context is not None


async def test_an_edit_is_recorded_by_a_process_that_nobody_waits_for(place: Place) -> None:
    async with client_of(place, "ann") as client:
        reading, writing = os.pipe()
        told = edit(place.folder, "src/a.py") | {"hook_event_name": "PostToolUse"}
        done = subprocess.run(
            [sys.executable, "-m", "callboard", "hook", "claude-code", "post-tool-use"],
            cwd=place.folder,
            env=place.environment(CALLBOARD_DB=str(place.db)),
            input=json.dumps(told),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            pass_fds=[writing],
        )
        os.close(writing)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with os.fdopen(reading, "rb") as ended:
            assert ended.read() == b""  # the pipe ends with the last process that has it
        known = await call(client, "list_file_history", agent_id="ann", file_path="src/a.py")
        [file] = known["files"]
        assert (file["agent_id"], file["edit_count"]) == ("ann", 1)


HEAVY = {
    "pydantic",
    "mcp",
    "typer",
    "rich",
    "anyio",
    "asyncio",
    "dataclasses",
    "inspect",
    "subprocess",
    "hashlib",
    "logging",
}


@pytest.mark.parametrize("path", ["ann.py", "bob.py"], ids=["passes", "is refused"])
async def test_the_way_of_an_edit_loads_nothing_heavy(place: Place, path: str) -> None:
    async with client_of(place, "ann"), client_of(place, "bob"):
        said = hook(place, "pre-tool-use", edit(place.folder, path), "-X", "importtime", agent="ann")
        assert said.code == 0 and (said.refusal is None) is (path == "ann.py")
        loaded = {line.rpartition("|")[2].strip() for line in said.errors if line.startswith("import time:")}
        assert "callboard.guards.hook" in loaded
        assert not {name.partition(".")[0] for name in loaded} & HEAVY
        assert not loaded & {"callboard.schema", "callboard.store", "callboard.cli", "callboard.text"}
