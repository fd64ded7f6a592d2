"""The whole product at work under an audit hook that names whatever it reaches for.

`python -m tests.reliability.reaching FOLDER` prints one line for each process that was started, each
connection that was opened to somewhere else, each file that was changed outside FOLDER, and each of the
store's own files that was opened by anybody but SQLite; then "done", with how many tools were called.
"""

import os
import sys
from pathlib import Path
from typing import Any

import anyio

from callboard.board import Config, open_board
from tests.conftest import Board, Counted, TurnedClock
from tests.filling import READS, fill, read
from tests.undoing import undo

STARTS = frozenset(
    [
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.forkpty",
        "pty.spawn",
    ]
)
CONNECTS = frozenset({"socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"})
CHANGES = frozenset({"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def of_the_store(path: Any) -> bool:
    """Whether an ordinary file call on a path would cost this process SQLite's locks."""
    return Path(os.fsdecode(path)).name.startswith("board.db")


def watch(folder: Path, found: list[str]) -> None:
    """Note from now on what this process does beyond `folder`."""

    def inside(path: Any) -> bool:
        if isinstance(path, int):
            return True  # a descriptor: opened by somebody before
        return Path(os.fsdecode(path)).absolute().is_relative_to(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTS or event in CONNECTS:
            found.append(f"{event} {arguments!r}")
        elif event == "open" and not isinstance(arguments[0], int) and of_the_store(arguments[0]):
            found.append(f"open of the store {arguments!r}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            if not inside(arguments[0]):
                found.append(f"open {arguments!r}")
        elif event in CHANGES and not inside(arguments[0]):
            found.append(f"{event} {arguments!r}")

    sys.addaudithook(hook)


async def work(folder: Path) -> int:
    """Call every tool at least once, on a store in `folder`."""
    repository = folder / "repo"
    repository.mkdir()
    called: set[str] = set()

    class Counting(Board):
        async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
            called.add(tool)
            return await super().call(tool, **arguments)

    config = Config(folder=repository, db=folder / "board.db", transport="http")
    clock = TurnedClock()
    async with open_board(config, clock=clock, ids=Counted()) as opened:
        filled = await fill(
            Counting(Board(opened, clock, repository).opened, clock, repository), lambda text, who: who
        )
        for tool in READS:
            await read(filled, tool)
        await undo(filled)
    return len(called)


def main() -> None:
    """Work under the hook, and tell."""
    folder = Path(sys.argv[1]).resolve()
    found: list[str] = []

    async def watched() -> int:
        watch(folder, found)
        return await work(folder)

    number = anyio.run(watched)
    for line in [*found, f"done {number}"]:
        print(line)


if __name__ == "__main__":
    main()
