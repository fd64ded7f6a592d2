"""What a briefing tells of the crew and the project: what was decided, who is here, what is known."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence

from pydantic import Field

from callboard import globs
from callboard.domains import decisions, knowledge, projects, retros
from callboard.domains.crew import alerts
from callboard.domains.crew.holding import TITLE, OpenTask, open_task, undecided
from callboard.domains.crew.words import Texts, shortened
from callboard.domains.decisions import Decision
from callboard.domains.knowledge import Known as KnownHere
from callboard.domains.locks.leases import IN_PROJECT
from callboard.domains.tasks import Task
from callboard.domains.tasks.task import COLUMNS, is_lead
from callboard.identity import Caller
from callboard.lockname import name_of
from callboard.store import Row, Tx
from callboard.tool import Result

MOST = 20
"""Things of one kind that a page can show at most, beside the rules."""

FILES = 6
"""Locks of one agent, and files of one task, that are named."""

TOPIC = 250
"""Characters of a task that are searched for in what the project knows."""

LEASES = 1_000
"""Leases of the project that are looked at for who has what."""


class Count(Row):
    dag_status: str
    number: int


class OwnerRow(Row):
    agent_id: str
    last_touched_at: str


class Busy(Row):
    agent_id: str
    id: str


COUNTS = Count.query("""
    SELECT dag_status, count(*) AS number FROM dag_tasks
     WHERE lead_id IN (SELECT value FROM json_each(:crews)) AND archived_at IS NULL
     GROUP BY dag_status ORDER BY dag_status
""")
OWNER = OwnerRow.query("""
    SELECT agent_id, last_touched_at FROM agent_file_history
     WHERE file_path = :file_path AND agent_id <> :agent_id AND edit_count + commit_count + lock_count > 0
     ORDER BY edit_count + commit_count > 0 DESC, last_seq DESC LIMIT 1
""")
BUSY = Busy.query("""
    SELECT assigned_agent_id AS agent_id, id FROM dag_tasks
     WHERE lead_id IN (SELECT value FROM json_each(:crews)) AND dag_status = 'running'
       AND archived_at IS NULL AND assigned_agent_id IS NOT NULL
     ORDER BY started_at DESC, id DESC
""")
READY_ALL = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE lead_id = :lead_id AND dag_status = 'ready' AND archived_at IS NULL
     ORDER BY priority DESC, dependents DESC, seq LIMIT :limit
""")


class Told(Result):
    key: str
    text: str


class Ruling(Result):
    decision_id: str
    status: str
    title: str
    agent_id: str
    waits_for_human: bool | None = Field(default=None, description="Not decided yet")
    text: str | None = Field(default=None, description="Why, between fences")


class Pointer(Result):
    severity: str
    cause: str
    next: str


class Lesson(Result):
    key: str
    by: str
    text: str = Field(description="Between fences")


class Mate(Result):
    agent_id: str
    role: str
    leads: bool | None = None
    liveness: str | None = Field(default=None, description="Absent: live")
    task_id: str | None = None
    locks: list[str] | None = None


class Owner(Result):
    file_path: str
    agent_id: str
    last_touched_at: str


class Known(Result):
    category: str
    key: str
    by: str
    text: str = Field(description="Between fences")


def pointer(alert: alerts.Alert) -> Pointer:
    return Pointer(severity=alert.severity, cause=alert.cause, next=alert.next)


def rules(tx: Tx, caller: Caller) -> list[Told]:
    """What people want every agent to know, each rule whole: half a rule is another rule."""
    return [Told(key=one.key, text=one.text) for one in knowledge.core_of(tx, caller.project_id)]


def board(counts: Sequence[Count]) -> list[str]:
    return [", ".join(f"{row.number} {row.dag_status}" for row in counts)] if counts else []


def ruled(tx: Tx, caller: Caller) -> list[Decision]:
    """The decisions that matter: those that wait for a human and concern the caller, then what the crew
    decided last, as far as it was not withdrawn or overtaken."""
    waiting = undecided(tx, caller)[:MOST]
    waiting_ids = {decision.id for decision in waiting}
    settled = [
        decision
        for decision in decisions.recent(tx, caller.lead_id, MOST)
        if decision.id not in waiting_ids
        and decision.superseded_by is None
        and decision.status in ("recorded", "confirmed", "rejected")
    ]
    return waiting + settled


def ruling(decision: Decision, texts: Texts) -> Ruling:
    why = why_of(decision)
    return Ruling(
        decision_id=decision.id,
        status=decision.status,
        title=shortened(decision.title, TITLE),
        agent_id=decision.agent_id,
        waits_for_human=True if decision.waits else None,
        text=texts.passage(why) if why else None,
    )


