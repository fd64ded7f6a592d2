"""A page for a person: tables, trees and lines, in colours that can be read on light and on dark.

What an agent wrote is always a `Text` and never markup, so that no words of an agent become ours. Colours say
nothing that a word beside them does not say too.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

PLAIN_WIDTH = 200
"""Columns of a page that goes into a pipe, where nothing is known of its reader's width."""

GAP = 2
"""Columns between those of a table."""

NARROWEST = 12
"""How far a column of a table gives way before another is left out."""

TONES: Mapping[str, str] = {
    "live": "going",
    "running": "going",
    "ready": "open",
    "in_review": "held up",
    "paused": "held up",
    "blocked": "wrong",
    "warning": "wrong",
    "failed": "worst",
    "critical": "worst",
}
"""The tone of a word of state; all others look like any text."""

COLOURS: Mapping[str, str] = {
    "going": "color(28)",
    "open": "color(30)",
    "held up": "color(164)",
    "wrong": "color(196)",
    "worst": "bold color(196)",
}
"""The tones on a terminal of 256 colours: those of the cube that stand out from white and from black alike,
by a contrast of 3.9 and more (WCAG 2), since nothing tells us which of them is behind."""

FEW_COLOURS: Mapping[str, str] = {
    "going": "none",
    "open": "none",
    "held up": "magenta",
    "wrong": "red",
    "worst": "bold red",
}
"""The tones on a terminal of eight colours. Its green and cyan are lost on white, its blue on black."""


def console() -> Console:
    """The terminal, or a plain page of fixed width where there is none. NO_COLOR is honoured."""
    page = Console(highlight=False, markup=False, emoji=False)
    if not page.is_terminal:
        page = Console(highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH)
    many = page.color_system in ("256", "truecolor")
    page.push_theme(Theme(dict(COLOURS if many else FEW_COLOURS)))
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


def table(
    columns: Sequence[str],
    rows: Iterable[Iterable[object]],
    width: int | None = None,
    *,
    chosen: int | None = None,
) -> Table:
    """Rows under headings, on so many columns of the terminal; numbers stand to the right. The widest give
    way first; where that is not enough, the last are left out, so the most important come first. A column in
    which nothing stands is left out too. With `chosen` there is a margin in which that row is marked, -1 for
    none of them."""
    every = [[cell if isinstance(cell, Text) else words(cell) for cell in row] for row in rows]
    filled = [place for place in range(len(columns)) if not every or any(row[place].plain for row in every)]
    columns = [columns[place] for place in filled]
    listed = [[row[place] for place in filled] for row in every]
    natural = [
        max([len(name), *(row[place].cell_len for row in listed)]) for place, name in enumerate(columns)
    ]
    made = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)
    margin = "" if chosen is None else "  "
    sizes = fitted(natural, (width or console().width) - len(margin))
    for place, size in enumerate(sizes):
        numbers = all(row[place].plain.replace(",", "").replace(".", "").isdigit() for row in listed)
        before = "" if place else margin
        made.add_column(
            before + columns[place],
            justify="right" if numbers and listed else "left",
            overflow="ellipsis",
            no_wrap=True,
            width=size + len(before),
        )
    for place, row in enumerate(listed):
        cells = [shortened(cell, size) for cell, size in zip(row, sizes, strict=False)]
        if margin:
            cells[0] = Text.assemble("> " if place == chosen else margin, cells[0])
        made.add_row(*cells, style="reverse" if place == chosen else None)
    return made


def shortened(cell: Text, width: int) -> Text:
    """A name that is too long without its middle, since names of one crew or folder differ at their ends. A
    sentence is left to be cut at its end."""
    if cell.cell_len <= width or " " in cell.plain:
        return cell
    end = cell.plain
    while cell_len(end) > width // 2:
        end = end[1:]
    return Text(set_cell_size(cell.plain, width - 1 - cell_len(end)).rstrip() + "…" + end, style=cell.style)


def fitted(natural: Sequence[int], room: int) -> list[int]:
    """The widths of as many columns as have room. The first, by which a row is known, keeps up to half of
    it; no other gives way below NARROWEST."""
    floors = [room // 2, *(NARROWEST for _ in natural[1:])]
    for count in range(len(natural), 1, -1):
        widths = [min(width, room) for width in natural[:count]]
        while sum(widths) + GAP * (count - 1) > room:
            wide = [place for place, width in enumerate(widths) if width > floors[place]]
            if not wide:
                break
            widths[max(wide, key=widths.__getitem__)] -= 1
        else:
            return widths
    return [min(width, room) for width in natural[:1]]


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
