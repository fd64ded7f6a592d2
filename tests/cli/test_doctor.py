"""`callboard doctor` finds what does not work, says what to do, and changes nothing."""

import json
from pathlib import Path

import apsw
import pytest

from callboard import schema
from tests.cli.desk import Desk
from tests.serving import PATIENCE, Json, Place

STDIO = ("claude-code", "vscode", "codex", "windsurf")
"""Clients that differ in how they start a server: by name, with variables, with few of them, by path."""


def findings(desk: Desk, *options: str, code: int = 0) -> dict[str, list[Json]]:
    """What doctor says, by area."""
    told = json.loads(desk.run("doctor", "--json", *options, code=code).stdout)
    assert told["ok"] is (code == 0)
    found: dict[str, list[Json]] = {}
    for finding in told["findings"]:
        assert finding["level"] in ("ok", "note", "problem")
        assert finding["level"] != "problem" or finding["fix"]
        found.setdefault(finding["area"], []).append(finding)
    return found


def only(found: dict[str, list[Json]], area: str) -> tuple[str, str]:
    [finding] = found[area]
    return finding["level"], finding["what"]


def test_in_an_empty_place_it_says_what_to_do_first_and_makes_no_store(desk: Desk) -> None:
    found = findings(desk)
    assert only(found, "clients") == ("note", "none is set up here")
    assert "not there yet" in only(found, "store")[1]
    assert not (desk.repository / ".callboard").exists()


def test_every_client_that_init_set_up_reaches_its_server(desk: Desk) -> None:
    desk.init(*(word for name in STDIO for word in ("--client", name)), "--hooks", "--guard")
    found = findings(desk)
    assert [finding["level"] for finding in found["clients"]] == ["ok"] * len(STDIO)
    assert all("tools" in finding["what"] for finding in found["clients"])
    assert {finding["level"] for finding in found["hooks"]} == {"ok"} and len(found["hooks"]) == 2
    assert only(found, "guard")[0] == "ok"
    assert not (desk.repository / ".callboard").exists(), "the trial left a store behind"


def test_the_words_for_people_name_each_problem_and_its_fix(desk: Desk) -> None:
    desk.init("--client", "claude-code")
    (desk.bin / "callboard").unlink()
    said = desk.run("doctor", code=1).output
    assert "problem  clients: Claude Code, " in said
    assert "→ mend what it says, or run callboard init again." in said


def test_a_server_that_cannot_start_is_reported_in_its_own_words(desk: Desk) -> None:
    desk.init("--client", "claude-code")
    path = desk.repository / ".mcp.json"
    path.write_text(path.read_text().replace('"serve"', '"serve", "--toolsets", "lcoks"'))
    level, what = only(findings(desk, code=1), "clients")
    assert level == "problem" and "no profile or toolset 'lcoks'" in what


def test_a_command_that_is_not_callboard_is_not_run_on_a_repositorys_word(desk: Desk) -> None:
    mark = desk.home / "ran"
    evil = desk.write("callboard", f"#!/bin/sh\ntouch {mark}\n")
    evil.chmod(0o755)
    for command in (str(evil), "sh"):
        entry = {"command": command, "args": ["-c", f"touch {mark}", "serve"]}
        desk.write(".mcp.json", json.dumps({"mcpServers": {"callboard": entry}}))
        level, what = only(findings(desk), "clients")
        assert level == "note" and "was not started" in what
    assert not mark.exists()


def test_a_url_elsewhere_is_not_sent_the_token_on_a_repositorys_word(desk: Desk) -> None:
    entry = {"type": "http", "url": "https://192.0.2.1/mcp"}
    desk.write(".mcp.json", json.dumps({"mcpServers": {"callboard": entry}}))
    level, what = only(findings(desk), "clients")
    assert level == "note" and "was not tried" in what


