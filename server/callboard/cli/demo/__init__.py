"""`callboard demo`: a short story of three agents on one repository, played by real clients and servers.

`story` is what is played, `stage` where, `play` how, and `telling` what a person sees of it.
"""

import signal
from typing import Annotated

import anyio
import typer


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder behind, and say where.")] = False,
) -> None:
    """Play a short story of three agents on one repository.

    Ends with 0 if each answer came out as told, in about ten seconds and at most sixty.
    """
    # Imported here, as no other command needs an MCP client.
    from rich.console import Console

    from callboard.cli.demo.play import perform
    from callboard.cli.demo.story import STORY

    async def run() -> int:
        code = 1
        async with anyio.create_task_group() as tasks:

            async def until_signalled() -> None:
                nonlocal code
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                    async for number in signals:
                        # From here on all that was started is ended; further signals change nothing.
                        code = 128 + number
                        tasks.cancel_scope.cancel()

            tasks.start_soon(until_signalled)
            if await perform(STORY, Console(highlight=False), keep=keep):
                code = 0
            tasks.cancel_scope.cancel()
        return code

    try:
        code = anyio.run(run)
    except* SystemExit:
        code = 1  # rich ends the play so when nobody reads it any more, as after `| head`
    raise typer.Exit(code)
