"""What a tool is: one typed function, described for agents.

The signature is the schema, the docstring the description, the return type the result. The decorator
only describes; what is offered stands in `catalog.py`.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model

from callboard.errors import Refused
from callboard.frames import RESULT_BYTES
from callboard.identity import Caller
from callboard.params import CallerId, PathText, RequestKey
from callboard.store import Tx

P = ParamSpec("P")
R = TypeVar("R")

Who = Literal["anyone", "any", "lead", "human"]
"""Who may call: anyone at all; any agent on the roster; the lead of a crew; a human."""

Profile = Literal["core", "lead", "all"]
"""The smallest profile that has the tool: what one working agent needs, what a lead needs, everything."""


class Result(BaseModel):
    """What a tool answers. A field that may be absent defaults to None and is then left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Arguments(BaseModel):
    """What a tool is called with: nothing unknown, nothing coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    agent_id: CallerId | None = None

    def given(self) -> dict[str, Any]:
        """The operation's own arguments, as its keyword arguments."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in ENVELOPE}


ENVELOPE = ("agent_id", "request_key")
"""Arguments that every tool takes and that the operation itself does not see, unless its own signature
names the request key."""


class NotYet(NamedTuple):
    """The answer of an operation that may wait, while what it waits for has not come.

    What the attempt wrote (a place in a queue) is kept. The caller then sleeps outside any transaction
    until something is told on the tool's topic and `ready`, which only looks, finds the operation worth
    running again; by `again_boot_ms` it is run again in any case. `give_up` ends the wait after that
    many milliseconds, in the transaction of the last attempt or, when the call is cancelled, in one of
    its own: it takes back what the attempts kept and returns what the caller is answered.
    """

    again_boot_ms: int
    ready: Callable[[Tx], bool]
    give_up: Callable[[Tx, int], Any]


@dataclass(frozen=True)
class Tool(Generic[P, R]):
    """One operation with everything that is published about it.

    What follows from the signature is worked out when it is first asked for: a server answers its first
    request without having built the models and schemas of tools that nobody has called or listed yet.
    """

    function: Callable[P, R]
    toolset: str
    who: Who
    profile: Profile
    writes: bool
    idempotent: bool
    destructive: bool
    waits_on: str | None
    audited: bool
    searches: str | None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").capitalize()

    @cached_property
    def description(self) -> str:
        return inspect.cleandoc(self.function.__doc__ or "")

    @cached_property
    def arguments(self) -> type[Arguments]:
        """The model that a call's arguments are validated by."""
        fields: dict[str, Any] = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            if self._hints[name] in (Tx, Caller):
                continue
            required = parameter.default is inspect.Parameter.empty
            fields[name] = (self._hints[name], ... if required else parameter.default)
        if self.writes:
            fields["request_key"] = (RequestKey | None, None)
        return create_model(_camel(self.name), __base__=Arguments, **fields)

    @cached_property
    def keyed(self) -> bool:
        """Whether the operation itself is given the request key."""
        return "request_key" in self._hints

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The arguments that hold paths, however deep."""
        return tuple(name for name, hint in self._hints.items() if name != "return" and _mentions_path(hint))

    @cached_property
    def result(self) -> TypeAdapter[Any]:
        return TypeAdapter(_without_refusals(self._hints["return"]))

    @cached_property
    def input_schema(self) -> Mapping[str, Any]:
        return portable(self.arguments.model_json_schema())

    @cached_property
    def output_schema(self) -> Mapping[str, Any]:
        return _with_envelope(portable(self.result.json_schema(mode="serialization")), self.writes)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function, include_extras=True)

    def dump(self, result: object) -> dict[str, Any]:
        """The result as the plain object that is sent; what is absent is left out."""
        return typing.cast(
            dict[str, Any],
            self.result.dump_python(result, mode="json", by_alias=True, exclude_none=True),
        )


def tool(
    *,
    writes: bool = False,
    idempotent: bool | None = None,
    destructive: bool = False,
    who: Who = "any",
    profile: Profile = "all",
    toolset: str | None = None,
    waits_on: str | None = None,
    audited: bool = False,
    searches: str | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]:
    """Describe an operation `(tx, caller, …) -> result` as a tool.

    `idempotent` means that the same call again changes nothing more (a tool that only reads is);
    `destructive` that it may take away what others have. `toolset` is the domain's name unless given;
    `waits_on` is the topic of a tool that waits up to its argument `wait_seconds`. `audited` lets a tool
    that only reads write to the ledger what a human read; `searches` names the argument whose words are
    looked for in the ledger, which is then brought up to date first. An operation that names `request_key`
    is given it, to keep with what it writes.
    """

    def describe(function: Callable[P, R]) -> Tool[P, R]:
        return Tool(
            function=function,
            toolset=toolset or function.__module__.split(".")[2],
            who=who,
            profile=profile,
            writes=writes,
            idempotent=not writes if idempotent is None else idempotent,
            destructive=destructive,
            waits_on=waits_on,
            audited=audited,
            searches=searches,
        )

    return describe


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _mentions_path(annotation: Any) -> bool:
    if any(isinstance(mark, PathText) for mark in getattr(annotation, "__metadata__", ())):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return any(_mentions_path(hint) for hint in hints.values())
    return any(_mentions_path(part) for part in typing.get_args(annotation))


def _without_refusals(annotation: Any) -> Any:
    """The result among the types that an operation may return: refusals that keep something, and
    "not yet", never reach an agent as results."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = [
        kind
        for kind in (typing.get_args(annotation) if union else (annotation,))
        if not (isinstance(kind, type) and issubclass(kind, Refused | NotYet))
    ]
    if len(kinds) != 1:
        raise TypeError(f"a tool returns one type of result, not {kinds}")
    return kinds[0]


