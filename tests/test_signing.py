"""Signed answers to decisions: a person's key and passphrase make them, and anybody can verify them."""

import json
import os
import pwd
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
from typer.testing import CliRunner

from callboard import keyfile, signing
from callboard.cli import app
from callboard.domains.decisions import digest_of
from callboard.signing import Outcome
from tests import terminal
from tests.commands import Run, runner
from tests.conftest import Board

Answer = dict[str, Any]
NAME = pwd.getpwuid(os.getuid()).pw_name
ACCOUNT = f"human:{NAME}"
PASSPHRASE = "correct horse battery"
STORE = Path(".callboard/board.db")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that is made once, as its making takes a second on purpose."""
    path = tmp_path_factory.mktemp("key") / "signing-key.json"
    keyfile.make(path, PASSPHRASE)
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a repository of its own, without a terminal; people's configuration is elsewhere."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return runner(tmp_path / "app", monkeypatch)


@pytest.fixture
def asked(run: Run) -> Answer:
    """What an agent asks a human to confirm."""
    run("call", "register_agent", "role=lead", "--agent", "boss")
    given = ("title=Drop Python 3.10", "rationale=It ends.", "needs_confirmation=true")
    recorded: Answer = json.loads(run("call", "record_decision", *given, "--agent", "boss").stdout)
    return recorded


@pytest.fixture
def key(run: Run, template: Path) -> Path:
    """The account's key, registered."""
    path = keyfile.default_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(template.read_bytes())
    path.chmod(0o600)
    assert terminal.run([NAME], "key", "register").code == 0
    return path


def sign(verdict: str, asked: Answer, *options: str, passphrase: str = PASSPHRASE) -> terminal.Session:
    """A person's signed answer at a terminal."""
    typed = [asked["digest"][:8], passphrase]
    return terminal.run(typed, "decisions", verdict, asked["decision_id"], "--sign", *options)


def read(run: Run, asked: Answer) -> Answer:
    decision: Answer = json.loads(run("decisions", "show", asked["decision_id"], "--json").stdout)
    return decision


def alter(statement: str, **values: Any) -> None:
    """Change the store as a program with a shell could, whatever its rules say."""
    with closing(apsw.Connection(str(STORE))) as db:
        db.pragma("ignore_check_constraints", True)
        db.execute(statement, values)


def verified(run: Run, *options: str, code: int = 0) -> Answer:
    verdict: Answer = json.loads(run("decisions", "verify", "--json", *options, code=code).stdout)
    assert verdict["ok"] is (code == 0)
    return verdict


# Keys


def test_a_key_is_made_at_a_terminal_and_only_its_passphrase_opens_it(run: Run) -> None:
    session = terminal.run([NAME, PASSPHRASE, PASSPHRASE], "key", "create")
    assert session.code == 0 and f"signs for {NAME}" in session.said
    assert PASSPHRASE not in session.said
    path = keyfile.default_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    [listed] = json.loads(run("key", "list", "--json").stdout)
    public = bytes.fromhex(listed["public_key"])
    assert (listed["principal"], listed["revoked_at"]) == (NAME, None)
    assert listed["key_id"] == signing.key_id_of(public) and NAME in run("key", "list").stdout
    seed = keyfile.unlock(path, PASSPHRASE)._private.private_bytes_raw()
    assert seed.hex() not in path.read_text()
    assert all(seed not in file.read_bytes() for file in STORE.parent.iterdir())
    with pytest.raises(keyfile.WrongPassphrase):
        keyfile.unlock(path, PASSPHRASE + " ")
    again = terminal.run([NAME], "key", "create")
    assert again.code == 1 and "already" in again.said
    assert keyfile.public_of(path) == public


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["somebody"], "not confirmed"),
        ([NAME, "short"], "at least 12 characters"),
        ([NAME, PASSPHRASE, PASSPHRASE + "!"], "the two differ"),
    ],
)
def test_a_key_is_not_made_by_halves(run: Run, typed: list[str], says: str) -> None:
    session = terminal.run(typed, "key", "create")
    assert session.code == 1 and says in session.said
    assert not keyfile.default_path().exists()
    assert run("key", "list").stdout.startswith("There are no signing keys.")


