"""Catching up: what happened since a place in the ledger, grouped by what it happened to.

The ledger's ids are given under the store's write lock, so what is committed later has the larger id:
whoever reads on from the last one it saw misses nothing and sees nothing twice, however many write.
"""

import json
from collections.abc import Iterable, Mapping, Set
from typing import Any, Literal

from pydantic import Field

from callboard.domains.crew.holding import claims_of
from callboard.domains.crew.words import shortened
from callboard.domains.locks.leases import HELD_BY
from callboard.identity import Caller
from callboard.params import AfterId
from callboard.store import Command, Query, Row, Tx
from callboard.tool import Result, fitted, tool

ENTRIES = 1_000
"""Entries of the ledger that one answer looks at."""

GROUPS = 30
SUMMARY = 200
"""Characters of an entry's text that stand for its group."""

OWN_CLAIMS = 50

Object = Literal["task", "decision", "file", "group", "agent"]
Told = tuple[str, tuple[Object, str]]
"""What happened, and to what."""

HIGH = frozenset(
    [
        "error",
        "progress_update",
        "task_completed",
        "task_failed",
        "task_orphaned",
        "task_rejected",
        "task_submitted",
        "task_cancelled",
        "task_assigned",
        "dag_reset",
        "delegated",
        "delegation_completed",
        "delegation_failed",
        "decision_confirmed",
        "decision_rejected",
        "decision_dismissed",
        "agent_registered",
        "agent_terminated",
        "agent_interrupted",
        "crew_handed_over",
        "lock_force_released",
        "lock_expired",
        "budget_reached",
        "message_expired",
    ]
)
LOW = frozenset(
    [
        "status_change",
        "file_read",
        "lock_acquired",
        "lock_renewed",
        "lock_released",
        "lock_denied",
        "lock_queued",
        "lock_queue_left",
        "task_claim_refreshed",
        "message_sent",
        "message_acknowledged",
        "messages_read",
        "agent_updated",
        "agent_resumed",
        "cost_recorded",
        "timer_set",
        "timer_fired",
        "timer_cancelled",
        "group_reaction",
        "conversation_started",
    ]
)
"""Everything else is of middling weight: edits, decisions, the beginning of work."""

MAILED = frozenset({"message_sent", "group_message"})
"""What a caller that it names has been told through its inbox."""

BEFELL = frozenset({"lock_expired", "lock_queue_left", "task_orphaned"})
"""What the ledger tells of an agent though the agent did not do it."""


class Entry(Row):
    id: int
    agent_id: str
    action_type: str
    summary: str
    details: str
    timestamp: str
    origin: str


class Place(Row):
    activity_id: int


class Count(Row):
    number: int


READABLE = """
    a.project_id = :project_id AND (:every_crew OR a.lead_id IN ('', :lead_id))
    AND a.id > :after AND a.id <= :upto
"""
COLUMNS = ", ".join(f"a.{column}" for column in Entry.columns())


def _reading(order: str) -> Query[Entry]:
    return Entry.query(f"""
        SELECT {COLUMNS} FROM activity_log AS a WHERE {READABLE} ORDER BY a.id {order} LIMIT :limit
    """)


OLDEST_FIRST = _reading("ASC")
NEWEST_FIRST = _reading("DESC")
HOW_MANY = Count.query(f"""
    SELECT count(*) AS number FROM (SELECT 1 FROM activity_log AS a WHERE {READABLE} LIMIT :limit)
""")
LATEST = Place.query("SELECT coalesce(max(id), 0) AS activity_id FROM activity_log")
CURSOR = Place.query("SELECT activity_id FROM _activity_cursors WHERE reader = :reader")
MOVE_CURSOR = Command("""
    INSERT INTO _activity_cursors (reader, activity_id, updated_at) VALUES (:reader, :activity_id, :at)
    ON CONFLICT (reader) DO UPDATE SET activity_id = excluded.activity_id, updated_at = excluded.updated_at
""")


class Change(Result):
    kind: Object
    id: str
    concerns_you: bool | None = None
    count: int | None = Field(default=None, description="Entries, if more than one")
    agent_id: str | None = Field(default=None, description="Who did what says most, unless it is the id")
    summary: str


class DatedChange(Change):
    action_type: str
    activity_id: int
    timestamp: str


class CaughtUp(Result):
    since_id: int = Field(description="What came after this")
    changes: list[DatedChange] = Field(description="What concerns you first, then by weight")
    groups_left_out: int | None = None
    more: bool | None = Field(default=None, description="There is more behind next_after_id")
    next_after_id: int = Field(description="Pass it as since_id the next time")


def latest(tx: Tx) -> int:
    """The last place of the ledger."""
    found = tx.one(LATEST)
    return found.activity_id if found else 0


def cursor_of(tx: Tx, reader: str) -> int | None:
    """How far a reader has caught up; None for one that never checked in."""
    found = tx.one(CURSOR, reader=reader)
    return found.activity_id if found else None


def move_cursor(tx: Tx, reader: str, activity_id: int) -> None:
    """Remember how far a reader has caught up."""
    tx.run(MOVE_CURSOR, reader=reader, activity_id=activity_id, at=tx.at)


