"""The board: one open store with everything that a process needs to serve it."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio
from apsw import apsw_version, sqlite_lib_version

from callboard import (
    __version__,
    checkup,
    identity,
    process,
    storefile,
)
from callboard.about import Durability, Serving
from callboard.catalog import select
from callboard.clock import Clock, HostClock, Ids, random_ids
from callboard.dispatch import Dispatch, Progress, settle
from callboard.domains import projects, roster
from callboard.duties import STORE_SYSTEM, Duties
from callboard.errors import Refused
from callboard.events import Event
from callboard.feed import Feed
from callboard.identity import Caller, Claim, Principal, Scope
from callboard.params import AGENT_ID
from callboard.repository import Repository
from callboard.signing import Signer
from callboard.store import Store, Tx
from callboard.text import fold_name
from callboard.tool import Tool

if TYPE_CHECKING:
    from callboard.retention import Pruned

T = TypeVar("T")

Transport = Literal["stdio", "http", "cli"]

LAST_WORDS_SECONDS = 0.3
"""How long an ending process tries to record its end."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Config:
    """What a process is told at its start."""

    db: Path | None = None
    """The store's file; by default `.callboard/board.db` in the repository's main worktree."""
    folder: Path = field(default_factory=Path.cwd)
    """Where the process runs; its repository is the one around this folder."""
    transport: Transport = "stdio"
    agent: str | None = None
    """The agent that this process is bound to."""
    token: str | None = None
    """The token of whom this process acts for."""
    durability: Durability = "full"
    toolsets: tuple[str, ...] = ("all",)
    read_only: bool = False
    allow_network: bool = False
    renew: bool = True
    """Whether the leases of connected agents are renewed in the background."""


