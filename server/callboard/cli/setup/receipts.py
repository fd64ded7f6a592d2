"""What init has put in, remembered until uninstall takes it out.

One folder for each file that was changed, outside every repository: a fresh clone or a cleaned working tree
loses nothing. It holds what was put in and the file as it was before, so that taking out is going back to the
very bytes as long as nobody else has touched the file, and an edit otherwise.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from callboard.cli.setup import edits
from callboard.cli.setup.clients import Scope
from callboard.cli.setup.edits import Edit, Format
from callboard.cli.setup.files import Change

VERSION = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was put into one file."""

    path: Path
    """The file, with every symbolic link resolved."""
    repository: Path
    """The worktree that init ran in."""
    scope: Scope
    form: Format
    edits: tuple[Edit, ...]
    original: bytes | None
    """The file before; None if there was none."""
    after: str
    """SHA-256 of the file as init left it."""
    folders: tuple[Path, ...] = ()
    """Folders that were made for the file, the deepest first."""

    def without(self, data: bytes | None) -> bytes | None:
        """The file's bytes without what was put in. Raises Broken."""
        if data is None or data == self.original or digest(data) == self.after:
            return self.original if data is not None else None
        left = edits.undo(data, self.form, self.edits, self.original)
        return None if self.original is None and edits.says_nothing(left, self.form) else left

    def was_touched(self, data: bytes | None) -> bool:
        """Whether others have changed the file since."""
        return data is not None and data != self.original and digest(data) != self.after


class Receipts:
    """The receipts of one person on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, home: Path, environment: Mapping[str, str]) -> "Receipts":
        """Those in the folder for state of the XDG base directories."""
        given = environment.get("XDG_STATE_HOME", "")
        state = Path(given) if Path(given).is_absolute() else home / ".local" / "state"
        return cls(state / "callboard" / "setup")

    def find(self, path: Path) -> Receipt | None:
        """The receipt of a file."""
        folder = self._folder_of(path)
        try:
            told = json.loads((folder / "receipt.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Receipt(
            path=Path(told["path"]),
            repository=Path(told["repository"]),
            scope=told["scope"],
            form=told["form"],
            edits=tuple(map(edits.from_data, told["edits"])),
            original=(folder / "original").read_bytes() if told["existed"] else None,
            after=told["after"],
            folders=tuple(map(Path, told["folders"])),
        )

    def all(self) -> Iterator[Receipt]:
        """Every receipt, in the order of the files' paths."""
        paths = []
        for file in self.folder.glob("*/receipt.json"):
            paths.append(Path(json.loads(file.read_text(encoding="utf-8"))["path"]))
        for path in sorted(paths):
            if (receipt := self.find(path)) is not None:
                yield receipt

    def keep(self, receipt: Receipt) -> None:
        """Remember a receipt in the place of the file's earlier one. What the files hold may be secret, so
        only their owner reads it."""
        folder = self._folder_of(receipt.path)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        told = {
            "version": VERSION,
            "path": str(receipt.path),
            "repository": str(receipt.repository),
            "scope": receipt.scope,
            "form": receipt.form,
            "existed": receipt.original is not None,
            "edits": [edits.as_data(edit) for edit in receipt.edits],
            "after": receipt.after,
            "folders": [str(made) for made in receipt.folders],
        }
        self._write(folder / "original", receipt.original)
        self._write(folder / "receipt.json", json.dumps(told, indent=2).encode())

    def drop(self, receipt: Receipt) -> None:
        """Forget a receipt, and the folders that were made to hold it once they are empty."""
        shutil.rmtree(self._folder_of(receipt.path))
        remove_empty([self.folder, self.folder.parent])

    # Git's hooks keep what they replace beside themselves; all there is to remember is who put them in.

    def keep_guard(self, worktree: Path) -> None:
        """Remember that init has put the guard into a repository's git hooks."""
        self._guard_of(worktree).parent.mkdir(parents=True, exist_ok=True)
        self._guard_of(worktree).touch()

    def has_guard(self, worktree: Path) -> bool:
        """Whether it has."""
        return self._guard_of(worktree).exists()

    def drop_guard(self, worktree: Path) -> None:
        """Forget it."""
        self._guard_of(worktree).unlink()
        remove_empty([self._folder_of(worktree), self.folder, self.folder.parent])

    def _guard_of(self, worktree: Path) -> Path:
        return self._folder_of(worktree) / "guard"

    def _folder_of(self, path: Path) -> Path:
        return self.folder / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]

    @staticmethod
    def _write(path: Path, data: bytes | None) -> None:
        if data is not None:
            Change(path, path.read_bytes() if path.exists() else None, data).carry_out()
            path.chmod(0o600)


def merged(earlier: Receipt | None, new: Receipt) -> Receipt:
    """A new receipt that also stands for what an earlier one put in and this one does not name."""
    if earlier is None:
        return new
    changed = {edit.name: edit for edit in new.edits}
    kept = tuple(changed.pop(edit.name, edit) for edit in earlier.edits)
    folders = (*earlier.folders, *new.folders)
    return replace(new, edits=(*kept, *changed.values()), folders=folders)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def remove_empty(folders: list[Path]) -> None:
    """Remove the folders that are empty, in this order."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
