"""`callboard watch`: the board as it changes, with keys to look closer and to answer decisions.

What is drawn is a function of what the board last told and of the keys; each key and each news changes one of
these and draws anew. A decision is answered as by `callboard decisions`: with its page before them, a person
types the beginning of its digest.
"""

import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass

import anyio
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.text import Text

from callboard.board import Board
from callboard.cli.common import DbOption, account, fail
from callboard.cli.decisions import CODE_LENGTH, Verdict, page_of
from callboard.cli.views.asking import Answer, LeadOption, ProjectOption, answer, present
from callboard.cli.views.hearing import hearing
from callboard.cli.views.keys import keys, unbuffered
from callboard.cli.views.page import console, heading, quoted, table, words
from callboard.cli.views.status import SECTIONS, summary
from callboard.domains.crew.words import counted
from callboard.errors import Refused

WIDE = 110
"""From so many columns on, all panes are shown beside each other; else one at a time."""

DECISIONS, ALERTS, AGENTS, TASKS, LOCKS = SECTIONS
ANSWERS: dict[str, Verdict] = {"a": "confirm", "r": "reject", "d": "dismiss"}
BAR = "  | "
"""Before each line of somebody's words at length."""

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(slots=True)
class Pane:
    """One section of the board: its table, what each row is about, and the row that is chosen."""

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    about: Sequence[Answer] = ()
    count: int = 0
    chosen: int = 0


@dataclass(slots=True)
class Opened:
    """A page over the panes, and how far it is scrolled. A decision can be answered from its own."""

    title: str
    text: str
    decision: Answer | None = None
    above: int = 0


@dataclass(slots=True)
class Question:
    """What a person is asked before a decision is answered: first its code, then why."""

    verdict: Verdict
    decision: Answer
    typed: str = ""
    confirmed: bool = False

    @property
    def code(self) -> str:
        return str(self.decision["digest"])[:CODE_LENGTH]

    @property
    def prompt(self) -> str:
        asked = "Why (enter for no reason)" if self.confirmed else f"Type {self.code} to {self.verdict} it"
        return f"{asked}; escape leaves it: {self.typed}"


def watch(lead: LeadOption = None, project: ProjectOption = None, db: DbOption = None) -> None:
    """Watch the board live: agents, tasks, locks, decisions. Keys move, open and answer; q ends.

    a, r and d approve, reject and dismiss the chosen decision, which is shown first: its code is typed.
    """
    page = console()
    if not (sys.stdin.isatty() and page.is_terminal) or page.is_dumb_terminal:
        fail("watch needs a terminal to draw on. Print the board once with: callboard status")

    async def work(board: Board) -> Answer:
        view = Watch(board, lead, page)
        await view.look()  # a crew that there is not is refused before anything is drawn
        await view.run()
        return {}

    answer(db, work, project=project, as_json=False)