class Board:
    """One store, open in one process."""

    def __init__(
        self,
        config: Config,
        *,
        repository: Repository,
        store: Store,
        feed: Feed,
        clock: Clock,
        tools: Mapping[str, Tool[..., Any]],
        dispatch: Dispatch,
        process_id: str,
    ) -> None:
        self.config = config
        self.repository = repository
        self.store = store
        self.feed = feed
        self.clock = clock
        self.tools = tools
        self.principal: Principal | None = None
        """Whom the process's own token stands for."""
        self.duties = Duties(store, feed, clock, process_id)
        self._dispatch = dispatch
        self._process_id = process_id

    def stands_in(self, repository: Repository) -> None:
        """The repository around the process, under the id of the project that works in it."""
        self.repository = repository
        self._dispatch.stands_in(repository)

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        token: Principal | None = None,
        person: str | None = None,
        signer: Signer | None = None,
        crew: str | None = None,
        progress: Progress | None = None,
        sign_of_life: bool = True,
    ) -> dict[str, Any]:
        """Carry out one call. `token` is whom the caller has authenticated as, if it has; `person` who has
        typed a confirmation at the terminal of this command, and `signer` the key that they have unlocked
        there; `crew` the one that a person or the operator has in mind; without `sign_of_life` it is the
        server that calls, by itself.

        Raises `Refused`, and ValueError for a person in a process that serves agents.
        """
        if (person or signer) is not None and self.config.transport != "cli":
            raise ValueError("Only a command has a person at its terminal.")
        claim = self._claim(token)._replace(person=person, signer=signer, crew=crew)
        return await self._dispatch.call(name, arguments, claim, progress, sign_of_life=sign_of_life)

    def named(self, token: Principal | None = None) -> str | None:
        """Who calls, by its token or by the binding of this process; None where only an argument tells."""
        named = self._claim(token).named()
        return named[0] if named else None

    async def caller(self, token: Principal | None = None, agent_id: str | None = None) -> Caller:
        """Who calls, as the roster knows it now. Raises what `identity.identify` raises."""
        claim = self._claim(token)._replace(argument=agent_id)
        return await self.store.read(
            lambda tx: identity.identify(tx, claim, project_id=self.repository.project_id)
        )

    async def agents_here(self) -> list[str]:
        """The agents that have come through the pipe of this process and are still there."""
        return await self.store.read(lambda tx: roster.agents_of(tx, self._process_id))

    async def authenticate(self, token: str) -> Principal:
        """Whom a token stands for. Raises Unauthenticated."""
        return await self.store.read(
            lambda tx: identity.authenticate(tx, token, store_id=self.store.info.store_id)
        )

    async def issue_token(
        self,
        *,
        kind: Literal["agent", "human"],
        name: str,
        scope: Scope,
        lifetime: timedelta | None = None,
    ) -> str:
        """A new token, to be shown once."""

        def issued(tx: Tx) -> str:
            token = identity.issue_token(
                tx,
                kind=kind,
                name=name,
                scope=scope,
                store_id=self.store.info.store_id,
                expires_unix_ms=identity.unix_ms(tx.wall + lifetime) if lifetime else None,
            )
            key_id = token.split(".")[2]
            tx.tell(Event("roster", "token_created", f"made token {key_id} for {name}", subject=key_id))
            settle(tx, self._operator)
            return token

        return await self.store.write(issued)

    async def revoke_token(self, key_id: str) -> bool:
        """End a token at once. False when it had been revoked before. Raises NotFound."""

        def revoked(tx: Tx) -> bool:
            ended = identity.revoke_token(tx, key_id)
            if ended:
                tx.tell(Event("roster", "token_revoked", f"revoked token {key_id}", subject=key_id))
                settle(tx, self._operator)
            return ended

        return await self.store.write(revoked)

    async def rotate_token(self, key_id: str) -> str:
        """A new token for a valid one, which ends at once; a person's by a person only. Raises NotFound,
        Unauthenticated, HumanRequired."""

        def rotated(tx: Tx) -> str:
            store_id = self.store.info.store_id
            token = identity.rotate_token(tx, key_id, store_id=store_id, by=self.principal)
            told = f"rotated token {key_id}, now {token.split('.')[2]}"
            tx.tell(Event("roster", "token_rotated", told, subject=key_id))
            settle(tx, self._operator)
            return token

        return await self.store.write(rotated)

    async def visible_tools(self, token: Principal | None = None) -> list[Tool[..., Any]]:
        """The tools that a principal may call, in the catalogue's order. Whom nothing but arguments
        identify sees everything that is not a human's alone."""
        claim = self._claim(token)
        if claim.token is None and claim.binding is None:
            return [tool for tool in self.tools.values() if tool.who != "human"]
        caller = await self.store.read(
            lambda tx: identity.expected(tx, claim, project_id=self.repository.project_id)
        )
        kinds = identity.kinds_to_come(caller)
        return [
            tool
            for tool in self.tools.values()
            if any(identity.may(kind, who=tool.who, writes=tool.writes) for kind in kinds)
        ]

    async def sweep(self) -> None:
        """End what is over."""
        await self.duties.sweep()

    async def set_lock_delay(self, seconds: float) -> None:
        """How long a path rests after a lease on it was lost, for every process of the store."""

        def changed(tx: Tx) -> None:
            projects.change_setting(tx, "locks.delay_seconds", seconds)
            settle(tx, self._operator)

        await self.store.write(changed)

    async def by_person(
        self, operation: str, work: Callable[[Tx, Caller], T], *, person: str | None = None
    ) -> T:
        """Write what only a person may: the one whose token this process has, or who has typed a
        confirmation at its terminal. Raises HumanRequired, and what the work raises."""
        claim = self._claim(None)._replace(person=person)

        def done(tx: Tx) -> T:
            caller = identity.identify(tx, claim, project_id=self.repository.project_id)
            identity.authorize(caller, operation=operation, who="human", writes=True)
            result = work(tx, caller)
            settle(tx, caller)
            return result

        return await self.store.write(done)

    async def remove_project(self, project_id: str, *, person: str | None = None) -> dict[str, int]:
        """Delete an archived project with everything under it; how many rows of each table went. Raises
        HumanRequired, and what `removal.remove_project` raises."""
        from callboard import removal  # only a person's command needs it, and `prune` its own

        return await self.by_person(
            "remove_project", lambda tx, _: removal.remove_project(tx, project_id), person=person
        )

    async def prune(self, days: int | None = None, *, person: str | None = None) -> "Pruned":
        """Delete what is over, for a person as in `by_person`. `days` shortens every longer limit.

        Raises HumanRequired, and what `retention.prune` raises.
        """
        from callboard import retention

        claim = self._claim(None)._replace(person=person)

        def allowed(tx: Tx) -> Caller:
            caller = identity.identify(tx, claim, project_id=self.repository.project_id)
            identity.authorize(caller, operation="prune", who="human", writes=True)
            return caller

        return await retention.prune(self.store, await self.store.read(allowed), days)

    async def health(self) -> dict[str, object]:
        """Whether the store can be used, as of now; never from memory."""
        facts: dict[str, object] = {"ok": True, "version": __version__, "sqlite": sqlite_lib_version()}
        facts |= {"apsw": apsw_version(), "durability": self.config.durability}
        try:
            await self.duties.look_again()
            facts |= await self.store.health()
            facts |= await checkup.last(self.store)
        except Refused as refusal:
            return facts | {"ok": False, "error": refusal.as_data()}
        return facts | {"ok": not facts.get("integrity_broken")}

    @property
    def _operator(self) -> Caller:
        """Who acts at the command line."""
        project_id = self.repository.project_id
        return Caller(identity.OPERATOR, "operator", project_id, project_id, "human", None)

    def _claim(self, token: Principal | None) -> Claim:
        transport = self.config.transport
        return Claim(
            token=token or self.principal,
            binding=self.config.agent,
            stdio=transport == "stdio",
            operator=transport == "cli",
        )

    async def keep(self) -> None:
        """Do what must be done though nobody calls, for as long as this runs."""
        renews = self.config.transport == "stdio" and self.config.renew
        await self.duties.keep(self.principal, renews=renews)


