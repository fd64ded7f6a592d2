"""`callboard import`: an export of a store, or the tasks and notes that other programs keep.

What comes from others goes through the tools, as the lead that is named would do it, so that every rule holds
and the ledger tells of it. Doing it again adds what is new and changes nothing else.
"""

import hashlib
import json
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from callboard import foreign
from callboard.board import Board
from callboard.cli import dump
from callboard.cli.backup import JsonOption
from callboard.cli.common import DbOption, fail, on_board, secret_from
from callboard.errors import NotFound, Refused

Source = Literal["store", "beads", "task-master", "memory"]

BATCH = 500
"""Tasks that one call adds."""
EDGES = 100
"""Dependencies that one call names."""


class Imported:
    """What an import did, or would do."""

    def __init__(self, left_out: list[str]) -> None:
        self.done: Counter[str] = Counter()
        self.left_out = left_out


def load(
    file: Annotated[Path, typer.Argument(help="The file; - for standard input.")],
    source: Annotated[
        Source, typer.Option("--from", help="What it is: an export of a store, or another program's.")
    ] = "store",
    agent: Annotated[
        str | None,
        typer.Option("--lead", "--agent", envvar="CALLBOARD_AGENT", help="Who brings it in; tasks: a lead."),
    ] = None,
    role: Annotated[str, typer.Option(help="The role that tasks are for.")] = "developer",
    tag: Annotated[str, typer.Option(help="Task Master: the tag to take.")] = "master",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="CALLBOARD_TOKEN_FILE", help="Act by the token in this file. Or CALLBOARD_TOKEN."
        ),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new store of an export, or bring in another program's tasks or notes."""
    if source == "store":
        if dry_run:
            fail("an export is read whole or not at all; --dry-run is for other programs' files.")
        dump.load(file, db, as_json=as_json)
        return
    try:
        with nullcontext(sys.stdin) if file == dump.STANDARD else file.open(encoding="utf-8") as given:
            text = given.read()
        notes: list[foreign.Known] = []
        plan = foreign.Plan()
        match source:
            case "beads":
                plan = foreign.beads(text)
            case "task-master":
                plan = foreign.task_master(text, tag)
            case "memory":
                notes, plan.left_out = foreign.memory(text)
    except (OSError, ValueError) as error:
        fail(str(error))

    async def work(board: Board) -> Imported | Refused:
        told = Imported(plan.left_out)
        try:
            await _bring_tasks(board, plan, role, told, dry_run)
            await _bring_notes(board, notes, f"import of {file.name}", told, dry_run)
        except Refused as refusal:
            return refusal
        return told

    told = on_board(db, work, agent=agent, token=secret_from(token_file))
    if isinstance(told, Refused):
        typer.echo(json.dumps({"error": told.as_data()}, ensure_ascii=False), err=True)
        raise typer.Exit(2)
    _tell(told, dry_run=dry_run, as_json=as_json)


def _tell(told: Imported, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"done": told.done, "left_out": told.left_out}, ensure_ascii=False))
        return
    counted = ", ".join(f"{count} {what}" for what, count in told.done.items()) or "nothing"
    typer.echo(f"{'It would be' if dry_run else 'Done'}: {counted}.")
    for sentence in told.left_out:
        typer.echo(f"left out: {sentence}")


async def _bring_tasks(board: Board, plan: foreign.Plan, role: str, told: Imported, dry_run: bool) -> None:
    known = {work.id: await _status(board, work.id) for work in plan.tasks}
    new = [work for work in plan.tasks if known[work.id] is None]
    for start in range(0, len(new), BATCH):
        batch = new[start : start + BATCH]
        if not dry_run:
            await board.call("add_dag_tasks", {"tasks": [_task(work, role) for work in batch]})
            for work in batch:
                for place in range(EDGES, len(work.depends_on), EDGES):
                    more = work.depends_on[place : place + EDGES]
                    await board.call("add_task_dependencies", {"task_id": work.id, "depends_on": more})
        told.done["added"] += len(batch)
        told.done["dependencies"] += sum(len(work.depends_on) for work in batch)
    told.done["there before"] += len(plan.tasks) - len(new)
    # In the order of dependencies, so that what is done there is mostly ready here when its turn comes.
    for work in new:
        if work.standing != "open":
            told.done[work.standing] += 1
            if not dry_run:
                await _set(board, work)
    told.done = +told.done


async def _set(board: Board, work: foreign.Work) -> None:
    """Bring a task that was just added to where it stands in the other program."""
    task, reason = {"task_id": work.id}, {"reason": "so it stood where it was imported from"}
    match work.standing:
        case "done":
            if await _status(board, work.id) != "ready":  # finished there before what it waits for
                await board.call("force_ready_dag_task", task | reason)
            await board.call("complete_dag_task", task | {"summary": "done before it was imported"})
        case "paused":
            await board.call("pause_dag_task", task | reason)
        case "cancelled":
            await board.call("cancel_dag_task", task | reason)


async def _status(board: Board, task_id: str) -> str | None:
    try:
        return str((await board.call("get_dag_task", {"task_id": task_id}))["dag_status"])
    except Refused as refusal:
        if refusal.code != "unknown_task":
            raise
        return None


def _task(work: foreign.Work, role: str) -> dict[str, Any]:
    given = {"id": work.id, "role": role, "depends_on": work.depends_on[:EDGES], "priority": work.priority}
    return given | {name: text for name in ("title", "description") if (text := getattr(work, name))}


async def _bring_notes(
    board: Board, notes: list[foreign.Known], source: str, told: Imported, dry_run: bool
) -> None:
    for note in notes:
        where = {"category": "semantic", "key": note.key}
        # What a note says is shown between fences of the reply's own; its digest tells whether it is this.
        digest = hashlib.sha256(note.content.encode()).hexdigest()
        try:
            before = await board.call("get_knowledge", where)
            same = (before.get("metadata") or {}).get("imported_sha256") == digest
        except NotFound:
            same = False
        told.done["there before" if same else "noted"] += 1
        if not (same or dry_run):
            metadata = {"source": source, "tags": list(note.tags), "imported_sha256": digest}
            await board.call("put_knowledge", where | {"content": note.content, "metadata": metadata})
