"""`callboard hook CLIENT EVENT`: what a coding client runs around its agent's work.

    session-start        tells the agent who it is and where its crew stands, again after each compaction
    user-prompt-submit   tells it of mail that it has not been told of
    pre-tool-use         refuses to change a file that another agent holds
    post-tool-use        records that the agent has changed a file
    stop                 tells it of such mail before it rests

Only the asking is done here. What takes the board (a briefing, a digest, a lease, a record) is in `acting`,
which is loaded when there is such a thing to do; never on the way of an edit that may go ahead.
"""

import json
import os
import sys
from pathlib import Path
from typing import TextIO

from callboard import globs, lockname
from callboard.guards import asking
from callboard.guards.asking import Surroundings
from callboard.guards.clients import CLIENTS, OCCASIONS, Answer, Client, Occasion, Told, read
from callboard.guards.naming import Named, find_repository
from callboard.guards.reader import Hold, NoAnswer, opened
from callboard.repository import Repository

AUTO_LOCK = "hooks.auto_lock"
"""The setting by which a hook takes the lease on each file that its agent changes; off unless it is true."""

NOTHING = Answer()


def run(client_name: str, event: str, around: Surroundings, told: TextIO, out: TextIO, err: TextIO) -> int:
    """Answer one hook. The exit code is 0 whatever happens: a guard that fails must not stop the work."""
    if around.is_off:
        return 0
    client = CLIENTS.get(client_name)
    occasion = next((known for known in OCCASIONS if known == event), None)
    if client is None or occasion is None:
        known = f"clients are {', '.join(CLIENTS)}; events are {', '.join(OCCASIONS)}"
        print(f"callboard hook: there is no hook {event} for {client_name}; {known}", file=err)
        return 0
    try:
        answer = _answer(client, occasion, told.read(), around)
    except NoAnswer as reason:
        print(f"callboard hook: {reason}; nothing was checked", file=err)
        return 0
    except Exception as error:
        print(f"callboard hook: {type(error).__name__}: {error}; nothing was checked", file=err)
        return 0
    if any(answer):
        json.dump(client.write(client.events[occasion], occasion, answer), out)
        out.write("\n")
    return 0


def _answer(client: Client, occasion: Occasion, text: str, around: Surroundings) -> Answer:
    told = read(client, occasion, text)
    if occasion not in client.events:
        return NOTHING
    around = around._replace(folder=told.folder or around.folder)
    match occasion:
        case "pre-tool-use":
            return _before_edit(told, around)
        case "post-tool-use":
            return _after_edit(told, around)
        case "session-start":
            return _at_start(told, around)
        case _:
            return NOTHING if told.continued else _digest(told, around)


def _before_edit(told: Told, around: Surroundings) -> Answer:
    answers = []
    for path in told.paths:
        if (found := find_repository(around.folder, path)) is None:
            continue
        answer = _check(*found, told, around)
        if answer.refusal:
            return answer
        answers.append(answer)
    return next(filter(any, answers), NOTHING)


def _check(repository: Repository, file: Named, told: Told, around: Surroundings) -> Answer:
    store = around.store(repository.root)
    with opened(store, around.moment) as reader:
        holds = reader.holds(lockname.name_of(reader.at_home(repository).project_id, file.path))
        agents = asking.find_agents(reader, around, told.session)
        others = [hold for hold in holds if hold.agent_id not in agents]
        if others and agents:
            return Answer(refusal=refusal(file, others))
        if others:
            return Answer(warning=_unknown(file, others[0], told.session))
        takes = (
            len(agents) == 1
            and file.lockable
            and not any(_covers(hold, file) for hold in holds)
            and reader.setting(AUTO_LOCK, False) is True
        )
    if takes:
        from callboard.guards import acting

        (agent_id,) = agents
        return acting.take_lock(store, repository.worktree, agent_id, file.path)
    return NOTHING


def _covers(hold: Hold, file: Named) -> bool:
    return hold.mode == "exclusive" and globs.covers(hold.path, file.path)


