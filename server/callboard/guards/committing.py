"""`callboard guard check`: whether a commit or a push may go ahead.

A commit is refused while another agent holds a file that it changes, both ends of a rename included, and when
the one who commits lost its lease on such a file to another agent and never took it again: what it wrote may
undo what was written since. A push is refused while another agent holds a file that one of its commits has
changed since the lease was granted: such a commit went past the guard.

Who commits is found as for the hooks (`asking`). Who is not found is a person, or a client that callboard
does not know; for them every lease is another's. They may insist, with `--no-verify` or
`CALLBOARD_GUARD=off`.
"""

from collections.abc import Callable, Iterable
from typing import TextIO

from callboard import globs, lockname
from callboard.guards import asking, git
from callboard.guards.asking import Surroundings
from callboard.guards.hook import describe
from callboard.guards.naming import Named, named
from callboard.guards.reader import NoAnswer, Reader, opened
from callboard.repository import Repository

REFUSED = 3
"""The exit code of a refusal. Another one says that the guard itself failed, which must not stop the work."""

MOST_SHOWN = 20
"""Findings that one refusal names; the others are counted."""


class Commit:
    """What is asked about one commit or push."""

    def __init__(self, reader: Reader, repository: Repository, agents: frozenset[str]) -> None:
        self.reader = reader
        self.repository = repository
        self.agents = agents

    def before_commit(self, paths: Iterable[str]) -> list[str]:
        """What stands against a commit that changes these files, a line each."""
        files = self._named(paths)
        found = []
        for file in files:
            holds = self.reader.holds(self._name(file))
            others = [hold for hold in holds if hold.agent_id not in self.agents]
            if others:
                found.append(describe(file, max(others, key=lambda hold: hold.seconds_left)))
        return found + self._lost(files)

    def before_push(self, changes: Callable[[int], Iterable[git.Change]]) -> list[str]:
        """What stands against a push, a line each. `changes` gives what it changed since a moment."""
        held = [
            hold
            for hold in self.reader.held_in(self.repository.project_id)
            if hold.agent_id not in self.agents
        ]
        if not held:
            return []
        found: dict[str, None] = {}
        for change in changes(min(hold.taken for hold in held)):
            for file in self._named([change.path]):
                for hold in held:
                    if change.committed > hold.taken and globs.overlaps(hold.path, file.path):
                        found[describe(file, hold)] = None
        return list(found)

    def _named(self, paths: Iterable[str]) -> list[Named]:
        found = (named(self.repository, path) for path in paths)
        return [file for file in found if file is not None]

    def _name(self, file: Named) -> str:
        return lockname.name_of(self.repository.project_id, file.path)

    def _lost(self, files: list[Named]) -> list[str]:
        if len(self.agents) != 1:
            return []
        (agent_id,) = self.agents
        lost = self.reader.losses(agent_id, self.repository.project_id, [*map(self._name, files)])
        return [
            f"{lockname.shown(name)}: {agent_id} lost its lock (fence {loss.fence}) at {loss.ended_at}, and "
            f"{loss.since} was granted it since (fence {loss.newer_fence}); take it again, look at what has "
            "changed, then commit"
            for name, loss in lost
        ]


def run(event: str, arguments: list[str], around: Surroundings, told: TextIO, err: TextIO) -> int:
    """Check what git is about to do, told as git tells its hook of that name; the exit code."""
    if around.is_off:
        return 0
    if event not in ("pre-commit", "pre-push"):
        print(f"callboard guard: there is no guard for {event}, only for pre-commit and pre-push", file=err)
        return 0
    try:
        top = git.top_of(around.folder)
        repository = Repository.find(top)
        with opened(around.store(repository.root), around.moment) as reader:
            agents = asking.find_agents(reader, around)
            commit = Commit(reader, reader.at_home(repository), agents)
            if event == "pre-commit":
                found = commit.before_commit(git.staged(top))
            else:
                remote = arguments[0] if arguments else "origin"
                refs = list(told)
                found = commit.before_push(lambda since: git.pushed(top, remote, refs, since))
    except (NoAnswer, git.GitFailed, ValueError) as reason:
        print(f"callboard guard: {reason}; nothing was checked", file=err)
        return 0
    if not found:
        return 0
    print(_refusal(event.removeprefix("pre-"), found, agents), file=err)
    return REFUSED


def _refusal(what: str, found: list[str], agents: frozenset[str]) -> str:
    shown = [f"  {line}" for line in found[:MOST_SHOWN]]
    if len(found) > MOST_SHOWN:
        shown.append(f"  and {len(found) - MOST_SHOWN} more")
    if agents:
        advice = "Wait for the holder or message it, or leave these files out."
    else:
        advice = (
            "If you are an agent, set CALLBOARD_AGENT to your id. If you are a person and sure: "
            f"git {what} --no-verify, or CALLBOARD_GUARD=off."
        )
    return "\n".join([f"callboard refuses this {what}:", *shown, advice])
