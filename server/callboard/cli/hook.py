"""`callboard hook`: what coding clients run around their agents' work."""

from typing import Annotated

import typer

from callboard.guards import entry
from callboard.guards.clients import CLIENTS, OCCASIONS


def hook(
    client: Annotated[str, typer.Argument(help=f"One of {', '.join(CLIENTS)}.")],
    event: Annotated[str, typer.Argument(help=f"One of {', '.join(OCCASIONS)}.")],
) -> None:
    """Answer a client's hook; it sends its JSON to standard input. Never ends badly: what cannot be checked
    passes, with a line on standard error."""
    entry.hook(client, event)
