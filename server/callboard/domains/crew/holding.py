"""Holding: what an agent has in hand now, and what waits for it.

The views about one agent are all made of these: its leases, its claims, the work that it could take and the
work that it has to judge.
"""

from collections.abc import Iterator
from itertools import islice

from pydantic import Field

from callboard.domains import decisions
from callboard.domains.crew.words import shortened
from callboard.domains.decisions import Decision
from callboard.domains.locks.leases import HELD_BY, Mode
from callboard.domains.tasks import Task
from callboard.domains.tasks.claims import READY_FOR, Desk
from callboard.domains.tasks.task import COLUMNS
from callboard.identity import MEMBER, Caller, Member
from callboard.store import Row, Tx
from callboard.tool import Result

TITLE = 120
"""Characters of a title that a view shows."""

READY_LOOKED_AT = 50
"""Ready tasks of which the first that are free are shown."""

MOST_CREWS = 200
MOST_DECISIONS = 100
"""Crews of a project that a human sees together, and decisions of each that wait for a human."""

CLAIMS_OF = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE assigned_agent_id = :agent_id AND dag_status IN ('running', 'in_review', 'paused')
       AND lead_id = :lead_id AND archived_at IS NULL
     ORDER BY dag_status <> 'running', started_at, id LIMIT :limit
""")
TO_REVIEW = Task.query(f"""
    SELECT {COLUMNS} FROM dag_tasks
     WHERE lead_id = :lead_id AND dag_status = 'in_review' AND archived_at IS NULL
       AND assigned_agent_id IS NOT :agent_id
       AND (reviewer_id = :agent_id OR (:leads AND reviewer_id IS NULL))
     ORDER BY priority DESC, seq LIMIT :limit
""")


class Lead(Row):
    lead_id: str


class Waited(Row):
    decision_id: str


CREWS = Lead.query("SELECT lead_id FROM _crews WHERE project_id = :project_id ORDER BY lead_id LIMIT :limit")

# What the agent's claims hang on besides other tasks.
DECISIONS_OF_CLAIMS = Waited.query("""
    SELECT DISTINCT w.decision_id
      FROM dag_tasks AS t CROSS JOIN _task_decisions AS w ON w.lead_id = t.lead_id AND w.task_id = t.id
     WHERE t.assigned_agent_id = :agent_id AND t.dag_status IN ('running', 'in_review', 'paused')
       AND t.lead_id = :lead_id
""")


class HeldLock(Result):
    file_path: str
    fence: int
    remaining_seconds: int
    mode: Mode | None = Field(default=None, description="Absent: exclusive")
    task_id: str | None = Field(default=None, description="The claim that it ends with")


class OwnTask(Result):
    task_id: str
    dag_status: str
    title: str | None = None
    claim_epoch: int
    remaining_seconds: int | None = Field(default=None, description="Of the claim, unless you call")


class OpenTask(Result):
    task_id: str
    role: str | None = None
    title: str | None = None
    priority: int | None = None
    files: list[str] | None = None


class OpenDecision(Result):
    decision_id: str
    status: str
    title: str
    agent_id: str


def held_locks(tx: Tx, agent_id: str) -> list[HeldLock]:
    """The leases of an agent, those that end first at the front."""
    held = sorted(
        tx.all(HELD_BY, agent_id=agent_id, now=tx.now), key=lambda lease: (lease.expires_boot_ms, lease.path)
    )
    return [
        HeldLock(
            file_path=lease.path,
            fence=lease.fence,
            remaining_seconds=max(0, lease.expires_boot_ms - tx.now) // 1000,
            mode="shared" if lease.mode == "shared" else None,
            task_id=lease.task_id,
        )
        for lease in held
    ]


def claims_of(tx: Tx, caller: Caller, limit: int) -> list[Task]:
    """The tasks that an agent has in hand, those that run first."""
    return tx.all(CLAIMS_OF, agent_id=caller.agent_id, lead_id=caller.lead_id, limit=limit)


def own_task(tx: Tx, task: Task) -> OwnTask:
    """A claim as its holder sees it."""
    left = None if task.lease_boot_ms is None else max(0, task.lease_boot_ms - tx.now) // 1000
    return OwnTask(
        task_id=task.id,
        dag_status=task.dag_status,
        title=titled(task),
        claim_epoch=task.claim_epoch,
        remaining_seconds=left,
    )


def open_task(task: Task, *, role: bool = False) -> OpenTask:
    """A task that somebody may take or has to judge; for whom, if that is not plain."""
    return OpenTask(
        task_id=task.id,
        role=task.role if role else None,
        title=titled(task),
        priority=task.priority or None,
        files=task.file_paths[:5] or None,
    )


def titled(task: Task) -> str | None:
    return shortened(task.title, TITLE) if task.title else None


def ready_for(tx: Tx, caller: Caller) -> Iterator[Task]:
    """What the caller could claim now, in the order in which it would be given out."""
    member = tx.one(MEMBER, agent_id=caller.agent_id)
    if member is not None:
        yield from free_for(tx, member, caller.project_id)


def free_for(tx: Tx, member: Member, project_id: str) -> Iterator[Task]:
    """The ready tasks of a member's role whose files are free, among the first `READY_LOOKED_AT`."""
    desk = Desk(tx, member, project_id)
    ready = tx.iterate(READY_FOR, lead_id=member.lead_id, role=member.role)
    for task in islice(ready, READY_LOOKED_AT):
        if desk.obstacle(task) is None:
            yield task


def to_review(tx: Tx, caller: Caller, limit: int) -> list[Task]:
    """What was handed in and waits for the caller's judgement."""
    leads = caller.kind in ("lead", "human")
    return tx.all(TO_REVIEW, lead_id=caller.lead_id, agent_id=caller.agent_id, leads=leads, limit=limit)


def crews_of(tx: Tx, caller: Caller) -> list[str]:
    """The crews whose affairs a caller may see: its own, and for a human all of the project."""
    if not caller.reads_all_crews:
        return [caller.lead_id]
    return [crew.lead_id for crew in tx.all(CREWS, project_id=caller.project_id, limit=MOST_CREWS)]


def undecided(tx: Tx, caller: Caller) -> list[Decision]:
    """The decisions that wait for a human and concern the caller: for who leads the crew all of them, for
    others those that they recorded or that their work hangs on."""
    pending = [
        decision for crew in crews_of(tx, caller) for decision in decisions.pending(tx, crew, MOST_DECISIONS)
    ]
    if caller.kind in ("lead", "human"):
        return pending
    waited = {
        row.decision_id
        for row in tx.all(DECISIONS_OF_CLAIMS, agent_id=caller.agent_id, lead_id=caller.lead_id)
    }
    return [decision for decision in pending if decision.agent_id == caller.agent_id or decision.id in waited]


def open_decision(decision: Decision) -> OpenDecision:
    return OpenDecision(
        decision_id=decision.id,
        status=decision.status,
        title=shortened(decision.title, TITLE),
        agent_id=decision.agent_id,
    )