class Watch:
    """What is drawn, and what keys do."""

    def __init__(self, board: Board, lead: str | None, page: Console) -> None:
        self._board = board
        self._lead = lead
        self._page = page
        self._found: Answer = {}
        self._panes = {name: Pane() for name in SECTIONS}
        self._focus = ""
        self._opened: Opened | None = None
        self._question: Question | None = None
        self._said = ""

    async def run(self) -> None:
        """Draw and obey until q, ctrl-c, a signal that ends, or the terminal's own end."""
        try:
            with (
                anyio.open_signal_receiver(*ENDINGS, signal.SIGWINCH) as signals,
                unbuffered(sys.stdin.fileno()),
                Live(console=self._page, screen=True, auto_refresh=False) as live,
            ):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._follow, live)
                    tasks.start_soon(self._hear_signals, signals, live, tasks.cancel_scope)
                    self._draw(live)
                    async for key in keys(sys.stdin.fileno()):
                        if key == "q" and self._question is None:
                            break
                        await self._told(self._press(key))
                        self._draw(live)
                    tasks.cancel_scope.cancel()
        except* OSError:
            pass  # the terminal is gone: an ending like any other, but nobody is told

    async def _follow(self, live: Live) -> None:
        with hearing(self._board) as news:
            while True:
                await news()
                await self._told(self.look())
                self._draw(live)

    async def _hear_signals(
        self, signals: AsyncIterator[signal.Signals], live: Live, scope: anyio.CancelScope
    ) -> None:
        async for one in signals:
            if one in ENDINGS:
                scope.cancel()
            else:
                self._draw(live)

    async def _told(self, work: Coroutine[object, object, None]) -> None:
        """Do something; what is refused is said on the screen."""
        try:
            await work
        except Refused as refusal:
            self._said = " ".join(filter(None, (refusal.message, refusal.hint)))

    # What the board tells.

    async def look(self) -> None:
        """Ask the board anew. What is chosen stays chosen. Raises Refused."""
        self._found = await self._board.call(
            "get_crew_status", present({"lead_id": self._lead}), crew=self._lead
        )
        for name, make in SECTIONS.items():
            pane = self._panes[name]
            before = _name_of(name, pane.about[pane.chosen]) if pane.about else None
            pane.columns, pane.rows, pane.count = make(self._found)
            pane.about = _about(name, self._found)
            names = [_name_of(name, one) for one in pane.about]
            pane.chosen = names.index(before) if before in names else min(pane.chosen, max(0, len(names) - 1))
        if not self._focus:
            self._focus = DECISIONS if self._panes[DECISIONS].rows else AGENTS

    # What keys do.

    async def _press(self, key: str) -> None:
        self._said = ""
        if self._question is not None:
            await self._type(self._question, key)
        elif self._opened is not None:
            await self._press_over(self._opened, key)
        else:
            await self._press_on_panes(key)

    async def _press_on_panes(self, key: str) -> None:
        names = list(SECTIONS)
        place = names.index(self._focus)
        pane = self._panes[self._focus]
        if key in ("tab", "right", "l"):
            self._focus = names[(place + 1) % len(names)]
        elif key in ("back tab", "left", "h"):
            self._focus = names[place - 1]
        elif key in STEPS:
            pane.chosen = max(0, min(pane.chosen + STEPS[key], len(pane.rows) - 1))
        elif key == "enter" and pane.about:
            await self._open(pane.about[pane.chosen])
        elif key in ANSWERS and self._focus == DECISIONS and pane.about:
            await self._open(pane.about[pane.chosen])
            self._ask(ANSWERS[key])

    async def _press_over(self, opened: Opened, key: str) -> None:
        if key in STEPS:
            opened.above = max(0, opened.above + STEPS[key])
        elif key in ("escape", "backspace", "enter", "left", "h"):
            self._opened = None
        elif key in ANSWERS:
            self._ask(ANSWERS[key])

    async def _open(self, one: Answer) -> None:
        """Show one thing of the board with all that is known of it. Raises Refused."""
        call = self._board.call
        if self._focus == DECISIONS:
            decision = await call("get_decision", {"decision_id": one["decision_id"]})
            self._opened = Opened("Decision", page_of(decision), decision)
        elif self._focus == AGENTS:
            agent = await call("get_agent", {"target_agent_id": one["agent_id"]})
            self._opened = Opened(f"Agent {one['agent_id']}", facts(agent))
        elif self._focus == TASKS:
            crew = one.get("lead_id") or self._found["crews"][0]["lead_id"]
            task = await call("get_dag_task", {"task_id": one["task_id"]}, crew=crew)
            self._opened = Opened(f"Task {one['task_id']}", facts(task))
        elif self._focus == LOCKS:
            path = one["file_path"]
            waiters = [waiter for waiter in self._found.get("waiters", ()) if waiter["file_path"] == path]
            self._opened = Opened(f"Lock on {path}", facts(one | {"waiters": waiters}))
        else:
            self._opened = Opened("Alert", facts(one))

    def _ask(self, verdict: Verdict) -> None:
        decision = self._opened.decision if self._opened else None
        if decision is None:
            self._said = "Only a decision is answered."
        elif decision["status"] != "recorded":
            self._said = f"It is {decision['status']} already."
        else:
            self._question = Question(verdict, decision)

    async def _type(self, question: Question, key: str) -> None:
        if key == "escape":
            self._leave("Nothing was changed.")
        elif key == "backspace":
            question.typed = question.typed[:-1]
        elif key == "enter" and question.confirmed:
            self._question = None
            await self._answer(question)
        elif key == "enter" and question.typed.strip() == question.code:
            question.confirmed, question.typed = True, ""
        elif key == "enter":
            self._leave("Not confirmed; nothing was changed.")
        elif len(key) == 1:
            question.typed += key

    def _leave(self, said: str) -> None:
        self._question = None
        self._said = said

    async def _answer(self, question: Question) -> None:
        """Answer a decision as the person at this terminal. Raises Refused."""
        name = question.decision["decision_id"]
        given = {"decision_id": name, "digest": question.decision["digest"], "reason": question.typed.strip()}
        resolved = await self._board.call(f"{question.verdict}_decision", given, person=account())
        before = "" if resolved["resolved"] else f" It was so before, by {resolved['resolved_by']}."
        ready = resolved.get("newly_ready")
        self._said = f"{name} is {resolved['status']}.{before}" + (
            f" Ready now: {', '.join(ready)}." if ready else ""
        )
        self._opened = None
        await self.look()

    # What is drawn.

    def _draw(self, live: Live) -> None:
        live.update(self._picture(*self._page.size), refresh=True)

    def _picture(self, width: int, height: int) -> Layout:
        wide = width >= WIDE
        head = [summary(self._found)]
        head[0].rstrip()
        if not wide and self._opened is None:
            head.append(self._tabs())
        foot = [Text(self._said, "bold")] if self._said else []
        foot.append(Text(self._question.prompt, "bold") if self._question else Text(self._help(wide)))
        sizes = [sum(len(line.wrap(self._page, width)) for line in part) for part in (head, foot)]
        body = max(1, height - sum(sizes) - 1)
        whole = Layout()
        whole.split_column(
            Layout(Group(*head), size=sizes[0] + 1),
            self._body(width, body, wide),
            Layout(Group(*foot), size=sizes[1]),
        )
        return whole

    def _body(self, width: int, height: int, wide: bool) -> Layout:
        if self._opened is not None:
            return Layout(self._scrolled(self._opened, width, height))
        if not wide:
            return Layout(self._pane(self._focus, width, height))
        half = (width - 2) // 2
        left, right = Layout(size=half + 2), Layout()
        left.split_column(*self._stacked((AGENTS, TASKS), half, height))
        right.split_column(*self._stacked((DECISIONS, ALERTS, LOCKS), width - half - 2, height))
        both = Layout()
        both.split_row(left, right)
        return both

    def _stacked(self, names: Sequence[str], width: int, height: int) -> list[Layout]:
        heights = shares([len(self._panes[name].rows) + 3 for name in names], height)
        panes = [
            Layout(self._pane(name, width, size), size=size)
            for name, size in zip(names, heights, strict=True)
        ]
        if left := height - sum(heights):
            panes.append(Layout(Text(" "), size=left))  # an empty text would be drawn as a frame
        return panes

    def _pane(self, name: str, width: int, height: int) -> RenderableType:
        """One section in so many lines, scrolled to what is chosen in it."""
        pane = self._panes[name]
        focused = name == self._focus
        title = heading(name, pane.count)
        if focused:
            title.stylize("reverse")
        if not pane.rows:
            nobody = "Connect a client with: callboard init" if name == AGENTS else "none"
            return Group(title, Text(f"  {nobody}"))
        room = max(1, height - 3)
        first = max(0, min(pane.chosen - room // 2, len(pane.rows) - room))
        if pane.count > len(pane.rows):
            title.append(f", the first {len(pane.rows)}")
        chosen = pane.chosen - first if focused else -1
        return Group(title, table(pane.columns, pane.rows[first : first + room], width, chosen=chosen))

    def _tabs(self) -> Text:
        tabs = Text()
        for name, pane in self._panes.items():
            tab = f" {name.partition(' ')[0]} {pane.count} "
            tabs.append(tab, "bold reverse" if name == self._focus else "")
        return tabs

    def _scrolled(self, opened: Opened, width: int, height: int) -> RenderableType:
        lines = [piece for line in opened.text.splitlines() for piece in self._wrapped(line, width)]
        room = max(1, height - 2)
        opened.above = min(opened.above, max(0, len(lines) - room))
        shown = lines[opened.above : opened.above + room]
        left = len(lines) - opened.above - len(shown)
        title = heading(opened.title)
        title.append(f"  ({counted(left, 'more line')} below)" if left else "")
        return Group(title, Text(""), *shown)

    def _wrapped(self, line: str, width: int) -> list[Text]:
        """A line in pieces that fit. Each goes on behind its bar or a margin, so that no words of an agent
        come to stand where ours begin."""
        margin = BAR if line.startswith(BAR) else " " * len(BAR)
        begins = BAR if line.startswith(BAR) else ""
        pieces = Text(line.removeprefix(begins)).wrap(self._page, max(1, width - len(BAR)))
        return [Text(margin if place else begins).append_text(piece) for place, piece in enumerate(pieces)]

    def _help(self, wide: bool) -> str:
        answers = "a approve  r reject  d dismiss  " if self._answers else ""
        if self._opened is not None:
            return f"up/down scroll  {answers}escape back  q end"
        if wide:
            return f"tab next pane  up/down move  enter open  {answers}q end"
        return f"tab  up/down  enter  {'a/r/d answer  ' if self._answers else ''}q end"

    @property
    def _answers(self) -> bool:
        if self._opened is not None:
            return self._opened.decision is not None
        return self._focus == DECISIONS and bool(self._panes[DECISIONS].rows)


STEPS = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "page up": -10,
    "page down": 10,
    "home": -10_000,
    "end": 10_000,
}
"""How many rows or lines a key goes."""


def _about(section: str, found: Answer) -> list[Answer]:
    """What the rows of a section are about, in their order."""
    if section == TASKS:
        return [*found.get("in_hand", ()), *found.get("ready", ())]
    parts = {DECISIONS: "decisions", ALERTS: "alerts", AGENTS: "agents", LOCKS: "locks"}
    return list(found.get(parts[section], ()))


def _name_of(section: str, one: Answer) -> tuple[str, ...]:
    """By what something is found again when the board has changed."""
    by = {
        DECISIONS: ("decision_id",),
        ALERTS: ("alert_id",),
        AGENTS: ("agent_id",),
        TASKS: ("lead_id", "task_id"),
        LOCKS: ("file_path", "agent_id"),
    }
    return tuple(str(one.get(name)) for name in by[section])


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """How much of a room each gets: what it wants, or an equal share of what the modest ones leave."""
    given = [0] * len(wanted)
    left = room
    for done, place in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        given[place] = min(wanted[place], left // (len(wanted) - done))
        left -= given[place]
    return given


def facts(result: Answer) -> str:
    """A tool's result as lines of text, with what is long or many behind bars."""
    told = {
        name.replace("_", " ").capitalize(): value
        for name, value in result.items()
        if name != "mark" and value not in (None, "", [], {})
    }
    lines: list[str] = []
    for label, value in told.items():
        if isinstance(value, str):
            value = quoted(value, result.get("mark"))
        if isinstance(value, list) or (isinstance(value, str) and "\n" in value):
            items = [_one(item) for item in value] if isinstance(value, list) else value.splitlines()
            lines += [*([""] if lines and lines[-1] else []), label, *(f"{BAR}{item}" for item in items), ""]
        else:
            lines.append(f"{label:{max(map(len, told))}}  {_one(value)}")
    return "\n".join(lines)


def _one(value: object) -> str:
    """A value on one line."""
    if isinstance(value, dict) and "action_type" in value:  # an entry of the ledger
        return words(f"{value['timestamp'][11:19]}  {value['action_type']}  {value['summary']}").plain
    if isinstance(value, dict):
        return ", ".join(f"{name} {_one(inner)}" for name, inner in value.items() if inner not in (None, ""))
    if isinstance(value, list):
        return ", ".join(map(_one, value))
    return words(value).plain
