"""The command line: tokens, the generated files, and a start that is refused in one clear sentence."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner, Result

from callboard import __version__, identity
from callboard import manifests as contract
from callboard.cli import app
from tests import terminal
from tests.commands import Run, runner

SERVER = Path(__file__).resolve().parents[1] / "server"
ROOT = SERVER.parent


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder of its own, as a shell does, in this process."""
    return runner(tmp_path, monkeypatch)


def sentence(result: Result) -> str:
    """The one sentence with which a command ended badly."""
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("callboard: ")
    return line.removeprefix("callboard: ")


# --- Tokens -----------------------------------------------------------------------------------------------


def tokens(run: Run) -> list[dict[str, str | None]]:
    listed = json.loads(run("token", "list", "--json").stdout)
    assert isinstance(listed, list)
    return listed


def test_a_token_is_shown_once_and_listed_without_its_secret(run: Run) -> None:
    """ID3"""
    token = run("token", "create", "--agent", "ann", "--scope", "lead").stdout.strip()
    prefix, _, key_id, secret = token.split(".")
    assert prefix == identity.TOKEN_PREFIX
    [listed] = tokens(run)
    assert (listed["key_id"], listed["kind"], listed["principal"], listed["scope"]) == (
        key_id,
        "agent",
        "ann",
        "lead",
    )
    assert (listed["expires_at"], listed["revoked_at"]) == (None, None)
    plain = run("token", "list").stdout
    assert key_id in plain and "until revoked" in plain
    assert secret not in plain + json.dumps(listed)


def test_a_persons_token_has_a_persons_rights_and_an_agents_a_workers(run: Run) -> None:
    assert "cb1." in at_a_terminal("maria\n", "token", "create", "--human", "maria")
    run("token", "create", "--agent", "ann")
    assert {(token["kind"], token["principal"], token["scope"]) for token in tokens(run)} == {
        ("human", "maria", "human"),
        ("agent", "ann", "worker"),
    }


def at_a_terminal(typed: str, *arguments: str) -> str:
    """What a command says to a person who types this at its terminal."""
    return terminal.run(typed, *arguments).said


def test_a_persons_token_is_made_by_a_person_only(run: Run, tmp_path: Path) -> None:
    """G1: neither a pipe nor an agent's token makes one; a typed name or a person's token does."""
    assert "at a terminal" in sentence(run("token", "create", "--human", "maria", code=1))
    assert "not confirmed" in at_a_terminal("marta\n", "token", "create", "--human", "maria")
    assert tokens(run) == []
    [made] = re.findall(r"cb1\.\S+", at_a_terminal("maria\n", "token", "create", "--human", "maria"))
    key = tmp_path / "key"
    key.write_text(made)
    assert run("token", "create", "--human", "omar", "--token-file", str(key)).stdout.startswith("cb1.")
    key.write_text(run("token", "create", "--agent", "ann").stdout)
    assert "not a person's" in sentence(
        run("token", "create", "--human", "eve", "--token-file", str(key), code=1)
    )


def test_a_token_with_a_lifetime_says_until_when(run: Run) -> None:
    before = time.time()
    run("token", "create", "--agent", "ann", "--expires", "2h")
    [token] = tokens(run)
    assert token["expires_at"] is not None and re.fullmatch(
        r"\d{4}-\d\d-\d\dT[\d:.]{12}Z", token["expires_at"]
    )
    with apsw.Connection(str(Path(".callboard", "board.db"))) as db:
        ends = db.execute("SELECT expires_unix_ms FROM _credentials").get
    assert before + 7200 <= ends / 1000 + 0.001 <= time.time() + 7200.001


def test_a_call_of_nobody_that_would_write_is_told_how_to_say_who_acts(run: Run) -> None:
    told = json.loads(run("call", "acquire_file_lock", "file_path=a.py", code=2).stderr)["error"]
    assert told["code"] == "forbidden" and "--agent" in told["hint"]


def test_a_revoked_token_stays_listed_as_revoked(run: Run) -> None:
    key_id = run("token", "create", "--agent", "ann").stdout.split(".")[2]
    assert "is revoked" in run("token", "revoke", key_id).stdout
    assert "was revoked before" in run("token", "revoke", key_id).stdout
    assert json.loads(run("token", "revoke", key_id, "--json").stdout) == {"key_id": key_id, "revoked": False}
    assert tokens(run)[0]["revoked_at"] is not None
    assert "revoked 2" in run("token", "list").stdout


