"""History: what happened, and who knows which file.

The ledger is append-only. Each entry carries the hash of the one before it and is written in the
transaction of what it tells, so that the past can be read but not rewritten unseen.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard import frames, text
from callboard.errors import InvalidArguments, InvalidPath, TooLarge
from callboard.events import CORE_KINDS, Event
from callboard.identity import Caller
from callboard.params import (
    ActionType,
    AfterId,
    AfterName,
    AgentId,
    BeforeId,
    FilePath,
    FilePaths,
    Limit,
    Object,
    ProjectId,
    SearchText,
    Since,
    Summary,
)
from callboard.store import Command, Query, Row, Tx
from callboard.tool import Result, fitted, tool

GENESIS = bytes(32)
"""What the first entry of a ledger follows."""
DETAILS_BYTES = 8 * 1024
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_ENDINGS = {
    "c": "c h", "c#": "cs", "c++": "cc cpp hpp", "config": "json toml yaml yml", "css": "css scss",
    "dart": "dart", "documentation": "md mdx rst", "elixir": "ex exs", "go": "go", "haskell": "hs",
    "html": "html", "java": "java", "javascript": "js mjs", "kotlin": "kt", "lua": "lua", "php": "php",
    "python": "py", "react": "jsx tsx", "ruby": "rb", "rust": "rs", "scala": "scala", "shell": "bash sh",
    "sql": "sql", "svelte": "svelte", "swift": "swift", "terraform": "tf", "typescript": "ts", "vue": "vue",
    "zig": "zig",
}  # fmt: skip
TECHNOLOGIES: Mapping[str, str] = {
    ending: name for name, endings in _ENDINGS.items() for ending in endings.split()
}
"""What a file's ending says about the knowledge that editing it takes."""


class Tail(Row):
    seq: int
    entry_hash: bytes


class Entry(Row):
    id: int


TAIL = Tail.query("SELECT id AS seq, entry_hash FROM activity_log ORDER BY id DESC LIMIT 1")
RECORD = Command("""
    INSERT INTO activity_log
           (id, agent_id, agent_role, action_type, summary, details, timestamp, project_id, lead_id,
            origin, search_words, prev_hash, entry_hash)
    VALUES (:seq, :agent_id, :agent_role, :action_type, :summary, :details, :timestamp, :project_id,
            :lead_id, :origin, :search_words, :prev_hash, :entry_hash)
""")
UNINDEXED = Entry.query("SELECT id FROM _activity_unindexed LIMIT 1")
INDEX = Command("""
    INSERT INTO _fts_activity (rowid, summary, details, search_words)
    SELECT id, summary, details, search_words FROM _activity_unindexed ORDER BY id LIMIT :most
""")
TOUCH = Command("""
    INSERT INTO agent_file_history
           (agent_id, agent_role, lead_id, file_path, project_id, first_touched_at, last_touched_at,
            last_action, touch_count, lock_count, edit_count, read_count, commit_count, last_seq)
    VALUES (:agent_id, :agent_role,
            coalesce((SELECT lead_id FROM agent_roster WHERE agent_id = :agent_id), :lead_id),
            :file_path, :project_id, :at, :at, :action,
            1, :action = 'lock', :action = 'edit', :action = 'read', :action = 'commit', :seq)
    ON CONFLICT (agent_id, lead_id, file_path) DO UPDATE
       SET agent_role = excluded.agent_role, last_touched_at = excluded.last_touched_at,
           last_action = excluded.last_action, touch_count = agent_file_history.touch_count + 1,
           lock_count = agent_file_history.lock_count + excluded.lock_count,
           edit_count = agent_file_history.edit_count + excluded.edit_count,
           read_count = agent_file_history.read_count + excluded.read_count,
           commit_count = agent_file_history.commit_count + excluded.commit_count,
           last_seq = excluded.last_seq
""")


def entry_hash(previous: bytes, entry: Mapping[str, Any]) -> bytes:
    """The hash of an entry: SHA-256 of the hash before it and the entry's canonical JSON."""
    return hashlib.sha256(previous + _CANONICAL.encode(entry).encode()).digest()