def test_a_server_over_http_is_reached_with_the_token(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(desk.repository)
    token = place.run("token", "create", "--agent", "ann").stdout.strip()
    with place.http("--auth") as url:
        desk.init("--client", "claude-code", "--http", url, "--auth")
        assert only(findings(desk, "--db", str(place.db), code=1), "clients")[0] == "problem"
        monkeypatch.setenv("CALLBOARD_TOKEN", token)
        found = findings(desk, "--db", str(place.db))
        assert only(found, "clients")[0] == "ok"
        assert only(found, "token") == ("ok", "valid, of the agent ann as worker")


@pytest.mark.parametrize("content", ["{", '{"mcpServers": {"callboard": {}, "callboard": {}}}'])
def test_a_clients_broken_file_is_reported(desk: Desk, content: str) -> None:
    desk.init("--client", "claude-code")
    desk.write(".mcp.json", content)
    level, what = only(findings(desk, code=1), "clients")
    assert level == "problem" and "cannot be read" in what


def test_an_entry_that_somebody_took_away_is_reported(desk: Desk) -> None:
    desk.init("--client", "claude-code")
    desk.write(".mcp.json", "{}")
    assert "is gone" in only(findings(desk), "clients")[1]
    (desk.repository / ".mcp.json").unlink()
    assert "is gone" in only(findings(desk), "clients")[1]


def test_a_hook_whose_program_is_gone_or_that_is_missing_is_reported(desk: Desk) -> None:
    desk.init("--client", "claude-code", "--hooks", "--scope", "user")
    path = desk.home / ".claude" / "settings.json"
    told = json.loads(path.read_text())
    del told["hooks"]["Stop"]
    path.write_text(json.dumps(told))
    assert "has none for Stop" in only(findings(desk), "hooks")[1]
    path.write_text(path.read_text().replace(str(desk.bin), str(desk.bin / "old")))
    level, what = only(findings(desk, code=1), "hooks")
    assert level == "problem" and "which is not there" in what


def test_another_callboard_on_path_is_reported(desk: Desk) -> None:
    (desk.bin / "callboard").write_text("#!/bin/sh\necho callboard 0.0.1\n")
    level, what = only(findings(desk, code=1), "command")
    assert level == "problem" and "callboard 0.0.1" in what


# --- The store ----------------------------------------------------------------------------------------------


def test_a_sound_store_is_described(desk: Desk) -> None:
    desk.run("call", "list_roles")
    level, what = only(findings(desk), "store")
    assert level == "ok" and f"schema {schema.VERSION}" in what


def test_a_store_that_cannot_be_used_is_reported_and_left_as_it_is(desk: Desk) -> None:
    path = desk.write("board.db", b"no database at all, but long enough to be one" * 100)
    before = path.read_bytes()
    level, _ = only(findings(desk, "--db", str(path), code=1), "store")
    assert level == "problem"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("step", "level", "says"), [(1, "problem", "knows up to"), (-1, "note", "after a backup")]
)
def test_a_store_of_another_schema_is_reported_and_left_as_it_is(
    desk: Desk, step: int, level: str, says: str
) -> None:
    desk.run("call", "list_roles")
    path = desk.repository / ".callboard" / "board.db"
    with apsw.Connection(str(path)) as db:
        db.pragma("user_version", schema.VERSION + step)
    db.close()
    found = findings(desk, code=1 if level == "problem" else 0)
    assert only(found, "store")[0] == level and says in only(found, "store")[1]
    with apsw.Connection(str(path)) as db:
        assert db.pragma("user_version") == schema.VERSION + step
    db.close()


def test_a_store_that_others_can_open_is_noted(desk: Desk) -> None:
    desk.run("call", "list_roles")
    path = desk.repository / ".callboard" / "board.db"
    path.chmod(0o644)
    assert "mode 644" in findings(desk)["store"][1]["what"]


@pytest.mark.parametrize("how", ["killed", "hung up on"])
def test_the_lease_of_an_agent_whose_process_has_ended_is_reported(desk: Desk, how: str) -> None:
    place = Place(desk.repository)
    with place.piped() as process:
        told, heard = process.stdin, process.stdout
        assert told is not None and heard is not None

        def ask(number: int, method: str, **params: object) -> None:
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            told.write(json.dumps(message).encode() + b"\n")
            told.flush()
            while json.loads(heard.readline()).get("id") != number:
                pass

        client = {"name": "t", "version": "1"}
        ask(1, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        ask(2, "tools/call", name="register_agent", arguments={"role": "developer", "agent_id": "ann"})
        ask(3, "tools/call", name="acquire_file_lock", arguments={"agent_id": "ann", "file_path": "a.py"})
        assert only(findings(desk, "--db", str(place.db)), "leases")[0] == "ok"
        if how == "hung up on":
            told.close()
            process.wait(PATIENCE)
    level, what = only(findings(desk, "--db", str(place.db)), "leases")
    assert level == "note"
    assert what.startswith("ann holds a.py until ") and what.endswith("its process has ended")


# --- Tokens -------------------------------------------------------------------------------------------------


def test_a_token_is_judged_and_never_shown(desk: Desk, tmp_path: Path) -> None:
    token = desk.run("token", "create", "--agent", "ann").stdout.strip()
    file = tmp_path / "token"
    file.write_text(token)
    assert only(findings(desk, "--token-file", str(file)), "token")[0] == "ok"
    desk.run("token", "revoke", token.split(".")[2])
    said = desk.run("doctor", "--token-file", str(file), code=1).output
    assert "problem  token: " in said and "callboard token create" in said
    assert token.split(".")[3] not in said
