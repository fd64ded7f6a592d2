"""One call from start to finish: look up, validate, identify, transact, answer.

Every face (MCP, the command line) calls `Dispatch.call` and gets the answer as a plain object, or a
refusal. Whatever else goes wrong is logged here, once, and becomes `internal_error` with a reference.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from pydantic import BaseModel

from callboard import frames, globs, identity, replay, text
from callboard.arguments import validated
from callboard.clock import Clock, Ids
from callboard.domains import chat, history, locks, messages, projects, roster, tasks
from callboard.errors import (
    AgentTerminated,
    InternalError,
    InvalidArguments,
    InvalidPath,
    NotFound,
    Refused,
)
from callboard.events import Event
from callboard.feed import ANYTHING, Feed, Listener
from callboard.identity import Caller, Claim
from callboard.params import Folder, RepoPath
from callboard.repository import Repository
from callboard.store import Command, Store, Tx
from callboard.tally import UNKNOWN_TOOL
from callboard.tool import Arguments, NotYet, Tool

AnyTool = Tool[..., Any]
Progress = Callable[[float], Awaitable[None]]

RENEWAL_THROTTLE_MS = 1_000
"""An agent's leases are renewed by its calls at most this often; each renewal reaches that much
further, so a lease never ends sooner than its length after the agent's last call."""

OWN_TOPICS = frozenset({"inbox"})
"""Topics whose subject is an agent: who waits on one hears only what concerns itself."""

REMEMBERED_CALLERS = 10_000
"""Of how many callers the time of their last renewal is remembered; forgetting costs one renewal."""

PROGRESS_MS = 10_000
"""How often a waiting call reports that it is still waiting."""

OUTBOX = Command("""
    INSERT INTO _events (source, topic, kind, subject, agent_id, project_id, lead_id, created_boot_ms)
    VALUES (:source, :topic, :kind, :subject, :agent_id, :project_id, :lead_id, :now)
""")

log = logging.getLogger(__name__)


class _Outcome(NamedTuple):
    """What an attempt came to: a result, a refusal that keeps what it wrote, or "not yet"."""

    answer: Any
    data: dict[str, Any] | None = None
    unread: int = 0
    replayed: bool = False
    to_follow: tuple[Callable[[Tx], None], ...] = ()


