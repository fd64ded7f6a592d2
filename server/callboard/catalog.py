"""The catalogue: everything that is registered, in one visible list.

`DOMAINS` is ordered bottom-up: a domain may use those before it, never those behind it. A tool's toolset
is the noun it belongs to, which for a view over many domains is another than the module it lives in.
"""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from callboard.domains import (
    chat,
    conversations,
    costs,
    crew,
    decisions,
    delegations,
    history,
    knowledge,
    locks,
    memory,
    messages,
    projects,
    retros,
    roster,
    tasks,
    timers,
)
from callboard.tool import Profile, Tool

DOMAINS: tuple[ModuleType, ...] = (
    projects,
    roster,
    locks,
    history,
    messages,
    conversations,
    chat,
    timers,
    memory,
    knowledge,
    costs,
    delegations,
    tasks,
    decisions,
    retros,
    crew,
)

TOOLSETS: tuple[str, ...] = (
    "roster",
    "locks",
    "history",
    "tasks",
    "delegations",
    "decisions",
    "costs",
    "messages",
    "conversations",
    "chat",
    "timers",
    "memory",
    "knowledge",
    "projects",
    "crew",
)
"""The toolsets in the order in which people read of them."""

PROFILES: Mapping[str, frozenset[Profile]] = {
    "core": frozenset({"core"}),
    "lead": frozenset({"core", "lead"}),
    "all": frozenset({"core", "lead", "all"}),
}
"""Each profile with the tools' own marks that it takes in."""


def _catalog() -> tuple[Tool[..., Any], ...]:
    tools = [tool for domain in DOMAINS for tool in domain.TOOLS]
    tools.sort(key=lambda tool: TOOLSETS.index(tool.toolset))
    names = [tool.name for tool in tools]
    if len(set(names)) != len(names):
        raise ValueError("two tools have one name")
    return tuple(tools)


CATALOG: tuple[Tool[..., Any], ...] = _catalog()


def select(choices: Iterable[str] = ("all",), *, read_only: bool = False) -> dict[str, Tool[..., Any]]:
    """The tools of some profiles and toolsets, by name; with `read_only`, those that write nothing.

    Raises ValueError for a word that is neither.
    """
    wanted = [choice.strip() for choice in choices if choice.strip()] or ["all"]
    for choice in wanted:
        if choice not in PROFILES and choice not in TOOLSETS:
            raise ValueError(
                f"There is no profile or toolset {choice!r}; there are {', '.join([*PROFILES, *TOOLSETS])}."
            )
    marks = {mark for choice in wanted for mark in PROFILES.get(choice, ())}
    return {
        tool.name: tool
        for tool in CATALOG
        if (tool.profile in marks or tool.toolset in wanted) and not (read_only and tool.writes)
    }
