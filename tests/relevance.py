"""How good the search is: how often the note that a question is about comes first, and in the first three.

The notes and questions are those of `fixtures/relevance.toml`; they go in and out through the tools, as an
agent's do. Run as a program it prints the shares and every question that misses.
"""

import tempfile
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from callboard.board import Config, open_board

FIXTURE = Path(__file__).parent / "fixtures" / "relevance.toml"
SHOWN = 3

Call = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Asked:
    """One question, the note that it is about, and the first notes that the search gave."""

    question: str
    expected: str
    given: tuple[str, ...]

    @property
    def first(self) -> bool:
        return self.given[:1] == (self.expected,)

    @property
    def among_the_first(self) -> bool:
        return self.expected in self.given


async def ask(call: Call) -> list[Asked]:
    """Write the notes through the tools, then ask every question."""
    fixture = tomllib.loads(FIXTURE.read_text(encoding="utf-8"))
    for note in fixture["notes"]:
        if "lesson" in note:
            await call("add_collective_memory", category=note["lesson"], key=note["key"], value=note["text"])
        else:
            await call("put_knowledge", category=note["category"], key=note["key"], content=note["text"])
    asked: list[Asked] = []
    for question in fixture["questions"]:
        found = await call("search_knowledge", query=question["ask"], limit=SHOWN)
        given = tuple(hit["key"] for hit in found["hits"])
        asked.append(Asked(question["ask"], question["expect"], given))
    return asked


def shares(asked: list[Asked]) -> tuple[float, float]:
    """The share of questions whose note comes first, and of those that have it in the first three."""
    first = sum(one.first for one in asked) / len(asked)
    return first, sum(one.among_the_first for one in asked) / len(asked)


async def _report() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_board(Config(folder=Path(folder), transport="cli")) as board:
            await board.call("register_agent", {"role": "developer", "agent_id": "ann"})

            async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                return await board.call(tool, {"agent_id": "ann", **arguments})

            asked = await ask(call)
    for one in asked:
        if not one.first:
            print(f"{one.question}: wants {one.expected}, gets {', '.join(one.given) or 'nothing'}")
    first, among = shares(asked)
    print(f"{len(asked)} questions: first {first:.0%}, in the first {SHOWN} {among:.0%}")


if __name__ == "__main__":
    anyio.run(_report)