class Dispatch:
    """The way of a call through one process."""

    def __init__(
        self,
        *,
        store: Store,
        feed: Feed,
        clock: Clock,
        ids: Ids,
        tools: Mapping[str, AnyTool],
        repository: Repository,
        process_id: str,
    ) -> None:
        self.tools = tools
        self.repository = repository
        self._store = store
        self._feed = feed
        self._clock = clock
        self._ids = ids
        self._process_id = process_id
        self._renewed_ms: dict[str, int] = {}
        self._project_of: dict[str, str] = {}
        self._repositories = {repository.project_id: repository}

    def stands_in(self, repository: Repository) -> None:
        """The repository around the process, under the id of the project that works in it."""
        self.repository = repository
        self._repositories = {repository.project_id: repository}

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        claim: Claim,
        progress: Progress | None = None,
        *,
        sign_of_life: bool = True,
    ) -> dict[str, Any]:
        """Carry out one call; its result as a plain object. A call that the server makes by itself on an
        agent's behalf is no sign of life of that agent.

        Raises `Refused`: the operation's own refusals, the store's, or InternalError.
        """
        tool = name if name in self.tools else UNKNOWN_TOOL
        started = time.perf_counter()
        outcome = "cancelled"
        try:
            answer = await self._call(name, arguments, claim, progress, sign_of_life)
            outcome = "ok"
            return answer
        except Refused as refusal:
            outcome = refusal.code
            if refusal.__cause__ is not None:
                log.warning("%s was refused with %s", name[:64], refusal.code, exc_info=refusal)
            _neutralise(refusal)
            raise
        except Exception as error:
            outcome = InternalError.code
            reference = self._ids(4)
            log.exception("%s failed, reference %s", name[:64], reference)
            raise InternalError(ref=reference) from error
        finally:
            self._store.tally.called(tool, outcome, time.perf_counter() - started)

    async def _call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        claim: Claim,
        progress: Progress | None,
        sign_of_life: bool,
    ) -> dict[str, Any]:
        tool = self.tools.get(name)
        if tool is None:
            near = text.nearest(name, self.tools)
            raise NotFound(
                f"There is no tool {text.neutralise(name[:64])[0]}.",
                hint=f"Did you mean {near[0]}?" if near else "List the tools.",
                kind="tool",
                near=near,
            )
        if sign_of_life:
            named = arguments.get("agent_id")
            self._beat(claim._replace(argument=named) if isinstance(named, str) else claim)
        given = validated(tool, arguments)
        claim = claim._replace(argument=given.agent_id)
        request_key = getattr(given, "request_key", None)
        values = await self._with_named_paths(tool, claim, given)
        call = _Call(
            tool=tool,
            claim=claim,
            values=values | {"request_key": request_key} if tool.keyed else values,
            request_key=request_key,
            digests={} if request_key is None else replay.digests(given.given()),
            project_id=self.repository.project_id,
        )
        if tool.searches is not None and values[tool.searches]:
            await self._index()
        seconds = getattr(given, "wait_seconds", 0)
        if tool.waits_on is None:
            outcome = await self._attempt(call)
        elif seconds:
            outcome = await self._waited(call, tool.waits_on, seconds, progress)
        else:  # nothing that it would have to listen for
            outcome = await self._attempt(call, gives_up_after=0)
        if isinstance(outcome.answer, Refused):
            raise outcome.answer
        return _finished(tool, outcome)

    # The agent is there: whatever it calls, and whatever comes of it, renews its leases.

    def _beat(self, claim: Claim) -> None:
        if (named := claim.named()) is None:
            return
        agent_id, now = named[0], self._clock.boot_ms()
        if now - self._renewed_ms.get(agent_id, -RENEWAL_THROTTLE_MS) < RENEWAL_THROTTLE_MS:
            return
        if len(self._renewed_ms) >= REMEMBERED_CALLERS:
            self._renewed_ms.clear()
        self._renewed_ms[agent_id] = now

        def seen(tx: Tx) -> None:
            if identity.is_valid(tx, claim.token) and roster.seen(tx, agent_id, through_pipe=claim.stdio):
                locks.renew_leases(tx, agent_id, slack_ms=RENEWAL_THROTTLE_MS)
                tasks.renew_claims(tx, agent_id, slack_ms=RENEWAL_THROTTLE_MS)

        self._store.post(seen)

    # Paths: every spelling of a file has one name, found before the transaction begins, as it asks
    # the file system about links.

    async def _with_named_paths(self, tool: AnyTool, claim: Claim, given: Arguments) -> dict[str, Any]:
        values = given.given()
        if not any(values[name] is not None for name in tool.paths):
            return values
        repository = await self._repository_of(claim)
        for name in tool.paths:
            values[name] = _with_named_paths(repository, name, values[name])
        return values

    async def _repository_of(self, claim: Claim) -> Repository:
        named = claim.named()
        agent_id = named[0] if named else ""
        project_id = self._project_of.get(agent_id)
        if project_id is None:
            found = await self._store.read(lambda tx: roster.project_of(tx, agent_id))
            if found is None:
                return self.repository
            self._project_of[agent_id] = project_id = found
        if project_id not in self._repositories:
            folder = await self._store.read(lambda tx: projects.folder_of(tx, project_id))
            self._repositories[project_id] = await anyio.to_thread.run_sync(
                _repository_at, folder, project_id
            )
        return self._repositories[project_id]

    async def _index(self) -> None:
        """Let a search find what the ledger was told up to now. Where the store cannot be written, reading
        goes on, with what is indexed."""
        try:
            while await self._store.read(history.is_unindexed):
                await self._store.write(history.index)
        except Refused as refusal:
            log.warning("the newest entries are not searched (%s)", refusal.code)

    # One attempt, in one transaction.

    async def _attempt(self, call: "_Call", gives_up_after: int | None = None) -> _Outcome:
        run = self._store.write if call.writes else self._store.read
        outcome = await run(lambda tx: self._operation(tx, call, gives_up_after))
        for operation in outcome.to_follow:
            self._store.post(operation)
        return outcome

    def _operation(self, tx: Tx, call: "_Call", gives_up_after: int | None) -> _Outcome:
        tool = call.tool
        named = call.claim.named()
        if call.request_key is not None and named is None and not call.claim.stdio:
            raise InvalidArguments(
                "request_key needs agent_id with it: without one, two callers are not told apart.",
                hint="Pass the agent_id that you want, or leave request_key out.",
                fields=[{"field": "request_key", "rule": "needs agent_id with it"}],
            )
        principal = named[0] if named else f"process:{self._process_id}"
        try:
            caller = call.caller(tx)
        except AgentTerminated:
            # Its own end may be the call whose answer was lost.
            if (outcome := _replayed(tx, call, principal)) is None:
                raise
            return outcome
        if (outcome := _replayed(tx, call, principal)) is not None:
            return outcome
        answer = tool.function(tx, caller, **call.values)
        if isinstance(answer, NotYet) and gives_up_after is not None:
            answer = answer.give_up(tx, gives_up_after)
        data = None
        if not isinstance(answer, NotYet | Refused):
            data = tool.dump(answer)
            if call.request_key is not None:
                replay.remember(tx, principal, tool.name, call.request_key, call.digests, data)
        settle(tx, caller)
        unread = messages.unread(tx, caller.agent_id)
        return _Outcome(answer, data, unread, to_follow=tuple(tx.to_follow))

    # Waiting: attempts with sleep between them. Each attempt is short and is never cut off, so that what
    # it kept is known and can be taken back.

    async def _waited(self, call: "_Call", topic: str, seconds: int, progress: Progress | None) -> _Outcome:
        started = self._clock.boot_ms()
        deadline = started + seconds * 1000
        told = started
        began: float | None = None
        named = call.claim.named() if topic in OWN_TOPICS else None
        with self._feed.listen(topic, named[0] if named else ANYTHING) as news:
            while True:
                news.clear()
                late = self._clock.boot_ms() >= deadline
                with anyio.CancelScope(shield=True):
                    outcome = await self._attempt(call, self._clock.boot_ms() - started if late else None)
                if not isinstance(outcome.answer, NotYet):
                    if began is not None:
                        self._store.tally.waited(topic, time.perf_counter() - began)
                    return outcome
                began = began or time.perf_counter()
                try:
                    await self._sleep(news, outcome.answer, deadline)
                    now = self._clock.boot_ms()
                    if progress is not None and now - told >= PROGRESS_MS:
                        told = now
                        await progress((now - started) / 1000)
                except anyio.get_cancelled_exc_class():
                    with anyio.CancelScope(shield=True):
                        await self._take_back(call, outcome.answer, self._clock.boot_ms() - started)
                    raise

    async def _sleep(self, news: Listener, answer: NotYet, deadline: int) -> None:
        """Sleep until it is worth trying again."""
        again = min(answer.again_boot_ms, deadline)
        while True:
            await news.wait(again)
            if self._clock.boot_ms() >= again:
                return
            news.clear()
            if await self._store.read(answer.ready):
                return

    async def _take_back(self, call: "_Call", answer: NotYet, waited_ms: int) -> None:
        if not call.tool.writes:
            return

        def ended(tx: Tx) -> None:
            caller = call.caller(tx)
            answer.give_up(tx, waited_ms)
            settle(tx, caller)

        try:
            await self._store.write(ended)
        except Refused as refusal:
            log.warning("a cancelled wait was not taken back (%s); its own lease ends it", refusal.code)