def record(tx: Tx, caller: Caller, event: Event) -> None:
    """Write a fact to the ledger, without the secrets it may hold."""
    tail = tx.one(TAIL)
    summary, facts = event.summary, event.details
    details = frames.compact(facts)
    if text.may_hold_secret(f"{summary} {details}"):
        summary, facts = text.redact(summary)[0], _without_secrets(facts)
        details = frames.compact(facts)
    entry: dict[str, Any] = {
        "seq": tail.seq + 1 if tail else 1,
        "agent_id": event.agent_id or caller.agent_id,
        "agent_role": event.agent_role or caller.role,
        "action_type": event.kind,
        "summary": summary,
        "details": details,
        "timestamp": tx.at,
        "project_id": event.project_id or caller.project_id,
        "lead_id": event.lead_id or "",
        "origin": event.origin,
    }
    previous = tail.entry_hash if tail else GENESIS
    said = " ".join(text.texts_in(facts))
    tx.run(
        RECORD,
        **entry,
        # The letter of an escape begins the word behind it, which is then another one in the index.
        search_words=text.index_words(f"{summary} {said}", beside=said if "\\" in details else ""),
        prev_hash=previous,
        entry_hash=entry_hash(previous, entry),
    )
    served = {"agent_id": event.agent_id, "agent_role": event.agent_role, "project_id": event.project_id}
    for path in event.locked:
        touch(tx, caller, path, "lock", seq=entry["seq"], **served)


INDEXED_AT_ONCE = 200
"""Entries that one transaction indexes: in about 10 ms, for which others wait."""


def is_unindexed(tx: Tx) -> bool:
    """Whether there are entries that a search would not find yet."""
    return tx.one(UNINDEXED) is not None


def index(tx: Tx) -> None:
    """Let searches find the oldest entries that they do not find yet."""
    tx.run(INDEX, most=INDEXED_AT_ONCE)


def touch(
    tx: Tx,
    caller: Caller,
    path: str,
    action: Literal["lock", "edit", "read", "commit"],
    *,
    seq: int,
    agent_id: str | None = None,
    agent_role: str | None = None,
    project_id: str | None = None,
) -> None:
    """Count one touch of a file by an agent: the caller, or the one that the call has served."""
    tx.run(
        TOUCH,
        agent_id=agent_id or caller.agent_id,
        agent_role=agent_role or caller.role,
        lead_id=caller.lead_id,
        file_path=f"{project_id or caller.project_id}:{path}",
        project_id=project_id or caller.project_id,
        at=tx.at,
        action=action,
        seq=seq,
    )


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return text.redact(value)[0]
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return value


class Touched(Result):
    file_paths: list[str]
    action: str


class KnownFile(Result):
    file_path: str
    agent_id: str
    agent_role: str
    touch_count: int
    edit_count: int
    read_count: int
    commit_count: int
    lock_count: int
    first_touched_at: str
    last_touched_at: str
    technology: str | None = None


class FileHistory(Result):
    files: list[KnownFile]
    next_after_id: str | None = None


class KnownFileRow(Row):
    file_path: str
    agent_id: str
    agent_role: str
    touch_count: int
    edit_count: int
    read_count: int
    commit_count: int
    lock_count: int
    first_touched_at: str
    last_touched_at: str
    last_seq: int


def _known_files(where: str) -> Query[KnownFileRow]:
    """One way to page through what is known of files. One call may touch many, so the order of touches is
    only complete with the path."""
    return KnownFileRow.query(f"""
        SELECT file_path, agent_id, agent_role, touch_count, edit_count, read_count, commit_count, lock_count,
               first_touched_at, last_touched_at, last_seq
          FROM agent_file_history
         WHERE {where} AND last_seq <= :seq AND (last_seq < :seq OR file_path > :path)
         ORDER BY last_seq DESC, file_path LIMIT :limit
    """)


BY_FILE = _known_files("file_path = :file_path AND (:agent_id IS NULL OR agent_id = :agent_id)")
BY_AGENT = _known_files("agent_id = :agent_id AND project_id = :project_id")
BY_PROJECT = _known_files("project_id = :project_id")


class LogEntry(Result):
    activity_id: int
    action_type: str
    agent_id: str


class Activity(Result):
    activity_id: int
    agent_id: str
    agent_role: str
    action_type: str
    summary: str
    details: dict[str, Any]
    timestamp: str
    reported: bool | None = Field(default=None, description="True for what an agent says of itself")


class ActivityPage(Result):
    entries: list[Activity]
    next_after_id: int | None = None


class ActivityRow(Row):
    id: int
    agent_id: str
    agent_role: str
    action_type: str
    summary: str
    details: str
    timestamp: str
    origin: str


