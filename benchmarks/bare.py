"""The yardstick: a server of one tool that gives back its one argument, on the same SDK, as small as can be.

    python benchmarks/bare.py stdio
    python benchmarks/bare.py http

What callboard costs over it is what callboard costs. Over HTTP it runs under the same uvicorn with the same
parser, and prints its URL as callboard does.
"""

import asyncio
import socket
import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("bare", log_level="WARNING")


@server.tool()
async def echo(text: str) -> str:
    """Give back a text."""
    return text


async def over_http() -> None:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        server.streamable_http_app(), http="h11", ws="none", log_level="warning", access_log=False
    )
    print(f"serving http://127.0.0.1:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        asyncio.run(over_http())
    else:
        server.run("stdio")
