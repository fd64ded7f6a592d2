"""Settings: a closed list of keys that people set and everybody reads."""

import json
from typing import Any

import pytest

from callboard.domains.projects import SETTINGS
from tests.conftest import Board

LEDGER = "SELECT agent_id, details FROM activity_log WHERE action_type = 'setting_changed' ORDER BY id"
MARKERS = "SELECT key, value FROM settings WHERE key LIKE 'store.%' AND key <> 'store.fence'"


async def set_to(board: Board, key: str, value: str, **more: Any) -> dict[str, Any]:
    return await board.call("set_setting", token=await board.human(), key=key, value=value, **more)


async def test_a_setting_that_nobody_has_set_shows_its_default_and_what_it_takes(board: Board) -> None:
    ann = await board.agent("ann")
    shown = await ann.get_setting(key="alerts.decision_minutes")
    assert (shown["value"], shown["default"], shown["version"]) == (10, 10, 0)
    assert shown["allowed"] == "a whole number from 1 to 10080"
    assert shown["description"]


@pytest.mark.parametrize("key", SETTINGS)
async def test_every_setting_takes_its_own_default_and_is_described(board: Board, key: str) -> None:
    known = SETTINGS[key]
    assert known.takes(known.default)
    assert known.says.endswith(".")
    answer = await set_to(board, key, json.dumps(known.default))
    assert (answer["value"], answer["changed"], answer["version"]) == (known.default, False, 1)


@pytest.mark.parametrize(
    ("key", "given", "stored"),
    [
        ("hooks.auto_lock", "true", True),
        ("oversight.level", "supervised", "supervised"),
        ("oversight.level", '"autonomous"', "autonomous"),
        ("alerts.blocked_minutes", "45", 45),
        ("locks.delay_seconds", "0.5", 0.5),
        ("decisions.confirm_categories", '["testing", "style", "testing"]', ["style", "testing"]),
        ("decisions.confirm_categories", "[]", []),
    ],
)
async def test_a_human_changes_a_setting_and_the_ledger_keeps_what_it_was_before(
    board: Board, key: str, given: str, stored: object
) -> None:
    default = SETTINGS[key].default
    answer = await set_to(board, key, given)
    assert (answer["value"], answer["previous"], answer["version"]) == (stored, default, 1)
    assert answer["changed"] is (stored != default)
    ann = await board.agent("ann")
    assert (await ann.get_setting(key=key))["value"] == stored
    [(by, details)] = await board.rows(LEDGER)
    assert by == "human:maria"
    assert json.loads(details) == {"key": key, "old": default, "new": stored}


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("hooks.auto_lock", "1"),
        ("hooks.auto_lock", "yes"),
        ("oversight.level", "lax"),
        ("alerts.blocked_minutes", "0"),
        ("alerts.blocked_minutes", "10081"),
        ("alerts.blocked_minutes", "4.5"),
        ("alerts.blocked_minutes", "true"),
        ("alerts.blocked_minutes", '"30"'),
        ("alerts.blocked_minutes", "1" + "0" * 400),
        ("locks.delay_seconds", "NaN"),
        ("locks.delay_seconds", "-1"),
        ("locks.delay_seconds", "1e400"),
        ("decisions.confirm_categories", "style"),
        ("decisions.confirm_categories", '["fashion"]'),
        ("decisions.confirm_categories", "[[]]"),
        ("decisions.confirm_categories", "{}"),
        ("decisions.confirm_categories", "[" * 2000),
    ],
)
async def test_a_value_of_another_type_or_range_is_refused_and_changes_nothing(
    board: Board, key: str, given: str
) -> None:
    human = await board.human()
    before = await board.contents()
    refused = await board.refusal("set_setting", token=human, key=key, value=given)
    assert refused["code"] == "invalid_arguments"
    assert SETTINGS[key].allowed in refused["message"]
    assert await board.contents() == before


async def test_an_unknown_key_is_refused_with_the_nearest(board: Board) -> None:
    refused = await board.refusal(
        "set_setting", token=await board.human(), key="alerts.decision_minute", value="3"
    )
    assert (refused["code"], refused["near"][0]) == ("not_found", "alerts.decision_minutes")


@pytest.mark.parametrize("key", ["store.fence", "store.id", "store.boot_id"])
async def test_what_the_store_keeps_for_itself_is_no_setting(board: Board, key: str) -> None:
    before = await board.rows(MARKERS)
    human = await board.human()
    for tool, more in (("set_setting", {"value": "0"}), ("get_setting", {})):
        assert (await board.refusal(tool, token=human, key=key, **more))["code"] == "not_found"
    assert await board.rows(MARKERS) == before


async def test_no_agent_changes_a_setting_not_even_a_lead(board: Board) -> None:
    await board.agent("lea", role="lead")
    await board.agent("ann")
    for agent_id in ("lea", "ann"):
        refused = await board.refusal(
            "set_setting", agent_id=agent_id, key="oversight.level", value="autonomous"
        )
        assert refused["code"] == "human_required"
    assert await board.rows(LEDGER) == []


async def test_a_change_of_what_was_read_before_it_changed_is_refused(board: Board) -> None:
    key = "alerts.idle_minutes"
    await set_to(board, key, "3", expected_version=0)
    refused = await board.refusal(
        "set_setting", token=await board.human(), key=key, value="4", expected_version=0
    )
    assert (refused["code"], refused["expected"], refused["current"]) == ("conflict", 0, 1)
    assert (await set_to(board, key, "4", expected_version=1))["version"] == 2


async def test_setting_the_same_value_again_is_no_change(board: Board) -> None:
    await set_to(board, "alerts.idle_minutes", "3")
    again = await set_to(board, "alerts.idle_minutes", "3")
    assert (again["changed"], again["version"]) == (False, 1)
    assert len(await board.rows(LEDGER)) == 1
