"""Who asks: which agent it is that edits or commits.

A hook is started by the client, not by the agent, and brings no agent's name. Three things tell, the surest
first:

1. `CALLBOARD_AGENT` in the environment: somebody has said so.
2. The session: the client tells its hooks a session id, and the agent gave the same one as it signed in.
3. The processes: the hook descends from the client's program, and so does the stdio server that the agent
   calls through. The server must be the client's own child, with nothing but launchers in between (`uv`, a
   shell). Any looser kinship would take two clients of one terminal for one.

Where none of them tells, nobody is known, and a guard must not guess: the holder of a lock could be the one
who asks.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from callboard import process
from callboard.guards.reader import Moment, Reader

LAUNCHERS = frozenset({"sh", "dash", "bash", "zsh", "env", "uv", "uvx", "pipx"})
"""Programs that run one command and wait for it, by the names that the system keeps."""


class Surroundings(NamedTuple):
    """What a guard finds around it."""

    environment: Mapping[str, str]
    folder: Path
    pid: int
    moment: Moment

    @property
    def is_off(self) -> bool:
        """Whether a person has switched the guards off."""
        return self.environment.get("CALLBOARD_GUARD", "").lower() in ("off", "0", "false")

    def store(self, root: Path) -> Path:
        """Where the store of the repository at `root` stands."""
        named = self.environment.get("CALLBOARD_DB")
        return Path(named) if named else root / ".callboard" / "board.db"


def find_agents(reader: Reader, around: Surroundings, session: str | None = None) -> frozenset[str]:
    """The agents that may be asking: one as a rule, several where they share one client, none if unknown."""
    if named := around.environment.get("CALLBOARD_AGENT"):
        return frozenset({named})
    if session and (agents := reader.of_session(session)):
        return agents
    return _of_client(reader, around.pid)


def _of_client(reader: Reader, pid: int) -> frozenset[str]:
    own = process.ProcessName.own()
    pipes = reader.pipes(own.namespace)
    if not pipes:
        return frozenset()
    above = {ancestor for ancestor, _ in process.line_of(pid)} - {pid}
    return frozenset(
        pipe.agent_id
        for pipe in pipes
        if process.is_alive(pipe.pid, pipe.start_ticks) and _launched_by(above, pipe.pid)
    )


def _launched_by(clients: set[int], pid: int) -> bool:
    line = process.line_of(pid)
    next(line, None)
    for ancestor, program in line:
        if ancestor in clients:
            return True
        if program not in LAUNCHERS:
            return False
    return False


def own_surroundings(moment: Moment) -> Surroundings:
    """Those of this process."""
    return Surroundings(os.environ, Path.cwd(), os.getpid(), moment)
