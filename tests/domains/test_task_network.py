"""Circles, order and critical path, against the plainest way to find each."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from callboard.domains.tasks.network import circle_within, in_order, schedule

names = st.sampled_from("abcdefg")
graphs = st.dictionaries(names, st.lists(names, max_size=3, unique=True))
acyclic = st.dictionaries(names, st.lists(names, max_size=3, unique=True)).map(
    lambda graph: {name: [dep for dep in deps if dep < name] for name, deps in graph.items()}
)


def longest(graph: dict[str, list[str]], weight: dict[str, float], name: str) -> float:
    """The longest way that ends with a task, by trying them all."""
    before = [longest(graph, weight, dep) for dep in graph[name] if dep in graph]
    return weight[name] + max(before, default=0.0)


@given(graphs)
def test_either_everything_can_be_ordered_or_a_circle_is_named(graph: dict[str, list[str]]) -> None:
    walk = circle_within(graph)
    order = in_order(graph)
    assert all(order.index(dep) < order.index(name) for name in order for dep in graph[name] if dep in graph)
    if walk is None:
        assert sorted(order) == sorted(graph)
        return
    assert walk[0] == walk[-1] and len(set(walk[1:])) == len(walk) - 1 >= 1
    assert all(there in graph[here] for here, there in pairwise(walk))


@given(acyclic, st.lists(st.integers(0, 5), min_size=7, max_size=7))
def test_the_critical_path_is_a_longest_way_and_has_no_slack(
    graph: dict[str, list[str]], weights: list[int]
) -> None:
    weight = dict(zip("abcdefg", map(float, weights), strict=True))
    plan = schedule(graph, weight)
    assert plan.length == max((longest(graph, weight, name) for name in graph), default=0.0)
    path = list(plan.critical_path)
    assert sum(weight[name] for name in path) == plan.length
    assert all(dep in graph[name] for dep, name in pairwise(path))
    assert all(plan.slack[name] == 0 for name in path)
    assert all(slack >= 0 for slack in plan.slack.values())
