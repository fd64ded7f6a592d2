"""Every benchmark in one run: a table for people, JSON for comparing, and docs/performance.md from the JSON.

    scripts/bench [--quick] [--json FILE] [--write] [--from FILE] [ROW …]

ROW is a word of the names of the rows that are wanted. With --write the page of the documentation is written
from the figures of this run, or of the one that --from names. The exit status is 1 where a promise is not
kept.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import crew, day, inside, page, transports
from benchmarks.growth import GROWTH
from benchmarks.rows import Row, machine
from benchmarks.wire import ROOT

Bench = Callable[[Path, bool], Awaitable[list[Row]]]

BENCHES: dict[str, Bench] = {
    "stdio": transports.stdio,
    "http": transports.http,
    "grouping": inside.grouping,
    "wake-up": transports.waking,
    "start": transports.start,
    "idle": transports.idle,
    "hooks": transports.hooks,
    "tokens": inside.knowing,
    "day": day.results,
    "servers": crew.servers,
    "size": crew.size,
    **GROWTH,
}


async def measured(wanted: list[str], quick: bool) -> list[Row]:
    rows: list[Row] = []
    for name in wanted:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "repo"
            folder.mkdir()
            if (git := shutil.which("git")) is not None:
                subprocess.run([git, "init", "--quiet"], cwd=folder, check=True)
            async with inside.board(folder):
                pass
            for row in await BENCHES[name](folder, quick):
                print(page.line(row), flush=True)
                rows.append(row)
        print(f"  {name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return rows


def figured(told: argparse.Namespace) -> dict[str, Any]:
    """The figures of a run, as JSON holds them."""
    rows = asyncio.run(measured(told.rows or list(BENCHES), told.quick))
    return {
        "machine": machine(),
        "quick": told.quick,
        "rows": [asdict(row) | {"kept": row.kept} for row in rows],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="measure nothing: read figures"
    )
    told = parser.parse_args()
    if unknown := set(told.rows) - BENCHES.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    figures = json.loads(told.source.read_text()) if told.source is not None else figured(told)
    if told.json is not None:
        told.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if told.write:
        page.write(figures, ROOT / "docs")
    return int(not all(row["kept"] for row in figures["rows"]))


if __name__ == "__main__":
    sys.exit(main())
