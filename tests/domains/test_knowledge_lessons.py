"""Collective memory through the tools: lessons are shared, marked, recalled by words and by path."""

import re
from typing import Any

import pytest

from tests.conftest import Agent, Board

Answer = dict[str, Any]


def said(lesson: Answer) -> str:
    fenced = re.fullmatch(r"<([0-9a-f]{8})>\n(.*)\n</\1>", lesson["text"], re.DOTALL)
    assert fenced is not None, lesson["text"]
    return str(fenced[2])


async def add(
    agent: Agent, key: str, value: str | None = None, category: str = "gotcha", **more: Any
) -> Answer:
    given = {"value": value} if value is not None else {}
    answer: Answer = await agent.add_collective_memory(category=category, key=key, **given, **more)
    return answer


async def recalled(agent: Agent, **arguments: Any) -> list[str]:
    return [lesson["key"] for lesson in (await agent.recall_collective_memory(**arguments))["memories"]]


async def uses(board: Board) -> dict[str, int]:
    await board.settle()
    return dict(await board.rows("SELECT key, use_count FROM collective_memory"))


async def test_a_lesson_is_shared_by_all_crews_of_the_project(board: Board) -> None:
    ann, eve = await board.agent("ann", role="lead"), await board.agent("eve", role="lead")
    await add(ann, "fsync", "an fsync of the file is none of its folder")
    [lesson] = (await eve.recall_collective_memory(query="folder fsync"))["memories"]
    assert (lesson["from"], lesson["standing"], said(lesson)) == (
        "ann",
        "unmarked",
        "an fsync of the file is none of its folder",
    )


async def test_an_overwrite_keeps_the_earlier_value_and_its_author(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await add(ann, "fsync", "once")
    await add(ann, "fsync", standing="confirmed")
    changed = await add(ben, "fsync", "twice")
    assert (changed["version"], changed["standing"]) == (2, "unmarked")
    [lesson] = (await ann.recall_collective_memory(key="fsync"))["memories"]
    assert (lesson["from"], said(lesson)) == ("ben", "twice")
    [old] = lesson["earlier"]
    assert (old["version"], old["from"], said(old)) == (1, "ann", "once")


async def test_a_mark_says_who_made_it_and_changes_nothing_else(board: Board) -> None:
    ann, ben = await board.agent("ann"), await board.agent("ben")
    await add(ann, "fsync", "once")
    marked = await add(ben, "fsync", standing="confirmed")
    assert (marked["standing"], marked["marked_by"], marked["version"]) == ("confirmed", "ben", 1)
    [lesson] = (await ann.recall_collective_memory(key="fsync"))["memories"]
    assert (lesson["from"], said(lesson), lesson["marked_by"]) == ("ann", "once", "ben")


async def test_outdated_lessons_sink_and_wrong_ones_are_not_recalled(board: Board) -> None:
    ann = await board.agent("ann")
    await add(ann, "old", "relay relay relay", standing="outdated")
    await add(ann, "good", "the relay sticks")
    await add(ann, "false", "the relay is green", standing="wrong")
    assert await recalled(ann, query="relay") == ["good", "old"]
    assert await recalled(ann) == ["old", "good"]
    await add(ann, "false", standing="unmarked")
    assert set(await recalled(ann, query="relay")) == {"good", "old", "false"}


async def test_there_must_be_something_to_share_or_to_mark(board: Board) -> None:
    await board.agent("ann")
    refused = await board.refusal("add_collective_memory", agent_id="ann", category="gotcha", key="k")
    assert (refused["code"], refused["fields"][0]["field"]) == ("invalid_arguments", "value")
    refused = await board.refusal(
        "add_collective_memory", agent_id="ann", category="gotcha", key="k", standing="wrong"
    )
    assert refused["code"] == "not_found"


async def test_only_what_matched_and_was_returned_counts_as_used(board: Board) -> None:
    ann = await board.agent("ann")
    await add(ann, "relay", "a relay sticks")
    await add(ann, "motor", "a motor turns")
    await recalled(ann)
    await recalled(ann, category="gotcha")
    await recalled(ann, key="relay")
    assert await uses(board) == {"relay": 0, "motor": 0}
    await recalled(ann, query="sticking relays")
    await recalled(ann, query="relay motor", limit=1)
    counts = await uses(board)
    assert (sum(counts.values()), counts["relay"]) in ((2, 1), (2, 2))


@pytest.mark.parametrize(
    ("file_path", "keys"),
    [
        ("src/io/reader.py", ["src/io/reader.py", "src/io/", "src", "encoding"]),
        ("src/io/writer.py", ["src/io/", "src"]),
        ("./src//io/reader.py", ["src/io/reader.py", "src/io/", "src", "encoding"]),
        ("src/io", ["src/io/", "src"]),
        ("a_b.py", ["a_b.py"]),
        ("axb.py", []),
        ("src2/x.py", []),
        ("io/reader.py", []),
        ("src/io/reader.pyi", []),
    ],
)
async def test_a_file_recalls_what_is_about_it_or_its_directories_by_their_very_names(
    board: Board, file_path: str, keys: list[str]
) -> None:
    ann = await board.agent("ann")
    await add(ann, "src", "all code")
    await add(ann, "src/io/", "input and output")
    await add(ann, "encoding", "src/io/reader.py takes UTF-8 only.")
    await add(ann, "src/io/reader.py", "the reader")
    await add(ann, "a_b.py", "an underscore is no wildcard")
    await add(ann, "%", "neither is a percent sign")
    expected = keys if file_path != "src/io/reader.pyi" else ["src/io/", "src"]
    assert await recalled(ann, file_path=file_path) == expected
    counts = await uses(board)
    assert {key for key, count in counts.items() if count} == set(expected)


async def test_only_its_author_or_a_lead_forgets_a_lesson(board: Board) -> None:
    boss = await board.agent("boss", role="lead")
    ann, ben = await board.agent("ann", lead_id="boss"), await board.agent("ben", lead_id="boss")
    ids = [(await add(ann, key, "x"))["memory_id"] for key in ("one", "two")]
    refused = await board.refusal("forget_collective_memory", agent_id="ben", memory_id=ids[0])
    assert (refused["code"], refused["owner"]) == ("not_owner", "ann")
    assert (await ann.forget_collective_memory(memory_id=ids[0]))["forgotten"] is True
    assert (await boss.forget_collective_memory(memory_id=ids[1]))["forgotten"] is True
    assert (await ben.forget_collective_memory(memory_id=ids[1]))["forgotten"] is False
    assert await recalled(ann) == []
    assert (await add(ben, "one", "again"))["version"] == 2


async def test_pages_of_lessons_have_no_gap_and_no_repeat(board: Board) -> None:
    ann = await board.agent("ann")
    keys = [f"key-{number}" for number in range(9)]
    for key in keys:
        await add(ann, key, "v" * 12_000)
    seen: list[str] = []
    after: Answer = {}
    while True:
        page = await ann.recall_collective_memory(limit=7, **after)
        seen += [lesson["key"] for lesson in page["memories"]]
        if "next_after_id" not in page:
            break
        after = {"after_id": page["next_after_id"]}
    assert seen == keys
