"""The human gate: whatever agents call, in whatever order and over whatever time, what is a human's stays so.

A seeded random walk calls every tool of the catalogue as every kind of agent: leads, sub-leads, workers, a
member of a leaderless crew, agents behind tokens, observers, agents that have left, and callers without a
name. Between the calls the clock is pushed ahead, by years in all. No person acts during the walk, so nothing
that only a person may write may have changed at its end, nor at any time between.

Tools that are added to the catalogue take part by themselves. `CALLBOARD_PROOF=full` walks 200,000 calls;
`CALLBOARD_SEED` repeats a walk.
"""

import os
from collections.abc import Mapping
from typing import Any

from tests.conftest import Board, Boards
from tests.reliability.walking import HUMAN_ONLY, TOOLS, Walk

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
CALLS = 200_000 if FULL else 6_000
SEED = int(os.environ.get("CALLBOARD_SEED", "20260101"))

# What only people write. A change of any of these during the walk is a breach.
PROTECTED: Mapping[str, str] = {
    "decisions that a human must confirm": """
        SELECT id FROM decisions WHERE needs_confirmation = 1 AND status NOT IN ('recorded', 'withdrawn')
    """,
    "approvals": "SELECT id FROM decisions WHERE status IN ('confirmed', 'rejected', 'dismissed')",
    "core knowledge": "SELECT * FROM knowledge WHERE category = 'core'",
    "roles": "SELECT * FROM roles",
    "overridden roles": "SELECT * FROM _role_overrides",
    "settings": "SELECT * FROM settings WHERE key NOT LIKE 'store.%'",
    "tokens": "SELECT * FROM _credentials",
    "oversight and model rules": """
        SELECT id, oversight_level, model_config FROM projects
         WHERE oversight_level IS NOT NULL OR model_config <> '{}'
    """,
}


async def protected(board: Board) -> dict[str, list[tuple[Any, ...]]]:
    return {name: sorted(await board.rows(sql), key=repr) for name, sql in PROTECTED.items()}


async def test_no_walk_of_agents_over_years_does_what_is_a_humans(boards: Boards) -> None:
    """G1, G4: and every tool that is a human's was tried."""
    async with boards(durability="normal") as board:
        walk = Walk(board, SEED)
        await walk.prepare()
        before = await protected(board)
        assert before["core knowledge"] or "put_knowledge" not in TOOLS
        years = 0.0
        for number in range(1, CALLS + 1):
            await walk.step()
            if number % 25 == 0:
                seconds = walk.chance.choice([1, 60, 3_600, 86_400, 100 * 86_400])
                years += seconds / (365 * 86_400)
                await board.turn(seconds)
            if number % 250 == 0:
                await walk.sign_in()
                assert await protected(board) == before, f"seed {SEED}, call {number}"
        [(gated,)] = await board.rows("SELECT count(*) FROM decisions WHERE needs_confirmation = 1")
        done = {tool for tool, outcome in walk.outcomes if outcome == "done"}
        print(
            f"seed {SEED}: {CALLS} calls, {years:.1f} years, {gated} decisions that a human must confirm,"
            f" {len(done)} of {len(TOOLS) - len(HUMAN_ONLY)} tools of agents succeeded;"
            f" never: {sorted(set(TOOLS) - HUMAN_ONLY - done)}"
        )
        assert years > 10 and gated > CALLS / 300
        assert not done & HUMAN_ONLY
        assert all(walk.outcomes[tool, "human_required"] for tool in HUMAN_ONLY)
        assert len(done) >= (0.95 if FULL else 0.7) * (len(TOOLS) - len(HUMAN_ONLY))
