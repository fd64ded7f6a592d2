"""What a briefing is made of: its sections, in the order in which they are served.

What other agents wrote at length stands between fences; short titles, and what people, the server and the
reader itself wrote, do not.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice

from pydantic import Field

from callboard.domains import memory, projects
from callboard.domains.crew import alerts
from callboard.domains.crew.fitting import Section
from callboard.domains.crew.holding import (
    HeldLock,
    claims_of,
    crews_of,
    held_locks,
    ready_for,
    titled,
    to_review,
)
from callboard.domains.crew.surroundings import (
    COUNTS,
    FILES,
    MOST,
    board,
    known_as,
    known_of,
    lesson,
    lessons_of,
    mates,
    owners,
    pointer,
    ruled,
    rules,
    ruling,
    to_take,
    why_of,
)
from callboard.domains.crew.words import NAMED, Texts, counted, named, shortened
from callboard.domains.roster import roles
from callboard.domains.tasks import Task
from callboard.domains.tasks.task import is_lead
from callboard.identity import Caller
from callboard.store import Row, Tx
from callboard.tool import Result

ROLE = 400
"""Characters of what people expect of a role."""


class Comment(Row):
    reason: str


class HandedRow(Row):
    task_id: str
    agent_id: str
    summary: str
    output: str


class NoteRow(Row):
    key: str
    value: str


class Delegated(Row):
    delegation_id: str
    delegator_id: str
    dag_task_id: str | None


# What the reviewer wrote when the task came back last.
REJECTED = Comment.query("""
    SELECT reason FROM _task_transitions
     WHERE lead_id = :lead_id AND task_id = :task_id AND action = 'review' AND to_status <> 'done'
       AND reason IS NOT NULL
     ORDER BY id DESC LIMIT 1
""")
HANDED_OVER = HandedRow.query("""
    SELECT r.task_id, r.agent_id, r.summary, r.output
      FROM _task_edges AS e CROSS JOIN _task_results AS r ON r.lead_id = e.lead_id AND r.task_id = e.dep_id
     WHERE e.lead_id = :lead_id AND e.task_id = :task_id AND r.kind = 'completion'
       AND r.id = (SELECT max(id) FROM _task_results AS later
                    WHERE later.lead_id = r.lead_id AND later.task_id = r.task_id
                      AND later.kind = 'completion')
     ORDER BY r.id DESC LIMIT :limit
""")
NOTES = NoteRow.query("""
    SELECT key, value FROM agent_memory WHERE lead_id = :lead_id AND agent_id = :agent_id
     ORDER BY updated_at DESC, id DESC LIMIT :limit
""")
DELEGATED = Delegated.query("""
    SELECT delegation_id, delegator_id, dag_task_id FROM active_delegations
     WHERE agent_id = :agent_id AND status = 'active' ORDER BY seq LIMIT :limit
