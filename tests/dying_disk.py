"""A disk that is written to so many times and then no more: the file system below SQLite, cut off."""

# ruff: noqa: N802 - the methods have the names that apsw calls

import os
import signal

import apsw


class Cut(apsw.VFS):
    """A machine that dies at the n-th write, sync, truncation or deletion: nothing after it happens.

    It takes the default's place, so the product opens its files through it and is none the wiser. With
    `kill`, it is this process that dies, at once.
    """

    def __init__(self, last: int | None, *, kill: bool = False) -> None:
        self.last = last
        self.kill = kill
        self.operations = 0
        super().__init__("cut", "unix", makedefault=True)

    def spend(self) -> None:
        self.operations += 1
        if self.last is not None and self.operations > self.last:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise apsw.IOError("the machine is dead")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return CutFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.spend()
        super().xDelete(filename, syncdir)


class CutFile(apsw.VFSFile):
    def __init__(self, machine: Cut, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.machine = machine
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.machine.spend()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self.machine.spend()
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        self.machine.spend()
        super().xTruncate(newsize)
