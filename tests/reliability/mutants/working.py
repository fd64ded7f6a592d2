"""Seeded bugs of messages, tasks, identity, decisions, output and the store's files: M18 to M38."""

# ruff: noqa: E501 - what is replaced is quoted as it stands

from tests.reliability.mutants import Edit, Mutant
from tests.reliability.mutants.waiting import OUTSIDE, TOGETHER

SENDING, RECEIVING = "domains/messages/queue.py", "domains/messages/receiving.py"
CLAIMS = "domains/tasks/claims.py"
MESSAGES = "tests/domains/test_messages.py"
TASKS = "tests/domains/test_tasks.py"
DECISIONS = "tests/domains/test_decisions.py"

MUTANTS = (
    Mutant(
        "M18",
        "attempts count what was given back, not what was handed out",
        "Q6",
        (
            Edit(RECEIVING, "SET attempts = attempts + 1, receipt =", "SET receipt ="),
            Edit(
                RECEIVING,
                "SET visible_boot_ms = :now + iif(",
                "SET attempts = attempts + 1, visible_boot_ms = :now + iif(",
            ),
        ),
        (MESSAGES,),
    ),
    Mutant(
        "M19",
        "an acknowledgement ignores the receipt",
        "Q5",
        (
            Edit(
                RECEIVING,
                "WHERE receipt = :receipt AND target_agent_id = :agent_id AND status = 'queued'\n    RETURNING id",
                "WHERE id = CAST(:receipt AS INTEGER) AND target_agent_id = :agent_id AND status = 'queued'\n    RETURNING id",
            ),
        ),
        (MESSAGES,),
    ),
    Mutant(
        "M20",
        "a repeated key is answered without looking at what is sent",
        "Q7",
        (
            Edit(SENDING, "if rows and rows[0].payload_hash != digest(payload):", "if rows is None:"),
            Edit("replay.py", "    if differing:\n", "    if differing is None:\n"),
        ),
        ("tests/test_dispatch.py", MESSAGES),
    ),
    Mutant(
        "M21",
        "a call is answered before it is committed",
        "Q1",
        (
            Edit(
                "store.py",
                'db.execute("COMMIT")\n',
                'deliver(jobs, lambda: None)\n            db.execute("COMMIT")\n',
            ),
        ),
        ("tests/test_store.py::test_nobody_is_answered_before_the_commit_that_all_share",),
    ),
    Mutant(
        "M22",
        "a fan-out is committed row by row",
        "Q2",
        (
            Edit(
                SENDING,
                "    if source is not None:\n        _check_quota(tx, targets, source.agent_id)\n",
                """    if len(targets) > 1:
        told = dict(locals())
        del told["tx"], told["targets"]
        ids = []
        for target in targets:
            ids += enqueue(tx, targets=[target], **told)
            tx._db.execute("RELEASE operation; SAVEPOINT operation")
        return ids
    if source is not None:
        _check_quota(tx, targets, source.agent_id)
""",
            ),
        ),
        (TOGETHER,),
    ),
    Mutant(
        "M23",
        "tidying up deletes what is queued",
        "Q10",
        (
            Edit(
                "domains/messages/endings.py",
                "    _told(tx, tx.all(END_OVER, now=tx.now, at=tx.at))\n",
                "    tx._db.execute(f\"DELETE FROM message_queue WHERE id IN ({OVER})\", {'now': tx.now})\n",
            ),
        ),
        (MESSAGES,),
    ),
    Mutant(
        "M24",
        "a claim reads first and writes then",
        "T1",
        (
            Edit(
                CLAIMS,
                "    UPDATE dag_tasks\n       SET dag_status = 'running'",
                "    UPDATE dag_tasks\n       SET dag_status = iif(:was = '' OR :was_epoch = -1, '', 'running')",
            ),
            Edit(
                CLAIMS,
                "AND dag_status = :was AND claim_epoch = :was_epoch\n       AND (dag_status <> 'ready' OR assigned_agent_id IS NULL) AND archived_at IS NULL",
                "AND archived_at IS NULL",
            ),
            Edit(
                "domains/tasks/claiming.py",
                "    busy: Obstacle | None = None\n    refusals",
                OUTSIDE + "    busy: Obstacle | None = None\n    refusals",
            ),
        ),
        (TOGETHER,),
    ),
    Mutant(
        "M25",
        "completion ignores the epoch",
        "T4",
        (
            Edit(
                "domains/tasks/finishing.py",
                "if task.assigned_agent_id == caller.agent_id and epoch in (None, task.claim_epoch):",
                "if task.assigned_agent_id == caller.agent_id:",
            ),
        ),
        (TASKS + "::test_an_agents_own_older_claim_is_over_too",),
    ),
    Mutant(
        "M26",
        "the search for a circle is outside the transaction",
        "T6",
        (
            Edit(
                "domains/tasks/dependencies.py",
                "    below, above = {task_id}, set(goals)\n",
                OUTSIDE + "    below, above = {task_id}, set(goals)\n",
            ),
        ),
        (TOGETHER,),
    ),
    Mutant(
        "M27",
        "a task that comes back keeps the locks of its old claim",
        "T3",
        (
            Edit(
                CLAIMS,
                "    release_files(tx, task, why)\n    reviewed",
                "    reviewed",
            ),
        ),
        (TOGETHER,),
    ),
    Mutant(
        "M28",
        "the argument says who calls, whatever the token says",
        "Q13, ID1",
        (
            Edit("identity.py", "for other in sources[1:]:", "for other in ():"),
            Edit(
                "identity.py",
                "return sources[0] if sources else None",
                "return sources[-1] if sources else None",
            ),
        ),
        ("tests/test_identity.py",),
    ),
    Mutant(
        "M29",
        "what another crew may not see is sorted out after the limit",
        "ID7",
        (
            Edit(
                "domains/decisions/decision.py",
                'READABLE = "iif(:all_crews, project_id = :project_id, lead_id = :lead_id)"',
                'READABLE = "project_id = :project_id AND (:all_crews OR :lead_id IS NOT NULL)"',
            ),
        ),
        ("tests/reliability/test_access.py",),
    ),
    Mutant(
        "M30",
        "a lead may confirm",
        "G1",
        (Edit("identity.py", '"human": frozenset({"human"}),', '"human": frozenset({"human", "lead"}),'),),
        (DECISIONS,),
    ),
    Mutant(
        "M31",
        "the digest of an approval is not looked at",
        "G2",
        (Edit("domains/decisions/resolving.py", "AND digest = :digest", "AND :digest IS NOT NULL"),),
        (DECISIONS + "::test_an_approval_under_another_digest_is_refused",),
    ),
    Mutant(
        "M32",
        "time confirms what waits for a human",
        "G4",
        (
            Edit(
                "domains/messages/endings.py",
                "    _told(tx, tx.all(END_OVER, now=tx.now, at=tx.at))\n",
                """    _told(tx, tx.all(END_OVER, now=tx.now, at=tx.at))
    tx._db.execute(
        "UPDATE decisions SET status = 'confirmed', confirmed_by = 'human:timer', confirmed_at = ?, "
        "assurance = 'client' WHERE status = 'recorded' AND needs_confirmation = 1",
        (tx.at,),
    )
""",
            ),
            Edit(
                "domains/messages/endings.py",
                "    return tx.one(DUE, now=tx.now) == Count(1)\n",
                "    return True\n",
            ),
        ),
        (DECISIONS + "::test_no_time_confirms_anything",),
    ),
    Mutant(
        "M33",
        "one tool's text is not made neutral",
        "N1",
        (
            Edit(
                "dispatch.py",
                "if text.is_suspect_json(told):",
                'if tool.name != "get_dag_task" and text.is_suspect_json(told):',
            ),
        ),
        ("tests/test_neutral_output.py",),
    ),
    Mutant(
        "M34",
        "a token that is not known is repeated to whoever reads the refusal",
        "P1, P2",
        (Edit("identity.py", '"This token is not known."', 'f"This token is not known: {token}."'),),
        ("tests/test_identity.py",),
    ),
    Mutant(
        "M35",
        "health is what it was at first",
        "S15",
        (
            Edit(
                "board.py",
                "            facts |= await self.store.health()\n",
                '            self.__dict__.setdefault("_first", await self.store.health() if "_first" not in '
                'self.__dict__ else None)\n            facts |= self.__dict__["_first"]\n',
            ),
        ),
        ("tests/test_store_failures.py",),
    ),
    Mutant(
        "M36",
        "a backup copies the file",
        "S3, S13",
        (
            Edit(
                "copying.py",
                """            copying = here.backup("main", there, "main")
            try:
                copying.step(-1)
            finally:
                copying.close(True)
""",
                """            draft.write_bytes(source.read_bytes())
""",
            ),
        ),
        ("tests/test_backup.py", "tests/test_storefile.py"),
    ),
    Mutant(
        "M37",
        "a migration is not one transaction",
        "S12",
        (
            Edit(
                "storefile.py",
                "        with _write_lock(db):\n            return _bring_here",
                "        if True:\n            return _bring_here",
            ),
        ),
        ("tests/test_storefile.py",),
    ),
    Mutant(
        "M38",
        "a newer store is opened for writing",
        "S11",
        (Edit("storefile.py", "    if version > schema.VERSION:\n", "    if version < 0:\n"),),
        ("tests/test_unusable.py::test_a_newer_store_is_refused_and_not_touched",),
    ),
)
