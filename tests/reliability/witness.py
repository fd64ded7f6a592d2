"""The answers of a simulation, each held to what the store was between its call and its coming."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import apsw

from callboard import globs
from callboard.errors import CODES
from tests.reliability.moments import Claim, Moment, Past, Request

Answer = dict[str, Any]

BESIDES = ("unread", "replayed", "sanitized")
"""What accompanies an answer as it is when it is given."""


@dataclass(eq=False)
class Call:
    """One call of a tool. `since` is the number of the moment that it can have seen first."""

    agent: str
    tool: str
    arguments: Answer
    since: int
    reuses: bool = False
    """Whether it has the key of an earlier call that was another."""
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
        """The number of the moment after each message's acknowledgement was answered."""
        self._left: set[Request] = set()
        """What calls asked for that were killed: their places last a little longer."""

    def fences(self, agent: str, path: str) -> list[int]:
        """Every fence that the agent ever had on the path."""
        return [fence for fence, held in self.past.fences.items() if held[:2] == (agent, path)]

    def hold(self, call: Call, *, killed: bool, still_asked: Set[Request | None]) -> None:
        """Take what has become of a call. Raises AssertionError where it cannot have."""
        seen = self.past.moments[call.since :]
        if (request := call.request) is not None:
            if killed:
                self._left.add(request)
            elif request not in still_asked | self._left:
                assert request not in seen[-1].calling, "L11: a call that is over still waits"
        if call.reuses:
            assert call.said in ("request_key_reused", "no answer"), "Q7: another under its key"
        elif call.refusal is not None:
            self._refused(call, call.refusal, seen)
        elif call.answer is not None:
            answer = {name: value for name, value in call.answer.items() if name not in BESIDES}
            if call.replayed:
                assert self.answers.setdefault(call.key, answer) == answer, (
                    "Q7: repeated, and answered otherwise"
                )
                seen = self.past.moments  # what it tells was so when the first was answered
            else:
                assert call.key not in self.answers, "L15, Q7: repeated, and done again"
                self.answers[call.key] = answer
            self._answered(call, answer, seen)

    def judge(self, db: apsw.Connection) -> None:
        """In the end, what was written once is there once, also where its answer was lost."""
        sent = Counter(text for (text,) in db.execute("SELECT text FROM message_queue"))
        noted = Counter(text for (text,) in db.execute("SELECT summary FROM activity_log"))
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
        assert call.said in CODES
        assert call.said != "internal_error"
        if call.said == "lock_held":
            assert any(stood_against(refusal, moment) for moment in seen), "L6"
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
            assert ended is None or ended > call.since or call.replayed, "K4: acknowledged before"
            if receipt not in self.receipts[call.agent]:
                self._handed[number] += 1
            assert self._handed[number] <= given[-1].attempts, "Q6: handed out more often than was counted"
            self.receipts[call.agent][receipt] = number

    def _acknowledges(self, call: Call, messages: list[int], seen: list[Moment]) -> None:
        [receipt] = call.arguments["receipts"]
        number = self.receipts[call.agent][receipt]
        assert messages == [number]
        given = [moment.receipts[number].receipt for moment in self.past.moments if number in moment.receipts]
        newest = {moment.receipts[number].receipt for moment in seen if number in moment.receipts}
        assert receipt in newest | {given[-1]}, "Q5: acknowledged by a receipt that was over"
        self._acknowledged.setdefault(number, len(self.past.moments))

    def _claimed(self, agent: str, task: Answer | None, seen: list[Moment]) -> None:
        if task is None:
            return
        name, epoch = task["task_id"], task["claim_epoch"]
        claim = Claim("running", agent, epoch)
        assert any(moment.claims[name] == claim for moment in seen), "T1: a claim that never was"
        self.claims[agent].setdefault(name, []).append(epoch)

    def _ended(self, call: Call, answer: Answer, seen: list[Moment]) -> None:
        name, epoch = call.arguments["task_id"], call.arguments.get("claim_epoch")
        if epoch is not None and not answer.get("repeated"):
            claim = Claim("running", call.agent, epoch)
            assert any(moment.claims[name] == claim for moment in seen), "T4: ended under an old claim"


def stood_against(refusal: Answer, moment: Moment) -> bool:
    """Whether whoever is said to stand against a lease did so at this moment."""
    path, holder = refusal["held_path"], refusal["holder"]
    if not globs.overlaps(path, refusal["file_path"]):
        return False
    return (
        path in moment.rests
        or any((lease.path, lease.agent) == (path, holder) for lease in moment.live.values())
        or any(path in ticket.paths and ticket.agent == holder for ticket in moment.tickets)
    )
