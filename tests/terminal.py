"""A person at a terminal: a command that is run on a pseudo-terminal, and what is typed there."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SERVER = Path(__file__).resolve().parents[1] / "server"


@dataclass(frozen=True)
class Session:
    """What the terminal showed, and how the command ended."""

    said: str
    code: int


def run(typed: str | Sequence[str | Callable[[], str]], *arguments: str) -> Session:
    """Run a command of callboard in the present folder, as a person who types this: at once, or one line at
    each question, as a passphrase that is typed ahead is not taken."""
    master, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "callboard", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"PYTHONPATH": str(SERVER)},
        start_new_session=True,
        # The terminal that a passphrase is read from is this one, not that of whoever runs the tests.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    lines = [] if isinstance(typed, str) else list(typed)
    if isinstance(typed, str):
        os.write(master, typed.encode())
    said = b""
    # A terminal whose other end is closed reads as an input error.
    with suppress(OSError):
        while chunk := os.read(master, 4096):
            said += chunk
            if lines and said.endswith(b": "):
                line = lines.pop(0)
                os.write(master, f"{line if isinstance(line, str) else line()}\n".encode())
    os.close(master)
    return Session(said.decode(), child.wait(60))