def test_a_store_without_tokens_says_how_to_make_one(run: Run) -> None:
    assert tokens(run) == []
    assert "callboard token create" in run("token", "list").stdout


def test_a_token_that_there_is_not_cannot_be_revoked(run: Run) -> None:
    assert "no token abc" in sentence(run("token", "revoke", "abc", code=1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "either --agent or --human"),
        (["--agent", "ann", "--human", "maria"], "either --agent or --human"),
        (["--human", "maria", "--scope", "lead"], "no other scope"),
        (["--agent", "0perator"], "cannot be the name of an agent"),
        (["--agent", "lead"], "cannot be the name of an agent"),
        (["--agent", "a b"], "cannot be the name of an agent"),
        (["--human", "human:maria"], "cannot be the name of a person"),
        (["--agent", "ann", "--expires", "soon"], "A duration is"),
    ],
)
def test_a_token_for_nobody_in_particular_is_refused_and_makes_no_store(
    run: Run, options: list[str], says: str
) -> None:
    assert says in sentence(run("token", "create", *options, code=1))
    assert not Path(".callboard").exists()


def test_making_and_revoking_a_token_is_told_without_its_secret(run: Run) -> None:
    """P1"""
    token = run("token", "create", "--agent", "ann").stdout.strip()
    run("token", "revoke", token.split(".")[2])
    with apsw.Connection(str(Path(".callboard", "board.db"))) as db:
        told = db.execute(
            """SELECT action_type, summary || details FROM activity_log
                WHERE action_type LIKE 'token%' ORDER BY id"""
        ).fetchall()
    assert [kind for kind, _ in told] == ["token_created", "token_revoked"]
    assert token.split(".")[3] not in str(told)


