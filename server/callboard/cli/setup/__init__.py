"""`callboard init` and `callboard uninstall`: the clients' own files, set up and given back.

Everything is worked out and shown first (`plan`), from a table of what each client reads (`clients`) and
editors that keep what they do not understand (`jsonc`, `toml`, `section`). What was put in is remembered
(`receipts`), so that uninstall takes out that and nothing else.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from callboard.cli.common import fail
from callboard.guards import installing
from callboard.repository import Repository

if TYPE_CHECKING:
    from callboard.cli.setup.clients import Client, Place
    from callboard.cli.setup.plan import Step
    from callboard.cli.setup.receipts import Receipts

ScopeOption = Annotated[
    Literal["project", "user"] | None,
    typer.Option(help="Whose files. Default: the project's where the client has some, else yours."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and end.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


def init(
    client: Annotated[
        list[str] | None,
        typer.Option(
            help="claude-code, vscode, cursor, codex, gemini, copilot-cli, windsurf, zed or claude-desktop; "
            "may be given several times."
        ),
    ] = None,
    all_detected: Annotated[
        bool, typer.Option("--all-detected", help="Every client found here. This is the default.")
    ] = False,
    scope: ScopeOption = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="[URL]", help="Connect to a server over HTTP. Default: 127.0.0.1:8765."),
    ] = None,
    auth: Annotated[
        bool, typer.Option("--auth", help="With --http: send the token in CALLBOARD_TOKEN.")
    ] = False,
    profile: Annotated[
        Literal["core", "lead", "all"] | None,
        typer.Option(help="Which tools are offered. Default: what fits the client."),
    ] = None,
    instructions: Annotated[
        bool, typer.Option(help="A section on the crew in AGENTS.md, CLAUDE.md or GEMINI.md.")
    ] = True,
    hooks: Annotated[
        bool | None, typer.Option(help="Hooks that refuse edits of what another agent holds.")
    ] = None,
    guard: Annotated[
        bool | None, typer.Option(help="Git hooks that refuse commits of what another agent holds.")
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Set up coding clients for this repository; uninstall takes all of it out again.

    What will be done is shown first. Comments, order and everything foreign in the files stay as they are.
    """
    from callboard.cli.setup import launch as launching
    from callboard.cli.setup import plan
    from callboard.cli.setup.clients import CLIENTS
    from callboard.cli.setup.receipts import Receipts

    repository, place = _here()
    if client and all_detected:
        fail("give either --client or --all-detected.")
    if unknown := sorted(set(client or ()) - CLIENTS.keys()):
        fail(f"no client is named {unknown[0]}; there are {', '.join(CLIENTS)}.")
    chosen = [CLIENTS[name] for name in dict.fromkeys(client)] if client else plan.detected(CLIENTS, place)
    if not chosen:
        fail(f"no client was found here. Name one with --client: {', '.join(CLIENTS)}.")
    if http is None and auth:
        fail("--auth goes with --http.")

    asks = not (yes or dry_run) and sys.stdin.isatty()
    with_hooks = _wanted(hooks, asks and _have_hooks(chosen), "Add hooks that guard edits?")
    with_guard = _wanted(guard, asks, "Add a git hook that guards commits?")
    launch = launching.find(place.environment.get("PATH"))
    receipts = Receipts.of(place.home, place.environment)
    try:
        choice = plan.Choice(
            clients=chosen,
            scope=scope,
            url=plan.server_url(http) if http is not None else None,
            auth=auth,
            profile=profile,
            instructions=instructions and scope != "user",
            hooks=with_hooks,
        )
        if not client:
            choice, left_out = plan.feasible(choice, launch, place)
            for reason in left_out:
                typer.echo(f"Left out: {reason}")
        wishes = list(plan.wishes(choice, launch, place))
    except ValueError as error:
        fail(str(error))
    steps = plan.putting_in(wishes, receipts, place, (repository.worktree, repository.root))

    typer.echo(f"Repository: {repository.worktree}, project {repository.project_id}")
    if http is None:
        typer.echo(f"Command: {launch.line('serve')} ({launch.why})")
    _show(steps, place)
    changes = any(step.change is not None and not step.change.is_none for step in steps)
    failed = any(step.refused for step in steps)
    if dry_run:
        typer.echo("\nNothing was changed: this was a dry run.")
    elif changes or with_guard:
        _confirm(yes)
        failed |= _report(plan.put_in(steps, receipts), place, "written")
        if changes:
            typer.echo(f"The files as they were are kept in {receipts.folder}.")
        if with_guard:
            failed |= not _guard(receipts, repository.worktree)
    else:
        typer.echo("\nNothing is to be changed.")
    if not dry_run and not failed:
        _say_what_next(choice.clients, hooks=with_hooks, guard=with_guard)
    if failed:
        raise typer.Exit(1)


