"""The repository the server stands in, and the one name a path in it has.

Its one idea: a lock is only as good as the name it is taken under, so every spelling of a file (`./a`,
`a//b`, absolute, through a symbolic link, from a linked worktree) leads to one canonical name, here and
nowhere else.

Nothing here starts a process or opens a file that a crew works on: names are found with lstat and
readlink, and of git only the small text files behind `.git` are read (their form: gitrepository-layout(5)).
"""

import contextlib
import os
import re
import stat
import unicodedata
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from callboard import globs

_SLUG_LENGTH = 40
_NAME_LENGTH = 100
# No system call takes a longer one; and composing Unicode takes time quadratic in the length.
_PATH_MAX = 4096


class Repository(NamedTuple):
    """A repository and the worktree of it that the server stands in.

    Every worktree of a repository has the same `root`, and with it the same project and the same store.
    """

    root: Path
    """Canonical root of the main worktree: where the store lies."""
    worktree: Path
    """Canonical root of the worktree that relative names belong to; usually `root` itself."""
    name: str
    """The folder's name, for people."""
    folds_case: bool
    """True where the file system takes `README` and `readme` for one file."""
    known_as: str | None = None
    """The id of the project that works in it, once a store has told."""

    @classmethod
    def find(cls, start: Path) -> "Repository":
        """Return the repository that holds the folder `start`; without one, the folder itself.

        A submodule is its own repository. The worktrees of a bare repository that no folder's `.git`
        leads to have no main worktree, so each is its own.

        Raises ValueError, in a sentence for the person at the terminal, when `start` is not a folder or a
        `.git` file on the way up leads nowhere.
        """
        start = Path(os.path.realpath(start))
        try:
            if not start.is_dir():
                raise ValueError(f"{start} is not a folder.")
            worktree, root = _enclosing(start)
        except OSError as error:
            raise ValueError(f"{error.filename} cannot be read: {error.strerror}.") from error
        folds_case = _folds_case(root)
        return cls(
            root=root,
            worktree=worktree,
            name=_printable(root.name) or "project",
            folds_case=folds_case,
        )

    @property
    def project_id(self) -> str:
        """What a store knows it as; before that, slug of the folder's name and six hexadecimal digits of the
        canonical root's SHA-256."""
        return self.known_as or _project_id(self.root, self.folds_case)

    @property
    def store(self) -> Path:
        """Where the store lies, unless another place is named."""
        return self.root / ".callboard" / "board.db"

    def spell(self, text: str) -> str:
        """Return the canonical name of a path or pattern, relative to the repository's root.

        Two texts that mean the same file give the same name: an absolute path inside the root or the
        worktree loses that prefix, also when it comes through a symbolic link; the leading segments without
        a wildcard are resolved through links that stay inside; what does not exist is kept as written, and
        so are a link that leads outside and one that leads in a circle. Where the file system folds case,
        so does the name. `~` is an ordinary character.

        Raises globs.InvalidPattern for what `globs.normalise` refuses and for an absolute path outside the
        repository. Never raises OSError: what cannot be looked up keeps its text.
        """
        slashed = text.replace("\\", "/")
        base, relative = self._anchor(slashed) if slashed.startswith("/") else (self.worktree, slashed)
        pattern = globs.normalise(relative)
        try:
            name = globs.normalise(self._resolve(base, pattern))
        except globs.InvalidPattern:
            # A link may lead to a folder whose name no pattern can hold; then the link keeps its own.
            name = pattern
        return globs.normalise(self._fold(name)) if self.folds_case else name

    def is_folder(self, name: str) -> bool:
        """Say whether a canonical name is that of a folder that is there now."""
        return os.path.isdir(f"{self.worktree}/{name}")  # noqa: PTH112  # a Path costs five times the look

    def worktrees(self) -> list[Path]:
        """Return the canonical roots of all worktrees that are there, the main one first. Never raises: what
        cannot be read is left out."""
        found = dict.fromkeys((self.root, self.worktree))
        for link in (self.root / ".git" / "worktrees").glob("*/gitdir"):
            with suppress(OSError, ValueError):
                folder = Path(os.path.realpath((link.parent / _read_line(link)).parent))
                if folder.is_dir():
                    found[folder] = None
        return list(found)

    def _anchor(self, absolute: str) -> tuple[Path, str]:
        """Split an absolute path into the root or worktree that holds it and the rest."""
        if len(absolute) > _PATH_MAX:
            raise globs.InvalidPattern(f"An absolute path may not be longer than {_PATH_MAX} characters.")
        parts: list[str] = []
        for segment in absolute.split("/"):
            # `..` behind a wildcard stays, for globs.normalise to refuse: no text says what it leads to.
            if segment == ".." and not any("*" in part or "?" in part for part in parts):
                del parts[-1:]
            elif segment not in ("", "."):
                parts.append(segment)
        home = self._home("/" + "/".join(parts))
        if home is not None:
            base, inner = home
            return base, "/".join(inner) or "."
        here: str | None = ""
        for taken, segment in enumerate(parts, start=1):
            here = _follow(f"{here}/{segment}")
            if here is None:
                break
            home = self._home(here)
            if home is not None:
                base, inner = home
                return base, "/".join((*inner, *parts[taken:])) or "."
        raise globs.InvalidPattern("The path is absolute and lies outside the repository.")

    def _resolve(self, base: Path, pattern: str) -> str:
        """Resolve the leading literal segments of a normalised pattern as far as links stay inside."""
        segments = pattern.split("/")
        literal = globs.literal_prefix(pattern)
        name: tuple[str, ...] = ()
        taken = 0
        here: str | None = str(base).rstrip("/")
        for count, segment in enumerate(literal.split("/") if literal else (), start=1):
            here = _follow(f"{here}/{segment}")
            if here is None:
                break
            # A link may lead out and a later one back in: the deepest point inside gives the name.
            home = self._home(here)
            if home is not None:
                name, taken = home[1], count
        return "/".join((*name, *segments[taken:])) or "."

    def _home(self, path: str) -> tuple[Path, tuple[str, ...]] | None:
        """Return which of worktree and root holds an absolute path, and the segments below it.

        A worktree may lie in the root, and its files are then named from the worktree: the longer one wins.
        """
        for base, start in _bases(self.worktree, self.root):
            if path.startswith(start):
                return base, tuple(path[len(start) :].split("/"))
            if self.folds_case or not (path.isascii() and start.isascii()) or len(path) < len(start):
                parts, depth = Path(path).parts, len(base.parts)
                if len(parts) >= depth and all(map(self._same, parts, base.parts)):
                    return base, parts[depth:]
        return None

    def _same(self, one: str, other: str) -> bool:
        """Tell whether two names are one to the file system."""
        return one == other or self._fold(one) == self._fold(other)

    def _fold(self, text: str) -> str:
        """Return `text` composed (NFC), and where the file system folds case, in its caseless form."""
        composed = unicodedata.normalize("NFC", text)
        return composed.casefold() if self.folds_case else composed