def test_a_key_never_stands_where_agents_work(run: Run, tmp_path: Path) -> None:
    for place in ("key.json", ".callboard/key.json", "../app/sub/key.json"):
        session = terminal.run([NAME], "key", "create", "--key-file", place)
        assert session.code == 1 and "which agents read" in session.said
        assert not Path(place).exists()


def test_a_key_that_others_may_read_is_not_used(run: Run, key: Path, asked: Answer) -> None:
    key.chmod(0o640)
    session = sign("confirm", asked)
    assert session.code == 1 and "chmod 600" in session.said
    assert read(run, asked)["status"] == "recorded"


@pytest.mark.parametrize("command", [("create",), ("register",), ("revoke", "00")])
def test_no_agent_makes_or_ends_a_key(
    run: Run, tmp_path: Path, key: Path, asked: Answer, command: tuple[str, ...]
) -> None:
    """G1: neither through a pipe nor by its token."""
    before = run("key", "list", "--json").stdout
    assert "needs a person" in run("key", *command, code=1).stderr
    file = tmp_path / "token"
    file.write_text(run("token", "create", "--agent", "boss", "--scope", "lead").stdout)
    other = ("--key-file", str(tmp_path / "other.json")) if command[0] == "create" else ()
    result = CliRunner().invoke(app, ["key", *command, "--token-file", str(file), *other])
    assert result.exit_code != 0 and "Only a human may" in result.stderr
    assert run("key", "list", "--json").stdout == before
    assert not (tmp_path / "other.json").exists()


# Signing


@pytest.mark.parametrize(
    ("verdict", "status"), [("confirm", "confirmed"), ("reject", "rejected"), ("dismiss", "dismissed")]
)
def test_an_answer_with_the_passphrase_is_strong_and_verifies_without_a_server(
    run: Run, key: Path, asked: Answer, verdict: str, status: str
) -> None:
    """G5, G6"""
    session = sign(verdict, asked, "--reason", "as agreed")
    assert session.code == 0 and "The answer is signed." in session.said
    assert PASSPHRASE not in session.said
    found = read(run, asked)
    assert (found["status"], found["resolved_by"], found["assurance"]) == (status, ACCOUNT, "strong")
    assert found["signed"] is True
    assert "Assurance   signed" in run("decisions", "show", asked["decision_id"]).stdout
    with closing(apsw.Connection(str(STORE))) as db:
        ledger = db.execute(
            "SELECT details ->> 'assurance' FROM activity_log WHERE action_type = ?", (f"decision_{status}",)
        )
        assert ledger.get == "strong"
    assert verified(run) == {"decisions": 1, "signed": 1, "keys": 1, "findings": [], "ok": True}
    assert "1 decisions, 1 signed" in run("decisions", "verify").stdout


def test_a_text_that_was_changed_is_not_shown_as_what_its_digest_stands_for(
    run: Run, key: Path, asked: Answer
) -> None:
    """G2: else it could be read in one form, signed, and put back into another."""
    with closing(apsw.Connection(str(STORE))) as db:
        [(title,)] = db.execute("SELECT title FROM decisions").fetchall()
        db.execute("UPDATE decisions SET title = 'Fix a typo'")
        refused = json.loads(run("decisions", "show", asked["decision_id"], "--json", code=2).stderr)
        assert refused["error"]["code"] == "digest_mismatch"
        assert sign("confirm", asked).code == 2
        person = run("decisions", "verify", "--json", code=1)
        assert [each["kind"] for each in json.loads(person.stdout)["findings"]] == ["changed"]
        db.execute("UPDATE decisions SET title = ?", (title,))
    assert read(run, asked)["status"] == "recorded"
    assert sign("confirm", asked).code == 0


