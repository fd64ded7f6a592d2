"""The tools by which agents take work, get it, and give it back."""

from typing import Annotated

from pydantic import Field

from callboard.domains import costs, delegations
from callboard.domains.tasks import claims
from callboard.domains.tasks.claims import Desk, Obstacle, assign, member_of, release_files
from callboard.domains.tasks.deriving import enter_line
from callboard.domains.tasks.task import Task, find, invalid, leader_of, notify, tell
from callboard.errors import Forbidden, NotOwner, Refused
from callboard.identity import Caller, Member
from callboard.params import AgentId, Reason, RoleId, TaskId, WaitSeconds
from callboard.store import Row, Tx
from callboard.tool import NotYet, Result, tool

LOOK_AGAIN_MS = 1_000
"""How often a waiting claim looks again while ready tasks are kept back by files that are locked: the end
of a lock is no fact about tasks."""

WAIT_MS = 60_000

REFUSED_LOOKED_AT = 20
"""Ready tasks that a budget blocks, of which so many are passed over before the claim is refused."""

LockFiles = Annotated[bool, Field(description="Lock its files")]


class ReadyRole(Row):
    role: str


OTHER_ROLES = ReadyRole.query("""
    SELECT role FROM dag_tasks
     WHERE lead_id = :lead_id AND dag_status = 'ready' AND archived_at IS NULL AND role <> :role
     GROUP BY role LIMIT 10
""")


class Claimed(Result):
    task_id: str
    dag_status: str
    claim_epoch: int = Field(description="Pass it on with the result")
    lease_expires_at: str
    role: str
    title: str | None = None
    description: str
    files: list[str]
    priority: int
    model: str | None = None
    depends_on: list[str]
    attempts: int = Field(description="Earlier claims that ended without a word")
    locks: list[str] | None = None
    busy_file: str | None = Field(default=None, description="One of its files that another agent works on")
    busy_with: str | None = None


class NextTask(Result):
    task: Claimed | None = Field(default=None, description="Absent when there is none for you")
    why: str | None = None
    busy_file: str | None = None
    busy_with: str | None = None


class TaskState(Result):
    task_id: str
    dag_status: str
    assigned_agent_id: str | None = None
    claim_epoch: int | None = None
    released: list[str] | None = Field(default=None, description="Locks that ended with the claim")


def _claimed(task: Task, locked: bool, obstacle: Obstacle | None = None) -> Claimed:
    return Claimed(
        task_id=task.id,
        dag_status=task.dag_status,
        claim_epoch=task.claim_epoch,
        lease_expires_at=task.lease_expires_at or "",
        role=task.role,
        title=task.title,
        description=task.description,
        files=task.file_paths,
        priority=task.priority,
        model=task.model,
        depends_on=task.names_its_dependencies,
        attempts=task.attempts,
        locks=task.file_paths if locked else None,
        busy_file=obstacle.file_path if obstacle else None,
        busy_with=obstacle.agent_id if obstacle else None,
    )


@tool(writes=True, profile="core", waits_on="tasks")
def claim_next_dag_task(
    tx: Tx,
    caller: Caller,
    role: RoleId | None = None,
    files_free: Annotated[bool, Field(description="Skip if files are taken")] = True,
    lock_files: LockFiles = False,
    wait_seconds: WaitSeconds = 0,
) -> NextTask | NotYet:
    """Take the best ready task for your role, or hear why there is none.

    End it with complete_dag_task, fail_dag_task or release_dag_task.
    """
    claims.reap(tx)
    member = member_of(tx, caller.lead_id, caller.agent_id)
    wanted = role or caller.role
    desk = Desk(tx, member, caller.project_id)
    best, busy = _best(tx, caller, wanted, desk if files_free or lock_files else None)
    if best is not None:
        taken = claims.claim(tx, member, best, lock_files=lock_files)
        return NextTask(task=_claimed(taken, lock_files))
    nothing = _nothing(tx, caller, wanted, busy)
    if not wait_seconds:
        return nothing
    return NotYet(
        again_boot_ms=tx.now + (LOOK_AGAIN_MS if busy else WAIT_MS),
        ready=lambda tx: _any_ready(tx, caller, wanted, member, files_free or lock_files),
        give_up=lambda tx, waited_ms: nothing,
    )


def _best(tx: Tx, caller: Caller, role: str, desk: Desk | None) -> tuple[Task | None, Obstacle | None]:
    """The best task that the caller may have, else what stands against the best that is ready.

    Raises BudgetExceeded when only budgets stand against it.
    """
    busy: Obstacle | None = None
    refusals: list[Refused] = []
    for task in tx.iterate(claims.READY_FOR, lead_id=caller.lead_id, role=role):
        obstacle = desk.obstacle(task) if desk else None
        if obstacle is not None:
            busy = busy or obstacle
            continue
        refusal = costs.blocked_budget(tx, lead_id=task.lead_id, project_id=task.project_id, task_id=task.id)
        if refusal is None:
            return task, None
        refusals.append(refusal)
        if len(refusals) == REFUSED_LOOKED_AT:
            break
    if refusals:
        raise refusals[0]
    return None, busy


