"""Agents as the roster keeps them: their line, their liveness, their crew's lead."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from callboard import text
from callboard.errors import TooLarge, UnknownAgent
from callboard.events import Event
from callboard.store import Command, Row, Tx

BEAT_MS = 30_000
"""How often the server of a connected client shows a sign of life for its agents, at least."""

LIVE_MS = 2 * BEAT_MS
"""An agent that was seen within this time is live; a silent one is stale."""

METADATA_BYTES = 8 * 1024

Liveness = Literal["live", "stale", "terminated"]
Status = Literal["idle", "running", "terminated"]


class Agent(Row):
    agent_id: str
    role: str
    model: str
    provider: str | None
    status: Status
    session_id: str | None
    project_id: str | None
    team_id: str
    lead_id: str
    parent_id: str | None
    capabilities: str
    metadata: str | None
    created_at: str
    last_seen_boot_ms: int
    last_seen_at: str | None
    last_task_summary: str | None
    terminated_at: str | None
    termination_reason: str | None
    led_by: str | None

    def liveness(self, now: int) -> Liveness:
        if self.status == "terminated":
            return "terminated"
        return "live" if self.last_seen_boot_ms and now - self.last_seen_boot_ms <= LIVE_MS else "stale"


COLUMNS = ", ".join(f"a.{name}" for name in Agent.columns()[:-1]) + ", c.led_by"
FROM = "agent_roster AS a LEFT JOIN _crews AS c ON c.lead_id = a.lead_id"
AGENT = Agent.query(f"SELECT {COLUMNS} FROM {FROM} WHERE a.agent_id = :agent_id")
PROJECT_AGENTS = Agent.query(f"""
    SELECT {COLUMNS} FROM {FROM}
     WHERE a.project_id = :project_id AND a.agent_id > :after
       AND (:lead_id IS NULL OR a.lead_id = :lead_id) AND (:team_id IS NULL OR a.team_id = :team_id)
       AND (:role IS NULL OR a.role = :role) AND (:status IS NULL OR a.status = :status)
       AND (:terminated OR a.status <> 'terminated')
     ORDER BY a.agent_id LIMIT :limit
""")
LIVE_LEAD = Agent.query(f"""
    SELECT {COLUMNS} FROM {FROM}
     WHERE a.project_id = :project_id AND (a.role = 'lead' OR c.led_by = a.agent_id)
       AND a.status <> 'terminated' AND a.last_seen_boot_ms > :seen_after
     ORDER BY a.signed_in_boot_ms DESC, a.agent_id LIMIT 1
""")


class Known(Row):
    id: str


NAMES = Known.query(
    "SELECT agent_id AS id FROM agent_roster WHERE project_id = :project_id ORDER BY agent_id"
)
PROJECT_OF = Known.query("SELECT project_id AS id FROM agent_roster WHERE agent_id = :agent_id")


SEEN = Command("""
    UPDATE agent_roster SET last_seen_boot_ms = :now, last_seen_at = :at, process_id = :process_id
     WHERE agent_id = :agent_id AND status <> 'terminated'
""")
TERMINATE = Command("""
    UPDATE agent_roster
       SET status = 'terminated', terminated_at = :at, termination_reason = :reason, updated_at = :at,
           process_id = NULL
     WHERE agent_id = :agent_id AND status <> 'terminated'
""")
HAND_OVER = Command("UPDATE _crews SET led_by = :successor WHERE lead_id = :lead_id AND led_by = :agent_id")


def get(tx: Tx, agent_id: str, *, project_id: str) -> Agent:
    """An agent of the project. Raises UnknownAgent with near names."""
    agent = tx.one(AGENT, agent_id=agent_id)
    if agent is None or agent.project_id != project_id:
        names = [row.id for row in tx.all(NAMES, project_id=project_id)]
        raise UnknownAgent(
            f"No agent {agent_id} is on the roster.",
            hint="See list_agents.",
            agent_id=agent_id,
            near=text.nearest(agent_id, names) or None,
        )
    return agent


def project_of(tx: Tx, agent_id: str) -> str | None:
    """The project of an agent; None for one that is not on the roster."""
    found = tx.one(PROJECT_OF, agent_id=agent_id)
    return found.id if found else None


def seen(tx: Tx, agent_id: str, *, process_id: str | None) -> bool:
    """An agent showed a sign of life through this process (None: over HTTP, tied to no process).
    False for one that is not on the roster or has left."""
    return tx.run(SEEN, agent_id=agent_id, process_id=process_id, now=tx.now, at=tx.at) == 1


def terminate(tx: Tx, agent_id: str, reason: str) -> bool:
    """End an agent's line of the roster. False when it had ended before."""
    return tx.run(TERMINATE, agent_id=agent_id, reason=reason, at=tx.at) == 1


