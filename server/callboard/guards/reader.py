"""The store as a guard reads it: one read-only connection, a handful of lookups, gone in milliseconds.

It is the same question as `check_file_lock`, asked of the same table by the same names (`lockname`), without
the server's machinery: loading that alone would take longer than most edits.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import apsw

from callboard import globs, lockname
from callboard.repository import Repository
from callboard.unusable import Unusable, translate

APPLICATION_ID = 1667396196
VERSION = 1
"""As `schema.sql` has them, whose reading would take longer than all else here; a test compares."""

BUSY_MS = 200
"""How long a guard waits for a locked store. With a write-ahead log a reader hardly ever does."""


class NoAnswer(Exception):
    """The store cannot be asked; the message says why, for standard error."""


class Moment(NamedTuple):
    """Now, on the host's boot clock."""

    boot_id: str
    boot_ms: int


class Hold(NamedTuple):
    """What stands against a change of a path: a lease, or the rest after a lost one."""

    path: str
    """What is held, relative to the repository: the path itself, a directory or a glob."""
    agent_id: str
    mode: Literal["exclusive", "shared", "rest"]
    fence: int
    seconds_left: int
    taken: int
    """When it was granted, in seconds since 1970."""


class Pipe(NamedTuple):
    """A running stdio server and an agent that calls through it."""

    pid: int
    start_ticks: int
    agent_id: str


class Loss(NamedTuple):
    """A lease that ended against its holder's will, and who holds the path or held it since."""

    path: str
    fence: int
    ended_at: str
    since: str
    newer_fence: int


# The unary plus keeps the planner on the prefix, of which an index finds the few that matter.
_NEAR = "prefix IN (SELECT value FROM json_each(:above))", "prefix > :at AND prefix < :beyond"
HOLDS = "\nUNION ALL\n".join(
    [
        f"""SELECT file_path, agent_id, mode, fence, +expires_boot_ms, unixepoch(acquired_at)
              FROM _leases WHERE {near} AND +expires_boot_ms > :now"""
        for near in _NEAR
    ]
    + [
        f"""SELECT file_path, agent_id, 'rest', 0, until_boot_ms, 0
              FROM _lock_delays WHERE {near} AND +until_boot_ms > :now"""
        for near in _NEAR
    ]
)
HELD_IN = """
    SELECT file_path, agent_id, mode, fence, expires_boot_ms, unixepoch(acquired_at)
      FROM _leases WHERE project_id = :project_id AND +expires_boot_ms > :now
"""
# From the few processes to their agents.
PIPES = """
    SELECT p.pid, p.start_ticks, l.agent_id
      FROM _processes AS p CROSS JOIN _agent_processes AS l ON l.process_id = p.process_id
           CROSS JOIN agent_roster AS a ON a.agent_id = l.agent_id
     WHERE p.transport = 'stdio' AND p.pid_namespace = :namespace AND p.gone_boot_ms IS NULL
       AND p.pid IS NOT NULL AND a.status <> 'terminated'
"""
OF_SESSION = "SELECT agent_id FROM agent_roster WHERE session_id = :session AND status <> 'terminated'"
UNTOLD = """
    SELECT 1 FROM message_queue
     WHERE target_agent_id = :agent_id AND status = 'queued' AND told = 0 AND visible_boot_ms <= :now
       AND (expires_boot_ms IS NULL OR expires_boot_ms > :now)
     LIMIT 1
"""
SETTING = "SELECT value FROM settings WHERE key = :key"
PROJECT = "SELECT id FROM projects WHERE cwd = :root AND status <> 'archived'"
# By their kind: nearly all entries of the ledger are of the project.
LOSSES = """
    SELECT id, details, timestamp FROM activity_log
     WHERE action_type IN ('lock_expired', 'lock_force_released') AND +project_id = :project_id
       AND json_extract(details, '$.holder') = :agent_id
     ORDER BY id DESC LIMIT 100
"""
GRANTS_SINCE = """
    SELECT agent_id, details FROM activity_log
     WHERE action_type = 'lock_acquired' AND project_id = :project_id AND id > :id
     ORDER BY id DESC LIMIT 2000
"""
STATEMENTS = (HOLDS, HELD_IN, PIPES, OF_SESSION, UNTOLD, SETTING, PROJECT, LOSSES, GRANTS_SINCE)
"""All of them, for a test that prepares each against the schema."""


