"""Decisions through the tools: what is recorded, what needs a human, and who resolves it.

A docstring names the promise that its test proves.
"""

import asyncio
import hashlib
from typing import Any

import pytest

from callboard.domains.decisions.decision import category_of
from callboard.store import Command
from tests.conftest import Board
from tests.domains.deciding import YEARS, Crew, convene, said, told


@pytest.fixture
async def crew(board: Board) -> Crew:
    return await convene(board)


# Recording


async def test_a_recorded_decision_is_found_and_read_by_its_crew(crew: Crew) -> None:
    recorded = await crew.ann.record_decision(
        title="Use pytest", rationale="We know it.\nIt is there.", options=["pytest", "unittest"]
    )
    assert (recorded["status"], recorded["needs_confirmation"], recorded["category"]) == (
        "recorded",
        False,
        "testing",
    )
    [line] = (await crew.ben.list_decisions())["decisions"]
    assert (line["decision_id"], line["title"], line["agent_id"]) == (
        recorded["decision_id"],
        "Use pytest",
        "ann",
    )
    read = await crew.boss.get_decision(decision_id=recorded["decision_id"])
    assert said(read["rationale"], read["mark"]) == "We know it.\nIt is there."
    assert [said(option, read["mark"]) for option in read["options"]] == ["pytest", "unittest"]
    assert (read["lead_id"], read["project_id"]) == ("boss", crew.board.opened.repository.project_id)


async def test_the_digest_is_that_of_the_written_form(crew: Crew) -> None:
    """G2: whoever has the texts can compute it."""
    recorded = await crew.ann.record_decision(title='Say "é"', rationale="a\nb", options=["x", "y"])
    project = crew.board.opened.repository.project_id
    written = '{"options":["x","y"],"project":"' + project + '","rationale":"a\\nb","title":"Say \\"é\\""}'
    assert recorded["digest"] == hashlib.sha256(written.encode()).hexdigest()


@pytest.mark.parametrize(
    ("title", "category"),
    [
        ("Reformat the tests", "style"),
        ("Lint with ruff", "style"),
        ("Restructure the packages", "architecture"),
        ("Grant access to the tool", "tool_access"),
        ("Upgrade the test runner", "dependency"),
        ("Write specs first", "testing"),
        ("More information for users", "general"),
        ("Take the latest specific colour", "general"),
    ],
)
def test_a_title_suggests_a_category_and_the_first_match_counts(title: str, category: str) -> None:
    assert category_of(title) == category


async def test_a_given_category_stands(crew: Crew) -> None:
    recorded = await crew.ann.record_decision(title="Upgrade", category="style")
    assert recorded["category"] == "style"


async def test_options_that_are_too_long_together_are_refused_and_not_cut(crew: Crew) -> None:
    refusal = await crew.board.refusal(
        "record_decision", agent_id="ann", title="t", options=["x" * 2_000] * 9
    )
    assert (refusal["code"], refusal["field"]) == ("too_large", "options")


async def test_a_repeated_request_key_records_once(crew: Crew) -> None:
    first = await crew.ann.record_decision(title="t", request_key="k")
    again = await crew.ann.record_decision(title="t", request_key="k")
    assert again == first | {"replayed": True}
    assert len((await crew.ann.list_decisions())["decisions"]) == 1


# The gate


@pytest.mark.parametrize("verdict", ["confirm", "reject", "dismiss"])
async def test_agents_resolve_nothing(crew: Crew, verdict: str) -> None:
    """G1: not the author, not the lead, not with an agent's token, not without a name."""
    asked = await crew.ask()
    given = {"decision_id": asked["decision_id"], "digest": asked["digest"]}
    for agent_id in ("ann", "boss", "ben"):
        refusal = await crew.board.refusal(f"{verdict}_decision", agent_id=agent_id, **given)
        assert refusal["code"] == "human_required"
    lead = await crew.board.principal(agent="boss", scope="lead")
    assert (await crew.refused(verdict, asked, by=lead))["code"] == "human_required"
    assert (await crew.board.refusal(f"{verdict}_decision", **given))["code"] == "unknown_caller"
    named = await crew.board.refusal(f"{verdict}_decision", agent_id="human:maria", **given)
    assert named["code"] == "invalid_arguments"
    assert await crew.status(asked) == "recorded"


