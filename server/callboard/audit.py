"""Audit: whether the ledger still tells what it told when it was written.

Each entry carries the hash of the one before, so a change, an insertion, a deletion or a new order breaks the
chain at one place. What a bare chain cannot show, a cut tail, an older copy in the store's place, or a chain
that was computed anew, shows against the anchors: (seq, hash, time) of the ledger's end, told from time to
time to a file outside the store (B. Schneier, J. Kelsey: Secure Audit Logs to Support Computer Forensics,
1999, section 3, where that second place is a trusted machine).
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw

from callboard.domains.history import GENESIS, TAIL, entry_hash
from callboard.store import Tx

ANCHOR_ROWS = 1_000
"""After how many new entries the ledger's end is anchored at the latest."""

ANCHOR_SECONDS = 600
"""After how long it is anchored at the latest, where anything is new."""

HASHED = (
    "seq",
    "agent_id",
    "agent_role",
    "action_type",
    "summary",
    "details",
    "timestamp",
    "project_id",
    "lead_id",
    "origin",
)
"""The columns that an entry's hash covers; `search_words` follows from them."""

ENTRIES = f"""
    SELECT {", ".join(HASHED)}, prev_hash, entry_hash FROM activity_log
     WHERE id > :after ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of the ledger at one moment. After a restore, the anchors behind its end are void."""

    seq: int
    hash: str
    at: str
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the ledger was found to be. `first_bad` is the place from which it cannot be trusted."""

    entries: int
    last_seq: int
    anchors: int
    """How many anchors stood to compare with."""
    first_bad: int | None = None
    problem: str | None = None

    @property
    def sound(self) -> bool:
        return self.problem is None


class _Broken(Exception):
    """The chain does not hold at one place."""

    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(problem)
        self.seq = seq


def verify(db: apsw.Connection, anchors: Iterable[Anchor] = ()) -> Verdict:
    """Walk the ledger from its first entry, or from behind the last sealed segment, to its end, and compare
    it with the anchors. Raises apsw errors."""
    told = standing(anchors)
    count, last = 0, 0
    trusted = 0
    try:
        first, digest = _sealed(db)
        last = trusted = first
        # A seal says what its last entry was; of the anchors inside of it only the exported file can tell.
        waiting = [anchor for anchor in told if anchor.seq >= first]
        while waiting and waiting[0].seq == first:
            _compare(waiting.pop(0), digest)
        for seq, own in chain(db.execute(ENTRIES, {"after": first}), digest, first):
            count, last = count + 1, seq
            while waiting and waiting[0].seq == seq:
                _compare(waiting.pop(0), own, after=trusted)
                trusted = seq
        if waiting:
            raise _Broken(
                last + 1,
                f"the ledger ends at {last}, and {waiting[-1].seq} was anchored at {waiting[-1].at}: "
                "its tail was cut, or an older copy of the store was put in its place",
            )
        given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'activity_log'").get
        if given is not None and given > last:
            raise _Broken(last + 1, f"the ledger ends at {last}, and numbers up to {given} were given")
    except _Broken as broken:
        return Verdict(count, last, len(told), broken.seq, str(broken))
    return Verdict(count, last, len(told))


def chain(rows: Iterable[tuple[Any, ...]], previous: bytes, seq: int) -> Iterator[tuple[int, bytes]]:
    """The place and the hash of each entry that follows rightly on `seq`, whose hash is `previous`."""
    entries = iter(rows)
    while (row := _next(entries, seq + 1)) is not None:
        values = dict(zip(HASHED, row, strict=False))
        before, own = row[-2:]
        if values["seq"] != seq + 1:
            raise _Broken(seq + 1, f"entry {seq + 1} is missing")
        seq += 1
        if before != previous:
            raise _Broken(seq, f"entry {seq} does not follow on the one before it")
        if own != entry_hash(previous, values):
            raise _Broken(seq, f"entry {seq} is not what was written")
        previous = own
        yield seq, own


def _next(rows: Iterator[tuple[Any, ...]], seq: int) -> tuple[Any, ...] | None:
    """The next entry. Bytes that are no text were not written by us, and no reader gets past them."""
    try:
        return next(rows, None)
    except UnicodeDecodeError:
        raise _Broken(seq, f"entry {seq} holds what is no text") from None


def segment(db: apsw.Connection, last: int) -> Iterator[dict[str, Any]]:
    """The entries from behind the last seal to `last`, as a file can keep them, while the chain holds.

    Raises ValueError where it does not: what is broken is not sealed.
    """
    names = (*HASHED, "prev_hash", "entry_hash")
    try:
        first, digest = _sealed(db)
        rows = db.execute(f"{ENTRIES} LIMIT :count", {"after": first, "count": last - first}).fetchall()
        for row, _ in zip(rows, chain(rows, digest, first), strict=True):
            pairs = zip(names, row, strict=True)
            yield {name: value.hex() if isinstance(value, bytes) else value for name, value in pairs}
    except _Broken as broken:
        raise ValueError(f"The ledger is not sealed: {broken}.") from None


def _sealed(db: apsw.Connection) -> tuple[int, bytes]:
    """Where the sealed segments end: the chain goes on from there."""
    seq, last = 0, GENESIS
    for first, final, digest in db.execute(
        "SELECT first_seq, last_seq, last_hash FROM _activity_seals ORDER BY first_seq"
    ):
        if first != seq + 1:
            raise _Broken(seq + 1, f"no sealed segment holds entry {seq + 1}")
        seq, last = final, digest
    return seq, last


def _compare(anchor: Anchor, own: bytes, after: int | None = None) -> None:
    if anchor.hash != own.hex():
        first = anchor.seq if after is None else after + 1
        raise _Broken(
            first,
            f"entry {anchor.seq} is not the one that was anchored at {anchor.at}: the ledger was written "
            f"anew from {first} or later",
        )


# --- anchors ------------------------------------------------------------------------------------------------


def anchor_file(store_id: str) -> Path:
    """Where the anchors of a store are kept: among the user's state, away from the store
    (XDG Base Directory Specification 0.8)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "callboard" / "anchors" / f"{store_id}.jsonl"