class Reader:
    """A store that is open for reading. Its methods raise what `opened` turns into `NoAnswer`."""

    def __init__(self, db: apsw.Connection, now: int) -> None:
        self._db = db
        self._now = now

    def at_home(self, repository: Repository) -> Repository:
        """The repository under the id of the project that works in it: one that was moved keeps its own."""
        project_id = self._db.execute(PROJECT, {"root": str(repository.root)}).get
        return repository if project_id is None else repository._replace(known_as=str(project_id))

    def holds(self, name: str) -> list[Hold]:
        """Everything in force that overlaps a canonical name, whoever holds it."""
        rows = self._db.execute(HOLDS, {**lockname.neighbourhood(name), "now": self._now})
        return [self._hold(row) for row in rows if lockname.overlap(row[0], name)]

    def held_in(self, project_id: str) -> list[Hold]:
        """Every lease in force in a project."""
        rows = self._db.execute(HELD_IN, {"project_id": project_id, "now": self._now})
        return [self._hold(row) for row in rows]

    def pipes(self, namespace: str) -> list[Pipe]:
        """The stdio servers that run in a pid namespace, as far as the store knows."""
        return [Pipe(*row) for row in self._db.execute(PIPES, {"namespace": namespace})]

    def of_session(self, session: str) -> frozenset[str]:
        """The agents that signed in with this session of their program."""
        return frozenset(agent for (agent,) in self._db.execute(OF_SESSION, {"session": session}))

    def has_untold(self, agent_id: str) -> bool:
        """Whether a message waits for the agent that no digest has told it of."""
        return self._db.execute(UNTOLD, {"agent_id": agent_id, "now": self._now}).get is not None

    def setting(self, key: str, default: Any) -> Any:
        """A value of the store's configuration."""
        value = self._db.execute(SETTING, {"key": key}).get
        return default if value is None else json.loads(value)

    def losses(self, agent_id: str, project_id: str, names: list[str]) -> Iterator[tuple[str, Loss]]:
        """Which of the canonical names the agent once held and lost to others, as the ledger tells: its
        lease lapsed or was taken, another agent was granted the path, and the agent never was again."""
        known = {"project_id": project_id, "agent_id": agent_id}
        lost = [(entry, json.loads(text), at) for entry, text, at in self._db.execute(LOSSES, known)]
        if not lost:
            return
        after = {"project_id": project_id, "id": min(entry for entry, _, _ in lost)}
        grants = [(agent, json.loads(text)) for agent, text in self._db.execute(GRANTS_SINCE, after)]
        told: set[str] = set()
        for _, loss, at in lost:
            newer = [
                (agent, grant)
                for agent, grant in grants
                if grant["fence"] > loss["fence"] and globs.overlaps(grant["file_path"], loss["file_path"])
            ]
            if all(agent == agent_id for agent, _ in newer):
                continue
            for name in names:
                path = lockname.shown(name)
                if name in told or not globs.overlaps(loss["file_path"], path):
                    continue
                told.add(name)  # an older loss of the same path says nothing more
                last = next((hold for hold in newer if globs.overlaps(hold[1]["file_path"], path)), None)
                if last is not None and last[0] != agent_id:
                    yield name, Loss(loss["file_path"], loss["fence"], at, last[0], last[1]["fence"])

    def _hold(self, row: tuple[Any, ...]) -> Hold:
        name, agent_id, mode, fence, until, taken = row
        return Hold(lockname.shown(name), agent_id, mode, fence, max(0, until - self._now) // 1000, taken)


@contextmanager
def opened(path: Path, moment: Moment) -> Iterator[Reader]:
    """The store at `path`, read as of `moment`. Raises NoAnswer."""
    if not path.exists():
        raise NoAnswer(f"there is no store at {path}")
    try:
        db = _connect(path)
        try:
            _check(db, path, moment)
            yield Reader(db, moment.boot_ms)
        finally:
            db.close()
    except (apsw.Error, UnicodeDecodeError, Unusable) as error:
        meaning = translate(error)
        raise NoAnswer(f"the store {path} cannot be read: {meaning[1] if meaning else error}") from error


def _connect(path: Path) -> apsw.Connection:
    """Hardened as every connection is (S8), and such that it can write nothing. It follows no link.

    Where nobody else has the store open, an empty log stays beside it, which the next server takes away.
    """
    real = path.parent.resolve() / path.name
    db = apsw.Connection(str(real), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW)
    db.set_busy_timeout(BUSY_MS)
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    db.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
    db.pragma("cell_size_check", True)
    db.pragma("query_only", True)
    return db


def _check(db: apsw.Connection, path: Path, moment: Moment) -> None:
    if db.pragma("application_id") != APPLICATION_ID:
        raise NoAnswer(f"{path} is not a store of callboard")
    version = db.pragma("user_version")
    if version != VERSION:
        what = (
            "a newer callboard wrote it"
            if version > VERSION
            else "start a server, which brings it up to date"
        )
        raise NoAnswer(f"the store {path} has schema version {version}: {what}")
    boot = db.execute(SETTING, {"key": "store.boot_id"}).get
    if boot is None or json.loads(boot) != moment.boot_id:
        raise NoAnswer(f"no server has run on {path} since this host started, so no lock is in force")
