"""Tasks against a small model: whatever is done to a graph, in whatever order, it is what the model says.

Hypothesis draws edits, claims, deaths and steps of the clock for a lead and two workers. The model knows
the table of transitions and what follows from the dependencies, in its own words; after every step it is
compared with the store, and the store with itself. `CALLBOARD_PROOF=full` runs a release's examples.
"""

import asyncio
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from callboard.board import Config, open_board
from callboard.domains import projects
from callboard.errors import Refused
from callboard.store import Tx
from tests.conftest import Board, Counted, TurnedClock

FULL = os.environ.get("CALLBOARD_PROOF") == "full"

IDS = [f"t{number}" for number in range(5)]
STEPS = {
    "pending": ("pause", "skip", "cancel", "force"),
    "blocked": ("pause", "skip", "cancel", "force"),
    "ready": ("claim", "claim", "claim", "assign", "lead_completes", "pause", "skip", "cancel"),
    "running": (
        "complete",
        "complete",
        "submit",
        "submit",
        "fail",
        "release",
        "assign",
        "pause",
        "skip",
        "cancel",
    ),
    "in_review": (
        "approve",
        "reject",
        "reject",
        "lead_completes",
        "fail",
        "assign",
        "pause",
        "skip",
        "cancel",
    ),
    "paused": ("resume", "resume", "resume", "complete", "lead_completes", "skip", "cancel"),
    "done": ("reopen", "archive"),
    "failed": ("retry", "retry", "skip", "cancel", "archive"),
    "skipped": ("reopen", "archive"),
    "cancelled": ("reopen", "archive"),
}
ACTIONS = sorted({action for possible in STEPS.values() for action in possible} | {"unarchive"})
TICK = 250
"""Seconds of one step of the clock: no end of a claim ever falls on a step."""
CLAIM, MAX_HOLD = 600, 4 * 3600

ids = st.sampled_from(IDS)
workers = st.sampled_from([0, 1])
files = st.sampled_from(["", "a.py", "src/", "src/b.py"])


@dataclass
class Model:
    """One task: `entered` is its status, or `open` where that follows from the dependencies."""

    deps: set[str]
    entered: str = "open"
    paused_from: str = ""
    forced: bool = False
    archived: bool = False
    holder: str | None = None
    attempts: int = 0
    deadline: int | None = None
    hold_until: int = 0
    file: str = ""
    locked: bool = field(default=False)


class World:
    """One store for all examples; each example has a crew of its own in it."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = TurnedClock()
        self.crews = itertools.count()
        root = Path(self.folder.name) / "repo"
        root.mkdir()
        config = Config(folder=root, transport="http", durability="normal")
        opened = open_board(config, clock=self.clock, ids=Counted())
        self.board = Board(self.runner.run(self.stack.enter_async_context(opened)), self.clock, root)

    def call(self, agent_id: str, tool: str, **arguments: Any) -> dict[str, Any] | str:
        """A call's result, or the code of its refusal."""
        try:
            return self.runner.run(self.board.call(tool, agent_id=agent_id, **arguments))
        except Refused as refused:
            return refused.code

    def make_project(self, name: str) -> None:
        """A repository of its own, so that the examples' files never meet."""

        def made(tx: Tx) -> None:
            projects.ensure_project(tx, project_id=name, name=name, root=self.board.folder / name)
            tx.events.clear()

        self.runner.run(self.board.opened.store.write(made))

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self.runner.run(self.board.rows(sql, **values))

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()


WORLD: list[World] = []


@pytest.fixture(scope="module", autouse=True)
def world() -> Iterator[None]:
    WORLD.append(World())
    yield
    WORLD.pop().close()


