"""The vocabulary of arguments: each kind of argument is described, bounded and checked once, here.

A description is read by every agent with every list of tools, so it is short; a rule that an argument
breaks is told in our own sentence.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from callboard import text

TEXT_BYTES = 16 * 1024
MESSAGE_BYTES = 256 * 1024
ESCAPED_BYTES = 480 * 1024
"""A message as the JSON in which its reader gets it, whole and in one frame (`frames.FRAME_BYTES`). Only one
that is nearly all quotes, backslashes or newlines is longer than that without being too long in itself."""

OBJECT_BYTES = 16 * 1024
"""A JSON object as text: whoever lists such objects shows them whole."""

NAME_CHARACTERS = 200
DEPTH = 32
"""How deep the lists and objects of a JSON argument may be nested."""

AGENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KEBAB_CASE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NOTE_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_. -]*[A-Za-z0-9_.-])?")
RECEIPT = re.compile(r"[0-9]{1,16}\.[0-9a-f]{8}")
SHA256 = re.compile(r"[0-9a-f]{64}")
EMOJI = re.compile(
    # A key cap; a flag; or a picture, in a colour or a style, joined with others.
    "[0-9#*]\ufe0f?\u20e3|[\U0001f1e6-\U0001f1ff]{2}|"
    "(?:(?:^|\u200d)[\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
    "\ufe0f?[\U0001f3fb-\U0001f3ff]?\ufe0f?)+"
)
UTC = re.compile(
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,3})?Z"
)


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
        if not self.blank and not text.neutralise(value)[0].strip():
            raise PydanticCustomError("blank", "{rule}", {"rule": "must not be blank"})
        if self.form is not None and not self.form.fullmatch(value):
            raise PydanticCustomError("form", "{rule}", {"rule": self.rule})
        return value

    def take(self, value: str) -> str:
        """A checked value as it is kept: none of our own tokens is ever stored, whoever pastes it (P1)."""
        return text.mask_tokens(self.check(value))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.take, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # Every word here is read with every list of tools. A limit is published where an agent that
        # makes the text up could meet it; ids come from answers, and long texts are told when too long.
        published: JsonSchemaValue = {"type": "string", "description": self.says}
        return published | ({"maxLength": self.most} if self.most < 64 and self.form is None else {})


def _whole(says: str, least: int, most: int) -> Any:
    return Field(description=says, ge=least, le=most, strict=True)


def _formed(says: str, most: int, form: re.Pattern[str], rule: str) -> Text:
    return Text(says, most=most, unit="characters", form=form, rule=rule)


def _agent(says: str) -> Text:
    return _formed(says, 64, AGENT_ID, "must be letters, digits, '.', '_' and '-', not beginning with a mark")


@dataclass(frozen=True, slots=True)
class Duration(Text):
    """A length of time as text; `text.duration_seconds` reads it."""

    most: int = 32
    shortest: int = 1
    longest: int = 30 * 24 * 3600

    def check(self, value: str) -> str:
        Text.check(self, value)
        try:
            seconds = text.duration_seconds(value)
        except ValueError:
            rule = 'must be seconds, or like "90s", "5m", "2h" or "1d"'
            raise PydanticCustomError("form", "{rule}", {"rule": rule}) from None
        if not self.shortest <= seconds <= self.longest:
            rule = f"must be from {self.shortest} to {self.longest} seconds"
            raise PydanticCustomError("form", "{rule}", {"rule": rule})
        return value


@dataclass(frozen=True, slots=True)
class Body(Text):
    """The text of a message, which its reader gets whole."""

    most: int = MESSAGE_BYTES

    def check(self, value: str) -> str:
        Text.check(self, value)
        if 2 * len(value.encode()) > ESCAPED_BYTES:  # no character that stays takes more than two for one
            size = len(json.dumps(text.neutralise(value)[0], ensure_ascii=False).encode())
            if size > ESCAPED_BYTES:
                raise PydanticCustomError(
                    "too_large",
                    "{size} {unit}",
                    {"size": size, "unit": "bytes as JSON", "limit": ESCAPED_BYTES},
                )
        return value


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


@dataclass(frozen=True, slots=True)
class FolderText(PathText):
    """A folder argument; `dispatch` finds the repository around it before the operation sees it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            lambda value: Folder(self.check(value)), core_schema.str_schema(strict=True)
        )


