"""docs/tools.md, read as people read it: a section for each tool, a row for each argument."""

import re
from pathlib import Path
from typing import Any

import pytest

from callboard.catalog import CATALOG
from callboard.tool import ENVELOPE, Tool
from callboard.toolpage import EVERY_ANSWER

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "tools.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROW = re.compile(r"^\| `([\w.]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)

CALLERS = {"anyone": "For anyone;", "any": "For any agent;", "lead": "For the lead", "human": "For a human;"}

by_tool = pytest.mark.parametrize("tool", CATALOG, ids=lambda tool: tool.name)


def plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def test_each_tool_has_one_section_under_its_toolset() -> None:
    assert list(SECTIONS) == [tool.name for tool in CATALOG]
    toolset = ""
    under = {}
    for level, name in re.findall(r"^(##+) (\w+)$", PAGE, re.MULTILINE):
        toolset = name if level == "##" else toolset
        under[name] = toolset
    assert {tool.name: under[tool.name] for tool in CATALOG} == {tool.name: tool.toolset for tool in CATALOG}


@by_tool
def test_a_section_says_what_the_tool_does_and_who_calls_it(tool: Tool[..., Any]) -> None:
    section = plain(SECTIONS[tool.name]).replace("\n", " ")
    assert " ".join(tool.description.split()) in " ".join(section.split())
    assert CALLERS[tool.who] in section
    assert ("it writes" in section) is tool.writes
    assert ("may wait" in section) is (tool.waits_on is not None)


@by_tool
def test_a_section_has_each_argument_with_its_description_range_and_default(tool: Tool[..., Any]) -> None:
    rows = {name: (facts, what) for name, facts, what in ROW.findall(SECTIONS[tool.name])}
    arguments = {name: what for name, what in tool.input_schema["properties"].items() if name not in ENVELOPE}
    assert {name for name in rows if "." not in name} == arguments.keys()
    for name, argument in arguments.items():
        facts, what = rows[name]
        assert plain(what) == argument["description"]
        assert ("required" in facts) is (name in tool.input_schema.get("required", ()))
        assert ("default" in facts) is ("default" in argument)
        for bound in ("minimum", "maximum", "maxItems", "maxProperties", "maxLength"):
            if bound in argument:
                assert f"{argument[bound]:,}" in re.findall(r"\d[\d,]*\b", facts), (name, bound)
        for value in argument.get("enum", ()):
            assert f"`{value}`" in facts


@by_tool
def test_a_section_has_each_field_of_the_answer_and_marks_those_that_may_be_absent(
    tool: Tool[..., Any],
) -> None:
    *_, told = re.findall(r"^Answers (.*)\.$", SECTIONS[tool.name], re.MULTILINE)
    required = tool.output_schema.get("required", ())
    for name, field in tool.output_schema["properties"].items():
        if name in EVERY_ANSWER:
            continue
        assert (f"`{name}`?" not in told) if name in required else (f"`{name}`?" in told)
        assert f"`{name}`" in told
        for inner in field.get("items", field).get("properties", ()):
            [line] = re.findall(rf"^- `{name}`(?:, each)?: (.*)$", SECTIONS[tool.name], re.MULTILINE)
            assert f"`{inner}`" in line
