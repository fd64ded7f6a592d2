"""What git knows and the guard asks: which files a commit or a push changes, and where hooks stand."""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

NO_COMMIT = frozenset("0")
"""An object id of these digits only stands for none."""

_COMMIT = re.compile(r"[0-9a-f]{40,64} (\d+)")


class GitFailed(Exception):
    """Git could not answer; the message is its own first line."""


class Change(NamedTuple):
    """One file that a commit changes."""

    path: str
    """Relative to the root of the worktree."""
    committed: int
    """When, in seconds since 1970."""


class HooksFolder(NamedTuple):
    """Where git looks for the hooks of a worktree."""

    folder: Path
    own: bool
    """Whether it belongs to this repository alone: it lies in the repository or in its git directory."""


def git(folder: Path, *arguments: str) -> str:
    """What git prints, in UTF-8 or as near as bytes come to it. Raises GitFailed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise GitFailed(f"git cannot be run: {error.strerror}") from error
    if done.returncode:
        said = os.fsdecode(done.stderr).strip().partition("\n")[0]
        raise GitFailed(said or f"git {arguments[0]} ended with {done.returncode}")
    return os.fsdecode(done.stdout)


def top_of(folder: Path) -> Path:
    """The root of the worktree around a folder. Raises GitFailed."""
    return Path(git(folder, "rev-parse", "--show-toplevel").removesuffix("\n"))


def staged(folder: Path) -> list[str]:
    """The files that the commit at hand changes, relative to the worktree's root. A rename is two: what
    vanishes and what appears."""
    listed = git(folder, "diff", "--cached", "--name-only", "--no-renames", "--no-ext-diff", "-z")
    return [path for path in listed.split("\0") if path]


def pushed(folder: Path, remote: str, refs: Iterable[str], since: int) -> Iterator[Change]:
    """What the commits of a push change that the remote does not have and that are not older than `since`.

    `refs` are the lines that git gives its pre-push hook (githooks(5)): local ref, local id, remote ref,
    remote id. Raises GitFailed.
    """
    for line in refs:
        fields = line.split()
        if len(fields) != 4 or NO_COMMIT.issuperset(fields[1]):  # a branch that is deleted brings nothing
            continue
        listed = git(
            folder,
            "log",
            f"--since={since}",
            "--name-only",
            "--no-renames",
            "-z",
            "--format=%H %ct",
            fields[1],
            "--not",
            f"--remotes={remote}",
            *([] if NO_COMMIT.issuperset(fields[3]) else _if_known(folder, fields[3])),
        )
        yield from _changes(listed)


def _changes(listed: str) -> Iterator[Change]:
    """The changes that `git log` lists: for each commit its id and time, then its files behind a newline."""
    committed = 0
    for part in listed.split("\0"):
        if header := _COMMIT.fullmatch(part):
            committed = int(header[1])
        elif path := part.removeprefix("\n"):
            yield Change(path, committed)


def _if_known(folder: Path, commit: str) -> list[str]:
    """A commit of the remote, if this clone has it."""
    try:
        git(folder, "cat-file", "-e", f"{commit}^{{commit}}")
    except GitFailed:
        return []
    return [commit]


def hooks_folder(folder: Path) -> HooksFolder:
    """Where git looks for the hooks of the worktree around `folder`: `core.hooksPath`, else the repository's
    own folder, which all worktrees share. Raises GitFailed."""
    top = top_of(folder)
    hooks = (top / git(top, "rev-parse", "--git-path", "hooks").removesuffix("\n")).resolve()
    common = (top / git(top, "rev-parse", "--git-common-dir").removesuffix("\n")).resolve()
    return HooksFolder(hooks, any(hooks.is_relative_to(home) for home in (top.resolve(), common)))