def why_of(decision: Decision) -> str:
    """Why it was decided; of what was turned down, why not."""
    return (decision.reason if decision.status == "rejected" else None) or decision.rationale


def mates(tx: Tx, caller: Caller, crews: Sequence[str], running: Sequence[Task]) -> list[Mate]:
    """The rest of the crew: who leads it, who holds what the caller's tasks need, who works, who is there."""
    own = {path for task in running for path in task.file_paths}
    tasks = {row.agent_id: row.id for row in tx.all(BUSY, crews=json.dumps(list(crews)))}
    locks: dict[str, list[str]] = defaultdict(list)
    for lease in tx.all(
        IN_PROJECT,
        project_id=caller.project_id,
        agent_id=None,
        prefix=None,
        at="",
        beyond="",
        after=0,
        limit=LEASES,
        now=tx.now,
    ):
        locks[lease.agent_id].append(lease.path)
    ranked: list[tuple[tuple[bool, bool, bool, bool, str], Mate]] = []
    for agent in alerts.members(tx, None if caller.reads_all_crews else caller.lead_id, caller.project_id):
        if agent.agent_id == caller.agent_id:
            continue
        liveness = agent.liveness(tx.now)
        held = locks[agent.agent_id]
        near = any(globs.overlaps(one, other) for one in own for other in held)
        leads = agent.led_by == agent.agent_id
        task_id = tasks.get(agent.agent_id)
        mate = Mate(
            agent_id=agent.agent_id,
            role=agent.role,
            leads=leads or None,
            liveness=None if liveness == "live" else liveness,
            task_id=task_id,
            locks=held[:FILES] or None,
        )
        rank = (not leads, not near, task_id is None and not held, liveness != "live", agent.agent_id)
        ranked.append((rank, mate))
    ranked.sort(key=lambda pair: pair[0])
    return [mate for _, mate in ranked]


def owners(tx: Tx, caller: Caller, running: Sequence[Task]) -> Iterator[Owner]:
    """Who else has worked on the files of the caller's tasks, or means to."""
    paths = [path for task in running for path in task.file_paths if globs.is_literal(path)]
    for path in paths[:MOST]:
        name = name_of(caller.project_id, path)
        if (owner := tx.one(OWNER, file_path=name, agent_id=caller.agent_id)) is not None:
            yield Owner(file_path=path, agent_id=owner.agent_id, last_touched_at=owner.last_touched_at)


def to_take(tx: Tx, caller: Caller, ready: Sequence[Task]) -> list[OpenTask]:
    """What the caller can take; for who leads, what anybody can take."""
    if is_lead(caller):
        ready = tx.all(READY_ALL, lead_id=caller.lead_id, limit=MOST)
    return [open_task(task, role=is_lead(caller)) for task in ready]


def known_of(
    tx: Tx, caller: Caller, topic: str | None, running: Sequence[Task], session: projects.Session | None
) -> list[KnownHere]:
    """What the project knows of the topic; without one, of the caller's task or the crew's goal, and then
    what was of use most."""
    if topic is not None:
        return knowledge.best_for(tx, caller.project_id, topic, MOST)
    found: list[KnownHere] = []
    if running:
        names = " ".join(path.rpartition("/")[2] for path in running[0].file_paths[:FILES])
        topic = f"{running[0].title or ''} {names} {running[0].description}"
    elif session is not None:
        topic = session.task
    if topic and topic.strip():
        found = knowledge.best_for(tx, caller.project_id, topic[:TOPIC], MOST)
    return list(dict.fromkeys([*found, *knowledge.best_for(tx, caller.project_id, None, MOST)]))


def known_as(one: KnownHere, texts: Texts) -> Known:
    return Known(category=one.category, key=one.key, by=one.by, text=texts.passage(one.text))


def lessons_of(tx: Tx, caller: Caller) -> list[tuple[str, str, str]]:
    """What the crew's last retro says, lessons before anything else, each as its key, author and text."""
    retro = retros.latest(tx, caller.lead_id)
    words = json.loads(retro.data)["data"] if retro is not None else {}
    named = words.get("lessons")
    found = dict(named) if isinstance(named, dict) else {}
    found |= {key: text for key, text in words.items() if key not in found}
    return [(key, retro.author, text) for key, text in found.items() if retro and isinstance(text, str)]


def lesson(found: tuple[str, str, str], texts: Texts) -> Lesson:
    key, author, said = found
    return Lesson(key=shortened(key, TITLE), by=author, text=texts.passage(said))
