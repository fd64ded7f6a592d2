"""Whole servers that are killed at any moment, over both transports, under clients that call all the while.

Every call carries a request key. What was answered stands in the store once; a call whose answer the kill has
taken is repeated with its key at the next server, and stands once as well (Q1, Q2, Q9, L15, S16).
`CALLBOARD_PROOF=full` makes a release's number of kills; `CALLBOARD_SEED` repeats the times of the kills.
"""

import os
import random
import signal
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import apsw
from mcp import Client

from callboard import integrity
from tests.serving import PATIENCE, Place, call

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))
ROUNDS = 334 if FULL else 2
KILLED = 3
"""Servers that each round kills: one that two clients share, and two of one client each."""

CLIENTS = {"ann": "http", "ben": "http", "cat": "stdio", "dan": "stdio"}

MESSAGES = 150
"""How many messages each client sends; after that it writes notes, as an inbox has its bound."""

FACTS = {
    "message": "SELECT text, id FROM message_queue WHERE message_type = 'agent_message'",
    "note": "SELECT summary, id FROM activity_log WHERE action_type = 'note'",
}


@dataclass(slots=True)
class Load:
    """What the clients meant to do, what they were answered, and whether their servers were killed."""

    intents: dict[str, list[str]] = field(default_factory=dict)
    """Of each agent, the keys of its calls in order."""
    answers: dict[str, int] = field(default_factory=dict)
    killed: bool = False
    enough: int = 0
    served: set[str] = field(default_factory=set)
    """The agents whose servers have answered since the last kill."""
    reached: anyio.Event = field(default_factory=anyio.Event)
    repeated: int = 0

    def until(self, answers: int) -> None:
        self.enough, self.reached, self.killed = len(self.answers) + answers, anyio.Event(), False
        self.served.clear()

    async def work(self, client: Client, agent: str) -> None:
        """Sign in, repeat what was not answered, and go on until the server is killed."""
        await call(client, "register_agent", agent_id=agent, role="developer")
        keys = self.intents.setdefault(agent, [])
        for key in keys:
            if key not in self.answers:
                self.repeated += 1
                await self.act(client, agent, key)
        while not self.killed:
            number = len(keys)
            keys.append(f"{'message' if number < MESSAGES else 'note'}-{agent}-{number}")
            await self.act(client, agent, keys[-1])

    async def act(self, client: Client, agent: str, key: str) -> None:
        named = {"agent_id": agent, "request_key": key}
        if key.startswith("message"):
            answer = await call(client, "send_message", to=agent, content=key, **named)
            self.answers[key] = answer["message_ids"][0]
        else:
            answer = await call(client, "log_activity", action_type="note", summary=key, **named)
            self.answers[key] = answer["activity_id"]
        self.served.add(agent)
        if len(self.answers) >= self.enough and self.served == set(CLIENTS):
            self.reached.set()


def kill_servers(place: Place) -> int:
    """Kill every server of a store that has not ended, as the store names them; how many there were."""
    with closing(apsw.Connection(str(place.db), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        db.set_busy_timeout(5_000)
        pids = [int(pid) for (pid,) in db.execute("SELECT pid FROM _processes WHERE gone_boot_ms IS NULL")]
    alive = [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists()]
    ours = [pid for pid in alive if str(place.db).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
    for pid in ours:
        os.kill(pid, signal.SIGKILL)
    return len(ours)


async def lived(load: Load, place: Place, kind: str, url: str, agent: str) -> None:
    """One client from its server's start to the kill, which is the only reason why it may fail."""
    try:
        async with place.client(kind, url) as client:
            await load.work(client, agent)
    except Exception:
        if not load.killed:
            raise


async def test_a_killed_server_loses_nothing_that_it_answered_and_repeats_nothing(tmp_path: Path) -> None:
    """Q1, Q7, L15"""
    place = Place(tmp_path)
    chance = random.Random(SEED)
    print(f"CALLBOARD_SEED={SEED}")
    load, kills = Load(), 0
    for _ in range(ROUNDS):
        load.until(chance.randrange(10, 80))
        with place.http() as url:
            async with anyio.create_task_group() as tasks:
                for agent, kind in CLIENTS.items():
                    tasks.start_soon(lived, load, place, kind, url, agent)
                with anyio.fail_after(PATIENCE):
                    await load.reached.wait()
                load.killed = True
                kills += kill_servers(place)
                tasks.cancel_scope.cancel()  # what a client waits for is never answered
    # Whatever was never answered is asked for once more, of a server that lives.
    load.until(0)
    with place.http() as url:
        for agent in CLIENTS:
            async with place.client("http", url) as client:
                await call(client, "register_agent", agent_id=agent, role="developer")
                for key in load.intents.get(agent, []):  # it may have been killed before its first call
                    if key not in load.answers:
                        load.repeated += 1
                        await load.act(client, agent, key)
    with closing(apsw.Connection(str(place.db), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        stored = [(str(key), int(id_)) for sql in FACTS.values() for key, id_ in db.execute(sql)]
        assert integrity.examine(db) == []
    meant = {key for keys in load.intents.values() for key in keys}
    assert Counter(key for key, _ in stored if key in meant) == Counter(meant)
    assert {key: id_ for key, id_ in stored if key in meant} == load.answers
    assert kills == KILLED * ROUNDS
    print(f"{kills} kills, {len(meant)} calls, {load.repeated} repeated: 0 lost, 0 twice")
