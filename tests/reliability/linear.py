"""Whether some order of a history's calls explains all their answers (linearizability), for small objects.

Each call happened at one instant between when it was asked for and when it was answered, or not at all if its
process was killed before it answered. The search tries the orders that real time allows, against a model that
says which states a call may lead to and is remembered with the set of calls that led there.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

S = TypeVar("S", bound=Hashable)

MOST_AT_ONCE = 40
"""How many calls may be under way at once; beyond it the search could take for ever."""


@dataclass(frozen=True)
class Op:
    """One call on one object. Without an answer its process was killed, at `over` at the latest."""

    name: str
    by: str
    given: Any
    invoked: int
    over: int
    answer: Any


Step = Callable[[S, Op], Iterable[S]]
"""The states that a call may lead to from one, if its answer is possible there. A call without an answer may
have had any effect that it can have; that it had none need not be said."""


def at_once(ops: Iterable[Op]) -> int:
    """How many calls were under way at once, at most."""
    edges = sorted((at, kind) for op in ops for at, kind in ((op.invoked, 0), (op.over, 1)))
    most = now = 0
    for _, kind in edges:
        now += -1 if kind else 1
        most = max(most, now)
    return most


def explained(ops: Sequence[Op], start: S, step: Step[S]) -> bool:
    """Whether there is an order. Raises ValueError for more calls at once than the search is made for."""
    if (most := at_once(ops)) > MOST_AT_ONCE:
        raise ValueError(f"{most} calls at once")
    calls = sorted(ops, key=lambda op: op.invoked)
    # A place in the search: all calls before `first` are accounted for, and those of `ahead` behind it.
    begin: tuple[int, frozenset[int], S] = (0, frozenset(), start)
    seen = {begin}
    waiting = [begin]
    while waiting:
        first, ahead, state = waiting.pop()
        if first == len(calls):
            return True
        left = range(first, len(calls))
        end = min(calls[number].over for number in left if number not in ahead)
        for number in left:
            op = calls[number]
            if op.invoked > end:
                break
            if number in ahead:
                continue
            states = [*step(state, op), *([state] if op.answer is None else [])]
            at, beyond = _beyond(first, ahead | {number})
            for place in ((at, beyond, after) for after in states):
                if place not in seen:
                    seen.add(place)
                    waiting.append(place)
    return False


def _beyond(first: int, done: frozenset[int]) -> tuple[int, frozenset[int]]:
    """The same calls, with those at the front told by a number alone."""
    while first in done:
        done -= {first}
        first += 1
    return first, done


# The objects


def rising(state: int, op: Op) -> Iterable[int]:
    """A counter, each of whose numbers is given to one and is larger than those before."""
    if op.answer is not None and op.answer > state:
        yield op.answer


def claimed(state: tuple[str, str, int], op: Op) -> Iterable[tuple[str, str, int]]:
    """A task: who has claimed it, under which epoch, and whether it is done."""
    status, holder, epoch = state
    told = op.answer
    if op.name == "claim_dag_task":
        if status == "ready" and (told is None or told[0] == "claimed"):
            # The epoch of a claim that was never answered is not known; -1 stands for any.
            yield ("running", op.by, told[1] if told else -1)
        elif told and status == "running" and told[0] == "claimed" and holder == op.by:
            if epoch in (told[1], -1):
                yield ("running", holder, told[1])
        elif told and status != "ready" and told[0] in ("already_claimed", "invalid_transition", "not_ready"):
            yield state
    elif op.name == "complete_dag_task":
        own = status == "running" and holder == op.by and epoch in (op.given, -1)
        if own and (told is None or told[0] == "done"):
            yield ("done", op.by, op.given)
        elif told and not own:
            again = state == ("done", op.by, op.given)
            if told[0] == "done" if again else told[0] in ("stale_claim", "invalid_transition"):
                yield state
    elif op.name == "release_dag_task":
        own = status == "running" and holder == op.by
        if own and (told is None or told[0] == "released"):
            yield ("ready", "", 0)
        elif told and told[0] in ("stale_claim", "invalid_transition", "not_owner") and not own:
            yield state


Inbox = tuple[int, tuple[int, ...], frozenset[int]]


def queued(state: Inbox, op: Op) -> Iterable[Inbox]:
    """An inbox whose receipts do not run out: the newest id, what waits in order, and what is in hand."""
    newest, waiting, held = state
    if op.name == "send_message":
        if op.answer is not None and op.answer > newest:
            yield (op.answer, (*waiting, op.answer), held)
    elif op.name == "receive_messages":
        taken = waiting[: op.given]
        if op.answer is None or op.answer == taken:
            yield (newest, waiting[len(taken) :], held | set(taken))
    elif op.name == "ack_messages" and op.given in held:
        yield (newest, waiting, held - {op.given})


Kept = tuple[Any, Any] | None


def repeated(state: Kept, op: Op) -> Iterable[Kept]:
    """A request key: what was asked under it first, and what came of that."""
    told = op.answer
    if state is None:
        if told is None:
            yield (op.given, None)
        elif told[0] == "done":
            yield (op.given, told[1])
    elif state[0] != op.given:
        if told is not None and told[0] == "request_key_reused":
            yield state
    elif told is not None and told[0] == "replayed" and state[1] in (told[1], None):
        yield (op.given, told[1])
