"""`callboard import --from`: what other programs keep comes in with its edges, its order and its state."""

import json
from pathlib import Path
from typing import Any

import pytest

from callboard import foreign
from tests.cli.desk import Desk

FILES = Path(__file__).resolve().parents[1] / "fixtures" / "imports"


@pytest.fixture
def crew(desk: Desk) -> Desk:
    """A desk whose crew has a lead."""
    desk.run("call", "register_agent", "role=lead", "--agent", "lee")
    return desk


def bring(desk: Desk, source: str, file: str, *more: str) -> dict[str, Any]:
    told = desk.run("import", str(FILES / file), "--from", source, "--lead", "lee", "--json", *more).output
    found: dict[str, Any] = json.loads(told)
    return found


def tasks(desk: Desk) -> dict[str, dict[str, Any]]:
    page = json.loads(desk.run("call", "list_dag_tasks", "limit=200", "--agent", "lee").output)
    ids = [task["task_id"] for task in page["tasks"]]
    return {
        name: json.loads(desk.run("call", "get_dag_task", f"task_id={name}", "--agent", "lee").output)
        for name in ids
    }


def waits(task: dict[str, Any]) -> list[str]:
    return [edge["task_id"] for edge in task.get("depends_on", [])]


def test_the_issues_of_beads_come_with_edges_states_and_priorities(crew: Desk) -> None:
    told = bring(crew, "beads", "issues.jsonl")
    assert told["done"] == {"added": 5, "dependencies": 3, "done": 2, "paused": 1}
    found = tasks(crew)
    assert {name: (task["dag_status"], waits(task)) for name, task in found.items()} == {
        "bd-1": ("done", []),
        "bd-2": ("ready", ["bd-1"]),
        "bd-3": ("pending", ["bd-2"]),
        "bd-4": ("paused", []),
        "bd-5": ("done", ["bd-2"]),
    }
    assert [found[name]["priority"] for name in ("bd-1", "bd-2", "bd-3", "bd-4")] == [4, 3, 2, 0]
    assert "Acceptance: All routes answer" in found["bd-2"]["description"]
    assert sorted(told["left_out"]) == [
        "bd-3: assignee",
        "bd-3: discovered-from bd-1 is no dependency here",
        "bd-3: in_progress there; here it waits to be claimed",
        "bd-3: labels",
        "bd-3: waits for bd-9, which is not in the file",
        "bd-6: deleted there",
    ]


def test_the_tasks_of_task_master_come_with_their_subtasks(crew: Desk) -> None:
    told = bring(crew, "task-master", "tasks.json")
    assert told["done"] == {"added": 6, "dependencies": 8, "done": 2, "cancelled": 1, "paused": 1}
    found = tasks(crew)
    assert {name: (task["dag_status"], waits(task)) for name, task in found.items()} == {
        "1": ("done", []),
        "2": ("pending", ["1", "2.1", "2.2"]),
        "2.1": ("done", ["1"]),
        "2.2": ("ready", ["1", "2.1"]),
        "3": ("cancelled", ["2"]),
        "4": ("paused", ["2.1"]),
    }
    assert [found[name]["priority"] for name in ("1", "2", "2.2", "3")] == [2, 1, 1, 0]


@pytest.mark.parametrize(("source", "file"), [("beads", "issues.jsonl"), ("task-master", "tasks.json")])
def test_a_second_import_changes_nothing_and_a_dry_run_does_nothing(
    crew: Desk, source: str, file: str
) -> None:
    planned = bring(crew, source, file, "--dry-run")
    assert tasks(crew) == {}
    assert bring(crew, source, file)["done"] == planned["done"]
    before = tasks(crew)
    assert bring(crew, source, file)["done"] == {"there before": len(before)}
    assert tasks(crew) == before


def test_the_entities_of_the_memory_server_become_notes(crew: Desk) -> None:
    told = bring(crew, "memory", "memory.jsonl")
    assert told == {"done": {"noted": 2}, "left_out": ["nobody knows ann: there is no such entity"]}
    note = json.loads(
        crew.run("call", "get_knowledge", "category=semantic", "key=billing-service", "--agent", "lee").output
    )
    for line in ("billing/service (component)", "- Runs nightly", "- Owned by ann"):
        assert line in note["text"]
    person = json.loads(
        crew.run("call", "get_knowledge", "category=semantic", "key=ann", "--agent", "lee").output
    )
    assert "- maintains billing/service" in person["text"]
    assert bring(crew, "memory", "memory.jsonl")["done"] == {"there before": 2}


@pytest.mark.parametrize(
    ("reader", "text", "says"),
    [
        (foreign.beads, "{}", "no id"),
        (foreign.beads, "words", "Line 1"),
        (foreign.beads, '{"id":"a"}\n{"id":"a"}', "two tasks"),
        (
            foreign.beads,
            '{"id":"a","dependencies":[{"depends_on_id":"b","type":"blocks"}]}\n'
            '{"id":"b","dependencies":[{"depends_on_id":"a","type":"blocks"}]}',
            "circle: a, b",
        ),
        (foreign.task_master, '{"other": {"tasks": []}}', "no tag master; it has other"),
        (foreign.task_master, "[]", "no list of tasks"),
        (foreign.memory, "[1]", "else than objects"),
    ],
)
def test_a_file_of_another_form_is_refused(reader: Any, text: str, says: str) -> None:
    with pytest.raises(foreign.BadPlan, match=says):
        reader(text)
