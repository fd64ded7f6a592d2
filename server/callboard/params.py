"""The vocabulary of arguments: each kind of argument is described, bounded and checked once, here.

A description is read by every agent with every list of tools, so it is short; a rule that an argument
breaks is told in our own sentence.
"""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from callboard import text

TEXT_BYTES = 16 * 1024
NAME_CHARACTERS = 200
DEPTH = 32
"""How deep the lists and objects of a JSON argument may be nested."""

AGENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KEBAB_CASE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z")


@dataclass(frozen=True, slots=True)
class Text:
    """A text argument: what it is, how long it may be, and what it must look like.

    Text that cannot be stored and read back (lone surrogates, NUL) is refused everywhere, blank text
    unless `blank`. `most` counts `unit`: bytes of UTF-8, or characters.
    """

    says: str
    most: int = TEXT_BYTES
    unit: Literal["bytes", "characters"] = "bytes"
    blank: bool = False
    form: re.Pattern[str] | None = None
    rule: str = ""

    def check(self, value: str) -> str:
        if (fault := text.fault(value)) is not None:
            raise PydanticCustomError("text", "{rule}", {"rule": fault})
        size = len(value.encode()) if self.unit == "bytes" else len(value)
        if size > self.most:
            raise PydanticCustomError(
                "too_large", "{size} {unit}", {"size": size, "unit": self.unit, "limit": self.most}
            )
        if not self.blank and not value.strip():
            raise PydanticCustomError("blank", "{rule}", {"rule": "must not be blank"})
        if self.form is not None and not self.form.fullmatch(value):
            raise PydanticCustomError("form", "{rule}", {"rule": self.rule})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "description": self.says, "maxLength": self.most}


def _whole(says: str, least: int, most: int) -> Any:
    return Field(description=says, ge=least, le=most, strict=True)


def _formed(says: str, most: int, form: re.Pattern[str], rule: str) -> Text:
    return Text(says, most=most, unit="characters", form=form, rule=rule)


def _agent(says: str) -> Text:
    return _formed(says, 64, AGENT_ID, "must be letters, digits, '.', '_' and '-', not beginning with a mark")


@dataclass(frozen=True, slots=True)
class PathText(Text):
    """A path argument; `dispatch` gives it its canonical name before the operation sees it."""

    most: int = 4096

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            lambda value: RepoPath(self.check(value)), core_schema.str_schema(strict=True)
        )


class RepoPath(str):
    """A path by its canonical repository-relative name, and whether it names a single file: neither a
    glob nor a folder that is there."""

    is_file: bool = False


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse an object that would not come back from the store as the JSON that was sent."""
    if (fault := _fault_within(value, DEPTH)) is not None:
        raise PydanticCustomError("object", "{rule}", {"rule": fault})
    return value


def _fault_within(value: Any, depth: int) -> str | None:
    if isinstance(value, str):
        return text.fault(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "may hold finite numbers only"
    if not isinstance(value, dict | list):
        return None
    if depth == 0:
        return f"may be nested {DEPTH} deep at most"
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    return next((fault for item in inside if (fault := _fault_within(item, depth - 1)) is not None), None)


def _named(says: str, most: int = NAME_CHARACTERS) -> Text:
    return Text(says, most=most, unit="characters")


# Who
CallerId = Annotated[str, _agent("You")]
AgentId = Annotated[str, _agent("Agent id")]
Successor = Annotated[str, _agent("Who leads your crew next, if you lead it")]
LeadId = Annotated[str, _agent("The crew's lead")]
RoleId = Annotated[
    str, _formed("Role id, see list_roles", 64, KEBAB_CASE, "must be kebab-case like code-reviewer")
]
ProjectId = Annotated[str, _named("Project id; yours if absent")]
TeamId = Annotated[str, _named("Team id")]
SessionId = Annotated[str, _named("Your program's own session id")]
Model = Annotated[str, _named("Model name")]
Provider = Annotated[str, _named("Model provider")]
Capability = Annotated[str, _named("A capability")]
TaskId = Annotated[str, _named("Task id", 100)]

# Words
Name = Annotated[str, _named("Display name")]
Title = Annotated[str, _named("Title")]
Reason = Annotated[str, Text("Why", blank=True)]
WhyNeeded = Annotated[str, Text("Why; the others read it")]
Summary = Annotated[str, Text("What you are doing or have done")]
Description = Annotated[str, Text("Description", blank=True)]
Prompt = Annotated[str, Text("System prompt", blank=True)]
Colour = Annotated[str, _named("Colour such as #3fb950", 32)]
Icon = Annotated[str, _named("One emoji", 16)]
ActionType = Annotated[str, _named("Kind of action, such as file_edit")]
Keyword = Annotated[str, _named("A word")]
SearchText = Annotated[str, _named("Plain words to search for", 500)]

# Where
FilePath = Annotated[RepoPath, PathText("File, directory (src/) or glob (src/**/*.py)")]
PathPrefix = Annotated[RepoPath, PathText("Only at or below this directory")]
FilePaths = Annotated[
    list[FilePath], Field(min_length=1, max_length=100, description="Files, directories or globs")
]

# How long, how many
Ttl = Annotated[int, _whole("Lease in seconds", 5, 86_400)]
WaitSeconds = Annotated[int, _whole("Wait up to this long for your turn", 0, 50)]
QueueSeconds = Annotated[int, _whole("Keep your place this long after the call", 0, 3600)]
Fence = Annotated[int, _whole("The fence of your lease", 1, 2**53)]
Limit = Annotated[int, _whole("At most this many", 1, 200)]
AfterId = Annotated[int, _whole("Cursor: next_after_id", 0, 2**53)]
AfterName = Annotated[str, _named("Cursor: next_after_id")]
BeforeId = Annotated[int, _whole("Only entries before this id", 1, 2**53)]
Since = Annotated[
    str, _formed("UTC time like 2026-01-31T12:00:00Z", 32, UTC, "must be like 2026-01-31T12:00:00Z")
]

# Objects
Object = Annotated[dict[str, Any], AfterValidator(_storable), Field(description="JSON object")]
Capabilities = Annotated[list[Capability], Field(max_length=100, description="What you are good at")]

RequestKey = Annotated[str, _named("Retry key")]
