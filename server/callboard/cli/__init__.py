"""The command line: for people and scripts, and the way in for every client."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from callboard import __version__

DEFAULT_HTTP = "127.0.0.1:8765"

COMMANDS: Mapping[str, str] = {
    "serve": "serve:serve",
    "init": "setup:init",
    "uninstall": "setup:uninstall",
    "doctor": "doctor:doctor",
    "status": "views.status:status",
    "watch": "views.watch:watch",
    "agents": "views.lists:agents",
    "tasks": "views.tasks:tasks",
    "locks": "views.lists:locks",
    "inbox": "views.mail:inbox",
    "send": "views.mail:send",
    "groups": "views.lists:groups",
    "knowledge": "views.lists:knowledge",
    "search": "views.lists:search",
    "costs": "views.lists:costs",
    "tail": "views.tail:tail",
    "call": "call:call",
    "demo": "demo:demo",
    "hook": "hook:hook",
    "backup": "backup:back_up",
    "restore": "backup:restore",
    "integrity": "backup:check",
    "export": "dump:export",
    "import": "importing:load",
    "prune": "prune:prune",
    "manifests": "generate:manifests",
    "schema": "generate:schema_page",
    "guard": "guard:app",
    "token": "tokens:app",
    "key": "keys:app",
    "decisions": "decisions:app",
    "projects": "projects:app",
    "settings": "settings:app",
    "audit": "audit:app",
}
"""Every command, in the order of the help, and where it is: the module in this package, and there the
function or the group of commands. Only the module of the command that runs is loaded: a server needs none of
the others, which with their libraries take a tenth of its start."""


def _loaded(name: str) -> Any:
    """A command or a group of commands, as the parser of the command line has them."""
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    around = typer.Typer(add_completion=False)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    return typer.main.get_group(around).commands[name]


class _Commands(TyperGroup):
    """The group of all commands, each loaded when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.add_command(_loaded(cmd_name), cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            for name in COMMANDS:  # what a mistyped word is compared with
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="callboard",
    cls=_Commands,
    help="Coordinate crews of coding agents: file locks, who is here, what happened.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


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