""")


class Work(Result):
    task_id: str
    dag_status: str
    title: str | None = None
    claim_epoch: int
    remaining_seconds: int | None = None
    attempts: int | None = Field(default=None, description="Earlier claims that ended without a word")
    files: list[str] | None = None
    files_count: int | None = None
    comment: str | None = Field(default=None, description="Why it was given back, between fences")
    text: str | None = Field(default=None, description="Between fences; get_dag_task has all of it")


class Step(Result):
    status: str
    content: str
    task_id: str | None = None


class Note(Result):
    key: str
    text: str


class Handed(Result):
    task_id: str
    agent_id: str
    text: str = Field(description="Between fences")


def gathered(
    tx: Tx, caller: Caller, *, unread: int, topic: str | None, width: int
) -> tuple[list[Section], str]:
    """All sections of the caller's page in the order in which they are served, and the mark of its fences.
    `width` is the budget of the page in tokens."""
    crews = crews_of(tx, caller)
    session = projects.session_of(tx, caller.project_id, caller.lead_id)
    claims = claims_of(tx, caller, MOST)
    running = [task for task in claims if task.dag_status == "running"]
    comments = [tx.one(REJECTED, lead_id=task.lead_id, task_id=task.id) for task in claims]
    handed = [
        row
        for task in running
        for row in tx.all(HANDED_OVER, lead_id=task.lead_id, task_id=task.id, limit=MOST)
    ]
    decided = ruled(tx, caller)
    known = known_of(tx, caller, topic, running, session)
    bodies = [task.description for task in claims]
    bodies += [comment.reason for comment in comments if comment is not None]
    bodies += [f"{row.summary} {row.output}" for row in handed]
    bodies += [why_of(decision) for decision in decided]
    bodies += [one.text for one in known]
    learned = lessons_of(tx, caller)
    bodies += [said for _, _, said in learned]
    texts = Texts(tx, width, bodies)
    held = held_locks(tx, caller.agent_id)
    ready = list(islice(ready_for(tx, caller), MOST))
    counts = tx.all(COUNTS, crews=json.dumps(crews))
    found = alerts.of_caller(tx, caller, crews) if is_lead(caller) else []
    others = mates(tx, caller, crews, running)
    to_do = list(_next(tx, caller, unread, claims, held, ready, any_task=bool(counts)))
    sections = [
        Section("next", "check_in", 5, to_do),
        Section("goal", "get_project", 1, _goal(session, texts)),
        Section(
            "tasks",
            "get_dag_task",
            2,
            [_work(tx, task, comment, texts) for task, comment in zip(claims, comments, strict=True)],
            share=2,
        ),
        Section("locks", "list_file_locks", 4, held[:MOST], known=len(held)),
        Section("alerts", "list_alerts", 3, [pointer(alert) for alert in found[:MOST]], known=len(found)),
        Section("core", "get_knowledge", 6, rules(tx, caller)),
        Section("notes", "get_agent_memory", 1, _notes(tx, caller, texts)),
        Section("plan", "get_agent_plan", 1, _plan(tx, caller)),
        Section("board", "", 1, board(counts)),
        Section("role", "list_roles", 1, _role(tx, caller)),
        Section("decisions", "list_decisions", 3, [ruling(decision, texts) for decision in decided]),
        Section("handed_over", "get_dag_task", 2, [_handed(row, texts) for row in handed[:MOST]]),
        Section("crew", "list_agents", 4, others[:MOST], known=len(others)),
        Section("files", "list_file_history", 3, list(owners(tx, caller, running))),
        Section("ready", "list_dag_tasks", 3, to_take(tx, caller, ready)),
        Section("knowledge", "search_knowledge", 3, [known_as(one, texts) for one in known]),
        Section("lessons", "list_session_retros", 2, [lesson(one, texts) for one in learned]),
    ]
    return sections, texts.mark


def _next(
    tx: Tx,
    caller: Caller,
    unread: int,
    claims: Sequence[Task],
    held: Sequence[HeldLock],
    ready: Sequence[Task],
    *,
    any_task: bool,
) -> Iterator[str]:
    """What the caller has to do, the most pressing first."""
    if unread:
        yield f"Fetch your {counted(unread, 'message')} with receive_messages."
    running = [task for task in claims if task.dag_status == "running"]
    for task in running[:NAMED]:
        yield (
            f"Go on with {task.id}; end it with complete_dag_task (claim_epoch {task.claim_epoch}), "
            "fail_dag_task or release_dag_task."
        )
    if reviews := to_review(tx, caller, MOST):
        yield f"Judge {named([task.id for task in reviews])} with review_dag_task."
    for given in tx.all(DELEGATED, agent_id=caller.agent_id, limit=NAMED):
        if given.dag_task_id is None:
            yield (
                f"Do what {given.delegator_id} delegated to you, then complete_delegation "
                f"{given.delegation_id}."
            )
    if loose := [lock.file_path for lock in held if lock.task_id is None]:
        yield f"Release {named(loose)} with release_file_lock when you have written."
    if not running and ready:
        yield f"Take a task with claim_next_dag_task: {counted(len(ready), 'task')} could be yours."
    elif not running and caller.kind == "worker":
        yield "No task can be taken by you now: check_in with wait_seconds waits for one."
    elif not any_task and is_lead(caller):
        yield "There are no tasks yet: plan the work with add_dag_tasks."
    elif not running and is_lead(caller):
        yield "get_crew_status shows where your crew stands; check_in with wait_seconds waits for news."


def _goal(session: projects.Session | None, texts: Texts) -> list[str]:
    if session is None or session.status != "active" or not session.task:
        return []
    return [shortened(session.task, texts.short)]


def _role(tx: Tx, caller: Caller) -> list[str]:
    """What people expect of the caller's role."""
    role = tx.one(roles.ROLE, id=caller.role)
    return [shortened(role.system_prompt, ROLE)] if role is not None and role.system_prompt else []


def _work(tx: Tx, task: Task, comment: Comment | None, texts: Texts) -> Work:
    left = None if task.lease_boot_ms is None else max(0, task.lease_boot_ms - tx.now) // 1000
    files = task.file_paths
    return Work(
        task_id=task.id,
        dag_status=task.dag_status,
        title=titled(task),
        claim_epoch=task.claim_epoch,
        remaining_seconds=left,
        attempts=task.attempts or None,
        files=files[:FILES] or None,
        files_count=len(files) if len(files) > FILES else None,
        comment=texts.passage(comment.reason) if comment else None,
        text=texts.description(task.description),
    )


def _plan(tx: Tx, caller: Caller) -> list[Step]:
    """What is left of the caller's plan, what it is at first."""
    plan = memory.plan_of(tx, caller.agent_id)
    steps = [step for step in plan.entries if step.status != "completed"] if plan else []
    steps.sort(key=lambda step: step.status != "in_progress")
    return [Step(status=step.status, content=step.content, task_id=step.task_id) for step in steps]


def _notes(tx: Tx, caller: Caller, texts: Texts) -> list[Note]:
    rows = tx.all(NOTES, lead_id=caller.lead_id, agent_id=caller.agent_id, limit=MOST)
    return [Note(key=row.key, text=shortened(row.value, texts.short)) for row in rows]


def _handed(row: HandedRow, texts: Texts) -> Handed:
    said = row.summary or row.output
    return Handed(task_id=row.task_id, agent_id=row.agent_id, text=texts.passage(said))
