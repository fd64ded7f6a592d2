"""Facts: what an operation tells the rest of the world, once it is committed.

An operation tells facts to its transaction. Each becomes one row of the activity ledger and one row
of the outbox in the same commit, so nothing is ever announced that did not happen. What an agent
must be told becomes a notice in its inbox, in the same commit too.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Topic = Literal[
    "roster",
    "locks",
    "history",
    "inbox",
    "settings",
    "projects",
    "tasks",
    "costs",
    "messages",
    "conversations",
    "chat",
    "timers",
    "memory",
    "knowledge",
    "decisions",
]

# What the ledger knows by name. Agents may log other words; one of these from an agent is stored
# with the origin "agent", so that it never passes for the server's own.
CORE_KINDS = frozenset(
    [
        "file_edit",
        "file_read",
        "decision_made",
        "task_started",
        "task_completed",
        "sub_agent_spawned",
        "agent_terminated",
        "lock_acquired",
        "lock_released",
        "lock_denied",
        "message_sent",
        "delegated",
        "delegation_cancelled",
        "status_change",
        "heartbeat_halted",
        "limit_change_requested",
        "group_message",
        "agent_interrupted",
        "progress_update",
        "error",
        "agent_registered",
        "agent_resumed",
        "agent_updated",
        "crew_handed_over",
        "role_defined",
        "role_deleted",
        "project_created",
        "project_updated",
        "project_removed",
        "session_started",
        "session_ended",
        "session_claimed",
        "session_resumed",
        "setting_changed",
        "retro_recorded",
        "lock_renewed",
        "lock_expired",
        "lock_force_released",
        "lock_queued",
        "lock_queue_left",
        "file_commit",
        "task_added",
        "task_updated",
        "task_dependencies_changed",
        "task_claim_refreshed",
        "task_assigned",
        "task_released",
        "task_orphaned",
        "task_submitted",
        "task_approved",
        "task_rejected",
        "task_failed",
        "task_result_late",
        "task_paused",
        "task_resumed",
        "task_retried",
        "task_reopened",
        "task_skipped",
        "task_cancelled",
        "task_forced_ready",
        "task_archived",
        "task_unarchived",
        "dag_reset",
        "delegation_completed",
        "delegation_failed",
        "cost_recorded",
        "budget_set",
        "budget_reached",
        "message_acknowledged",
        "message_expired",
        "message_requeued",
        "messages_read",
        "conversation_started",
        "group_created",
        "group_members_added",
        "group_members_removed",
        "group_reaction",
        "group_archived",
        "group_unarchived",
        "timer_set",
        "timer_fired",
        "timer_cancelled",
        "decision_confirmed",
        "decision_rejected",
        "decision_dismissed",
        "decision_withdrawn",
        "memory_set",
        "memory_deleted",
        "plan_set",
        "knowledge_put",
        "knowledge_deleted",
        "knowledge_evicted",
        "lesson_added",
        "lesson_marked",
        "lesson_forgotten",
        "activity_sealed",
        "rows_pruned",
        "token_created",
        "token_revoked",
        "token_rotated",
        "key_registered",
        "key_revoked",
    ]
)


class Event(NamedTuple):
    """One fact. `subject` is the id or path it is about; the actor is the caller unless one is named."""

    topic: Topic
    kind: str
    summary: str
    subject: str = ""
    details: Mapping[str, object] = {}
    agent_id: str | None = None
    agent_role: str | None = None
    project_id: str | None = None
    lead_id: str | None = None
    origin: Literal["server", "agent"] = "server"
    locked: Sequence[str] = ()
    """Files in whose history it counts as a lock of the actor's."""


class Signal(NamedTuple):
    """News for those who wait, which the ledger does not keep. `subject` is whom or what it is about."""

    topic: Topic
    kind: str
    subject: str
    agent_id: str | None = None
    project_id: str | None = None
    lead_id: str | None = None


class Notice(NamedTuple):
    """What an operation tells one agent through its inbox. The payload is the message's body; without a
    source it is the server itself that tells."""

    target_agent_id: str
    message_type: Literal["system", "lock", "task", "delegation", "delegation_result", "decision", "timer"]
    payload: Mapping[str, object]
    priority: Literal["normal", "high", "urgent"] = "normal"
    source_agent_id: str | None = None
    source_role: str | None = None
