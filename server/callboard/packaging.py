"""What registries and hosts are told of the package: `server.json` and the manifest of an MCP bundle.

Its one idea: both are derived, the version from the package and the tools from the catalogue, so that what
is installed is what was announced. The formats are those of the MCP registry (server.json, 2025-12-11) and
of MCP bundles (manifest 0.4).
"""

from pathlib import Path
from typing import Any

from callboard import __version__
from callboard.catalog import CATALOG

LISTING = Path("server.json")
BUNDLE = Path("packaging") / "mcpb" / "manifest.json"

NAME = "io.github.callboard/callboard"
"""The name in the registry. README.md repeats it: so the registry knows that the package is its owner's."""

SAYS = "Coordinates crews of coding agents: who is here, who may edit which file, what happened."

ENVIRONMENT: tuple[dict[str, Any], ...] = (
    {
        "name": "CALLBOARD_DB",
        "description": "The store's file, where it is not .callboard/board.db in the repository.",
        "format": "filepath",
    },
    {"name": "CALLBOARD_AGENT", "description": "Bind the server to one agent."},
    {
        "name": "CALLBOARD_TOKEN_FILE",
        "description": "A file with a bearer token, for whom the server then acts.",
        "format": "filepath",
    },
    {
        "name": "CALLBOARD_TOOLSETS",
        "description": "Profiles (core, lead, all) and toolsets, by commas.",
        "default": "all",
    },
    {
        "name": "CALLBOARD_READ_ONLY",
        "description": "Offer no tool that writes.",
        "format": "boolean",
        "default": "false",
    },
    {
        "name": "CALLBOARD_DURABILITY",
        "description": "full survives a power cut; normal is faster.",
        "choices": ["full", "normal"],
        "default": "full",
    },
)
"""What `callboard serve` reads from its environment."""


def listing() -> dict[str, Any]:
    """server.json: where the registry's readers find the package, and how a client starts it."""
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": NAME,
        "title": "callboard",
        "description": SAYS,
        "version": __version__,
        "packages": [
            {
                "registryType": "pypi",
                "identifier": "callboard",
                "version": __version__,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "packageArguments": [{"type": "positional", "value": "serve"}],
                "environmentVariables": list(ENVIRONMENT),
            }
        ],
    }


def bundle() -> dict[str, Any]:
    """The manifest of the MCP bundle. The host brings Python and the dependencies by uv, since compiled ones
    cannot be shipped for every platform; only the tools are named that an agent is offered."""
    return {
        "manifest_version": "0.4",
        "name": "callboard",
        "display_name": "callboard",
        "version": __version__,
        "description": SAYS,
        "author": {"name": "The callboard contributors"},
        "license": "MIT",
        "keywords": ["agents", "coordination", "locks", "tasks", "messages"],
        "server": {
            "type": "uv",
            "entry_point": "server/callboard/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": [
                    *("run", "--directory", "${__dirname}"),
                    *("callboard", "serve", "--folder", "${user_config.folder}"),
                ],
                "env": {
                    "CALLBOARD_TOOLSETS": "${user_config.toolsets}",
                    "CALLBOARD_READ_ONLY": "${user_config.read_only}",
                },
            },
        },
        "user_config": {
            "folder": {
                "type": "directory",
                "title": "Repository",
                "description": "The checkout that the agents work on; the store is kept in it.",
                "required": True,
            },
            "toolsets": {
                "type": "string",
                "title": "Tools",
                "description": "Profiles (core, lead, all) and toolsets, by commas.",
                "default": "all",
            },
            "read_only": {
                "type": "boolean",
                "title": "Read only",
                "description": "Offer no tool that writes.",
                "default": False,
            },
        },
        "tools": [
            {"name": tool.name, "description": tool.description.split("\n\n")[0].replace("\n", " ")}
            for tool in CATALOG
            if tool.who != "human"
        ],
        "prompts_generated": True,
        "compatibility": {"platforms": ["darwin", "linux"], "runtimes": {"python": ">=3.11"}},
    }
