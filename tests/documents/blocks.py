"""What a page of documentation holds, read as a test reads it.

Its one idea: a reader's page is the test's script. A block marked `console` is a terminal: a line that
begins with `$ ` is typed, `> ` continues it, and everything else is what the terminal then says. In what it
says, `…` stands for any text within a line, and a line of nothing but `…` for any lines. A last line such
as `[2]` is the exit code; without one it is 0. (The form is that of Mercurial's and cram's tests.)

HTML comments before a block, which readers do not see, say the rest:

    <!-- not run: why -->       the block cannot run here, for this reason
    <!-- typed: one, two -->    the commands run on a terminal, where a person types these lines
    <!-- fresh -->              from here on in a new repository, with a new store
"""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w+-]*)$")
_COMMENT = re.compile(r"^<!-- (?P<word>not run|typed|fresh)(?:: (?P<rest>.+))? -->$")
_EXIT = re.compile(r"^\[(\d+)\]$")


@dataclass(frozen=True)
class Command:
    """What is typed, what the terminal says then, and how it ends."""

    line: int
    typed: str
    says: tuple[str, ...]
    code: int


@dataclass(frozen=True)
class Block:
    """One fenced block, with what the comments before it say."""

    line: int
    language: str
    text: str
    reason: str | None
    answers: tuple[str, ...]
    fresh: bool

    def commands(self) -> list[Command]:
        """The commands of a `console` block, in order."""
        commands: list[Command] = []
        for number, line in enumerate(self.text.splitlines(), self.line + 1):
            if line.startswith("$ "):
                commands.append(Command(number, line[2:], (), 0))
                continue
            if not commands:
                raise ValueError(f"line {number}: a console block begins with a command")
            last = commands[-1]
            if line.startswith("> ") and not last.says:
                commands[-1] = Command(last.line, f"{last.typed}\n{line[2:]}", (), 0)
            elif ended := _EXIT.match(line):
                commands[-1] = Command(last.line, last.typed, last.says, int(ended[1]))
            else:
                commands[-1] = Command(last.line, last.typed, (*last.says, line), 0)
        return commands


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page of Markdown, in order."""
    return read(page.read_text(encoding="utf-8"))


def read(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text, in order."""
    blocks: list[Block] = []
    said: dict[str, str] = {}
    opened: re.Match[str] | None = None
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if opened is not None:
            if line.strip() != "```":
                body.append(line.removeprefix(opened["indent"]))
                continue
            answers = said.get("typed")
            blocks.append(
                Block(
                    line=number - len(body) - 1,
                    language=opened["language"],
                    text="".join(f"{one}\n" for one in body),
                    reason=said.get("not run"),
                    answers=tuple(answers.split(", ")) if answers else (),
                    fresh="fresh" in said,
                )
            )
            opened, body, said = None, [], {}
        elif comment := _COMMENT.match(line):
            said[comment["word"]] = comment["rest"] or ""
        elif fence := _FENCE.match(line):
            opened = fence
        elif line.strip():
            said = {}
    if opened is not None:
        raise ValueError("a block is not closed")
    return blocks


def matches(says: tuple[str, ...], output: str) -> bool:
    """Whether a terminal said what the page tells."""
    pattern = ""
    for line in says:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ ]*\n"
    return re.fullmatch(pattern, output) is not None
