"""Settings: what people decide for a store as a whole.

The keys are a closed list, and this module is the list: each with its type, its range, its default and what
it means. What the server keeps among the settings for itself (`store.…`) is none of them, so no tool writes
it.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field

from callboard import text
from callboard.errors import Conflict, InvalidArguments, NotFound
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import SettingKey, SettingValue, SettingVersion
from callboard.store import Command, Row, Tx
from callboard.tool import Result, tool

Kind = Literal["boolean", "integer", "number", "word", "words"]

OVERSIGHT_LEVELS = ("supervised", "balanced", "autonomous")
DECISION_CATEGORIES = ("style", "architecture", "tool_access", "dependency", "testing", "general")

YEAR_DAYS = 3_650
DAY_MINUTES = 24 * 60


class Setting(NamedTuple):
    """One key. A number lies from `least` to `most`; a word, and each of several words, is `among` those."""

    key: str
    kind: Kind
    default: Any
    says: str
    least: float = 0
    most: float = 0
    among: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The values that it takes, as people say it."""
        match self.kind:
            case "boolean":
                return "true or false"
            case "word":
                return f"one of {', '.join(self.among)}"
            case "words":
                return f"a JSON list of {', '.join(self.among)}"
            case "integer":
                return f"a whole number from {self.least} to {self.most}"
            case "number":
                return f"a number from {self.least} to {self.most}"

    def read(self, given: str) -> Any:
        """A value from its JSON text; a single word may stand without quotes. Raises ValueError."""
        try:
            value = json.loads(given)
        except (ValueError, RecursionError):
            value = given
        if not self.takes(value):
            raise ValueError(f"must be {self.allowed}")
        return [word for word in self.among if word in value] if self.kind == "words" else value

    def takes(self, value: Any) -> bool:
        """Whether it may have this value."""
        match self.kind:
            case "boolean":
                return isinstance(value, bool)
            case "word":
                return value in self.among
            case "words":
                return isinstance(value, list) and all(word in self.among for word in value)
            case "integer":
                whole = isinstance(value, int) and not isinstance(value, bool)
                return whole and self._in_range(value)
            case "number":
                number = isinstance(value, int | float) and not isinstance(value, bool)
                return number and self._in_range(value)

    def _in_range(self, value: float) -> bool:
        return self.least <= value <= self.most


def _minutes(key: str, default: int, says: str) -> Setting:
    return Setting(key, "integer", default, says, 1, 7 * DAY_MINUTES)


def _days(key: str, default: int, says: str) -> Setting:
    return Setting(key, "integer", default, says, 1, YEAR_DAYS)


SETTINGS: Mapping[str, Setting] = {
    setting.key: setting
    for setting in (
        Setting("oversight.level", "word", "balanced",
                "Who confirms decisions, in projects that say nothing else: supervised, a human confirms all"
                " of them; balanced, those whose author asks for it; autonomous, those and the categories in"
                " decisions.confirm_categories.",
                among=OVERSIGHT_LEVELS),
        Setting("decisions.confirm_categories", "words", [],
                "Categories of decisions that a human confirms in autonomous projects.",
                among=DECISION_CATEGORIES),
        Setting("decisions.auto_approve", "words", [],
                "Categories of decisions that are confirmed when they are recorded, where they need nobody's"
                " confirmation.",
                among=DECISION_CATEGORIES),
        Setting("hooks.auto_lock", "boolean", False,
                "Whether the hooks of coding clients take the lock on a file before an agent edits it."),
        Setting("locks.delay_seconds", "number", 0,
                "How long a path rests after a lease on it was lost, before it is granted again.",
                most=3_600),
        Setting("briefing.max_tokens", "integer", 1_500,
                "Length of a briefing that names no other.", 200, 8_000),
        _minutes("alerts.claim_minutes", 10, "A claim without progress is an alert after this long."),
        _minutes("alerts.idle_minutes", 2, "An idle agent beside ready work is one after this long."),
        _minutes("alerts.decision_minutes", 10, "A decision that waits for a human is one after this long."),
        _minutes("alerts.blocked_minutes", 30, "A task is one when it has been blocked this long."),
        _minutes("alerts.lock_wait_minutes", 5, "A wait for a lock is one after this long."),
        _days("retention.activity_days", 30, "How long activity is kept before it becomes daily counts."),
        _days("retention.delivered_days", 7, "How long messages are kept after their delivery."),
        _days("retention.expired_days", 30, "How long messages are kept that ended without delivery."),
        _days("retention.timers_days", 7, "How long timers are kept that fired or were cancelled."),
        _days("retention.collective_memory_days", 180,
              "How long collective memory that nobody uses stays in sight."),
        _days("retention.episodic_days", 30, "How long episodic knowledge is kept."),
    )
}  # fmt: skip