def _listing(leading: str, order: str, source: str = "activity_log AS a") -> Query[ActivityRow]:
    """One way to page through the ledger, in the order of ids. `leading` is the filter that an index serves;
    the plus keeps the planner from the project's, which nearly all entries share."""
    return ActivityRow.query(f"""
        SELECT a.id, a.agent_id, a.agent_role, a.action_type, a.summary, a.details, a.timestamp, a.origin
          FROM {source}
         WHERE {leading} AND a.id > :after AND a.id < :before
           AND +a.project_id = :project_id AND (:every_crew OR a.lead_id IN ('', :lead_id))
           AND (:agent_id IS NULL OR a.agent_id = :agent_id)
           AND (:action_type IS NULL OR a.action_type = :action_type)
           AND (:since IS NULL OR a.timestamp >= :since) AND (:until IS NULL OR a.timestamp < :until)
         ORDER BY a.id {order} LIMIT :limit
    """)


Leading = Literal["query", "agent", "type", "project"]
FILTERS: Mapping[Leading, tuple[str, str]] = {
    "query": (
        "f._fts_activity MATCH :query",
        "_fts_activity AS f CROSS JOIN activity_log AS a ON a.id = f.rowid",
    ),
    "agent": ("a.agent_id = :agent_id", "activity_log AS a"),
    "type": ("a.action_type = :action_type", "activity_log AS a"),
    "project": ("a.project_id = :project_id", "activity_log AS a"),
}
LISTINGS: Mapping[tuple[Leading, str], Query[ActivityRow]] = {
    (leading, order): _listing(condition, order, source)
    for leading, (condition, source) in FILTERS.items()
    for order in ("ASC", "DESC")
}


@tool(writes=True)
def record_file_touch(
    tx: Tx,
    caller: Caller,
    file_paths: FilePaths,
    action: Annotated[Literal["edit", "read", "commit"], Field(description="What was done")] = "edit",
) -> Touched:
    """Record that you edited, read or committed files, so that others find who knows them.

    Locks and hooks record on their own; call this for work done without them. Files only: a directory
    or a glob is refused with invalid_path.
    """
    for path in file_paths:
        if not path.is_file:
            raise InvalidPath(f"{path} is not one file.", file_path=path, rule="name single files")
    tail = tx.one(TAIL)
    for path in dict.fromkeys(file_paths):
        touch(tx, caller, path, action, seq=tail.seq + 1 if tail else 1)
    verb = {"edit": "edited", "read": "read", "commit": "committed"}[action]
    shown = ", ".join(file_paths[:3]) + (f" and {len(file_paths) - 3} more" if len(file_paths) > 3 else "")
    tx.tell(Event("history", f"file_{action}", f"{verb} {shown}", details={"files": list(file_paths)}))
    return Touched(file_paths=list(dict.fromkeys(file_paths)), action=action)


@tool()
def list_file_history(
    tx: Tx,
    caller: Caller,
    file_path: FilePath | None = None,
    target_agent_id: AgentId | None = None,
    limit: Limit = 50,
    after_id: AfterName | None = None,
) -> FileHistory:
    """Who knows a file, newest touch first; or which files an agent has touched.

    Give file_path, target_agent_id or both; with neither, the project's latest touches. Ask before you
    change code that somebody else wrote.
    """
    page = _file_cursor(after_id) | {"limit": limit + 1}
    if file_path is not None:
        rows = tx.all(BY_FILE, file_path=f"{caller.project_id}:{file_path}", agent_id=target_agent_id, **page)
    elif target_agent_id is not None:
        rows = tx.all(BY_AGENT, agent_id=target_agent_id, project_id=caller.project_id, **page)
    else:
        rows = tx.all(BY_PROJECT, project_id=caller.project_id, **page)
    files = [
        KnownFile(
            file_path=row.file_path.partition(":")[2],
            technology=technology(row.file_path),
            **{
                name: getattr(row, name)
                for name in KnownFileRow.columns()
                if name not in ("file_path", "last_seq")
            },
        )
        for row in rows
    ]
    shown, more = fitted(files, limit)
    last = rows[len(shown) - 1] if more else None
    return FileHistory(files=shown, next_after_id=f"{last.last_seq}:{last.file_path}" if last else None)