async def test_a_process_that_serves_agents_takes_nobodys_word_that_a_person_is_there(crew: Crew) -> None:
    """G1"""
    asked = await crew.ask()
    given = {"decision_id": asked["decision_id"], "digest": asked["digest"]}
    with pytest.raises(ValueError, match="Only a command"):
        await crew.board.opened.call("confirm_decision", given, person="maria")
    assert await crew.status(asked) == "recorded"


async def test_tools_that_are_a_humans_are_not_listed_to_agents(crew: Crew) -> None:
    """G1"""
    agents = await crew.board.opened.visible_tools(await crew.board.principal(agent="boss", scope="lead"))
    people = await crew.board.opened.visible_tools(crew.maria)
    human_only = {"confirm_decision", "reject_decision", "dismiss_decision"}
    assert not human_only & {tool.name for tool in agents}
    assert human_only < {tool.name for tool in people}


async def test_no_time_confirms_anything(crew: Crew) -> None:
    """G4"""
    asked = await crew.ask()
    for _ in range(3):
        await crew.board.turn(YEARS)
    assert await crew.status(asked) == "recorded"


async def test_an_author_never_approves(crew: Crew) -> None:
    """G1: a person's own question is another person's to answer."""
    asked = await crew.board.call(
        "record_decision", token=crew.maria, title="Ship on Friday", needs_confirmation=True
    )
    refusal = await crew.refused("confirm", asked)
    assert (refusal["code"], refusal["needs"]) == ("forbidden", "another human")
    omar = await crew.board.human("omar")
    assert (await crew.resolve("confirm", asked, by=omar))["resolved_by"] == "human:omar"


async def test_an_approval_under_another_digest_is_refused(crew: Crew) -> None:
    """G2"""
    asked, other = await crew.ask(), await crew.ask("Something else")
    refusal = await crew.refused("confirm", asked, digest=other["digest"])
    assert (refusal["code"], refusal["current"]) == ("digest_mismatch", asked["digest"])
    assert await crew.status(asked) == "recorded"


async def test_an_approval_says_who_when_why_and_how_sure(crew: Crew) -> None:
    """G5: a token is somebody's word, and nothing is called strong that is not signed."""
    asked = await crew.ask()
    crew.board.clock.turn(60)
    resolved = await crew.resolve("confirm", asked, reason="Agreed in the meeting")
    assert (resolved["status"], resolved["resolved"], resolved["assurance"]) == ("confirmed", True, "client")
    read = await crew.ann.get_decision(decision_id=asked["decision_id"])
    assert (read["resolved_by"], read["resolved_at"]) == ("human:maria", "2026-01-01T12:01:00.000Z")
    assert said(read["reason"], read["mark"]) == "Agreed in the meeting"
    assert "signed" not in read


async def test_the_first_one_wins_and_later_ones_are_told_the_outcome(crew: Crew) -> None:
    """G3"""
    asked = await crew.ask()
    omar = await crew.board.human("omar")
    verdicts = ["confirm", "reject", "dismiss"] * 3
    results = await asyncio.gather(
        *(crew.resolve(verdict, asked, by=by) for verdict in verdicts for by in (crew.maria, omar)),
        return_exceptions=True,
    )
    won = [result for result in results if isinstance(result, dict) and result["resolved"]]
    assert len(won) == 1
    outcome = won[0]["status"]
    late = [result for result in results if isinstance(result, dict) and not result["resolved"]]
    assert {result["status"] for result in late} == {outcome}
    assert {result["resolved_by"] for result in late} == {won[0]["resolved_by"]}
    refused = [result for result in results if isinstance(result, BaseException)]
    assert {getattr(result, "code", result) for result in refused} == {"conflict"}
    assert len(won) + len(late) + len(refused) == 18
    kinds = await crew.board.rows(
        "SELECT action_type FROM activity_log WHERE action_type LIKE 'decision_%' ORDER BY id"
    )
    assert kinds == [("decision_made",), (f"decision_{outcome}",)]


async def test_a_conflict_tells_how_it_was_resolved(crew: Crew) -> None:
    """G3"""
    asked = await crew.ask()
    await crew.resolve("reject", asked, reason="Too early")
    refusal = await crew.refused("confirm", asked)
    assert (refusal["code"], refusal["status"], refusal["resolved_by"], refusal["reason"]) == (
        "conflict",
        "rejected",
        "human:maria",
        "Too early",
    )