@asynccontextmanager
async def open_board(
    config: Config, *, clock: Clock | None = None, ids: Ids = random_ids
) -> AsyncIterator[Board]:
    """Open the store, making it if need be, until the block ends. Who serves it also runs its duties,
    `Board.keep`.

    Raises `storefile.Unusable` and ValueError, in sentences for the person at the terminal, and
    `Unauthenticated` for a token that is not valid.
    """
    clock = clock or HostClock()
    _check_binding(config.agent)
    tools = select(config.toolsets, read_only=config.read_only)
    repository = Repository.find(config.folder)
    info = storefile.prepare(
        config.db or repository.store,
        boot_id=clock.boot_id,
        boot_ms=clock.boot_ms(),
        now=clock.now(),
        new_store_id=lambda: ids(16),
        allow_network=config.allow_network,
    )
    process_id = ids(8)
    store = Store(info, clock=clock, ids=ids, process_id=process_id, durability=config.durability)
    store.serving = Serving(
        transport=config.transport,
        toolsets=config.toolsets,
        read_only=config.read_only,
        other_stores=_other_stores(repository, info.path),
    )
    feed = Feed(store, clock, process_id)
    dispatch = Dispatch(
        store=store,
        feed=feed,
        clock=clock,
        ids=ids,
        tools=tools,
        repository=repository,
        process_id=process_id,
    )
    board = Board(
        config,
        repository=repository,
        store=store,
        feed=feed,
        clock=clock,
        tools=tools,
        dispatch=dispatch,
        process_id=process_id,
    )
    own = process.ProcessName.own()

    def started(tx: Tx) -> str:
        roster.restore_built_in(tx)
        project_id = projects.ensure_project(
            tx, project_id=repository.project_id, name=repository.name, root=repository.root
        )
        roster.process_started(
            tx,
            pid=own.pid,
            start_ticks=own.start_ticks,
            pid_namespace=own.namespace,
            transport=config.transport,
        )
        if config.agent is not None and config.transport == "stdio":
            roster.seen(tx, config.agent, through_pipe=True)
        settle(tx, STORE_SYSTEM)
        return project_id

    try:
        board.stands_in(repository._replace(known_as=await store.write(started)))
        if config.token is not None:
            board.principal = await board.authenticate(config.token)
            _check_principal(config, board.principal)
        yield board
    finally:
        # Others find out that the process is gone if this cannot be written at once.
        with anyio.move_on_after(LAST_WORDS_SECONDS, shield=True):
            try:
                await store.write(lambda tx: roster.process_ended(tx, process_id))
            except Refused as refusal:
                log.warning("the end of this process was not recorded: %s", refusal.message)
        with anyio.CancelScope(shield=True):
            store.stop_taking()
            feed.close()
            await anyio.to_thread.run_sync(store.close)


def _other_stores(repository: Repository, path: Path) -> tuple[str, ...]:
    """The stores of this repository, besides the one at `path`, that stand where a server looks first."""
    places = [folder / ".callboard" / "board.db" for folder in repository.worktrees()]
    return tuple(str(place) for place in places if place.is_file() and not place.samefile(path))


def _check_binding(agent_id: str | None) -> None:
    """A process is bound to an id that an agent can have. Raises ValueError."""
    if agent_id is None:
        return
    if not AGENT_ID.fullmatch(agent_id) or fold_name(agent_id) in identity.RESERVED_LOOKS:
        raise ValueError(f"{agent_id!r} cannot be an agent's id.")


def _check_principal(config: Config, principal: Principal) -> None:
    """A server acts by its own token for one agent only: what a person may do is asked of the person.
    Raises ValueError."""
    if config.transport == "http":
        raise ValueError("Over HTTP every caller brings its own token; this process takes none.")
    if config.transport == "stdio" and principal.kind == "human":
        raise ValueError("A person's token cannot serve an agent; give the agent its own.")
