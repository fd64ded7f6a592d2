"""The demo's story as data: who calls what, and how each call must come out.

It reads from top to bottom like the script of a play. What an answer must hold stands beside the call; the
words that are printed are filled from the answer itself, so that the demo shows what happened and nothing
else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Scene:
    """A heading."""

    title: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call must come out.

    `says` is what is printed of the answer, as a template over its fields; with `each`, once for every item
    of that list in it. `facts` must all be in the answer: see `holds`. A `code` is that of a refusal.
    """

    says: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    code: str | None = None
    each: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. Without an outcome the story goes on while the call waits, until its `Answer`."""

    agent: str
    tool: str
    arguments: Mapping[str, Any]
    outcome: Outcome | None
    until: bool = False
    """Ask again until it comes out as told: for what another agent's call has yet to bring about."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the call with which an agent waits."""

    agent: str
    outcome: Outcome


Line = Scene | Call | Answer
Transport = Literal["stdio", "http"]

WAITS = None


def result(says: str, *, each: str | None = None, **facts: Any) -> Outcome:
    """The call succeeds."""
    return Outcome(says, facts, each=each)


def refusal(code: str, **facts: Any) -> Outcome:
    """The call is refused; its message is printed, and its hint if that is among the facts."""
    says = "refused: {code}. {message}" + (" {hint}" if "hint" in facts else "")
    return Outcome(says, facts, code=code)


def holds(expected: Any, actual: Any) -> bool:
    """Whether an answer is as expected: objects may hold more than is expected of them, lists may not."""
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(
            name in actual and holds(value, actual[name]) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(holds(*pair) for pair in zip(expected, actual, strict=True))
        )
    return bool(expected == actual)


CAST: Mapping[str, Transport] = {"ann": "stdio", "ben": "stdio", "cleo": "http"}
"""The agents, and how the client of each connects."""

FILES: Mapping[str, str] = {
    "src/parser.py": '"""Turns text into a tree."""\n',
    "src/tokenizer.py": '"""Turns text into tokens."""\n',
    "docs/guide.md": "# Guide\n",
}
"""What the repository holds that they work on."""

STORY: tuple[Line, ...] = (
    Scene("Three agents sign in: ann and ben over stdio, cleo over HTTP."),
    Call(
        "ann", "register_agent", {"role": "lead"},
        result("leads crew {lead_id}", lead_id="ann", led_by="ann"),
    ),
    Call(
        "ben", "register_agent", {"role": "developer"},
        result("joined crew {lead_id}", lead_id="ann", joined="live lead"),
    ),
    Call(
        "cleo", "register_agent", {"role": "tech-writer"},
        result("joined crew {lead_id}", lead_id="ann", joined="live lead"),
    ),

    Scene("Ann and ben want one file, however it is spelled; cleo, a glob that meets it."),
    Call(
        "ann", "acquire_file_lock", {"file_path": "src/parser.py", "reason": "new grammar"},
        result("granted: {mode}, fence {fence}", mode="exclusive", fence=1),
    ),
    Call(
        "ben", "acquire_file_lock", {"file_path": "./src//parser.py"},
        refusal(
            "lock_held", holder="ann", held_path="src/parser.py", reason="new grammar",
            hint="Call again with wait_seconds, or message ann.",
        ),
    ),
    Call(
        "cleo", "acquire_file_lock", {"file_path": "src/**/*.py"},
        refusal("lock_held", holder="ann", held_path="src/parser.py"),
    ),

    Scene("Ben waits in line. His fence is higher, and work under the old one is refused."),
    Call("ben", "acquire_file_lock", {"file_path": "src/parser.py", "wait_seconds": 30}, WAITS),
    Call(
        "ann", "check_file_lock", {"file_path": "src/parser.py"},
        result("{state}; next in line: {waiters[0][agent_id]}", state="yours", waiters=[{"agent_id": "ben"}]),
        until=True,
    ),
    Call(
        "ann", "release_file_lock", {"file_path": "src/parser.py"},
        result("released, fence {fence}", released=True, fence=1),
    ),
    Answer("ben", result("granted: {mode}, fence {fence}", mode="exclusive", fence=2, refreshed=False)),
    Call(
        "ann", "renew_file_lock", {"file_path": "src/parser.py", "fence": 1},
        refusal(
            "stale_fence", given=1, current=2, holder="ben",
            hint="Do not write what you prepared under the old lease; acquire the path again first.",
        ),
    ),

    Scene("Cleo takes a lease of 5 seconds and falls silent. It lapses, and blocks nobody."),
    Call(
        "cleo", "acquire_file_lock", {"file_path": "docs/guide.md", "ttl_seconds": 5},
        result("granted: {mode}, fence {fence}", mode="exclusive", fence=3),
    ),
    Call("ben", "acquire_file_lock", {"file_path": "docs/guide.md", "wait_seconds": 30}, WAITS),
    Answer(
        "ben",
        result("granted after {granted_after_ms} ms: {mode}, fence {fence}", mode="exclusive", fence=4),
    ),
    Call(
        "cleo", "renew_file_lock", {"file_path": "docs/guide.md", "fence": 3},
        refusal("stale_fence", given=3, current=4, holder="ben"),
    ),
    Call(
        "cleo", "heartbeat", {},
        result("locks held: {locks_held}, unread messages: {unread}", locks_held=0, unread=1),
    ),

    Scene("The ledger tells who held what."),
    Call(
        "ann", "list_activity", {"query": "locked released lost"},
        result(
            "{agent_id:5} {summary}",
            each="entries",
            entries=[
                {"agent_id": "ann", "summary": "locked src/parser.py (exclusive), fence 1"},
                {"agent_id": "ann", "summary": "released src/parser.py, fence 1"},
                {"agent_id": "ben", "summary": "locked src/parser.py (exclusive), fence 2"},
                {"agent_id": "cleo", "summary": "locked docs/guide.md (exclusive), fence 3"},
                {"agent_id": "cleo", "summary": "lost docs/guide.md: its lease ended, fence 3"},
                {"agent_id": "ben", "summary": "locked docs/guide.md (exclusive), fence 4"},
            ],
        ),
    ),
)  # fmt: skip
