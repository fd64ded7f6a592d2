"""A terminal with a program on it: what the screen shows, the keys that are pressed, how it is left."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.terminal import SERVER

PATIENCE_SECONDS = 30
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOME = "\x1b[H"


class Screen:
    """A pseudo-terminal on which one command of callboard runs, which draws from the top each time."""

    def __init__(self, master: int, terminal: int, child: subprocess.Popen[bytes]) -> None:
        self._master = master
        self._terminal = terminal
        self.child = child
        self.sent = ""

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        _resize(self._terminal, columns, lines)

    def until(self, *texts: str) -> str:
        """The first picture from now on that shows all of these."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not all(text in self.picture for text in texts):
            self._read(end, f"{texts} in:\n{self.picture}")
        return self.picture

    def ended(self) -> int:
        """The command's exit code, once it has ended."""
        code = self.child.wait(PATIENCE_SECONDS)
        while select.select([self._master], [], [], 0)[0]:
            self.sent += os.read(self._master, 65_536).decode()
        return code

    @property
    def picture(self) -> str:
        """What the screen shows, without its colours."""
        return SEQUENCE.sub("", self.sent.rpartition(HOME)[2])

    @property
    def modes(self) -> list[Any]:
        """How the terminal is set."""
        return termios.tcgetattr(self._terminal)

    def _read(self, end: float, wanted: str) -> None:
        left = end - time.monotonic()
        if left <= 0 or not select.select([self._master], [], [], left)[0]:
            raise AssertionError(f"The screen never showed {wanted}")
        self.sent += os.read(self._master, 65_536).decode(errors="replace")


@contextmanager
def screen(
    *arguments: str, columns: int = 160, lines: int = 40, environment: Mapping[str, str] | None = None
) -> Iterator[Screen]:
    """A command on a screen of this size, until the block ends."""
    master, terminal = pty.openpty()
    _resize(terminal, columns, lines)
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "callboard", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=inherited | {"PYTHONPATH": str(SERVER), "TERM": "xterm"} | dict(environment or {}),
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    try:
        yield Screen(master, terminal, child)
    finally:
        child.kill()
        child.wait()
        os.close(master)
        os.close(terminal)


def _take_terminal() -> None:
    """The terminal is the command's own, so that ctrl-c reaches it and news of the terminal's size."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _resize(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
