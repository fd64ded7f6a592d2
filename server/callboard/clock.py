"""Time and chance, injected.

Deadlines are integers on the host's boot clock: it counts suspended time, never steps and is shared by
every process of the host, so leases of different processes compare. UTC text is for people and is
never compared.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import anyio

from callboard import bootclock

Ids = Callable[[int], str]
"""Makes `n` random bytes as lowercase hexadecimal text."""

random_ids: Ids = secrets.token_hex


class Clock(Protocol):
    """The time of the host, or of a test that turns it by hand."""

    @property
    def boot_id(self) -> str:
        """Names one boot of the host; deadlines of another boot mean nothing on this one."""
        ...

    @property
    def coarse_ms(self) -> int:
        """By how much `boot_ms` may be behind at most: a deadline that must not come early adds it."""
        ...

    def boot_ms(self) -> int:
        """Whole milliseconds since the host booted, suspended time included."""
        ...

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        ...

    async def sleep_until(self, boot_ms: int) -> None:
        """Sleep until the boot clock has reached `boot_ms`."""
        ...


class HostClock:
    """The clock of this host."""

    coarse_ms = 1

    def __init__(self) -> None:
        self._boot_id = bootclock.boot_id()

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def boot_ms(self) -> int:
        return bootclock.boot_ms()

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, boot_ms: int) -> None:
        while (left := boot_ms - self.boot_ms()) > 0:
            await anyio.sleep(left / 1000)


def utc_text(moment: datetime) -> str:
    """The one format of times in the store and in results: `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
