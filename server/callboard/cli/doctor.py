"""`callboard doctor`: whether everything here works, and what to do about what does not.

It looks and mends nothing: a store that is not there yet is not made, and one of an older schema is not
migrated.
"""

import json
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import anyio
import apsw
import typer

from callboard import __version__, lockname, process, schema
from callboard.board import Board, Config, open_board
from callboard.cli.common import DbOption, first_of, secret_from
from callboard.connection import open_hardened
from callboard.errors import Refused
from callboard.guards import installing
from callboard.guards.clients import CLIENTS as GUARDED
from callboard.repository import Repository
from callboard.store import Row
from callboard.storefile import Unusable

if TYPE_CHECKING:
    from callboard.cli.setup.clients import Client, Place, Scope
    from callboard.cli.setup.receipts import Receipts

Level = Literal["ok", "note", "problem"]
NEW_TOKEN = "make one with callboard token create, and put it where this one was"
PATIENCE = 10.0
"""Seconds for another program to say its version."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    area: str
    level: Level
    what: str
    fix: str | None = None


class Held(Row):
    """A lease, and a process that its holder came through."""

    file_path: str
    agent_id: str
    expires_at: str
    pid: int | None
    start_ticks: int | None
    pid_namespace: str | None
    gone_boot_ms: int | None


HELD_THROUGH = Held.query("""
    SELECT f.file_path, f.agent_id, f.expires_at, p.pid, p.start_ticks, p.pid_namespace, p.gone_boot_ms
      FROM (SELECT file_path, agent_id, expires_at, expires_boot_ms FROM file_locks
             UNION ALL SELECT file_path, agent_id, expires_at, expires_boot_ms FROM _lock_holders) AS f
           JOIN _agent_processes AS l ON l.agent_id = f.agent_id
           JOIN _processes AS p ON p.process_id = l.process_id
     WHERE f.expires_boot_ms > :now
     ORDER BY f.file_path, f.agent_id
""")


def doctor(
    db: DbOption = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="A token to look at. Or CALLBOARD_TOKEN."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look whether everything works: versions, store, leases of the dead, clients' files, tokens, hooks.

    Each finding comes with what to do about it. Ends with 1 if there is a problem.
    """
    environment = dict(os.environ)
    token = secret_from(token_file)

    found = anyio.run(findings, Path.cwd(), environment, db, token)
    fine = not any(finding.level == "problem" for finding in found)
    if as_json:
        typer.echo(json.dumps({"ok": fine, "findings": [asdict(finding) for finding in found]}, indent=2))
    else:
        for finding in found:
            typer.echo(f"{finding.level:8} {finding.area}: {finding.what}.")
            if finding.fix:
                typer.echo(f"{'':8} → {finding.fix}.")
    if not fine:
        raise typer.Exit(1)


async def findings(
    folder: Path, environment: Mapping[str, str], db: Path | None, token: str | None
) -> list[Finding]:
    """Everything that is to be said of a folder, its store and its clients."""
    found = list(_of_machine(environment))
    try:
        repository = Repository.find(folder)
    except ValueError as error:
        fix = "mend it, or go to another folder"
        return [*found, Finding("repository", "problem", str(error).rstrip("."), fix)]
    in_git = (repository.worktree / ".git").exists()
    what = f"{repository.worktree}, project {repository.project_id}"
    if in_git:
        found.append(Finding("repository", "ok", what))
    else:
        fix = "run it inside a repository, if one was meant"
        found.append(Finding("repository", "note", f"{what}, without git", fix))
    path = db or repository.store
    found += await _of_store(path, repository, token)
    found += await _of_clients(repository, environment)
    return found


# --- the machine --------------------------------------------------------------------------------------------


def _of_machine(environment: Mapping[str, str]) -> Iterator[Finding]:
    yield Finding(
        "versions",
        "ok",
        f"callboard {__version__}, Python {platform.python_version()}, mcp {version('mcp')}, "
        f"apsw {apsw.apsw_version()} with SQLite {apsw.sqlite_lib_version()}, {platform.system()}",
    )
    program = shutil.which("callboard", path=environment.get("PATH"))
    if program is None:
        yield Finding(
            "command",
            "note",
            "callboard is not on PATH",
            f"put the folder of the command on PATH, or start it as {sys.executable} -m callboard",
        )
        return
    try:
        ran = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        said = ran.stdout.strip() or ran.stderr.strip().splitlines()[-1:] or "nothing"
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    right = said == f"callboard {__version__}"
    yield Finding(
        "command",
        "ok" if right else "problem",
        program if right else f"{program} says {said!r}, and this is callboard {__version__}",
        None if right else "install this version there, or take the other one off PATH",
    )