@lru_cache(maxsize=64)
def _bases(worktree: Path, root: Path) -> tuple[tuple[Path, str], ...]:
    """The two with what the paths below them begin with, the longer one first."""
    longest_first = sorted({worktree, root}, key=lambda base: len(base.parts), reverse=True)
    return tuple((base, f"{str(base).rstrip('/')}/") for base in longest_first)


def _follow(path: str) -> str | None:
    """Return where `path`, whose parent is canonical, leads; None if it is not there, hidden or a circle."""
    try:
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            return path
        # realpath says nothing of a circle; and a target that is yet to be made has its name already.
        with contextlib.suppress(FileNotFoundError):
            Path(path).stat()
        return os.path.realpath(path)
    except (OSError, ValueError):  # ValueError: text that no file name can hold, such as a lone surrogate
        return None


def _enclosing(start: Path) -> tuple[Path, Path]:
    """Return the root of the worktree that holds `start`, and of its repository's main worktree."""
    for folder in (start, *start.parents):
        git_dir = _git_dir(folder)
        if git_dir is not None:
            return folder, _main_worktree(folder, git_dir)
    return start, start


def _git_dir(folder: Path) -> Path | None:
    """Return the canonical git directory that the folder's `.git` is or names; None if it has none."""
    entry = folder / ".git"
    try:
        kind = entry.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(kind):
        return Path(os.path.realpath(entry))
    label, _, target = _read_line(entry).partition(": ")
    if label != "gitdir" or not target:
        raise ValueError(f"{entry} is not a git file: it should read 'gitdir: <folder>'.")
    git_dir = Path(os.path.realpath(folder / target))
    if not git_dir.is_dir():
        raise ValueError(
            f"{entry} leads to {git_dir}, which is not there. If the repository was moved, run"
            " 'git worktree repair' in it; if it is gone, remove this file."
        )
    return git_dir


def _main_worktree(worktree: Path, git_dir: Path) -> Path:
    """Return the root of the main worktree of the repository whose git directory for `worktree` is given."""
    link = git_dir / "commondir"
    if not link.is_file():
        return worktree
    common = Path(os.path.realpath(git_dir / _read_line(link)))
    if not common.is_dir():
        raise ValueError(f"{link} leads to {common}, which is not there.")
    # Holds for an ordinary repository, and for a folder whose `.git` file names the bare one inside it.
    return common.parent if _git_dir(common.parent) == common else worktree


def _read_line(file: Path) -> str:
    """Return the text of a one-line git file; ValueError if it is nothing of the kind."""
    if not file.is_file():
        raise ValueError(f"{file} is neither a folder nor a file.")
    text = os.fsdecode(file.read_bytes())
    if "\0" in text:
        raise ValueError(f"{file} is not a text file.")
    return text.rstrip("\r\n")


def _folds_case(root: Path) -> bool:
    """Tell whether the file system at `root` takes names that differ only in case for one."""
    for entry in (root / ".git", root):
        swapped = entry.with_name(entry.name.swapcase()) if entry.name else entry
        if swapped != entry and os.path.lexists(entry):
            return os.path.lexists(swapped) and os.path.samestat(entry.lstat(), swapped.lstat())
    return False


def _project_id(root: Path, folds_case: bool) -> str:
    # Imported here: OpenSSL comes with it, a sixth of a guard, and the store has nearly always told the id.
    import hashlib

    key = str(root).casefold() if folds_case else str(root)
    return f"{slug(root.name)}-{hashlib.sha256(os.fsencode(key)).hexdigest()[:6]}"


def slug(name: str) -> str:
    """Return the part of a project's id that says its name: lower case, ASCII, 40 characters at most."""
    decomposed = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", decomposed).strip("-")[:_SLUG_LENGTH].rstrip("-") or "project"


def _printable(name: str) -> str:
    """Return a folder's name as text that can be stored and shown: bytes that are not UTF-8 are replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)[
        :_NAME_LENGTH
    ]
