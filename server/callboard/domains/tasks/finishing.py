"""The tools by which work ends: handed in, judged, complete or failed.

Each is one transaction over the task, the locks of its claim and who waits for them, its delegation, its
dependents, and what must be told. Work that comes in under a claim that is over changes nothing, but is
kept beside the task.
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard.domains import delegations
from callboard.domains.tasks import claims
from callboard.domains.tasks.claiming import not_holder
from callboard.domains.tasks.claims import CLAIM_MS, MAX_HOLD_MS, member_of, release_files
from callboard.domains.tasks.deriving import Derived, derive, enter_line
from callboard.domains.tasks.task import (
    UNCLAIMED,
    Task,
    allow,
    enter,
    find,
    invalid,
    is_lead,
    leader_of,
    notify,
    tell,
)
from callboard.errors import Forbidden, StaleClaim
from callboard.identity import Caller
from callboard.params import AgentId, ClaimEpoch, Output, Reason, Summary, TaskId, WhyNeeded
from callboard.store import Command, Row, Tx
from callboard.tool import Result, tool

SHOWN = 100
"""Ids that one answer lists at most; beyond it a count says how many there are."""

HAND_IN = Command("""
    INSERT INTO _task_results (lead_id, task_id, claim_epoch, agent_id, kind, summary, output, created_at)
    VALUES (:lead_id, :task_id, :claim_epoch, :agent_id, :kind, :summary, :output, :at)
""")


class WasHolder(Row):
    claim_epoch: int


class Submission(Row):
    summary: str


class NewlyReady(Row):
    id: str


LAST_CLAIM_OF = WasHolder.query("""
    SELECT claim_epoch FROM _task_transitions
     WHERE lead_id = :lead_id AND task_id = :task_id AND assigned_agent_id = :agent_id
     ORDER BY id DESC LIMIT 1
""")
SUBMITTED = Submission.query("""
    SELECT summary FROM _task_results
     WHERE lead_id = :lead_id AND task_id = :task_id AND kind = 'submission' ORDER BY id DESC LIMIT 1
""")
MADE_READY = NewlyReady.query("""
    SELECT DISTINCT t.task_id AS id
      FROM _task_edges AS e
           CROSS JOIN _task_transitions AS t ON t.lead_id = e.lead_id AND t.task_id = e.task_id
     WHERE e.lead_id = :lead_id AND e.dep_id = :task_id AND t.cause_task_id = :task_id
       AND t.action = 'derive' AND t.to_status = 'ready'
       AND t.id > (SELECT max(id) FROM _task_transitions
                    WHERE lead_id = :lead_id AND task_id = :task_id AND to_status = 'done')
     ORDER BY id LIMIT :limit
