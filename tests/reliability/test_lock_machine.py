"""The whole product against the model of `lock_model`, over sequences of calls that hypothesis invents.

Two processes serve one store. After every step the store holds what the model holds, and the promises that
can be read off a store hold by brute force. `CALLBOARD_PROOF=full` runs the release's number of sequences.
"""

import asyncio
import faulthandler
import os
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from callboard.board import Config, open_board
from callboard.errors import Refused
from callboard.store import Row
from tests.conftest import Board, Counted, TurnedClock
from tests.reliability.lock_model import Mode, Model, conflicts

T = TypeVar("T")

FULL = os.environ.get("CALLBOARD_PROOF") == "full"

PATIENCE = 60.0

AGENTS = ("ann", "ben", "cat")
PATHS = ("src", "src/a.py", "src/b.py", "src/*.py", "**/b.py", "docs/x.md")

agents = st.sampled_from(AGENTS)
paths = st.sampled_from(PATHS)
modes: st.SearchStrategy[Mode] = st.sampled_from(("exclusive", "exclusive", "shared"))
processes = st.integers(0, 1)
ttls = st.integers(5, 20)
keeps = st.sampled_from((5, 30))
picks = st.integers(0, 11)
fences = st.one_of(st.none(), st.integers(0, 3))


class Held(Row):
    file_path: str
    agent_id: str
    mode: str
    fence: int
    expires_boot_ms: int


class Waiting(Row):
    agent_id: str
    mode: str
    queue_until_boot_ms: int
    file_paths: str


class Facts(Row):
    of_nobody: int
    fence: int


HELD = Held.query("SELECT file_path, agent_id, mode, fence, expires_boot_ms FROM _leases ORDER BY fence")
WAITING = Waiting.query("""
    SELECT agent_id, mode, queue_until_boot_ms,
           (SELECT group_concat(file_path, ' ') FROM _lock_waiter_paths AS p WHERE p.ticket = w.ticket)
               AS file_paths
      FROM _lock_waiters AS w ORDER BY ticket
""")
FACTS = Facts.query("""
    SELECT (SELECT count(*) FROM _lock_waiters JOIN agent_roster USING (agent_id) WHERE status = 'terminated')
         + (SELECT count(*) FROM _lock_waiter_paths WHERE ticket NOT IN (SELECT ticket FROM _lock_waiters))
        AS of_nobody,
           (SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'store.fence') AS fence
""")


def relative(name: str) -> str:
    return name.partition(":")[2]


