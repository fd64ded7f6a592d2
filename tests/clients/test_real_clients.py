"""After `callboard init` the real clients find callboard and reach it.

Tried with @anthropic-ai/claude-code 2.1.330, @openai/codex 0.169.0, @google/gemini-cli 0.61.0 and
@github/copilot 1.0.102, on Node 22.23. VS Code's file is compared with the form that it documents, in
tests/cli/test_init.py: the editor itself cannot be asked from a script.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.clients.programs import FOLDER, Programs
from tests.serving import Place

pytestmark = pytest.mark.skipif(FOLDER is None, reason="CALLBOARD_CLIENTS names no folder with the clients")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(Desk(tmp_path, monkeypatch), Path(FOLDER or ""))


def trust_in_claude(desk: Desk) -> None:
    """What a person does who approves the project's server."""
    settings = {"enabledMcpjsonServers": ["callboard"]}
    desk.write(str(desk.home / ".claude" / "settings.json"), json.dumps(settings))


def trust_in_codex(desk: Desk) -> None:
    """What a person does who trusts the repository."""
    trusted = f'[projects."{desk.repository}"]\ntrust_level = "trusted"\n'
    desk.write(str(desk.home / ".codex" / "config.toml"), trusted)


def trust_in_gemini(desk: Desk) -> None:
    """Folder trust off, and nothing reported to anybody."""
    settings = {"security": {"folderTrust": {"enabled": False}}, "privacy": {"usageStatisticsEnabled": False}}
    desk.write(str(desk.home / ".gemini" / "settings.json"), json.dumps(settings))


def test_claude_code_connects_in_either_scope(programs: Programs) -> None:
    desk = programs.desk
    desk.init("--client", "claude-code")
    assert "Pending approval" in programs.run("claude", "mcp", "list")
    trust_in_claude(desk)
    assert re.search(r"callboard: callboard serve - . Connected", programs.run("claude", "mcp", "list"))
    desk.uninstall()
    assert "callboard serve" not in programs.run("claude", "mcp", "list")
    desk.init("--client", "claude-code", "--scope", "user")
    assert re.search(r"callboard: \S+/callboard serve - . Connected", programs.run("claude", "mcp", "list"))


def test_claude_code_rewrites_its_file_and_still_loses_only_our_entry(programs: Programs) -> None:
    desk = programs.desk
    desk.init("--client", "claude-code", "--scope", "user")
    programs.run("claude", "mcp", "add", "-s", "user", "other", "--", "other")
    desk.uninstall()
    assert json.loads((desk.home / ".claude.json").read_text())["mcpServers"].keys() == {"other"}


def test_claude_code_connects_over_http(programs: Programs) -> None:
    trust_in_claude(programs.desk)
    with Place(programs.desk.repository).http() as url:
        programs.desk.init("--client", "claude-code", "--http", url)
        assert re.search(
            r"callboard: http\S+/mcp \(HTTP\) - . Connected", programs.run("claude", "mcp", "list")
        )


@pytest.mark.parametrize("scope", ["project", "user"])
def test_codex_calls_a_tool_and_the_lock_is_there(programs: Programs, scope: str) -> None:
    desk = programs.desk
    if scope == "project":
        trust_in_codex(desk)
    desk.init("--client", "codex", "--scope", scope)
    with programs.codex() as codex:
        codex.call("register_agent", role="developer", agent_id="ann")
        granted = codex.call("acquire_file_lock", agent_id="ann", file_path="src/a.py")
        assert granted["isError"] is False
        assert granted["structuredContent"]["fence"] == 1
        held = json.loads(desk.run("call", "check_file_lock", "file_path=src/a.py").stdout)
    assert held["state"] == "held" and held["locks"][0]["agent_id"] == "ann"


def test_codex_shows_a_refusal_as_it_is(programs: Programs) -> None:
    programs.desk.init("--client", "codex", "--scope", "user")
    with programs.codex() as codex:
        for name in ("ann", "ben"):
            codex.call("register_agent", role="developer", agent_id=name)
        codex.call("acquire_file_lock", agent_id="ann", file_path="src/a.py")
        refused = codex.call("acquire_file_lock", agent_id="ben", file_path="src/a.py")
    assert refused["isError"] is True
    assert json.loads(refused["content"][0]["text"])["error"]["code"] == "lock_held"


@pytest.mark.parametrize("scope", ["project", "user"])
def test_gemini_connects(programs: Programs, scope: str) -> None:
    trust_in_gemini(programs.desk)
    programs.desk.init("--client", "gemini", "--scope", scope)
    said = programs.run("gemini", "mcp", "list")
    assert re.search(r"callboard: \S*callboard serve --toolsets core \(stdio\) - Connected", said), said


@pytest.mark.parametrize("scope", ["project", "user"])
def test_copilot_reads_the_file_as_its_own(programs: Programs, scope: str) -> None:
    desk = programs.desk
    trusted = {"trusted_folders": [str(desk.repository)]}
    desk.write(str(desk.home / ".copilot" / "config.json"), json.dumps(trusted))
    desk.init("--client", "copilot-cli", "--scope", scope)
    said = programs.run("copilot", "mcp", "get", "callboard")
    assert "Type: local" in said and "Tools: * (all)" in said and "serve --toolsets core" in said, said


@pytest.mark.parametrize("program", ["claude", "codex", "copilot"])
def test_what_init_writes_is_what_the_clients_own_command_writes(programs: Programs, program: str) -> None:
    """Each client's `mcp add` of the same command, compared with the entry that init makes."""
    desk = programs.desk
    client = {"claude": "claude-code", "codex": "codex", "copilot": "copilot-cli"}[program]
    scope = ("-s", "user") if program == "claude" else ()
    program_path = str(desk.bin / "callboard")
    programs.run(program, "mcp", "add", *scope, "theirs", "--", program_path, "serve", "--toolsets", "core")
    desk.init("--client", client, "--scope", "user", "--profile", "core")
    if program == "codex":
        told = tomllib.loads((desk.home / ".codex" / "config.toml").read_text())["mcp_servers"]
    else:
        name = ".claude.json" if program == "claude" else ".copilot/mcp-config.json"
        told = json.loads((desk.home / name).read_text())["mcpServers"]
    theirs, ours = told["theirs"], told["callboard"]
    assert {key: ours[key] for key in ours.keys() & theirs.keys()} == {
        key: theirs[key] for key in ours.keys() & theirs.keys()
    }
    assert {"command", "args"} <= ours.keys() & theirs.keys()
    assert theirs.keys() - ours.keys() <= {"env"}