""")


class Finished(Result):
    task_id: str
    dag_status: str
    newly_ready: list[str] | None = Field(default=None, description="Tasks that can be claimed now")
    newly_ready_count: int | None = None
    newly_blocked: list[str] | None = None
    newly_blocked_count: int | None = None
    released: list[str] | None = Field(default=None, description="Locks that ended with the claim")
    repeated: bool | None = Field(default=None, description="True when it had been accepted before")


class Submitted(Result):
    task_id: str
    dag_status: str
    reviewer: str | None = None


def finished(task: Task, found: Derived, released: list[str]) -> Finished:
    return Finished(
        task_id=task.id,
        dag_status=task.dag_status,
        newly_ready=found.ready[:SHOWN],
        newly_ready_count=len(found.ready) if len(found.ready) > SHOWN else None,
        newly_blocked=found.blocked[:SHOWN] or None,
        newly_blocked_count=len(found.blocked) if len(found.blocked) > SHOWN else None,
        released=released or None,
    )


def _digest(summary: str, output: str) -> bytes:
    return hashlib.sha256(f"{summary}\0{output}".encode()).digest()


def _hand_in(
    tx: Tx, task: Task, caller: Caller, kind: str, summary: str, output: str, epoch: int | None = None
) -> None:
    tx.run(
        HAND_IN,
        lead_id=task.lead_id,
        task_id=task.id,
        claim_epoch=task.claim_epoch if epoch is None else epoch,
        agent_id=caller.agent_id,
        kind=kind,
        summary=summary,
        output=output,
        at=tx.at,
    )


def _late(
    tx: Tx, task: Task, caller: Caller, epoch: int | None, summary: str, output: str
) -> StaleClaim | None:
    """What a caller whose claim is over is answered, its text kept; None for a claim that stands, and for
    who does not speak of one."""
    given = epoch
    if task.assigned_agent_id == caller.agent_id and epoch in (None, task.claim_epoch):
        return None
    if epoch is None:
        held = tx.one(LAST_CLAIM_OF, lead_id=task.lead_id, task_id=task.id, agent_id=caller.agent_id)
        if held is None or is_lead(caller):
            return None
        given = held.claim_epoch
    _hand_in(tx, task, caller, "late", summary, output, given)
    tell(tx, task, "task_result_late", f"handed in {task.called} late", given=given, current=task.claim_epoch)
    return StaleClaim(
        "Your claim on this task is over; what you handed in late was kept, and changed nothing.",
        hint="Your text is kept with the task, see get_dag_task. Take other work with claim_next_dag_task.",
        task_id=task.id,
        status=task.dag_status,
        given=given,
        current=task.claim_epoch,
        holder=task.assigned_agent_id,
        kept_in="results",
    )


@tool(writes=True)
def submit_dag_task(
    tx: Tx,
    caller: Caller,
    task_id: TaskId,
    summary: Summary | None = None,
    output: Output = "",
    claim_epoch: ClaimEpoch | None = None,
    reviewer_id: AgentId | None = None,
) -> Submitted | StaleClaim:
    """Hand in a task for review instead of completing it yourself. You keep its locks until it is judged.

    The reviewer, or else your lead, is told and calls review_dag_task. Refused with stale_claim when your
    claim is over; your text is kept.
    """
    claims.reap(tx)
    task = find(tx, caller.lead_id, task_id)
    if (late := _late(tx, task, caller, claim_epoch, summary or "", output)) is not None:
        return late
    allow(task, "submit")
    if task.assigned_agent_id != caller.agent_id:
        raise not_holder(task, "submit_dag_task")
    if reviewer_id == caller.agent_id:
        raise Forbidden(
            "Nobody reviews its own work.",
            operation="submit_dag_task",
            needs="another reviewer",
            hint="Leave reviewer_id out, and your lead judges it.",
        )
    if reviewer_id is not None:
        member_of(tx, caller.lead_id, reviewer_id)
    _hand_in(tx, task, caller, "submission", summary or "", output)
    after = enter(tx, task, "submit", "in_review", actor=caller.agent_id, reviewer_id=reviewer_id)
    judge = reviewer_id or leader_of(tx, task.lead_id)
    said = f"{caller.agent_id} hands in {task.called} for review."
    tell(tx, after, "task_submitted", said, reviewer_id=judge)
    notify(tx, judge, after, "task_submitted", said, by=caller.agent_id, priority="high", summary=summary)
    return Submitted(task_id=task_id, dag_status=after.dag_status, reviewer=judge)


@tool(writes=True)
def review_dag_task(
    tx: Tx,
    caller: Caller,
    task_id: TaskId,
    verdict: Annotated[Literal["approve", "reject"], Field(description="Your judgement")],
    comment: Reason = "",
) -> Finished:
    """Judge a task that was handed in: approve makes it done, reject gives it back with your comment.

    For its reviewer or the lead, never for who worked on it. If who worked on it is gone, a rejected task
    can be claimed anew.
    """
    claims.reap(tx)
    task = find(tx, caller.lead_id, task_id)
    allow(task, "review")
    author = task.assigned_agent_id
    if author == caller.agent_id or not (is_lead(caller) or task.reviewer_id == caller.agent_id):
        own = author == caller.agent_id
        raise Forbidden(
            "Nobody reviews its own work." if own else f"You are not the reviewer of {task_id}.",
            operation="review_dag_task",
            needs="its reviewer or the lead, who is not its author",
            caller_kind=caller.kind,
        )
    if verdict == "approve":
        submitted = tx.one(SUBMITTED, lead_id=task.lead_id, task_id=task_id)
        result = submitted.summary if submitted else ""
        return _done(tx, caller, task, "review", "task_approved", comment, result, None)
    if task.is_claimed(tx.now):
        lease = {"lease_boot_ms": tx.now + CLAIM_MS, "renew_until_boot_ms": tx.now + MAX_HOLD_MS}
        changes: dict[str, Any] = {**lease, "lease_expires_at": tx.at_boot(tx.now + CLAIM_MS)}
        after = enter(tx, task, "review", "running", actor=caller.agent_id, reason=comment, **changes)
        released: list[str] = []
        found = Derived()
    else:
        released = release_files(tx, task, f"{task_id} was rejected")
        after, found = enter_line(tx, task, "review", actor=caller.agent_id, reason=comment)
    said = f"{caller.agent_id} rejected {task.called}" + (f": {comment}" if comment else ".")
    tell(tx, after, "task_rejected", said, comment=comment, newly_blocked=found.blocked[:20])
    notify(tx, author, after, "task_rejected", said, by=caller.agent_id, priority="high", comment=comment)
    return Finished(
        task_id=task_id,
        dag_status=after.dag_status,
        newly_blocked=found.blocked[:SHOWN] or None,
        released=released or None,
    )


@tool(writes=True, idempotent=True, profile="core")
def complete_dag_task(
    tx: Tx,
    caller: Caller,
    task_id: TaskId,
    summary: Summary | None = None,
    output: Output = "",
    claim_epoch: ClaimEpoch | None = None,
) -> Finished | StaleClaim:
    """Say that a task of yours is done. Its locks end, newly_ready can be claimed.

    stale_claim: it is not yours any more; your text is kept.
    """
    claims.reap(tx)
    task = find(tx, caller.lead_id, task_id)
    repeated = _repeated(tx, task, caller, summary or "", output, claim_epoch)
    if repeated is not None:
        return repeated
    if (late := _late(tx, task, caller, claim_epoch, summary or "", output)) is not None:
        return late
    allow(task, "complete")
    own = task.assigned_agent_id == caller.agent_id
    if own and "in_review" in (task.dag_status, task.paused_from):
        raise Forbidden(
            f"{task_id} is in review.",
            operation="complete_dag_task",
            needs="its reviewer or the lead, who is not its author",
            hint="Wait for the review.",
        )
    if not own and not is_lead(caller):
        raise not_holder(task, "complete_dag_task")
    _hand_in(tx, task, caller, "completion", summary or "", output)
    digest = _digest(summary or "", output)
    return _done(tx, caller, task, "complete", "task_completed", summary or "", summary or "", digest)


def _repeated(
    tx: Tx, task: Task, caller: Caller, summary: str, output: str, epoch: int | None
) -> Finished | None:
    """The first answer again, for who completes what it has completed with the same words or none."""
    if task.dag_status != "done" or task.result_digest is None or epoch not in (None, task.claim_epoch):
        return None
    same = task.result_digest == _digest(summary, output) or not (summary or output)
    if not same or (task.assigned_agent_id != caller.agent_id and not is_lead(caller)):
        return None
    rows = tx.all(MADE_READY, lead_id=task.lead_id, task_id=task.id, limit=SHOWN)
    return Finished(
        task_id=task.id, dag_status=task.dag_status, newly_ready=[row.id for row in rows], repeated=True
    )


def _done(
    tx: Tx,
    caller: Caller,
    task: Task,
    action: str,
    kind: str,
    words: str,
    result: str,
    digest: bytes | None,
) -> Finished:
    """End a task as done, with everything that follows from it: `words` are what is said of that, `result` is
    what its delegator is told."""
    released = release_files(tx, task, f"{task.id} is done")
    changes: dict[str, Any] = {**UNCLAIMED, "completed_at": tx.at, "failure_reason": None}
    reason = words[:1000] if action == "review" else ""  # a completion's words are kept with what it hands in
    after = enter(
        tx, task, action, "done", actor=caller.agent_id, reason=reason, result_digest=digest, **changes
    )
    found = derive(tx, task.lead_id, [task.id], cause=task.id)
    delegations.settle_for_task(
        tx,
        lead_id=task.lead_id,
        task_id=task.id,
        outcome="completed",
        result=result or None,
        by=caller.agent_id,
    )
    verb = "approved" if action == "review" else "completed"
    said = f"{caller.agent_id} {verb} {task.called}."
    tell(
        tx, after, kind, said, newly_ready=found.ready[:20], ready_count=len(found.ready),
        claim_epoch=task.claim_epoch,
    )  # fmt: skip
    for agent_id in dict.fromkeys([leader_of(tx, task.lead_id), task.assigned_agent_id]):
        notify(
            tx, agent_id, after, kind, said, by=caller.agent_id, summary=words[:1000] or None,
            newly_ready=found.ready[:20],
        )  # fmt: skip
    return finished(after, found, released)


@tool(writes=True, profile="core")
def fail_dag_task(
    tx: Tx,
    caller: Caller,
    task_id: TaskId,
    failure_reason: WhyNeeded,
    claim_epoch: ClaimEpoch | None = None,
) -> Finished | StaleClaim:
    """Say that a task cannot be done; what depends on it becomes blocked.

    To let another agent try, release_dag_task.
    """
    claims.reap(tx)
    task = find(tx, caller.lead_id, task_id)
    if task.dag_status == "failed" and task.assigned_agent_id == caller.agent_id:
        raise invalid(task, "fail", hint="It has failed already.")
    if (late := _late(tx, task, caller, claim_epoch, failure_reason, "")) is not None:
        return late
    allow(task, "fail")
    if task.assigned_agent_id != caller.agent_id and not is_lead(caller):
        raise not_holder(task, "fail_dag_task")
    released = release_files(tx, task, f"{task_id} failed")
    after = enter(
        tx, task, "fail", "failed", actor=caller.agent_id, reason=failure_reason,
        failure_reason=failure_reason, completed_at=tx.at,
    )  # fmt: skip
    found = derive(tx, task.lead_id, [task_id], cause=task_id, reason=f"{task_id} failed")
    delegations.settle_for_task(
        tx, lead_id=task.lead_id, task_id=task_id, outcome="failed", result=failure_reason, by=caller.agent_id
    )
    said = f"{task.called} failed: {failure_reason[:500]}"
    tell(
        tx, after, "task_failed", said, newly_blocked=found.blocked[:20], blocked_count=len(found.blocked),
        claim_epoch=task.claim_epoch,
    )  # fmt: skip
    for agent_id in dict.fromkeys([leader_of(tx, task.lead_id), task.assigned_agent_id]):
        notify(
            tx, agent_id, after, "task_failed", said, by=caller.agent_id, priority="high",
            newly_blocked=found.blocked[:20],
        )  # fmt: skip
    return finished(after, found, released)
