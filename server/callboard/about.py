"""About: what a process says of itself and of its store, to whoever asks for the server."""

from dataclasses import dataclass
from typing import Literal

Durability = Literal["full", "normal"]


@dataclass(frozen=True, slots=True)
class Serving:
    """How a process serves the store, as it was told at its start."""

    transport: str = ""
    toolsets: tuple[str, ...] = ()
    read_only: bool = False
    other_stores: tuple[str, ...] = ()
    """Further stores that were found for the same repository."""


@dataclass(frozen=True, slots=True)
class About:
    """What a process says of itself and its store now."""

    serving: Serving
    durability: Durability
    sqlite: str
    apsw: str
    quick_check_age_seconds: int
    """How long ago the store's pages were looked through for damage."""
    wal_bytes: int
    damage: str | None
