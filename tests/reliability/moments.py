"""What a store holds at one moment, and what may never be: in one moment, or from one to the next."""

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass, field

import apsw

from callboard import globs, integrity
from tests.reliability.lock_model import Lease, Model, Ticket, conflicts

STEPS = {
    ("pending", "ready"),
    ("pending", "blocked"),
    ("blocked", "pending"),
    ("blocked", "ready"),
    ("ready", "running"),
    ("running", "ready"),  # given back, or its holder was gone
    ("running", "done"),
    ("running", "failed"),
    ("failed", "ready"),
}
"""What becomes of a task from one commit to the next, by what is done in a simulation."""


MOST_ATTEMPTS = 3
"""Claims that end without a word until the task has failed."""


@dataclass(frozen=True)
class Claim:
    """A task: its status, whose it is by which claim and until when, and how many claims fell silent."""

    status: str
    agent: str
    epoch: int
    until: int
    attempts: int

    def is_of(self, agent: str, epoch: int) -> bool:
        return (self.status, self.agent, self.epoch) == ("running", agent, epoch)


@dataclass(frozen=True)
class Receipt:
    """The newest of a message that waits for its acknowledgement, and until when it is valid."""

    agent: str
    receipt: str
    until: int
    attempts: int


Request = tuple[str, frozenset[str], str]
"""An agent, the paths that it asks for together, and the mode."""


@dataclass
class Moment:
    """What the store held after a commit, or once time had passed."""

    now: int
    fence: int
    leases: dict[int, Lease]
    tickets: list[Ticket]
    """Who waits, in order. A place whose call is silent is none."""
    in_line: list[Ticket]
    """The same with what is over, and was not noticed yet."""
    places: dict[Request, int]
    """Where each request stands in line, silent ones too: a call that comes back has kept its place."""
    calling: set[Request]
    """The requests whose places are held by calls that wait."""
    kept: set[Request]
    """Those whose places are kept without."""
    alone: set[Request]
    """Those whose places no call waits in, as was noticed."""
    rests: dict[str, int]
    """The paths that rest, and until when."""
    claims: dict[str, Claim]
    receipts: dict[int, Receipt]
    keys: set[str]
    """The request keys whose calls are known to be done."""

    @property
    def live(self) -> dict[int, Lease]:
        return {fence: lease for fence, lease in self.leases.items() if lease.expires > self.now}

    @property
    def model(self) -> Model:
        held = {(lease.path, lease.agent): lease for lease in self.live.values()}
        return Model(self.now, self.fence, held, self.tickets)

    def grantable(self) -> list[Ticket]:
        """The tickets that nothing stands against, as the model sees it."""
        rests = [path for path, until in self.rests.items() if until > self.now]
        return free(self.model, rests)

    def overlooked(self) -> list[Request]:
        """The kept places that should have been granted when the last was gone that stood against them. What
        is over, and was not noticed yet, stands still."""
        held = {(lease.path, lease.agent): lease for lease in self.leases.values()}
        noticed = Model(self.now, self.fence, held, self.in_line)
        found = [request_of(ticket) for ticket in free(noticed, list(self.rests))]
        return [request for request in found if request in self.kept & self.alone]


def free(model: Model, rests: list[str]) -> list[Ticket]:
    """The tickets of a model that nothing stands against."""
    return [
        ticket
        for ticket in model.tickets
        if not any(model.blockers(ticket.agent, ticket.paths, ticket.mode, ticket))
        and not any(globs.overlaps(path, rest) for path in ticket.paths for rest in rests)
    ]


FENCE = "SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'store.fence'"
LEASES = """
    SELECT file_path, agent_id, mode, fence, ttl_ms, expires_boot_ms, renew_until_boot_ms FROM _leases
"""
TICKETS = """
    SELECT ticket, call_until_boot_ms, queue_until_boot_ms, lapsed_boot_ms, agent_id, mode, ttl_ms,
           max(call_until_boot_ms, queue_until_boot_ms) AS until
      FROM _lock_waiters ORDER BY ticket
"""
RESTS = "SELECT file_path, until_boot_ms FROM _lock_delays"
CLAIMS = """
    SELECT id, dag_status, coalesce(assigned_agent_id, ''), claim_epoch, coalesce(lease_boot_ms, 0), attempts
      FROM dag_tasks
"""
KEYS = "SELECT request_key FROM _request_keys"
LOOSE = """
    SELECT file_path FROM _leases AS l
     WHERE task_id IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM dag_tasks AS t
                        WHERE t.id = l.task_id AND assigned_agent_id = l.agent_id AND dag_status = 'running')
"""
"""Leases that outlived the claims they came with."""

RECEIPTS = """
    SELECT id, target_agent_id, receipt, visible_boot_ms, attempts FROM message_queue
     WHERE status = 'queued' AND receipt IS NOT NULL
"""