def test_what_is_no_text_does_not_hide_the_decisions_behind_it(run: Run, key: Path, asked: Answer) -> None:
    assert sign("confirm", asked).code == 0
    run("call", "record_decision", "title=Use tabs", "--agent", "boss")
    with closing(apsw.Connection(str(STORE))) as db:
        db.execute("UPDATE decisions SET reason = CAST(x'ff' AS TEXT) WHERE seq = 1")
        db.execute("UPDATE decisions SET rationale = 'other' WHERE seq = 2")
    found = json.loads(run("decisions", "verify", "--json", code=1).stdout)["findings"]
    assert [each["kind"] for each in found] == ["changed", "changed"]


def test_an_answer_that_is_only_typed_stays_what_it_was(run: Run, key: Path, asked: Answer) -> None:
    """G5"""
    typed = f"{asked['digest'][:8]}\n"
    assert terminal.run(typed, "decisions", "confirm", asked["decision_id"]).code == 0
    found = read(run, asked)
    assert (found["assurance"], found.get("signed")) == ("client", None)
    assert verified(run)["signed"] == 0


def test_a_wrong_passphrase_changes_nothing(run: Run, key: Path, asked: Answer) -> None:
    session = sign("confirm", asked, passphrase="wrong horse battery")
    assert session.code == 1
    assert "does not open" in session.said and "Nothing was changed." in session.said
    assert read(run, asked)["status"] == "recorded"
    assert sign("confirm", asked).code == 0


