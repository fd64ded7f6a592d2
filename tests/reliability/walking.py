"""A seeded random walk through every tool, by every kind of agent.

Arguments are made from the published schemas and from what earlier answers held, so that a digest goes with
its decision. Often an agent goes on with what it was just answered, as agents do: few random calls come to
the end of a claim.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from random import Random
from typing import Any

from callboard.catalog import CATALOG
from callboard.errors import Refused
from callboard.identity import Principal
from callboard.tool import Tool
from tests.conftest import Board

TOOLS: Mapping[str, Tool[..., Any]] = {tool.name: tool for tool in CATALOG}
HUMAN_ONLY = frozenset(name for name, tool in TOOLS.items() if tool.who == "human")

CAST: Mapping[str, dict[str, Any]] = {
    "lone": {"role": "developer"},  # signs in before there is a lead: its crew has none
    "boss": {"role": "lead"},
    "sub": {"role": "lead", "lead_id": "boss"},
    "ann": {"role": "developer", "lead_id": "boss"},
    "ben": {"role": "qa-tester", "lead_id": "boss"},
    "rita": {"role": "lead"},
    "omar": {"role": "architect", "lead_id": "rita"},
    "gone": {"role": "developer", "lead_id": "boss"},
}
NAMES = ("human:maria", "maria", "operator", "callboard", "nobody")
"""Whom callers without an identity say they are, beside none."""

WORDS = (
    "tea", "core", "general", "dependency", "decisions.auto_approve", "oversight.level", "autonomous",
    "true", '["general","style","dependency"]', "0", "Upgrade the parser", "developer", "code-reviewer",
    "src/a.py", "src/", "src/**/*.py", "5m", "90s", "2h", "feature", "2026-01-02T00:00:00Z", "#3fb950", "👍",
    "a longer text\nof two lines", "decision:d-0", "room", "approve", "done", "procedural", "pattern", "high",
)  # fmt: skip
WHO = ("agent_id", "token")
AGENT_NAMES = frozenset(
    ["target_agent_id", "to", "with_agent_id", "members", "assigned_agent_id", "reviewer_id", "mentions",
     "successor_id", "lead_id"]
)  # fmt: skip
"""Arguments that name agents."""

Answer = dict[str, Any]


class Walk:
    """One walk, all of whose choices come from one seed."""

    def __init__(self, board: Board, seed: int) -> None:
        self.board = board
        self.chance = Random(seed)
        self.fresh = 0
        self.answers: dict[str, list[tuple[Answer, Answer]]] = defaultdict(list)
        """Objects from earlier answers with who was answered, by each of the fields that they have."""
        self.unfit: dict[tuple[str, str], set[str]] = defaultdict(set)
        """Words that a tool's argument has been found not to take."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.callers: list[dict[str, Any]] = []
        self.asked = ("", "")
        """The tool and the argument that a value is made for."""
        self.told: list[tuple[Answer, Answer]] = []
        """The objects of the last answer, each with who was answered."""

    # Who calls

    async def prepare(self) -> None:
        """People set the scene and leave; agents sign in."""
        maria = await self.board.human("maria")
        for tool, arguments in (
            ("define_role", {"id": "gate-keeper", "name": "Gate keeper"}),
            ("set_setting", {"key": "alerts.decision_minutes", "value": "5"}),
            ("put_knowledge", {"category": "core", "key": "law", "content": "People decide."}),
        ):
            if tool in TOOLS:
                await self.board.call(tool, token=maria, **arguments)
        await self.sign_in()
        for name in (*CAST, *CAST, *CAST, "boss", "ann", *NAMES):
            self.callers.append({"agent_id": name})
        self.callers.append({})
        for agent, scope in (
            ("boss", "lead"),
            ("ann", "worker"),
            ("ben", "observer"),
            ("watcher", "observer"),
        ):
            principal: Principal = await self.board.principal(agent=agent, scope=scope)
            self.callers.append({"token": principal})

    async def sign_in(self) -> None:
        """Whoever the walk has sent away comes back, but for one; a project that was put away is taken up."""
        for name, arguments in CAST.items():
            await self.board.call("register_agent", agent_id=name, revive=True, **arguments)
        if (await self.board.call("get_project", agent_id="boss"))["status"] != "active":
            await self.board.call("update_project", agent_id="boss", status="active")
        await self.board.call("terminate_agent", agent_id="gone", reason="is gone")

    # What they call

    async def step(self) -> None:
        tool = TOOLS[self.chance.choice(sorted(TOOLS))]
        if self.chance.random() < 0.1:
            tool = TOOLS[self.chance.choice(sorted(HUMAN_ONLY))]
        elif self.chance.random() < 0.05:
            tool = TOOLS["record_decision"]
        goes_on = self.chance.random() < 0.4 and self.next_step()
        if goes_on:
            tool, base, caller = goes_on
            given = self.arguments(tool, base, caller)
        else:
            given = self.arguments(tool)
        arguments = {name: value for name, value in given.items() if name != "token"}
        try:
            answer = await self.board.opened.call(tool.name, arguments, token=given.get("token"))
        except Refused as refused:
            self.outcomes[tool.name, refused.code] += 1
            assert refused.code != "internal_error", f"{tool.name}({arguments}): {refused.as_data()}"
            if refused.code == "invalid_arguments":
                self.learn(tool.name, arguments, refused.details)
        else:
            self.outcomes[tool.name, "done"] += 1
            self.told.clear()
            self.keep(answer, {name: given[name] for name in WHO if name in given})

    def next_step(self) -> tuple[Tool[..., Any], Answer, Answer] | None:
        """A tool that can be called with an object of the last answer alone, by whoever was answered."""
        if not self.told:
            return None
        base, caller = self.chance.choice(self.told)
        fitting = []
        for name in sorted(TOOLS):
            properties = TOOLS[name].input_schema["properties"]
            needed = [each for each in TOOLS[name].input_schema.get("required", ()) if "_id" in each]
            own = [
                each for each in properties if each != "agent_id" and belonging(each, properties[each], base)
            ]
            if own and all(each in own for each in needed):
                fitting.append(TOOLS[name])
        return (self.chance.choice(fitting), base, caller) if fitting else None

    def learn(self, tool: str, arguments: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Remember which words were refused, so that few calls are spent on them."""
        for fault in details["fields"]:
            name = str(fault["field"]).partition(".")[0]
            value = arguments.get(name)
            for word in value if isinstance(value, list) else [value]:
                if isinstance(word, str):
                    self.unfit[tool, name].add(word)

    def keep(self, found: Any, caller: Answer) -> None:
        """Keep the objects of an answer, to make arguments of."""
        if isinstance(found, dict):
            self.told.append((found, caller))
            for name in found:
                kept = self.answers[name]
                kept.append((found, caller))
                if len(kept) > 200:
                    del kept[self.chance.randrange(200)]
            for value in found.values():
                self.keep(value, caller)
        elif isinstance(found, list):
            for value in found[:5]:
                self.keep(value, caller)

    def arguments(
        self, tool: Tool[..., Any], base: Answer | None = None, caller: Answer | None = None
    ) -> dict[str, Any]:
        """Arguments that fit the tool's schema, some from one earlier answer, as they belong together."""
        schema = tool.input_schema
        properties: dict[str, Any] = dict(schema["properties"])
        required = set(schema.get("required", ()))
        usual = required
        if base is not None:
            usual = required | {name for name in properties if belonging(name, properties[name], base)}
        caller = caller or self.caller(tool)
        known = [name for name in sorted(required) if self.answers[name]]
        if base is None and known and self.chance.random() < 0.9:
            base, answered = self.chance.choice(self.answers[self.chance.choice(known)])
            if self.chance.random() < 0.5:
                caller = answered
        base = base or {}
        given: dict[str, Any] = {}
        for name, described in properties.items():
            if name in ("agent_id", "request_key") or not (name in usual or self.chance.random() < 0.3):
                continue
            own = belonging(name, described, base) if name in usual else []
            self.asked = (tool.name, name)
            given[name] = own[0] if own else self.value(name, described)
        if "wait_seconds" in properties:
            given["wait_seconds"] = 0  # the clock stands still during a call
        if "queue_seconds" in given:
            given["queue_seconds"] = 0
        return given | caller

    def caller(self, tool: Tool[..., Any]) -> dict[str, Any]:
        if tool.name == "register_agent":  # few agents that meet often, not many that never do
            return {"agent_id": self.chance.choice(list(CAST))}
        return self.chance.choice(self.callers)

    def value(self, name: str, described: Mapping[str, Any]) -> Any:
        if "enum" in described:
            return self.chance.choice(described["enum"])
        match described["type"]:
            case "boolean":
                return self.chance.random() < 0.5
            case "integer":
                kept = [answer[name] for answer, _ in self.answers[name] if type(answer.get(name)) is int]
                if kept and self.chance.random() < 0.7:
                    return self.chance.choice(kept)
                least = described.get("minimum", 0)
                return self.chance.randint(
                    max(least, -5), min(described.get("maximum", 50), max(least, 0) + 50)
                )
            case "number":
                return self.chance.choice([0, 0.5, 3])
            case "array":
                return [self.value(name, described["items"]) for _ in range(self.chance.randint(1, 3))]
            case "object":
                inside = described.get("properties", {})
                return {
                    key: self.value(key, item)
                    for key, item in inside.items()
                    if key in described.get("required", ()) or self.chance.random() < 0.3
                }
        return self.word(name)

    def word(self, name: str) -> str:
        if name in AGENT_NAMES:
            return self.chance.choice(list(CAST))
        if name == "id" and self.chance.random() < 0.8:
            self.fresh += 1
            return f"t{self.fresh}"
        singular = {"depends_on": "task_id", "supersedes": "decision_id", "since_id": "decision_id"}.get(
            name, name.removesuffix("s")
        )
        if name == "depends_on" and self.answers["decision_id"] and self.chance.random() < 0.3:
            return f"decision:{self.chance.choice(self.answers['decision_id'])[0]['decision_id']}"
        kept = [answer for answer, _ in self.answers[singular] if isinstance(answer.get(singular), str)]
        if kept and self.chance.random() < 0.8:
            return str(self.chance.choice(kept)[singular])
        words = [word for word in WORDS if word not in self.unfit[self.asked]]
        return self.chance.choice(words or WORDS)


KINDS = {"string": str, "integer": int, "boolean": bool, "number": float, "array": list, "object": dict}


def belonging(name: str, described: Mapping[str, Any], base: Answer) -> list[Any]:
    """What an earlier answer has for an argument, if it fits; one of several where a list is asked for."""
    kind = described.get("type", "string")
    one = base.get(name.removesuffix("s"))
    if name not in base and kind == "array" and type(one) is KINDS.get(described["items"].get("type")):
        return [[one]]
    fits = type(base.get(name)) is KINDS[kind] and base[name] in described.get("enum", [base[name]])
    return [base[name]] if fits else []