def _file_cursor(after_id: str | None) -> dict[str, Any]:
    """Where a page of known files begins. Raises InvalidArguments for what no page has given."""
    if after_id is None:
        return {"seq": 2**62, "path": ""}
    seq, _, path = after_id.partition(":")
    if not (seq.isascii() and seq.isdigit() and len(seq) < 17 and path):
        rule = "must be the next_after_id of a page before"
        raise InvalidArguments(f"after_id {rule}", fields=[{"field": "after_id", "rule": rule}])
    return {"seq": int(seq), "path": path}


def technology(path: str) -> str | None:
    """What a file's ending says that its authors know; None when it says nothing."""
    return TECHNOLOGIES.get(path.rpartition(".")[2].lower())


@tool(writes=True, profile="core")
def log_activity(
    tx: Tx, caller: Caller, action_type: ActionType, summary: Summary, details: Object | None = None
) -> LogEntry:
    """Leave a note in the crew's ledger: progress, a finding, a problem.

    What tools do is recorded by itself. list_activity reads it.
    """
    if (size := len(json.dumps(details or {}, ensure_ascii=False).encode())) > DETAILS_BYTES:
        raise TooLarge(
            f"details has {size} bytes; at most {DETAILS_BYTES} are taken.",
            field="details",
            size=size,
            limit=DETAILS_BYTES,
            unit="bytes",
        )
    tail = tx.one(TAIL)
    tx.tell(
        Event("history", action_type, summary, details=details or {}, lead_id=caller.lead_id, origin="agent")
    )
    return LogEntry(
        activity_id=tail.seq + 1 if tail else 1, action_type=action_type, agent_id=caller.agent_id
    )


@tool(searches="query")
def list_activity(
    tx: Tx,
    caller: Caller,
    after_id: AfterId | None = None,
    before_id: BeforeId | None = None,
    target_agent_id: AgentId | None = None,
    action_type: ActionType | None = None,
    project_id: ProjectId | None = None,
    since: Since | None = None,
    until: Since | None = None,
    query: SearchText | None = None,
    newest_first: Annotated[bool, Field(description="Newest first")] = False,
    limit: Limit = 20,
) -> ActivityPage:
    """Read the ledger: what happened in your project and crew, oldest first unless newest_first.

    All filters combine; query is plain words, any of which may match. Go on with after_id =
    next_after_id (with newest_first: before_id).
    """
    match = text.fts_query(query) if query is not None else None
    if query is not None and match is None:
        return ActivityPage(entries=[])
    if project_id is not None and project_id != caller.project_id and caller.kind != "human":
        return ActivityPage(entries=[])
    leading: Leading = (
        "query" if match is not None else "agent" if target_agent_id else "type" if action_type else "project"
    )
    values: dict[str, Any] = {
        "after": after_id or 0,
        "before": before_id or 2**62,
        "agent_id": target_agent_id,
        "action_type": action_type,
        "project_id": project_id or caller.project_id,
        "lead_id": caller.lead_id,
        "every_crew": caller.reads_all_crews,
        "since": padded(since),
        "until": padded(until),
        "limit": limit + 1,
    }
    if match is not None:
        values["query"] = match
    rows = tx.all(LISTINGS[leading, "DESC" if newest_first else "ASC"], **values)
    shown, more = fitted([_activity(row) for row in rows], limit)
    return ActivityPage(entries=shown, next_after_id=shown[-1].activity_id if more else None)


def latest_of(tx: Tx, caller: Caller, agent_id: str, limit: int) -> list[Activity]:
    """The latest that an agent did, newest first, as far as the caller may read it."""
    rows = tx.all(
        LISTINGS["agent", "DESC"],
        after=0,
        before=2**62,
        agent_id=agent_id,
        action_type=None,
        project_id=caller.project_id,
        lead_id=caller.lead_id,
        every_crew=caller.reads_all_crews,
        since=None,
        until=None,
        limit=limit,
    )
    return [_activity(row) for row in rows]


def _activity(row: ActivityRow) -> Activity:
    return Activity(
        activity_id=row.id,
        agent_id=row.agent_id,
        agent_role=row.agent_role,
        action_type=row.action_type,
        summary=row.summary,
        details=json.loads(row.details),
        timestamp=row.timestamp,
        reported=True if row.origin == "agent" and row.action_type in CORE_KINDS else None,
    )


def padded(moment: str | None) -> str | None:
    """A time in the store's format, in which text order is time order."""
    if moment is None:
        return None
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<3}Z"


TOOLS = (record_file_touch, list_file_history, log_activity, list_activity)
