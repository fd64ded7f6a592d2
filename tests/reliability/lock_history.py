"""Histories of lock calls by processes that are stopped and killed, and what in them breaks a promise.

Each call is known from outside only: what was asked, when it was invoked and when it was answered. What
happened in between happened at one instant that nobody saw. So each grant has two spans. It was *surely held*
from its answer until the earliest moment at which it can have ended, and *possibly held* from the moment it
was asked for until the latest. A violation is what no choice of instants can explain, so there are no false
alarms. Times are milliseconds of the boot clock, which all processes of a host share.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, takewhile
from pathlib import Path
from typing import Any

from callboard import globs

GRACE = 30_000
"""How long the leases of a process that is gone stand."""

SLACK = 1_000
"""How much further than its length a lease reaches when a call renews it by the way."""

CALL_LEASE = 2_000
"""How long a waiting call's place outlives it."""

KEPT = 15_000
"""How long a place whose call is gone may be taken up again by the same request, and some more."""

FOREVER = 2**62

ACQUIRE = ("acquire_file_lock", "acquire_file_locks")


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

    def ended(self, agent: str, path: str, fence: int | None) -> bool:
        """Whether it answered to have ended that lease."""
        if self.answer is None or not self.ends(agent, path):
            return False
        if self.tool == "release_file_lock":
            return self.answer["released"] is True and fence in (None, self.answer["fence"])
        if self.tool == "release_file_locks":
            return path in self.answer["released"]
        taken = [(lease["agent_id"], lease["fence"]) for lease in self.answer["released"]]
        return any(holder == agent and fence in (None, its) for holder, its in taken)


