"""`callboard init`: every client's file gets what the client reads, and nothing else changes."""

import json
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from callboard.catalog import select
from callboard.cli.setup import hooks, jsonc, section
from callboard.cli.setup.clients import CLIENTS, SERVER, Place
from tests import terminal
from tests.cli.desk import EVERY_CLIENT, Desk
from tests.serving import PATIENCE

FOREIGN = (
    '{\n  "mcpServers": {\n    "other": {"command": "other", "env": {"API_KEY": "s3cret"}} // mine\n  }\n}\n'
)


def entry(desk: Desk, client: str) -> dict[str, object]:
    """The entry that a client finds in its file."""
    one = CLIENTS[client]
    scope = one.scope(None)
    assert scope is not None
    text = one.file(desk.place, scope).read_text()
    told = tomllib.loads(text) if one.form == "toml" else jsonc.read(text)
    found = told[one.key][SERVER]
    assert isinstance(found, dict)
    return found


def test_every_client_gets_the_form_that_it_documents(desk: Desk) -> None:
    desk.init(*EVERY_CLIENT)
    program = str(desk.bin / "callboard")
    folder = str(desk.repository)
    core = ["serve", "--toolsets", "core"]
    assert {name: entry(desk, name) for name in CLIENTS} == {
        "claude-code": {"type": "stdio", "command": "callboard", "args": ["serve"]},
        "vscode": {
            "type": "stdio",
            "command": "callboard",
            "args": [*core, "--folder", "${workspaceFolder}"],
        },
        "cursor": {
            "command": "callboard",
            "args": ["serve", "--toolsets", "lead", "--folder", "${workspaceFolder}"],
        },
        "codex": {
            "command": "callboard",
            "args": core,
            "env_vars": ["CALLBOARD_AGENT", "CALLBOARD_DB", "CALLBOARD_TOKEN_FILE"],
            "tool_timeout_sec": 60,
        },
        "gemini": {"command": "callboard", "args": core},
        "copilot-cli": {"type": "local", "command": "callboard", "args": core, "tools": ["*"]},
        "windsurf": {"command": program, "args": [*core, "--folder", folder]},
        "zed": {"command": "callboard", "args": core, "env": {}},
        "claude-desktop": {
            "command": program,
            "args": ["serve", "--toolsets", "lead", "--folder", folder],
        },
    }


