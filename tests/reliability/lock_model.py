"""File locks as a small machine in plain dictionaries: what the product must do, said a second time.

The model has no indexes, no transactions and no shortcuts. It looks at every lease and at every ticket each
time, so whatever the product leaves out as irrelevant is checked against a machine that left nothing out.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from callboard import globs

Mode = Literal["exclusive", "shared"]

MAX_HOLD = 4 * 3600 * 1000
RENEWAL_THROTTLE = 1_000


@dataclass
class Lease:
    path: str
    agent: str
    mode: Mode
    fence: int
    ttl: int
    expires: int
    renew_until: int

    def stored(self) -> tuple[str, str, str, int, int]:
        return (self.path, self.agent, self.mode, self.fence, self.expires)


@dataclass
class Ticket:
    agent: str
    paths: tuple[str, ...]
    mode: Mode
    ttl: int
    until: int


@dataclass
class Model:
    """All that a store of locks has to remember. Times are milliseconds of the boot clock."""

    now: int
    fence: int
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    tickets: list[Ticket] = field(default_factory=list)
    beats: dict[tuple[int, str], int] = field(default_factory=dict)
    """When each process last renewed for each agent."""

    # Time

    def turn(self, milliseconds: int) -> None:
        """Time passes. What is over is over, but nobody has looked yet who could move up."""
        self.now += milliseconds
        self.leases = {at: lease for at, lease in self.leases.items() if lease.expires > self.now}
        self.tickets = [ticket for ticket in self.tickets if ticket.until > self.now]

    def beat(self, process: int, agent: str) -> None:
        """Any call renews what its agent holds, through each process once a second."""
        if self.now - self.beats.get((process, agent), -RENEWAL_THROTTLE) < RENEWAL_THROTTLE:
            return
        self.beats[process, agent] = self.now
        for lease in self.leases.values():
            if lease.agent == agent:
                renewed = min(self.now + lease.ttl + RENEWAL_THROTTLE, lease.renew_until)
                lease.expires = max(lease.expires, renewed)

    def forget_process(self, process: int) -> None:
        self.beats = {at: beat for at, beat in self.beats.items() if at[0] != process}

    # Asking

    def acquire(
        self, agent: str, paths: Sequence[str], mode: Mode, ttl: int, keep: int
    ) -> Literal["granted", "lock_held", "deadlock"]:
        before = deepcopy((self.fence, self.leases, self.tickets))
        self.move_up()
        outcome = self._acquire(agent, tuple(dict.fromkeys(paths)), mode, ttl, keep)
        if outcome == "deadlock" or (outcome == "lock_held" and not keep):
            self.fence, self.leases, self.tickets = before  # a refusal changes nothing
        return outcome

    def _acquire(
        self, agent: str, paths: tuple[str, ...], mode: Mode, ttl: int, keep: int
    ) -> Literal["granted", "lock_held", "deadlock"]:
        own = self.ticket(agent, paths, mode)
        blocking = set(self.blockers(agent, paths, mode, own))
        if not blocking:
            if own is not None:
                self.tickets.remove(own)
            self.grant(agent, paths, mode, ttl)
            return "granted"
        if not keep:
            return "lock_held"
        if self.reaches(blocking, agent, own):
            return "deadlock"
        if own is None:
            self.tickets.append(Ticket(agent, paths, mode, ttl, self.now + keep))
        else:
            own.ttl, own.until = ttl, max(own.until, self.now + keep)
        return "lock_held"

    def ticket(self, agent: str, paths: Sequence[str], mode: Mode) -> Ticket | None:
        for ticket in self.tickets:
            if (ticket.agent, sorted(ticket.paths), ticket.mode) == (agent, sorted(paths), mode):
                return ticket
        return None

    def blockers(self, agent: str, paths: Sequence[str], mode: Mode, own: Ticket | None) -> Iterator[str]:
        """The agents that stand against a request: by a lease, or by a ticket that came earlier."""
        for lease in self.leases.values():
            if lease.agent != agent and not lease.mode == mode == "shared":
                yield from (lease.agent for path in paths if globs.overlaps(path, lease.path))
        for ticket in self.tickets[: self.tickets.index(own)] if own else self.tickets:
            if ticket.agent != agent and not ticket.mode == mode == "shared":
                yield from (
                    ticket.agent
                    for path in paths
                    if not self.covered(agent, path, mode)
                    and any(globs.overlaps(path, wanted) for wanted in ticket.paths)
                )

    def covered(self, agent: str, path: str, mode: Mode) -> bool:
        """Whether an own lease covers the path in at least that mode, so that asking for it is no barging."""
        return any(
            lease.agent == agent and lease.mode in ("exclusive", mode) and globs.covers(lease.path, path)
            for lease in self.leases.values()
        )

    def waits_for(self, agent: str, but: Ticket | None = None) -> set[str]:
        """Whom an agent waits for by all its tickets, but one."""
        return {
            other
            for ticket in self.tickets
            if ticket.agent == agent and ticket is not but
            for other in self.blockers(agent, ticket.paths, ticket.mode, ticket)
        }

    def reaches(self, start: set[str], goal: str, but: Ticket | None) -> bool:
        """Whether someone of `start` waits for `goal`, however far around; or goal's other tickets do."""
        seen: set[str] = set()
        left = list(start | self.waits_for(goal, but))
        while left:
            agent = left.pop()
            if agent == goal:
                return True
            if agent not in seen:
                seen.add(agent)
                left.extend(self.waits_for(agent))
        return False

    def grant(self, agent: str, paths: Sequence[str], mode: Mode, ttl: int) -> None:
        for path in paths:
            held = self.leases.get((path, agent))
            if held is not None and held.mode in ("exclusive", mode):
                self.extend(held, ttl)
            else:
                self.fence += 1
                ends = max(self.now + ttl, held.expires if held else 0)
                self.leases[path, agent] = Lease(
                    path, agent, mode, self.fence, ttl, ends, self.now + MAX_HOLD
                )

    def extend(self, lease: Lease, ttl: int) -> None:
        lease.ttl = ttl
        lease.expires = max(lease.expires, self.now + ttl)
        lease.renew_until = self.now + MAX_HOLD

    def move_up(self) -> None:
        """Grant every place whose turn has come, the earliest first."""
        for ticket in list(self.tickets):
            if not any(self.blockers(ticket.agent, ticket.paths, ticket.mode, ticket)):
                self.tickets.remove(ticket)
                self.grant(ticket.agent, sorted(ticket.paths), ticket.mode, ticket.ttl)

    # Giving back

    def own(self, agent: str, path: str, fence: int | None) -> Lease | str:
        """The agent's lease on exactly this path, or why it cannot be used."""
        held = self.leases.get((path, agent))
        if held is not None:
            return held if fence in (None, held.fence) else "stale_fence"
        others = [lease.fence for lease in self.leases.values() if lease.path == path]
        if fence is not None and any(other > fence for other in others):
            return "stale_fence"
        return "not_owner" if others and (fence is None or fence in others) else "lease_expired"

    def release(self, agent: str, path: str, fence: int | None) -> str:
        lease = self.own(agent, path, fence)
        if isinstance(lease, str):
            return "nothing" if fence is None and lease == "lease_expired" else lease
        del self.leases[path, agent]
        self.move_up()
        return "released"

    def renew(self, agent: str, path: str, fence: int | None, ttl: int) -> str:
        lease = self.own(agent, path, fence)
        if isinstance(lease, str):
            return lease
        self.extend(lease, ttl)
        return "renewed"

    def force(self, path: str) -> str:
        taken = [at for at, lease in self.leases.items() if lease.path == path]
        if not taken:
            return "not_found"
        for at in taken:
            del self.leases[at]
        self.fence += 1
        self.move_up()
        return "taken"

    def end(self, agent: str) -> None:
        """An agent leaves with all it has."""
        self.leases = {at: lease for at, lease in self.leases.items() if lease.agent != agent}
        self.tickets = [ticket for ticket in self.tickets if ticket.agent != agent]
        self.move_up()

    # What must hold at any time

    def in_a_circle(self) -> list[str]:
        """The agents that wait for themselves in the end."""
        agents = {ticket.agent for ticket in self.tickets}
        return sorted(agent for agent in agents if self.reaches(set(), agent, None))


def conflicts(
    leases: Sequence[tuple[str, str, str]],
) -> list[tuple[tuple[str, str, str], tuple[str, str, str]]]:
    """The pairs among (path, agent, mode) that no two agents may hold at once."""
    return [
        (one, other)
        for one, other in combinations(leases, 2)
        if one[1] != other[1] and not one[2] == other[2] == "shared" and globs.overlaps(one[0], other[0])
    ]
