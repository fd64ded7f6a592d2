"""Histories of lock calls by processes that are stopped and killed, and what in them breaks a promise.

Each call is known from outside only: what was asked, when it was invoked and when it was answered. What
happened in between happened at one instant that nobody saw. So each grant has two spans. It was *surely held*
from its answer until the earliest moment at which it can have ended, and *possibly held* from the moment it
was asked for until the latest. A violation is what no choice of instants can explain, so there are no false
alarms. Times are milliseconds of the boot clock, which all processes of a host share.
"""

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from callboard import globs
from tests.reliability.lock_calls import ACQUIRE, RELEASE, Call, Stop
from tests.reliability.timeline import Timeline, free

GRACE = 30_000
"""How long the leases of a process that is gone stand."""

SLACK = 1_000
"""How much further than its length a lease reaches when a call renews it by the way."""

CALL_LEASE = 2_000
"""How long a waiting call's place outlives it."""

KEPT = 15_000
"""How long a place whose call is gone may be taken up again by the same request, and some more."""

FOREVER = 2**62


@dataclass
class Grant:
    """One lease from its grant to its end, as far as it is known from outside."""

    agent: str
    path: str
    mode: str
    fence: int
    invoked: int
    responded: int
    surely_until: int = 0
    possibly_until: int = 0


@dataclass(frozen=True)
class Span:
    """A time in which an agent may have held a path, or waited for it."""

    agent: str
    path: str
    since: int
    until: int


class Work:
    """The calls of one agent, in order."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.invoked = [call.invoked for call in calls]
        renewing = [call.ttl for call in calls if call.tool in (*ACQUIRE, "renew_file_lock")]
        self.reach = max(renewing, default=0) + SLACK
        """How far beyond a call a lease of this agent may last."""
        self.renewed_until = [0] * len(calls)
        for place in reversed(range(len(calls))):
            self.renewed_until[place] = self._through(place + 1, calls[place].over + self.reach)
        self.places = Timeline(
            (call.invoked + 1, call.over + call.patience + KEPT, call)
            for call in calls
            if call.tool in ACQUIRE and (call.answer is None or call.patience)
        )

    def latest_end(self, since: int, until: int) -> int:
        """The latest end of a lease that was granted by `until` to a call since `since`. Every call may renew
        it, and a call that was never answered may have been carried out as late as its process was killed."""
        return self._through(bisect_left(self.invoked, since), until + self.reach)

    def _through(self, place: int, end: int) -> int:
        """How long a lease that lasts until `end` may last by the calls from a place on."""
        while place < len(self.invoked) and self.invoked[place] <= end:
            end = max(end, self.renewed_until[place])
            place = bisect_right(self.invoked, self.renewed_until[place])
        return end

    def keeps_place(self, call: Call) -> bool:
        """Whether a place on one of a call's paths, got by an earlier call, may still have been there."""
        return any(set(other.paths) & set(call.paths) for other in self.places.at(call.invoked))


