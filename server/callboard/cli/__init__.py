"""The command line: for people and scripts, and the way in for every client."""

import sys
from typing import Annotated

import typer

from callboard import __version__
from callboard.cli import (
    audit,
    backup,
    call,
    decisions,
    demo,
    doctor,
    dump,
    generate,
    guard,
    hook,
    importing,
    projects,
    prune,
    serve,
    settings,
    setup,
    tokens,
)
from callboard.cli.views import lists, mail, status, tail, tasks, watch

DEFAULT_HTTP = "127.0.0.1:8765"

app = typer.Typer(
    name="callboard",
    help="Coordinate crews of coding agents: file locks, who is here, what happened.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("init")(setup.init)
app.command("uninstall")(setup.uninstall)
app.command("doctor")(doctor.doctor)
app.command("status")(status.status)
app.command("watch")(watch.watch)
app.command("agents")(lists.agents)
app.command("tasks")(tasks.tasks)
app.command("locks")(lists.locks)
app.command("inbox")(mail.inbox)
app.command("send")(mail.send)
app.command("groups")(lists.groups)
app.command("knowledge")(lists.knowledge)
app.command("search")(lists.search)
app.command("costs")(lists.costs)
app.command("tail")(tail.tail)
app.command("call")(call.call)
app.command("demo")(demo.demo)
app.command("hook")(hook.hook)
app.add_typer(guard.app, name="guard")
app.add_typer(tokens.app, name="token")
app.add_typer(decisions.app, name="decisions")
app.add_typer(projects.app, name="projects")
app.add_typer(settings.app, name="settings")
app.command("backup")(backup.back_up)
app.command("restore")(backup.restore)
app.command("integrity")(backup.check)
app.command("export")(dump.export)
app.command("import")(importing.load)
app.command("prune")(prune.prune)
app.add_typer(audit.app, name="audit")
app.command("manifests")(generate.manifests)
app.command("schema")(generate.schema_page)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"callboard {__version__}")
        raise typer.Exit


@app.callback()
def _callboard(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Coordinate crews of coding agents: file locks, who is here, what happened."""


def main() -> None:
    """Run the command line. `--http` may stand without an address."""
    arguments = sys.argv[1:]
    if "--http" in arguments:
        after = arguments.index("--http") + 1
        if after == len(arguments) or arguments[after].startswith("-"):
            arguments.insert(after, DEFAULT_HTTP)
    app(arguments)