class Folder(str):
    """The canonical root of a repository, and the project that it stands for by itself."""

    project_id: str = ""


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse an object that would not come back from the store as the JSON that was sent."""
    if (fault := _fault_within(value, DEPTH)) is not None:
        raise PydanticCustomError("object", "{rule}", {"rule": fault})
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > OBJECT_BYTES:
        raise PydanticCustomError(
            "too_large", "{size} {unit}", {"size": size, "unit": "bytes", "limit": OBJECT_BYTES}
        )
    return value


def _as_shown(value: str) -> str:
    """Refuse a name that readers would see otherwise than it is stored: they could not name it again."""
    if value != value.strip() or "\n" in value or text.neutralise(value)[0] != value:
        rule = "must be one line without spaces around it or invisible characters"
        raise PydanticCustomError("form", "{rule}", {"rule": rule})
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
RoleId = Annotated[str, _formed("Role id", 64, KEBAB_CASE, "must be kebab-case like code-reviewer")]
ProjectId = Annotated[str, _named("Yours if absent")]
TeamId = Annotated[str, _named("Team id")]
SessionId = Annotated[str, _named("Client's session")]
Model = Annotated[str, _named("Model name")]
Provider = Annotated[str, _named("Model provider")]
Recipient = Annotated[str, _named("Agent id, role, or human:NAME")]
ConversationId = Annotated[str, _named("Conversation id")]
GroupName = Annotated[str, _named("Group name"), AfterValidator(_as_shown)]
GroupMessageId = Annotated[str, _named("Message id")]
Members = Annotated[list[AgentId], Field(min_length=1, max_length=100, description="Agent ids")]
FirstMembers = Annotated[list[AgentId], Field(max_length=100, description="Agent ids")]
StandingRoles = Annotated[
    list[RoleId], Field(max_length=100, description="Roles whose agents, also later ones, are members")
]
Mentions = Annotated[list[AgentId], Field(max_length=100, description="Agent ids")]
TimerId = Annotated[str, _named("Timer id")]
TimerTarget = Annotated[str, _agent("Agent id or role")]
Capability = Annotated[str, _named("A capability")]
TaskId = Annotated[str, _named("Task id", 100)]
Dependency = Annotated[str, _named("Id")]
DependsOn = Annotated[list[Dependency], Field(max_length=100, description="Task ids, or decision:<id>")]
Dependencies = Annotated[
    list[Dependency], Field(min_length=1, max_length=100, description="Task ids, or decision:<id>")
]
TaskIds = Annotated[list[TaskId], Field(max_length=500, description="Task ids")]
DelegationId = Annotated[str, _named("Delegation id")]
DecisionId = Annotated[str, _named("Decision id")]
CallId = Annotated[str, _named("Counts once")]
SessionRowId = Annotated[int, _whole("Session", 1, 2**53)]
SettingKey = Annotated[str, _named("Key")]
MemoryKey = Annotated[str, _named("Key"), AfterValidator(_as_shown)]
NoteKey = Annotated[
    str,
    _formed(
        "Key", NAME_CHARACTERS, NOTE_KEY, "must be letters, digits, '_', '.', '-' and spaces between them"
    ),
]
LessonKey = Annotated[str, _named("Name or path it is about"), AfterValidator(_as_shown)]
LessonId = Annotated[int, _whole("Id", 1, 2**53)]

# Words
Name = Annotated[str, _named("Display name")]
Title = Annotated[str, _named("Title")]
ProjectName = Annotated[str, _named("Name", 100)]
SettingValue = Annotated[str, Text("New value, as JSON")]
Reason = Annotated[str, Text("Why", blank=True)]
Work = Annotated[str, Text("What to do")]
Context = Annotated[str, Text("Background", blank=True)]
Option = Annotated[str, _named("Option", 2_000)]
Options = Annotated[list[Option], Field(max_length=20, description="What was weighed")]
Outcome = Annotated[str, Text("What came of it")]
Output = Annotated[str, Text("Result, or where it is", blank=True)]
WhyNeeded = Annotated[str, Text("Why")]
MessageText = Annotated[str, Body("The text")]
Summary = Annotated[str, Text("What you do or did")]
Description = Annotated[str, Text("Description", blank=True)]
Prompt = Annotated[str, Text("System prompt", blank=True)]
Colour = Annotated[str, _named("Colour such as #3fb950", 32)]
Icon = Annotated[str, _named("One emoji", 16)]
Emoji = Annotated[str, _formed("One emoji", 16, EMOJI, "must be one emoji")]
Digest = Annotated[str, _formed("Of what you read", 64, SHA256, "must be the digest of get_decision")]
Label = Annotated[str, _named("Label")]
Reminder = Annotated[str, Text("Text")]
ActionType = Annotated[str, _named("Such as file_edit")]
Keyword = Annotated[str, _named("A word")]
MemoryText = Annotated[str, Text("Text")]
PlanStep = Annotated[str, Text("Step", most=2_000)]
SearchText = Annotated[str, _named("Plain words", 500)]

# Where
FilePath = Annotated[RepoPath, PathText("File, src/ or src/**/*.py")]
PathPrefix = Annotated[RepoPath, PathText("Directory")]
FilePaths = Annotated[list[FilePath], Field(min_length=1, max_length=100, description="Paths")]
ProjectFolder = Annotated[Folder, FolderText("Its repository's folder")]
TaskFile = Annotated[RepoPath, PathText("Path")]
TaskFiles = Annotated[list[TaskFile], Field(max_length=500, description="What it will change")]

# How long, how many
Ttl = Annotated[int, _whole("Seconds", 5, 86_400)]
Priority = Annotated[int, _whole("Larger first", -(2**63), 2**63 - 1)]
ClaimEpoch = Annotated[int, _whole("Of your claim", 1, 2**53)]
Version = Annotated[int, _whole("As you read it", 1, 2**53)]
SettingVersion = Annotated[int, _whole("As you read it", 0, 2**53)]
WaitSeconds = Annotated[int, _whole("Wait for your turn", 0, 50)]
QueueSeconds = Annotated[int, _whole("Keep your place", 0, 3600)]
Fence = Annotated[int, _whole("Your fence", 1, 2**53)]
Tokens = Annotated[int, _whole("Tokens", 0, 10**12)]
Usd = Annotated[float, Field(description="US dollars", ge=0, le=1_000_000, allow_inf_nan=False, strict=True)]
NewsWait = Annotated[int, _whole("Wait if there is nothing", 0, 50)]
Visibility = Annotated[int, _whole("Till it comes again", 1, 43_200)]
DelaySeconds = Annotated[int, _whole("Not before this many seconds", 0, 86_400)]
MessageLifetime = Annotated[str, Duration('Such as "2h"; 3d if absent')]
Delay = Annotated[str, Duration('Such as "5m"', shortest=5)]
MessageId = Annotated[int, _whole("Message id", 1, 2**53)]
AckIds = Annotated[list[MessageId], Field(max_length=200, description="Message ids done with")]
Receipt = Annotated[str, _formed("A message's receipt", 32, RECEIPT, "must be a receipt of receive_messages")]
Receipts = Annotated[list[Receipt], Field(min_length=1, max_length=200, description="Receipts")]
Limit = Annotated[int, _whole("How many", 1, 200)]
MaxTokens = Annotated[int, _whole("Budget", 100, 16_000)]
AfterId = Annotated[int, _whole("next_after_id", 0, 2**53)]
AfterName = Annotated[str, _named("next_after_id")]
BeforeId = Annotated[int, _whole("Only entries before this id", 1, 2**53)]
Since = Annotated[str, _formed("UTC: 2026-01-31T12:00:00Z", 32, UTC, "must be like 2026-01-31T12:00:00Z")]

# Objects
Object = Annotated[dict[str, Any], AfterValidator(_storable), Field(description="JSON object")]
Capabilities = Annotated[list[Capability], Field(max_length=100, description="Your skills")]

RequestKey = Annotated[str, _named("Retry key")]
