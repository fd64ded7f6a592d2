"""The roster: who is here.

An agent signs in once and keeps its id for good: its row ends as a tombstone and is never deleted.
What an agent says of itself is stored; whether it is there is computed from its last sign of life.
"""

from callboard.domains.roster.agents import (
    AGENT,
    BEAT_MS,
    LIVE_MS,
    PROCESS_HERE,
    PROJECT_AGENTS,
    Agent,
    agents_of,
    forget_processes,
    get,
    hand_over,
    orphans,
    process_ended,
    process_gone,
    process_started,
    project_of,
    seen,
    terminate,
)
from callboard.domains.roster.roles import define_role, delete_role, list_roles, restore_built_in
from callboard.domains.roster.signing_in import register_agent
from callboard.domains.roster.tools import Listed, heartbeat, list_agents, listed, update_agent

TOOLS = (register_agent, heartbeat, list_agents, update_agent, list_roles, define_role, delete_role)

__all__ = [
    "AGENT",
    "BEAT_MS",
    "LIVE_MS",
    "PROCESS_HERE",
    "PROJECT_AGENTS",
    "TOOLS",
    "Agent",
    "Listed",
    "agents_of",
    "forget_processes",
    "get",
    "hand_over",
    "listed",
    "orphans",
    "process_ended",
    "process_gone",
    "process_started",
    "project_of",
    "restore_built_in",
    "seen",
    "terminate",
]
