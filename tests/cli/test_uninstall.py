"""`callboard uninstall` takes out what `callboard init` has put in: to the byte, or else only that."""

import json
import tomllib

import pytest

from callboard.cli.setup import jsonc, section
from tests.cli.desk import EVERY_CLIENT, JSON_FILES, Desk, Tree

SERVERS = """{
  // the crew's servers
  "mcpServers": {
    "other": {"command": "other", "args": ["a", "b"]}, /* theirs */
    "third": {
      "url": "https://example.com/mcp" // the last one
    }
  },
  "servers": {"other": {"type": "stdio", "command": "other"}},
  "context_servers": {}, // none yet
  "hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": []}], "preToolUse": [], "Stop": [ ]}
}
"""

JSON = {
    "missing": None,
    "empty": "",
    "blank": "\n\n",
    "an empty object": "{}",
    "an empty object, no end of line": "{ }",
    "only a comment": "// nothing yet\n",
    "comments": SERVERS,
    "trailing commas": SERVERS.replace("}\n  },", "},\n  },", 1).replace("[ ]}", "[ ],},"),
    "CRLF": SERVERS.replace("\n", "\r\n"),
    "tabs": SERVERS.replace("  ", "\t"),
    "four spaces": SERVERS.replace("  ", "    "),
    "one line": '{"mcpServers":{"other":{"command":"other"}},"version":2}',
    "a byte order mark": "\ufeff" + SERVERS,
    "a byte order mark alone": "\ufeff",
    "no end of line": SERVERS.rstrip("\n"),
    "text of all kinds": '{\n "a": "\\"}{//é\U0001f600\\u00e9", "b": [1e3, -0.5, null, true, [], [{}]]\n}\n',
}

TOML = {
    "missing": None,
    "empty": "",
    "a line": 'model = "m"',
    "comments": '# mine\na = "m" # why\n\n[mcp_servers.other]\ncommand = "other" # theirs\n\n[tui]\n# end\n',
    "CRLF": '# mine\r\nmodel = "m"\r\n\r\n[mcp_servers.other]\r\ncommand = "other"\r\n',
    "inline": 'mcp_servers = { other = { command = "other" } } # all\n',
    "dotted": 'mcp_servers.other.command = "other"\n',
    "scattered": "[mcp_servers.a]\nx = 1\n[z]\ny = 1\n[mcp_servers.b]\nx = 1\n",
    "a byte order mark": '\ufeffmodel = "m"\n',
}

TEXT = {
    "missing": None,
    "empty": "",
    "lines": "# Mine\n\nText.\n",
    "no end of line": "# Mine",
    "CRLF": "# Mine\r\n\r\nText.\r\n",
    "empty lines at the end": "# Mine\n\n\n",
    "a byte order mark": "\ufeff# Mine\n",
}


def write(desk: Desk, name: str, content: str | None) -> None:
    if content is not None:
        desk.write(name, content)


def there_and_back(desk: Desk, *options: str) -> Tree:
    """Init twice and uninstall; all as at the start. What it was in between."""
    before = desk.tree()
    desk.init(*options)
    between = desk.tree()
    assert between != before
    assert "Nothing is to be changed" in desk.init(*options)
    assert desk.tree() == between
    desk.uninstall()
    assert desk.tree() == before
    assert "Nothing is to be taken out" in desk.uninstall()
    assert not (desk.home / ".local" / "state" / "callboard").exists()
    return between


@pytest.mark.parametrize("content", JSON.values(), ids=list(JSON))
def test_init_twice_and_uninstall_leave_every_json_file_as_it_was(desk: Desk, content: str | None) -> None:
    for name in JSON_FILES:
        write(desk, name, content)
    write(desk, str(desk.home / ".codeium" / "windsurf" / "mcp_config.json"), content)
    between = there_and_back(desk, *EVERY_CLIENT, "--hooks", "--no-instructions")
    was = jsonc.read((content or "").lstrip("\ufeff")) or {}
    for name in JSON_FILES:
        data = between[f"repo/{name}"][1]
        assert isinstance(data, bytes)
        now = jsonc.read(data.decode().lstrip("\ufeff"))
        assert "callboard" in json.dumps(now)
        assert holds(now, was)


