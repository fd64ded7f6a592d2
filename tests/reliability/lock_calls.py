"""The calls of a history of locks, as processes that are stopped and killed have noted them.

Times are milliseconds of the boot clock, which all processes of a host share.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callboard import globs

ACQUIRE = ("acquire_file_lock", "acquire_file_locks")

RELEASE = ("release_file_lock", "release_file_locks", "force_release_file_lock")


@dataclass(frozen=True)
class Call:
    """One call. Without an answer its process was killed, at `over` at the latest."""

    agent: str
    tool: str
    arguments: dict[str, Any]
    invoked: int
    over: int
    answer: dict[str, Any] | None

    @property
    def code(self) -> str | None:
        """Why it was refused."""
        return self.answer.get("code") if self.answer is not None else None

    @property
    def paths(self) -> tuple[str, ...]:
        named = self.arguments.get("file_paths") or [self.arguments.get("file_path")]
        return tuple(path for path in named if path is not None)

    @property
    def ttl(self) -> int:
        return 1000 * int(self.arguments.get("ttl_seconds", 600))

    @property
    def patience(self) -> int:
        """For how long it may keep its place after it ended."""
        return 1000 * int(self.arguments.get("queue_seconds", 0))

    @property
    def waits(self) -> bool:
        return self.tool in ACQUIRE and bool(self.arguments.get("wait_seconds"))

    @property
    def shared(self) -> bool:
        return self.arguments.get("mode") == "shared"

    def meets(self, path: str) -> bool:
        return any(globs.overlaps(own, path) for own in self.paths)

    def granted(self) -> list[dict[str, Any]]:
        """The leases that it was given itself, and had not had before."""
        return [lease for lease in self.leases() if lease.get("refreshed") is not True]

    def leases(self) -> list[dict[str, Any]]:
        """The leases that it answered to hold."""
        if self.answer is None or self.code is not None:
            return []
        if self.tool == "acquire_file_locks":
            return list(self.answer["locks"])
        return [self.answer] if self.tool in ("acquire_file_lock", "renew_file_lock") else []

    def waiters(self) -> set[tuple[str, str, str]]:
        """Who waits for what in which mode, as a list told it."""
        if self.answer is None or self.code is not None:
            return set()
        return {(each["agent_id"], each["file_path"], each["mode"]) for each in self.answer["waiters"]}

    def ends(self, agent: str, path: str) -> bool:
        """Whether it gives back or takes away an agent's lease on a path, if it has any effect."""
        if self.code is not None:
            return False
        if self.tool == "force_release_file_lock":
            return path in self.paths
        releases = self.tool == "release_file_locks" or (
            self.tool == "release_file_lock" and path in self.paths
        )
        return releases and agent == self.agent

    def ended(self) -> Iterator[tuple[str, str, int | None]]:
        """The leases that it answered to have ended, by agent, path and, where it was told, fence."""
        if self.answer is None or self.code is not None:
            return
        if self.tool == "release_file_lock" and self.answer["released"] is True:
            yield self.agent, self.paths[0], self.answer["fence"]
        elif self.tool == "release_file_locks":
            for path in self.answer["released"]:
                yield self.agent, path, None
        elif self.tool == "force_release_file_lock":
            for lease in self.answer["released"]:
                yield lease["agent_id"], self.paths[0], lease["fence"]


@dataclass(frozen=True)
class Stop:
    """A time in which one process stood still, or was killed."""

    agent: str
    since: int
    until: int
    killed: bool = False


def stood_still(logs: Sequence[Path]) -> list[Stop]:
    """When the workers noticed that they had not been running."""
    told = [Path(f"{log}.stood").read_text(encoding="utf-8").split("\n")[:-1] for log in logs]
    return [Stop(**json.loads(line)) for lines in told for line in lines]


def read(logs: Sequence[Path], stops: Sequence[Stop]) -> list[Call]:
    """The calls in the logs of some workers, one log for each life of a worker. A log begins each call with
    its intent; the last line of a worker that was killed may be torn, and then was never complete."""
    calls = []
    for log in logs:
        pending: dict[str, Any] | None = None
        for line in log.read_text(encoding="utf-8").split("\n")[:-1]:
            entry: dict[str, Any] = json.loads(line)
            if pending is None:
                pending = entry
            else:
                calls.append(Call(**pending, over=entry["responded"], answer=entry["answer"]))
                pending = None
        if pending is not None:
            over = min(
                stop.until
                for stop in stops
                if stop.killed and stop.agent == pending["agent"] and stop.until >= pending["invoked"]
            )
            calls.append(Call(**pending, over=over, answer=None))
    return calls
