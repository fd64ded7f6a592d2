"""The briefing: what an agent must know to go on, or to begin, on one page of a given length.

It is for an agent that has lost its context or never had one. First comes who it is, what it holds and what
it has to do; then what people want everybody to know, what it has noted and planned itself, what its crew has
decided, who is here, and what the project knows. Every section is served a first helping before any has a
second, so a short page is a whole one.
"""

from typing import Annotated, Any

from pydantic import Field

from callboard.domains import messages, projects
from callboard.domains.crew.briefed import Handed, Note, Step, Work, gathered
from callboard.domains.crew.fitting import Page
from callboard.domains.crew.holding import HeldLock, OpenTask
from callboard.domains.crew.leaving import LEADER
from callboard.domains.crew.surroundings import Known, Lesson, Mate, Owner, Pointer, Ruling, Told
from callboard.identity import Caller
from callboard.params import SearchText
from callboard.store import Tx
from callboard.tool import Result, tool

SINGLE = ("goal", "role", "board")
"""Sections of one line."""


class You(Result):
    agent_id: str
    role: str
    kind: str
    lead_id: str
    led_by: str | None = None
    project_id: str
    trust_level: str


class Briefing(Result):
    you: You
    unread: int | None = None
    mark: str | None = Field(default=None, description="What this reply's fences are made of")
    goal: str | None = Field(default=None, description="Of your crew's session, by its lead")
    role: str | None = Field(default=None, description="What people expect of your role")
    tasks: list[Work] | None = Field(default=None, description="That you have in hand")
    locks: list[HeldLock] | None = Field(default=None, description="Yours")
    next: list[str] | None = Field(default=None, description="What to do")
    alerts: list[Pointer] | None = None
    core: list[Told] | None = Field(default=None, description="What people want every agent to know")
    notes: list[Note] | None = Field(default=None, description="Your own memory, the latest first")
    plan: list[Step] | None = Field(default=None, description="Yours, what is left of it")
    decisions: list[Ruling] | None = Field(default=None, description="Of your crew, the latest first")
    handed_over: list[Handed] | None = Field(default=None, description="By what your tasks waited for")
    crew: list[Mate] | None = None
    files: list[Owner] | None = Field(default=None, description="Who else knows the files of your tasks")
    board: str | None = Field(default=None, description="The crew's tasks, in figures")
    ready: list[OpenTask] | None = Field(default=None, description="Tasks that can be taken")
    knowledge: list[Known] | None = None
    lessons: list[Lesson] | None = Field(default=None, description="From your crew's last retro")
    left_out: dict[str, int] | None = Field(default=None, description="How much each tool has beside this")


@tool()
def get_briefing(
    tx: Tx,
    caller: Caller,
    max_tokens: Annotated[
        int | None, Field(description="Its length; 1500 if absent", ge=200, le=8_000, strict=True)
    ] = None,
    topic: SearchText | None = None,
) -> Briefing:
    """Read on one page what you must know, at a start or after your context was lost.

    It says what to do next; left_out names the tools that have more.
    """
    budget = max_tokens or projects.setting(tx, "briefing.max_tokens")
    leader = tx.one(LEADER, lead_id=caller.lead_id)
    you = You(
        agent_id=caller.agent_id,
        role=caller.role,
        kind=caller.kind,
        lead_id=caller.lead_id,
        led_by=leader.led_by if leader else None,
        project_id=caller.project_id,
        trust_level=caller.trust,
    )
    unread = messages.unread(tx, caller.agent_id) or None
    sections, mark = gathered(tx, caller, unread=unread or 0, topic=topic, width=budget)
    fixed = {"you": you.model_dump(exclude_none=True), "unread": unread or 0, "mark": mark}
    page = Page(budget, fixed)
    page.fill(sections)
    shown: dict[str, Any] = {
        name: items[0] if name in SINGLE else items for name, items in page.shown.items()
    }
    return Briefing(
        you=you,
        unread=unread,
        mark=mark if page.holds(mark) else None,
        left_out=page.left_out or None,
        **shown,
    )
