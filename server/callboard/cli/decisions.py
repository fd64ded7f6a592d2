"""`callboard decisions`: what agents have decided, and a person's answer to what they ask.

An answer needs a person: one who reads the decision at a terminal and types the beginning of its digest, or
one whose token is given. Nothing is confirmed through a pipe without such a token. What this cannot tell is
a person from a program under the same account that plays the terminal. Against that, people sign: with a key
that only their passphrase opens.
"""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from callboard import approvals, keyfile
from callboard.cli.backup import reading, store_at
from callboard.cli.common import (
    DbOption,
    answered,
    asked,
    fail,
    need_terminal,
    on_board,
    refuse,
    secret_from,
    typed,
)
from callboard.cli.keys import KeyFileOption, PassphraseOption, check_key, unlocked
from callboard.cli.views.page import more, table
from callboard.cli.views.page import show as show_page
from callboard.errors import Conflict

app = typer.Typer(
    help="Decisions of agents: read, confirm, reject and dismiss them.\n\n"
    "An answer is typed at a terminal, or given with a person's token. A program with a shell under your own"
    " account can play a terminal, and has no passphrase: sign what matters, with --sign."
)

CODE_LENGTH = 8
"""How much of a digest a person types. It shows that this decision was read, not that the digest was checked:
the whole digest goes with the answer."""

Verdict = Literal["confirm", "reject", "dismiss"]
Status = Literal["recorded", "confirmed", "rejected", "dismissed", "withdrawn"]

