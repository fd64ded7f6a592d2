"""Paths in small directed graphs: the shortest way between two nodes, and the shortest way back to one.

The one idea: a graph is a function from a node to the nodes it points at, so an edge table, a dictionary and
a wait-for relation are searched alike, and only the part that is reached is ever read.

Breadth-first search (E. F. Moore, "The shortest path through a maze", 1959): every node is expanded at most
once. Neighbours are visited in sorted order, so among equally short paths the answer is always the one that
comes first in the alphabet, whatever order they were returned in.
"""

from collections import deque
from collections.abc import Callable, Iterable

__all__ = ["find_cycle_through", "find_path"]


def find_path(start: str, goal: str, neighbours: Callable[[str], Iterable[str]]) -> list[str] | None:
    """Return the shortest path `[start, …, goal]`, `[start]` to itself, None when there is none."""
    if start == goal:
        return [start]
    return _shortest_walk(start, goal, neighbours)


def find_cycle_through(node: str, neighbours: Callable[[str], Iterable[str]]) -> list[str] | None:
    """Return the shortest cycle `[node, …, node]`, None when no path leads back to the node.

    A node that points at itself is the cycle `[node, node]`. Cycles that do not touch it are not found.
    """
    return _shortest_walk(node, node, neighbours)


def _shortest_walk(start: str, goal: str, neighbours: Callable[[str], Iterable[str]]) -> list[str] | None:
    """Find the shortest walk of at least one edge from `start` to `goal`."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there in sorted(neighbours(here)):
            if there == goal:
                return [*_trace_back(came_from, start, here), goal]
            if there != start and there not in came_from:
                came_from[there] = here
                queue.append(there)
    return None


def _trace_back(came_from: dict[str, str], start: str, end: str) -> list[str]:
    walk = [end]
    while walk[-1] != start:
        walk.append(came_from[walk[-1]])
    walk.reverse()
    return walk
