"""Fitting: as much of many things as a budget of tokens holds, the most important first.

A token is counted as four bytes of the compact JSON in which the answer goes out. Items are taken whole or
left out; what was left out is counted under the tool that has it, and these counts are part of the budget.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from callboard import text

TOKEN_BYTES = 4

SHARE = 4
"""The first helping of a section takes at most one part in so many of the budget, unless the section says
otherwise, so that no single rule, however long, keeps everything else out."""

LEFT_OUT = "left_out"
SANITIZED = "sanitized"


class Section(NamedTuple):
    """Things of one kind, the most important first. `tool` has all of them; without one they are not missed.
    One `helping` of them is served at a time. `known` is how many there are, if more than are given here."""

    name: str
    tool: str
    helping: int
    items: Sequence[BaseModel | str]
    known: int = 0
    share: int = SHARE


class Page:
    """An answer while it is being filled."""

    def __init__(self, max_tokens: int, fixed: Mapping[str, Any]) -> None:
        self._limit = TOKEN_BYTES * max_tokens
        self._fixed = weight(fixed)
        self._sizes: dict[str, int] = {}
        self._removed: dict[str, int] = {}
        self._missing: dict[str, int] = {}
        self.shown: dict[str, list[Any]] = {}

    @property
    def left_out(self) -> dict[str, int]:
        """How many things are not shown, by the tool that has them."""
        return {tool: count for tool, count in self._missing.items() if tool and count}

    def holds(self, words: str) -> bool:
        """Whether anything that is shown holds these words."""
        return any(words in str(item) for items in self.shown.values() for item in items)

    def fill(self, sections: Sequence[Section]) -> None:
        """Serve every section a helping, in their order, then each another one, until all are served or
        nothing more fits. What was too much for a first helping is the first of the second."""
        for section in sections:
            missing = max(section.known, len(section.items))
            self._missing[section.tool] = self._missing.get(section.tool, 0) + missing
        waiting = {section.name: list(section.items) for section in sections}
        opening = True
        while any(waiting.values()):
            for section in sections:
                helping = waiting[section.name][: section.helping]
                most = self._limit // section.share if opening else self._limit
                away = [item for item in helping if not self._serve(section, item, most)]
                rest = waiting[section.name][section.helping :]
                waiting[section.name] = [*away, *rest] if opening else rest
            opening = False
        order = {id(item): place for section in sections for place, item in enumerate(section.items)}
        for items in self.shown.values():
            items.sort(key=lambda item: order[id(item)])

    def _serve(self, section: Section, item: BaseModel | str, most: int) -> bool:
        """Show one item if that keeps the section below `most` bytes and the whole within the budget."""
        plain = item if isinstance(item, str) else item.model_dump(exclude_none=True, by_alias=True)
        before = self._sizes.get(section.name, 0)
        size = before + weight(plain) + 1
        removed = dict(self._removed)
        _count_removed(plain, removed)
        self._missing[section.tool] -= 1
        sizes = self._sizes | {section.name: size}
        if size > most or self._size(sizes, removed) > self._limit:
            self._missing[section.tool] += 1
            return False
        self._sizes, self._removed = sizes, removed
        self.shown.setdefault(section.name, []).append(item)
        return True

    def _size(self, sizes: Mapping[str, int], removed: Mapping[str, int]) -> int:
        """Bytes of the whole answer, with what accompanies it when it leaves. Each item brings its own comma
        along, and each field one too: at most one byte more than there will be."""
        fields = sum(len(name) + len('"":[],') + size for name, size in sizes.items())
        for name, value in ((LEFT_OUT, self.left_out), (SANITIZED, removed)):
            fields += len(f'"{name}":,') + weight(value) if value else 0
        return self._fixed + fields


def weight(value: object) -> int:
    """Bytes of a plain value as it goes out."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _count_removed(value: object, removed: dict[str, int]) -> None:
    """Count what will be taken out of the texts when they leave; the answer then says so."""
    if isinstance(value, str):
        for kind, count in text.neutralise(value)[1].items():
            removed[kind] = removed.get(kind, 0) + count
    elif isinstance(value, dict):
        for item in value.values():
            _count_removed(item, removed)
    elif isinstance(value, list):
        for item in value:
            _count_removed(item, removed)