class Locks(RuleBasedStateMachine):
    """Calls by three agents, through either of two processes, while time passes and processes crash."""

    def __init__(self) -> None:
        super().__init__()
        # Making a failure small takes longer than any other test may; each call has its own limit instead.
        faulthandler.cancel_dump_traceback_later()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="callboard-"))
        self.clock = TurnedClock()
        self.ids = Counted()
        self.boards: list[tuple[Board, AsyncExitStack]] = []
        self.model = Model(now=self.clock.boot_ms(), fence=0)
        self.gone = ""
        self.granted: set[tuple[str, str]] = set()
        self.newest_fence = 0
        self.last_key: tuple[str, dict[str, Any], dict[str, Any]] | None = None
        self.keys = 0
        self.crashes = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, PATIENCE))

    @initialize()
    def open(self) -> None:
        self.boards = [self.run(self._opened()) for _ in range(2)]
        for agent in AGENTS:
            self.call(0, "register_agent", agent, role="developer")
        self.human = self.run(self.boards[0][0].human())
        self.model.fence = self.newest_fence = self.run(self._looked())[2].fence

    async def _opened(self) -> tuple[Board, AsyncExitStack]:
        stack = AsyncExitStack()
        config = Config(folder=self.folder, transport="http", durability="normal")
        opened = await stack.enter_async_context(open_board(config, clock=self.clock, ids=self.ids))
        return Board(opened, self.clock, self.folder), stack

    def call(self, process: int, tool: str, agent: str, **arguments: Any) -> dict[str, Any]:
        """The result of a call, or the refusal, which has a code."""
        board = self.boards[process][0]

        async def called() -> dict[str, Any]:
            try:
                return await board.call(tool, agent_id=agent, **arguments)
            except Refused as refused:
                return dict(refused.as_data())
            finally:
                await board.settle()

        self.model.beat(process, agent)
        return self.run(called())

    def live(self, agent: str) -> bool:
        return agent != self.gone

    # Calls. Hypothesis leaves some rules out of each sequence, so what matters most has several.

    @rule(process=processes, agent=agents, path=paths, mode=modes, ttl=ttls)
    def take(self, process: int, agent: str, path: str, mode: Mode, ttl: int) -> None:
        self.acquire(process, agent, [path], mode, ttl)

    @rule(
        process=processes, agent=agents, wanted=st.lists(paths, min_size=2, max_size=3), mode=modes, ttl=ttls
    )
    def take_several(self, process: int, agent: str, wanted: list[str], mode: Mode, ttl: int) -> None:
        self.acquire(process, agent, wanted, mode, ttl)

    @rule(process=processes, agent=agents, path=paths, mode=modes, ttl=ttls, keep=keeps)
    def queue(self, process: int, agent: str, path: str, mode: Mode, ttl: int, keep: int) -> None:
        self.acquire(process, agent, [path], mode, ttl, queue_seconds=keep)

    @rule(
        process=processes, agent=agents, wanted=st.lists(paths, min_size=2, max_size=3), mode=modes, ttl=ttls,
        keep=keeps,
    )  # fmt: skip
    def queue_for_several(
        self, process: int, agent: str, wanted: list[str], mode: Mode, ttl: int, keep: int
    ) -> None:
        self.acquire(process, agent, wanted, mode, ttl, queue_seconds=keep)

    @rule(process=processes, agent=agents, path=paths, mode=modes, ttl=ttls)
    def take_with_a_key(self, process: int, agent: str, path: str, mode: Mode, ttl: int) -> None:
        self.keys += 1
        self.acquire(process, agent, [path], mode, ttl, request_key=f"key-{self.keys}")

    def acquire(self, process: int, agent: str, wanted: list[str], mode: Mode, ttl: int, **more: Any) -> None:
        arguments: dict[str, Any] = {"file_paths": wanted, "mode": mode, "ttl_seconds": ttl, **more}
        answer = self.call(process, "acquire_file_locks", agent, **arguments)
        if not self.live(agent):
            assert answer["code"] == "agent_terminated"
            return
        keep = 1000 * more.get("queue_seconds", 0)
        expected = self.model.acquire(agent, wanted, mode, ttl * 1000, keep)
        assert answer.get("code", "granted") == expected, answer
        if expected == "granted":
            assert {lock["file_path"] for lock in answer["locks"]} == set(wanted)
            if "request_key" in more:
                self.last_key = (agent, arguments, answer)
        elif expected == "deadlock":
            cycle = answer["cycle"]
            assert cycle[0]["agent_id"] == cycle[-1]["holder"] == agent

    @precondition(lambda self: self.last_key is not None)
    @rule(process=processes)
    def ask_again_with_the_last_key(self, process: int) -> None:
        assert self.last_key is not None
        agent, arguments, first = self.last_key
        answer = self.call(process, "acquire_file_locks", agent, **arguments)
        if self.live(agent):
            assert answer["locks"] == first["locks"]
            assert answer["replayed"] is True

    @precondition(lambda self: self.granted)
    @rule(process=processes, pick=picks, who=agents, back=fences)
    def release(self, process: int, pick: int, who: str, back: int | None) -> None:
        agent, path, fence = self.picked(pick, who, back)
        answer = self.call(process, "release_file_lock", agent, file_path=path, **fence)
        if self.live(agent):
            expected = self.model.release(agent, path, fence.get("fence"))
            said = answer.get("code") or ("released" if answer["released"] else "nothing")
            assert said == expected, answer

    @precondition(lambda self: self.granted)
    @rule(process=processes, pick=picks, who=agents, back=fences, ttl=ttls)
    def renew(self, process: int, pick: int, who: str, back: int | None, ttl: int) -> None:
        agent, path, fence = self.picked(pick, who, back)
        answer = self.call(process, "renew_file_lock", agent, file_path=path, ttl_seconds=ttl, **fence)
        if self.live(agent):
            expected = self.model.renew(agent, path, fence.get("fence"), ttl * 1000)
            assert answer.get("code", "renewed") == expected, answer

    def picked(self, pick: int, who: str, back: int | None) -> tuple[str, str, dict[str, int]]:
        """Who says to hold which path, and under which fence: mostly what is so, or once was."""
        known = sorted(self.model.leases) if pick % 4 and self.model.leases else sorted(self.granted)
        path, agent = known[pick % len(known)]
        if pick > 9:
            agent = who
        if back is None:
            return agent, path, {}
        fences = [lease.fence for lease in self.model.leases.values() if lease.path == path]
        candidates = [*fences, self.model.fence, max(1, self.model.fence - 1)]
        return agent, path, {"fence": max(1, candidates[back % len(candidates)])}

    @precondition(lambda self: self.granted)
    @rule(process=processes, pick=picks)
    def force(self, process: int, pick: int) -> None:
        board, (_, path, _) = self.boards[process][0], self.picked(pick, "ann", None)

        async def forced() -> str:
            try:
                await board.call("force_release_file_lock", token=self.human, file_path=path, reason="a test")
            except Refused as refused:
                return refused.code
            return "taken"

        assert self.run(forced()) == self.model.force(path)

    @rule(process=processes, agent=agents)
    def leave_or_come_back(self, process: int, agent: str) -> None:
        """One agent at most is away at any time."""
        if self.gone:
            self.call(process, "register_agent", self.gone, role="developer", revive=True)
            self.gone = ""
        else:
            self.call(process, "terminate_agent", agent)
            self.model.end(agent)
            self.gone = agent

    @rule(process=processes, agent=agents, path=paths)
    def check(self, process: int, agent: str, path: str) -> None:
        answer = self.call(process, "check_file_lock", agent, file_path=path)
        if self.live(agent):
            exact = {lease.agent for lease in self.model.leases.values() if lease.path == path}
            assert exact <= {lock["agent_id"] for lock in answer["locks"]}

    # The world

    @rule(milliseconds=st.sampled_from((1, 999, 4_999, 5_000, 12_345)))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.turn(milliseconds / 1000)
        self.model.turn(milliseconds)

    @precondition(lambda self: self.model.leases)
    @rule(early=st.sampled_from((0, 1)))
    def time_passes_to_the_end_of_a_lease(self, early: int) -> None:
        ends = min(lease.expires for lease in self.model.leases.values())
        self.time_passes(max(0, ends - self.clock.boot_ms() - early))

    @rule(process=processes)
    def what_is_over_is_swept(self, process: int) -> None:
        self.run(self.boards[process][0].opened.sweep())
        self.model.move_up()

    @rule(days=st.sampled_from((-1, 1)))
    def the_wall_clock_steps(self, days: int) -> None:
        self.clock.step_wall(days * 86_400)

    @precondition(lambda self: self.crashes < 2)  # starting costs as much as forty calls
    @rule(process=processes)
    def a_process_crashes_and_is_started_again(self, process: int) -> None:
        self.crashes += 1
        board, stack = self.boards[process]
        board.opened.store.close()  # it says no goodbye to the store
        self.run(stack.aclose())
        self.model.forget_process(process)
        self.boards[process] = self.run(self._opened())

    # What holds after every step

    @invariant()
    def the_store_is_what_the_model_is(self) -> None:
        if not self.boards:
            return
        held, waiting, facts = self.run(self._looked())
        live = [each for each in held if each.expires_boot_ms > self.clock.boot_ms()]
        stored = {
            (relative(each.file_path), each.agent_id, each.mode, each.fence, each.expires_boot_ms)
            for each in live
        }
        assert stored == {lease.stored() for lease in self.model.leases.values()}
        assert [
            (
                each.agent_id,
                sorted(map(relative, each.file_paths.split())),
                each.mode,
                each.queue_until_boot_ms,
            )
            for each in waiting
            if each.queue_until_boot_ms > self.clock.boot_ms()
        ] == [(each.agent, sorted(each.paths), each.mode, each.until) for each in self.model.tickets]
        assert conflicts([(relative(each.file_path), each.agent_id, each.mode) for each in live]) == []  # L1
        assert facts.fence == self.model.fence >= self.newest_fence  # L2
        assert all(each.fence <= facts.fence for each in held)
        assert facts.of_nobody == 0  # L11
        assert self.model.in_a_circle() == []  # L12
        self.newest_fence = facts.fence
        self.granted |= set(self.model.leases)

    async def _looked(self) -> tuple[list[Held], list[Waiting], Facts]:
        held, waiting, [facts] = await self.boards[0][0].opened.store.read(
            lambda tx: (tx.all(HELD), tx.all(WAITING), tx.all(FACTS))
        )
        return held, waiting, facts

    def teardown(self) -> None:
        for _, stack in self.boards:
            self.run(stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)


TestLocks = Locks.TestCase
TestLocks.settings = settings(
    max_examples=1_000 if FULL else 50,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
