"""A disk that loses power: every write is noted, and any moment can be made again as a disk might hold it.

What a file held at its last sync is on the disk. Each write after that survives by chance, and the sectors
of one that was under way survive one by one. A file system that keeps its metadata in order makes files
appear, disappear and shrink in the order in which that was asked for; one that does not, by chance.

The method is that of SQLite's own crash tests (https://sqlite.org/testing.html, "Crash Testing").
"""

# ruff: noqa: N802 - the methods have the names that apsw calls

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import apsw

SECTOR = 512

Kind = Literal["create", "write", "truncate", "sync", "delete"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was asked of the disk."""

    kind: Kind
    file: str
    """The file's name without its folder."""
    offset: int = 0
    """Where a write begins; the size that a file is cut to."""
    data: bytes = b""


class LosingDisk(apsw.VFS):
    """The default file system of this process, which notes what is asked of it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        super().__init__("losing", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "")
        new = not path.exists()
        opened = _File(self, path.name, name, flags)
        if new:
            self.steps.append(Step("create", path.name))
        return opened

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.steps.append(Step("delete", Path(filename).name))
        if syncdir:
            self.steps.append(Step("sync", Path(filename).name))


class _File(apsw.VFSFile):
    def __init__(
        self, disk: LosingDisk, file: str, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self._disk = disk
        self._file = file
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._disk.steps.append(Step("write", self._file, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._disk.steps.append(Step("truncate", self._file, newsize))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._disk.steps.append(Step("sync", self._file))


@dataclass(slots=True)
class _Held:
    """A file as the disk holds it: what is sure, and what was asked for since its last sync."""

    content: bytearray | None = None
    pending: list[Step] = field(default_factory=list)

    def settle(self) -> None:
        for step in self.pending:
            self.content = _done(self.content, step)
        self.pending.clear()


def images(
    steps: list[Step], cuts: list[int], chance: random.Random, *, ordered: bool
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """What a disk may hold whose power fails after so many steps, for each of the rising `cuts`: the files
    by name. With `ordered` metadata, a file's creation, removal and shrinking happen in order."""
    files: dict[str, _Held] = {}
    done = 0
    for cut in cuts:
        for step in steps[done:cut]:
            held = files.setdefault(step.file, _Held())
            held.pending.append(step)
            if step.kind == "sync":
                held.settle()
        done = cut
        yield cut, dict(_survivors(files, chance, ordered=ordered))


def _survivors(
    files: dict[str, _Held], chance: random.Random, *, ordered: bool
) -> Iterator[tuple[str, bytes]]:
    for name, held in files.items():
        content = None if held.content is None else bytearray(held.content)
        kept = chance.choice((0.0, 0.5, 0.9, 1.0))
        # Ordered: all that concerns the directory and the size, up to some point, and nothing after it.
        shapes = [step for step in held.pending if step.kind in ("create", "delete", "truncate")]
        upto = chance.randint(0, len(shapes)) if ordered else len(shapes)
        seen = 0
        for step in held.pending:
            if step.kind in ("create", "delete", "truncate"):
                seen += 1
                if seen > upto:
                    break
                if not ordered and chance.random() >= kept:
                    continue
                content = _done(content, step)
            elif step.kind == "write" and content is not None and chance.random() < kept:
                content = _done(content, step) if chance.random() < 0.9 else _torn(content, step, chance)
        if content is not None:
            yield name, bytes(content)


def _done(content: bytearray | None, step: Step) -> bytearray | None:
    match step.kind:
        case "create":
            return bytearray() if content is None else content
        case "delete":
            return None
        case "truncate" if content is not None:
            del content[step.offset :]
            content.extend(bytes(step.offset - len(content)))
        case "write":
            content = bytearray() if content is None else content
            content.extend(bytes(max(0, step.offset - len(content))))
            content[step.offset : step.offset + len(step.data)] = step.data
    return content


def _torn(content: bytearray, step: Step, chance: random.Random) -> bytearray | None:
    """A write of which only some sectors reached the disk."""
    held: bytearray | None = content
    for start in range(0, len(step.data), SECTOR):
        if chance.random() < 0.5:
            part = step.data[start : start + SECTOR]
            held = _done(held, Step("write", step.file, step.offset + start, part))
    return held
