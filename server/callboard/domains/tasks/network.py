"""Networks of tasks as plain dictionaries: circles, order, levels, critical path.

`edges` says of each task what it waits for; names that are no key are left out. Everything is iterative and
visits each edge a constant number of times, so ten thousand tasks are no matter.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


def circle_within(edges: Mapping[str, Iterable[str]]) -> list[str] | None:
    """A circle `[a, b, …, a]` in which each waits for the next, or None.

    What is left when all that can be ordered has been (A. B. Kahn, "Topological sorting of large
    networks", 1962) waits for something left as well: following that ends in a circle.
    """
    left = set(edges) - set(in_order(edges))
    if not left:
        return None
    here = min(left)
    place: dict[str, int] = {}
    walk: list[str] = []
    while here not in place:
        place[here] = len(walk)
        walk.append(here)
        here = min(name for name in edges[here] if name in left)
    return [*walk[place[here] :], here]


def in_order(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """The tasks, each behind all that it waits for; those of circles, and behind circles, are left out."""
    waits = {name: {dep for dep in deps if dep in edges} for name, deps in edges.items()}
    behind = behind_each(edges)
    missing = {name: len(deps) for name, deps in waits.items()}
    free = deque(sorted(name for name, count in missing.items() if not count))
    order: list[str] = []
    while free:
        name = free.popleft()
        order.append(name)
        for other in behind[name]:
            missing[other] -= 1
            if not missing[other]:
                free.append(other)
    return order


def behind_each(edges: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Who waits for each task."""
    behind: dict[str, list[str]] = {name: [] for name in edges}
    for name, deps in edges.items():
        for dep in set(deps):
            if dep in behind:
                behind[dep].append(name)
    return behind


class Schedule(NamedTuple):
    """When each task could begin at the earliest if nobody was ever missing, what may slip, and how long the
    whole takes."""

    level: Mapping[str, int]
    slack: Mapping[str, float]
    length: float
    critical_path: Sequence[str]


def schedule(edges: Mapping[str, Sequence[str]], weight: Mapping[str, float]) -> Schedule:
    """The critical path method (J. E. Kelley, M. R. Walker, "Critical-path planning and scheduling", 1959):
    earliest starts forwards, latest starts backwards; the difference is the slack, and a longest way is the
    critical path."""
    order = in_order(edges)
    behind = behind_each(edges)
    level: dict[str, int] = {}
    start: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for name in order:
        deps = [dep for dep in edges[name] if dep in edges]
        last = max(deps, key=lambda dep: (start[dep] + weight[dep], level[dep], dep), default=None)
        before[name] = last
        start[name] = 0.0 if last is None else start[last] + weight[last]
        level[name] = 1 + max((level[dep] for dep in deps), default=-1)
    end = max(order, key=lambda name: (start[name] + weight[name], level[name], name), default=None)
    length = 0.0 if end is None else start[end] + weight[end]
    latest: dict[str, float] = {}
    for name in reversed(order):
        latest[name] = min((latest[other] for other in behind[name]), default=length) - weight[name]
    path: list[str] = []
    while end is not None:
        path.append(end)
        end = before[end]
    path.reverse()
    return Schedule(level, {name: latest[name] - start[name] for name in order}, length, path)