def holds(now: object, was: object) -> bool:
    """Whether everything that was there is there still, whatever has come."""
    if isinstance(was, dict):
        return isinstance(now, dict) and all(key in now and holds(now[key], was[key]) for key in was)
    if isinstance(was, list):
        return isinstance(now, list) and now[: len(was)] == was
    return now == was


@pytest.mark.parametrize("content", TOML.values(), ids=list(TOML))
def test_init_twice_and_uninstall_leave_a_toml_file_as_it_was(desk: Desk, content: str | None) -> None:
    write(desk, ".codex/config.toml", content)
    between = there_and_back(desk, "--client", "codex")
    data = between["repo/.codex/config.toml"][1]
    assert isinstance(data, bytes)
    now = tomllib.loads(data.decode().lstrip("\ufeff"))
    assert now["mcp_servers"]["callboard"]["command"] == "callboard"
    assert holds(now, tomllib.loads((content or "").lstrip("\ufeff").replace("\r\n", "\n")))


@pytest.mark.parametrize("content", TEXT.values(), ids=list(TEXT))
def test_init_twice_and_uninstall_leave_the_texts_for_agents_as_they_were(
    desk: Desk, content: str | None
) -> None:
    for name in ("AGENTS.md", "CLAUDE.md"):
        write(desk, name, content)
    between = there_and_back(desk, "--client", "claude-code", "--client", "codex")
    data = between["repo/AGENTS.md"][1]
    assert isinstance(data, bytes)
    assert section.get(data.decode()) == section.CREW
    assert data.startswith((content or "").encode())


def test_links_stay_links_and_what_they_lead_to_is_as_it_was(desk: Desk) -> None:
    desk.write("shared/mcp.json", SERVERS)
    (desk.repository / ".mcp.json").symlink_to("shared/mcp.json")
    desk.write("AGENTS.md", "mine\n")
    (desk.repository / "CLAUDE.md").symlink_to("AGENTS.md")
    (desk.repository / "config").mkdir()
    (desk.repository / ".vscode").symlink_to("config")
    there_and_back(desk, "--client", "claude-code", "--client", "vscode")


def test_the_guard_goes_with_the_rest_and_the_hooks_of_before_are_back(desk: Desk) -> None:
    hook = desk.write(".git/hooks/pre-commit", "#!/bin/sh\necho mine\n")
    hook.chmod(0o755)
    before = desk.tree()
    desk.init("--client", "claude-code", "--guard")
    assert b"callboard" in hook.read_bytes()
    desk.uninstall()
    assert desk.tree() == before


def test_a_guard_that_init_did_not_put_in_stays(desk: Desk) -> None:
    desk.run("guard", "install")
    before = desk.tree()
    desk.init("--client", "claude-code", "--guard")
    desk.uninstall()
    assert desk.tree() == before


def test_an_entry_that_was_there_before_init_stays(desk: Desk) -> None:
    desk.init("--client", "claude-code")
    content = desk.read(".mcp.json")
    desk.uninstall()
    desk.write(".mcp.json", content)
    desk.init("--client", "claude-code", "--no-instructions")
    desk.uninstall()
    assert desk.read(".mcp.json") == content


def test_switching_to_http_and_back_still_leads_to_the_start(desk: Desk) -> None:
    desk.write(".mcp.json", SERVERS)
    before = desk.tree()
    desk.init("--client", "claude-code")
    desk.init("--client", "claude-code", "--http", "http://127.0.0.1:8765")
    assert '"http://127.0.0.1:8765/mcp"' in desk.read(".mcp.json")
    desk.uninstall()
    assert desk.tree() == before


# --- Files that others have changed meanwhile ---------------------------------------------------------------


