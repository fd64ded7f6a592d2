"""The hooks of coding clients: what each tells, and how each wants to be answered.

Their forms are a family: JSON on standard input with the event, the working folder and the tool's arguments;
JSON on standard output. A client's events are named here by one set of words, those of `callboard hook`.
Every answer goes with exit code 0: some clients take any other for a refusal.

Forms: https://code.claude.com/docs/en/hooks, https://developers.openai.com/codex/hooks,
https://geminicli.com/docs/hooks/reference, https://docs.github.com/en/copilot/reference/hooks-reference,
https://cursor.com/docs/agent/hooks.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

Occasion = Literal["session-start", "user-prompt-submit", "pre-tool-use", "post-tool-use", "stop"]
OCCASIONS: tuple[Occasion, ...] = get_args(Occasion)

Json = dict[str, Any]


class Told(NamedTuple):
    """What a client tells its hook."""

    occasion: Occasion
    folder: Path | None
    """Where the client works."""
    session: str | None
    paths: tuple[str, ...] = ()
    """The files that a tool is about to change, or has changed."""
    source: str | None = None
    """Why a session starts: `startup`, `resume`, `compact` and the like."""
    continued: bool = False
    """Whether the agent goes on only because a hook kept it from stopping."""


class Answer(NamedTuple):
    """What a hook says to its client; at most one of these."""

    refusal: str = ""
    """Why the tool may not run."""
    context: str = ""
    """What the agent should know."""
    warning: str = ""
    """What the agent and its human should know, though the tool may run."""


class Client(NamedTuple):
    """One client's form."""

    events: Mapping[Occasion, str]
    """Its own words for the occasions; one that is missing it does not have, or hears no answer to."""
    editing: frozenset[str]
    """The tools that change files."""
    write: Callable[[str, Occasion, Answer], Json]
    """An answer in its form, given its own word for the occasion."""


def read(client: Client, occasion: Occasion, text: str) -> Told:
    """What the client tells. Raises ValueError for what is no such JSON."""
    told = json.loads(text or "{}")
    if not isinstance(told, dict):
        raise ValueError("the client's input is not a JSON object")
    roots = told.get("workspace_roots")
    folder = told.get("cwd") or (roots[0] if isinstance(roots, list) and roots else None)
    session = told.get("session_id") or told.get("sessionId") or told.get("conversation_id")
    source = told.get("source")
    return Told(
        occasion,
        Path(folder) if isinstance(folder, str) else None,
        session if isinstance(session, str) else None,
        _paths(client, told),
        source if isinstance(source, str) else None,
        bool(told.get("stop_hook_active") or told.get("loop_count")),
    )


# Compiled where a patch has come: few clients send one.
_PATCHED = r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+?)\s*$"


def _paths(client: Client, told: Json) -> tuple[str, ...]:
    """The files that an editing tool changes: named by an argument or in a patch, both ends of a move too."""
    if (tool := told.get("tool_name") or told.get("toolName")) not in client.editing:
        return ()
    given = told.get("tool_input", told.get("toolArgs"))
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            given = {"command": given}
    if not isinstance(given, dict):
        return ()
    if tool == "str_replace_editor" and given.get("command") == "view":
        return ()
    named = [given.get(key) for key in ("file_path", "notebook_path", "path")]
    found = [path for path in named if isinstance(path, str) and path]
    for patch in (given.get(key) for key in ("command", "patch", "input")):
        if isinstance(patch, str):
            found += re.findall(_PATCHED, patch, re.MULTILINE)
    return tuple(dict.fromkeys(found))


def _claude(event: str, occasion: Occasion, answer: Answer) -> Json:
    if answer.refusal:
        decided = {"permissionDecision": "deny", "permissionDecisionReason": answer.refusal}
        return {"hookSpecificOutput": {"hookEventName": event, **decided}}
    if answer.warning:
        known = {"hookEventName": event, "additionalContext": answer.warning}
        return {"systemMessage": answer.warning, "hookSpecificOutput": known}
    if occasion == "stop":
        return {"decision": "block", "reason": answer.context}
    return {"hookSpecificOutput": {"hookEventName": event, "additionalContext": answer.context}}


def _gemini(event: str, occasion: Occasion, answer: Answer) -> Json:
    if answer.warning:
        return {"systemMessage": answer.warning}
    if answer.refusal or occasion == "stop":
        return {"decision": "deny", "reason": answer.refusal or answer.context}
    return {"hookSpecificOutput": {"hookEventName": event, "additionalContext": answer.context}}


def _copilot(event: str, occasion: Occasion, answer: Answer) -> Json:
    if answer.refusal:
        return {"permissionDecision": "deny", "permissionDecisionReason": answer.refusal}
    if occasion == "stop":
        return {"decision": "block", "reason": answer.context}
    return {"additionalContext": answer.context or answer.warning}


def _cursor(event: str, occasion: Occasion, answer: Answer) -> Json:
    if answer.refusal:
        return {"permission": "deny", "user_message": answer.refusal, "agent_message": answer.refusal}
    if answer.warning:
        return {"permission": "allow", "user_message": answer.warning, "agent_message": answer.warning}
    return {"followup_message" if occasion == "stop" else "additional_context": answer.context}


_PASCAL: Mapping[Occasion, str] = {
    "session-start": "SessionStart",
    "user-prompt-submit": "UserPromptSubmit",
    "pre-tool-use": "PreToolUse",
    "post-tool-use": "PostToolUse",
    "stop": "Stop",
}

CLIENTS: Mapping[str, Client] = {
    "claude-code": Client(_PASCAL, frozenset({"Edit", "Write", "MultiEdit", "NotebookEdit"}), _claude),
    "codex": Client(_PASCAL, frozenset({"apply_patch", "Edit", "Write"}), _claude),
    "gemini": Client(
        {
            "session-start": "SessionStart",
            "user-prompt-submit": "BeforeAgent",
            "pre-tool-use": "BeforeTool",
            "post-tool-use": "AfterTool",
            "stop": "AfterAgent",
        },
        frozenset({"write_file", "replace"}),
        _gemini,
    ),
    "copilot-cli": Client(
        # What a hook answers to a prompt is dropped there.
        {
            "session-start": "sessionStart",
            "pre-tool-use": "preToolUse",
            "post-tool-use": "postToolUse",
            "stop": "agentStop",
        },
        frozenset({"create", "edit", "str_replace_editor", "apply_patch", "Edit", "Write"}),
        _copilot,
    ),
    "cursor": Client(
        # A prompt takes no context there either.
        {
            "session-start": "sessionStart",
            "pre-tool-use": "preToolUse",
            "post-tool-use": "postToolUse",
            "stop": "stop",
        },
        frozenset({"Write", "Edit", "MultiEdit", "Delete"}),
        _cursor,
    ),
}
"""The clients whose hooks are documented, by the names of `callboard init`."""
