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
    gone: int

    def liveness(self, now: int) -> Liveness:
        """Whether the agent is there: seen within `LIVE_MS`, and not known to have lost its program."""
        if self.status == "terminated":
            return "terminated"
        seen = self.last_seen_boot_ms > 0 and now - self.last_seen_boot_ms <= LIVE_MS
        return "live" if seen and not self.gone else "stale"


COLUMNS = (
    ", ".join(f"a.{name}" for name in Agent.columns()[:-2])
    + """, c.led_by,
    EXISTS (SELECT 1 FROM _agent_processes AS l WHERE l.agent_id = a.agent_id)
    AND NOT EXISTS (SELECT 1 FROM _agent_processes AS l JOIN _processes AS p ON p.process_id = l.process_id
                     WHERE l.agent_id = a.agent_id
                       AND (p.gone_boot_ms IS NULL OR p.gone_boot_ms < a.last_seen_boot_ms)) AS gone"""
)
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
# The live lead whose session started last; those without one come after, by when they signed in.
LIVE_LEAD = Agent.query(f"""
    SELECT {COLUMNS} FROM {FROM}
     WHERE a.project_id = :project_id AND (a.role = 'lead' OR c.led_by = a.agent_id)
       AND a.status <> 'terminated' AND a.last_seen_boot_ms > :seen_after
     ORDER BY (SELECT max(s.id) FROM project_sessions AS s
                WHERE s.project_id = a.project_id AND s.lead_id = a.lead_id
                  AND s.status IN ('active', 'resuming')) DESC,
              c.led_by IS a.agent_id DESC, a.signed_in_boot_ms DESC, a.agent_id LIMIT 1
""")


class Known(Row):
    id: str


NAMES = Known.query(
    "SELECT agent_id AS id FROM agent_roster WHERE project_id = :project_id ORDER BY agent_id"
)
PROJECT_OF = Known.query("SELECT project_id AS id FROM agent_roster WHERE agent_id = :agent_id")


SEEN = Command("""
    UPDATE agent_roster SET last_seen_boot_ms = :now, last_seen_at = :at
     WHERE agent_id = :agent_id AND status <> 'terminated'
""")
TERMINATE = Command("""
    UPDATE agent_roster
       SET status = 'terminated', terminated_at = :at, termination_reason = :reason, updated_at = :at
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


def seen(tx: Tx, agent_id: str, *, through_pipe: bool) -> bool:
    """An agent showed a sign of life, over the pipe of this process or from elsewhere. False for one
    that is not on the roster or has left."""
    if tx.run(SEEN, agent_id=agent_id, now=tx.now, at=tx.at) != 1:
        return False
    if through_pipe:
        comes_through(tx, agent_id)
    return True


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
COMES_THROUGH = Command("""
    INSERT INTO _agent_processes (agent_id, process_id) VALUES (:agent_id, :process_id) ON CONFLICT DO NOTHING
""")
OF_PROCESS = Known.query("""
    SELECT l.agent_id AS id FROM _agent_processes AS l JOIN agent_roster AS a ON a.agent_id = l.agent_id
     WHERE l.process_id = :process_id AND a.status <> 'terminated' ORDER BY l.agent_id
""")
ORPHANS = Orphan.query("""
    SELECT DISTINCT l.agent_id
      FROM _processes AS p CROSS JOIN _agent_processes AS l ON l.process_id = p.process_id
           JOIN agent_roster AS a ON a.agent_id = l.agent_id
     WHERE p.gone_boot_ms <= :gone_before AND a.last_seen_boot_ms <= p.gone_boot_ms
       AND NOT EXISTS (SELECT 1 FROM _agent_processes AS m JOIN _processes AS q ON q.process_id = m.process_id
                        WHERE m.agent_id = l.agent_id
                          AND (q.gone_boot_ms IS NULL OR q.gone_boot_ms > :gone_before))
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


def comes_through(tx: Tx, agent_id: str) -> None:
    """An agent calls over the pipe of this process, and lives at least as long as its client."""
    tx.run(COMES_THROUGH, agent_id=agent_id, process_id=tx.process_id)


def agents_of(tx: Tx, process_id: str) -> list[str]:
    """The agents that have called over the pipe of a process and have not left."""
    return [row.id for row in tx.all(OF_PROCESS, process_id=process_id)]


def process_ended(tx: Tx, process_id: str) -> None:
    """A server process stops in order: its agents' clients have gone."""
    tx.run(PROCESS_ENDED, process_id=process_id, now=tx.now, at=tx.at)


def process_gone(tx: Tx, process_id: str) -> bool:
    """A server process was found to be gone; whether that is news."""
    return tx.run(PROCESS_GONE, process_id=process_id, now=tx.now) == 1


def orphans(tx: Tx) -> list[str]:
    """The agents whose last process has been gone for the whole grace, and that nobody saw since."""
    return [row.agent_id for row in tx.all(ORPHANS, gone_before=tx.now - GRACE_MS)]


def forget_processes(tx: Tx) -> int:
    """Drop the processes whose agents have been dealt with; how many they were."""
    return tx.run(FORGET_PROCESSES, gone_before=tx.now - GRACE_MS)