def read_anchors(file: Path) -> list[Anchor]:
    """The anchors in a file, oldest first; none where there is no file. Raises ValueError for a file that
    holds anything else, and OSError."""
    if not file.exists():
        return []
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Anchor(**json.loads(line)))
        except (TypeError, ValueError):
            raise ValueError(f"{file}, line {number}: this is no anchor.") from None
    return found


def standing(anchors: Iterable[Anchor]) -> list[Anchor]:
    """The anchors that still hold, by their place: a restore takes back those behind the end that it left."""
    found: list[Anchor] = []
    for anchor in anchors:
        if anchor.restored:
            found = [earlier for earlier in found if earlier.seq < anchor.seq]
        found.append(anchor)
    return sorted(found, key=lambda anchor: anchor.seq)


def write_anchor(file: Path, anchor: Anchor) -> None:
    """Add one line to the anchors, durably. Raises OSError."""
    _added(file, lambda known: anchor)


def anchor_if_due(file: Path, tail: Anchor) -> Anchor | None:
    """Anchor the ledger's end if it is time; the anchor, where one was written. Any number of processes may
    ask; what another has anchored further on stands. Raises OSError and ValueError as `read_anchors`."""

    def due(known: list[Anchor]) -> Anchor | None:
        if not known:
            return tail
        last = known[-1]
        old = _seconds_between(last.at, tail.at) >= ANCHOR_SECONDS
        return tail if tail.seq - last.seq >= (1 if old else ANCHOR_ROWS) else None

    return _added(file, due)


def tail_of(tx: Tx) -> Anchor | None:
    """The end of the ledger now; None while it is empty."""
    tail = tx.one(TAIL)
    return Anchor(tail.seq, tail.entry_hash.hex(), tx.at) if tail else None


def _added(file: Path, chosen: Callable[[list[Anchor]], Anchor | None]) -> Anchor | None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        anchor = chosen(read_anchors(file))
        if anchor is not None:
            line = {"seq": anchor.seq, "hash": anchor.hash, "at": anchor.at}
            if anchor.restored:
                line["restored"] = True
            os.write(descriptor, (json.dumps(line) + "\n").encode())
            os.fsync(descriptor)
        return anchor
    finally:
        os.close(descriptor)


def _seconds_between(one: str, other: str) -> float:
    return abs((datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds())