def newest_entries(tx: Tx, caller: Caller, since: int, upto: int) -> tuple[list[Entry], int]:
    """The latest entries of a stretch that the caller may read, up to `ENTRIES`, and how many older ones
    there are, counted up to ten times as many."""
    stretch = _stretch(caller, since, upto)
    entries = tx.all(NEWEST_FIRST, **stretch, limit=ENTRIES)
    if len(entries) < ENTRIES:
        return entries, 0
    found = tx.one(HOW_MANY, **stretch, limit=10 * ENTRIES)
    return entries, (found.number if found else 0) - len(entries)


def changes(
    tx: Tx, caller: Caller, entries: Iterable[Entry], told: Set[Told] = frozenset()
) -> list[DatedChange]:
    """Entries of the ledger by what they are about: what concerns the caller first, then what weighs most,
    then the latest. What the caller did itself is left out, and what it is `told` beside them."""
    own = _own(tx, caller)
    groups: dict[tuple[Object, str], _Group] = {}
    for entry in entries:
        if entry.agent_id == caller.agent_id and entry.action_type not in BEFELL:
            continue
        details: dict[str, Any] = json.loads(entry.details)
        about = _about(entry, details)
        if (entry.action_type, about) in told:
            continue
        named = _names(details, caller.agent_id)
        if named and entry.action_type in MAILED:
            continue
        concerns = about in own or named or entry.agent_id == caller.agent_id
        group = groups.setdefault(about, _Group(entry))
        group.add(entry, concerns)
    ranked = sorted(groups.items(), key=lambda item: (not item[1].concerns, -item[1].weight, -item[1].newest))
    return [
        DatedChange(
            kind=kind,
            id=shortened(name, SUMMARY),
            concerns_you=group.concerns or None,
            count=group.count if group.count > 1 else None,
            agent_id=None if (kind, name) == ("agent", group.entry.agent_id) else group.entry.agent_id,
            action_type=group.entry.action_type,
            summary=shortened(group.entry.summary, SUMMARY),
            activity_id=group.entry.id,
            timestamp=group.entry.timestamp,
        )
        for (kind, name), group in ranked
    ]


class _Group:
    """The entries about one thing, and the one of them that says most: the weightiest, then the latest."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.weight = -1
        self.newest = entry.id
        self.count = 0
        self.concerns = False

    def add(self, entry: Entry, concerns: bool) -> None:
        weight = 2 if entry.action_type in HIGH else 0 if entry.action_type in LOW else 1
        if (weight, entry.id) > (self.weight, self.entry.id):
            self.entry, self.weight = entry, weight
        self.newest = max(self.newest, entry.id)
        self.count += 1
        self.concerns = self.concerns or concerns


def subject(details: Mapping[str, Any]) -> tuple[Object, str] | None:
    """What facts of the server's are about, by the first id in them; None where they name nothing."""
    for key, kind in _KEYS:
        found = details.get(key)
        if isinstance(found, list) and found:
            found = found[0]
        if isinstance(found, str) and found:
            return kind, found
    return None


def _about(entry: Entry, details: Mapping[str, Any]) -> tuple[Object, str]:
    """What an entry is about. An agent's own note is about the agent: what it names is its word only."""
    named = subject(details) if entry.origin == "server" else None
    return named or ("agent", entry.agent_id)


_KEYS: tuple[tuple[str, Object], ...] = (
    ("task_id", "task"),
    ("dag_task_id", "task"),
    ("decision_id", "decision"),
    ("file_path", "file"),
    ("file_paths", "file"),
    ("files", "file"),
    ("group_name", "group"),
)


def _own(tx: Tx, caller: Caller) -> set[tuple[Object, str]]:
    """What the caller has in hand."""
    own: set[tuple[Object, str]] = {("task", task.id) for task in claims_of(tx, caller, OWN_CLAIMS)}
    own |= {("file", lease.path) for lease in tx.all(HELD_BY, agent_id=caller.agent_id, now=tx.now)}
    return own


def _names(details: Mapping[str, Any], agent_id: str) -> bool:
    """Whether an entry names the agent in one of its facts."""
    return any(
        value == agent_id or (isinstance(value, list) and agent_id in value) for value in details.values()
    )


def _stretch(caller: Caller, since: int, upto: int) -> dict[str, Any]:
    return {
        "project_id": caller.project_id,
        "lead_id": caller.lead_id,
        "every_crew": caller.reads_all_crews,
        "after": since,
        "upto": upto,
    }


@tool()
def catch_up(tx: Tx, caller: Caller, since_id: AfterId | None = None) -> CaughtUp:
    """What others did since your last check_in or since_id: what concerns you first.

    Go on with since_id = next_after_id; list_activity has every entry.
    """
    upto = latest(tx)
    since = since_id if since_id is not None else cursor_of(tx, caller.agent_id)
    if since is None:
        since = max(0, upto - ENTRIES)
    entries = tx.all(OLDEST_FIRST, **_stretch(caller, since, upto), limit=ENTRIES + 1)
    more = len(entries) > ENTRIES
    ranked = changes(tx, caller, entries[:ENTRIES])
    shown, _ = fitted(ranked[: GROUPS + 1], GROUPS)
    return CaughtUp(
        since_id=since,
        changes=shown,
        groups_left_out=len(ranked) - len(shown) or None,
        more=more or None,
        next_after_id=entries[ENTRIES - 1].id if more else max(since, upto),
    )