def test_a_passphrase_comes_from_no_variable_and_no_argument(
    run: Run, key: Path, asked: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: what a shell of an agent inherits or sees in a list of processes is no secret of a person's."""
    for name in ("CALLBOARD_PASSPHRASE", "CALLBOARD_PASSPHRASE_FILE", "CALLBOARD_SIGN", "CALLBOARD_KEY_FILE"):
        monkeypatch.setenv(name, PASSPHRASE)
    file = tmp_path / "token"
    file.write_text(terminal.run(f"{NAME}\n", "token", "create", "--human", NAME).said.split()[-1])
    given = ("decisions", "confirm", asked["decision_id"], "--sign", "--token-file", str(file))
    assert "typed at a terminal" in run(*given, code=1).stderr
    assert "No such option" in run(*given, "--passphrase", PASSPHRASE, code=2).output
    assert read(run, asked)["status"] == "recorded"


def test_a_persons_token_and_a_file_that_they_name_sign_without_a_terminal(
    run: Run, asked: Answer, tmp_path: Path
) -> None:
    token, secret, key_file = (tmp_path / name for name in ("token", "secret", "maria.json"))
    token.write_text(terminal.run("maria\n", "token", "create", "--human", "maria").said.split()[-1])
    secret.write_text(f"{PASSPHRASE}\n")
    person = ("--token-file", str(token), "--key-file", str(key_file))
    run("key", "create", *person, "--passphrase-file", str(secret))
    run("decisions", "confirm", asked["decision_id"], *person, "--passphrase-file", str(secret))
    found = read(run, asked)
    assert (found["resolved_by"], found["assurance"]) == ("human:maria", "strong")
    assert verified(run)["signed"] == 1
    # Hers is not the account's, whoever knows its passphrase.
    session = terminal.run([], "decisions", "confirm", asked["decision_id"], "--key-file", str(key_file))
    assert session.code == 2 and "is maria's" in session.said


def test_an_agents_token_signs_nothing(run: Run, key: Path, asked: Answer, tmp_path: Path) -> None:
    """G1"""
    token, secret = tmp_path / "token", tmp_path / "secret"
    token.write_text(run("token", "create", "--agent", "boss", "--scope", "lead").stdout)
    secret.write_text(PASSPHRASE)
    given = ("--sign", "--passphrase-file", str(secret), "--token-file", str(token), "--json")
    refused = run("decisions", "confirm", asked["decision_id"], *given, code=2)
    assert json.loads(refused.stderr)["error"]["code"] == "forbidden"
    assert "needs a person" in run("decisions", "confirm", asked["decision_id"], *given[:3], code=1).stderr
    assert read(run, asked)["status"] == "recorded"


async def test_a_process_that_serves_agents_has_no_signer(board: Board, template: Path) -> None:
    """G5"""
    signer = keyfile.unlock(template, PASSPHRASE)
    with pytest.raises(ValueError, match="Only a command"):
        await board.opened.call("list_decisions", {}, signer=signer)


def test_a_revoked_key_signs_no_more_and_does_not_come_back(run: Run, key: Path, asked: Answer) -> None:
    key_id = signing.key_id_of(keyfile.public_of(key))
    assert "not confirmed" in terminal.run(["no"], "key", "revoke", key_id).said
    assert "is revoked" in terminal.run([key_id], "key", "revoke", key_id).said
    assert "was revoked before" in terminal.run([key_id], "key", "revoke", key_id).said
    session = terminal.run([], "decisions", "confirm", asked["decision_id"], "--sign")
    assert session.code == 2 and "was revoked" in session.said
    assert "was revoked" in terminal.run([NAME], "key", "register").said
    assert read(run, asked)["status"] == "recorded"


def test_a_key_that_is_revoked_while_its_passphrase_is_typed_signs_nothing(
    run: Run, key: Path, asked: Answer
) -> None:
    """What decides is asked inside the transaction that it decides."""
    key_id = signing.key_id_of(keyfile.public_of(key))
    revoke = f"UPDATE _signing_keys SET revoked_at = '2026-01-01T00:00:00.000Z' WHERE key_id = '{key_id}'"

    def passphrase() -> str:
        alter(revoke)
        return PASSPHRASE

    session = terminal.run(
        [asked["digest"][:8], passphrase], "decisions", "confirm", asked["decision_id"], "--sign"
    )
    assert session.code == 2 and "was revoked" in session.said
    assert read(run, asked)["status"] == "recorded"


def test_no_start_pays_for_signing() -> None:
    code = "import sys, callboard.cli, callboard.keyfile; print('cryptography' in sys.modules)"
    env = os.environ | {"PYTHONPATH": str(terminal.SERVER)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True).stdout == b"False\n"


# Verifying

TAMPERED = {
    "its text": ("UPDATE decisions SET rationale = 'It never ends.'", "changed"),
    "its options": ("UPDATE decisions SET options = '[\"keep it\"]'", "changed"),
    "its project": ("UPDATE decisions SET project_id = 'other'", "changed"),
    "text and digest": ("UPDATE decisions SET title = :title, digest = :digest", "forged"),
    "the verdict": ("UPDATE decisions SET status = 'rejected'", "forged"),
    "who": ("UPDATE decisions SET confirmed_by = 'human:omar'", "forged"),
    "when": ("UPDATE decisions SET confirmed_at = '2020-01-01T00:00:00.000Z'", "forged"),
    "why": ("UPDATE decisions SET reason = 'else'", "forged"),
    # No signature of Ed25519 ends so: the number that it ends with is smaller.
    "the signature": (
        "UPDATE decisions SET signature = CAST(substr(signature, 1, 73) || x'FF' AS BLOB)",
        "forged",
    ),
    "part of the signature": ("UPDATE decisions SET signature = substr(signature, 1, 40)", "forged"),
    "no signature": ("UPDATE decisions SET signature = NULL", "unsigned"),
    "no key": ("DELETE FROM _signing_keys", "unknown_key"),
    "another's key": ("UPDATE _signing_keys SET principal = 'omar'", "other_person"),
    "the public key": ("UPDATE _signing_keys SET public_key = zeroblob(32)", "forged"),
    "a revoked key": ("UPDATE _signing_keys SET revoked_at = '2030-01-01T00:00:00.000Z'", "revoked_key"),
}


def test_whatever_was_changed_behind_a_signature_is_found(run: Run, key: Path, asked: Answer) -> None:
    """G6"""
    sign("confirm", asked, "--reason", "as agreed")
    whole = STORE.read_bytes()
    assert verified(run)["ok"]
    with closing(apsw.Connection(str(STORE))) as db:
        project_id = str(db.execute("SELECT project_id FROM decisions").get)
    rewritten = digest_of("Keep it", "It ends.", [], project_id)
    for what, (statement, kind) in TAMPERED.items():
        alter(statement, title="Keep it", digest=rewritten)
        found = verified(run, code=1)["findings"]
        assert [(one["decision_id"], one["kind"]) for one in found] == [(asked["decision_id"], kind)], what
        assert asked["decision_id"] in run("decisions", "verify", code=1).stdout
        STORE.write_bytes(whole)
    assert verified(run)["ok"]


def test_a_text_is_held_to_its_digest_without_a_signature_too(run: Run, asked: Answer) -> None:
    """G2"""
    alter("UPDATE decisions SET title = 'Keep Python 3.10'")
    assert [one["kind"] for one in verified(run, code=1)["findings"]] == ["changed"]


def test_a_key_that_was_slipped_into_the_store_does_not_pass_for_a_persons(
    run: Run, key: Path, asked: Answer, tmp_path: Path
) -> None:
    """Whoever can write the store can name a key of their own in it; the list that a person keeps tells."""
    kept = tmp_path / "kept.json"
    kept.write_text(run("key", "list", "--json").stdout)
    sign("confirm", asked)
    assert verified(run, "--keys", str(kept))["ok"]
    forger = tmp_path / "forger.json"
    public = keyfile.make(forger, PASSPHRASE)
    found = read(run, asked)
    outcome = Outcome(
        decision=asked["decision_id"],
        digest=asked["digest"],
        verdict="rejected",
        by=ACCOUNT,
        at=found["resolved_at"],
        reason="",
    )
    forged = signing.sealed(outcome, keyfile.unlock(forger, PASSPHRASE))
    alter("UPDATE decisions SET status = 'rejected', signature = :forged", forged=forged)
    alter(
        "INSERT INTO _signing_keys (key_id, principal, public_key) VALUES (:key_id, :name, :public)",
        key_id=signing.key_id_of(public),
        name=NAME,
        public=public,
    )
    assert verified(run)["keys"] == 2, "the store itself cannot tell"
    [finding] = verified(run, "--keys", str(kept), code=1)["findings"]
    assert finding["kind"] == "unknown_key"


def test_a_revocation_counts_for_the_keys_that_were_kept_before_it(
    run: Run, key: Path, asked: Answer, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(run("key", "list", "--json").stdout)
    sign("confirm", asked)
    key_id = signing.key_id_of(keyfile.public_of(key))
    terminal.run([key_id], "key", "revoke", key_id)
    assert [one["kind"] for one in verified(run, "--keys", str(kept), code=1)["findings"]] == ["revoked_key"]


def test_what_is_no_list_of_keys_is_refused(run: Run, asked: Answer, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for content in ("", "{}x", '["a"]', '[{"principal": "ann"}]', "7"):
        file.write_text(content)
        assert "cannot be used" in run("decisions", "verify", "--keys", str(file), code=1).stderr
    assert "cannot be used" in run("decisions", "verify", "--keys", str(tmp_path / "none"), code=1).stderr


def test_a_signature_is_of_every_part_of_its_statement(template: Path) -> None:
    """The canonical form is fixed, so that another program can verify it too."""
    outcome = Outcome("d-1", "00ff", "confirmed", "human:maria", "2026-01-01T00:00:00.000Z", "naïve “quote”")
    assert outcome.statement().decode() == (
        '{"at":"2026-01-01T00:00:00.000Z","by":"human:maria","decision":"d-1","digest":"00ff",'
        '"reason":"naïve “quote”","signed":"callboard decision 1","verdict":"confirmed"}'
    )
    key = keyfile.unlock(template, PASSPHRASE)
    envelope = signing.Envelope.read(signing.sealed(outcome, key))
    assert signing.is_by(key.public, envelope.signature, outcome)
    for part in ("decision", "digest", "verdict", "by", "at", "reason"):
        assert not signing.is_by(key.public, envelope.signature, replace(outcome, **{part: "x"}))
