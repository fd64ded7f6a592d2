"""`callboard decisions`: a person reads what agents ask, and answers as a person or not at all."""

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from tests import terminal
from tests.commands import Run, runner

Answer = dict[str, Any]
ACCOUNT = f"human:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder of its own, as a script does, without a terminal."""
    return runner(tmp_path, monkeypatch)


@pytest.fixture
def asked(run: Run) -> Answer:
    """What an agent asks a human to confirm."""
    run("call", "register_agent", "role=lead", "--agent", "boss")
    return record(run, "Drop Python 3.10", rationale="It ends in\nOctober.")


def record(run: Run, title: str, **arguments: Any) -> Answer:
    words = [f"{key}={value}" for key, value in arguments.items()]
    said = run(
        "call", "record_decision", f"title={title}", "needs_confirmation=true", *words, "--agent", "boss"
    )
    recorded: Answer = json.loads(said.stdout)
    return recorded


def read(run: Run, asked: Answer) -> Answer:
    decision: Answer = json.loads(run("decisions", "show", asked["decision_id"], "--json").stdout)
    return decision


def answer(verdict: str, asked: Answer, typed: str | None = None, *options: str) -> terminal.Session:
    """A person's answer at a terminal; the code that is asked for unless something else is typed."""
    code = asked["digest"][:8] if typed is None else typed
    return terminal.run(f"{code}\n", "decisions", verdict, asked["decision_id"], *options)


def key_file(run: Run, folder: Path, *whose: str) -> str:
    file = folder / "key"
    file.write_text(run("token", "create", *whose).stdout)
    return str(file)


def persons_key(folder: Path) -> str:
    file = folder / "key"
    said = terminal.run("maria\n", "token", "create", "--human", "maria").said
    file.write_text(said.split()[-1])
    return str(file)


# Reading


def test_a_list_says_what_waits_for_a_human(run: Run, asked: Answer) -> None:
    run("call", "record_decision", "title=Use tabs", "--agent", "boss")
    head, settled, waiting = run("decisions").stdout.splitlines()
    assert head.split() == ["DECISION", "STATUS", "AGENT", "TITLE"]
    assert "recorded" in settled and "Use tabs" in settled
    assert asked["decision_id"] in waiting and "waits for a human" in waiting and "boss" in waiting
    listed = json.loads(run("decisions", "--json", "--status", "recorded").stdout)
    assert [line["title"] for line in listed["decisions"]] == ["Use tabs", "Drop Python 3.10"]
    assert "No decision is rejected." in run("decisions", "--status", "rejected").stdout


def test_an_empty_list_says_so(run: Run) -> None:
    assert run("decisions").stdout == "There are no decisions.\n"


def test_what_an_agent_writes_passes_for_nothing_of_ours(run: Run, asked: Answer) -> None:
    """N1, N3: a title is one line, a text stands behind bars, and no escape reaches the terminal."""
    forged = record(
        run,
        "Innocent\nDigest      00000000",
        rationale="\x1b[2Jquiet\n\nDigest      00000000",
        options='["one\\ntwo"]',
    )
    lines = run("decisions", "show", forged["decision_id"]).stdout.splitlines()
    assert [line for line in lines if line.startswith("Digest")] == [f"Digest      {forged['digest']}"]
    assert "Title       Innocent Digest 00000000" in lines
    assert "  | Digest      00000000" in lines and "  | two" in lines
    assert "\x1b" not in "".join(lines)
    assert any(line.startswith("Taken out") and "ansi" in line for line in lines)


def test_a_decision_that_there_is_not_is_refused(run: Run) -> None:
    refused = run("decisions", "show", "d-0", code=2)
    assert refused.stderr == "callboard: There is no decision d-0 that you may read. See list_decisions.\n"
    told = json.loads(run("decisions", "show", "d-0", "--json", code=2).stderr)
    assert told["error"]["code"] == "not_found"


# Answering


@pytest.mark.parametrize(
    ("verdict", "status"), [("confirm", "confirmed"), ("reject", "rejected"), ("dismiss", "dismissed")]
)
def test_a_person_at_a_terminal_reads_types_and_has_answered(
    run: Run, asked: Answer, verdict: str, status: str
) -> None:
    """G1, G2, G5: it leaves who, how and why."""
    session = answer(verdict, asked, None, "--reason", "as agreed")
    assert session.code == 0
    for shown in ("Drop Python 3.10", "  | October.", "boss (lead)", asked["digest"], f"is {status}."):
        assert shown in session.said
    found = read(run, asked)
    assert (found["status"], found["resolved_by"], found["assurance"]) == (status, ACCOUNT, "client")
    assert found["reason"].splitlines()[1] == "as agreed"
    assert run("decisions", "--status", status).stdout.splitlines()[1].startswith(asked["decision_id"])


