"""Talk at once, as the benchmark measures it, in a size for every run: over HTTP, between real processes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import anyio
import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "talk.py"
AGENTS, MESSAGES = 6, 4


@pytest.fixture(scope="module")
def talk() -> ModuleType:
    spec = importlib.util.spec_from_file_location("talk", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["talk"] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


async def test_what_a_group_says_at_once_reaches_every_waiting_member_exactly_once(
    talk: ModuleType, tmp_path: Path
) -> None:
    """Q1 to Q4: nothing is lost, and nothing comes again that was acknowledged."""
    folder = tmp_path / "repo"
    folder.mkdir()
    with talk.serving(folder) as url, anyio.fail_after(60):
        came = await talk.talk(url, AGENTS, MESSAGES)
    assert (came.stored, came.lost, came.acknowledged_again) == (AGENTS * MESSAGES, 0, 0)
    assert came.delivered == len(came.late_ms) == AGENTS * MESSAGES * (AGENTS - 1)


async def test_a_waiter_is_woken_by_a_send_through_another_process(talk: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    folder.mkdir()
    with talk.serving(folder) as one, talk.serving(folder) as other, anyio.fail_after(60):
        late = await talk.wake_ups(one, other, 5)
    # It would wake by itself after five seconds, though nobody told it.
    assert max(late) < 2_500
