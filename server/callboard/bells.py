"""Bells: how a process that has committed wakes those that wait, without their looking for it all the time.

A process that somebody waits in has a bell, a named pipe in a folder beside the store, and whoever commits
puts a byte into each. A bell says that there is something to read, and nothing else: it may be full, be rung
for nothing, or not be heard, so who waits looks at the store itself now and then as well. Nothing is ever
kept in it, and what a killed process leaves is removed by the next that rings.
"""

import asyncio
import errno
import logging
import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

import anyio

LOOK_SECONDS = 0.050
"""How often who waits looks beside its bell, as a process may be killed between its commit and ringing."""

DEAF_SECONDS = 0.010
"""The same where no bell can be hung: 6 ms late at the median for 1.6 % of a core, measured."""

BREATH_SECONDS = 0.002
"""After a ring: what is committed meanwhile is looked at together."""

ATTEMPTS = 3
"""How often a bell is hung whose folder is deleted meanwhile, as the last to leave does."""

_NAME = re.compile(r"[0-9A-Za-z_-]+")
_ROOM = 1 << 16

log = logging.getLogger(__name__)


def folder_of(store: Path) -> Path:
    """Where the bells of a store's processes are, while there are any."""
    return store.with_name(store.name + "-bells")


class Bell:
    """The bell of this process, which is hung when somebody waits for the first time."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._ends: list[int] = []
        self._was_hung = False
        self._has_rung = False
        self._rung = anyio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self) -> None:
        """Return when somebody has rung since this returned last, or when it is time to look all the same.
        Each ring wakes the loop from then on, until `ignore`."""
        if not self._was_hung:
            self._was_hung = True
            self._hang()
            return  # what was committed before did not ring it
        if not self._ends:
            await anyio.sleep(DEAF_SECONDS)
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._ends[0], self._hear)
        if self._has_rung:
            await anyio.sleep(BREATH_SECONDS)
        with anyio.move_on_after(LOOK_SECONDS):
            await self._rung.wait()
        self._has_rung = self._rung.is_set()
        if self._has_rung:
            self._rung = anyio.Event()
        elif not self._path.exists():  # somebody has deleted it: hang another
            self._let_go()
            self._was_hung = False

    def ignore(self) -> None:
        """Sleep through the rings until `wait` is called again, which hears of them."""
        if self._loop is not None:
            self._loop.remove_reader(self._ends[0])
            self._loop = None

    def close(self) -> None:
        if self._ends:
            _take_down(self._path)
        self._let_go()

    def _hang(self) -> None:
        """Make the pipe, where the system and the file system have such."""
        if sys.platform == "win32":
            return
        for _ in range(ATTEMPTS):
            try:
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                if not _is_ours(self._path.parent):
                    break
                os.mkfifo(self._path, 0o600)
                # Its own other end keeps it from being at its end when nobody rings.
                for end in (os.O_RDONLY, os.O_WRONLY):
                    self._ends.append(os.open(self._path, end | os.O_NONBLOCK | os.O_NOFOLLOW))
                return
            except (FileNotFoundError, FileExistsError):  # taken down meanwhile: the folder, or the bell
                self._let_go()
            except OSError:
                self._let_go()
                _take_down(self._path)
                log.info("no bell could be hung, so other processes' commits are looked for", exc_info=True)
                return
        log.info("no bell was hung, so other processes' commits are looked for")

    def _let_go(self) -> None:
        self.ignore()
        while self._ends:
            os.close(self._ends.pop())

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._ends[0], _ROOM)
        self._rung.set()


class Bells:
    """The bells of the other processes, as one process rings them."""

    def __init__(self, folder: Path, own: str) -> None:
        self._folder = folder
        self._own = own
        self._open: dict[str, int] = {}
        self._closed = False

    def ring(self) -> None:
        """Ring each, without waiting for any. Nothing of it is an error of who has committed."""
        if self._closed:
            return
        try:
            there = {path.name for path in self._folder.iterdir()}
        except OSError:  # most often there is none, as nobody waits
            there = set()
        for name in self._open.keys() - there:
            self._let_go(name)
        for name in there:
            if name != self._own and _NAME.fullmatch(name):
                self._ring(name)

    def close(self) -> None:
        self._closed = True
        for name in tuple(self._open):
            self._let_go(name)

    def _ring(self, name: str) -> None:
        path = self._folder / name
        try:
            if name not in self._open:
                if not stat.S_ISFIFO(path.lstat().st_mode) or not _is_ours(self._folder):
                    return
                self._open[name] = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            os.write(self._open[name], b"\0")
        except OSError as error:  # also when it is full, and so rings already
            self._let_go(name)
            if error.errno in (errno.ENXIO, errno.EPIPE):  # nobody hears it: its process was killed
                _take_down(path)

    def _let_go(self, name: str) -> None:
        if (end := self._open.pop(name, None)) is not None:
            with suppress(OSError):
                os.close(end)


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can put into it what we would then open."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _take_down(bell: Path) -> None:
    with suppress(OSError):
        bell.unlink()
    with suppress(OSError):
        bell.parent.rmdir()  # of the last one