class _Call(NamedTuple):
    """One call, ready for its transaction."""

    tool: AnyTool
    claim: Claim
    values: dict[str, Any]
    request_key: str | None
    digests: dict[str, str]
    project_id: str

    @property
    def writes(self) -> bool:
        """Whether the call may write: a tool that reads does, where a human's reading is kept."""
        return self.tool.writes or (self.tool.audited and self.claim.scope == "human")

    def caller(self, tx: Tx) -> Caller:
        """Who calls, as of this transaction. Raises what `identify` and `authorize` raise."""
        find = identity.expected if self.tool.who == "anyone" else identity.identify
        caller = find(tx, self.claim, project_id=self.project_id)
        identity.authorize(caller, operation=self.tool.name, who=self.tool.who, writes=self.tool.writes)
        return caller


def _replayed(tx: Tx, call: _Call, principal: str) -> _Outcome | None:
    """The outcome of the first call with this request key. Raises RequestKeyReused."""
    if call.request_key is None:
        return None
    stored = replay.recall(tx, principal, call.tool.name, call.request_key, call.digests)
    return None if stored is None else _Outcome(None, stored, messages.unread(tx, principal), replayed=True)


def settle(tx: Tx, caller: Caller) -> None:
    """Write what the operation told: the inboxes, the ledger and the outbox, in its own transaction."""
    chat.follow(tx)
    messages.deliver(tx, caller)
    for place, told in enumerate(tx.events):
        if isinstance(told, Event):
            history.record(tx, caller, told)
        # As it is told in this process too: a fact says itself who did it and where.
        if not (told.agent_id and told.project_id):
            told = tx.events[place] = told._replace(
                agent_id=told.agent_id or caller.agent_id,
                project_id=told.project_id or caller.project_id,
            )
        tx.run(
            OUTBOX,
            source=tx.process_id,
            topic=told.topic,
            kind=told.kind,
            subject=told.subject,
            agent_id=told.agent_id,
            project_id=told.project_id,
            lead_id=told.lead_id,
            now=tx.now,
        )