def _any_ready(tx: Tx, caller: Caller, role: str, member: Member, files_free: bool) -> bool:
    desk = Desk(tx, member, caller.project_id) if files_free else None
    try:
        return _best(tx, caller, role, desk)[0] is not None
    except Refused:
        return True


def _nothing(tx: Tx, caller: Caller, role: str, busy: Obstacle | None) -> NextTask:
    if busy is not None:
        with_what = f" ({busy.task_id})" if busy.task_id else ""
        has = f"{busy.agent_id}{with_what} has {busy.file_path}"
        why = f"Ready tasks for {role} need files that others have: {has}."
        return NextTask(why=why, busy_file=busy.file_path, busy_with=busy.agent_id)
    others = [row.role for row in tx.all(OTHER_ROLES, lead_id=caller.lead_id, role=role)]
    more = f" There are some for {', '.join(others)}." if others else ""
    return NextTask(why=f"No task is ready for {role}.{more}")


@tool(writes=True, idempotent=True)
def claim_dag_task(tx: Tx, caller: Caller, task_id: TaskId, lock_files: LockFiles = False) -> Claimed:
    """Take one ready task, or begin the time of your claim on it anew.

    Refused with not_ready while it waits for others, already_claimed, lock_held with lock_files when its
    files are locked. busy_file names a file that another agent works on.
    """
    claims.reap(tx)
    member = member_of(tx, caller.lead_id, caller.agent_id)
    task = find(tx, caller.lead_id, task_id)
    taken = claims.claim(tx, member, task, lock_files=lock_files)
    return _claimed(taken, lock_files, Desk(tx, member, caller.project_id).obstacle(taken))


@tool(writes=True, who="lead", profile="lead", destructive=True)
def assign_dag_task(
    tx: Tx, caller: Caller, task_id: TaskId, target_agent_id: AgentId, reason: Reason = ""
) -> TaskState:
    """Give a task to an agent of your crew: a ready one, or one that another agent has, who is told.

    The agent is told too and must complete it. Refused with not_ready, or invalid_transition when it is
    finished or paused.
    """
    taken = assign(
        tx, caller, lead_id=caller.lead_id, task_id=task_id, agent_id=target_agent_id, reason=reason
    )
    return TaskState(
        task_id=task_id,
        dag_status=taken.dag_status,
        assigned_agent_id=taken.assigned_agent_id,
        claim_epoch=taken.claim_epoch,
    )


@tool(writes=True)
def release_dag_task(tx: Tx, caller: Caller, task_id: TaskId, reason: Reason = "") -> TaskState:
    """Give back a task that you work on, for another agent to take; say in reason how far you came.

    The locks of your claim end. Refused with not_owner when another agent has it, invalid_transition when
    it is not being worked on.
    """
    claims.reap(tx)
    task = find(tx, caller.lead_id, task_id)
    if task.dag_status != "running" or task.archived_at is not None:
        raise invalid(task, "release")
    if task.assigned_agent_id != caller.agent_id:
        raise not_holder(task, "release_dag_task")
    released = release_files(tx, task, f"{task_id} was given back")
    after, found = enter_line(tx, task, "release", actor=caller.agent_id, reason=reason)
    # Who gives a task back does not do what it was delegated.
    delegations.settle_for_task(
        tx,
        lead_id=task.lead_id,
        task_id=task_id,
        outcome="failed",
        result=reason or "given back",
        by=caller.agent_id,
    )
    said = f"{caller.agent_id} gave back {task.called}" + (f": {reason}" if reason else ".")
    blocked = found.blocked[:20] or None
    tell(tx, after, "task_released", said, reason=reason, claim_epoch=task.claim_epoch, newly_blocked=blocked)
    leader = leader_of(tx, task.lead_id)
    notify(tx, leader, after, "task_released", said, by=caller.agent_id, newly_blocked=blocked)
    return TaskState(task_id=task_id, dag_status=after.dag_status, released=released or None)


def not_holder(task: Task, operation: str) -> NotOwner | Forbidden:
    """The refusal of what only a task's holder may do."""
    if task.assigned_agent_id is None:
        return Forbidden(
            f"You have not claimed {task.id}.",
            operation=operation,
            needs="its holder or the lead",
            hint="Claim it first with claim_dag_task.",
        )
    return NotOwner(
        f"{task.assigned_agent_id} has {task.id}.",
        hint=f"Message {task.assigned_agent_id}, or ask your lead.",
        task_id=task.id,
        owner=task.assigned_agent_id,
    )
