"""Seeded bugs of the locks: M1 to M17."""

# ruff: noqa: E501 - what is replaced is quoted as it stands

from tests.reliability.mutants import Edit, Mutant

LEASES, QUEUE, TICKETS = (f"domains/locks/{name}.py" for name in ("leases", "queue", "tickets"))
LOCK_TOOLS = "domains/locks/tools.py"
LOCKS = "tests/domains/test_locks.py"
LINE = "tests/domains/test_lock_queue.py"
TOGETHER = "tests/reliability/test_together.py"

OUTSIDE = """    import copy
    import apsw
    tx = copy.copy(tx)
    tx._db = apsw.Connection(tx._db.filename, flags=apsw.SQLITE_OPEN_READONLY)
"""
"""Makes what follows read what is committed, and not what its own transaction has done."""

MUTANTS = (
    Mutant(
        "M1",
        "BEGIN without IMMEDIATE",
        "S7",
        (Edit("store.py", 'db.execute("BEGIN IMMEDIATE")', 'db.execute("BEGIN")'),),
        (TOGETHER,),
    ),
    Mutant(
        "M2",
        "the conflict check is outside the transaction",
        "L1",
        (
            Edit(
                LEASES,
                "    for lease in tx.iterate(NEAR,",
                OUTSIDE + "    for lease in tx.iterate(NEAR,",
            ),
        ),
        (TOGETHER,),
    ),
    Mutant(
        "M3",
        "a fence is one more than the largest live one",
        "L2",
        (
            Edit(
                "store.py",
                "SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'store.fence'",
                "SET value = (SELECT CAST(coalesce(max(fence), 0) + 1 AS TEXT) FROM _leases)"
                " WHERE key = 'store.fence'",
            ),
        ),
        (LOCKS + "::test_fences_only_rise_whoever_is_granted_what",),
    ),
    Mutant(
        "M4",
        "a restore does not raise the fence",
        "L2",
        (Edit("backup.py", '"step": FENCE_STEP', '"step": 0'),),
        ("tests/test_backup.py",),
    ),
    Mutant(
        "M5",
        "deadlines are compared as text",
        "L3",
        (
            Edit(
                LEASES,
                "WHERE expires_boot_ms <= :now RETURNING",
                "WHERE expires_at <= strftime('%Y-%m-%dT%H:%M:%SZ', :at) RETURNING",
            ),
            Edit(LEASES, "DROP_EXPIRED[mode], now=tx.now", "DROP_EXPIRED[mode], at=tx.at"),
        ),
        (LOCKS,),
    ),
    Mutant(
        "M6",
        "deadlines are on the wall clock",
        "L3",
        (
            Edit(
                "store.py",
                "self.now: int = clock.boot_ms()",
                "self.now: int = int(clock.now().timestamp() * 1000)",
            ),
        ),
        (LOCKS + "::test_a_step_of_the_wall_clock_moves_no_lease",),
    ),
    Mutant(
        "M7",
        "a lease stands at its deadline still",
        "L3, L4",
        (
            Edit(
                LEASES,
                "WHERE file_path = :file_path AND +expires_boot_ms > :now",
                "WHERE file_path = :file_path AND +expires_boot_ms >= :now",
            ),
            Edit(LEASES, "WHERE expires_boot_ms <= :now RETURNING", "WHERE expires_boot_ms < :now RETURNING"),
        ),
        (LOCKS,),
    ),
    Mutant(
        "M8",
        "renewal revives a lease that is over",
        "L4",
        (
            Edit(
                LEASES,
                '         WHERE agent_id = :agent_id AND expires_boot_ms > :now\n    """)',
                '         WHERE agent_id = :agent_id\n    """)',
            ),
        ),
        ("tests/test_dispatch.py", LOCKS),
    ),
    Mutant(
        "M9",
        "release ignores the fence",
        "L4",
        (Edit(LOCK_TOOLS, "if fence is not None and fence != own.fence:", "if fence == 0:"),),
        (LOCKS,),
    ),
    Mutant(
        "M10",
        "release goes by the name alone",
        "L5",
        (
            Edit(
                LOCK_TOOLS,
                "own = next((lease for lease in held if lease.agent_id == caller.agent_id), None)",
                "own = next(iter(held), None)",
            ),
            Edit(
                LOCK_TOOLS,
                "if fence is None and not any(lease.agent_id == caller.agent_id for lease in held):",
                "if not held:",
            ),
        ),
        (LOCKS + "::test_only_the_holder_gives_a_lock_back",),
    ),
    Mutant(
        "M11",
        "who waits is not looked at again when it is granted",
        "L11",
        (
            Edit(
                TICKETS,
                "WHERE call_until_boot_ms <= :now AND queue_until_boot_ms > :now\n       AND ticket IN",
                "WHERE call_until_boot_ms <= :now\n       AND ticket IN",
            ),
        ),
        (LINE,),
    ),
    Mutant(
        "M12",
        "anyone who waits goes on, not the first",
        "L9",
        (
            Edit(
                QUEUE,
                "    for other in waiting_near(tx, name):\n        if ticket",
                "    for other in ():\n        if ticket",
            ),
        ),
        (LINE,),
    ),
    Mutant(
        "M13",
        "the end of a lease wakes nobody",
        "L10",
        (
            Edit(
                LOCK_TOOLS,
                "again_boot_ms=min([*ends, tx.now + tickets.SIGN_OF_LIFE_MS])",
                "again_boot_ms=tx.now + 3_600_000",
            ),
            Edit(
                TICKETS,
                "SELECT min(boot_ms) AS boot_ms,",
                "SELECT min(boot_ms) + 3600000 AS boot_ms,",
            ),
        ),
        (LINE,),
    ),
    Mutant(
        "M14",
        "a call that gave up leaves its place behind",
        "L11",
        (
            Edit(
                QUEUE,
                '    tx.run(LEAVE, ticket=ticket.ticket)\n    _tell(tx, "lock_queue_left", "no longer',
                '    _tell(tx, "lock_queue_left", "no longer',
            ),
        ),
        (LINE,),
    ),
    Mutant(
        "M15",
        "patterns are matched against each other's text, not intersected",
        "L13",
        (
            Edit(
                "globs.py",
                '    for a, b in zip(p.split("/"), q.split("/"), strict=False):\n',
                '    return covers(p, q) or covers(q, p)\n    for a, b in zip(p.split("/"), q.split("/"), strict=False):\n',
            ),
        ),
        ("tests/test_globs.py::test_overlaps",),
    ),
    Mutant(
        "M16",
        "names that differ in case are two on every file system",
        "L14",
        (
            Edit(
                "repository.py",
                "return composed.casefold() if self.folds_case else composed",
                "return composed",
            ),
        ),
        ("tests/test_repository.py",),
    ),
    Mutant(
        "M17",
        "of several paths only the first is looked at",
        "L7",
        (
            Edit(
                QUEUE,
                "    for name in request.names:\n        for lease in leases.near",
                "    for name in request.names[:1]:\n        for lease in leases.near",
            ),
        ),
        (LOCKS,),
    ),
)
