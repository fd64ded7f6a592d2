"""The demo as a person runs it: a command that plays, says what came of it, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from callboard.cli import app
from callboard.cli.demo import story
from callboard.cli.demo.story import Call, Line, holds

COMMAND = [sys.executable, "-m", "callboard", "demo"]
SECONDS = 90
README = Path(__file__).parents[1] / "README.md"

KEY_ANSWERS = (
    "ann   register_agent role=lead  → leads crew ann",
    "cleo  register_agent role=tech-writer  → joined crew ann",
    "→ granted: exclusive, fence 1\n",
    "→ refused: lock_held. ann holds src/parser.py. Call again with\n",
    "cleo  acquire_file_lock file_path=src/**/*.py\n      → refused: lock_held.",
    "ben   acquire_file_lock file_path=src/parser.py wait_seconds=30  (waits)\n",
    "ann   check_file_lock file_path=src/parser.py  → yours; next in line: ben\n",
    "ann   release_file_lock file_path=src/parser.py  → released, fence 1\n",
    "ben   → granted: exclusive, fence 2\n",
    "→ refused: stale_fence. ben holds src/parser.py now.",
    "cleo  acquire_file_lock file_path=docs/guide.md ttl_seconds=5\n",
    "ms: exclusive, fence 4\n",
    "→ refused: stale_fence. ben holds docs/guide.md now.",
    "cleo  heartbeat  → locks held: 0, unread messages: 1\n",
    "cleo  lost docs/guide.md: its lease ended, fence 3\n",
    "Every answer came out as told.\n",
)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the demo makes its folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def environment(temporary: Path) -> dict[str, str]:
    """A plain environment: whatever asks for colour or another width is not the demo's doing."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "FORCE_COLOR", "NO_COLOR")
    }
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONIOENCODING": "utf-8",
        "TMPDIR": str(temporary),
    }


def processes_on(folder: Path) -> list[str]:
    """The running commands that name something in a folder."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "args"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return [command for command in listed.splitlines() if str(folder) in command]


@contextmanager
def leaving_nothing(temporary: Path) -> Iterator[None]:
    yield
    assert processes_on(temporary) == []
    assert list(temporary.iterdir()) == []


def assert_in_order(parts: Iterable[str], text: str) -> None:
    for part in parts:
        before, found, text = text.partition(part)
        assert found, f"{part!r} is not in {before!r}"


def up_to(tool: str, **changes: Any) -> tuple[Line, ...]:
    """The story up to the first call of a tool, with changes to the outcome that it expects."""
    for number, line in enumerate(story.STORY):
        if isinstance(line, Call) and line.tool == tool:
            assert line.outcome is not None
            return (*story.STORY[:number], replace(line, outcome=replace(line.outcome, **changes)))
    raise AssertionError(f"nobody calls {tool}")


def test_the_story_comes_out_as_the_readme_tells_in_plain_lines_and_leaves_nothing(temporary: Path) -> None:
    with leaving_nothing(temporary):
        played = subprocess.run(
            COMMAND, env=environment(temporary), capture_output=True, encoding="utf-8", timeout=SECONDS
        )
    assert (played.returncode, played.stderr) == (0, ""), played.stdout
    assert "\x1b" not in played.stdout
    for line in played.stdout.splitlines():
        assert len(line) <= 80
        assert line == line.rstrip()
    assert_in_order(KEY_ANSWERS, played.stdout)
    _, _, told = README.read_text(encoding="utf-8").partition("```text\n")
    assert_in_order(told.partition("```")[0].splitlines(keepends=True), played.stdout)


def test_an_interrupted_demo_ends_what_it_started(temporary: Path) -> None:
    with (
        leaving_nothing(temporary),
        subprocess.Popen(
            COMMAND,
            env=environment(temporary),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as demo,
    ):
        try:
            assert demo.stdout is not None
            while "(waits)" not in demo.stdout.readline():
                assert demo.poll() is None
            assert len(processes_on(temporary)) == 3
        finally:
            demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=SECONDS)
    assert (demo.returncode, errors) == (130, "")


def test_a_step_that_comes_out_otherwise_is_told_and_ends_with_one(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(story, "STORY", up_to("acquire_file_lock", facts={"mode": "shared", "fence": 1}))
    with leaving_nothing(temporary):
        played = CliRunner().invoke(app, ["demo"])
    assert played.exit_code == 1
    _, _, told = played.stdout.partition("This did not come out as told.\n")
    call, expected, actual, *_ = told.splitlines()
    assert call == 'call      ann: acquire_file_lock file_path=src/parser.py reason="new grammar"'
    assert expected == 'expected  a result {"mode": "shared", "fence": 1}'
    assert actual.startswith("actual    a result {")
    assert '"mode": "exclusive"' in told
    assert "Every answer" not in played.stdout


def test_a_kept_folder_stays_where_the_demo_says(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(story, "STORY", up_to("register_agent"))
    played = CliRunner().invoke(app, ["demo", "--keep"])
    assert played.exit_code == 0
    [folder] = temporary.iterdir()
    assert str(folder) in played.stdout.replace("\n", "")
    assert (folder / "repository" / ".callboard" / "board.db").exists()
    assert processes_on(temporary) == []


@pytest.mark.parametrize(
    ("expected", "actual", "as_expected"),
    [
        ({"fence": 2}, {"fence": 2, "mode": "exclusive"}, True),
        ({"fence": 2}, {"fence": 3}, False),
        ({"fence": 2}, {}, False),
        ({"locks": [{"fence": 2}]}, {"locks": [{"fence": 2, "mode": "shared"}]}, True),
        ({"locks": [{"fence": 2}]}, {"locks": [{"fence": 2}, {"fence": 3}]}, False),
        ({"locks": [{"fence": 2}]}, {"locks": None}, False),
    ],
)
def test_an_answer_may_say_more_than_is_expected_but_nothing_else(
    expected: Any, actual: Any, as_expected: bool
) -> None:
    assert holds(expected, actual) is as_expected