# --- The version and the generated files ------------------------------------------------------------------


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").stdout == f"callboard {__version__}\n"


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    shown = run(code=2)
    for command in ("serve", "token", "manifests", "schema"):
        assert command in shown.output


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing of what is generated."""
    folder = tmp_path / "checkout"
    (folder / "docs").mkdir(parents=True)
    (folder / "README.md").write_text("# x\n\n<!-- tools:begin -->\n<!-- tools:end -->\n\nbehind\n")
    return folder


def test_written_manifests_pass_their_check_until_one_changes_goes_or_is_too_many(
    run: Run, checkout: Path
) -> None:
    root = ("--root", str(checkout))
    assert "is missing" in sentence(run("manifests", "--check", *root, code=1))
    run("manifests", "--write", *root)
    run("manifests", "--check", *root)
    assert (checkout / "README.md").read_text().endswith("<!-- tools:end -->\n\nbehind\n")
    one = checkout / "tool_manifests" / "whoami.json"
    kept = one.read_text()
    one.write_text(kept.replace("whoami", "who_am_i"))
    assert "whoami.json has changed" in sentence(run("manifests", "--check", *root, code=1))
    one.unlink()
    assert "whoami.json is missing" in sentence(run("manifests", "--check", *root, code=1))
    one.with_name("old_tool.json").write_text("{}")
    run("manifests", "--write", *root)
    assert not one.with_name("old_tool.json").exists()
    one.with_name("old_tool.json").write_text("{}")
    found = sentence(run("manifests", "--check", *root, code=1))
    assert "old_tool.json belongs to no tool" in found and found.endswith("Run: callboard manifests --write")


@pytest.mark.parametrize("path", sorted(map(str, contract.beside())))
def test_a_generated_page_that_was_edited_or_deleted_is_found_out(
    run: Run, checkout: Path, path: str
) -> None:
    root = ("--root", str(checkout))
    run("manifests", "--write", *root)
    page = checkout / path
    page.write_text(page.read_text() + "more\n")
    assert f"{path} has changed" in sentence(run("manifests", "--check", *root, code=1))
    page.unlink()
    assert f"{path} is missing" in sentence(run("manifests", "--check", *root, code=1))


def test_the_index_is_printed(run: Run) -> None:
    index = json.loads(run("manifests").stdout)
    assert index["digest"].startswith("sha256:")
    assert "register_agent" in index["profiles"]["core"]["tools"]


def test_a_written_schema_page_passes_its_check_until_it_changes(run: Run, checkout: Path) -> None:
    root = ("--root", str(checkout))
    assert "not up to date" in sentence(run("schema", "--check", *root, code=1))
    run("schema", "--write", *root)
    run("schema", "--check", *root)
    page = checkout / "docs" / "schema.md"
    assert page.read_text() == run("schema").stdout
    page.write_text(page.read_text() + "more\n")
    assert "callboard schema --write" in sentence(run("schema", "--check", *root, code=1))


# --- A store that cannot be used --------------------------------------------------------------------------


def foreign(db: Path) -> None:
    with apsw.Connection(str(db)) as other:
        other.execute("CREATE TABLE t (a)")
    other.close()


def newer(db: Path) -> None:
    with apsw.Connection(str(db)) as store:
        store.execute("PRAGMA user_version = 999")
    store.close()


def damaged(db: Path) -> None:
    with db.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 32768)


def linked(db: Path) -> None:
    db.symlink_to(db.with_name("elsewhere.db"))


UNUSABLE: dict[str, tuple[bool, Callable[[Path], object], str]] = {
    # whether there is a store before; what befalls it; what is said
    "text": (False, lambda db: db.write_text("hello\n" * 100), "not an SQLite database"),
    "foreign": (False, foreign, "another program"),
    "newer": (True, newer, "Install a newer callboard"),
    "damaged": (True, damaged, "is damaged"),
    "folder": (False, lambda db: db.mkdir(), "not a regular file"),
    "link": (False, linked, "symbolic link"),
    "missing folder": (False, lambda db: db.parent.rmdir(), "does not exist"),
}


@pytest.fixture(scope="module")
def refused_starts(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[Path, "subprocess.Popen[str]"]]]:
    """A server process on each unusable store; they start side by side, as starting is what takes time."""
    sound = tmp_path_factory.mktemp("sound")
    made = CliRunner().invoke(app, ["token", "list", "--db", str(sound / "board.db")])
    assert made.exit_code == 0
    started: dict[str, tuple[Path, subprocess.Popen[str]]] = {}
    for name, (exists, befalls, _) in UNUSABLE.items():
        db = tmp_path_factory.mktemp("store") / "in" / "board.db"
        db.parent.mkdir()
        if exists:
            db.write_bytes((sound / "board.db").read_bytes())
        befalls(db)
        process = subprocess.Popen(
            [sys.executable, "-m", "callboard", "serve", "--db", str(db)],
            cwd=db.parents[1],
            env=os.environ | {"PYTHONPATH": str(SERVER)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started[name] = db, process
    yield started
    for _, process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_store_that_cannot_be_used_ends_the_start_with_one_sentence_and_is_left_as_it_was(
    refused_starts: dict[str, tuple[Path, "subprocess.Popen[str]"]], name: str
) -> None:
    """S11, S14: exit code 1, nothing on standard output, no traceback, and the path that is meant."""
    db, process = refused_starts[name]
    before = db.read_bytes() if db.is_file() else None
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    [line] = err.splitlines()
    assert line.startswith("callboard: ") and line.endswith(".")
    assert UNUSABLE[name][2] in line
    assert str(db.parent) in line
    assert (db.read_bytes() if db.is_file() else None) == before


def test_a_command_on_a_store_that_cannot_be_used_ends_in_the_same_way(run: Run, tmp_path: Path) -> None:
    db = tmp_path / "board.db"
    db.write_text("hello")
    assert "not an SQLite database" in sentence(run("token", "list", "--db", str(db), code=1))


def test_a_token_file_that_cannot_be_read_ends_the_start(run: Run) -> None:
    assert "nothing.token" in sentence(run("serve", "--token-file", "nothing.token", code=1))
    assert not Path(".callboard").exists()


# --- What a start takes -----------------------------------------------------------------------------------


def started(code: str, folder: Path) -> str:
    """What `code` prints at the end of a server that found its standard input closed."""
    begin = (
        f"import atexit, gc, sys; sys.argv = ['callboard', 'serve']; atexit.register(lambda: print({code}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
    ended = subprocess.run(
        [sys.executable, "-c", f"{begin}; from callboard.__main__ import main; main()"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(SERVER)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_a_server_loads_nothing_of_the_other_commands(tmp_path: Path) -> None:
    loaded = started("*(name for name in sys.modules if name.startswith('callboard.cli.'))", tmp_path)
    assert set(loaded.split()) == {"callboard.cli.serve", "callboard.cli.common"}


def test_a_server_looks_for_garbage_but_not_in_what_its_start_has_made(tmp_path: Path) -> None:
    assert started("gc.isenabled(), gc.get_freeze_count() > 50_000", tmp_path) == "True True"


def test_a_mistyped_command_is_told_the_one_that_is_meant(run: Run) -> None:
    assert "Did you mean 'serve'" in run("sevre", code=2).stderr
