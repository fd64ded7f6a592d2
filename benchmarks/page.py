"""The figures as people read them: a line on the terminal, and docs/performance.md."""

from typing import Any

from benchmarks.rows import Row

HEAD = """\
# Performance

Written by `scripts/bench --write` from the figures of one run. Times depend on the machine and on what else
it does; ratios much less. So every claim is a ratio of two things that took turns in one run: the median of
the rounds' own ratios. The yardstick is `benchmarks/bare.py`, a server of one tool that does nothing, on the
same SDK. Writes are durable (`--durability full`) except in the rows on growth.
"""


def line(row: Row) -> str:
    promised = "" if row.goal is None else f"  {row.goal}" + ("" if row.kept else "  MISSED")
    figures = f"{row.value:10.2f} / {row.beside_value:9.2f} {row.unit:<6} x {row.ratio:5.2f}"
    return f"{row.name:<62} {figures}{promised}"


def written(figures: dict[str, Any]) -> str:
    """The page, from the figures as they stand in JSON."""
    size = "small sizes (`--quick`)" if figures["quick"] else "full sizes"
    told = [HEAD, f"This run: {figures['machine']}, {size}.", ""]
    told += ["| what | measured | beside | ratio | promised |", "|---|---|---|---:|---|"]
    for row in figures["rows"]:
        promised = row["goal"] or ""
        if not row["kept"]:
            promised += ", missed"
        told.append(
            f"| {row['name']} | {row['measured']}: {_figure(row['value'], row['unit'])} "
            f"| {row['beside']}: {_figure(row['beside_value'], row['unit'])} "
            f"| {row['ratio']:.2f} | {promised} |"
        )
    return "\n".join(told) + "\n"


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"
