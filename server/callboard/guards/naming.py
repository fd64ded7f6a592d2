"""From the path that a client or git names to the path that a lease on it would have."""

import re
from pathlib import Path
from typing import NamedTuple

from callboard import globs
from callboard.repository import Repository

_UNSPEAKABLE = r"[\[\]{}\x00-\x1f\x7f-\x9f\ud800-\udfff]"


class Named(NamedTuple):
    """A path of a repository."""

    path: str
    """Its canonical path, relative to the repository."""
    lockable: bool
    """Whether a lease can be on it alone. No pattern can hold brackets, control characters or bytes that are
    no text, so a name with such is stood for by one with wildcards in their places: it is then covered by
    every lease on a folder or glob that covers it."""


def named(repository: Repository, path: str) -> Named | None:
    """A path as it is canonically spelled; None where it is outside the repository or no name at all."""
    try:
        spelled = repository.spell(path)
        lockable = globs.is_literal(spelled)
    except globs.InvalidPattern:
        try:
            spelled = repository.spell(re.sub(_UNSPEAKABLE, "?", path))
        except globs.InvalidPattern:
            return None
        lockable = False
    return Named(spelled, lockable)


def find_repository(folder: Path, path: str) -> tuple[Repository, Named] | None:
    """The repository of the folder that a client works in, or of the file itself, as it may work on another
    worktree; with the file's name in it."""
    there = next(above for above in (folder / path).parents if above.is_dir())
    for start in (folder, there):
        try:
            repository = Repository.find(start)
        except ValueError:
            continue
        if (found := named(repository, path)) is not None:
            return repository, found
    return None