@dataclass(frozen=True)
class Stop:
    """A time in which one process stood still, or was killed."""

    agent: str
    since: int
    until: int
    killed: bool = False


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

    def meets(self, call: Call) -> bool:
        return self.since <= call.over and self.until >= call.invoked


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
        self.of = {
            agent: [call for call in self.calls if call.agent == agent]
            for agent in {call.agent for call in self.calls}
        }
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
        self.witnessed = len(list(self._witnessed()))
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
        for grant in found.values():
            grant.surely_until = min([grant.surely_until, *self._possible_ends(grant)])
            grant.possibly_until = self._latest_end(
                grant.agent, grant.path, grant.fence, grant.responded, grant.responded
            )
        return list(found.values())

    def _possible_ends(self, grant: Grant) -> Iterator[int]:
        for call in self.calls:
            if call.over >= grant.invoked and call.ends(grant.agent, grant.path):
                yield call.invoked
        for stop in self.stops:
            if stop.killed and stop.agent == grant.agent and stop.until >= grant.responded:
                yield stop.since + GRACE

    def _latest_end(self, agent: str, path: str, fence: int | None, since: int, until: int) -> int:
        """The latest end of a lease that was granted by `until`. Every call of its agent may renew it, and a
        call that was never answered may have been carried out as late as its process was killed."""
        longest = max(
            (call.ttl for call in self.of[agent] if call.tool in (*ACQUIRE, "renew_file_lock")), default=0
        )
        end = until + longest + SLACK
        for call in self.of[agent]:
            if since <= call.invoked <= end:
                end = max(end, call.over + longest + SLACK)
        if fence is not None:
            ends = (call.over for call in self.calls if call.over >= since and call.ended(agent, path, fence))
            end = min([end, *ends])
        return end

    def _unseen(self) -> Iterator[Span]:
        """The grants that nobody was told of: to calls without an answer, and to places that were kept."""
        for call in self.calls:
            if call.tool in ACQUIRE and (call.answer is None or call.patience):
                granted = call.over + call.patience
                for path in call.paths:
                    end = self._latest_end(call.agent, path, None, call.invoked, granted)
                    yield Span(call.agent, path, call.invoked, end)

    # The checks

    def c1(self) -> Iterator[str]:
        """L1: nobody is told to hold what somebody else surely holds."""
        for one, other in combinations(self.grants, 2):
            if (
                one.agent != other.agent
                and not one.mode == other.mode == "shared"
                and max(one.responded, other.responded) < min(one.surely_until, other.surely_until)
                and globs.overlaps(one.path, other.path)
            ):
                yield f"C1: {one} and {other}"

    def c2(self) -> Iterator[str]:
        """L2: no fence is given twice, and later grants have larger ones."""
        holders: dict[int, Grant] = {}
        for grant in self.grants:
            if (first := holders.setdefault(grant.fence, grant)) is not grant:
                yield f"C2: one fence for {first} and {grant}"
        answered = sorted(self.grants, key=lambda grant: grant.responded)
        for call in self.calls:
            for lease in call.leases():
                if (
                    lease.get("refreshed") is False
                ):  # the others may have been granted before they were asked for
                    for grant in takewhile(lambda grant: grant.responded < call.invoked, answered):  # noqa: B023 - used up at once
                        if grant.fence >= lease["fence"]:
                            yield f"C2: {grant} came before {call}"

    def c3(self) -> Iterator[str]:
        """L6: whoever is said to stand against a call can have held, or waited for, what it is said to."""
        for call in self.calls:
            if (
                call.code not in ("lock_held", "wait_timeout")
                or call.answer is None
                or "holder" not in call.answer
            ):
                continue
            spans = self.held if call.answer["blocked_by"] == "holder" else self.waited
            if not any(
                span.agent == call.answer["holder"]
                and span.path == call.answer["held_path"]
                and span.meets(call)
                for span in spans
            ):
                yield f"C3: {call}"

    def c4(self) -> Iterator[str]:
        """L4, L5: nothing is accepted under a fence that is surely over or superseded."""
        for call in self.calls:
            if call.tool == "renew_file_lock":
                fences = [lease["fence"] for lease in call.leases()]
            elif call.tool == "release_file_lock" and call.answer and call.answer.get("released"):
                fences = [call.answer["fence"]]
            else:
                continue
            for fence in fences:
                yield from self._accepted(call, fence)

    def _accepted(self, call: Call, fence: int) -> Iterator[str]:
        if call.arguments.get("fence") not in (None, fence):
            yield f"C4: another fence was given: {call}"
        for grant in self.grants:
            own = (grant.agent, grant.fence) == (call.agent, fence)
            if grant.path == call.paths[0] and own and grant.possibly_until < call.invoked:
                yield f"C4: {grant} was over: {call}"
            if (
                grant.path == call.paths[0]
                and grant.mode == "exclusive"
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
                for span in self.held
                if span.agent != call.agent and span.meets(call) and call.meets(span.path)
            ] + [
                (span.since, span.until)
                for span in self.waited
                if span.agent != call.agent
                and span.since <= since
                and span.meets(call)
                and call.meets(span.path)
            ]
            for begin, end in free(since, call.over, obstacles):
                still = [(stop.since, stop.until) for stop in self.stops]
                if sum(until - at for at, until in free(begin, end, still)) > self.wake:
                    yield f"C5: nothing was in the way from {begin} to {end}: {call}"

    def c6(self) -> Iterator[str]:
        """L9: who was seen to wait before another asked is granted before it. The order of grants is that of
        their fences; an agent that stood still may have lost its place, and a lock of one's own lets pass."""
        for earlier, seen in self._witnessed():
            mine = [lease["fence"] for lease in earlier.granted()]
            for later in self.calls:
                if later.agent == earlier.agent or later.invoked <= seen or later.invoked > earlier.over:
                    continue
                theirs = [lease["fence"] for lease in later.granted()]
                if (
                    mine
                    and theirs
                    and min(theirs) < min(mine)
                    and later.tool in ACQUIRE
                    and not (earlier.shared and later.shared)
                    and any(earlier.meets(path) for path in later.paths)
                    and not self._lingers(later)
                    and not any(
                        span.agent == later.agent and later.meets(span.path) and span.since < later.invoked
                        for span in self.held
                        if span.meets(later)
                    )
                ):
                    yield f"C6: {earlier} was seen to wait at {seen}, before {later}"

    def _witnessed(self) -> Iterator[tuple[Call, int]]:
        """Waits that were granted, with the moment by which somebody had seen them wait."""
        looks = [(call, call.waiters()) for call in self.calls if call.tool == "list_file_locks"]
        for call in self.calls:
            if not call.waits or not call.granted() or self._lingers(call):
                continue
            if any(
                stop.agent == call.agent and stop.since <= call.over and stop.until >= call.invoked
                for stop in self.stops
            ):
                continue
            mode = "shared" if call.shared else "exclusive"
            seen = [
                look.over
                for look, waiters in looks
                if look.invoked >= call.invoked and look.over <= call.over
                if any((call.agent, path, mode) in waiters for path in call.paths)
            ]
            if seen:
                yield call, min(seen)

    def _lingers(self, call: Call) -> bool:
        """Whether a place on one of its paths, got by its agent's earlier call, may still have been there."""
        return any(
            other.tool in ACQUIRE
            and set(other.paths) & set(call.paths)
            and (other.answer is None or other.patience)
            and other.invoked < call.invoked <= other.over + other.patience + KEPT
            for other in self.of[call.agent]
        )

    def c7(self) -> Iterator[str]:
        """L11: a wait is answered by its deadline, unless a process stood still meanwhile."""
        for call in self.calls:
            deadline = call.invoked + 1000 * int(call.arguments.get("wait_seconds", 0))
            disturbed = any(stop.since <= call.over and stop.until >= call.invoked for stop in self.stops)
            if call.answer is not None and not disturbed and call.over > deadline + self.slack:
                yield f"C7: {call}"

    def c9(self) -> Iterator[str]:
        """L7: whoever sees one lease of a request for several paths sees the others, unless they can be over.
        Leases whose fences follow each other were granted together, and none of them before."""
        together = []
        for call in self.calls:
            if call.tool == "acquire_file_locks" and call.leases() and not self._lingers(call):
                fences = sorted(lease["fence"] for lease in call.leases())
                new = [each for each in self.grants if each.fence in fences and each.invoked == call.invoked]
                if fences == list(range(fences[0], fences[0] + len(new))):
                    together.append(new)
        for look in self.calls:
            if look.tool != "list_file_locks" or look.answer is None or look.code is not None:
                continue
            seen = {(lease["agent_id"], lease["file_path"], lease["fence"]) for lease in look.answer["locks"]}
            paths = {(agent, path) for agent, path, _ in seen}
            for grants in together:
                if any((grant.agent, grant.path, grant.fence) in seen for grant in grants):
                    for grant in grants:
                        if (grant.agent, grant.path) not in paths and look.over < grant.surely_until:
                            yield f"C9: {look} did not see {grant}"


def free(since: int, until: int, taken: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of a stretch of time without those that are taken."""
    for begin, end in sorted(taken):
        if end < since:
            continue
        if begin > until:
            break
        if begin > since:
            yield since, begin
        since = max(since, end)
    if since < until:
        yield since, until


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