def uninstall(scope: ScopeOption = None, dry_run: DryRunOption = False, yes: YesOption = False) -> None:
    """Take out of the clients' files what init has put into them from this repository.

    A file that nobody has changed since is again what it was, byte for byte. The store stays where it is.
    With --scope user, what init has put into your own files from any repository goes.
    """
    from callboard.cli.setup import plan
    from callboard.cli.setup.receipts import Receipts

    repository, place = _here()
    receipts = Receipts.of(place.home, place.environment)
    steps = plan.taking_out(receipts, place, scope)
    guarded = scope != "user" and receipts.has_guard(repository.worktree)
    if not steps and not guarded:
        typer.echo("Nothing is to be taken out: init has put nothing in from here.")
        return
    _show(steps, place)
    if guarded:
        typer.echo("\nThe guard before commits and pushes goes.")
    if dry_run:
        typer.echo("\nNothing was changed: this was a dry run.")
        return
    _confirm(yes)
    failed = any(step.refused for step in steps)
    failed |= _report(plan.take_out(steps, receipts), place, "taken out")
    if guarded:
        failed |= not _unguard(receipts, repository.worktree)
    if repository.store.exists():
        typer.echo(f"The store stays: {repository.store}.")
    if failed:
        raise typer.Exit(1)


def _here() -> "tuple[Repository, Place]":
    from callboard.cli.setup.clients import Place

    try:
        repository = Repository.find(Path.cwd())
        home = Path.home()
    except (ValueError, RuntimeError) as error:
        fail(str(error))
    return repository, Place(home, repository.worktree, os.environ)


def _have_hooks(clients: "Sequence[Client]") -> bool:
    from callboard.cli.setup import hooks

    return any(client.name in hooks.FORMS for client in clients)


def _wanted(given: bool | None, asks: bool, question: str) -> bool:
    return typer.confirm(question, default=True) if given is None and asks else bool(given)


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail("nothing was changed: confirm with --yes, or look first with --dry-run.")
    if not typer.confirm("\nGo on?", default=True):
        fail("nothing was changed.")


def _show(steps: "list[Step]", place: "Place") -> None:
    """What each step will do, as a person reads it."""
    for step in steps:
        name = spoken(step.path, place)
        why = f": {step.why}" if step.why else ""
        if step.refused is not None or step.change is None:
            typer.echo(f"\n{name}{why}\n  left alone: {step.refused}.")
        elif step.change.is_none:
            typer.echo(f"\n{name}{why}\n  as it should be")
        else:
            new = " (new file)" if step.change.before is None else ""
            gone = " (the file goes)" if step.change.after is None else ""
            others = " (changed since; only what was put in goes)" if step.touched else ""
            typer.echo(f"\n{name}{new}{gone}{others}{why}")
            if step.change.after is not None:
                for line in step.change.shown():
                    typer.echo(f"  {line}")


def _report(done: "Iterator[tuple[Step, str | None]]", place: "Place", word: str) -> bool:
    """Say what became of each step; whether any failed."""
    typer.echo("")
    failed = False
    for step, error in done:
        failed |= error is not None
        typer.echo(f"{spoken(step.path, place)}: {word if error is None else f'left alone, {error}'}.")
    return failed


def _guard(receipts: "Receipts", worktree: Path) -> bool:
    """Put the guard before commits and pushes, unless it stands there; whether that worked."""
    try:
        if not installing.is_installed(worktree):
            for hook, _ in installing.install(worktree):
                typer.echo(f"The guard stands in {hook}.")
            receipts.keep_guard(worktree)
    except (installing.NotPlaced, OSError) as error:
        typer.echo(f"No guard was put in: {error}")
        return False
    return True


def _unguard(receipts: "Receipts", worktree: Path) -> bool:
    """Take out the guard that init has put in; whether that worked."""
    try:
        for hook, _ in installing.uninstall(worktree):
            typer.echo(f"The guard is out of {hook}.")
    except (installing.NotPlaced, OSError) as error:
        typer.echo(f"The guard was not taken out: {error}")
        return False
    receipts.drop_guard(worktree)
    return True


def _say_what_next(clients: "Sequence[Client]", *, hooks: bool, guard: bool) -> None:
    typer.echo("\nNext:")
    for client in clients:
        typer.echo(f"  {client.label}: {client.next_step}")
    if _have_hooks(clients) and not hooks:
        typer.echo("  callboard init --hooks adds hooks that refuse edits of what another agent holds")
    if not guard:
        typer.echo("  callboard guard install does the same for commits")
    typer.echo("  callboard doctor says whether all of it works")


def spoken(path: Path, place: "Place") -> str:
    """A file's name as a person would say it here."""
    if path.is_relative_to(place.repository):
        return str(path.relative_to(place.repository))
    return f"~/{path.relative_to(place.home)}" if path.is_relative_to(place.home) else str(path)