def moment(db: apsw.Connection, now: int) -> Moment:
    """What the store holds now. Nobody else writes meanwhile."""
    paths = defaultdict(list)
    for ticket, path in db.execute("SELECT ticket, file_path FROM _lock_waiter_paths"):
        paths[ticket].append(relative(path))
    waiting = [
        (ticket, call_until, queue_until, lapsed, Ticket(agent, tuple(paths[ticket]), mode, ttl, until))
        for ticket, call_until, queue_until, lapsed, agent, mode, ttl, until in db.execute(TICKETS)
    ]
    leases = [Lease(relative(path), *rest) for path, *rest in db.execute(LEASES)]
    return Moment(
        now=now,
        fence=db.execute(FENCE).get,
        leases={lease.fence: lease for lease in leases},
        tickets=[ticket for *_, ticket in waiting if ticket.until > now],
        in_line=[ticket for _, _, _, lapsed, ticket in waiting if not lapsed],
        places={request_of(ticket): number for number, *_, ticket in waiting},
        calling={request_of(ticket) for _, call_until, *_, ticket in waiting if call_until > now},
        kept={request_of(ticket) for _, _, queue_until, _, ticket in waiting if queue_until > now},
        alone={request_of(ticket) for _, call_until, *_, ticket in waiting if not call_until},
        rests={relative(path): until for path, until in db.execute(RESTS)},
        claims={task: Claim(*rest) for task, *rest in db.execute(CLAIMS)},
        receipts={message: Receipt(*rest) for message, *rest in db.execute(RECEIPTS)},
        keys={key for (key,) in db.execute(KEYS)},
    )


def request_of(ticket: Ticket) -> Request:
    return (ticket.agent, frozenset(ticket.paths), ticket.mode)


def relative(path: str) -> str:
    return path.partition(":")[2]


@dataclass
class Past:
    """All moments of a store so far, each held to what may never be."""

    moments: list[Moment] = field(default_factory=list)
    fences: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    """Of each fence that a lease ever had, whose and what that was."""
    over: set[int] = field(default_factory=set)
    """The fences of leases that have ended."""

    def see(self, db: apsw.Connection, now: int, asked: Set[Request], claiming: Set[str]) -> None:
        """Look at the store, while these requests are open and these agents ask for a task with its files."""
        this = moment(db, now)
        self.holds_in(this)
        for rule, statement in integrity.RULES.items():
            assert db.execute(statement).fetchall() == [], rule  # T7 among them
        assert db.execute(LOOSE).fetchall() == [], "T3"
        if self.moments:
            self.holds_between(self.moments[-1], this)
            for lease in (lease for fence, lease in this.leases.items() if fence not in self.fences):
                if lease.agent not in claiming:
                    self.was_asked_for(lease, self.moments[-1], this, asked)
                self.was_its_turn(lease, self.moments[-1], this)
        for fence, lease in this.leases.items():
            self.fences.setdefault(fence, (lease.agent, lease.path, lease.mode))
        self.over |= self.fences.keys() - this.live.keys()
        self.moments.append(this)

    def holds_in(self, this: Moment) -> None:
        held = [(lease.path, lease.agent, lease.mode) for lease in this.live.values()]
        assert conflicts(held) == [], "L1"
        assert this.model.in_a_circle() == [], "L12"
        assert this.overlooked() == [], "L10"
        epochs = [claim.epoch for claim in this.claims.values() if claim.epoch]
        assert len(epochs) == len(set(epochs)), "T1"
        assert all(claim.agent for claim in this.claims.values() if claim.status == "running"), "T1"

    def holds_between(self, last: Moment, this: Moment) -> None:
        assert this.fence >= last.fence, "L2"
        for fence, lease in this.leases.items():
            whose = (lease.agent, lease.path, lease.mode)
            assert self.fences.get(fence, whose) == whose, "L2: one fence, two leases"
            assert fence in self.fences or fence > last.fence, "L2: a new lease under an old fence"
        assert not self.over & this.live.keys(), "L4: a lease that was over is in force"
        for task, claim in this.claims.items():
            if (before := last.claims.get(task)) is None:
                continue
            step = (before.status, claim.status)
            assert step in STEPS or before.status == claim.status, f"T5: {step}"
            assert claim.epoch == before.epoch or claim.epoch > last.fence, "T4: a claim under an old fence"
            if before.status == "running" and before.until <= this.now and claim != before:
                assert claim.attempts == before.attempts + 1, f"T3: not counted: {claim}"
                assert (claim.status == "failed") == (claim.attempts == MOST_ATTEMPTS), f"T3: {claim}"
            elif step == ("running", "running"):
                assert claim.epoch == before.epoch, f"T1: a claim that was good went to another: {claim}"
        for message, receipt in this.receipts.items():
            earlier = last.receipts.get(message)
            if earlier is not None and earlier.receipt != receipt.receipt:
                assert earlier.until <= this.now, "Q4: handed out while its receipt was valid"

    def was_asked_for(self, lease: Lease, last: Moment, this: Moment, asked: Set[Request]) -> None:
        """A new lease is of a request that is open or has kept its place, and was granted whole."""
        held = {(each.agent, each.path) for each in this.live.values()}
        assert any(
            (agent, mode) == (lease.agent, lease.mode)
            and lease.path in paths
            and held >= {(agent, path) for path in paths}
            for agent, paths, mode in asked | last.kept
        ), f"L7, L11: granted to nobody, or in part: {lease}"

    def was_its_turn(self, lease: Lease, last: Moment, this: Moment) -> None:
        """Nobody in the way of a new lease had asked before."""
        own = [
            place
            for (agent, paths, mode), place in last.places.items()
            if (agent, mode) == (lease.agent, lease.mode) and lease.path in paths
        ]
        passed = [
            ticket
            for ticket in last.tickets
            if request_of(ticket) in this.places
            and ticket.agent != lease.agent
            and not ticket.mode == lease.mode == "shared"
            and any(globs.overlaps(path, lease.path) for path in ticket.paths)
            and not any(place < last.places[request_of(ticket)] for place in own)
        ]
        assert not passed or last.model.covered(lease.agent, lease.path, lease.mode), f"L9: {passed}, {lease}"
