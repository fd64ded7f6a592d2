"""The shell that a page of documentation is played in: one for the whole page, in a repository of its own.

Folders, variables and jobs in the background last from one block to the next, as they do for a reader.
"""

import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
TYPIST = Path(__file__).with_name("typist.py")
MARK = "==callboard=ended=="
SECONDS = 60  # the longest that a command may take; for a lost one, not for a slow machine
PORT = "8765"  # stands for a free port wherever a page names it, so that pages run side by side


def environment(home: Path, commands: Path) -> dict[str, str]:
    """A plain one: nothing of the person who runs the tests reaches the page."""
    return {
        "PATH": os.pathsep.join((str(commands), str(Path(sys.executable).parent), "/usr/bin", "/bin")),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "server"), os.environ.get("PYTHONPATH")))),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "100",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_NAME": "Ann" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "ann@example.org" for who in ("AUTHOR", "COMMITTER")},
    }


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Shell:
    """A POSIX shell in a new repository named `app`."""

    def __init__(self, folder: Path, commands: Path) -> None:
        home, repository = folder / "home", folder / "app"
        home.mkdir(parents=True)
        env = environment(home, commands)
        for order in (
            ["init", "--quiet", "--initial-branch=main", str(repository)],
            ["-C", str(repository), "commit", "--quiet", "--allow-empty", "--message=Begin"],
        ):
            subprocess.run(["git", *order], env=env, check=True)
        self._script = folder / "typed"
        self._port = free_port()
        self._process = subprocess.Popen(
            ["sh"],
            cwd=repository,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> "Shell":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the shell and what still runs behind it, then wait for all of it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"trap : TERM; kill 0; wait; exit\n")
            self._process.stdin.flush()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, typed: str, answers: tuple[str, ...] = ()) -> tuple[str, int]:
        """Type a command; what the terminal says, and the exit code."""
        command = typed.replace(PORT, self._port)
        if answers:
            words = (sys.executable, str(TYPIST), json.dumps(answers), command)
            command = " ".join(shlex.quote(word) for word in words)
        # The mark begins a line of its own; the empty line before it ends output that has no newline.
        self._script.write_text(f"{command}\n", encoding="utf-8")
        assert self._process.stdin is not None
        self._process.stdin.write(
            f". {shlex.quote(str(self._script))} </dev/null\nprintf '\\n{MARK}%s\\n' $?\n".encode()
        )
        self._process.stdin.flush()
        said, code = self._hear(typed)
        return said.replace(self._port, PORT), code

    def _hear(self, typed: str) -> tuple[str, int]:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        until = time.monotonic() + SECONDS
        heard = b""
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            chunk = os.read(pipe, 65536) if ready else b""
            heard += chunk
            said, found, code = heard.decode(errors="replace").partition(f"\n{MARK}")
            if found and code.endswith("\n"):
                return said + "\n" * (said != "" and not said.endswith("\n")), int(code)
            if not chunk:
                why = "ended the shell" if ready else f"took over {SECONDS} seconds"
                raise AssertionError(f"$ {typed}\n{said}\nThis {why}.")