def _repository_at(folder: Path | None, project_id: str) -> Repository:
    """The repository of a project; where its folder is gone, paths are named by their text alone."""
    folder = folder or Path("/nowhere")
    try:
        return Repository.find(folder)
    except ValueError:
        return Repository(folder, folder, folder.name, folds_case=False, known_as=project_id)


def _with_named_paths(repository: Repository, argument: str, value: Any) -> Any:
    """An argument with every path in it under its canonical name, however deep it lies."""
    if isinstance(value, RepoPath):
        return _named_path(repository, argument, value)
    if isinstance(value, Folder):
        return _found_folder(argument, value)
    if isinstance(value, list):
        return [_with_named_paths(repository, argument, item) for item in value]
    if isinstance(value, dict):
        return {key: _with_named_paths(repository, f"{argument}.{key}", item) for key, item in value.items()}
    if isinstance(value, BaseModel):
        named = {name: _with_named_paths(repository, f"{argument}.{name}", item) for name, item in value}
        return value.model_copy(update=named)
    return value


def _named_path(repository: Repository, argument: str, spelling: str) -> RepoPath:
    try:
        if text.neutralise(spelling)[1]:
            raise globs.InvalidPattern("It holds invisible characters.")
        path = RepoPath(repository.spell(spelling))
    except globs.InvalidPattern as invalid:
        raise InvalidPath(
            f"{argument} cannot be used: {invalid.rule}.",
            file_path=text.neutralise(spelling[:200])[0],
            rule=invalid.rule,
        ) from None
    path.is_file = (
        globs.is_literal(path) and not spelling.endswith(("/", "\\")) and not repository.is_folder(path)
    )
    return path


def _found_folder(argument: str, spelling: str) -> Folder:
    """The repository around a folder. Raises InvalidPath."""
    if not Path(spelling).is_absolute():
        raise InvalidPath(f"{argument} must be an absolute path.", rule="an absolute path")
    try:
        repository = Repository.find(Path(spelling))
    except ValueError as error:
        raise InvalidPath(f"{argument} cannot be used: {error}", rule="a folder that is there") from None
    folder = Folder(repository.root)
    folder.project_id = repository.project_id
    return folder


def _finished(tool: AnyTool, outcome: _Outcome) -> dict[str, Any]:
    """The result as it leaves: neutral and not too large, with the facts that accompany any result."""
    data = outcome.data or {}
    told = frames.compact(data)
    removed: dict[str, int] = {}
    if text.is_suspect_json(told):  # else nothing in it can be, and most answers are short and plain
        data = _neutral(data, removed)
    if outcome.replayed:
        data["replayed"] = True
    if outcome.unread:
        data.setdefault("unread", outcome.unread)
    if removed:
        data["sanitized"] = removed
    return data if len(told) <= frames.SURELY_SHORT else frames.bounded(data)


def _neutralise(refusal: Refused) -> None:
    """Make a refusal's text neutral, like that of a result: it quotes other agents too."""
    removed: dict[str, int] = {}
    refusal.message = _neutral(refusal.message, removed)
    refusal.hint = _neutral(refusal.hint, removed)
    refusal.details = _neutral(refusal.details, removed)
    if removed:
        refusal.details["sanitized"] = removed


def _neutral(value: Any, removed: dict[str, int]) -> Any:
    if isinstance(value, str):
        clean, found = text.neutralise(value)
        for kind, count in found.items():
            removed[kind] = removed.get(kind, 0) + count
        return clean
    if isinstance(value, dict):
        return {_neutral(key, removed): _neutral(item, removed) for key, item in value.items()}
    if isinstance(value, list):
        return [_neutral(item, removed) for item in value]
    return value
