"""`callboard tail`: the ledger as it grows."""

import json
import signal
from typing import Annotated, Any

import anyio
import typer

from callboard.board import Board
from callboard.cli.common import DbOption
from callboard.cli.views.asking import JsonOption, LeadOption, LimitOption, ProjectOption, answer, present
from callboard.cli.views.hearing import hearing
from callboard.cli.views.page import console, words

PAGE = 200


def tail(
    limit: LimitOption = 20,
    follow: Annotated[bool, typer.Option("--follow/--once", "-f", help="Go on until ctrl-c.")] = True,
    agent: Annotated[str | None, typer.Option(help="Only what this agent does.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this kind, such as task_completed.")] = None,
    lead: LeadOption = None,
    project: ProjectOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow what happens: the last entries of the ledger, then each new one. --json: one a line."""
    given = present({"target_agent_id": agent, "action_type": action})

    async def work(board: Board) -> dict[str, Any]:
        with hearing(board) as news:
            page = await board.call(
                "list_activity", given | {"newest_first": True, "limit": limit}, crew=lead
            )
            entries = page["entries"][::-1]
            _print(entries, as_json)
            last = entries[-1]["activity_id"] if entries else 0
            while follow:
                await news()
                last = await _print_since(board, given, lead, last, as_json)
        return {}

    async def until_stopped(board: Board) -> dict[str, Any]:
        async with anyio.create_task_group() as tasks:

            async def stopped() -> None:
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for _ in signals:
                        tasks.cancel_scope.cancel()

            tasks.start_soon(stopped)
            await work(board)
            tasks.cancel_scope.cancel()
        return {}

    answer(db, until_stopped, project=project, as_json=as_json)


async def _print_since(
    board: Board, given: dict[str, Any], lead: str | None, last: int, as_json: bool
) -> int:
    """Print what came after an entry; the last that there is now."""
    while True:
        page = await board.call("list_activity", given | {"after_id": last, "limit": PAGE}, crew=lead)
        _print(page["entries"], as_json)
        last = page["entries"][-1]["activity_id"] if page["entries"] else last
        if "next_after_id" not in page:
            return last


def _print(entries: list[dict[str, Any]], as_json: bool) -> None:
    for entry in entries:
        if as_json:
            typer.echo(json.dumps(entry, ensure_ascii=False))
        else:
            at = entry["timestamp"][11:19]
            console().print(
                words(f"{at}  {entry['agent_id']}  {entry['action_type']}  {entry['summary']}"),
                soft_wrap=True,
            )
