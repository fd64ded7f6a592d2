"""A history of one store that a seed draws: calls, crashes, cancellations and time between any transactions.

Two processes serve three agents and their lead, one over HTTP, one over a pipe. After every commit, and when
time has passed, the store is held to the laws of `moments`; each answer to what its transactions found and
left; and in the end, when all may come to rest, the store to what must have become of it.
"""

import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from callboard import integrity
from callboard.board import Config, Transport, open_board
from callboard.errors import Refused
from tests.conftest import Board, Counted, TurnedClock
from tests.reliability.interleaving import Edge, Process, Work, settled
from tests.reliability.moments import Past, request_of
from tests.reliability.witness import OTHER_TEXT, Answer, Call, Witness

DRAWS = 300
AGENTS = ("ann", "ben", "cat")
LEAD = "lea"
ROLE = "developer"
PATHS = ("src/a.py", "src/b.py", "src/*.py", "src/a*", "docs", "docs/x.md")
TASKS: dict[str, dict[str, Any]] = {
    "t0": {"files": ["src/a.py"]},
    "t1": {"files": ["src/b.py"]},
    "t2": {"depends_on": ["t0"]},
    "t3": {"depends_on": ["t0", "t1"], "files": ["docs"]},
}
TIMES = (*(1, 250, 999, 1_000, 3_000, 5_000, 8_000, 20_000) * 3, 605_000)
"""Milliseconds that pass, most of them shorter than any lease; one step ends every claim."""

ANOTHER: dict[str, dict[str, Any]] = {
    "acquire_file_lock": {"ttl_seconds": 30},
    "log_activity": {"summary": OTHER_TEXT},
    "send_message": {"content": OTHER_TEXT},
}
"""What makes another call of one."""

MOST_ROUNDS = 60
"""Of coming to rest. Each is five seconds, and no call waits for longer than ten."""


