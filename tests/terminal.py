"""A person at a terminal: a command that is run on a pseudo-terminal, and what is typed there."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SERVER = Path(__file__).resolve().parents[1] / "server"


@dataclass(frozen=True)
class Session:
    """What the terminal showed, and how the command ended."""

    said: str
    code: int


def run(typed: str, *arguments: str) -> Session:
    """Run a command of callboard in the present folder, as a person who types this."""
    master, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "callboard", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"PYTHONPATH": str(SERVER)},
    )
    os.close(terminal)
    os.write(master, typed.encode())
    said = b""
    # A terminal whose other end is closed reads as an input error.
    with suppress(OSError):
        while chunk := os.read(master, 4096):
            said += chunk
    os.close(master)
    return Session(said.decode(), child.wait(60))
