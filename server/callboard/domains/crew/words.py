"""Words: others' texts made short for a view of many things, and quoted where they are long."""

from collections.abc import Iterable, Sequence

from callboard.domains.messages import Quotes
from callboard.store import Tx

NAMED = 3
"""Objects that one sentence names."""

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def shortened(text: str, most: int) -> str:
    """The text on one line, whole if it has at most so many characters, else its beginning up to the end
    of a word and an ellipsis."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    head = line[: most - 1]
    word_end = head.rfind(" ")
    if word_end > most // 2:
        head = head[:word_end]
    return head.rstrip() + ELLIPSIS


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def named(names: Sequence[str]) -> str:
    """The first names of several, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


class Texts:
    """The texts of other agents on one page, cut to its width and fenced. `width` is the length of the page
    in tokens."""

    DESCRIPTION = 2
    """The text of a task in hand takes at most one character for so many of the page's tokens."""

    PASSAGE = 6
    """The same for texts that are one of many: decisions, notes, knowledge."""

    LONGEST = 400
    """Characters that those have at most on the longest page."""

    def __init__(self, tx: Tx, width: int, bodies: Iterable[str]) -> None:
        """The bodies are all the texts that the page may quote."""
        self._quotes = Quotes(tx, bodies)
        self._width = width
        self.short = min(self.LONGEST, width // self.PASSAGE)

    @property
    def mark(self) -> str:
        return self._quotes.mark

    def passage(self, text: str) -> str:
        """One text of many."""
        return self._quotes.quote(shortened(text, self.short))

    def description(self, text: str) -> str | None:
        """The text of a task in hand, if it has one."""
        return self._quotes.quote(shortened(text, self._width // self.DESCRIPTION)) if text else None