# --- the store ----------------------------------------------------------------------------------------------


async def _of_store(path: Path, repository: Repository, token: str | None) -> list[Finding]:
    if not path.exists():
        found = [Finding("store", "note", f"{path} is not there yet; the first server makes it")]
        if token is not None:
            what = "there is no store that could have issued it"
            found.append(Finding("token", "problem", what, NEW_TOKEN))
        return found
    known = _version_of(path)
    if isinstance(known, Finding):
        return [known]
    if known < schema.VERSION:
        what = f"{path} has schema {known}; the next server brings it to {schema.VERSION}, after a backup"
        return [Finding("store", "note", what)]
    found = []
    try:
        async with open_board(Config(db=path, folder=repository.worktree, transport="cli")) as board:
            found += await _of_board(board)
            if token is not None:
                found.append(await _of_token(board, token))
    except* (Unusable, Refused, OSError) as group:
        what = str(first_of(group)).rstrip(".")
        found.append(Finding("store", "problem", what, "do as it says, or restore a backup"))
    return found


def _version_of(path: Path) -> int | Finding:
    """The store's schema version, by a look that changes nothing."""
    try:
        with closing(open_hardened(path, 2.0, lambda: False)) as db:
            db.pragma("query_only", True)
            application, number = db.pragma("application_id"), db.pragma("user_version")
    except apsw.Error as error:
        return Finding("store", "problem", f"{path} cannot be read: {error}", "restore a backup of it")
    if application != schema.APPLICATION_ID:
        return Finding(
            "store", "problem", f"{path} is not a store of callboard", "name another one with --db"
        )
    if number > schema.VERSION:
        return Finding(
            "store",
            "problem",
            f"{path} has schema {number}, and this callboard knows up to {schema.VERSION}",
            "install a newer callboard",
        )
    return int(number)


async def _of_board(board: Board) -> list[Finding]:
    health, info = await board.health(), board.store.info
    # What cannot be used says why; what was found broken at the last checkup is listed.
    error = health.get("error") or health.get("integrity_broken")
    found = [
        Finding(
            "store",
            "ok" if health["ok"] else "problem",
            f"{info.path}, schema {info.schema_version}, {info.journal_mode} on {info.file_system}"
            if health["ok"]
            else str(error),
            None if health["ok"] else "restore a backup: callboard restore",
        )
    ]
    mode = stat.S_IMODE(info.path.stat().st_mode)
    if mode & 0o077:
        what = f"others on this machine can open the store (mode {mode:03o})"
        found.append(Finding("store", "note", what, f"chmod 600 {info.path}"))
    held = await board.store.read(lambda tx: tx.all(HELD_THROUGH, now=tx.now))
    found += _of_the_dead(held)
    return found


def _of_the_dead(held: list[Held]) -> Iterator[Finding]:
    """Leases whose holder came through processes of this machine, of which none runs any more."""
    own = process.ProcessName.own()
    leases: dict[tuple[str, str], list[Held]] = {}
    for row in held:
        leases.setdefault((row.file_path, row.agent_id), []).append(row)
    dead = [rows[0] for rows in leases.values() if not any(_may_live(row, own.namespace) for row in rows)]
    for row in dead:
        yield Finding(
            "leases",
            "note",
            f"{row.agent_id} holds {lockname.shown(row.file_path)} until {row.expires_at}, "
            "and its process has ended",
            "it ends by itself; force_release_file_lock takes it away sooner",
        )
    if not dead:
        yield Finding("leases", "ok", "none is held through a process that has ended")


def _may_live(row: Held, namespace: str) -> bool:
    if row.gone_boot_ms is not None:
        return False
    if row.pid is None or row.pid_namespace != namespace:
        return True  # nobody here can tell
    return process.is_alive(row.pid, row.start_ticks or 0)


async def _of_token(board: Board, token: str) -> Finding:
    try:
        principal = await board.authenticate(token)
    except Refused as refusal:
        return Finding("token", "problem", refusal.message.rstrip("."), NEW_TOKEN)
    return Finding("token", "ok", f"valid, of the {principal.kind} {principal.name} as {principal.scope}")


# --- the clients --------------------------------------------------------------------------------------------


