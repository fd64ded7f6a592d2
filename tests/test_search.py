"""The search through the tools that search: what is found, what comes first, and what changes nothing."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callboard import search
from callboard.domains import knowledge
from tests import relevance
from tests.conftest import Agent, Board


async def wrote(agent: Agent, **notes: str) -> None:
    for key, content in notes.items():
        await agent.put_knowledge(category="semantic", key=key, content=content)


async def found(agent: Agent, query: str, **arguments: Any) -> list[str]:
    """The keys of the hits, best first."""
    return [hit["key"] for hit in (await agent.search_knowledge(query=query, **arguments))["hits"]]


async def test_the_note_that_a_question_is_about_comes_first(board: Board) -> None:
    ann = await board.agent("ann")
    asked = await relevance.ask(ann.call)
    assert len(asked) >= 30
    first, among_the_first = relevance.shares(asked)
    assert first >= 0.9
    assert among_the_first >= 0.97


async def test_what_holds_every_word_comes_before_what_holds_one_of_them_often(board: Board) -> None:
    ann = await board.agent("ann")
    filler = "and much else that was said at length about other things " * 20
    await wrote(ann, often="quartz quartz quartz quartz", both=f"quartz {filler} basalt", other="granite")
    assert await found(ann, "quartz basalt") == ["both", "often"]


async def test_what_holds_every_word_comes_first_however_few_are_asked_for(board: Board) -> None:
    ann = await board.agent("ann")
    filler = "and much else that was said at length about other things " * 20
    often = {f"often-{number}": "quartz quartz quartz quartz" for number in range(9)}
    await wrote(ann, both=f"quartz {filler} basalt", **often, rare="basalt basalt basalt")
    assert await found(ann, "quartz basalt", limit=1) == ["both"]


async def test_one_missing_word_empties_nothing_and_is_no_condition(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(ann, one="the relay drops frames", both="the relay drops frames of the antenna")
    assert await found(ann, "relay frames antenna zyzzyva") == ["both", "one"]


async def test_rare_words_count_more_than_common_ones(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(ann, **{f"pump-{number}": "the pump hums" for number in range(10)}, valve="the valve leaks")
    assert (await found(ann, "pump valve"))[0] == "valve"


async def test_function_words_decide_nothing_unless_they_are_all_there_is(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(ann, chatter="how do you do, and how do they do it", answer="valves open by themselves")
    assert await found(ann, "how do the valves open") == ["answer"]
    assert await found(ann, "how do you do") == ["chatter"]


@pytest.mark.parametrize(
    "query",
    ["parseConfig", "parse_config", "config", "CONFIG", "src/io/reader.py", "reader", "src/io", "parsing"],
)
async def test_identifiers_and_paths_are_found_whole_and_by_their_parts(board: Board, query: str) -> None:
    ann = await board.agent("ann")
    await wrote(ann, here="call parseConfig in src/io/reader.py", there="unrelated")
    assert await found(ann, query) == ["here"]


async def test_the_whole_identifier_comes_before_its_parts(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(
        ann, parts="the config is what we parse; parse the config", whole="see parse_config for the details"
    )
    assert await found(ann, "parseConfig") == ["whole", "parts"]


async def test_a_quoted_phrase_stays_one(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(ann, near="a dead letter queue", far="a letter about a dead queue")
    assert await found(ann, '"dead letter"') == ["near"]


async def test_the_last_word_may_be_unfinished_and_so_may_one_that_nothing_holds(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(ann, whole="auth", longer="authentication fails")
    assert await found(ann, "auth") == ["whole", "longer"]
    assert await found(ann, "authent fails ") == ["longer"]
    assert await found(ann, "aut x") == ["longer", "whole"] or await found(ann, "aut x") == [
        "whole",
        "longer",
    ]


@pytest.mark.parametrize("query", ["数据库", "部署", "库", "部署 数据库", "데이터"])
async def test_scripts_without_spaces_are_found_by_any_stretch(board: Board, query: str) -> None:
    ann = await board.agent("ann")
    await wrote(ann, here="需要部署数据库。데이터베이스", there="前端代码")
    assert await found(ann, query) == ["here"]


async def test_a_title_counts_more_than_a_text(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(ann, notes="the checklist of a release", release="what to do on the day of it")
    assert await found(ann, "release") == ["release", "notes"]


async def test_of_two_alike_the_newer_comes_first_and_a_better_one_stays_before_it(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(ann, old="the gasket is blue", best="the gasket gasket is blue")
    await board.turn(300 * 24 * 3600)
    await wrote(ann, new="the gasket is blue")
    assert await found(ann, "gasket") == ["best", "new", "old"]


async def test_filters_apply_before_the_limit(board: Board) -> None:
    ann = await board.agent("ann")
    await ann.put_knowledge(category="procedural", key="wanted", content="one rotor among many words here")
    await wrote(ann, **{f"rotor-{number}": "rotor rotor rotor" for number in range(60)})
    assert await found(ann, "rotor", category="procedural", limit=1) == ["wanted"]


async def test_another_projects_text_changes_neither_the_hits_nor_their_order_nor_their_scores(
    board: Board,
) -> None:
    """ID7: a word is as rare as it is in what the caller may read."""
    ann = await board.agent("ann")
    notes = {f"pump-{number}": f"the pump hums {'loudly ' * number}" for number in range(8)}
    await wrote(ann, **notes, valve="the valve leaks", both="a pump with a valve")
    project_id = (await ann.whoami())["project_id"]

    def hits(tx: Any) -> list[tuple[str, float]]:
        found = search.run(tx, knowledge.SOURCES, "pump valve", 20, **knowledge.readable(tx, project_id))
        return [(hit.title, hit.score) for hit in found]

    before = await board.opened.store.read(hits)
    with board.opened.store.connect(readonly=False) as db:
        other = ("elsewhere-000000", "elsewhere", str(board.folder.parent))
        db.execute("INSERT INTO projects (id, name, cwd) VALUES (?, ?, ?)", other)
    eve = await board.agent("eve", project_id="elsewhere-000000")
    await wrote(eve, **{f"valve-{number}": "the valve leaks again" for number in range(40)})
    assert await found(eve, "pump") == []
    after = await board.opened.store.read(hits)
    assert [title for title, _ in after] == [title for title, _ in before]
    # The average length of a text is the index's own and moves a score by a little, alike for all.
    assert [score for _, score in after] == pytest.approx([score for _, score in before], rel=0.25)


async def test_notes_and_lessons_are_on_one_scale(board: Board) -> None:
    ann = await board.agent("ann")
    await wrote(ann, **{f"disk-{number}": f"disk number {number} spins" for number in range(30)})
    await ann.add_collective_memory(
        category="gotcha", key="disk-cache", value="a disk cache lies about a flush"
    )
    assert (await found(ann, "disk flush"))[0] == "disk-cache"
    await wrote(ann, flush="a disk is flushed by fsync, then flush the disk of the replica")
    assert set((await found(ann, "disk flush"))[:2]) == {"disk-cache", "flush"}


NASTY = [
    '"', '""', "*", "-", "NEAR(a b, 2)", "a AND", "OR NOT", "text : x", "{key}: x", "^x", "%", "_", "100% _",
    "';--", "x" * 500, "( ( (", "\u0301", "\u200b", "🙂", "a\u2028b", "库", "key:", "+", "col:val*",
]  # fmt: skip


@pytest.mark.parametrize("query", [text for text in NASTY if text.strip("\u200b")])
async def test_any_text_is_plain_text(board: Board, query: str) -> None:
    ann = await board.agent("ann")
    await wrote(ann, entry="plain words of no interest")
    assert await found(ann, query) == []
    await ann.recall_collective_memory(query=query)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(max_size=40) | st.text(st.sampled_from('a"*-^:(){}+.,_/ \u0301é数aB'), max_size=30))
async def test_no_drawn_text_is_an_error(board: Board, query: str) -> None:
    def hits(tx: Any) -> int:
        return len(search.run(tx, knowledge.SOURCES, query, 5, **knowledge.readable(tx, "none")))

    assert await board.opened.store.read(hits) == 0
