"""Arguments as a model sends them: read leniently where nothing is lost, refused in our own words.

Models send a list as the text of a list; that is undone. Nothing else is guessed: an unknown or
misspelt name, a number as text or a fraction for a whole number is refused, with every faulty field
named.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from callboard import text
from callboard.errors import InvalidArguments, TooLarge
from callboard.tool import Arguments, Tool

RULES: Mapping[str, str] = {
    "missing": "is required",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length}",
    "too_long": "takes at most {max_length}",
    "literal_error": "must be one of {expected}",
}
"""Our sentence for each of the validator's findings."""


MOST_FAULTS = 20
"""Faults of one call that are named; a batch of 500 tasks can have thousands."""


def validated(tool: Tool[..., Any], arguments: Mapping[str, Any]) -> Arguments:
    """The arguments as the tool's own type. Raises InvalidArguments, TooLarge."""
    try:
        return tool.arguments.model_validate(_unquoted(tool, arguments))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
    oversized = [fault for fault in faults if fault["type"] == "too_large"]
    if len(oversized) == len(faults):
        first = oversized[0]["ctx"]
        field = _field(oversized[0])
        raise TooLarge(
            f"{field} has {first['size']} {first['unit']}; at most {first['limit']} are taken.",
            field=field,
            **first,
        )
    known = list(tool.input_schema["properties"])
    fields = [_told(fault, known) for fault in faults[:MOST_FAULTS]]
    told = [f"{field['field']} {field['rule']}" for field in fields]
    if more := len(faults) - len(fields):
        told.append(f"and {more} more faults")
    raise InvalidArguments("; ".join(told), fields=fields, more=more or None)


def _unquoted(tool: Tool[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    properties = tool.input_schema["properties"]
    read = dict(arguments)
    for name, value in arguments.items():
        if isinstance(value, str) and properties.get(name, {}).get("type") in ("array", "object"):
            try:
                read[name] = json.loads(value)
            except (ValueError, RecursionError):
                continue  # no JSON that can be read: refused as text where a list or an object belongs
    return read


def _field(fault: ErrorDetails) -> str:
    return text.neutralise(".".join(str(part) for part in fault["loc"])[:200])[0] or "arguments"


def _told(fault: ErrorDetails, known: list[str]) -> dict[str, Any]:
    field = _field(fault)
    context = fault.get("ctx", {})
    if fault["type"] == "extra_forbidden":
        told: dict[str, Any] = {"field": field, "rule": "is not an argument of this tool"}
        if (meant := _meant(field, known)) is not None:
            told["did_you_mean"] = meant
        return told
    if fault["type"] == "too_large":
        return {"field": field, "rule": f"takes at most {context['limit']} {context['unit']}"}
    rule = context.get("rule") or RULES.get(fault["type"], "is not valid").format_map(context)
    return {"field": field, "rule": rule}


def _meant(name: str, known: list[str]) -> str | None:
    """The argument that a name which is none stands for: one spelled nearly so, else one that has the
    name as one of its words, as `ttl_seconds` has `ttl`."""
    if near := text.nearest(name, known, 1):
        return near[0]
    return next((argument for argument in known if name in argument.split("_")), None)
