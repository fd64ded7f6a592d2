"""A page for a person: tables, trees and lines, in colours that can be read on light and on dark.

What an agent wrote is always a `Text` and never markup, so that no words of an agent become ours. Colours are
the terminal's own eight, and say nothing that a word beside them does not say too.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 200
"""Columns of a page that goes into a pipe, where nothing is known of its reader's width."""

TONES: Mapping[str, str] = {
    "live": "green",
    "running": "green",
    "ready": "cyan",
    "in_review": "magenta",
    "paused": "magenta",
    "done": "blue",
    "failed": "bold red",
    "blocked": "red",
    "critical": "bold red",
    "warning": "red",
    "high": "bold",
}
"""How a word of state looks; all others look like any text."""


def console() -> Console:
    """The terminal, or a plain page of fixed width where there is none. NO_COLOR is honoured."""
    page = Console(highlight=False, markup=False, emoji=False)
    if not page.is_terminal:
        page = Console(highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH)
    return page


def show(result: Mapping[str, Any], rendered: Iterable[RenderableType], *, as_json: bool) -> None:
    """Print a tool's result, exactly or as a page."""
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        console().print(*rendered, sep="\n")


def words(value: object, style: str = "") -> Text:
    """Somebody's words on one line."""
    return Text(" ".join(str(value).split()) if value is not None else "", style=style)


def state(word: str) -> Text:
    return Text(word.replace("_", " "), style=TONES.get(word, ""))


def heading(name: str, count: int | None = None) -> Text:
    return Text(name if count is None else f"{name} ({count})", style="bold")


def quoted(text: str, mark: str | None) -> str:
    """What stands between the fences of a tool's answer."""
    return text.removeprefix(f"<{mark}>\n").removesuffix(f"\n</{mark}>")


def behind_bars(text: str, mark: str | None) -> list[Text]:
    """Somebody's words at length, each line behind a bar."""
    return [Text(f"  | {line}") for line in quoted(text, mark).splitlines()]


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Rows under headings. The first column keeps its width longest; numbers stand to the right."""
    listed = [[cell if isinstance(cell, Text) else words(cell) for cell in row] for row in rows]
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for place, name in enumerate(columns):
        numbers = all(row[place].plain.replace(",", "").replace(".", "").isdigit() for row in listed)
        made.add_column(
            name,
            justify="right" if numbers and listed else "left",
            overflow="ellipsis",
            no_wrap=True,
            min_width=min(12, max([len(row[0].plain) for row in listed], default=0)) if place == 0 else None,
        )
    for row in listed:
        made.add_row(*row)
    return made


def section(name: str, body: RenderableType, count: int | None = None) -> Group:
    return Group(heading(name, count), body, Text(""))


def more(page: Mapping[str, Any]) -> list[Text]:
    """The line under a page that does not show everything."""
    return [Text("There are more: pass a larger --limit.")] if "next_after_id" in page else []


def lasting(seconds: float) -> str:
    """A time as a person says it: 45 s, 12 min, 3 h, 2 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def ago(at: str | None) -> str:
    """How long a moment is past."""
    if at is None:
        return ""
    return lasting((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())


def dollars(cost: Mapping[str, Any]) -> str:
    return f"{cost['cost_usd']:.2f}" if "cost_usd" in cost else ""


def number(value: int) -> str:
    return f"{value:,}"