def refusal(file: Named, others: list[Hold]) -> str:
    """Why a file may not be changed now, and what to do instead."""
    hold = max(others, key=lambda hold: hold.seconds_left)
    advice = (
        f"wait with acquire_file_lock and wait_seconds, message {hold.agent_id}, or do something else first"
    )
    return f"{describe(file, hold)}. To change it, {advice}."


def describe(file: Named, hold: Hold) -> str:
    """Who holds a file, under which lease, for how long."""
    left = f"{hold.seconds_left} s left"
    if hold.mode == "rest":
        return f"{file.path} rests after {hold.agent_id} lost its lock ({left})"
    # The words of another agent's pattern are data. No lease is on a name with invisible characters.
    pattern = json.dumps(hold.path, ensure_ascii=False)
    through = "" if hold.path == file.path else f" by its lock on {pattern}"
    return f"{hold.agent_id} holds {file.path}{through} ({hold.mode}, fence {hold.fence}, {left})"


def _unknown(file: Named, hold: Hold, session: str | None) -> str:
    how = f"register_agent with session_id {json.dumps(session)}" if session else "CALLBOARD_AGENT"
    return (
        f"{describe(file, hold)}. If that is not you, leave the file alone. callboard could not tell which "
        f"agent is editing; {how} would tell it."
    )


def _after_edit(told: Told, around: Surroundings) -> Answer:
    changed: dict[Repository, list[str]] = {}
    for path in told.paths:
        found = find_repository(around.folder, path)
        if found is not None and found[1].lockable and not found[0].is_folder(found[1].path):
            changed.setdefault(found[0], []).append(found[1].path)
    for repository, paths in changed.items():
        store = around.store(repository.root)
        with opened(store, around.moment) as reader:
            agents = asking.find_agents(reader, around, told.session)
        if len(agents) == 1:
            (agent_id,) = agents
            _record_detached(store, repository.worktree, agent_id, paths)
    return NOTHING


def _record_detached(store: Path, folder: Path, agent_id: str, paths: list[str]) -> None:
    """Have the touch recorded by a process that the client does not wait for: it takes the whole board, which
    would slow each edit, and who knows which file can wait. Whether it succeeds nobody is told."""
    sys.stdout.flush()
    if os.fork():
        return
    try:
        os.setsid()
        silent = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(silent, descriptor)
        os.chdir(folder)
        record = ["call", "record_file_touch", f"file_paths={json.dumps(paths)}", "action=edit"]
        whose = ["--agent", agent_id, "--db", str(store)]
        os.execv(sys.executable, [sys.executable, "-P", "-m", "callboard", *record, *whose])
    finally:
        os._exit(1)


def _at_start(told: Told, around: Surroundings) -> Answer:
    repository, store = _store_of(around)
    with opened(store, around.moment) as reader:
        agents = asking.find_agents(reader, around, told.session)
    if len(agents) == 1:
        from callboard.guards import acting

        (agent_id,) = agents
        return Answer(context=acting.briefing(store, repository.worktree, agent_id, told.source))
    return Answer(context=_introduction(told.session, agents))


def _introduction(session: str | None, agents: frozenset[str]) -> str:
    """What an agent hears that is not known yet, or shares its client with others."""
    own = f" with session_id {json.dumps(session)}" if session else ""
    if agents:
        return (
            f"callboard: {' and '.join(sorted(agents))} work through this client. "
            "Call get_briefing with your agent_id to see where you stand."
        )
    return (
        "callboard coordinates the agents that work in this repository. Before you change a file, call "
        f"register_agent{own}, then get_briefing; take a lock on what you change."
    )


def _digest(told: Told, around: Surroundings) -> Answer:
    repository, store = _store_of(around)
    with opened(store, around.moment) as reader:
        agents = sorted(asking.find_agents(reader, around, told.session))
        waiting = [agent_id for agent_id in agents if reader.has_untold(agent_id)]
    if not waiting:
        return NOTHING
    from callboard.guards import acting

    return Answer(context=acting.digest(store, repository.worktree, waiting))


def _store_of(around: Surroundings) -> tuple[Repository, Path]:
    try:
        repository = Repository.find(around.folder)
    except ValueError as error:
        raise NoAnswer(str(error)) from error
    return repository, around.store(repository.root)
