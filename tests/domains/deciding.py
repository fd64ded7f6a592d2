"""A crew that decides, and a person who answers it: what the tests of decisions share."""

import json
import re
from typing import Any, NamedTuple

from callboard.identity import Principal
from tests.conftest import Agent, Board

Answer = dict[str, Any]
YEARS = 10 * 365 * 24 * 3600


class Crew(NamedTuple):
    """A lead and two members, and a person."""

    board: Board
    boss: Agent
    ann: Agent
    ben: Agent
    maria: Principal

    async def ask(self, title: str = "Drop Python 3.10", **arguments: Any) -> Answer:
        """A decision of ann that a human must confirm."""
        return await self.ann.call("record_decision", title=title, needs_confirmation=True, **arguments)

    async def resolve(
        self, verdict: str, asked: Answer, *, by: Principal | None = None, **given: Any
    ) -> Answer:
        given = {"decision_id": asked["decision_id"], "digest": asked["digest"]} | given
        return await self.board.call(f"{verdict}_decision", token=by or self.maria, **given)

    async def refused(
        self, verdict: str, asked: Answer, *, by: Principal | None = None, **given: Any
    ) -> Answer:
        given = {"decision_id": asked["decision_id"], "digest": asked["digest"]} | given
        return await self.board.refusal(f"{verdict}_decision", token=by or self.maria, **given)

    async def status(self, asked: Answer) -> str:
        return str((await self.ben.get_decision(decision_id=asked["decision_id"]))["status"])

    async def set(self, key: str, value: Any) -> None:
        await self.board.call("set_setting", token=self.maria, key=key, value=json.dumps(value))


async def convene(board: Board) -> Crew:
    boss = await board.agent("boss", role="lead")
    ann, ben = [await board.agent(name, lead_id="boss") for name in ("ann", "ben")]
    return Crew(board, boss, ann, ben, await board.human("maria"))


def said(quoted: str, mark: str) -> str:
    found = re.fullmatch(rf"<{mark}>\n(.*)\n</{mark}>", quoted, re.DOTALL)
    assert found is not None, quoted
    return found[1]


async def told(agent: Agent) -> list[tuple[str, str, str]]:
    """The notices of decisions that an agent has not read yet: what happened, to which one, how urgent."""
    answer = await agent.receive_messages(limit=200)
    messages = answer["messages"]
    if messages:
        await agent.ack_messages(receipts=[message["receipt"] for message in messages])
    return [
        (message["about"]["event"], message["about"]["decision_id"], message.get("priority", "normal"))
        for message in messages
        if message["message_type"] == "decision"
    ]
