"""`callboard inbox` and `callboard send`: a person reads an agent's mail, and writes to agents.

Mail is its two sides' own. A person may read it, which the ledger then tells; so both commands ask for a
person, at a terminal or by a token.
"""

from typing import Annotated, Literal

import typer
from rich.console import RenderableType
from rich.text import Text

from callboard.cli.common import DbOption, secret_from, typed
from callboard.cli.views.asking import JsonOption, LeadOption, LimitOption, ProjectOption, TokenOption, ask
from callboard.cli.views.page import ago, behind_bars, more, show, words


def inbox(
    agent: Annotated[str, typer.Argument(help="The agent's id.")],
    status: Annotated[
        Literal["queued", "delivered", "expired"] | None, typer.Option(help="Only these.")
    ] = None,
    project: ProjectOption = None,
    limit: LimitOption = 50,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read an agent's mail as a person, oldest first; nothing is taken. The ledger tells of it."""
    token = secret_from(token_file)
    person = typed(agent, "to read its mail") if token is None else None
    given = {"with_agent_id": agent, "status": status, "limit": limit}
    page = ask(db, "list_messages", given, project=project, token=token, person=person, as_json=as_json)
    lines: list[RenderableType] = [] if page["messages"] else [Text(f"There is no mail of {agent}.")]
    for message in page["messages"]:
        head = f"{message['message_id']}  {message['from']} > {message['to']}  {message['status']}  "
        urgent = "  high" if message.get("priority") == "high" else ""
        lines.append(words(f"{head}  {ago(message['created_at'])} ago{urgent}", "bold"))
        lines += behind_bars(message["text"], page.get("mark"))
    show(page, [*lines, *more(page)], as_json=as_json)


def send(
    to: Annotated[str, typer.Argument(help="An agent's id, or a role.")],
    text: Annotated[str, typer.Argument(help="What to say.")],
    priority: Annotated[Literal["normal", "high"], typer.Option(help="high is read first.")] = "normal",
    lead: LeadOption = None,
    project: ProjectOption = None,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a message: as a person who types the addressee again at a terminal, or by a token."""
    token = secret_from(token_file)
    person = typed(to, "to send it") if token is None else None
    given = {"to": to, "content": text, "priority": priority}
    sent = ask(
        db, "send_message", given, project=project, lead=lead, token=token, person=person, as_json=as_json
    )
    lines: list[RenderableType] = [words(f"Sent to {', '.join(sent['recipients'])}.")]
    if warning := sent.get("warning"):
        lines.append(words(warning))
    show(sent, lines, as_json=as_json)