class World:
    """One store and its processes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.clock = TurnedClock()
        self.ids = Counted()
        self.processes: list[Process] = []
        self.past = Past()
        self.calls: dict[Work, Call] = {}
        self.again: list[Call] = []
        """Calls to be made again: all whose answers a crash or a cancellation has taken, and some others."""
        self.witness = Witness(self.past, AGENTS)
        self.trace: list[str] = []
        self.tally: Counter[str] = Counter()
        self._numbers = 0

    async def live(self) -> None:
        """The whole history. Raises AssertionError for what may not be."""
        try:
            transports: tuple[Transport, ...] = ("http", "stdio")
            for transport in transports:
                self.processes.append(await self._opened(transport))
            with closing(self.processes[0].board.opened.store.connect()) as self.db:
                await self._happen()
        except BaseException:
            for process in self.processes:
                await process.kill()
            raise
        for process in self.processes:
            await process.close()

    async def _happen(self) -> None:
        self._see()
        for _ in range(DRAWS):
            await self._draw()
        await self._come_to_rest()
        self._judge()

    async def _opened(self, transport: Transport) -> Process:
        stack = AsyncExitStack()
        config = Config(folder=self.folder, transport=transport, durability="normal", renew=False)
        opened = await stack.enter_async_context(open_board(config, clock=self.clock, ids=self.ids))
        return Process(Board(opened, self.clock, self.folder), stack)

    # What can come next

    async def _draw(self) -> None:
        possible = {
            self._let_through: 60 if self._edges() else 0,
            self._call: 22 if len(self.calls) < 6 else 0,
            self._let_time_pass: 6,
            self._look: 6,
            self._do_a_duty: 3,
            self._write_what_is_left: 4 if self._left() else 0,
            self._cancel: 2 if self.calls else 0,
            self._crash: 1,
        }
        await self.chance.choices(list(possible), list(possible.values()))[0]()
        await self._settle()

    def _edges(self) -> list[tuple[Process, Edge]]:
        edges = [(process, edge) for process in self.processes for edge in process.edges]
        return sorted(edges, key=lambda pair: (pair[1].work, pair[1].at))

    def _call_of(self, edge: Edge) -> Call | None:
        return next((call for work, call in self.calls.items() if work.number == edge.work), None)

    def _left(self) -> list[Process]:
        return [process for process in self.processes if process.left]

    async def _let_through(self) -> None:
        process, edge = self.chance.choice(self._edges())
        self._note(f"{self.processes.index(process)} {edge}")
        if edge.writes and (call := self._call_of(edge)) is not None:
            call.writes.append(len(self.past.moments) - 1)
        edge.pass_()

    async def _let_time_pass(self) -> None:
        now = self.past.moments[-1]
        ends = sorted(
            end - now.now
            for end in (
                *(lease.expires for lease in now.leases.values()),
                *(ticket.until for ticket in now.tickets),
                *(claim.until for claim in now.claims.values()),
                *(receipt.until for receipt in now.receipts.values()),
            )
            if end > now.now
        )
        milliseconds = self.chance.choice(TIMES)
        if ends and self.chance.random() < 0.3:
            milliseconds = max(0, self.chance.choice(ends) - self.chance.choice((0, 0, 1)))
        self._note(f"{milliseconds} ms")
        if self.chance.random() < 0.3:
            self.clock.slip(milliseconds / 1000)  # who sleeps has not noticed yet
        else:
            self.clock.turn(milliseconds / 1000)
        if self.chance.random() < 0.1:
            self.clock.step_wall(self.chance.choice((-86_400, 86_400)))

    async def _look(self) -> None:
        process = self.chance.choice(self.processes)
        self._note(f"{self.processes.index(process)} looks")
        process.look()

    async def _do_a_duty(self) -> None:
        process = self.chance.choice(self.processes)
        opened = process.board.opened
        duties: list[Callable[[], Coroutine[Any, Any, None]]] = [
            opened.duties.sweep_if_due,
            opened.duties.look_for_processes,
            opened.duties.tidy,
            partial(opened.set_lock_delay, self.chance.choice((0, 0, 1))),
        ]
        number = self.chance.randrange(len(duties))
        self._note(f"{self.processes.index(process)} duty {number}")
        process.start(self._next(), duties[number])

    async def _write_what_is_left(self) -> None:
        process = self.chance.choice(self._left())
        operation = process.left.pop(0)
        self._note(f"{self.processes.index(process)} writes what was left")
        await process.writes(operation)

    async def _cancel(self) -> None:
        work = self.chance.choice(sorted(self.calls, key=lambda work: work.number))
        self._note(f"{work.number} cancelled")
        work.cancel()

    async def _crash(self) -> None:
        number = self.chance.randrange(len(self.processes))
        self._note(f"{number} killed")
        process = self.processes[number]
        transport = process.board.opened.config.transport
        name = process.board.opened._process_id
        await process.kill()
        self._gather(process)
        self.processes[number] = await self._opened(transport)
        # Its number is this process's own, so it would be taken for alive: make it that of an earlier one.
        with closing(self.processes[number].board.opened.store.connect(readonly=False)) as db:
            db.execute("UPDATE _processes SET start_ticks = start_ticks - 1 WHERE process_id = ?", (name,))

    async def _call(self) -> None:
        process = self.chance.choice(self.processes)
        if self.again and self.chance.random() < 0.5:
            earlier = self.again.pop(self.chance.randrange(len(self.again)))
            call = Call(earlier.agent, earlier.tool, earlier.arguments)
            if earlier.key in self.witness.answers and earlier.tool in ANOTHER and self.chance.random() < 0.5:
                call.arguments = call.arguments | ANOTHER[earlier.tool]
                call.reuses = True
        else:
            agent = self.chance.choice((*AGENTS, *AGENTS, *AGENTS, LEAD))
            choices = self._choices_of_the_lead() if agent == LEAD else self._choices(agent)
            tool, arguments = self.chance.choice(list(choices))
            number = self._next()
            call = Call(agent, tool, arguments | {"request_key": f"key-{number}"})
        number = self._next()
        self._note(f"{self.processes.index(process)} {number} {call.agent} {call.tool} {call.arguments}")
        if not call.reuses:
            self.witness.made.append(call)
        self.calls[process.start(number, partial(self._make, process.board, call))] = call

    def _choices(self, agent: str) -> Iterator[tuple[str, Answer]]:
        """The calls that an agent may make now, with their arguments."""
        draw = self.chance
        paths = draw.sample(PATHS, 2)
        others = [other for other in AGENTS if other != agent]
        asked = {
            "mode": draw.choice(("exclusive", "exclusive", "shared")),
            "ttl_seconds": draw.choice((5, 20, 600)),
            "wait_seconds": draw.choice((0, 10)),
            "queue_seconds": draw.choice((0, 0, 20)),
        }
        yield "acquire_file_lock", {"file_path": paths[0], **asked}
        yield "acquire_file_lock", {"file_path": paths[0], **asked}
        yield "acquire_file_locks", {"file_paths": paths, **asked}
        if self.witness.locks[agent]:
            path = draw.choice(sorted(self.witness.locks[agent]))
            had = self.witness.fences(agent, path)
            fence = draw.choice(({}, {"fence": self.witness.locks[agent][path]}, {"fence": draw.choice(had)}))
            yield "release_file_lock", {"file_path": path, **fence}
            yield "renew_file_lock", {"file_path": path, "ttl_seconds": 20, **fence}
        yield "release_file_locks", {}
        yield "send_message", {"to": draw.choice((*others, ROLE)), "content": f"number {self._numbers}"}
        yield "log_activity", {"action_type": "note", "summary": f"number {self._numbers}"}
        yield (
            "receive_messages",
            {
                "limit": draw.choice((1, 3)),
                "wait_seconds": draw.choice((0, 10)),
                "visibility_seconds": draw.choice((5, 60)),
            },
        )
        if self.witness.receipts[agent]:
            receipts = list(self.witness.receipts[agent])
            yield "ack_messages", {"receipts": [draw.choice(receipts[-3:])]}
            for receipt in draw.choices(receipts, k=2):
                yield "ack_messages", {"receipts": [receipt]}
        yield "check_in", {"wait_seconds": draw.choice((0, 10))}
        waits = {"wait_seconds": draw.choice((0, 10)), "lock_files": draw.random() < 0.5}
        yield "claim_next_dag_task", waits
        yield "claim_next_dag_task", waits
        if self.witness.claims[agent]:
            task = draw.choice(sorted(self.witness.claims[agent]))
            epochs = self.witness.claims[agent][task]
            for epoch in (epochs[-1], draw.choice(epochs)):
                under = {"task_id": task, "claim_epoch": epoch}
                yield "complete_dag_task", {**under, "summary": f"number {self._numbers}"}
            yield "fail_dag_task", {**under, "failure_reason": "it was drawn"}
            yield "release_dag_task", {"task_id": task}

    def _choices_of_the_lead(self) -> Iterator[tuple[str, Answer]]:
        path = self.chance.choice(PATHS)
        yield "force_release_file_lock", {"file_path": path, "reason": "it was drawn"}
        for task, claim in self.past.moments[-1].claims.items():
            if claim.status == "failed":
                yield "retry_dag_task", {"task_id": task}
        yield "send_message", {"to": ROLE, "content": f"number {self._numbers}"}

    async def _make(self, board: Board, call: Call) -> None:
        try:
            call.answer = await board.call(call.tool, agent_id=call.agent, **call.arguments)
        except Refused as refused:
            call.refusal = refused.as_data()

    # What comes of it

    async def _settle(self) -> None:
        await settled(self.processes)
        self._see()
        for process in self.processes:
            self._gather(process)

    def _see(self) -> None:
        calls = self.calls.values()
        asked = {call.request for call in calls if call.request is not None}
        claiming = {call.agent for call in calls if call.arguments.get("lock_files")}
        self.past.see(self.db, self.clock.boot_ms(), asked, claiming)

    def _gather(self, process: Process) -> None:
        """Take what is over, and have its answer judged."""
        over = [work for work in process.work if work.is_over]
        process.work = [work for work in process.work if not work.is_over]
        for work in over:
            if work.error is not None:
                raise work.error
            if (call := self.calls.pop(work, None)) is not None:
                self.tally[f"{call.tool} {call.said}"] += 1
                self._note(f"{work.number} {call.said} {call.answer or call.refusal}")
                if not call.reuses and (call.said == "no answer" or self.chance.random() < 0.1):
                    self.again.append(call)
                asked = {other.request for other in self.calls.values()}
                self.witness.hold(call, killed=process.is_dead, still_asked=asked)

    # The end

    async def _come_to_rest(self) -> None:
        """Let everything happen that can happen, with time, until all calls are over."""
        self.clock.turn(0)  # wakes whoever slept while the clock slipped
        for _ in range(MOST_ROUNDS):
            await self._let_all_through()
            for process in self.processes:
                process.start(self._next(), process.board.opened.sweep)
                await self._let_all_through()
            now = self.past.moments[-1]
            # The place of a killed call is over a moment later; only the call itself would be granted.
            killed = now.calling - {call.request for call in self.calls.values()}
            assert {request_of(ticket) for ticket in now.grantable()} <= killed, "L10"
            late = [task for task, claim in now.claims.items() if 0 < claim.until <= now.now]
            assert not late, f"T3: still claimed: {late}"
            if not self.calls and not now.tickets:
                return
            self.clock.turn(5)
            await self._settle()
        raise AssertionError(f"L11: still waiting: {list(self.calls.values())}")

    async def _let_all_through(self) -> None:
        while True:
            for process in self.processes:
                process.look()
            await self._settle()
            if self._edges():
                await self._let_through()
            elif self._left():
                await self._write_what_is_left()
            else:
                return

    def _judge(self) -> None:
        assert integrity.examine(self.db) == []
        self.witness.judge(self.db)

    def _note(self, what: str) -> None:
        self.trace.append(f"{self.clock.boot_ms()} {what}")

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers


async def prepare(folder: Path) -> None:
    """A store whose crew has signed in and has something to do."""
    async with open_board(Config(folder=folder, transport="http"), clock=TurnedClock()) as opened:
        await opened.call("register_agent", {"agent_id": LEAD, "role": "lead"})
        for agent in AGENTS:
            await opened.call("register_agent", {"agent_id": agent, "role": ROLE, "lead_id": LEAD})
        tasks = [{"id": name, "role": ROLE, "title": name, **more} for name, more in TASKS.items()]
        await opened.call("add_dag_tasks", {"agent_id": LEAD, "tasks": tasks})