@dataclass
class History:
    """What some processes did to the locks of one store."""

    calls: list[Call]
    stops: list[Stop] = field(default_factory=list)
    slack: int = FOREVER
    """How much later than its deadline a wait may be answered by a process that was not stopped."""
    wake: int = FOREVER
    """How long a wait may go on, or take to get its place, when nothing is in its way."""

    def __post_init__(self) -> None:
        self.calls.sort(key=lambda call: call.invoked)
        self.work = {
            agent: Work([call for call in self.calls if call.agent == agent])
            for agent in {call.agent for call in self.calls}
        }
        self.still = Timeline((stop.since, stop.until, stop) for stop in self.stops)
        self.grants = self._grants()
        self.held = [
            Span(grant.agent, grant.path, grant.invoked, grant.possibly_until) for grant in self.grants
        ] + list(self._unseen())
        self.waited = [
            Span(call.agent, path, call.invoked, call.over + CALL_LEASE + call.patience)
            for call in self.calls
            if call.tool in ACQUIRE and (call.arguments.get("wait_seconds") or call.patience)
            for path in call.paths
        ]
        self.holding = Timeline((span.since, span.until, span) for span in self.held)
        self.waiting = Timeline((span.since, span.until, span) for span in self.waited)
        self.witnessed = list(self._witnessed())
        self.looks = sum(call.tool == "list_file_locks" for call in self.calls)

    def violations(self) -> list[str]:
        """What cannot be, each with the check that it fails."""
        return [
            *self.c1(),
            *self.c2(),
            *self.c3(),
            *self.c4(),
            *self.c5(),
            *self.c6(),
            *self.c7(),
            *self.c9(),
        ]

    # The spans

    def _grants(self) -> list[Grant]:
        found: dict[tuple[str, str, int], Grant] = {}
        for call in self.calls:
            for lease in call.leases():
                key = (call.agent, lease["file_path"], lease["fence"])
                grant = found.setdefault(
                    key, Grant(*key[:2], lease["mode"], lease["fence"], call.invoked, call.over)
                )
                grant.surely_until = max(grant.surely_until, call.invoked + call.ttl)
        releasing = Timeline(
            (call.invoked, call.over, call)
            for call in self.calls
            if call.tool in RELEASE and call.code is None
        )
        ended = self._ended()
        for grant in found.values():
            ends = releasing.during(grant.invoked, grant.surely_until)
            grant.surely_until = min(
                [
                    grant.surely_until,
                    *(call.invoked for call in ends if call.ends(grant.agent, grant.path)),
                    *(
                        stop.since + GRACE
                        for stop in self.stops
                        if stop.killed and stop.agent == grant.agent and stop.until >= grant.responded
                    ),
                ]
            )
            known = [
                over
                for over, fence in ended[grant.agent, grant.path]
                if over >= grant.responded and fence in (None, grant.fence)
            ]
            latest = self.work[grant.agent].latest_end(grant.responded, grant.responded)
            grant.possibly_until = min([latest, *known])
        return list(found.values())

    def _ended(self) -> dict[tuple[str, str], list[tuple[int, int | None]]]:
        """When whose leases on which path were answered to have ended, with their fences where those were
        told."""
        found: dict[tuple[str, str], list[tuple[int, int | None]]] = defaultdict(list)
        for call in self.calls:
            for agent, path, fence in call.ended():
                found[agent, path].append((call.over, fence))
        return found

    def _unseen(self) -> Iterator[Span]:
        """The grants that nobody was told of: to calls without an answer, and to places that were kept."""
        for call in self.calls:
            if call.tool in ACQUIRE and (call.answer is None or call.patience):
                end = self.work[call.agent].latest_end(call.invoked, call.over + call.patience)
                for path in call.paths:
                    yield Span(call.agent, path, call.invoked, end)

    # The checks

    def c1(self) -> Iterator[str]:
        """L1: nobody is told to hold what somebody else surely holds."""
        live: list[Grant] = []
        for grant in sorted(self.grants, key=lambda grant: grant.responded):
            live = [other for other in live if other.surely_until > grant.responded]
            if grant.surely_until <= grant.responded:
                continue
            for other in live:
                if (
                    other.agent != grant.agent
                    and not other.mode == grant.mode == "shared"
                    and globs.overlaps(other.path, grant.path)
                ):
                    yield f"C1: {other} and {grant}"
            live.append(grant)

    def c2(self) -> Iterator[str]:
        """L2: no fence is given twice, and later grants have larger ones."""
        holders: dict[int, Grant] = {}
        for grant in self.grants:
            if (first := holders.setdefault(grant.fence, grant)) is not grant:
                yield f"C2: one fence for {first} and {grant}"
        answered = sorted(self.grants, key=lambda grant: grant.responded)
        times = [grant.responded for grant in answered]
        highest: list[Grant] = []
        for grant in answered:
            highest.append(max([grant, *highest[-1:]], key=lambda each: each.fence))
        for call in self.calls:
            before = bisect_left(times, call.invoked)
            for lease in call.leases() if before else ():
                # Those that were refreshed may have been granted before they were asked for.
                if lease.get("refreshed") is False and highest[before - 1].fence >= lease["fence"]:
                    yield f"C2: {highest[before - 1]} came before {call}"

    def c3(self) -> Iterator[str]:
        """L6: whoever is said to stand against a call can have held, or waited for, what it is said to."""
        for call in self.calls:
            if (
                call.code not in ("lock_held", "wait_timeout")
                or call.answer is None
                or "holder" not in call.answer
            ):
                continue
            spans = self.holding if call.answer["blocked_by"] == "holder" else self.waiting
            if not any(
                (span.agent, span.path) == (call.answer["holder"], call.answer["held_path"])
                for span in spans.during(call.invoked, call.over)
            ):
                yield f"C3: {call}"

    def c4(self) -> Iterator[str]:
        """L4, L5: nothing is accepted under a fence that is surely over or superseded."""
        of: dict[str, list[Grant]] = defaultdict(list)
        for grant in self.grants:
            of[grant.path].append(grant)
        for call in self.calls:
            if call.tool == "renew_file_lock":
                fences = [lease["fence"] for lease in call.leases()]
            elif call.tool == "release_file_lock" and call.answer and call.answer.get("released"):
                fences = [call.answer["fence"]]
            else:
                continue
            for fence in fences:
                yield from self._accepted(call, fence, of[call.paths[0]])

    def _accepted(self, call: Call, fence: int, grants: Sequence[Grant]) -> Iterator[str]:
        if call.arguments.get("fence") not in (None, fence):
            yield f"C4: another fence was given: {call}"
        for grant in grants:
            own = (grant.agent, grant.fence) == (call.agent, fence)
            if own and grant.possibly_until < call.invoked:
                yield f"C4: {grant} was over: {call}"
            if (
                grant.mode == "exclusive"
                and grant.fence > fence
                and grant.agent != call.agent
                and grant.responded < call.invoked
            ):
                yield f"C4: {grant} had superseded it: {call}"

    def c5(self) -> Iterator[str]:
        """L10: no wait goes on when nothing can stand in its way. Time in which any process stood still does
        not count, and whoever asked within `wake` of the wait's own beginning may have come before it."""
        for call in self.calls:
            if not call.waits or call.answer is None:
                continue
            since = call.invoked + self.wake
            obstacles = [
                (span.since, span.until)
                for span in self.holding.during(call.invoked, call.over)
                if span.agent != call.agent and call.meets(span.path)
            ] + [
                (span.since, span.until)
                for span in self.waiting.during(call.invoked, call.over)
                if span.agent != call.agent and span.since <= since and call.meets(span.path)
            ]
            for begin, end in free(since, call.over, obstacles):
                still = [(stop.since, stop.until) for stop in self.still.during(begin, end)]
                if sum(until - at for at, until in free(begin, end, still)) > self.wake:
                    yield f"C5: nothing was in the way from {begin} to {end}: {call}"

    def c6(self) -> Iterator[str]:
        """L9: who was seen to wait before another asked is granted before it. The order of grants is that of
        their fences; an agent that stood still may have lost its place, and a lock of one's own lets pass."""
        times = [call.invoked for call in self.calls]
        for earlier, seen in self.witnessed:
            mine = [lease["fence"] for lease in earlier.granted()]
            for later in self.calls[bisect_right(times, seen) : bisect_right(times, earlier.over)]:
                if later.agent == earlier.agent:
                    continue
                theirs = [lease["fence"] for lease in later.granted()]
                if (
                    mine
                    and theirs
                    and min(theirs) < min(mine)
                    and later.tool in ACQUIRE
                    and not (earlier.shared and later.shared)
                    and any(earlier.meets(path) for path in later.paths)
                    and not self.work[later.agent].keeps_place(later)
                    and not any(
                        span.agent == later.agent and later.meets(span.path) and span.since < later.invoked
                        for span in self.holding.during(later.invoked, later.over)
                    )
                ):
                    yield f"C6: {earlier} was seen to wait at {seen}, before {later}"

    def _witnessed(self) -> Iterator[tuple[Call, int]]:
        """Waits that were granted, with the moment by which somebody had seen them wait."""
        looks = Timeline(
            (call.invoked, call.over, (call, call.waiters()))
            for call in self.calls
            if call.tool == "list_file_locks"
        )
        for call in self.calls:
            if not call.waits or not call.granted() or self.work[call.agent].keeps_place(call):
                continue
            if any(stop.agent == call.agent for stop in self.still.during(call.invoked, call.over)):
                continue
            mode = "shared" if call.shared else "exclusive"
            seen = [
                look.over
                for look, waiters in looks.during(call.invoked, call.over)
                if look.invoked >= call.invoked and look.over <= call.over
                if any((call.agent, path, mode) in waiters for path in call.paths)
            ]
            if seen:
                yield call, min(seen)

    def c7(self) -> Iterator[str]:
        """L11: a wait is answered by its deadline, unless a process stood still meanwhile."""
        for call in self.calls:
            deadline = call.invoked + 1000 * int(call.arguments.get("wait_seconds", 0))
            late = call.answer is not None and call.over > deadline + self.slack
            if late and not list(self.still.during(call.invoked, call.over)):
                yield f"C7: {call}"

    def c9(self) -> Iterator[str]:
        """L7: whoever sees one lease of a request for several paths sees the others, unless they can be over.
        Leases whose fences follow each other were granted together, and none of them before."""
        groups: dict[tuple[str, str, int], list[Grant]] = {}
        begun: dict[tuple[str, int], list[Grant]] = defaultdict(list)
        for grant in self.grants:
            begun[grant.agent, grant.invoked].append(grant)
        for call in self.calls:
            if call.tool != "acquire_file_locks" or self.work[call.agent].keeps_place(call):
                continue
            fences = sorted(lease["fence"] for lease in call.leases())
            new = [grant for grant in begun[call.agent, call.invoked] if grant.fence in fences]
            if fences and fences == list(range(fences[0], fences[0] + len(new))):
                groups |= {(grant.agent, grant.path, grant.fence): new for grant in new}
        for look in self.calls:
            if look.tool != "list_file_locks" or look.answer is None or look.code is not None:
                continue
            seen = [(lease["agent_id"], lease["file_path"], lease["fence"]) for lease in look.answer["locks"]]
            paths = {(agent, path) for agent, path, _ in seen}
            for one in seen:
                for grant in groups.get(one, ()):
                    if (grant.agent, grant.path) not in paths and look.over < grant.surely_until:
                        yield f"C9: {look} did not see {grant}"


def replayed(entries: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """C8, L16: who holds what under which fence, from the ledger's kinds and details alone.

    Raises ValueError where the ledger contradicts itself.
    """
    held: dict[tuple[str, str], int] = {}
    for kind, details in entries:
        if kind in ("lock_acquired", "lock_renewed", "lock_released", "lock_expired", "lock_force_released"):
            lease = json.loads(details)
            at = (lease["file_path"], lease["holder"])
            if kind == "lock_acquired":
                held[at] = lease["fence"]
            elif held.get(at) != lease["fence"]:
                raise ValueError(f"{kind} of {lease}, but {held.get(at)} was held")
            elif kind != "lock_renewed":
                del held[at]
    return held
