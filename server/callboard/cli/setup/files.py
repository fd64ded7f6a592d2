"""Files as they are found, shown, and replaced whole."""

import difflib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from callboard.cli.setup.jsonc import Broken

_SECRET = re.compile(
    r"""("[^"]*(?:token|key|secret|password|credential|authorization)[^"]*"\s*:\s*|
        \b[\w-]*(?:token|key|secret|password|credential)[\w-]*\s*=\s*)
        "(?!\$|Bearer\ \$|CALLBOARD_TOKEN")[^"]*" """.rstrip(" "),
    re.VERBOSE | re.IGNORECASE,
)
_OWN_TOKEN = re.compile(r"\bcb1\.[\w.-]+")


@dataclass(frozen=True, slots=True)
class Change:
    """A file as it is and as it shall be; None stands for no file."""

    path: Path
    before: bytes | None
    after: bytes | None

    @property
    def is_none(self) -> bool:
        return self.before == self.after

    def shown(self) -> Iterator[str]:
        """The lines that come and go, for a person at a terminal.

        What stays is not shown, not even as context, and values that look like secrets are not either:
        clients keep the keys of other servers in the same files.
        """
        old, new = (_lines(data) for data in (self.before, self.after))
        for _, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            gone, come = old[i1:i2], new[j1:j2]
            if gone == come:
                continue
            # A line that only gets or loses its comma.
            while gone and come and gone[0].rstrip(", ") == come[0].rstrip(", "):
                gone, come = gone[1:], come[1:]
            if len(gone) == len(come) == 1:
                gone, come = _middles(gone[0], come[0])
            yield from (f"- {masked(line)}" for line in gone)
            yield from (f"+ {masked(line)}" for line in come)

    def carry_out(self) -> list[Path]:
        """Replace the file, in one step and with its permissions; the folders that had to be made for it, the
        deepest first.

        Raises Broken if it is no longer as it was found, and OSError.
        """
        if read(self.path) != self.before:
            raise Broken("it was changed by somebody else meanwhile")
        if self.after is None:
            self.path.unlink()
            return []
        made = _make_folders(self.path.parent)
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.after)
                file.flush()
                os.fsync(file.fileno())
            mode = self.path.stat().st_mode & 0o7777 if self.before is not None else 0o666 & ~_umask()
            Path(temporary).chmod(mode)
            Path(temporary).replace(self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return made


def read(path: Path) -> bytes | None:
    """A file's bytes; None if there is none. Raises Broken for what is no file, and OSError."""
    try:
        if not path.is_file() and path.exists():
            raise Broken("it is not a file")
        return path.read_bytes()
    except FileNotFoundError:
        return None


def real(path: Path) -> Path:
    """Where a path leads through symbolic links, so that a link stays one and its target is edited."""
    return Path(os.path.realpath(path))


def _make_folders(folder: Path) -> list[Path]:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir()
    return missing


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _lines(data: bytes | None) -> list[str]:
    return [] if data is None else data.decode("utf-8", errors="replace").splitlines()


def _middles(old: str, new: str) -> tuple[list[str], list[str]]:
    """What two lines do not begin and end with alike; the rest is somebody else's."""
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    parts = [(line, line[head : len(line) - tail]) for line in (old, new)]
    gone, come = ([f"…{middle}…" if middle != line else middle] * bool(middle) for line, middle in parts)
    return gone, come


def _alike(one: str, other: str) -> int:
    """With how many equal characters two texts begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def masked(line: str) -> str:
    """A line without the values in it that look like secrets."""
    return _OWN_TOKEN.sub("…", _SECRET.sub(r'\1"…"', line))
