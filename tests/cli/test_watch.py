"""`callboard watch` on a screen: what is drawn, what keys do, and how the terminal is left."""

import json
import os
import pwd
import re
import signal
from typing import Any

import anyio
import pytest
from rich.color_triplet import ColorTriplet
from rich.style import Style

from callboard.cli.views.page import COLOURS
from tests.cli.crowd import fill
from tests.cli.desk import Desk
from tests.cli.screen import Screen, screen

ACCOUNT = f"human:{pwd.getpwuid(os.getuid()).pw_name}"
ALTERNATE, NORMAL, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[([0-9;]*)m")
CUBE = re.compile(r"38;5;(\d+)")


@pytest.fixture
def crowded(desk: Desk) -> Desk:
    """A desk at whose board three agents work."""
    anyio.run(fill, None, 3)
    return desk


def decision(desk: Desk) -> dict[str, Any]:
    """The one decision, with all that is known of it."""
    [listed] = json.loads(desk.run("decisions", "--json").stdout)["decisions"]
    shown: dict[str, Any] = json.loads(desk.run("decisions", "show", listed["decision_id"], "--json").stdout)
    return shown


def styles(said: str) -> set[str]:
    """Every single style that was sent."""
    return {one for found in COLOUR.findall(said) for one in found.split(";")}


def end(shown: Screen) -> None:
    shown.press("q")
    assert shown.ended() == 0


# Looking


def test_the_board_is_drawn_and_drawn_again_when_another_process_changes_it(crowded: Desk) -> None:
    with screen("watch") as shown:
        shown.until("3 agents", "10 unread messages", "Keep amounts of ledger 1", "qa-1-2", "parser-1")
        shown.until("src/ledger_1/part_0.py", "developer-1-1, qa-1-2", "q end")
        crowded.run("call", "register_agent", "role=developer", "lead_id=lead-1", "--agent", "newcomer")
        shown.until("4 agents", "newcomer")
        end(shown)


def test_a_narrow_screen_shows_one_pane_and_a_wider_one_shows_all(crowded: Desk) -> None:
    with screen("watch", columns=60, lines=24) as shown:
        assert "qa-1-2" not in shown.until("Decisions 1", "Keep amounts", "q end")
        shown.press("\t\t")
        assert "Keep amounts" not in shown.until("> developer-1-1", "qa-1-2")
        shown.resize(160, 40)
        shown.until("Keep amounts of ledger 1", "qa-1-2", "part_2.py")
        end(shown)


def test_a_full_screen_keeps_every_part_in_its_place(desk: Desk) -> None:
    anyio.run(fill, None, 60)
    with screen("watch", lines=50) as shown:
        lines = shown.until("60 agents", "q end").splitlines()
        assert len(lines) == 50
        assert lines[-1].startswith("tab next pane")
        assert lines[2].startswith("Agents (60)") and "Decisions that wait" in lines[2]
        end(shown)


def test_keys_choose_and_open_an_agent_a_task_and_a_lock(crowded: Desk) -> None:
    with screen("watch") as shown:
        shown.until("q end")
        shown.press("\t\t\x1b[B\r")
        shown.until("Agent lead-1", "Recent activity", "escape back")
        shown.press("\x1b")
        shown.until("> lead-1")
        shown.press("\t\r")
        shown.until("Task parser-1", "Parse statements of the three banks")
        shown.press("\x1b")
        shown.until("> parser-1")
        shown.press("\t\r")
        shown.until("Lock on src/ledger_1/part_0.py", "agent_id qa-1-2")
        end(shown)


def test_what_is_chosen_stays_chosen_when_rows_come_before_it(crowded: Desk) -> None:
    with screen("watch") as shown:
        shown.until("q end")
        shown.press("\t\t\x1b[B")
        shown.until("> lead-1")
        crowded.run("call", "register_agent", "role=developer", "lead_id=lead-1", "--agent", "anna")
        shown.until("  anna", "> lead-1")
        end(shown)


def test_words_of_an_agent_are_shown_and_never_obeyed(crowded: Desk) -> None:
    crowded.run(
        "call",
        "record_decision",
        "title=[red]x[/nope]\x1b[2J",
        "needs_confirmation=true",
        "--agent",
        "lead-1",
    )
    with screen("watch") as shown:
        shown.until("[red]x[/nope]")
        assert "\x1b[2J" not in shown.sent.rpartition(ALTERNATE)[2].replace("\x1b[2J\x1b[H", "")
        end(shown)


def test_colours_stand_out_from_white_and_from_black_where_there_are_many(crowded: Desk) -> None:
    with screen("watch", environment={"TERM": "xterm-256color", "COLORTERM": "truecolor"}) as shown:
        shown.until("live", "q end")
        assert set(CUBE.findall(shown.sent)) == {COLOURS["going"].removeprefix("color(").removesuffix(")")}
        assert styles(CUBE.sub("", shown.sent)) <= {"", "0", "1", "7"}
        end(shown)
    for tone in COLOURS.values():
        colour = Style.parse(tone).color
        assert colour is not None
        brightness = luminance(colour.get_truecolor())
        assert min(1.05 / (brightness + 0.05), (brightness + 0.05) / 0.05) >= 3.9, tone


def test_a_terminal_of_eight_colours_gets_none_that_is_lost_on_white_or_black(crowded: Desk) -> None:
    crowded.run("call", "fail_dag_task", "task_id=parser-1", "failure_reason=no", "--agent", "developer-1-1")
    with screen("watch", environment={"TERM": "xterm", "COLORTERM": ""}) as shown:
        shown.until("live", "q end")
        assert styles(shown.sent) <= {"", "0", "1", "7", "31", "35"}
        end(shown)


def luminance(colour: ColorTriplet) -> float:
    """How bright a colour is, from 0 to 1 (WCAG 2, relative luminance)."""
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.normalized
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_no_color_leaves_bold_and_reverse_only(crowded: Desk) -> None:
    with screen("watch", environment={"NO_COLOR": "1"}) as shown:
        shown.until("live", "q end")
        assert styles(shown.sent) <= {"", "0", "1", "7"}
        end(shown)


# Answering


@pytest.mark.parametrize(
    ("key", "status"), [("a", "confirmed"), ("r", "rejected"), ("d", "dismissed")], ids=lambda one: one
)
def test_a_person_answers_a_decision_and_leaves_who_how_and_why(crowded: Desk, key: str, status: str) -> None:
    asked = decision(crowded)
    with screen("watch") as shown:
        shown.until("q end")
        shown.press(key)
        shown.until("Sums of floating numbers drift", asked["digest"], f"Type {asked['digest'][:8]} to")
        shown.press(f"{asked['digest'][:8]}\r")
        shown.until("Why")
        shown.press("as agreed, quickly\r")
        shown.until(f"{asked['decision_id']} is {status}.", "Decisions that wait for a person (0)")
        end(shown)
    found = decision(crowded)
    assert (found["status"], found["resolved_by"], found["assurance"]) == (status, ACCOUNT, "client")
    assert found["reason"].splitlines()[1] == "as agreed, quickly"


def test_another_code_or_escape_changes_nothing(crowded: Desk) -> None:
    asked = decision(crowded)
    with screen("watch") as shown:
        shown.until("q end")
        for typed in ("\r", "yes\r", f"{asked['digest'][:7]}\r"):
            shown.press("a")
            shown.until("to confirm it")
            shown.press(typed)
            shown.until("Not confirmed; nothing was changed.")
        shown.press("a")
        shown.until("to confirm it")
        shown.press(f"{asked['digest'][:8]}\r")
        shown.until("Why")
        shown.press("\x1b")
        shown.until("Nothing was changed.")
        end(shown)
    assert decision(crowded)["status"] == "recorded"


def test_a_decision_that_was_answered_meanwhile_is_told_as_it_is(crowded: Desk) -> None:
    asked = decision(crowded)
    with screen("watch") as shown:
        shown.until("q end")
        shown.press("a")
        shown.until("to confirm it")
        crowded.run(
            "call",
            "withdraw_decision",
            f"decision_id={asked['decision_id']}",
            "reason=no",
            "--agent",
            "lead-1",
        )
        shown.press(f"{asked['digest'][:8]}\r")
        shown.until("Why")
        shown.press("\r")
        shown.until("withdrawn")
        end(shown)


# Ending


@pytest.mark.parametrize("ending", ["q", "ctrl-c", "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_the_terminal_is_as_it_was_after_every_ending(crowded: Desk, ending: str) -> None:
    with screen("watch") as shown:
        before = shown.modes
        shown.until("q end")
        assert shown.modes != before
        if ending.startswith("SIG"):
            shown.child.send_signal(signal.Signals[ending])
        else:
            shown.press({"ctrl-c": "\x03"}.get(ending, ending))
        assert shown.ended() == 0
        assert shown.modes == before
        assert shown.sent.count(ALTERNATE) == 1
        assert {NORMAL, CURSOR} <= set(re.findall(r"\x1b\[\?\d+[hl]", shown.sent.rpartition("q end")[2]))


def test_without_a_terminal_it_says_what_prints_the_board(crowded: Desk) -> None:
    assert "callboard status" in crowded.run("watch", code=1).stderr


def test_a_crew_that_there_is_not_is_refused_before_anything_is_drawn(crowded: Desk) -> None:
    with screen("watch", "--lead", "led-1") as shown:
        assert shown.ended() == 2
        assert "Did you mean lead-1?" in shown.sent and ALTERNATE not in shown.sent
