"""The answers of a simulation, each held to what its transactions found in the store, and left there."""

from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import apsw

from callboard import globs
from callboard.domains.locks.tickets import CALL_LEASE_MS
from tests.reliability.moments import Moment, Past, Request, request_of

Answer = dict[str, Any]

OTHER_TEXT = "another"
"""The text of every call that reuses a key."""

BESIDES = ("unread", "replayed", "sanitized")
"""What accompanies an answer as it is when it is given."""


@dataclass(eq=False)
class Call:
    """One call of a tool. `writes` has the numbers of the moments that its transactions found, one by one."""

    agent: str
    tool: str
    arguments: Answer
    reuses: bool = False
    """Whether it has the key of an earlier call that was another."""
    writes: list[int] = field(default_factory=list)
    answer: Answer | None = None
    refusal: Answer | None = None

    @property
    def key(self) -> str:
        return str(self.arguments["request_key"])

    @property
    def replayed(self) -> bool:
        return self.answer is not None and bool(self.answer.get("replayed"))

    @property
    def request(self) -> Request | None:
        """What it asks for, where it is a lease."""
        if "acquire" not in self.tool:
            return None
        paths = self.arguments.get("file_paths") or [self.arguments["file_path"]]
        return (self.agent, frozenset(paths), self.arguments["mode"])

    @property
    def said(self) -> str:
        if self.refusal is not None:
            return str(self.refusal["code"])
        return "no answer" if self.answer is None else "answered"


BROKEN = (
    "internal_error",
    "store_busy",
    "store_corrupt",
    "store_full",
    "store_unavailable",
    "schema_too_new",
)
"""What nothing here gives a reason for."""