def _with_envelope(schema: dict[str, Any], writes: bool) -> dict[str, Any]:
    """The facts that may accompany any result."""
    schema["properties"] |= {
        "unread": {"type": "integer", "description": "Messages that wait in your inbox"},
        "sanitized": {
            "type": "object",
            "description": "What was taken out of the text above, by kind",
            "additionalProperties": {"type": "integer"},
        },
    }
    if writes:
        schema["properties"]["replayed"] = {
            "type": "boolean",
            "description": "True for the stored result of an earlier call with this request_key",
        }
    return schema


COPIED_FROM = 2**31
"""Whole numbers that may be this large are ids, fences and cursors: copied from answers, not chosen, so
that their range need not be published."""


def portable(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that every client reads: closed and flat, no references, no unions, no titles; an
    optional argument is one that may be absent.

    Raises TypeError for what cannot be written that way (recursion, real unions).
    """
    definitions = schema.pop("$defs", {})

    def flat(node: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [flat(item, inside) for item in node]
        if not isinstance(node, dict):
            return node
        if (reference := node.get("$ref")) is not None:
            name = reference.rpartition("/")[2]
            if name in inside:
                raise TypeError(f"{name} is recursive")
            beside = {key: value for key, value in node.items() if key != "$ref"}
            return flat(definitions[name], (*inside, name)) | beside
        if (options := node.get("anyOf")) is not None:
            present = [option for option in options if option != {"type": "null"}]
            if len(present) != 1:
                raise TypeError("a union of several types cannot be published")
            beside = {key: value for key, value in node.items() if key not in ("anyOf", "default", "title")}
            return flat(present[0], inside) | flat(beside, inside)
        clean: dict[str, Any] = {}
        for key, value in node.items():
            if key == "title" and isinstance(value, str):
                continue
            if key == "items" and "description" in node and isinstance(value, dict):
                value = {name: fact for name, fact in value.items() if name != "description"}
            if key == "properties":
                clean[key] = {name: flat(item, inside) for name, item in value.items()}
            else:
                clean[key] = flat(value, inside)
        if clean.get("type") == "object" and "properties" in clean:
            clean["additionalProperties"] = False
        if clean.get("additionalProperties") is True:
            del clean["additionalProperties"]  # what a schema allows that says nothing
        if "default" in clean and clean["default"] in ("", 0, None):
            del clean["default"]  # to leave it out says as much
        if clean.get("type") == "integer" and clean.get("maximum", 0) >= COPIED_FROM:
            del clean["maximum"], clean["minimum"]
        return clean

    return typing.cast(dict[str, Any], flat(schema, ()))


E = TypeVar("E", bound=Result)


def fitted(entries: list[E], limit: int) -> tuple[list[E], bool]:
    """The entries that one reply can carry, at least one, and whether there are more of them. The
    caller has read one entry more than `limit`."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.model_dump_json(exclude_none=True).encode())
        if count == limit or (count and size > RESULT_BYTES):
            return entries[:count], True
    return entries, False
