"""How the demo is told: in colour on a terminal, in plain lines elsewhere.

No line is left for the terminal to wrap: what does not fit goes on below what it belongs to.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

MOST_COLUMNS: Final = 110
"""Longer lines are hard to follow, however wide the terminal is."""

LEAST_COLUMNS: Final = 40

COLOURS: Final = ("cyan", "magenta", "blue")


class Teller:
    """Tells of some agents on a console."""

    def __init__(self, console: Console, agents: Iterable[str]) -> None:
        self._console = console
        self._colours = {
            agent: f"bold {COLOURS[number % len(COLOURS)]}" for number, agent in enumerate(agents)
        }
        self._margin = max(map(len, self._colours)) + 2
        self._width = max(LEAST_COLUMNS, min(MOST_COLUMNS, console.width))
        self._arrow = "-> " if console.options.ascii_only else "→ "

    def remark(self, said: str) -> None:
        """A line beside the story."""
        self._print(Text(), Text(said))

    def scene(self, title: str) -> None:
        """The heading of what follows."""
        self._console.print()
        self._print(Text(), Text(title, "bold"))

    def waits(self, agent: str, tool: str, arguments: Mapping[str, Any]) -> None:
        """A call whose answer comes later."""
        self._print(self._name(agent), call_text(tool, arguments).append("  (waits)", "dim"))

    def call(
        self, agent: str, tool: str, arguments: Mapping[str, Any], answer: Sequence[str], *, refused: bool
    ) -> None:
        """A call and its answer, on one line if that holds both."""
        name, call = self._name(agent), call_text(tool, arguments)
        style = _style(refused)
        if len(answer) == 1:
            line = Text.assemble(call, "  ", self._arrow, (answer[0], style))
            if name.cell_len + line.cell_len <= self._width:
                self._print(name, line)
                return
        self._print(name, call)
        before = Text(" " * self._margin + self._arrow)
        for said in answer:
            self._print(before, Text(said, style))
            before = Text(" " * before.cell_len)

    def answer(self, agent: str, answer: Sequence[str], *, refused: bool) -> None:
        """The answer to a call that waited."""
        before = self._name(agent).append(self._arrow)
        for said in answer:
            self._print(before, Text(said, _style(refused)))
            before = Text(" " * before.cell_len)

    def failure(self, said: str, facts: Mapping[str, str]) -> None:
        """What went wrong, with facts by name."""
        self._console.print()
        self._print(Text(), Text(said, "bold red"))
        for name, value in facts.items():
            self._print(Text(f"{name:<10}", "dim"), Text(value))

    def _name(self, agent: str) -> Text:
        return Text.assemble((f"{agent:<{self._margin}}", self._colours[agent]))

    def _print(self, before: Text, said: Text) -> None:
        """Print lines that all begin below the end of `before`."""
        for line in said.wrap(self._console, self._width - before.cell_len):
            line.rstrip()
            self._console.print(Text.assemble(before, line), soft_wrap=True)
            before = Text(" " * before.cell_len)


def call_text(tool: str, arguments: Mapping[str, Any]) -> Text:
    """A call as it is told."""
    call = Text(tool, "bold")
    for name, value in arguments.items():
        call = Text.assemble(call, (f" {name}=", "dim"), _written(value))
    return call


def _written(value: Any) -> str:
    """A value as a person would write it: as JSON, but a word without quotes."""
    if isinstance(value, str) and value and not any(mark in value for mark in ' "\n'):
        return value
    return json.dumps(value, ensure_ascii=False)


def _style(refused: bool) -> str:
    return "yellow" if refused else "green"