class Witness:
    """What the agents were answered, in order."""

    def __init__(self, past: Past, agents: Sequence[str]) -> None:
        self.past = past
        self.made: list[Call] = []
        self.answers: dict[str, Answer] = {}
        """What was answered first under each request key."""
        self.locks: dict[str, dict[str, int]] = {agent: {} for agent in agents}
        """The leases that each agent thinks it has, by path, with their fences."""
        self.claims: dict[str, dict[str, list[int]]] = {agent: {} for agent in agents}
        """The tasks that each agent ever had, with the epochs of its claims."""
        self.receipts: dict[str, dict[str, int]] = {agent: {} for agent in agents}
        """Every receipt that each agent was given, with its message."""
        self._handed: Counter[int] = Counter()
        """How often each message was seen."""
        self._acknowledged: dict[int, int] = {}
        """The number of the moment that each message's acknowledgement found."""
        self._left: dict[Request, int] = {}
        """What killed calls asked for, and until when their places last at most."""
        self._writes: dict[str, list[int]] = defaultdict(list)
        """The numbers of the moments that the transactions under each request key found."""

    def fences(self, agent: str, path: str) -> list[int]:
        """Every fence that the agent ever had on the path."""
        return [fence for fence, held in self.past.fences.items() if held[:2] == (agent, path)]

    def hold(self, call: Call, *, killed: bool, still_asked: Set[Request | None]) -> None:
        """Take what has become of a call. Raises AssertionError where it cannot have."""
        now = self.past.moments[-1]
        if (request := call.request) is not None:
            if killed:
                self._left[request] = now.now + CALL_LEASE_MS
            elif request not in still_asked and self._left.get(request, 0) <= now.now:
                assert request not in now.calling, "L11: a call that is over still waits"
        self._writes[call.key] += call.writes
        if call.reuses:
            assert call.said in ("request_key_reused", "no answer"), "Q7: another under its key"
        elif call.refusal is not None:
            self._refused(call, call.refusal, self._around(call.writes[-1:]))
        elif call.answer is not None:
            answer = {name: value for name, value in call.answer.items() if name not in BESIDES}
            if call.replayed:
                first = self.answers.setdefault(call.key, answer)
                assert first == answer, "Q7: repeated, and answered otherwise"
                self._answered(call, answer, self._around(self._writes[call.key]))
            else:
                seen = self._around(call.writes[-1:])
                assert call.key not in seen[0].keys, "L15, Q7: repeated, and done again"
                self.answers[call.key] = answer
                self._answered(call, answer, seen)

    def _around(self, writes: list[int]) -> list[Moment]:
        """What some transactions found, and what they left."""
        return [moment for number in writes for moment in self.past.moments[number : number + 2]]

    def judge(self, db: apsw.Connection) -> None:
        """In the end, what was written once is there once, also where its answer was lost."""
        sent = Counter(text for (text,) in db.execute("SELECT text FROM message_queue"))
        noted = Counter(text for (text,) in db.execute("SELECT summary FROM activity_log"))
        assert sent[OTHER_TEXT] == noted[OTHER_TEXT] == 0, "Q7: another was done under its key"
        for call in self.made:
            if call.tool == "send_message":
                found = sent[call.arguments["content"]]
                to = call.arguments["to"]
                wanted = 1 if to in self.locks else len(self.locks.keys() - {call.agent})  # all of a role
            elif call.tool == "log_activity":
                found, wanted = noted[call.arguments["summary"]], 1
            else:
                continue
            possible = (wanted,) if call.key in self.answers else (0, wanted)
            assert found in possible, f"Q1, Q2, Q7: {found} of {wanted}: {call}"

    def _refused(self, call: Call, refusal: Answer, seen: list[Moment]) -> None:
        assert call.said not in BROKEN
        if call.said == "lock_held":
            # A claim asks for the files of its task, each by itself.
            request = call.request or (call.agent, frozenset({refusal["file_path"]}), "exclusive")
            assert any(stood_against(request, refusal, moment) for moment in seen), "L6"
        elif call.said in ("lease_expired", "stale_fence"):
            self.locks[call.agent].pop(call.arguments["file_path"], None)

    def _answered(self, call: Call, answer: Answer, seen: list[Moment]) -> None:
        if call.request is not None:
            self._granted(call.agent, answer.get("locks") or [answer], seen)
        elif call.tool in ("release_file_lock", "renew_file_lock"):
            self._gave_back_or_renewed(call, answer, seen)
        elif call.tool == "receive_messages":
            self._received(call, answer["messages"], seen)
        elif call.tool == "ack_messages":
            self._acknowledges(call, answer["acknowledged"], seen)
        elif call.tool == "claim_next_dag_task":
            self._claimed(call.agent, answer.get("task"), seen)
        elif call.tool in ("complete_dag_task", "fail_dag_task", "release_dag_task"):
            self._ended(call, answer, seen)

    def _granted(self, agent: str, locks: list[Answer], seen: list[Moment]) -> None:
        for lock in locks:
            path, fence = lock["file_path"], lock["fence"]
            held = [moment.live[fence] for moment in seen if fence in moment.live]
            assert any((lease.agent, lease.path) == (agent, path) for lease in held), "a grant that never was"
            self.locks[agent][path] = fence
        assert any(all(lock["fence"] in moment.live for lock in locks) for moment in seen), "L7"

    def _gave_back_or_renewed(self, call: Call, answer: Answer, seen: list[Moment]) -> None:
        path = call.arguments["file_path"]
        fence = int(answer.get("fence", 0))
        if call.tool == "renew_file_lock" or answer["released"]:
            assert any(fence in moment.live for moment in seen), "L4: done under a fence that was over"
            assert self.past.fences[fence][:2] == (call.agent, path), "L5"
            assert fence == call.arguments.get("fence", fence), "L4: not under the fence that was given"
        if call.tool == "release_file_lock":
            assert not answer["released"] or fence in self.past.over
            self.locks[call.agent].pop(path, None)

    def _received(self, call: Call, messages: list[Answer], seen: list[Moment]) -> None:
        for message in messages:
            number, receipt = message["message_id"], message["receipt"]
            given = [moment.receipts[number] for moment in seen if number in moment.receipts]
            assert any((each.agent, each.receipt) == (call.agent, receipt) for each in given), (
                "Q4: no receipt"
            )
            ended = self._acknowledged.get(number)
            assert ended is None or ended >= call.writes[-1] or call.replayed, "K4: acknowledged before"
            if receipt not in self.receipts[call.agent]:
                self._handed[number] += 1
            counted = [now.receipts[number].attempts for now in self.past.moments if number in now.receipts]
            assert self._handed[number] <= counted[-1], "Q6: handed out more often than was counted"
            self.receipts[call.agent][receipt] = number

    def _acknowledges(self, call: Call, messages: list[int], seen: list[Moment]) -> None:
        [receipt] = call.arguments["receipts"]
        number = self.receipts[call.agent][receipt]
        assert messages == [number]
        newest = {moment.receipts[number].receipt for moment in seen if number in moment.receipts}
        before = self.past.moments[: call.writes[-1] + 1]
        last = [moment.receipts[number].receipt for moment in before if number in moment.receipts][-1:]
        assert receipt in newest.union(last), "Q5: acknowledged by a receipt that was over"
        self._acknowledged.setdefault(number, self._writes[call.key][-1])

    def _claimed(self, agent: str, task: Answer | None, seen: list[Moment]) -> None:
        if task is None:
            return
        name, epoch = task["task_id"], task["claim_epoch"]
        assert any(moment.claims[name].is_of(agent, epoch) for moment in seen), "T1: a claim that never was"
        self.claims[agent].setdefault(name, []).append(epoch)

    def _ended(self, call: Call, answer: Answer, seen: list[Moment]) -> None:
        name, epoch = call.arguments["task_id"], call.arguments.get("claim_epoch")
        if epoch is not None and not answer.get("repeated"):
            held = [moment.claims[name] for moment in seen]
            assert any(claim.is_of(call.agent, epoch) for claim in held), "T4: ended under an old claim"


def stood_against(request: Request, refusal: Answer, moment: Moment) -> bool:
    """Whether whoever is said to stand against a request did so at this moment."""
    _, paths, mode = request
    held, holder = refusal["held_path"], refusal["holder"]
    if not any(globs.overlaps(held, path) for path in paths):
        return False
    if refusal["blocked_by"] == "delay":
        over = [lease for fence, lease in moment.leases.items() if fence not in moment.live]
        return moment.rests.get(held, 0) > moment.now or (held, holder) in {
            (lease.path, lease.agent) for lease in over
        }
    own = moment.places.get(request)
    earlier = [ticket for ticket in moment.tickets if own is None or moment.places[request_of(ticket)] < own]
    against = [(path, ticket.agent, ticket.mode) for ticket in earlier for path in ticket.paths]
    if refusal["blocked_by"] == "holder":  # maybe by a place whose turn came in this very transaction
        against += [(lease.path, lease.agent, lease.mode) for lease in moment.live.values()]
    return any((held, holder) == each[:2] and not each[2] == mode == "shared" for each in against)
