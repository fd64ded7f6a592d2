"""The check of histories: it finds what cannot be, and lets pass what some order of events explains."""

from typing import Any

import pytest

from tests.reliability.lock_history import Call, History, replayed


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
        ("C7", [took("a", "x", 1, 0, 3_500, wait=2)]),
    ],
)
def test_the_check_finds_what_cannot_be(check: str, calls: list[Call]) -> None:
    found = History(calls, slack=1_000).violations()
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
    ],
)
def test_the_check_lets_pass_what_some_order_explains(calls: list[Call]) -> None:
    assert History(calls, slack=1_000).violations() == []


def test_a_ledger_that_contradicts_itself_is_found() -> None:
    """C8"""
    lease = '{"file_path": "x", "holder": "a", "fence": 1}'
    other = '{"file_path": "x", "holder": "a", "fence": 2}'
    assert replayed([("lock_acquired", lease), ("lock_renewed", lease)]) == {("x", "a"): 1}
    assert replayed([("lock_acquired", lease), ("lock_expired", lease)]) == {}
    for entries in ([("lock_released", lease)], [("lock_acquired", lease), ("lock_expired", other)]):
        with pytest.raises(ValueError, match="was held"):
            replayed(entries)
