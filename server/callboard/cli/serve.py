"""`callboard serve`: the server, over the pipe of one client or over HTTP for many."""

import gc
import logging
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import typer

from callboard.board import Board, Config, open_board
from callboard.cli.common import DbOption, fail, first_of, secret_from
from callboard.errors import Refused
from callboard.storefile import Unusable

Durability = Literal["full", "normal"]
Loop = Literal["auto", "asyncio"]


def serve(
    http: Annotated[
        str | None,
        typer.Option(metavar="[HOST:PORT]", help="Serve HTTP instead of stdio. Default: 127.0.0.1:8765."),
    ] = None,
    db: DbOption = None,
    folder: Annotated[
        Path | None, typer.Option(help="A folder of the repository, where a client starts this elsewhere.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(envvar="CALLBOARD_AGENT", help="Bind this process to one agent.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="CALLBOARD_TOKEN_FILE",
            help="Act for whom the token in this file stands. Or CALLBOARD_TOKEN.",
        ),
    ] = None,
    auth: Annotated[bool, typer.Option("--auth", help="HTTP: every request needs a bearer token.")] = False,
    public_url: Annotated[
        str | None, typer.Option(help="HTTP: the https URL of the TLS terminator in front.")
    ] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="HTTP: one more Host to answer to.")] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="HTTP: one more Origin to answer to.")
    ] = None,
    toolsets: Annotated[
        str,
        typer.Option(envvar="CALLBOARD_TOOLSETS", help="Profiles (core, lead, all) and toolsets, by commas."),
    ] = "all",
    read_only: Annotated[
        bool, typer.Option("--read-only", envvar="CALLBOARD_READ_ONLY", help="Offer no tool that writes.")
    ] = False,
    durability: Annotated[
        Durability,
        typer.Option(envvar="CALLBOARD_DURABILITY", help="full survives a power cut; normal is faster."),
    ] = "full",
    lock_delay: Annotated[
        float | None,
        typer.Option(
            min=0, max=5, help="Seconds that a path rests after a lease was lost. Kept in the store."
        ),
    ] = None,
    renew: Annotated[
        bool, typer.Option(help="Renew the leases of connected stdio agents while their client lives.")
    ] = True,
    channel: Annotated[
        bool,
        typer.Option(
            "--channel", help="stdio, one agent: push its new messages to Claude Code. Experimental."
        ),
    ] = False,
    loop: Annotated[
        Loop, typer.Option(help="The event loop: auto takes uvloop where it is installed.")
    ] = "auto",
    allow_network: Annotated[
        bool, typer.Option("--allow-network-fs", help="Accept a network file system, at the price of speed.")
    ] = False,
) -> None:
    """Serve agents: over stdio for the client that starts this, or over HTTP with --http."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="callboard: %(levelname)s %(name)s: %(message)s"
    )
    config = Config(
        db=db,
        folder=folder or Path.cwd(),
        transport="stdio" if http is None else "http",
        agent=agent,
        token=secret_from(token_file),
        durability=durability,
        toolsets=tuple(toolsets.split(",")),
        read_only=read_only,
        allow_network=allow_network,
        renew=renew,
    )

    async def run() -> None:
        async with open_board(config) as board, anyio.create_task_group() as tasks:
            tasks.start_soon(_until_signalled, tasks.cancel_scope)
            tasks.start_soon(board.keep)
            if lock_delay is not None:
                await board.set_lock_delay(lock_delay)
            if http is None:
                await _serve_stdio(board, channel)
            elif channel:
                raise ValueError("--channel pushes over the pipe of one client; over HTTP there is none.")
            else:
                await _serve_http(board, http, auth, public_url, allow_host or [], allow_origin or [])
            tasks.cancel_scope.cancel()

    try:
        anyio.run(run, backend_options={"use_uvloop": loop == "auto" and find_spec("uvloop") is not None})
    except* (Unusable, ValueError, Refused, OSError) as group:
        first = first_of(group)
        message = " ".join(filter(None, (str(first), getattr(first, "hint", None))))
    else:
        return
    fail(message)


async def _until_signalled(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return


def _started() -> None:
    """From here on garbage is looked for, but not in what the start has made: that stays, and to go through
    its hundred thousand objects again and again would each time hold up every call."""
    gc.freeze()
    gc.enable()


def _said(board: Board, where: str, trust: str) -> None:
    """The start line, for the person or the log that started this."""
    info = board.store.info
    born = " (new)" if info.created else ""
    typer.echo(
        f"callboard: serving {where}, store {info.path}{born}, "
        f"durability {board.store.durability}, trust {trust}",
        err=True,
    )


async def _serve_stdio(board: Board, pushed: bool) -> None:
    from callboard import stdio
    from callboard.channel import Channel
    from callboard.mcp_server import CallboardServer

    channel = Channel(board) if pushed else None
    server = CallboardServer(board, channel=channel)
    _started()
    _said(board, "stdio", "L1" if board.principal else "L0")
    async with anyio.create_task_group() as tasks:
        if channel is not None:
            tasks.start_soon(channel.run)
        await stdio.serve(server)
        tasks.cancel_scope.cancel()


async def _serve_http(
    board: Board, address: str, auth: bool, public_url: str | None, hosts: list[str], origins: list[str]
) -> None:
    from callboard import http
    from callboard.http import metrics
    from callboard.mcp_server import CallboardServer, auth_settings

    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"--http takes HOST:PORT, not {address}.")
    settings = http.HttpSettings(
        host=host.strip("[]") or "127.0.0.1",
        port=int(port),
        auth=auth,
        public_url=public_url,
        extra_hosts=tuple(hosts),
        extra_origins=tuple(origins),
    )
    http.check_bind(settings)
    own_url = public_url or f"http://{address}"
    server: Any = CallboardServer(board, auth=auth_settings(own_url) if auth else None)
    measured = metrics.route(board, auth=auth)
    app = http.build_app(server, settings, health=board.health, more=[measured])

    def ready(url: str) -> None:
        _started()
        _said(board, f"{url}/mcp", "L1" if auth else "L0")

    await http.serve(app, settings, ready=ready)
