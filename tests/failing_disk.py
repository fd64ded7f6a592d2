"""A disk that fails on demand: the file system below SQLite, of which single steps can be made to fail.

It takes the default's place, so the product opens its files through it and is none the wiser.
"""

# ruff: noqa: N802 - the methods have the names that apsw calls

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import apsw

Step = Literal["read", "write", "sync"]


class FailingDisk(apsw.VFS):
    """The default file system of this process, of which single steps can be made to fail."""

    def __init__(self) -> None:
        self.steps = 0
        self.syncs: list[str] = []
        self._fails: Callable[[Step, str], bool] = lambda step, file: False
        self._error: type[apsw.Error] = apsw.IOError
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    @contextmanager
    def failing(
        self, when: Callable[[Step, str], bool], error: type[apsw.Error] = apsw.IOError
    ) -> Iterator[None]:
        """Let steps fail; `when` is asked with the step and the kind of file: `db`, `wal` or another."""
        self.steps = 0
        self._error = error
        self._fails = when
        try:
            yield
        finally:
            self._fails = lambda step, file: False

    def step(self, step: Step, file: str) -> None:
        self.steps += 1
        if step == "sync":
            self.syncs.append(file)
        if self._fails(step, file):
            raise self._error("made to fail")


class _File(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self._kind = "wal" if path.endswith("-wal") else "db" if path.endswith(".db") else "other"
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.step("read", self._kind)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.step("write", self._kind)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.step("sync", self._kind)
        super().xSync(flags)
