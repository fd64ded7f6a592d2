"""Processes that race for tasks, some of them killed, and what the history of the store says of it.

`CALLBOARD_PROOF=full` runs a release's number of rounds and kills.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import IO, Any

import pytest

from callboard.board import Config, open_board
from tests.reliability import task_worker
from tests.reliability.task_worker import FastClock
from tests.serving import SERVER

WORKERS = 4
TASKS = 400
DEPENDENCIES = 3
FULL = os.environ.get("CALLBOARD_PROOF") == "full"
KILLS = 40 if FULL else 4
ROUNDS = 1_000 if FULL else 100


class Place:
    """A store with a crew that has no lead, so that each of its agents may plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transitions: list[tuple[Any, ...]] = []
        self.tasks: list[tuple[Any, ...]] = []

    def plan(self, tasks: list[dict[str, Any]]) -> None:
        async def planned() -> None:
            async with self.opened() as board:
                await board.call("register_agent", {"agent_id": "planner", "role": "developer"})
                for first in range(0, len(tasks), 500):
                    batch = {"agent_id": "planner", "tasks": tasks[first : first + 500]}
                    await board.call("add_dag_tasks", batch)

        asyncio.run(planned())

    def opened(self) -> Any:
        config = Config(folder=self.folder, transport="http", durability="normal")
        return open_board(config, clock=FastClock())

    def look(self) -> None:
        """Read what became of it."""

        async def looked() -> None:
            async with self.opened() as board:
                db = board.store.connect()
                self.transitions = list(
                    db.execute(
                        """SELECT id, task_id, action, to_status, actor, claim_epoch FROM _task_transitions
                            ORDER BY id"""
                    )
                )
                self.tasks = list(
                    db.execute("SELECT id, dag_status, claim_epoch, depends_on FROM dag_tasks ORDER BY seq")
                )
                self.edges = list(db.execute("SELECT task_id, dep_id FROM _task_edges"))
                assert list(db.execute("PRAGMA integrity_check")) == [("ok",)]
                db.close()

        asyncio.run(looked())

    def start(self, agent: str, what: str, output: IO[str] | int) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, task_worker.__file__, str(self.folder), agent, what],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": f"{SERVER}{os.pathsep}{SERVER.parent}"},
            stdin=subprocess.PIPE if what == "tie" else subprocess.DEVNULL,
            stdout=output,
            text=True,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "repo"
    folder.mkdir()
    return Place(folder)


def graph(seed: int) -> list[dict[str, Any]]:
    """Tasks that wait for earlier ones each; the first few for none."""
    draw = random.Random(seed)
    return [
        {
            "id": f"t{number}",
            "role": "developer",
            "depends_on": [f"t{dep}" for dep in draw.sample(range(number), DEPENDENCIES)]
            if number >= DEPENDENCIES
            else [],
            "priority": draw.randrange(3),
        }
        for number in range(TASKS)
    ]


def log_of(place: Place, agent: str) -> list[list[str]]:
    text = (place.folder / f"{agent}.log").read_text()
    return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]


def check_order(place: Place) -> None:
    """None was begun before all it depends on was done."""
    done = {task: number for number, task, _, status, _, _ in place.transitions if status == "done"}
    begun = [(number, task) for number, task, action, _, _, _ in place.transitions if action == "claim"]
    deps: dict[str, list[str]] = {task: [] for task, _, _, _ in place.tasks}
    for task, dep in place.edges:
        deps[task].append(dep)
    assert all(done[dep] < number for number, task in begun for dep in deps[task])


def test_four_processes_drain_a_graph_and_nobody_begins_early_or_twice(place: Place) -> None:
    """T1, T7"""
    place.plan(graph(1))
    agents = [f"w{number}" for number in range(WORKERS)]
    running = []
    for agent in agents:
        with (place.folder / f"{agent}.log").open("w") as log:
            running.append(place.start(agent, "drain", log))
    for process in running:
        assert process.wait(300) == 0
    place.look()
    actions = Counter(action for _, _, action, _, _, _ in place.transitions)
    assert (actions["claim"], actions["complete"], actions["orphan"]) == (TASKS, TASKS, 0)
    assert {status for _, status, _, _ in place.tasks} == {"done"}
    claimed = [
        tuple(words[1:]) for agent in agents for words in log_of(place, agent) if words[0] == "claimed"
    ]
    assert len(claimed) == len({task for task, _ in claimed}) == len({epoch for _, epoch in claimed}) == TASKS
    check_order(place)


def test_tasks_of_killed_holders_come_back_and_every_task_ends_by_its_last_claim(place: Place) -> None:
    """T1, T3, T4"""
    place.plan(graph(2))
    draw = random.Random(2)
    living: dict[str, subprocess.Popen[str]] = {}
    agents: list[str] = []

    def start() -> None:
        agent = f"w{len(agents)}"
        agents.append(agent)
        with (place.folder / f"{agent}.log").open("w") as log:
            living[agent] = place.start(agent, "drain", log)

    for _ in range(WORKERS):
        start()
    killed = 0
    while living:
        agent = draw.choice(sorted(living))
        process = living[agent]
        try:
            assert process.wait(0.1) == 0
            del living[agent]
            continue
        except subprocess.TimeoutExpired:
            pass
        # Only one that has just claimed is killed, so that it takes a task down with it if anything does.
        log = log_of(place, agent)
        if killed < KILLS and len(log) > 5 * (killed + 1) and log[-1][0] == "claimed":
            process.kill()
            process.wait()
            del living[agent]
            killed += 1
            start()
    place.look()
    assert killed
    assert {status for _, status, _, _ in place.tasks} == {"done"}
    actions = Counter(action for _, _, action, _, _, _ in place.transitions)
    assert actions["complete"] == TASKS
    assert actions["claim"] == TASKS + actions["orphan"]
    epochs = {task: epoch for task, _, epoch, _ in place.tasks}
    last: dict[str, tuple[str, int]] = {}
    for _, task, action, _, actor, epoch in place.transitions:
        if action == "claim":
            assert task not in last or epoch > last[task][1]
            last[task] = (actor, epoch)
        if action == "complete":
            assert (actor, epoch) == last[task] and epoch == epochs[task]
    acknowledged = {
        (words[1], int(words[2]))
        for agent in agents
        for words in log_of(place, agent)
        if words[0] == "completed"
    }
    assert all(epochs[task] == epoch for task, epoch in acknowledged)
    check_order(place)


def test_of_two_edges_that_would_close_a_circle_exactly_one_is_tied(place: Place) -> None:
    """T6"""
    place.plan([{"id": f"{side}{number}", "role": "developer"} for number in range(ROUNDS) for side in "ab"])
    answers = []
    with place.start("w0", "tie", subprocess.PIPE) as one, place.start("w1", "tie", subprocess.PIPE) as other:
        assert one.stdin and one.stdout and other.stdin and other.stdout
        for process in (one, other):
            assert process.stdout and process.stdout.readline() == "ready\n"
        for number in range(ROUNDS):
            one.stdin.write(f"a{number} b{number}\n")
            other.stdin.write(f"b{number} a{number}\n")
            one.stdin.flush()
            other.stdin.flush()
            answers.append(sorted((one.stdout.readline().strip(), other.stdout.readline().strip())))
        one.stdin.close()
        other.stdin.close()
    assert answers == [["cycle", "ok"]] * ROUNDS
    place.look()
    assert len(place.edges) == ROUNDS
