"""The views for people, on a board with a crowd at work."""

import json
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from callboard.cli import app
from tests import terminal
from tests.cli.crowd import fill
from tests.cli.desk import Desk
from tests.cli.screen import screen

EVERY = (
    ("status",),
    ("locks",),
    ("tasks", "--lead", "lead-1"),
    ("agents",),
    ("groups",),
    ("knowledge", "bank"),
    ("search", "cents"),
    ("costs",),
)


@pytest.fixture
def crowded(desk: Desk) -> Desk:
    """A desk at whose board two crews work."""
    anyio.run(fill, None, 15)
    return desk


def result(desk: Desk, *arguments: str) -> dict[str, Any]:
    """The JSON that a view prints."""
    read: dict[str, Any] = json.loads(desk.run(*arguments, "--json").stdout)
    return read


@pytest.mark.parametrize("view", EVERY, ids=lambda view: view[0])
def test_a_view_is_one_json_object_for_scripts_and_a_plain_page_in_a_pipe(
    crowded: Desk, view: tuple[str, ...]
) -> None:
    assert result(crowded, *view)
    page = crowded.run(*view).stdout
    assert page.strip() and "\x1b" not in page


def test_status_shows_every_crew_and_one_alone_when_it_is_named(crowded: Desk) -> None:
    assert {agent["lead_id"] for agent in result(crowded, "status")["agents"]} == {"lead-1", "lead-2"}
    assert [crew["lead_id"] for crew in result(crowded, "status", "--lead", "lead-2")["crews"]] == ["lead-2"]
    assert "15 agents" in crowded.run("status").stdout


def test_a_narrow_terminal_shows_ids_whole_and_leaves_out_what_matters_least(crowded: Desk) -> None:
    [asked, _] = result(crowded, "decisions")["decisions"]
    with screen("status", columns=60) as shown:
        assert shown.ended() == 0
        lines = shown.picture.splitlines()
    assert max(map(len, lines)) <= 60
    assert any(line.startswith(f"{asked['decision_id']}  ") for line in lines)
    assert any(line.split() == ["AGENT", "LIFE", "LOCKS", "UNREAD", "CREW", "ROLE"] for line in lines) or any(
        line.split() == ["AGENT", "LIFE", "LOCKS", "UNREAD", "CREW"] for line in lines
    )


def test_names_on_a_narrow_terminal_keep_the_ends_by_which_they_differ(crowded: Desk) -> None:
    with screen("status", columns=60) as shown:
        assert shown.ended() == 0
        locks = shown.picture.partition("Locks (")[2].splitlines()
    holders = [line.split()[1] for line in locks if line.startswith("src/")]
    assert any("…" in holder for holder in holders)
    assert len(set(holders)) == len(holders) == 15


def test_decisions_are_a_table_that_is_cut_where_the_terminal_ends(crowded: Desk) -> None:
    with screen("decisions", columns=60) as shown:
        assert shown.ended() == 0
        lines = shown.picture.splitlines()
    assert lines[0].split() == ["DECISION", "STATUS", "AGENT", "TITLE"]
    assert len([line for line in lines if line.startswith("d-")]) == 2
    assert max(map(len, lines)) <= 60


def test_a_part_of_the_board_that_is_not_whole_names_what_lists_all(desk: Desk) -> None:
    anyio.run(fill, None, 40)
    assert "… and 10 more: callboard locks" in desk.run("status").stdout


def test_a_shell_completes_the_names_of_tools(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CALLBOARD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "callboard call register_")
    monkeypatch.setenv("COMP_CWORD", "2")
    completed = CliRunner().invoke(app, prog_name="callboard").stdout.split()
    assert completed == [name for name in completed if name.startswith("register_")]
    assert "register_agent" in completed


def test_an_empty_board_says_how_agents_come_to_it(desk: Desk) -> None:
    assert "callboard init" in desk.run("status").stdout


def test_a_crew_that_is_not_there_is_refused_with_the_one_that_was_meant(crowded: Desk) -> None:
    assert "Did you mean lead-1?" in crowded.run("tasks", "--lead", "led-1", code=2).stderr


def test_a_task_stands_under_the_last_that_it_waits_for_and_names_the_others(crowded: Desk) -> None:
    lines = crowded.run("tasks", "--lead", "lead-1").stdout.splitlines()
    assert "Critical path (5): parser-1 > import-1 > api-1 > page-1 > guide-1" in lines
    [api] = [line for line in lines if "api-1 pending" in line]
    assert "* api-1" in api and "also waits for rules-1" in api
    assert len([line for line in lines if "page-1 pending" in line]) == 1


def test_the_tasks_of_several_crews_are_one_json_object_in_which_each_names_its_crew(crowded: Desk) -> None:
    found = result(crowded, "tasks")["tasks"]
    assert {(line["lead_id"], line["task_id"]) for line in found} >= {
        ("lead-1", "parser-1"), ("lead-2", "parser-2"),
    }  # fmt: skip
    named = result(crowded, "tasks", "--lead", "lead-2")["tasks"]
    assert named == [line for line in found if line["lead_id"] == "lead-2"]
    assert result(crowded, "tasks", "--limit", "2")["more_of"] == ["lead-1", "lead-2"]


def test_who_waits_for_a_lock_stands_beside_it(crowded: Desk) -> None:
    [line] = [
        line for line in crowded.run("status", "--lead", "lead-2").stdout.splitlines() if "2/part_0" in line
    ]
    assert "lead-2" in line and "developer-2-1, qa-2-2" in line


def test_tail_shows_the_last_of_every_crew_oldest_first(crowded: Desk) -> None:
    lines = crowded.run("tail", "--once", "--limit", "60", "--json").stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    ids = [entry["activity_id"] for entry in entries]
    assert len(ids) == 60 and ids == sorted(ids)
    assert {"lead-1", "lead-2"} <= {entry["agent_id"] for entry in entries}


def test_mail_is_read_by_a_person_only_and_the_ledger_tells(crowded: Desk) -> None:
    assert "needs a person" in crowded.run("inbox", "lead-1", code=1).stderr
    assert "My part of ledger 1 is begun." in terminal.run("lead-1\n", "inbox", "lead-1").said
    told = crowded.run("tail", "--once", "--action", "messages_read").stdout
    assert "read the messages of lead-1" in told


def test_a_person_at_a_terminal_sends_a_message_and_a_pipe_sends_none(crowded: Desk) -> None:
    assert "needs a person" in crowded.run("send", "lead-1", "Stop.", code=1).stderr
    assert "not confirmed" in terminal.run("lead-2\n", "send", "lead-1", "Stop.").said
    assert "Sent to lead-1." in terminal.run("lead-1\n", "send", "lead-1", "Stop.").said
    assert "Stop." in terminal.run("lead-1\n", "inbox", "lead-1").said


def test_words_of_an_agent_are_shown_and_never_obeyed_as_markup(crowded: Desk) -> None:
    crowded.run(
        "call", "add_dag_task", "id=odd", "role=developer", "title=[red]x[/nope]", "--agent", "lead-1"
    )
    assert "[red]x[/nope]" in crowded.run("tasks", "--lead", "lead-1").stdout
