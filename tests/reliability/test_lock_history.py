"""The check of histories: it finds what cannot be, and lets pass what some order of events explains."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.reliability.lock_calls import Call, Stop
from tests.reliability.lock_history import History, replayed


def took(agent: str, path: str, fence: int, invoked: int, over: int, **more: Any) -> Call:
    asked = {"file_path": path, "ttl_seconds": more.get("ttl", 5), "wait_seconds": more.get("wait", 0)}
    answer = {"file_path": path, "mode": more.get("mode", "exclusive"), "fence": fence, "refreshed": False}
    return Call(agent, "acquire_file_lock", asked, invoked, over, answer)


def renewed(agent: str, path: str, fence: int, invoked: int, over: int) -> Call:
    asked = {"file_path": path, "ttl_seconds": 5, "fence": fence}
    answer = {"file_path": path, "mode": "exclusive", "fence": fence}
    return Call(agent, "renew_file_lock", asked, invoked, over, answer)


def released(agent: str, path: str, fence: int, invoked: int, over: int) -> Call:
    answer = {"released": True, "file_path": path, "fence": fence}
    return Call(agent, "release_file_lock", {"file_path": path, "fence": fence}, invoked, over, answer)


def forced(holder: str, path: str, fence: int, invoked: int, over: int) -> Call:
    answer = {"released": [{"agent_id": holder, "fence": fence}]}
    return Call("lead", "force_release_file_lock", {"file_path": path}, invoked, over, answer)


def denied(agent: str, path: str, holder: str, invoked: int, over: int, by: str = "holder") -> Call:
    answer = {"code": "lock_held", "holder": holder, "held_path": path, "blocked_by": by}
    return Call(agent, "acquire_file_lock", {"file_path": path}, invoked, over, answer)


def killed(agent: str, path: str, invoked: int, over: int) -> Call:
    asked = {"file_path": path, "ttl_seconds": 5}
    return Call(agent, "acquire_file_lock", asked, invoked, over, None)


def several(agent: str, fences: dict[str, int], invoked: int, over: int, ttl: int = 5) -> Call:
    asked = {"file_paths": list(fences), "ttl_seconds": ttl}
    leases = [{"file_path": path, "mode": "exclusive", "fence": fence} for path, fence in fences.items()]
    return Call(agent, "acquire_file_locks", asked, invoked, over, {"locks": leases})


def looked(
    invoked: int,
    over: int,
    held: Sequence[tuple[str, str, int]] = (),
    waiting: Sequence[tuple[str, str]] = (),
) -> Call:
    """Somebody lists leases as (agent, path, fence), and who waits for what."""
    leases = [{"agent_id": agent, "file_path": path, "fence": fence} for agent, path, fence in held]
    waiters = [{"agent_id": agent, "file_path": path, "mode": "exclusive"} for agent, path in waiting]
    asked = {"include_waiters": True}
    return Call("z", "list_file_locks", asked, invoked, over, {"locks": leases, "waiters": waiters})


@pytest.mark.parametrize(
    ("check", "calls"),
    [
        ("C1", [took("a", "src", 1, 0, 10), took("b", "src/x", 2, 20, 30)]),
        ("C1", [took("a", "x", 1, 0, 10, mode="shared"), took("b", "x", 2, 4_900, 4_950)]),
        ("C1", [took("a", "x", 1, 0, 10), renewed("a", "x", 1, 50, 60), took("b", "x", 2, 5_010, 5_040)]),
        ("C2", [took("a", "x", 1, 0, 10), took("b", "y", 1, 20, 30)]),
        ("C2", [took("a", "x", 5, 0, 10), took("b", "y", 4, 20, 30)]),
        ("C3", [denied("b", "x", "a", 40, 50)]),
        ("C3", [denied("b", "x", "a", 40, 50, by="waiter")]),
        ("C3", [took("a", "x", 1, 0, 10), released("a", "x", 1, 20, 30), denied("b", "x", "a", 40, 50)]),
        ("C3", [took("a", "x", 1, 0, 10), denied("b", "x", "a", 6_100, 6_200)]),
        ("C4", [took("a", "x", 1, 0, 10), renewed("a", "x", 1, 9_000, 9_010)]),
        ("C4", [took("a", "x", 1, 0, 10), released("a", "x", 1, 9_000, 9_010)]),
        (
            "C4",
            [
                took("a", "x", 1, 0, 10, ttl=9),
                took("b", "x", 2, 9_000, 9_010),
                released("a", "x", 1, 9_020, 9_030),
            ],
        ),
        ("C5", [took("b", "x", 1, 0, 9_000, wait=20)]),
        ("C5", [took("a", "x", 1, 0, 10, ttl=1), took("b", "x", 2, 20, 9_000, wait=20)]),
        ("C5", [took("b", "x", 2, 0, 9_000, wait=20), took("c", "x", 3, 5_000, 9_010, wait=20)]),
        (
            "C6",
            [
                looked(20, 30, waiting=[("a", "x")]),
                took("a", "x", 3, 0, 1_100, wait=2),
                took("b", "x", 2, 40, 50, ttl=1),
            ],
        ),
        (
            "C6",
            [
                looked(20, 30, waiting=[("a", "src/y")]),
                took("a", "src/y", 3, 0, 1_100, wait=2),
                took("b", "src", 2, 40, 95, wait=2, ttl=1),
            ],
        ),
        ("C7", [took("a", "x", 1, 0, 3_500, wait=2)]),
        ("C9", [several("a", {"x": 1, "y": 2}, 0, 90), looked(20, 30, [("a", "x", 1)])]),
        ("C9", [several("a", {"x": 1, "y": 2}, 0, 10), looked(4_000, 4_900, [("a", "y", 2)])]),
    ],
)
def test_the_check_finds_what_cannot_be(check: str, calls: list[Call]) -> None:
    """C1 to C9: each by a history that breaks nothing else."""
    found = History(calls, slack=1_000, wake=2_000).violations()
    assert found
    assert {violation[:2] for violation in found} == {check}


@pytest.mark.parametrize(
    "calls",
    [
        [took("a", "src", 1, 0, 10), took("b", "docs", 2, 20, 30)],
        [took("a", "x", 1, 0, 10, mode="shared"), took("b", "x", 2, 20, 30, mode="shared")],
        [took("a", "x", 1, 0, 10), took("b", "x", 2, 4_900, 5_000)],
        [took("a", "x", 1, 0, 10), released("a", "x", 1, 20, 90), took("b", "x", 2, 30, 40)],
        [took("a", "x", 1, 0, 10), forced("a", "x", 1, 20, 30), took("b", "x", 2, 40, 50)],
        [took("a", "x", 2, 0, 30), took("b", "y", 1, 20, 40)],
        [took("a", "x", 1, 0, 10), denied("b", "x", "a", 6_000, 6_100)],
        [took("a", "x", 1, 0, 10), renewed("a", "x", 1, 4_900, 4_910), denied("b", "x", "a", 9_000, 9_010)],
        [killed("a", "x", 0, 9_000), denied("b", "x", "a", 12_000, 12_010)],
        [took("a", "x", 1, 0, 2_900, wait=2)],
        [took("a", "x", 1, 0, 10), took("b", "x", 2, 20, 7_900, wait=20)],
        [took("b", "x", 2, 0, 9_000, wait=20), took("c", "x", 1, 100, 8_000, wait=20)],
        [
            looked(20, 30, waiting=[("a", "x")]),
            took("a", "x", 3, 0, 1_100, wait=2),
            took("b", "x", 2, 25, 50, ttl=1),
        ],
        [
            looked(20, 30, waiting=[("a", "x")]),
            took("a", "x", 3, 0, 1_100, wait=2),
            took("b", "y", 2, 40, 50),
        ],
        [
            took("b", "src", 1, 0, 5),
            looked(20, 30, waiting=[("a", "src/x")]),
            took("a", "src/x", 3, 10, 5_090, wait=6),
            took("b", "src/x", 2, 40, 50),
        ],
        [several("a", {"x": 1, "y": 2}, 0, 90), looked(20, 30)],
        [several("a", {"x": 1, "y": 2}, 0, 90), looked(20, 30, [("a", "x", 1), ("a", "y", 2)])],
        [
            several("a", {"x": 1, "y": 2}, 0, 10),
            released("a", "x", 1, 20, 90),
            looked(30, 40, [("a", "y", 2)]),
        ],
        [several("a", {"x": 1, "y": 2}, 0, 10), looked(4_900, 5_100, [("a", "y", 2)])],
    ],
)
def test_the_check_lets_pass_what_some_order_explains(calls: list[Call]) -> None:
    assert History(calls, slack=1_000, wake=2_000).violations() == []


def test_time_in_which_a_process_stood_still_is_no_ones_fault() -> None:
    """C5, C6, C7: and an agent that stood still may have lost its place."""
    waited = [took("b", "x", 1, 0, 9_000, wait=2)]
    assert History(waited, [Stop("a", 1_000, 8_500)], slack=1_000, wake=2_000).violations() == []
    passed = [
        looked(20, 30, waiting=[("a", "x")]),
        took("a", "x", 3, 0, 1_100, wait=2),
        took("b", "x", 2, 40, 50, ttl=1),
    ]
    assert History(passed, [Stop("a", 32, 38)]).violations() == []
    assert History(passed, [Stop("b", 32, 38)]).violations() != []


def test_a_ledger_that_contradicts_itself_is_found() -> None:
    """C8"""
    lease = '{"file_path": "x", "holder": "a", "fence": 1}'
    other = '{"file_path": "x", "holder": "a", "fence": 2}'
    assert replayed([("lock_acquired", lease), ("lock_renewed", lease)]) == {("x", "a"): 1}
    assert replayed([("lock_acquired", lease), ("lock_expired", lease)]) == {}
    for entries in ([("lock_released", lease)], [("lock_acquired", lease), ("lock_expired", other)]):
        with pytest.raises(ValueError, match="was held"):
            replayed(entries)
