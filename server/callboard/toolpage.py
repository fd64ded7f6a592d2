"""The tools as people read of them: the table of the README, and the page of all their arguments.

Its one idea: nothing is said of a tool here that its signature and docstring do not say; what every tool
takes and answers is told once, at the head of the page.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from callboard.catalog import CATALOG, TOOLSETS
from callboard.tool import ENVELOPE, Tool

CONTRACTS = "tool_manifests"
"""The folder of the tools' contracts, from the root of a checkout."""

WHO: Mapping[str, str] = {
    "anyone": "anyone",
    "any": "any agent",
    "lead": "the lead, a human",
    "human": "a human",
}
MARKS: Mapping[str, str] = {"core": "●", "lead": "○", "all": ""}
EVERY_ANSWER = ("unread", "sanitized", "replayed")
"""What `tool.py` adds to the result of every tool."""

Schema = Mapping[str, Any]

_HEAD = f"""\
# Tools

Generated from the code by `callboard manifests --write`.

{len(CATALOG)} tools. A server offers all of them, or the profiles and toolsets that `--toolsets` names:
● is in the profile `core`, ○ joins it in `lead`. A tool's contract is what `tools/list` sends of it.

Every tool takes `agent_id`, the name of the caller, which a token or a server bound to an agent says too.
A tool that writes takes `request_key`: the call repeated with the same key has one effect, and is answered
what it was answered first, with `replayed`. Beside its result an answer may have `unread`, the number of
messages that wait for the caller, and `sanitized`, what was taken out of the text, by kind.

A result that is marked `?` is left out where there is nothing to say. A list that is too long for one
answer ends with `next_after_id`, to be given as `after_id` for the rest.
"""


def table() -> str:
    """The README's table of tools."""
    lines = [f"{len(CATALOG)} tools. ● is in the profile `core`, ○ joins it in `lead`, all are in `all`."]
    for toolset in TOOLSETS:
        lines += ["", f"### {toolset}", "", "| | tool | who | what it does |", "|---|---|---|---|"]
        for tool in _of(toolset):
            named = f"[`{tool.name}`]({CONTRACTS}/{tool.name}.json)"
            what = _paragraphs(tool)[0].replace("|", "\\|")
            lines.append(f"| {MARKS[tool.profile]} | {named} | {WHO[tool.who]} | {what} |")
    return "\n".join(lines)


def page() -> str:
    """docs/tools.md: who may call each tool, what it takes and what it answers."""
    lines = [_HEAD, "| toolset | tools |", "|---|---|"]
    for toolset in TOOLSETS:
        named = ", ".join(f"[`{tool.name}`](#{tool.name})" for tool in _of(toolset))
        lines.append(f"| [{toolset}](#{toolset}) | {named} |")
    for toolset in TOOLSETS:
        lines += ["", f"## {toolset}"]
        for tool in _of(toolset):
            lines += ["", *_section(tool)]
    return "\n".join(lines) + "\n"


def _of(toolset: str) -> Iterator[Tool[..., Any]]:
    return (tool for tool in CATALOG if tool.toolset == toolset)


def _paragraphs(tool: Tool[..., Any]) -> list[str]:
    return [paragraph.replace("\n", " ") for paragraph in tool.description.split("\n\n")]


def _section(tool: Tool[..., Any]) -> Iterator[str]:
    yield f"### {tool.name}"
    yield ""
    for paragraph in _paragraphs(tool):
        yield _escaped(paragraph)
        yield ""
    yield f"{MARKS[tool.profile]} [Contract](../{CONTRACTS}/{tool.name}.json). {_manner(tool)}".lstrip()
    if own := list(_arguments(tool.input_schema, "")):
        yield from ("", "| argument | | what it is |", "|---|---|---|", *own)
    answers = {
        name: field for name, field in tool.output_schema["properties"].items() if name not in EVERY_ANSWER
    }
    yield from ("", f"Answers {_fields(answers, tool.output_schema)}.")
    if inner := list(_inner(answers)):
        yield from ("", *inner)


def _manner(tool: Tool[..., Any]) -> str:
    """Who may call a tool, and what calling it does, in a sentence or two."""
    does = "writes" if tool.writes else "only reads"
    if tool.destructive:
        does += ", and may take away what others have"
    if tool.waits_on is not None:
        does += ", and may wait"
    return f"For {WHO[tool.who]}; it {does}."


def _arguments(schema: Schema, within: str) -> Iterator[str]:
    """The rows of an object's arguments, each followed by those of the objects in it."""
    required = schema.get("required", ())
    for name, argument in schema["properties"].items():
        if not within and name in ENVELOPE:
            continue
        facts = [_kind(argument)]
        if name in required:
            facts.append("required")
        if "default" in argument:
            facts.append(f"default `{_literal(argument['default'])}`")
        yield f"| `{within}{name}` | {', '.join(facts)} | {_escaped(argument.get('description', ''))} |"
        inner = argument.get("items", argument)
        if "properties" in inner:
            yield from _arguments(inner, f"{within}{name}.")


def _kind(schema: Schema) -> str:
    """What a value may be, with its bounds."""
    if "enum" in schema:
        return " or ".join(f"`{_literal(value)}`" for value in schema["enum"])
    match schema["type"]:
        case "array":
            many = _bounds(schema, "minItems", "maxItems")
            return f"list{many and f' ({many})'} of {_kind(schema['items'])}"
        case "object":
            many = _bounds(schema, "minProperties", "maxProperties")
            held = schema.get("additionalProperties")
            of = f" of {_kind(held)}" if isinstance(held, Mapping) else ""
            return f"object{many and f' ({many})'}{of}"
        case "string":
            bounds = _bounds(schema, "minLength", "maxLength")
        case _:
            bounds = _bounds(schema, "minimum", "maximum")
    return f"{schema['type']}, {bounds}" if bounds else schema["type"]


def _bounds(schema: Schema, least: str, most: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    if high is not None:
        return f"at most {high:,}"
    return f"at least {low:,}" if low is not None else ""


def _literal(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _fields(properties: Mapping[str, Schema], schema: Schema) -> str:
    """Some fields of an object, one after the other, each with what is to be said of it."""
    required, told = schema.get("required", ()), []
    for name, field in properties.items():
        says = _escaped(field.get("description", ""))
        told.append(f"`{name}`{'' if name in required else '?'}{says and f' ({says[:1].lower()}{says[1:]})'}")
    return ", ".join(told)


def _inner(properties: Mapping[str, Schema], within: str = "") -> Iterator[str]:
    """What the fields hold that are objects or lists of objects, a line for each, the inner ones behind."""
    for name, field in properties.items():
        held = field.get("items", field)
        if inner := held.get("properties"):
            path = f"{within}{name}"
            yield f"- `{path}`{', each' if 'items' in field else ''}: {_fields(inner, held)}"
            yield from _inner(inner, f"{path}.")


def _escaped(text: str) -> str:
    """Text in which nothing is markup."""
    return re.sub(r"([\\|*<\[])", r"\\\1", text)
