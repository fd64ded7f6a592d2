"""Quoting: other agents' words, fenced so that nothing inside can pass for anything outside.

Every reply has its own random mark. A quoted text stands between `<mark>` and `</mark>`; the mark occurs
in none of the reply's texts, so no text can close its own fence, whatever it holds.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from callboard import text
from callboard.store import Tx

MARK_BYTES = 4
"""Of the mark. That it occurs in no text is looked up, not left to chance."""


class Quotes:
    """The fence of one reply, for the texts that it quotes."""

    def __init__(self, tx: Tx, bodies: Iterable[str]) -> None:
        """Choose a mark that occurs in none of the bodies, as their reader will see them."""
        seen = [text.neutralise(body)[0].casefold() for body in bodies]
        self.mark = tx.ids(MARK_BYTES)
        while any(self.mark in body for body in seen):
            self.mark = tx.ids(MARK_BYTES)

    def quote(self, body: str) -> str:
        return f"<{self.mark}>\n{body}\n</{self.mark}>"

    def prose(self, value: Any) -> Any:
        """A value of references (ids, paths, numbers) with whatever in it may be prose quoted: a text
        with white space in it is one, as every sentence has some."""
        if isinstance(value, str):
            return self.quote(value) if any(map(str.isspace, value)) else value
        if isinstance(value, Mapping):
            return {key: self.prose(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.prose(item) for item in value]
        return value