class Stored(Row):
    value: str
    version: int


STORED = Stored.query("SELECT value, version FROM settings WHERE key = :key")
SET = Command("""
    INSERT INTO settings (key, value, updated_at, updated_by) VALUES (:key, :value, :at, :by)
    ON CONFLICT (key) DO UPDATE
       SET value = excluded.value, version = settings.version + 1, updated_at = excluded.updated_at,
           updated_by = excluded.updated_by
""")


class SettingView(Result):
    key: str
    value: Any = Field(description="As it applies now")
    default: Any = Field(description="What applies while nobody has set it")
    type: Kind
    allowed: str
    description: str
    version: int = Field(description="0 while nobody has set it")


class SettingChanged(SettingView):
    previous: Any = Field(description="What applied before")
    changed: bool


def setting(tx: Tx, key: str) -> Any:
    """The value of a setting as it applies now, of the type that `SETTINGS` gives it.

    Raises KeyError for a key that is not in the list, which is a fault of the program.
    """
    return tx.setting(key, SETTINGS[key].default)


def change_setting(tx: Tx, key: str, value: object, *, by: str | None = None) -> bool:
    """Store a value and tell what it was before; whether that is a change.

    Raises KeyError for a key that is not in the list, ValueError for a value that the key does not take.
    """
    if not SETTINGS[key].takes(value):
        raise ValueError(f"{key} must be {SETTINGS[key].allowed}.")
    before = setting(tx, key)
    if before == value and tx.one(STORED, key=key) is not None:
        return False
    tx.run(SET, key=key, value=json.dumps(value), at=tx.at, by=by)
    tx.tell(
        Event(
            "settings",
            "setting_changed",
            f"set {key} from {json.dumps(before)} to {json.dumps(value)}",
            subject=key,
            details={"key": key, "old": before, "new": value},
        )
    )
    return bool(before != value)


@tool()
def get_setting(tx: Tx, caller: Caller, key: SettingKey) -> SettingView:
    """Read a setting of the store: value, default, range, meaning.

    not_found names the nearest keys.
    """
    return view(tx, _known(key))


@tool(writes=True, idempotent=True, who="human")
def set_setting(
    tx: Tx,
    caller: Caller,
    key: SettingKey,
    value: SettingValue,
    expected_version: SettingVersion | None = None,
) -> SettingChanged:
    """Change a setting of the store, from the next call on.

    invalid_arguments says what it takes; conflict: get_setting again.
    """
    known = _known(key)
    stored = tx.one(STORED, key=key)
    version = stored.version if stored else 0
    if expected_version is not None and expected_version != version:
        raise Conflict(
            f"{key} has version {version}.",
            hint="Read it again with get_setting.",
            kind="setting",
            expected=expected_version,
            current=version,
        )
    try:
        wanted = known.read(value)
    except ValueError as error:
        raise InvalidArguments(f"value {error}", fields=[{"field": "value", "rule": str(error)}]) from None
    previous = setting(tx, key)
    changed = change_setting(tx, key, wanted, by=caller.agent_id)
    return SettingChanged(**view(tx, known).model_dump(), previous=previous, changed=changed)


def view(tx: Tx, known: Setting) -> SettingView:
    """A setting with what applies now."""
    stored = tx.one(STORED, key=known.key)
    return SettingView(
        key=known.key,
        value=setting(tx, known.key),
        default=known.default,
        type=known.kind,
        allowed=known.allowed,
        description=known.says,
        version=stored.version if stored else 0,
    )


def _known(key: str) -> Setting:
    """A key of the list. Raises NotFound with near names: what the server keeps for itself is not found."""
    if (known := SETTINGS.get(key)) is None:
        near = text.nearest(key, SETTINGS)
        raise NotFound(
            f"There is no setting {key}.",
            hint=f"Did you mean {near[0]}?" if near else f"There are {', '.join(SETTINGS)}.",
            kind="setting",
            given=key,
            near=near or None,
        )
    return known
