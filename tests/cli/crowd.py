"""A crowd at work: a store filled through the tools, with as many agents as are wanted.

Crews of up to twelve, each with a lead, a graph of tasks in every state, locks and who waits for them, mail,
a group, decisions that wait for a person, costs and lessons. The same number of agents gives the same crowd.

    PYTHONPATH=server python -m tests.cli.crowd --agents 60 --db board.db
"""

import argparse
from pathlib import Path
from typing import Any

import anyio

from callboard.board import Board, Config, open_board
from callboard.errors import Refused

CREW = 12
"""Agents of one crew at most, its lead included."""

ROLES = ("developer", "qa-tester", "code-reviewer", "developer", "tech-writer")
PARTS = (
    ("schema", "Add the ledger table and its migration", ()),
    ("parser", "Parse statements of the three banks", ()),
    ("import", "Import statements into the ledger", ("schema", "parser")),
    ("rules", "Match entries by the customer's rules", ("schema",)),
    ("api", "Serve matched entries over HTTP", ("import", "rules")),
    ("page", "Show unmatched entries, with keys to settle them", ("api",)),
    ("load", "Import a million entries within a minute", ("import",)),
    ("guide", "Write the guide to imports", ("page", "load")),
)


class Crowd:
    """The crowd's crews on one board."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def gather(self, agents: int) -> list[str]:
        """Fill the board; the agents' ids, each crew's lead first."""
        everybody: list[str] = []
        while len(everybody) < agents:
            number = len(everybody) // CREW + 1
            everybody += await self._crew(number, min(CREW, agents - len(everybody)))
        return everybody

    async def _crew(self, number: int, size: int) -> list[str]:
        lead, *others = [f"lead-{number}"] + [
            f"{ROLES[place % len(ROLES)].partition('-')[0]}-{number}-{place + 1}" for place in range(size - 1)
        ]
        await self._as(lead, "register_agent", role="lead", model="large")
        for place, agent in enumerate(others):
            role = ROLES[place % len(ROLES)]
            await self._as(agent, "register_agent", role=role, lead_id=lead, model="small")
        await self._plan(lead, number)
        await self._work(lead, others, number)
        await self._talk(lead, others, number)
        return [lead, *others]

    async def _plan(self, lead: str, number: int) -> None:
        decision = await self._as(
            lead,
            "record_decision",
            title=f"Keep amounts of ledger {number} as whole cents",
            rationale="Sums of floating numbers drift; every bank tells cents.",
            needs_confirmation=True,
            category="architecture",
        )
        tasks = [
            {
                "id": f"{name}-{number}",
                "title": title,
                "role": "tech-writer" if name == "guide" else "developer",
                "depends_on": [f"{before}-{number}" for before in after],
                "files": [f"src/ledger_{number}/{name}.py"],
                "priority": 5 if name == "schema" else 0,
            }
            for name, title, after in PARTS
        ]
        tasks[3]["depends_on"] = [f"schema-{number}", f"decision:{decision['decision_id']}"]
        await self._as(lead, "add_dag_tasks", tasks=tasks)
        await self._as(lead, "set_cost_budget", limit_usd=20.0)

    async def _work(self, lead: str, others: list[str], number: int) -> None:
        schema, parser = f"schema-{number}", f"parser-{number}"
        hands = [lead, *others]
        await self._as(lead, "assign_dag_task", task_id=schema, target_agent_id=_developer(others, lead, 0))
        await self._as(_developer(others, lead, 0), "complete_dag_task", task_id=schema, summary="Migrated.")
        await self._as(lead, "assign_dag_task", task_id=parser, target_agent_id=_developer(others, lead, 1))
        for place, agent in enumerate(hands):
            path = f"src/ledger_{number}/part_{place}.py"
            await self._as(agent, "acquire_file_lock", file_path=path, ttl_seconds=3600, reason="my part")
            await self._as(
                agent,
                "record_task_cost",
                input_tokens=12_000 * (place + 1),
                output_tokens=900 * (place + 1),
                cost_usd=0.05 * (place + 1),
            )
        for agent in hands[1:4]:
            path = f"src/ledger_{number}/part_0.py"
            try:
                await self._as(agent, "acquire_file_lock", file_path=path, queue_seconds=3600)
            except Refused:
                continue  # the lead holds it: the agent is in the queue
            raise AssertionError(f"{path} was free")

    async def _talk(self, lead: str, others: list[str], number: int) -> None:
        for agent in others[:3]:
            await self._as(agent, "send_message", to=lead, content=f"My part of ledger {number} is begun.")
        if others:
            await self._as(lead, "send_message", to=others[0], content="Is the parser near?", priority="high")
            await self._as(lead, "create_chat_group", name=f"ledger-{number}", members=others[:5])
            await self._as(
                lead, "send_group_message", group_name=f"ledger-{number}", content="Cents, not euros."
            )
        await self._as(
            lead,
            "put_knowledge",
            category="procedural",
            key=f"run imports {number}",
            content="make import-test runs the importer alone; it takes 8 s.",
        )
        await self._as(
            lead,
            "add_collective_memory",
            category="gotcha",
            key=f"dates of bank {number}",
            value="Bank statements tell dates in local time; the ledger keeps UTC.",
        )

    async def _as(self, agent: str, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self._board.call(tool, {"agent_id": agent, **arguments})


def _developer(others: list[str], lead: str, place: int) -> str:
    developers = [agent for agent in others if agent.startswith("developer")] or [lead]
    return developers[place % len(developers)]


async def fill(db: Path | None, agents: int) -> list[str]:
    """Fill a store; the agents' ids."""
    async with open_board(Config(db=db, transport="cli")) as board:
        return await Crowd(board).gather(agents)


def main() -> None:
    options = argparse.ArgumentParser(description="Fill a store with a crowd at work.")
    options.add_argument("--agents", type=int, default=60)
    options.add_argument("--db", type=Path)
    given = options.parse_args()
    print(f"{len(anyio.run(fill, given.db, given.agents))} agents are at work.")


if __name__ == "__main__":
    main()
