"""Commands as a script runs them: in this process, in a folder of their own, without a terminal."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from callboard.cli import app

Run = Callable[..., Result]


def runner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """What runs a command in a folder, and expects the exit code that it is told."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("CALLBOARD_")]:
        monkeypatch.delenv(name)

    def command(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return command