@pytest.mark.parametrize(("name", "key", "client"), [(".mcp.json", "mcpServers", "claude-code")])
@pytest.mark.parametrize("content", JSON.values(), ids=list(JSON))
def test_what_came_into_a_file_since_stays_and_what_init_put_in_goes(
    desk: Desk, content: str | None, name: str, key: str, client: str
) -> None:
    write(desk, name, content)
    was = jsonc.read((content or "").lstrip("\ufeff")) or {}
    desk.init("--client", client, "--no-instructions")
    mark = "\ufeff" if desk.read(name).startswith("\ufeff") else ""
    desk.write(name, mark + jsonc.put(desk.read(name).lstrip("\ufeff"), (key, "late"), {"command": "late"}))
    desk.uninstall()
    left = jsonc.read(desk.read(name).lstrip("\ufeff"))
    assert left == {**was, key: {**was.get(key, {}), "late": {"command": "late"}}}


def test_only_the_section_goes_from_a_text_that_has_grown(desk: Desk) -> None:
    desk.write("CLAUDE.md", "# Mine\n")
    desk.init("--client", "claude-code")
    desk.write("CLAUDE.md", desk.read("CLAUDE.md") + "\n# Later\n")
    assert "changed since" in desk.run("uninstall", "--dry-run").output
    desk.uninstall()
    assert desk.read("CLAUDE.md") == "# Mine\n\n# Later\n"


def test_only_the_table_goes_from_a_toml_file_that_has_grown(desk: Desk) -> None:
    desk.write(".codex/config.toml", TOML["comments"] or "")
    desk.init("--client", "codex", "--no-instructions")
    desk.write(".codex/config.toml", "# new\n" + desk.read(".codex/config.toml"))
    desk.uninstall()
    assert desk.read(".codex/config.toml") == "# new\n" + (TOML["comments"] or "")


def test_what_init_replaced_is_back_even_in_a_file_that_has_grown(desk: Desk) -> None:
    desk.write(".mcp.json", '{\n  "mcpServers": {\n    "callboard": {"command": "old"}\n  }\n}\n')
    desk.init("--client", "claude-code")
    desk.write(".mcp.json", jsonc.put(desk.read(".mcp.json"), ("mcpServers", "late"), {"command": "late"}))
    desk.uninstall()
    servers = json.loads(desk.read(".mcp.json"))["mcpServers"]
    assert servers == {"callboard": {"command": "old"}, "late": {"command": "late"}}


def test_hooks_of_others_that_came_since_stay(desk: Desk) -> None:
    desk.init("--client", "claude-code", "--hooks", "--no-instructions")
    late = {"hooks": [{"type": "command", "command": "late"}]}
    path = desk.repository / ".claude" / "settings.json"
    path.write_text(jsonc.append(path.read_text(), ("hooks", "Stop"), late))
    desk.uninstall()
    assert json.loads(path.read_text()) == {"hooks": {"Stop": [late]}}


def test_a_file_of_which_nothing_else_is_left_goes_although_it_was_changed(desk: Desk) -> None:
    desk.init("--client", "claude-code", "--no-instructions")
    desk.write(".mcp.json", desk.read(".mcp.json").replace('"serve"', '"serve", "--read-only"'))
    desk.uninstall()
    assert not (desk.repository / ".mcp.json").exists()


def test_a_file_that_was_removed_since_stays_removed(desk: Desk) -> None:
    desk.write(".mcp.json", SERVERS)
    desk.init("--client", "claude-code", "--no-instructions")
    (desk.repository / ".mcp.json").unlink()
    desk.uninstall()
    assert not (desk.repository / ".mcp.json").exists()


def test_a_file_that_was_broken_since_is_left_alone_until_it_is_mended(desk: Desk) -> None:
    desk.init("--client", "claude-code", "--no-instructions")
    whole = desk.read(".mcp.json")
    desk.write(".mcp.json", whole[:-4])
    assert "left alone" in desk.uninstall(code=1)
    assert desk.read(".mcp.json") == whole[:-4]
    desk.write(".mcp.json", whole)
    desk.uninstall()
    assert not (desk.repository / ".mcp.json").exists()


def test_another_repository_keeps_what_init_put_in_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.init("--client", "claude-code")
    other = desk.home / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    desk.init("--client", "claude-code", "--client", "windsurf")
    monkeypatch.chdir(desk.repository)
    desk.uninstall()
    assert not (desk.repository / ".mcp.json").exists()
    assert (other / ".mcp.json").exists()
    desk.uninstall("--scope", "user")
    assert not (desk.home / ".codeium").exists()
    assert (other / ".mcp.json").exists()