async def _of_clients(repository: Repository, environment: Mapping[str, str]) -> list[Finding]:
    from callboard.cli.setup.clients import CLIENTS, Place
    from callboard.cli.setup.receipts import Receipts

    place = Place(Path.home(), repository.worktree, environment)
    receipts = Receipts.of(place.home, environment)
    files: list[tuple[Client, Scope]] = [(one, "project") for one in CLIENTS.values() if one.project_file]
    files += [(one, "user") for one in CLIENTS.values()]
    found: dict[tuple[str, Scope], list[Finding]] = {}
    limit = anyio.CapacityLimiter(os.cpu_count() or 1)

    async def look(client: "Client", scope: "Scope", stand_in: Path) -> None:
        async with limit:
            found[client.name, scope] = await _of_client(client, scope, place, receipts, stand_in)

    with tempfile.TemporaryDirectory() as scratch:
        async with anyio.create_task_group() as tasks:
            for client, scope in files:
                tasks.start_soon(look, client, scope, Path(scratch, "board.db"))
    clients = [finding for client, scope in files for finding in found[client.name, scope]]
    if not clients:
        clients.append(Finding("clients", "note", "none is set up here", "run callboard init"))
    return [*clients, *_of_hooks(place)]


async def _of_client(
    client: "Client", scope: "Scope", place: "Place", receipts: "Receipts", stand_in: Path
) -> list[Finding]:
    """What is to be said of one file of a client; nothing, if it does not name callboard."""
    # Brings the SDK's client along, which nothing else here needs.
    from callboard.cli.setup import edits, files, jsonc, toml, trial
    from callboard.cli.setup.clients import SERVER

    path = client.file(place, scope)
    receipt = receipts.find(files.real(path))
    named = f"{client.label}, {path}"
    try:
        data = files.read(path)
        if data is None:
            if receipt is None:
                return []
            what = f"{named}: the file that init wrote is gone"
            return [Finding("clients", "note", what, "run callboard init again, or callboard uninstall")]
        text = edits.decode(data)[1]
        entry = (toml if client.form == "toml" else jsonc).get(text, (client.key, SERVER))
    except (jsonc.Broken, OSError) as error:
        level: Level = "note" if receipt is None else "problem"
        return [Finding("clients", level, f"{named} cannot be read: {error}", "mend the file by hand")]
    if not isinstance(entry, dict):
        if receipt is None:
            return []
        what = f"{named}: the entry that init wrote is gone"
        return [Finding("clients", "note", what, "run callboard init again, or callboard uninstall")]
    own = receipt is not None and any(getattr(edit, "value", None) == entry for edit in receipt.edits)
    outcome = await trial.of(entry, client, place, ours=own, stand_in=stand_in)
    what = f"{named}: {outcome.said}"
    if not outcome.tried:
        return [Finding("clients", "note", what, "if it is yours, run callboard init to have it written")]
    if outcome.tools is None:
        return [Finding("clients", "problem", what, "mend what it says, or run callboard init again")]
    return [Finding("clients", "ok", what)]


def _of_hooks(place: "Place") -> Iterator[Finding]:
    """Whether the hooks that are set up can be started, and all of them are there."""
    from callboard.cli.setup import files, hooks, jsonc
    from callboard.cli.setup.clients import CLIENTS

    scopes: tuple[Scope, ...] = ("project", "user")
    for client, scope in ((CLIENTS[name], scope) for name in hooks.FORMS for scope in scopes):
        path = hooks.file(client, place, scope)
        try:
            commands = hooks.commands(client, files.read(path) or b"")
        except (jsonc.Broken, OSError) as error:
            yield Finding("hooks", "problem", f"{path} cannot be read: {error}", "mend the file by hand")
            continue
        if not commands:
            continue
        programs = {shlex.split(command)[0] for command in commands.values()}
        lost = sorted(program for program in programs if not shutil.which(program))
        missing = sorted(set(GUARDED[client.name].events.values()) - commands.keys())
        if lost:
            what = f"{path} starts {lost[0]}, which is not there"
            yield Finding("hooks", "problem", what, "run callboard init --hooks")
        elif missing:
            what = f"{path} has none for {', '.join(missing)}"
            yield Finding("hooks", "note", what, "run callboard init --hooks")
        else:
            yield Finding("hooks", "ok", f"{path} has all of {client.label}'s")
    try:
        guarded = installing.is_installed(place.repository)
    except installing.NotPlaced:
        return  # no git, nothing to guard
    if guarded:
        yield Finding("guard", "ok", "it stands before commits and pushes")
    else:
        what = "commits and pushes are not guarded"
        yield Finding("guard", "note", what, "run callboard guard install, if they shall be")