DecisionArgument = Annotated[str, typer.Argument(metavar="ID", help="The decision's id.")]
ReasonOption = Annotated[str, typer.Option(help="Why; its author and crew read it.")]
SignOption = Annotated[bool, typer.Option("--sign", help="Sign it with your key: callboard key create.")]
TokenOption = Annotated[
    Path | None,
    typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="Answer by a person's token. Or CALLBOARD_TOKEN."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def decisions(
    context: typer.Context,
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most this many.")] = 50,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the decisions of the project's agents, newest first."""
    if context.invoked_subcommand is not None:
        return
    wanted: dict[str, Any] = {"limit": limit} | ({"status": status} if status else {})
    page = answered(on_board(db, partial(asked, tool="list_decisions", arguments=wanted)), as_json=as_json)
    if as_json:
        typer.echo(json.dumps(page, ensure_ascii=False))
        return
    if not page["decisions"]:
        typer.echo("There are no decisions." if status is None else f"No decision is {status}.")
        return
    rows = [
        (line["decision_id"], _state(line), line["agent_id"], line["title"]) for line in page["decisions"]
    ]
    show_page(page, [table(("DECISION", "STATUS", "AGENT", "TITLE"), rows), *more(page)], as_json=False)


@app.command("show")
def show(decision_id: DecisionArgument, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Show one decision with everything that its author gave for it."""
    decision = _read(decision_id, db, None, as_json)
    typer.echo(json.dumps(decision, ensure_ascii=False) if as_json else page_of(decision))


@app.command("confirm")
def confirm(
    decision_id: DecisionArgument,
    reason: ReasonOption = "",
    sign: SignOption = False,
    key_file: KeyFileOption = None,
    passphrase_file: PassphraseOption = None,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Confirm a decision: tasks that wait for it become ready."""
    key = (key_file or keyfile.default_path()) if sign or key_file else None
    _resolve("confirm", decision_id, reason, token_file, key, passphrase_file, db, as_json)


@app.command("reject")
def reject(
    decision_id: DecisionArgument,
    reason: ReasonOption = "",
    sign: SignOption = False,
    key_file: KeyFileOption = None,
    passphrase_file: PassphraseOption = None,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject a decision: tasks that wait for it are blocked."""
    key = (key_file or keyfile.default_path()) if sign or key_file else None
    _resolve("reject", decision_id, reason, token_file, key, passphrase_file, db, as_json)


@app.command("dismiss")
def dismiss(
    decision_id: DecisionArgument,
    reason: ReasonOption = "",
    sign: SignOption = False,
    key_file: KeyFileOption = None,
    passphrase_file: PassphraseOption = None,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dismiss a decision that needs no answer: tasks that wait for it are blocked."""
    key = (key_file or keyfile.default_path()) if sign or key_file else None
    _resolve("dismiss", decision_id, reason, token_file, key, passphrase_file, db, as_json)


@app.command("verify")
def verify(
    keys: Annotated[
        Path | None,
        typer.Option(
            help="The keys that you vouch for, as `callboard key list --json` printed them. "
            "Default: those that the store names."
        ),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify each decision against its digest and its signature, without a server. Exit code 1 where one is
    not what it says."""
    try:
        kept = approvals.read_keys(json.loads(keys.read_text(encoding="utf-8"))) if keys else None
    except (OSError, ValueError) as error:
        fail(f"{keys} cannot be used: {error}")
    with reading(store_at(db)) as store:
        verdict = approvals.verify(store, kept)
    if as_json:
        typer.echo(json.dumps(asdict(verdict) | {"ok": verdict.sound}))
    else:
        for finding in verdict.findings:
            typer.echo(f"{finding.decision_id}: {finding.problem}.")
        known = f"by {verdict.keys} {'kept' if keys else 'registered'} keys"
        result = "all are what they say" if verdict.sound else f"{len(verdict.findings)} findings"
        typer.echo(f"{verdict.decisions} decisions, {verdict.signed} signed, {known}: {result}.")
    if not verdict.sound:
        raise typer.Exit(1)


def _resolve(
    verdict: Verdict,
    decision_id: str,
    reason: str,
    token_file: Path | None,
    key: Path | None,
    passphrase_file: Path | None,
    db: Path | None,
    as_json: bool,
) -> None:
    token = secret_from(token_file)
    if token is None:
        need_terminal()
    decision = _read(decision_id, db, token, as_json)
    if key is not None:
        check_key(key, db, token, as_json=as_json)
    person = None
    if token is None:
        typer.echo(page_of(decision), err=True)
        if decision["status"] == "recorded":
            person = typed(decision["digest"][:CODE_LENGTH], f"to {verdict} it")
        else:
            refuse(
                Conflict(f"It is {decision['status']} already.", status=decision["status"]), as_json=as_json
            )
    signer = unlocked(key, passphrase_file) if key is not None else None
    given = {"decision_id": decision_id, "digest": decision["digest"], "reason": reason}
    work = partial(asked, tool=f"{verdict}_decision", arguments=given, person=person, signer=signer)
    resolved = answered(on_board(db, work, token=token), as_json=as_json)
    if as_json:
        typer.echo(json.dumps(resolved, ensure_ascii=False))
        return
    before = "" if resolved["resolved"] else f" It was so before, by {resolved['resolved_by']}."
    before = before or (" The answer is signed." if signer else "")
    typer.echo(f"{decision_id} is {resolved['status']}.{before}")
    if ready := resolved.get("newly_ready"):
        typer.echo(f"Ready now: {', '.join(ready)}")


def _read(decision_id: str, db: Path | None, token: str | None, as_json: bool) -> dict[str, Any]:
    work = partial(asked, tool="get_decision", arguments={"decision_id": decision_id})
    return answered(on_board(db, work, token=token), as_json=as_json)


# What a person reads. Agents' words stand behind bars or on one line, so that none passes for ours.


def _state(decision: dict[str, Any]) -> str:
    if decision["status"] == "recorded" and decision["needs_confirmation"]:
        return "waits for a human"
    return str(decision["status"])


def _one_line(words: str) -> str:
    return " ".join(words.split())


def page_of(decision: dict[str, Any]) -> str:
    """One decision as text."""
    facts = {
        "Decision": f"{decision['decision_id']}, {_state(decision)}",
        "Title": _one_line(decision["title"]),
        "Author": f"{decision['agent_id']} ({decision['agent_role']}), crew {decision['lead_id']}",
        "Recorded": decision["created_at"],
        "Category": decision["category"],
        "Supersedes": decision.get("supersedes"),
        "Superseded": decision.get("superseded_by"),
        "Waited for": ", ".join(decision.get("waiting_tasks", ())),
        "Resolved": f"{decision.get('resolved_by') or 'by a setting'} at {decision['resolved_at']}"
        if "resolved_at" in decision
        else None,
        "Assurance": {"strong": "signed", "client": "not signed"}.get(decision.get("assurance", "")),
        "Digest": decision["digest"],
        "Taken out": ", ".join(f"{count} {kind}" for kind, count in decision.get("sanitized", {}).items()),
    }
    lines = [f"{name:10}  {value}" for name, value in facts.items() if value]
    lines += _behind_bars("Rationale", decision["rationale"], decision["mark"])
    for number, option in enumerate(decision["options"], 1):
        lines += _behind_bars(f"Option {number}", option, decision["mark"])
    lines += _behind_bars("Reason", decision.get("reason", ""), decision["mark"])
    return "\n".join(lines)


def _behind_bars(heading: str, quoted: str, mark: str) -> list[str]:
    words = quoted.removeprefix(f"<{mark}>\n").removesuffix(f"\n</{mark}>")
    return ["", heading, *(f"  | {line}" for line in words.splitlines())] if words else []
