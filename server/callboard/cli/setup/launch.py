"""The command with which a client starts the server, and why it is that one."""

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Launch:
    """How callboard is started on this machine."""

    words: tuple[str, ...]
    """The words of a command that any shell of this user understands."""
    absolute: tuple[str, ...]
    """The same for a program that was not started from a shell and has another PATH."""
    why: str

    def line(self, *arguments: str, absolute: bool = False) -> str:
        """A command line for a shell."""
        return shlex.join((*(self.absolute if absolute else self.words), *arguments))


def find(path: str | None = None) -> Launch:
    """How to start what is running now: by its name where PATH has it, else by its interpreter. `path`
    stands for the environment's PATH."""
    program = shutil.which("callboard", path=path)
    if program is None:
        words = (sys.executable, "-m", "callboard")
        why = "callboard is not on PATH, so files that others share name this machine's interpreter too"
        return Launch(words, words, why)
    why = f"callboard is on PATH, at {program}"
    if sys.prefix != sys.base_prefix and Path(program).is_relative_to(sys.prefix):
        why += ", in a virtual environment: start the clients where it is active"
    return Launch(("callboard",), (program,), why)
