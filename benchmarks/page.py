"""The figures as people read them: a line on the terminal, docs/performance.md, and its picture.

The page is written from the figures of one run, as they stand in JSON. What a run cannot know (what was
tried, why a promise is missed) is kept by hand in `benchmarks/tried.md`, and stands on the page as it is.
"""

from pathlib import Path
from typing import Any

from benchmarks.rows import Row

TRIED = Path(__file__).parent / "tried.md"
PICTURE = "performance.svg"
ANSWERS = "answers of "

HEAD = """\
# Performance

Written by `scripts/bench --write` from the figures of one run. Times depend on the machine and on what else
it does; ratios much less. So every claim is a ratio of two things that took turns in one run: the median of
the rounds' own ratios, with the lowest and the highest of them. Where the promise is a figure of its own, it
is what the ratio is to.

The yardstick is `benchmarks/bare.py`: a server of one tool that gives back its one argument, on the same SDK,
over the SDK's own stdio or under the same uvicorn. Clients write and read bytes by hand. Writes are durable
(`--durability full`) except in the rows on growth, where waiting for the disk would hide what grows. A lock
call takes a path that is free, each time another one.
"""


def line(row: Row) -> str:
    promised = "" if row.goal is None else f"  {row.goal}" + ("" if row.kept else "  MISSED")
    figures = f"{row.value:10.2f} / {row.beside_value:9.2f} {row.unit:<6} x {row.ratio:5.2f}"
    return f"{row.name:<62} {figures}{promised}"


def write(figures: dict[str, Any], docs: Path) -> None:
    """Write the page and its picture."""
    curves = [row for row in figures["rows"] if row["curve"]]
    if curves:
        _draw(curves, docs / PICTURE)
    (docs / "performance.md").write_text(_written(figures, bool(curves)), encoding="utf-8")


def _written(figures: dict[str, Any], drawn: bool) -> str:
    size = "small sizes (`--quick`)" if figures["quick"] else "full sizes"
    rows = figures["rows"]
    told = [HEAD, f"This run: {figures['machine']}, {size}.", ""]
    table = [row for row in rows if not row["name"].startswith(ANSWERS)]
    told += ["| what | measured | beside | ratio | promised |", "|---|---|---|---:|---|"]
    told += [_line(row) for row in table]
    missed = [row for row in table if not row["kept"]]
    told += ["", f"{len(table) - len(missed)} of {len(table)} lines keep what is promised, or only tell."]
    if missed:
        told += ["Missed in this run:", ""]
        told += [f"- {row['name']}: {row['ratio']:.2f}, promised {row['goal']}" for row in missed]
    if drawn:
        told += ["", "## Cost against size", "", f"![What a call costs, by the size of the store]({PICTURE})"]
    told += _answers([row for row in rows if row["name"].startswith(ANSWERS)])
    return "\n".join(told).rstrip() + "\n\n" + TRIED.read_text(encoding="utf-8")


def _line(row: dict[str, Any]) -> str:
    promised = row["goal"] or ""
    if not row["kept"]:
        promised += ", **missed**"
    ratio = f"{row['ratio']:.2f}"
    if row["spread"] is not None and row["spread"][0] != row["spread"][1]:
        ratio += f" ({row['spread'][0]:.2f} to {row['spread'][1]:.2f})"
    return (
        f"| {row['name']} | {row['measured']}: {_figure(row['value'], row['unit'])} "
        f"| {row['beside']}: {_figure(row['beside_value'], row['unit'])} | {ratio} | {promised} |"
    )


def _answers(rows: list[dict[str, Any]]) -> list[str]:
    """What the answers of a working day come to, tool by tool."""
    if not rows:
        return []
    whole, *tools = rows
    told = ["", "## What agents read in a day", ""]
    told += [
        f"{whole['measured']} of a lead and three developers were answered in {whole['value']:,.0f} tokens."
    ]
    told += ["", "| tool | answers | tokens in sum | share |", "|---|---|---:|---:|"]
    for row in tools:
        name = row["name"].removeprefix(ANSWERS)
        told.append(f"| `{name}` | {row['measured']} | {row['value']:,.0f} | {row['ratio']:.0%} |")
    return told


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    """The curves: one panel for each kind of thing that there can be many of."""
    import matplotlib  # only a run that draws needs it

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "callboard", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot

    kinds = list(dict.fromkeys(row["curve_of"] for row in rows))
    across = min(3, len(kinds))
    down = -(-len(kinds) // across)
    figure, panels = pyplot.subplots(down, across, figsize=(3.4 * across, 2.6 * down), squeeze=False)
    for panel, kind in zip(panels.flat, kinds, strict=False):
        for row in rows:
            if row["curve_of"] == kind:
                sizes, costs = zip(*row["curve"], strict=True)
                panel.plot(sizes, costs, marker="o", markersize=3, label=row["name"])
        panel.set(xscale="log", xlabel=kind, ylabel="ms a call")
        panel.set_ylim(bottom=0)
        panel.legend(fontsize=7, frameon=False, loc="best")
    for panel in panels.flat[len(kinds) :]:
        panel.set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
