"""The yardstick: a server of one tool that does nothing, on the same SDK, as small as one can be written.

    python benchmarks/bare.py stdio
    python benchmarks/bare.py http

What callboard costs over it is what callboard costs. Over HTTP it prints its URL, as callboard does.
"""

import asyncio
import socket
import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("bare", log_level="WARNING")


@server.tool()
async def nothing(agent_id: str) -> dict[str, str]:
    """Do nothing."""
    return {"agent_id": agent_id}


async def over_http() -> None:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    web = uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning", access_log=False))
    print(f"serving http://127.0.0.1:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
    await web.serve(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        asyncio.run(over_http())
    else:
        server.run("stdio")
