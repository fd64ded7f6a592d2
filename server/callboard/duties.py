"""Duties: what a process does though nobody calls, for as long as it serves.

It renews what the agents of its connected client hold, ends what is over, notices processes that are gone,
sweeps the outbox, and gives the store its upkeep.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from callboard import audit, checkup, process, replay, storefile, upkeep
from callboard.clock import Clock
from callboard.dispatch import settle
from callboard.domains import crew, history, roster
from callboard.errors import Refused
from callboard.feed import Feed
from callboard.identity import Caller, Principal
from callboard.store import Command, Store, Tx

RENEWAL_MS = 2_000
"""How often the leases of connected agents are looked at; less than half of the shortest lease."""

SWEEP_MS = 1_000
"""How often what is over is looked for."""

PROCESSES_MS = 5_000
"""How often other server processes are looked for."""

TIDY_MS = 60_000
"""How often the outbox and old request keys are swept."""

CHECK_MS = 6 * 3600 * 1000
"""How often the store's pages are looked through for damage, while it is small enough for that."""

LOOK_AGAIN_SECONDS = 60
"""How old the last such look may be when somebody asks for the store's health."""

ANCHOR_MS = 10_000
"""How often it is asked whether the ledger's end is to be anchored."""

IDLE_MS = 30_000
"""A log that was not written for so long is folded into the store's file and cut."""

CHECKUP_MS = 60_000
"""How often it is asked whether the store is to be read through."""

OUTBOX_KEPT_MS = 600_000
"""How long an event stays in the outbox. Waiters read it within milliseconds."""

STORE_SYSTEM = Caller("callboard", "system", "", "", "human", None)
"""Who acts when nobody called. No agent can have this id."""

SWEEP_OUTBOX = Command("DELETE FROM _events WHERE created_boot_ms < :before")

log = logging.getLogger(__name__)


class Duties:
    """The duties of one process on one store."""

    def __init__(self, store: Store, feed: Feed, clock: Clock, process_id: str) -> None:
        self._store = store
        self._feed = feed
        self._clock = clock
        self._process_id = process_id
        self._principal: Principal | None = None

    async def keep(self, principal: Principal | None, *, renews: bool) -> None:
        """Do all of them until cancelled; with `renews`, also for the agents of a connected client, whose
        token `principal` is."""
        self._principal = principal
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed.poll)
            tasks.start_soon(self._every, SWEEP_MS, self.sweep_if_due)
            tasks.start_soon(self._every, PROCESSES_MS, self.look_for_processes)
            tasks.start_soon(self._every, TIDY_MS, self.tidy)
            tasks.start_soon(self._every, CHECK_MS, self._check)
            tasks.start_soon(self._every, ANCHOR_MS, self._anchor)
            tasks.start_soon(self._every, IDLE_MS, upkeep.IdleLog(self._store).fold)
            tasks.start_soon(self._every, CHECKUP_MS, self._check_up)
            if renews:
                tasks.start_soon(self._every, RENEWAL_MS, self._renew)

    async def sweep(self) -> None:
        """End what is over."""

        def swept(tx: Tx) -> None:
            crew.sweep(tx)
            settle(tx, STORE_SYSTEM)

        await self._store.write(swept)

    async def sweep_if_due(self) -> None:
        """End what is over, where anything is; and however much has happened since, let searches find it."""
        if await self._store.read(crew.is_due):
            await self.sweep()
            while await self._store.read(history.is_unindexed):
                await self._store.write(history.index)

    async def _every(self, period_ms: int, duty: Callable[[], Any]) -> None:
        """Do a duty at each end of a period. The periods of all duties begin together, so that an idle
        process wakes once for what falls together. One that comes late leaves out an end that is near: half a
        period at least lies between the end of a duty and its next beginning."""
        due = self._clock.boot_ms()
        while True:
            late = self._clock.boot_ms() - due
            due += period_ms * (1 + (late + period_ms // 2) // period_ms)
            await self._clock.sleep_until(due)
            try:
                await duty()
            except Refused as refusal:
                # The store cannot be used now; the duty is done when it can be again.
                log.warning("%s: %s", duty.__name__, refusal.message)
            except Exception:
                log.exception("%s failed", duty.__name__)

    async def look_for_processes(self) -> None:
        """Notice which processes are gone that have not stopped in order."""
        own = process.ProcessName.own()
        others = await self._store.read(lambda tx: tx.all(roster.PROCESS_HERE, pid_namespace=own.namespace))
        gone = [other.process_id for other in others if not process.is_alive(other.pid, other.start_ticks)]
        for process_id in gone:
            await self._store.write(partial(_gone, process_id=process_id))

    async def _renew(self) -> None:
        """Renew for the agents that came last through this process: their sign of life, and what they
        hold as soon as the half of it is over."""
        due = await self._store.read(partial(crew.due_for_renewal, process_id=self._process_id))
        if due:
            await self._store.write(partial(crew.renew, agent_ids=due, principal=self._principal))

    async def _anchor(self) -> None:
        await upkeep.anchor(self._store, audit.anchor_file(self._store.info.store_id))

    async def look_again(self) -> None:
        """Look through the store's pages if that was a while ago, for whoever asks how the store is: so that
        damage shows which no call has met. Raises the store's refusals."""
        age = self._store.about().quick_check_age_seconds
        if age is None or age >= LOOK_AGAIN_SECONDS:
            await self._check()

    async def _check(self) -> None:
        if self._store.info.path.stat().st_size <= storefile.CHECK_LIMIT:
            await self._store.check()

    async def _check_up(self) -> None:
        await checkup.look(self._store)

    async def tidy(self) -> None:
        """Drop what has been told and what need not be remembered any longer, and end what is over."""

        def tidied(tx: Tx) -> None:
            tx.run(SWEEP_OUTBOX, before=tx.now - OUTBOX_KEPT_MS)
            replay.forget_old(tx)
            crew.sweep(tx)
            settle(tx, STORE_SYSTEM)

        await self._store.write(tidied)


def _gone(tx: Tx, process_id: str) -> None:
    if roster.process_gone(tx, process_id):
        checkup.stopped_uncleanly(tx, process_id)