async def test_a_human_of_another_project_resolves_nothing_here(crew: Crew) -> None:
    asked = await crew.ask()
    elsewhere = Command("UPDATE decisions SET project_id = 'other'")
    await crew.board.opened.store.write(lambda tx: tx.run(elsewhere))
    assert (await crew.refused("confirm", asked))["code"] == "not_found"


# Withdrawing


async def test_an_author_withdraws_what_nobody_has_resolved(crew: Crew) -> None:
    asked = await crew.ask()
    first = await crew.ann.withdraw_decision(decision_id=asked["decision_id"], reason="Found another way")
    assert (first["status"], first["withdrawn"]) == ("withdrawn", True)
    again = await crew.ann.withdraw_decision(decision_id=asked["decision_id"], reason="Again")
    assert again["withdrawn"] is False
    assert (await crew.refused("confirm", asked))["code"] == "conflict"
    assert [event for event, _, _ in await told(crew.ben)] == ["decision_withdrawn"]
    assert await told(crew.ann) == []


async def test_only_the_author_withdraws_and_only_in_time(crew: Crew) -> None:
    asked = await crew.ask()
    for agent_id in ("ben", "boss"):
        refusal = await crew.board.refusal(
            "withdraw_decision", agent_id=agent_id, decision_id=asked["decision_id"], reason="no"
        )
        assert (refusal["code"], refusal["owner"]) == ("not_owner", "ann")
    await crew.resolve("confirm", asked)
    refusal = await crew.board.refusal(
        "withdraw_decision", agent_id="ann", decision_id=asked["decision_id"], reason="no"
    )
    assert (refusal["code"], refusal["status"]) == ("conflict", "confirmed")


# Oversight


async def oversee(crew: Crew, level: str) -> None:
    project_id = crew.board.opened.repository.project_id
    await crew.board.call("update_project", token=crew.maria, project_id=project_id, oversight_level=level)


async def needs(crew: Crew, title: str, **arguments: Any) -> bool:
    return bool((await crew.ann.record_decision(title=title, **arguments))["needs_confirmation"])


async def test_under_supervision_every_decision_of_an_agent_needs_confirmation(crew: Crew) -> None:
    await oversee(crew, "supervised")
    assert await needs(crew, "Use tabs")
    own = await crew.board.call("record_decision", token=crew.maria, title="Use spaces")
    assert own["needs_confirmation"] is False


async def test_in_balance_a_decision_needs_what_its_author_says(crew: Crew) -> None:
    await crew.set("decisions.confirm_categories", ["dependency"])
    assert not await needs(crew, "Upgrade everything")
    assert await needs(crew, "Use tabs", needs_confirmation=True)


async def test_in_autonomy_the_named_categories_need_confirmation_however_they_are_labelled(
    crew: Crew,
) -> None:
    await oversee(crew, "autonomous")
    await crew.set("decisions.confirm_categories", ["dependency"])
    assert await needs(crew, "Upgrade everything")
    assert await needs(crew, "Upgrade everything", category="style")
    assert await needs(crew, "Something new", category="dependency")
    assert not await needs(crew, "Use tabs")
    assert await needs(crew, "Use tabs", needs_confirmation=True)


async def test_a_level_that_is_changed_later_changes_no_decision(crew: Crew) -> None:
    """G4"""
    await oversee(crew, "supervised")
    asked = await crew.ann.record_decision(title="Use tabs")
    await oversee(crew, "autonomous")
    await crew.set("decisions.auto_approve", ["general"])
    await crew.board.turn(YEARS)
    assert await crew.status(asked) == "recorded"


async def test_a_stored_policy_approves_at_recording_only_what_needs_nobody(crew: Crew) -> None:
    """G4"""
    await crew.set("decisions.auto_approve", ["style"])
    free = await crew.ann.record_decision(title="Format with ruff")
    assert (free["status"], free["auto_approved"]) == ("confirmed", True)
    gated = await crew.ann.record_decision(title="Format with black", needs_confirmation=True)
    assert (gated["status"], "auto_approved" in gated) == ("recorded", False)
    assert (await crew.ann.record_decision(title="Upgrade black"))["status"] == "recorded"


async def test_a_decision_without_a_rationale_is_shown_without_one(crew: Crew) -> None:
    asked = await crew.ask()
    assert "rationale" not in await crew.ben.get_decision(decision_id=asked["decision_id"])