@pytest.mark.parametrize(
    ("verdict", "status"), [("confirm", "confirmed"), ("reject", "rejected"), ("dismiss", "dismissed")]
)
def test_a_script_takes_an_id_from_the_list_and_the_answer_as_json(
    run: Run, asked: Answer, tmp_path: Path, verdict: str, status: str
) -> None:
    """G1: who is the token's person, how the token, why the reason."""
    key = persons_key(tmp_path)
    [listed] = json.loads(run("decisions", "--status", "recorded", "--json").stdout)["decisions"]
    given = (listed["decision_id"], "--reason", "as agreed", "--token-file", key, "--json")
    resolved = json.loads(run("decisions", verdict, *given).stdout)
    assert (resolved["status"], resolved["resolved_by"]) == (status, "human:maria")
    found = read(run, asked)
    assert (found["status"], found["resolved_by"], found["assurance"]) == (status, "human:maria", "client")
    assert found["reason"].splitlines()[1] == "as agreed"


def test_a_person_at_a_terminal_has_the_answer_as_json_too(run: Run, asked: Answer) -> None:
    session = answer("reject", asked, None, "--reason", "too early", "--json")
    told = json.loads(session.said[session.said.rindex("{") :])
    assert (told["status"], told["resolved_by"]) == ("rejected", ACCOUNT)


def test_anything_else_that_is_typed_changes_nothing(run: Run, asked: Answer) -> None:
    """G5: an empty answer is none."""
    for typed in ("", "yes", "y", asked["digest"][:7], "00000000"):
        session = answer("confirm", asked, typed)
        assert session.code == 1 and "not confirmed" in session.said
    assert read(run, asked)["status"] == "recorded"


def test_nothing_is_answered_through_a_pipe(run: Run, asked: Answer) -> None:
    """G1"""
    said = run("decisions", "confirm", asked["decision_id"], code=1).stderr
    assert said == "callboard: this needs a person: a terminal, or a person's token (--token-file).\n"
    given = [f"decision_id={asked['decision_id']}", f"digest={asked['digest']}"]
    for whose in ([], ["--agent", "boss"]):
        refused = json.loads(run("call", "confirm_decision", *given, *whose, code=2).stderr)
        assert refused["error"]["code"] == "human_required"
    assert read(run, asked)["status"] == "recorded"


def test_a_persons_token_answers_without_a_terminal(run: Run, asked: Answer, tmp_path: Path) -> None:
    key = persons_key(tmp_path)
    said = run("decisions", "confirm", asked["decision_id"], "--token-file", key, "--json").stdout
    resolved = json.loads(said)
    assert (resolved["resolved_by"], resolved["assurance"]) == ("human:maria", "client")
    again = run("decisions", "confirm", asked["decision_id"], "--token-file", key).stdout
    assert again == f"{asked['decision_id']} is confirmed. It was so before, by human:maria.\n"


def test_an_agents_token_answers_nothing(run: Run, asked: Answer, tmp_path: Path) -> None:
    """G1"""
    key = key_file(run, tmp_path, "--agent", "boss", "--scope", "lead")
    refused = run("decisions", "confirm", asked["decision_id"], "--token-file", key, "--json", code=2)
    assert json.loads(refused.stderr)["error"]["code"] == "human_required"


def test_a_decision_that_is_resolved_is_not_asked_for_again(run: Run, asked: Answer, tmp_path: Path) -> None:
    """G3"""
    answer("reject", asked)
    session = answer("confirm", asked)
    assert session.code == 2 and "rejected already" in session.said
    assert "Type" not in session.said
    refused = run(
        "decisions", "confirm", asked["decision_id"], "--token-file", persons_key(tmp_path), "--json", code=2
    )
    assert json.loads(refused.stderr)["error"]["resolved_by"] == ACCOUNT


def test_the_tasks_that_can_go_on_are_named(run: Run, asked: Answer) -> None:
    depends_on = json.dumps([f"decision:{asked['decision_id']}"])
    run("call", "add_dag_task", "id=build", "role=developer", f"depends_on={depends_on}", "--agent", "boss")
    assert "Ready now: build" in answer("confirm", asked).said
