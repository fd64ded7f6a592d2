"""Starts the `callboard` that is installed beside this Python, and lists its tools as a client does."""

import json
import sys
import tempfile
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters

INDEX = Path(__file__).parent.parent / "tool_manifests" / "index.json"


async def main() -> None:
    command = str(Path(sys.executable).with_name("callboard"))
    with tempfile.TemporaryDirectory() as folder, anyio.fail_after(60):
        async with Client(StdioServerParameters(command=command, args=["serve"], cwd=folder)) as client:
            listed = [tool.name for tool in (await client.list_tools()).tools]
    wanted = [name for name in json.loads(INDEX.read_text())["profiles"]["all"]["tools"] if name in listed]
    if not listed or listed != wanted:
        sys.exit(f"the installed callboard lists {listed}")
    print(f"{command} serve lists {len(listed)} tools")


anyio.run(main)
