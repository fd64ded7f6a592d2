"""About: what a process says of itself and of its store, to whoever asks for the server."""

from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

Durability = Literal["full", "normal"]


class Serving(NamedTuple):
    """How a process serves the store, as it was told at its start."""

    transport: str = ""
    toolsets: tuple[str, ...] = ()
    read_only: bool = False
    other_stores: tuple[str, ...] = ()
    """Further stores that were found for the same repository."""


class About(NamedTuple):
    """What a process says of itself and its store now."""

    serving: Serving
    durability: Durability
    sqlite: str
    apsw: str
    quick_check_age_seconds: int | None
    """How long ago the store's pages were looked through for damage; None where no process has done so yet
    that this one knows of, as of a store that is too large for it at a start."""
    wal_bytes: int
    damage: str | None


class Checkup(NamedTuple):
    """What is known of the last time that the whole store was read through."""

    integrity_check_age_seconds: int | None
    """How long ago it ended; None where there was none."""
    integrity_broken: list[str] | None
    unclean_stop_at: str | None
    """When a process was found to be gone that had not stopped in order, where no checkup came after it."""

    def as_data(self) -> dict[str, object]:
        return {name: value for name, value in self._asdict().items() if value is not None}


class Settings(Protocol):
    """A transaction, as far as it is needed here."""

    wall: datetime

    def setting(self, key: str, default: Any) -> Any: ...


def last_checkup(tx: Settings) -> Checkup:
    """What the store tells of its last checkup."""
    result = tx.setting("store.integrity", {})
    unclean = tx.setting("store.unclean", {})
    age = None
    if "checked_at" in result:
        age = max(0, int((tx.wall - datetime.fromisoformat(result["checked_at"])).total_seconds()))
    return Checkup(age, result.get("broken"), unclean.get("at"))
