"""Seeded bugs: what the suite must notice, so that a test that proves nothing is found out.

Each bug is a few replacements in the product's text, each of which must fit exactly once, and the tests that
must fail with it. `scripts/prove --mutants` makes each in a copy of the tree and runs those tests; the names
M1 to M38 are those of the list of promises.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file below `server/callboard`."""

    file: str
    old: str
    new: str

    def apply(self, tree: Path) -> None:
        """Make it in the tree at `tree`. Raises ValueError unless it fits exactly once."""
        path = tree / "server" / "callboard" / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"fits {text.count(self.old)} times in {self.file}: {self.old!r}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One seeded bug: its name, what it gets wrong, which promise that breaks, and who must notice."""

    name: str
    bug: str
    promise: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Arguments of pytest: files, or single tests."""