def hand_over(tx: Tx, agent: Agent, successor: str | None) -> bool:
    """Give the crew that an agent leads to a successor, or leave it leaderless; whether it led one."""
    if not tx.run(HAND_OVER, lead_id=agent.lead_id, agent_id=agent.agent_id, successor=successor):
        return False
    tx.tell(
        Event(
            "roster",
            "crew_handed_over",
            f"crew {agent.lead_id} is now led by {successor or 'nobody'}",
            subject=agent.lead_id,
            details={"from": agent.agent_id, "to": successor},
        )
    )
    return True


def merged(stored: str | None, given: Mapping[str, Any] | None) -> str:
    """Metadata merged key by key; a key given as null goes. Raises TooLarge."""
    whole = (json.loads(stored) if stored else {}) | dict(given or {})
    rendered = json.dumps(
        {key: value for key, value in whole.items() if value is not None}, ensure_ascii=False
    )
    if (size := len(rendered.encode())) > METADATA_BYTES:
        raise TooLarge(
            f"metadata would have {size} bytes; at most {METADATA_BYTES} are kept.",
            field="metadata",
            size=size,
            limit=METADATA_BYTES,
            unit="bytes",
        )
    return rendered


def tell(
    tx: Tx, kind: str, verb: str, agent_id: str, role: str, project_id: str, details: Mapping[str, object]
) -> None:
    tx.tell(
        Event(
            "roster",
            kind,
            f"{agent_id} ({role}) {verb}",
            subject=agent_id,
            details=details,
            agent_id=agent_id,
            agent_role=role,
            project_id=project_id,
        )
    )


# Processes: an agent that came over a pipe is as alive as the process at its other end.

GRACE_MS = 30_000
"""How long an agent whose process is gone keeps what it holds: its client may restart it."""


class Process(Row):
    process_id: str
    pid: int
    start_ticks: int


class Orphan(Row):
    agent_id: str
    process_id: str


PROCESS_STARTED = Command("""
    INSERT INTO _processes (process_id, pid, start_ticks, pid_namespace, transport, started_at)
    VALUES (:process_id, :pid, :start_ticks, :pid_namespace, :transport, :at)
""")
PROCESS_ENDED = Command("""
    UPDATE _processes SET ended_at = :at, gone_boot_ms = :now WHERE process_id = :process_id
""")
PROCESS_GONE = Command("""
    UPDATE _processes SET gone_boot_ms = :now WHERE process_id = :process_id AND gone_boot_ms IS NULL
""")
PROCESS_HERE = Process.query("""
    SELECT process_id, pid, start_ticks FROM _processes
     WHERE pid_namespace = :pid_namespace AND gone_boot_ms IS NULL AND pid IS NOT NULL
""")
ORPHANS = Orphan.query("""
    SELECT a.agent_id, p.process_id
      FROM _processes AS p JOIN agent_roster AS a ON a.process_id = p.process_id
     WHERE p.gone_boot_ms <= :gone_before
""")
FORGET_PROCESSES = Command("DELETE FROM _processes WHERE gone_boot_ms <= :gone_before")


def process_started(tx: Tx, *, pid: int, start_ticks: int, pid_namespace: str, transport: str) -> None:
    """A server process takes up its work."""
    tx.run(
        PROCESS_STARTED,
        process_id=tx.process_id,
        pid=pid,
        start_ticks=start_ticks,
        pid_namespace=pid_namespace,
        transport=transport,
        at=tx.at,
    )


def process_ended(tx: Tx, process_id: str) -> None:
    """A server process stops in order: its agents' clients have gone."""
    tx.run(PROCESS_ENDED, process_id=process_id, now=tx.now, at=tx.at)


def process_gone(tx: Tx, process_id: str) -> None:
    """A server process was found to be gone."""
    tx.run(PROCESS_GONE, process_id=process_id, now=tx.now)


def orphans(tx: Tx) -> list[str]:
    """The agents whose process has been gone for the whole grace, and did not come back by another."""
    return [row.agent_id for row in tx.all(ORPHANS, gone_before=tx.now - GRACE_MS)]


def forget_processes(tx: Tx) -> int:
    """Drop the processes whose agents have been dealt with; how many they were."""
    return tx.run(FORGET_PROCESSES, gone_before=tx.now - GRACE_MS)