class Tasks(RuleBasedStateMachine):
    @initialize(
        edges=st.sets(st.tuples(ids, ids), min_size=5, max_size=10),
        files=st.lists(files, min_size=5, max_size=5),
    )
    def a_crew_signs_in(self, edges: set[tuple[str, str]], files: list[str]) -> None:
        self.world = WORLD[0]
        number = next(self.world.crews)
        self.lead, self.project = f"lead{number}", f"project{number}"
        self.workers = [f"w{number}a", f"w{number}b"]
        self.model: dict[str, Model] = {}
        self.now = 0
        self.world.make_project(self.project)
        signed = self.world.call(self.lead, "register_agent", role="lead", project_id=self.project)
        assert not isinstance(signed, str), signed
        for worker in self.workers:
            self._sign_in(worker)
        for name, file in zip(IDS, files, strict=True):
            self.add(name, {min(edge) for edge in edges if max(edge) == name != min(edge)}, file)

    def _sign_in(self, worker: str, **more: Any) -> None:
        answer = self.world.call(
            worker, "register_agent", role="developer", lead_id=self.lead, project_id=self.project, **more
        )
        assert not isinstance(answer, str), answer

    # What the model says

    def status(self, name: str) -> str:
        task = self.model[name]
        if task.entered != "open":
            return task.entered
        return self.follows(name)

    def live(self, name: str) -> list[str]:
        return [dep for dep in self.model[name].deps if not self.model[dep].archived]

    def follows(self, name: str) -> str:
        missing = [dep for dep in self.live(name) if self.status(dep) not in ("done", "skipped")]
        if not missing or self.model[name].forced:
            return "ready"
        return "blocked" if any(self.is_stuck(dep) for dep in missing) else "pending"

    def is_stuck(self, name: str) -> bool:
        """Whether a dependency will not be done by itself."""
        status = self.status(name)
        if status == "paused" and self.model[name].paused_from == "open":
            return self.follows(name) == "blocked"
        return status in ("failed", "cancelled", "blocked")

    def reaches(self, start: str, goal: str) -> bool:
        return start == goal or any(self.reaches(dep, goal) for dep in self.live(start))

    def unclaim(self, task: Model) -> None:
        task.holder, task.deadline, task.locked = None, None, False

    def end(self, task: Model, status: str) -> None:
        task.entered, task.paused_from, task.deadline, task.locked = status, "", None, False

    def renews(self, agent_id: str) -> None:
        for task in self.model.values():
            if task.holder == agent_id and task.deadline is not None:
                task.deadline = max(task.deadline, min(self.now + CLAIM, task.hold_until))

    def call(self, agent_id: str, tool: str, **arguments: Any) -> dict[str, Any] | str:
        self.renews(agent_id)
        return self.world.call(agent_id, tool, **arguments)

    def does(self, done: bool, agent_id: str, tool: str, name: str, **arguments: Any) -> bool:
        """A call on one task that must succeed exactly when the model says so."""
        answer = self.call(agent_id, tool, task_id=name, **arguments)
        known = name in self.model
        assert (not isinstance(answer, str)) == (known and done), (tool, name, answer)
        if not known:
            assert answer == "unknown_task"
        return known and done

    def now_is(self, name: str, *statuses: str) -> bool:
        return name in self.model and not self.model[name].archived and self.status(name) in statuses

    def orphan(self, task: Model) -> None:
        task.locked = False
        if "in_review" in (task.entered, task.paused_from):
            task.deadline = None
            return
        if task.entered == "paused":
            task.paused_from = "open"
            self.unclaim(task)
            return
        task.attempts += 1
        if task.attempts < 3:
            task.entered = "open"
            self.unclaim(task)
        else:
            self.end(task, "failed")

    # What is done

    @rule(name=ids, deps=st.sets(ids, max_size=3), file=files)
    def add(self, name: str, deps: set[str], file: str) -> None:
        exists = name in self.model and not self.model[name].archived
        known = all(dep in self.model and not self.model[dep].archived for dep in deps - {name})
        answer = self.call(
            self.lead,
            "add_dag_task",
            id=name,
            role="developer",
            depends_on=sorted(deps),
            files=[file] if file else [],
        )
        assert (not isinstance(answer, str)) == (not exists and known and name not in deps), answer
        if not isinstance(answer, str):
            for task in self.model.values():
                task.deps.discard(name)
            self.model[name] = Model(deps=set(deps), file=file.rstrip("/"))

    @rule(name=ids, dep=ids)
    def add_edge(self, name: str, dep: str) -> None:
        fits = self.now_is(name, "pending", "ready", "blocked", "running", "in_review", "paused")
        fits = fits and dep in self.model and not self.model[dep].archived
        fits = fits and dep not in self.model[name].deps and not self.reaches(dep, name)
        if self.does(fits, self.lead, "add_task_dependencies", name, depends_on=[dep]):
            if self.status(dep) not in ("done", "skipped"):
                self.model[name].forced = False
            self.model[name].deps.add(dep)

    @rule(name=ids, dep=ids)
    def remove_edge(self, name: str, dep: str) -> None:
        fits = self.now_is(name, "pending", "ready", "blocked", "running", "in_review", "paused")
        if self.does(fits, self.lead, "remove_task_dependencies", name, depends_on=[dep]):
            self.model[name].deps.discard(dep)

    @rule(worker=workers, lock=st.booleans())
    def claim_next(self, worker: int, lock: bool) -> None:
        agent_id = self.workers[worker]
        answer = self.call(agent_id, "claim_next_dag_task", lock_files=lock)
        assert not isinstance(answer, str), answer
        busy = [task.file for task in self.model.values() if self._works(task) and task.holder != agent_id]
        free = [name for name in self.model if self.now_is(name, "ready") and not self._meets(name, busy)]
        taken = answer.get("task", {}).get("task_id")
        # An archived id that begins anew is the youngest: the model leaves the choice to the store.
        assert (taken in free) if free else taken is None, (answer, free)
        if taken is not None:
            self._taken(taken, agent_id, lock)

    def _works(self, task: Model) -> bool:
        return (
            not task.archived
            and task.holder is not None
            and task.entered in ("running", "in_review", "paused")
        )

    def _meets(self, name: str, busy: list[str]) -> bool:
        own = self.model[name].file
        return bool(own) and any(
            other and (own == other or own.startswith(f"{other}/") or other.startswith(f"{own}/"))
            for other in busy
        )

    def _taken(self, name: str, holder: str, locked: bool) -> None:
        task = self.model[name]
        task.entered, task.holder, task.paused_from = "running", holder, ""
        task.deadline, task.hold_until = self.now + CLAIM, self.now + MAX_HOLD
        task.locked = locked and bool(task.file)

    def claim(self, name: str, worker: int) -> None:
        agent_id = self.workers[worker]
        mine = self.now_is(name, "running") and self.model[name].holder == agent_id
        if self.does(self.now_is(name, "ready") or mine, agent_id, "claim_dag_task", name):
            self._taken(name, agent_id, self.model[name].locked)

    def assign(self, name: str, worker: int) -> None:
        agent_id = self.workers[worker]
        fits = self.now_is(name, "ready", "running", "in_review")
        mine = fits and self.status(name) == "running" and self.model[name].holder == agent_id
        if self.does(fits, self.lead, "assign_dag_task", name, target_agent_id=agent_id):
            self._taken(name, agent_id, self.model[name].locked and mine)

    def release(self, name: str, worker: int) -> None:
        mine = self.now_is(name, "running") and self.model[name].holder == self.workers[worker]
        if self.does(mine, self.workers[worker], "release_dag_task", name):
            self.model[name].entered = "open"
            self.unclaim(self.model[name])

    def submit(self, name: str, worker: int) -> None:
        mine = self.now_is(name, "running") and self.model[name].holder == self.workers[worker]
        if self.does(mine, self.workers[worker], "submit_dag_task", name):
            self.model[name].entered = "in_review"

    def review(self, name: str, approve: bool) -> None:
        fits = self.now_is(name, "in_review")
        if not self.does(
            fits, self.lead, "review_dag_task", name, verdict="approve" if approve else "reject"
        ):
            return
        task = self.model[name]
        if approve:
            self.end(task, "done")
        elif task.deadline is not None:
            task.entered, task.deadline, task.hold_until = "running", self.now + CLAIM, self.now + MAX_HOLD
        else:
            task.entered = "open"
            self.unclaim(task)

    def complete(self, name: str, worker: int) -> None:
        if worker == 2:
            fits = self.now_is(name, "running", "paused", "ready", "in_review")
            repeated = name in self.model and self.status(name) == "done"  # archived meanwhile, too
            answer = self.call(self.lead, "complete_dag_task", task_id=name, summary="by the lead")
            assert not isinstance(answer, str) or not fits, answer
            assert isinstance(answer, str) or fits or repeated, answer
            if fits:
                self.end(self.model[name], "done")
            return
        agent_id = self.workers[worker]
        fits = self.now_is(name, "running", "paused") and self.model[name].holder == agent_id
        fits = fits and self.model[name].paused_from != "in_review"
        answer = self.call(agent_id, "complete_dag_task", task_id=name, summary=f"by {agent_id}")
        assert not isinstance(answer, str) or not fits, answer
        if fits:
            self.end(self.model[name], "done")

    def fail(self, name: str, worker: int) -> None:
        agent_id = self.workers[worker]
        fits = self.now_is(name, "running", "in_review") and self.model[name].holder == agent_id
        if self.does(fits, agent_id, "fail_dag_task", name, failure_reason="no"):
            self.end(self.model[name], "failed")

    def pause(self, name: str) -> None:
        fits = self.now_is(name, "pending", "ready", "blocked", "running", "in_review")
        if self.does(fits, self.lead, "pause_dag_task", name):
            task = self.model[name]
            task.entered, task.paused_from = "paused", task.entered

    def resume(self, name: str) -> None:
        if self.does(self.now_is(name, "paused"), self.lead, "resume_dag_task", name):
            task = self.model[name]
            task.entered, task.paused_from = task.paused_from, ""
            if task.entered == "open":
                self.unclaim(task)

    def retry(self, name: str) -> None:
        if self.does(self.now_is(name, "failed"), self.lead, "retry_dag_task", name):
            self._anew(name)

    def reopen(self, name: str) -> None:
        if self.does(self.now_is(name, "done", "skipped", "cancelled"), self.lead, "reopen_dag_task", name):
            self._anew(name)

    def _anew(self, name: str) -> None:
        task = self.model[name]
        task.entered, task.forced, task.attempts = "open", False, 0
        self.unclaim(task)

    def leave_out(self, name: str, tool: str) -> None:
        fits = self.now_is(name, "pending", "ready", "running", "in_review", "blocked", "paused", "failed")
        if self.does(fits, self.lead, f"{tool}_dag_task", name):
            self.end(self.model[name], {"skip": "skipped", "cancel": "cancelled"}[tool])

    def force(self, name: str) -> None:
        if self.does(self.now_is(name, "pending", "blocked"), self.lead, "force_ready_dag_task", name):
            self.model[name].forced = True

    def archive(self, name: str) -> None:
        fits = self.now_is(name, "done", "failed", "skipped", "cancelled")
        if fits and self.status(name) in ("failed", "cancelled"):
            fits = not any(name in task.deps and not task.archived for task in self.model.values())
        answer = self.call(self.lead, "archive_dag_tasks", task_ids=[name])
        assert (not isinstance(answer, str)) == fits, answer
        if fits:
            self.model[name].archived = True

    def unarchive(self, name: str) -> None:
        fits = name in self.model and self.model[name].archived
        if fits:
            self.model[name].archived = False
            if any(self.reaches(dep, name) for dep in self.live(name)):
                self.model[name].archived, fits = True, False
        self.does(fits, self.lead, "unarchive_dag_task", name)

    @rule(really=st.sampled_from([False] * 9 + [True]))
    def reset(self, really: bool) -> None:
        if not really:
            return
        answer = self.call(self.lead, "reset_dag", reason="anew")
        assert not isinstance(answer, str)
        for task in self.model.values():
            if not task.archived:
                if task.entered in ("running", "in_review", "paused"):
                    self.end(task, "cancelled")
                task.archived = True

    @rule(worker=workers)
    def die(self, worker: int) -> None:
        agent_id = self.workers[worker]
        assert not isinstance(self.call(self.lead, "terminate_agent", target_agent_id=agent_id), str)
        for task in self.model.values():
            if task.holder == agent_id and task.deadline is not None:
                self.orphan(task)
        self._sign_in(agent_id, revive=True)

    @rule(steps=st.integers(1, 3))
    def tick(self, steps: int) -> None:
        self.now += steps * TICK
        self.world.runner.run(self.world.board.turn(steps * TICK))
        for task in self.model.values():
            if task.deadline is not None and task.deadline <= self.now:
                self.orphan(task)

    @rule(seed=st.integers(0, 2**32))
    def work(self, seed: int) -> None:
        """Some things that the tasks' statuses allow, one after the other. They are drawn evenly, as chains
        of steps matter here and not the smallest numbers."""
        draw = Random(seed)
        for _ in range(6):
            name, worker = draw.choice(IDS), draw.randrange(2)
            task = self.model[name]
            if task.archived:
                self.unarchive(name)
            else:
                action = draw.choice(STEPS[self.status(name)])
                if task.holder in self.workers and action in ("release", "submit", "complete", "fail"):
                    worker = self.workers.index(task.holder)
                self.act(action, name, worker)
            self.the_store_is_what_the_model_says()

    @rule(name=ids, action=st.sampled_from(ACTIONS), worker=workers)
    def misstep(self, name: str, action: str, worker: int) -> None:
        """Anything at all, mostly refused."""
        self.act(action, name, worker)

    def act(self, action: str, name: str, worker: int) -> None:
        match action:
            case "claim" | "assign" | "release" | "submit" | "complete" | "fail":
                getattr(self, action)(name, worker)
            case "approve" | "reject":
                self.review(name, action == "approve")
            case "lead_completes":
                self.complete(name, 2)
            case "skip" | "cancel":
                self.leave_out(name, action)
            case _:
                getattr(self, action)(name)

    # What must be so after every step

    @invariant()
    def the_store_is_what_the_model_says(self) -> None:
        rows = self.world.rows(
            """SELECT id, dag_status, depends_on, archived_at IS NOT NULL, assigned_agent_id, lease_boot_ms,
                      attempts
                 FROM dag_tasks WHERE lead_id = :lead""",
            lead=self.lead,
        )
        assert {row[0] for row in rows} == set(self.model)
        for name, status, depends_on, archived, holder, lease, attempts in rows:
            task = self.model[name]
            assert json.loads(depends_on) == sorted(task.deps), name
            assert bool(archived) == task.archived
            if task.archived:
                continue
            assert status == self.status(name), name
            assert (lease is not None) == (task.deadline is not None), name
            assert attempts == task.attempts
            if status in ("running", "in_review"):
                assert holder == task.holder
            if status in ("pending", "ready", "blocked"):
                assert holder is None
            self._has_a_reason(name)

    def _has_a_reason(self, name: str) -> None:
        """No task is stuck without a named cause: what is pending waits for something that moves or can be
        moved, and what is blocked has a root."""
        status = self.status(name)
        missing = [dep for dep in self.live(name) if self.status(dep) not in ("done", "skipped")]
        if status == "pending":
            assert missing
        if status == "blocked":
            way = name
            while self.status(way) not in ("failed", "cancelled"):
                way = next(dep for dep in self.live(way) if self.is_stuck(dep))

    @invariant()
    def the_store_agrees_with_itself(self) -> None:
        lead = {"lead": self.lead}
        wrong = self.world.rows(
            """SELECT t.id, t.unmet, t.dependents FROM dag_tasks AS t WHERE t.lead_id = :lead
                  AND (t.unmet <> (SELECT count(*) FROM _task_edges AS e JOIN dag_tasks AS d
                                       ON d.id = e.dep_id AND d.lead_id = e.lead_id
                                    WHERE e.task_id = t.id AND e.lead_id = t.lead_id
                                      AND d.dag_status NOT IN ('done', 'skipped') AND d.archived_at IS NULL)
                       OR t.dependents <> (SELECT count(*) FROM _task_edges AS e
                                            WHERE e.dep_id = t.id AND e.lead_id = t.lead_id))""",
            **lead,
        )
        assert wrong == []
        loose = self.world.rows(
            """SELECT l.file_path, l.agent_id, l.task_id FROM _leases AS l
                WHERE l.task_id IS NOT NULL AND l.agent_id IN (:one, :two)
                  AND NOT EXISTS (SELECT 1 FROM dag_tasks AS t
                                   WHERE t.id = l.task_id AND t.lead_id = :lead
                                     AND t.assigned_agent_id = l.agent_id
                                     AND t.dag_status IN ('running', 'in_review', 'paused'))""",
            one=self.workers[0],
            two=self.workers[1],
            **lead,
        )
        assert loose == []
        last: dict[str, str] = {}
        history = """SELECT task_id, action, from_status, to_status FROM _task_transitions
                      WHERE lead_id = :lead ORDER BY id"""
        for name, action, was, to in self.world.rows(history, **lead):
            assert was == last.get(name), (name, action, was, to)
            last[name] = to
        stored = self.world.rows("SELECT id, dag_status FROM dag_tasks WHERE lead_id = :lead", **lead)
        assert last == dict(stored)


TestTasks = Tasks.TestCase
TestTasks.settings = settings(
    max_examples=1_000 if FULL else 25,
    stateful_step_count=50 if FULL else 30,
    # A failure is told as it was found; making it small takes longer than a hanging test is given.
    phases=[phase for phase in Phase if FULL or phase is not Phase.shrink],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