def test_a_server_over_http_is_named_by_its_url_and_a_token_by_its_variable(desk: Desk) -> None:
    clients = [name for name in CLIENTS if name not in ("zed", "claude-desktop")]
    desk.init(
        "--http", "127.0.0.1:9000", "--auth", *(word for name in clients for word in ("--client", name))
    )
    url = "http://127.0.0.1:9000/mcp"

    def bearer(reference: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {reference}"}

    assert {name: entry(desk, name) for name in clients} == {
        "claude-code": {"type": "http", "url": url, "headers": bearer("${CALLBOARD_TOKEN:-}")},
        "vscode": {"type": "http", "url": url, "headers": bearer("${env:CALLBOARD_TOKEN}")},
        "cursor": {"url": url, "headers": bearer("${env:CALLBOARD_TOKEN}")},
        "codex": {"url": url, "bearer_token_env_var": "CALLBOARD_TOKEN", "tool_timeout_sec": 60},
        "gemini": {"httpUrl": url, "headers": bearer("$CALLBOARD_TOKEN")},
        "copilot-cli": {"type": "http", "url": url, "headers": bearer("${CALLBOARD_TOKEN}"), "tools": ["*"]},
        "windsurf": {"serverUrl": url, "headers": bearer("${env:CALLBOARD_TOKEN}")},
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--client", "claude-desktop", "--http", "127.0.0.1:1"), "takes no HTTP server"),
        (("--client", "zed", "--http", "127.0.0.1:1", "--auth"), "cannot take a token"),
        (("--client", "windsurf", "--scope", "project"), "use --scope user"),
        (("--client", "emacs"), "no client is named emacs"),
        (("--client", "codex", "--http", "https://u:p@host/mcp"), "may hold no credentials"),
        (("--client", "codex", "--http", "https://host/mcp?token=x"), "may hold no credentials"),
        (("--client", "codex", "--http", "ftp://host"), "neither an http URL"),
        (("--client", "codex", "--auth"), "goes with --http"),
        (("--client", "codex", "--all-detected"), "either --client or --all-detected"),
        ((), "no client was found here"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    desk: Desk, arguments: tuple[str, ...], says: str
) -> None:
    before = desk.tree()
    assert says in desk.init(*arguments, code=1)
    assert desk.tree() == before


def test_without_options_the_clients_that_left_traces_are_set_up(desk: Desk) -> None:
    (desk.repository / ".vscode").mkdir()
    (desk.home / ".codex").mkdir()
    (desk.bin / "gemini").touch(mode=0o755)
    desk.init()
    assert entry(desk, "vscode") and entry(desk, "codex") and entry(desk, "gemini")
    assert not (desk.repository / ".mcp.json").exists()


def test_of_the_clients_that_were_found_those_that_cannot_are_left_out(desk: Desk) -> None:
    (desk.home / ".config" / "Claude").mkdir(parents=True)
    (desk.home / ".codex").mkdir()
    assert "Left out: Claude Desktop takes no HTTP server" in desk.init("--http", "127.0.0.1:9000")
    assert entry(desk, "codex")["url"] == "http://127.0.0.1:9000/mcp"
    assert "Left out: Claude Desktop has no file in a project" in desk.init("--scope", "project")


def test_a_guard_alone_is_asked_about_too(desk: Desk) -> None:
    desk.init("--client", "codex")
    assert "confirm with --yes" in desk.run("init", "--client", "codex", "--guard", code=1).output
    assert not (desk.repository / ".git" / "hooks" / "pre-commit").exists()
    desk.init("--client", "codex", "--guard")
    assert (desk.repository / ".git" / "hooks" / "pre-commit").exists()


def test_the_interpreter_is_named_where_callboard_is_not_on_path(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    said = desk.init("--client", "claude-code")
    assert entry(desk, "claude-code")["command"] == sys.executable
    assert entry(desk, "claude-code")["args"] == ["-m", "callboard", "serve"]
    assert "callboard is not on PATH" in said


def test_in_user_scope_the_persons_own_file_gets_the_whole_path_of_the_program(desk: Desk) -> None:
    desk.init("--client", "codex", "--client", "claude-code", "--scope", "user", "--hooks")
    told = tomllib.loads((desk.home / ".codex" / "config.toml").read_text())
    assert told["mcp_servers"]["callboard"]["command"] == str(desk.bin / "callboard")
    claude = json.loads((desk.home / ".claude.json").read_text())
    assert claude["mcpServers"]["callboard"]["command"] == str(desk.bin / "callboard")
    named = json.loads((desk.home / ".claude" / "settings.json").read_text())["hooks"]
    assert named["Stop"][0]["hooks"][0]["command"] == f"{desk.bin}/callboard hook claude-code stop"
    assert [path for path in desk.repository.iterdir() if path.name != ".git"] == []


def test_a_profile_that_is_asked_for_is_the_one_that_is_offered(desk: Desk) -> None:
    desk.init("--client", "claude-code", "--client", "codex", "--profile", "lead")
    for client in ("claude-code", "codex"):
        assert entry(desk, client)["args"] == ["serve", "--toolsets", "lead"]


def test_foreign_entries_comments_and_order_stay(desk: Desk) -> None:
    desk.write(".mcp.json", FOREIGN)
    desk.init("--client", "claude-code")
    head, tail = FOREIGN.split(" // mine\n")
    written = desk.read(".mcp.json")
    assert written.startswith(f'{head}, // mine\n    "callboard": {{\n')
    assert written.endswith(tail)
    assert jsonc.read(written)["mcpServers"]["other"] == jsonc.read(FOREIGN)["mcpServers"]["other"]


SECRETS = {
    "by their names": FOREIGN,
    "as words of the last line": '{\n  "mcpServers": {\n    "other": {"args": ["-p", "s3cret"]}\n  }\n}\n',
    "all in one line": '{"mcpServers": {"other": {"args": ["-p", "s3cret"]}}}',
    "in an old entry of ours": '{"mcpServers": {"callboard": {"env": {"MY_TOKEN": "s3cret"}}}}',
}


@pytest.mark.parametrize("content", SECRETS.values(), ids=list(SECRETS))
def test_secrets_are_not_shown(desk: Desk, content: str) -> None:
    desk.write(".mcp.json", content)
    said = desk.init("--client", "claude-code")
    assert '"serve"' in said
    assert "s3cret" not in said + desk.uninstall()


def test_an_own_old_entry_is_replaced_and_its_secrets_are_not_shown(desk: Desk) -> None:
    old = '{"mcpServers": {"callboard": {"command": "old", "env": {"CALLBOARD_TOKEN": "cb1.a.b.c"}}}}'
    desk.write(".mcp.json", old)
    assert "cb1.a" not in desk.init("--client", "claude-code")
    assert entry(desk, "claude-code")["command"] == "callboard"
    desk.uninstall()
    assert desk.read(".mcp.json") == old


def test_a_dry_run_and_a_missing_confirmation_change_nothing(desk: Desk) -> None:
    before = desk.tree()
    assert '"callboard"' in desk.run("init", "--client", "claude-code", "--dry-run").output
    assert "confirm with --yes" in desk.run("init", "--client", "claude-code", code=1).output
    assert desk.tree() == before
    desk.init("--client", "claude-code")
    before = desk.tree()
    assert "dry run" in desk.run("uninstall", "--dry-run").output
    assert "confirm with --yes" in desk.run("uninstall", code=1).output
    assert desk.tree() == before


def test_a_person_at_a_terminal_is_asked_and_what_is_agreed_to_is_done(desk: Desk) -> None:
    refused = terminal.run("n\nn\nn\n", "init", "--client", "claude-code")
    assert refused.code == 1 and "nothing was changed" in refused.said
    assert not (desk.repository / ".mcp.json").exists()
    agreed = terminal.run("y\nn\ny\n", "init", "--client", "claude-code")
    assert agreed.code == 0, agreed.said
    assert "hook claude-code stop" in desk.read(".claude/settings.json")
    assert not list((desk.repository / ".git" / "hooks").glob("pre-commit"))


BROKEN = {
    "cut off": '{"mcpServers": {',
    "no colon": '{"mcpServers" {}}',
    "two values": "{} {}",
    "an array": "[]",
    "servers are text": '{"mcpServers": "none"}',
    "servers twice": '{"mcpServers": {}, "mcpServers": {}}',
    "a bare word": '{"a": yes}',
    "an open comment": '{"a": 1 /* }',
    "two commas": '{"a": 1,,}',
    "an open string": '{"a": "x}',
    "a bad escape": '{"a": "\\u12"}',
    "too deep": '{"a":' * 300 + "1" + "}" * 300,
    "not UTF-8": b'{"a": "\xff"}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file_is_left_alone_and_the_others_are_written(desk: Desk, content: str | bytes) -> None:
    path = desk.write(".mcp.json", content)
    before = path.read_bytes()
    said = desk.init("--client", "claude-code", "--client", "codex", "--no-instructions", code=1)
    assert "left alone" in said
    assert path.read_bytes() == before
    assert entry(desk, "codex")


@pytest.mark.parametrize("content", ["[mcp_servers\n", "mcp_servers = 3\n", "a = 1\na = 2\n"])
def test_a_broken_toml_file_is_left_alone(desk: Desk, content: str) -> None:
    path = desk.write(".codex/config.toml", content)
    assert "left alone" in desk.init("--client", "codex", "--no-instructions", code=1)
    assert path.read_text() == content


def test_a_folder_or_a_torn_section_in_the_place_of_a_file_is_left_alone(desk: Desk) -> None:
    (desk.repository / ".mcp.json").mkdir()
    desk.write("CLAUDE.md", f"mine\n{section.BEGIN}\n")
    said = desk.init("--client", "claude-code", code=1)
    assert "not a file" in said and "not one pair" in said
    assert desk.read("CLAUDE.md") == f"mine\n{section.BEGIN}\n"


def test_a_link_in_a_repository_cannot_lead_an_edit_out_of_it(desk: Desk) -> None:
    outside = desk.write(str(desk.home / "notes.md"), "private\n")
    (desk.repository / "CLAUDE.md").symlink_to(outside)
    assert "a link out of the repository" in desk.init("--client", "claude-code", code=1)
    assert outside.read_text() == "private\n"


def test_a_persons_own_link_stays_a_link_and_its_target_is_edited(desk: Desk) -> None:
    target = desk.write(str(desk.home / "dotfiles" / "codex.toml"), 'model = "m"\n')
    (desk.home / ".codex").mkdir()
    link = desk.home / ".codex" / "config.toml"
    link.symlink_to(target)
    desk.init("--client", "codex", "--scope", "user")
    assert link.is_symlink()
    assert tomllib.loads(target.read_text())["mcp_servers"]["callboard"]
    desk.uninstall()
    assert target.read_text() == 'model = "m"\n'


def test_a_file_keeps_its_permissions(desk: Desk) -> None:
    path = desk.write(".mcp.json", "{}")
    path.chmod(0o600)
    desk.init("--client", "claude-code")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_section_goes_where_the_clients_read_it_and_once(desk: Desk) -> None:
    desk.write("CLAUDE.md", "mine\n\n@AGENTS.md\n")
    desk.init("--client", "claude-code", "--client", "codex", "--client", "gemini")
    assert desk.read("CLAUDE.md") == "mine\n\n@AGENTS.md\n"
    for name in ("AGENTS.md", "GEMINI.md"):
        assert section.get(desk.read(name)) == section.CREW


def test_texts_for_agents_that_are_one_file_get_one_section(desk: Desk) -> None:
    desk.write("AGENTS.md", "mine\n")
    (desk.repository / "CLAUDE.md").symlink_to("AGENTS.md")
    desk.init("--client", "claude-code", "--client", "codex")
    assert desk.read("AGENTS.md").count(section.BEGIN) == 1
    assert (desk.repository / "CLAUDE.md").is_symlink()


def test_the_section_names_tools_that_every_profile_has() -> None:
    core = select(["core"])
    named = {word for word in section.CREW.split("`")[1::2] if word.count("_") and word != "lock_held"}
    assert named - {"agent_id", "wait_seconds"} <= core.keys()


def test_the_readme_says_of_every_client_what_it_gets() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in readme.splitlines() if line[:3] == "| `"
    ]
    told = {cells[0]: cells for cells in rows if len(cells) == 5}
    for name, client in CLIENTS.items():
        project = f"`{client.project_file}`" if client.project_file else ""
        _, in_project, own, tools, with_hooks = told[f"`{name}`"]
        assert (in_project, tools, with_hooks == "yes") == (project, client.profile, name in hooks.FORMS)
        place = Place(Path("/home/ann"), Path("/repo"), {}, mac=False)
        path = f"`~/{client.user_file(place).relative_to(place.home)}`"
        assert own == path or own.startswith(f"`{Path(path[1:-1]).name}`")


def test_hooks_are_added_beside_those_of_others_when_asked_for(desk: Desk) -> None:
    other = {"matcher": "Bash", "hooks": [{"type": "command", "command": "lint"}]}
    desk.write(
        ".claude/settings.json", json.dumps({"model": "m", "hooks": {"PreToolUse": [other]}}, indent=2)
    )
    desk.init("--client", "claude-code")
    assert json.loads(desk.read(".claude/settings.json"))["hooks"] == {"PreToolUse": [other]}
    desk.init("--client", "claude-code", "--hooks")
    desk.init("--client", "claude-code")  # what was asked for once stays
    told = json.loads(desk.read(".claude/settings.json"))
    assert told["model"] == "m"
    assert told["hooks"]["PreToolUse"] == [
        other,
        {
            "matcher": "Edit|MultiEdit|NotebookEdit|Write",
            "hooks": [
                {"type": "command", "command": "callboard hook claude-code pre-tool-use", "timeout": 10}
            ],
        },
    ]
    assert set(told["hooks"]) == {"SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop"}


def test_hooks_stay_when_the_server_beside_them_in_the_same_file_is_set_up_anew(desk: Desk) -> None:
    desk.init("--client", "gemini", "--hooks")
    desk.init("--client", "gemini", "--profile", "lead")
    told = json.loads(desk.read(".gemini/settings.json"))
    assert told["mcpServers"]["callboard"]["args"] == ["serve", "--toolsets", "lead"]
    assert "BeforeTool" in told["hooks"]


@pytest.mark.parametrize("client", ["codex", "gemini", "copilot-cli", "cursor"])
def test_the_other_clients_with_hooks_get_theirs(desk: Desk, client: str) -> None:
    desk.init("--client", client, "--hooks")
    files = {
        "codex": ".codex/hooks.json",
        "gemini": ".gemini/settings.json",
        "copilot-cli": ".github/hooks/callboard.json",
        "cursor": ".cursor/hooks.json",
    }
    told = json.loads(desk.read(files[client]))
    assert f"callboard hook {client} pre-tool-use" in json.dumps(told["hooks"])
    assert told.get("version", 1) == 1


def test_what_is_kept_of_a_persons_files_only_that_person_can_read(desk: Desk) -> None:
    desk.write(".mcp.json", FOREIGN)
    desk.init("--client", "claude-code")
    state = desk.home / ".local" / "state" / "callboard" / "setup"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    kept = {path.read_bytes() for path in state.glob("*/original")}
    assert FOREIGN.encode() in kept
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in state.glob("*/*"))


def test_a_server_started_elsewhere_finds_the_repository_by_its_folder(desk: Desk, tmp_path: Path) -> None:
    """What Claude Desktop and Windsurf do: they start servers in no folder of anybody's."""
    desk.init("--client", "claude-desktop")
    told = entry(desk, "claude-desktop")
    words = [str(told["command"]), *map(str, told["args"])]  # type: ignore[call-overload]  # a list, see above
    ran = subprocess.run(words, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    assert ran.returncode == 0, ran.stderr
    assert (desk.repository / ".callboard" / "board.db").exists()
