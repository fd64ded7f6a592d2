"""Paths in small graphs: shortest, the same every time, and found without recursion."""

from collections.abc import Callable

import pytest

from callboard.graph import find_cycle_through, find_path

Neighbours = Callable[[str], list[str]]


def edges(text: str) -> Neighbours:
    """Read a graph written as `ab ac bd`: one edge a word."""
    graph: dict[str, list[str]] = {}
    for edge in text.split():
        graph.setdefault(edge[0], []).append(edge[1])
    return lambda node: graph.get(node, [])


@pytest.mark.parametrize(
    ("graph", "start", "goal", "path"),
    [
        ("ab bc", "a", "c", ["a", "b", "c"]),
        ("ab bc ac", "a", "c", ["a", "c"]),
        ("ab bc", "c", "a", None),
        ("ab", "a", "a", ["a"]),
        ("aa ab", "a", "b", ["a", "b"]),
        ("ab ba bc", "a", "c", ["a", "b", "c"]),
        ("", "a", "b", None),
    ],
)
def test_a_path_is_the_shortest_one(graph: str, start: str, goal: str, path: list[str] | None) -> None:
    assert find_path(start, goal, edges(graph)) == path


@pytest.mark.parametrize("graph", ["ac ab bd cd", "ab ac cd bd"])
def test_among_equal_paths_the_first_by_alphabet_is_returned(graph: str) -> None:
    assert find_path("a", "d", edges(graph)) == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("graph", "node", "cycle"),
    [
        ("ab ba", "a", ["a", "b", "a"]),
        ("ab bc ca cb", "a", ["a", "b", "c", "a"]),
        ("ab bc ca ba", "a", ["a", "b", "a"]),
        ("aa ab ba", "a", ["a", "a"]),
        ("ab bc cb", "a", None),
        ("ab bc", "a", None),
        ("", "a", None),
    ],
)
def test_a_cycle_is_the_shortest_one_through_its_node(graph: str, node: str, cycle: list[str] | None) -> None:
    assert find_cycle_through(node, edges(graph)) == cycle


def test_a_long_chain_needs_no_recursion() -> None:
    length = 20_000

    def ring(node: str) -> list[str]:
        return [str((int(node) + 1) % length)]

    path = find_path("0", str(length - 1), ring)
    cycle = find_cycle_through("0", ring)
    assert path is not None and len(path) == length
    assert cycle is not None and len(cycle) == length + 1


def test_each_node_is_asked_for_its_neighbours_once() -> None:
    asked: list[str] = []

    def everything(node: str) -> list[str]:
        asked.append(node)
        return list("abcdefgh")

    assert find_path("a", "z", everything) is None
    assert sorted(asked) == list("abcdefgh")
