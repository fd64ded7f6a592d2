"""Manifests: the published contract of every tool, as files that people review.

A manifest is what `tools/list` sends for the tool, and who may call it. The files are generated from the
code and compared with it by the checks, so a change of the surface is always a change of a file.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callboard import __version__, contracts, packaging, toolpage
from callboard.catalog import CATALOG, PROFILES, TOOLSETS, select
from callboard.tool import Tool
from callboard.toolpage import CONTRACTS

TABLE_BEGIN = "<!-- tools:begin -->"
TABLE_END = "<!-- tools:end -->"

PAGE = Path("docs") / "tools.md"

PACKAGED = Path("server") / "callboard" / contracts.FILE.name
"""The contracts where a server reads them."""


def manifest(tool: Tool[..., Any]) -> dict[str, Any]:
    """The contract of one tool."""
    listed = contracts.derived(tool).model_dump(mode="json", by_alias=True, exclude_none=True)
    return listed | {"toolset": tool.toolset, "profile": tool.profile, "who": tool.who}


def tokens(tool: Tool[..., Any]) -> int:
    """What a tool costs an agent to know, in tokens: a quarter of the bytes of what it reads of it."""
    told = (
        tool.name
        + tool.description
        + json.dumps(tool.input_schema, separators=(",", ":"), ensure_ascii=False)
    )
    return -(-len(told.encode()) // 4)


def files() -> dict[str, str]:
    """Every file of the manifest folder, by name."""
    written = {f"{tool.name}.json": _rendered(manifest(tool)) for tool in CATALOG}
    digest = hashlib.sha256("".join(written[name] for name in sorted(written)).encode()).hexdigest()
    index = {
        "version": __version__,
        "digest": f"sha256:{digest}",
        "toolsets": {
            toolset: [tool.name for tool in CATALOG if tool.toolset == toolset] for toolset in TOOLSETS
        },
        "profiles": {
            profile: {
                "tools": list(select([profile])),
                "tokens": sum(tokens(tool) for tool in select([profile]).values()),
            }
            for profile in PROFILES
        },
    }
    return written | {"index.json": _rendered(index)}


def _rendered(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def beside() -> dict[Path, str]:
    """Every other file that is generated whole, by its path from the root of a checkout."""
    return {
        PAGE: toolpage.page(),
        PACKAGED: "".join(map(contracts.line, CATALOG)),
        packaging.LISTING: _rendered(packaging.listing()),
        packaging.BUNDLE: _rendered(packaging.bundle()),
    }


def with_table(readme: str) -> str:
    """The README with its table as it must be. Raises ValueError when it has no place for one."""
    before, begin, rest = readme.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not begin or not end:
        raise ValueError("README.md has lost the marks of its table of tools.")
    return f"{before}{begin}\n{toolpage.table()}\n{end}{after}"


def drift(root: Path) -> list[str]:
    """What differs between the code and the files of a checkout, in sentences."""
    folder = root / CONTRACTS
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    wanted = files()
    found = [f"{CONTRACTS}/{name} is missing" for name in sorted(wanted.keys() - there.keys())]
    found += [f"{CONTRACTS}/{name} belongs to no tool" for name in sorted(there.keys() - wanted.keys())]
    found += [
        f"{CONTRACTS}/{name} has changed"
        for name in sorted(wanted.keys() & there.keys())
        if wanted[name] != there[name]
    ]
    for path, content in beside().items():
        if not (root / path).exists():
            found.append(f"{path} is missing")
        elif (root / path).read_text(encoding="utf-8") != content:
            found.append(f"{path} has changed")
    readme = (root / "README.md").read_text(encoding="utf-8")
    if with_table(readme) != readme:
        found.append("the table of tools in README.md has changed")
    return found


def write(root: Path) -> None:
    """Bring the files of a checkout up to date."""
    folder = root / CONTRACTS
    folder.mkdir(exist_ok=True)
    wanted = files()
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (folder / name).write_text(content, encoding="utf-8")
    for path, content in beside().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content, encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
