"""Every page says what is so: its commands run on a fresh store and answer what the page tells."""

import difflib
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import warm
from tests.documents.blocks import Block, Command, blocks_of, matches, read
from tests.documents.shell import ROOT, Shell, environment

GENERATED = {ROOT / "docs" / "schema.md"}
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - GENERATED - {ROOT / "CHANGELOG.md"})
# What a reader types is `console`; the rest is read, not typed.
READ_ONLY = {"text", "json", "toml", "ini", "nginx", "caddyfile", "yaml", "markdown", "python"}
MOST_THAT_CANNOT_RUN = 12

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the command `callboard`."""
    folder = tmp_path_factory.mktemp("bin")
    process = warm.start(folder, environment(folder, folder))
    with process:
        yield folder
        process.terminate()


def play(blocks: list[Block], folder: Path, commands: Path) -> list[str]:
    """Type every command of these blocks; what came out otherwise than told, as differences."""
    wrong = []
    runs: list[list[Block]] = [[]]
    for block in blocks:
        if block.fresh:
            runs.append([])
        runs[-1].append(block)
    for number, run in enumerate(filter(None, runs)):
        with Shell(folder / str(number), commands) as shell:
            for block in run:
                for command in block.commands():
                    wrong += _difference(command, *shell.run(command.typed, block.answers))
    return wrong


def _difference(command: Command, said: str, code: int) -> list[str]:
    if code == command.code and matches(command.says, said):
        return []
    got = [*said.splitlines(), *([f"[{code}]"] if code else [])]
    told = [*command.says, *([f"[{command.code}]"] if command.code else [])]
    lines = difflib.unified_diff(told, got, "told", "said", lineterm="")
    return [f"line {command.line}: $ {command.typed}\n" + "\n".join(lines)]


def to_run(blocks: list[Block]) -> list[Block]:
    return [block for block in blocks if block.language == "console" and block.reason is None]


@by_page
def test_a_page_tells_what_its_commands_answer(page: Path, tmp_path: Path, commands: Path) -> None:
    blocks = to_run(blocks_of(page))
    wrong = play(blocks, tmp_path, commands)
    assert not wrong, f"{page.relative_to(ROOT)}\n\n" + "\n\n".join(wrong)


@by_page
def test_a_block_is_typed_or_read_or_says_why_it_is_not_run(page: Path) -> None:
    for block in blocks_of(page):
        where = f"{page.name}, line {block.line}"
        assert block.language in READ_ONLY | {"console"}, f"{where}: {block.language or 'no language'}"
        assert block.reason is None or len(block.reason) > 10, f"{where}: that is no reason"
        assert block.reason is None or block.language == "console", f"{where}: nothing there would run"


def test_few_blocks_cannot_run() -> None:
    left_out = [block for page in PAGES for block in blocks_of(page) if block.reason is not None]
    assert len(left_out) <= MOST_THAT_CANNOT_RUN


@by_page
def test_settings_on_a_page_are_well_formed(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_page
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in _anchors(file), f"{page.name}: {target}"


def test_the_page_on_performance_ends_with_what_was_tried() -> None:
    tried = (ROOT / "benchmarks" / "tried.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").endswith(f"\n{tried}")


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and (found := (page.parent / target).resolve()) not in reached:
                ahead.append(found)
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= reached


# --- The reader of blocks itself ----------------------------------------------------------------------------


def block(text: str, before: str = "") -> Block:
    [found] = read(f"{before}\n```console\n{text}```\n")
    return found


def test_a_page_that_tells_another_answer_is_found_out(tmp_path: Path, commands: Path) -> None:
    [wrong] = play([block("$ callboard --version\ncallboard 0.0.0\n")], tmp_path, commands)
    assert "-callboard 0.0.0\n+callboard " in wrong


def test_a_command_that_fails_unannounced_is_found_out(tmp_path: Path, commands: Path) -> None:
    [wrong] = play([block("$ false\n")], tmp_path, commands)
    assert "+[1]" in wrong
    assert play([block("$ false\n[1]\n$ (exit 3)\n[3]\n")], tmp_path / "told", commands) == []


def test_variables_folders_and_continued_lines_are_a_shells(tmp_path: Path, commands: Path) -> None:
    text = "$ mkdir a && cd a\n$ cat >b <<END\n> one\n> two\n> END\n$ export X=1\n"
    after = "$ cat b; basename $PWD; echo $X\none\n…o\na\n1\n"
    assert play([block(text), block(after)], tmp_path, commands) == []


def test_a_fresh_block_begins_with_a_new_repository(tmp_path: Path, commands: Path) -> None:
    blocks = [block("$ touch a\n"), block("$ ls\n", "<!-- fresh -->")]
    assert play(blocks, tmp_path, commands) == []


def test_a_person_types_where_the_page_says_so(tmp_path: Path, commands: Path) -> None:
    asked = block("$ printf 'Name: '; read name; echo \"$name.\"\nName: ann\nann.\n", "<!-- typed: ann -->")
    assert play([asked], tmp_path, commands) == []


def test_what_a_page_runs_in_the_background_ends_with_it(tmp_path: Path, commands: Path) -> None:
    assert play([block("$ sleep 987654 & echo $! >../process\n")], tmp_path, commands) == []
    process = (tmp_path / "0" / "process").read_text().strip()
    assert subprocess.run(["ps", "-p", process], stdout=subprocess.DEVNULL).returncode != 0


@pytest.mark.parametrize(
    ("told", "said", "same"),
    [
        ("a … c", "a b c\n", True),
        ("a … c", "a b\nc\n", False),
        ("…", "", True),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a\n…\nd", "a\nb\nc\n", False),
        ("a", "a\nb\n", False),
        ("(a.)", "(ab)\n", False),
    ],
)
def test_three_dots_stand_for_any_text_or_any_lines(told: str, said: str, same: bool) -> None:
    assert matches(tuple(told.splitlines()), said) is same


def test_what_is_not_run_says_why() -> None:
    assert block("$ true\n", "<!-- not run: it takes a year -->").reason == "it takes a year"
    assert block("$ true\n", "<!-- not run: it takes a year -->\n\nSomething else.\n").reason is None
